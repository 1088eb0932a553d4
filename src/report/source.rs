//! The databases that a run is read from: its own, or those of its shards.

use std::path::{Path, PathBuf};

use crate::record::{Block, NetworkTimes, Outcome, Phase, RequestRecord, Span};
use crate::store::reader::{Detail, TimeRange};
use crate::store::{Reader, StoreError};
use crate::time::Tick;

/// A database with requests of a run.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub path: PathBuf,
    /// Added to its times: difference of the run's clock and that of the database, nanoseconds.
    pub shift_ns: i64,
    /// The number of its first worker.
    pub first_worker: u32,
    /// It has the witness and the server's metrics.
    pub observes: bool,
    pub window: Window,
}

/// The time within which requests count as measured, by the run's clock. A request that was due before it is one of the
/// warm-up, one that ended after it was in flight at its end, and one that was due after it was not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub from: Option<Tick>,
    pub until: Option<Tick>,
}

impl Window {
    pub(crate) fn is_open(self) -> bool {
        self == Window::default()
    }
}

impl Source {
    /// The database of a whole run.
    pub(crate) fn whole(path: &Path) -> Source {
        Source { path: path.to_path_buf(), shift_ns: 0, first_worker: 0, observes: true, window: Window::default() }
    }

    /// Passes the requests of a phase of the database to `take`, by the run's clock, with the phase that they count to.
    pub(crate) fn each_block(
        &self,
        reader: &Reader,
        phase: Phase,
        detail: Detail,
        mut take: impl FnMut(Phase, &Block),
    ) -> Result<(), StoreError> {
        reader.each_block(phase, detail, |block| {
            if self.shift_ns == 0 && self.first_worker == 0 && self.window.is_open() {
                return take(phase, block);
            }
            let mut block = shifted(block, self.shift_ns, self.first_worker);
            if let Some(until) = self.window.until {
                cut(&mut block, until);
            }
            let from = self.window.from.filter(|_| phase == Phase::Measured);
            let (early, counted) = match from {
                Some(from) => std::mem::take(&mut block.records).into_iter().partition(|record| record.due < from),
                None => (Vec::new(), std::mem::take(&mut block.records)),
            };
            for (phase, records) in [(Phase::Warmup, early), (phase, counted)] {
                block.records = records;
                if !block.records.is_empty() {
                    take(phase, &block);
                }
            }
        })
    }

    /// The succeeded requests of a phase that count to it, by the clock of the database; `None` if all do.
    pub(crate) fn range(&self, phase: Phase) -> Option<TimeRange> {
        let Window { from, until } = self.window;
        if self.window.is_open() {
            return None;
        }
        let back = |tick: Tick| shift(tick, self.shift_ns.wrapping_neg());
        Some(TimeRange { due_from: from.filter(|_| phase == Phase::Measured).map(back), end_until: until.map(back) })
    }
}

/// A time of a database as one of the run.
pub(crate) fn shift(tick: Tick, ns: i64) -> Tick {
    Tick(tick.0.wrapping_add_signed(ns))
}

/// Ends the block at this time: what happened later did not happen.
fn cut(block: &mut Block, until: Tick) {
    block.records.retain(|record| record.due <= until);
    for record in block.records.iter_mut().filter(|record| record.end > until) {
        let arrivals = record.arrivals.slice(&block.arrivals);
        let count = arrivals.partition_point(|arrival| *arrival <= until) as u32;
        record.arrivals.len = count;
        record.choices.len = record.choices.len.min(count);
        record.early = Span::default();
        for time in
            [&mut record.last_token, &mut record.first_token, &mut record.first_answer_token, &mut record.first_byte]
        {
            *time = time.filter(|time| *time <= until);
        }
        (record.end, record.outcome) = (until, Outcome::Unfinished);
        (record.output_tokens, record.end_early_ns) = (None, None);
    }
}

fn shifted(block: &Block, ns: i64, first_worker: u32) -> Block {
    let shift = |tick: Tick| shift(tick, ns);
    let record = |record: &RequestRecord| RequestRecord {
        worker: record.worker.saturating_add(first_worker),
        due: shift(record.due),
        picked: record.picked.map(shift),
        connected: record.connected.map(shift),
        write_start: record.write_start.map(shift),
        write_end: record.write_end.map(shift),
        first_byte: record.first_byte.map(shift),
        first_token: record.first_token.map(shift),
        first_answer_token: record.first_answer_token.map(shift),
        last_token: record.last_token.map(shift),
        end: shift(record.end),
        previous_end: record.previous_end.map(shift),
        network: NetworkTimes {
            sent: record.network.sent.map(shift),
            acknowledged: record.network.acknowledged.map(shift),
            ..record.network
        },
        ..record.clone()
    };
    Block {
        worker: block.worker.saturating_add(first_worker),
        records: block.records.iter().map(record).collect(),
        arrivals: block.arrivals.iter().map(|&tick| shift(tick)).collect(),
        bytes: block.bytes.clone(),
        memory: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_many_shards_are_kept_apart() {
        let next = 80 * 1024;
        let mut block = Block::new(5);
        block.records.push(RequestRecord { worker: 5, ..RequestRecord::default() });
        let moved = shifted(&block, 0, next);
        assert_eq!((moved.worker, moved.records[0].worker), (next + 5, next + 5));
    }

    #[test]
    fn requests_after_the_window_are_in_flight_at_its_end_or_were_not_sent() {
        let mut block = Block::new(0);
        for (due, end) in [(1, 5), (2, 20), (11, 15)] {
            let arrivals = block.keep_arrivals(&[Tick(due + 1), Tick(end)]);
            block.records.push(RequestRecord {
                due: Tick(due),
                end: Tick(end),
                outcome: Outcome::Ok,
                output_tokens: Some(2),
                last_token: Some(Tick(end)),
                arrivals,
                ..RequestRecord::default()
            });
        }
        cut(&mut block, Tick(10));
        let seen: Vec<_> = block.records.iter().map(|r| (r.outcome, r.end.0, r.arrivals.len, r.last_token)).collect();
        assert_eq!(seen, [(Outcome::Ok, 5, 2, Some(Tick(5))), (Outcome::Unfinished, 10, 1, None)]);
    }
}
