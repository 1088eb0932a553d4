//! The collector: a thread that receives full blocks from the workers, writes them to the database and updates the live
//! statistics.
//!
//! Workers do not wait for it unless its channel is full, and it returns blocks when it has written them. When the
//! database can no longer be written, the run goes on and requests are still counted; the failure is reported once, and
//! [`CollectorEnd::rows_lost`] says how many requests are missing.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::error::StoreError;
use super::live::{Counts, Live, Meter, Snapshot};
use super::writer::{RunStart, Writer};
use crate::finding::Finding;
use crate::record::facts::RunEnd;
use crate::record::{Block, CollectorMessage, Phase, RequestRecord};
use crate::workload::Workload;

/// The longest time between two commits, and the interval at which the live quantiles are updated.
const COMMIT_INTERVAL: Duration = Duration::from_millis(250);

/// The most requests in one transaction: enough to amortize its cost, few enough that little is lost when the process
/// is killed.
const ROWS_PER_COMMIT: u64 = 4096;

/// The settings of a collector.
pub struct CollectorSettings {
    /// The path of the new database, which must not exist.
    pub database: PathBuf,
    pub start: RunStart,
    /// Send a [`Notice::Progress`] after this many measured requests; 0: never.
    pub log_every: u64,
    /// Called with each notice on the collector's thread; it should return quickly.
    pub notify: Box<dyn FnMut(Notice<'_>) + Send>,
}

/// A notice during the run.
#[derive(Debug)]
pub enum Notice<'a> {
    /// Another `log_every` requests have ended.
    Progress(&'a Snapshot),
    /// More requests have ended.
    Counted(Counts),
    /// The database can no longer be written; sent once.
    StoreFailed(&'a StoreError),
}

/// The result of a collector.
#[derive(Debug)]
pub struct CollectorEnd {
    /// Requests that could not be written.
    pub rows_lost: u64,
    /// Why they could not be written, or why the file could not be closed.
    pub error: Option<StoreError>,
}

/// A running collector.
pub struct Collector {
    live: Arc<Live>,
    thread: JoinHandle<CollectorState>,
}

impl Collector {
    /// Creates the database and starts the thread, which ends when every sender of `messages` is dropped.
    pub fn start(
        settings: CollectorSettings,
        messages: Receiver<CollectorMessage>,
        empties: Sender<Block>,
        workload: Arc<Workload>,
    ) -> Result<Collector, StoreError> {
        let writer = Writer::create(&settings.database, &settings.start)?;
        let live = Arc::new(Live::default());
        let state = CollectorState {
            writer,
            live: live.clone(),
            meter: Meter::default(),
            workload,
            log_every: settings.log_every,
            notify: settings.notify,
            error: None,
            rows_open: 0,
            rows_lost: 0,
        };
        let thread = std::thread::Builder::new()
            .name("collector".to_string())
            .spawn(move || state.run(&messages, &empties))
            .map_err(|e| StoreError::Create {
                path: settings.database,
                reason: format!("no thread for the collector: {e}"),
            })?;
        Ok(Collector { live, thread })
    }

    /// The live statistics; clone the `Arc` for a progress bar.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Waits until all messages have been stored, for which every sender must have been dropped, then writes the end of
    /// the run and closes the file. Sets `end.peak_backlog` and `end.rows_lost`.
    pub fn finish(self, end: RunEnd, findings: &[Finding]) -> CollectorEnd {
        let state = match self.thread.join() {
            Ok(state) => state,
            // A panic of the thread is a bug and must not be hidden.
            Err(panic) => std::panic::resume_unwind(panic),
        };
        state.close(end, findings)
    }
}

/// The state of the collector's thread.
struct CollectorState {
    writer: Writer,
    live: Arc<Live>,
    meter: Meter,
    workload: Arc<Workload>,
    log_every: u64,
    notify: Box<dyn FnMut(Notice<'_>) + Send>,
    error: Option<StoreError>,
    /// Requests in the open transaction; 0 means that none is open.
    rows_open: u64,
    rows_lost: u64,
}

impl CollectorState {
    fn run(mut self, messages: &Receiver<CollectorMessage>, empties: &Sender<Block>) -> CollectorState {
        let ticks = crossbeam_channel::tick(COMMIT_INTERVAL);
        let seconds = crossbeam_channel::tick(Duration::from_secs(1));
        loop {
            crossbeam_channel::select! {
                recv(messages) -> message => match message {
                    Ok(message) => {
                        let waiting = messages.len() as u64;
                        self.live.backlog.store(waiting, Relaxed);
                        self.live.peak_backlog.fetch_max(waiting, Relaxed);
                        self.handle(message, empties);
                    }
                    Err(_) => break,
                },
                recv(ticks) -> _ => {
                    self.commit();
                    self.meter.refresh(&self.live);
                }
                recv(seconds) -> _ => self.meter.end_second(&self.live),
            }
        }
        self.commit();
        self.meter.refresh(&self.live);
        self
    }

    fn handle(&mut self, message: CollectorMessage, empties: &Sender<Block>) {
        match message {
            CollectorMessage::Block(mut block) => {
                self.count(&block);
                (self.notify)(Notice::Counted(self.live.counts()));
                self.store_block(&block);
                block.clear();
                // The block is freed if it is one of the witness's small ones, if enough are waiting for reuse, or if the
                // workers have ended.
                if block.records.capacity() >= Block::CAPACITY {
                    let _ = empties.try_send(block);
                }
            }
            CollectorMessage::Worker(report) => self.write(0, |writer| writer.add_worker(&report)),
            CollectorMessage::Server(samples) => self.write(0, |writer| writer.add_server_samples(&samples)),
            CollectorMessage::ShardStart(start) => self.write(0, |writer| writer.put_shard_start(start)),
            CollectorMessage::Clock(exchange) => self.write(0, |writer| writer.add_clock_exchange(&exchange)),
        }
    }

    fn count(&mut self, block: &Block) {
        let mut is_refreshed = false;
        for record in &block.records {
            self.meter.count(record, block, &self.live);
            let done = self.live.done.load(Relaxed);
            let logs = record.phase == Phase::Measured && self.log_every > 0 && done.is_multiple_of(self.log_every);
            if !logs {
                continue;
            }
            if !is_refreshed {
                // Once per block: quantiles cost far more than counts.
                self.meter.refresh(&self.live);
                is_refreshed = true;
            }
            (self.notify)(Notice::Progress(&self.live.snapshot()));
        }
    }

    fn store_block(&mut self, block: &Block) {
        let rows = block.records.len() as u64;
        let workload = self.workload.clone();
        self.write(rows, |writer| writer.add_block(block, |record| body_of(&workload, block, record)));
        if self.rows_open >= ROWS_PER_COMMIT {
            self.commit();
        }
    }

    /// Runs `write`, which adds `rows` requests, in the open transaction or a new one.
    fn write(&mut self, rows: u64, write: impl FnOnce(&mut Writer) -> Result<(), StoreError>) {
        if self.error.is_some() {
            self.rows_lost += rows;
            return;
        }
        let begun = if self.rows_open == 0 { self.writer.begin() } else { Ok(()) };
        let result = begun.and_then(|()| write(&mut self.writer));
        self.rows_open += rows;
        match result {
            Ok(()) if rows == 0 && self.rows_open == 0 => self.commit_open(),
            Ok(()) => {}
            Err(error) => self.give_up(error),
        }
    }

    fn commit(&mut self) {
        if self.rows_open > 0 && self.error.is_none() {
            self.commit_open();
        }
    }

    fn commit_open(&mut self) {
        match self.writer.commit() {
            Ok(()) => {
                self.rows_open = 0;
            }
            Err(error) => self.give_up(error),
        }
    }

    /// Rolls back and writes no further requests: a database with gaps would be worse than one that ends early.
    fn give_up(&mut self, error: StoreError) {
        self.writer.roll_back();
        self.rows_lost += self.rows_open;
        self.rows_open = 0;
        self.live.store_failed.store(true, Relaxed);
        (self.notify)(Notice::StoreFailed(&error));
        self.error = Some(error);
    }

    fn close(mut self, end: RunEnd, findings: &[Finding]) -> CollectorEnd {
        let peak_backlog = self.live.peak_backlog.load(Relaxed);
        let end = RunEnd { peak_backlog, rows_lost: self.rows_lost, ..end };
        // Also after a failure: a disk that was full may have space for these few rows.
        let closed = self.writer.add_findings(findings).and_then(|()| self.writer.close(&end));
        CollectorEnd { rows_lost: self.rows_lost, error: self.error.or(closed.err()) }
    }
}

/// The JSON body of a request: the one in its record, or else that of the workload.
fn body_of<'a>(workload: &'a Workload, block: &'a Block, record: &RequestRecord) -> Cow<'a, [u8]> {
    match record.body.len {
        0 => workload.body(record.phase, record.index),
        _ => Cow::Borrowed(record.body.slice(&block.bytes)),
    }
}
