//! One pass over the stored requests: what the analyses need of each. The gaps between output events, of which there are
//! as many as tokens, are not kept: [`super::gap_sets`] reads them again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::failure_texts::FailureTexts;
use super::metric;
pub use super::sample::Sample;
pub use super::sample_rows::{Samples, Selection, in_due_order};
use crate::finding::Oddity;
use crate::record::arrivals::{Gap, Gaps};
use crate::record::delivery::{TokenGaps, Tpot};
use crate::record::{Block, Failure, Outcome, RequestRecord, ServerTimes};

/// The samples of a run and their totals. Requests of every outcome are counted; gaps are those of succeeded ones.
#[derive(Debug, Default)]
pub struct RunSamples {
    pub requests: Samples,
    /// Those of the last request.
    pub(super) last_gaps: Gaps,
    pub ok: u64,
    pub unfinished: u64,
    pub failures: BTreeMap<Failure, FailureTexts>,
    pub reads: u64,
    pub coalesced_reads: u64,
    pub stamped_reads: u64,
    pub output_events: u64,
    pub coalesced_events: u64,
    pub retried: u64,
    pub tls_handshakes_ns: Vec<f64>,
    /// Succeeded requests whose response contained the server's own times.
    pub timings: Vec<RequestTimings>,
    pub unknown_tokens: u64,
    /// Output tokens and output events of succeeded streamed responses with both, and the number of choices of
    /// these responses.
    pub event_tokens: u64,
    pub token_events: u64,
    pub token_streams: u64,
    /// Succeeded requests by oddity of their response, in the order of [`Oddity::ALL`].
    pub oddities: [u64; Oddity::ALL.len()],
    /// Input tokens of succeeded requests that the server read from its cache.
    pub cached_tokens: u64,
    /// Gaps between the tokens of succeeded requests, those to tokens without text included.
    pub token_gaps: TokenGaps,
}

impl RunSamples {
    /// Adds all records of a block.
    pub fn add(&mut self, block: &Block) {
        for record in &block.records {
            let place = self.ok;
            self.count(record, block);
            let (arrivals, choices) = (record.arrivals.slice(&block.arrivals), record.choices.slice(&block.bytes));
            let mut last_gaps = std::mem::take(&mut self.last_gaps);
            last_gaps.read(arrivals, choices, record.early.slice(&block.bytes));
            let early = &last_gaps.early_ns;
            let tpot = record.tpot(block);
            let exact_ns = tpot.filter(|tpot| tpot.low_ns >= tpot.high_ns).map(|tpot| tpot.ns);
            let is_ok = record.outcome == Outcome::Ok;
            if is_ok {
                self.timings.extend(RequestTimings::from_record(record, exact_ns));
                let gaps = tpot.map_or_else(TokenGaps::default, |tpot| tpot.gaps);
                self.token_gaps.count += gaps.count;
                self.token_gaps.ns += gaps.ns;
            }
            let sample = sample(record, if is_ok { &last_gaps.gaps } else { &[] });
            self.requests.push(Sample {
                tpot: tpot.map(|tpot| tpot.ns),
                tpot_range: tpot.map(|tpot| (tpot.low_ns, tpot.high_ns)),
                tpot_intervals: tpot.map_or((0.0, 0.0), |tpot| (tpot.intervals, tpot.high_intervals)),
                early_first_ns: early.first().copied().unwrap_or(0),
                early_span_ns: early_span_ns(early, choices, record.last_token_early_ns, tpot),
                early_end_ns: record.end_early_ns.unwrap_or(0),
                bounded: record.end_early_ns.is_some(),
                place,
                ..sample
            });
            self.last_gaps = last_gaps;
        }
    }

    fn count(&mut self, record: &RequestRecord, block: &Block) {
        match record.outcome {
            Outcome::Ok => {
                self.ok += 1;
                self.unknown_tokens += u64::from(record.output_tokens.is_none() || record.input_tokens.is_none());
                if let (true, Some(tokens)) = (record.streamed && record.arrivals.len > 0, record.output_tokens) {
                    self.event_tokens += u64::from(tokens);
                    self.token_events += u64::from(record.arrivals.len);
                    let last_choice = record.choices.slice(&block.bytes).iter().max();
                    self.token_streams += 1 + u64::from(last_choice.copied().unwrap_or(0));
                }
                for (count, oddity) in self.oddities.iter_mut().zip(Oddity::ALL) {
                    *count += u64::from(record.oddities.has(oddity));
                }
                self.cached_tokens += u64::from(record.cached_tokens.unwrap_or(0));
            }
            Outcome::Unfinished => self.unfinished += 1,
            Outcome::Failed(failure) => {
                let words = String::from_utf8_lossy(record.error.slice(&block.bytes));
                let text = match failure {
                    Failure::Status => Cow::Owned(format!("{}: {words}", record.status)),
                    _ => words,
                };
                self.failures.entry(failure).or_default().add(&text);
            }
        }
        self.reads += u64::from(record.reads);
        self.coalesced_reads += u64::from(record.coalesced_reads);
        self.stamped_reads += u64::from(record.stamped_reads);
        self.output_events += u64::from(record.arrivals.len);
        self.coalesced_events += u64::from(record.coalesced);
        self.retried += u64::from(record.retried);
        self.tls_handshakes_ns.extend(record.tls_handshake_ns.map(|ns| ns as f64));
    }

    /// Sorts the samples by due time: confidence intervals need samples in time order.
    pub fn sort(&mut self) {
        self.requests.sort();
        self.timings.sort_unstable_by_key(|request| request.due);
    }

    /// Number of failed requests.
    pub fn failed(&self) -> u64 {
        self.failures.values().map(|failure| failure.count).sum()
    }
}

/// One request's times as measured by the client and by the server, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestTimings {
    /// Due time, the order of the requests.
    pub due: u64,
    /// (client: from the first byte sent to the first token; server: queue and prefill).
    pub ttft: Option<(f64, f64)>,
    /// Time per output token: (client, server).
    pub per_token: Option<(f64, f64)>,
    /// The server's TTFT includes the time in its queue.
    pub with_queue: bool,
}

impl RequestTimings {
    /// `None` unless the response was streamed and contained times of the server. `tpot_ns` is the client's time per token,
    /// unless it is a range.
    pub fn from_record(record: &RequestRecord, tpot_ns: Option<f64>) -> Option<RequestTimings> {
        let times: ServerTimes = record.server_times.filter(|_| record.streamed)?;
        let there = times.prefill_ns.map(|prefill| prefill.saturating_add(times.queue_ns.unwrap_or(0)) as f64);
        let here = metric::service_ttft_ns(record).map(|ns| ns as f64);
        let gaps = times.tokens.or(record.output_tokens).and_then(|tokens| tokens.checked_sub(1)).filter(|&n| n > 0);
        let per_token = times.decode_ns.zip(gaps).map(|(ns, gaps)| ns as f64 / f64::from(gaps));
        let timings = RequestTimings {
            due: record.due.0,
            ttft: here.zip(there),
            per_token: tpot_ns.filter(|_| record.choices.len == 0).zip(per_token),
            with_queue: times.queue_ns.is_some(),
        };
        (timings.ttft.is_some() || timings.per_token.is_some()).then_some(timings)
    }
}

/// See [`Sample::early_span_ns`].
fn early_span_ns(early: &[u32], choices: &[u8], last_token_ns: Option<u32>, tpot: Option<Tpot>) -> (u32, u32) {
    let silent_ns = tpot.filter(|tpot| tpot.ends_silent).map(|_| last_token_ns.unwrap_or(0));
    if choices.is_empty() {
        let first_ns = early.first().copied().unwrap_or(0);
        return (first_ns, silent_ns.or(early.last().copied()).unwrap_or(0));
    }
    let mut spans: [Option<(u32, u32)>; 256] = [None; 256];
    for (&choice, &ns) in choices.iter().zip(early) {
        let span = &mut spans[usize::from(choice)];
        *span = Some((span.map_or(ns, |(first_ns, _)| first_ns), ns));
    }
    let spans = spans.iter().flatten();
    spans.fold((0, silent_ns.unwrap_or(0)), |(first, last), span| (first.max(span.0), last.max(span.1)))
}

fn sample(record: &RequestRecord, gaps: &[Gap]) -> Sample {
    Sample {
        index: record.index,
        conversation: record.conversation,
        turn: record.turn,
        due: record.due.0,
        write_start: record.write_start.map(|tick| tick.0),
        end: record.end.0,
        ok: record.outcome == Outcome::Ok,
        failed: matches!(record.outcome, Outcome::Failed(_)),
        streamed: record.streamed,
        ttft: metric::ttft_ns(record),
        service_ttft: metric::service_ttft_ns(record),
        first_answer: metric::first_answer_ns(record),
        latency: metric::latency_ns(record),
        service_latency: metric::service_latency_ns(record),
        tpot: None,
        tpot_range: None,
        tpot_intervals: (0.0, 0.0),
        package_latency: metric::package_latency_ns(record),
        input_tokens: record.input_tokens,
        output_tokens: record.output_tokens,
        cached_tokens: record.cached_tokens,
        output_rate: metric::output_rate_per_s(record),
        total_rate: metric::total_rate_per_s(record),
        finish: record.finish,
        events: record.events,
        send_lag: metric::send_lag_ns(record),
        connect: metric::connect_ns(record),
        turnaround: metric::turnaround_ns(record),
        pick_lag: record.picked.map(|picked| picked.ns_since(record.due).max(0) as u64),
        body_wait: record.body_wait_ns,
        gaps_ns: gaps.iter().map(|gap| gap.ns).sum(),
        gaps: gaps.len() as u32,
        write_ns: record.write_start.zip(record.write_end).map_or(0, |(from, to)| to.ns_since(from).max(0) as u64),
        early_first_ns: 0,
        early_span_ns: (0, 0),
        early_end_ns: 0,
        bounded: false,
        network: record.network,
        place: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::NetworkTimes;
    use crate::time::Tick;

    fn record(times: Option<ServerTimes>) -> RequestRecord {
        RequestRecord {
            write_start: Some(Tick(1_000_000)),
            first_token: Some(Tick(11_000_000)),
            last_token: Some(Tick(31_000_000)),
            end: Tick(31_000_000),
            output_tokens: Some(5),
            streamed: true,
            outcome: Outcome::Ok,
            server_times: times,
            ..RequestRecord::default()
        }
    }

    #[test]
    fn tokens_of_several_choices_have_the_largest_error_of_each_end() {
        assert_eq!(early_span_ns(&[5, 1, 7], &[], Some(3), None), (5, 7));
        // The choices are 0, 1, 0, 1.
        assert_eq!(early_span_ns(&[5, 6, 7, 1], &[0, 1, 0, 1], Some(3), None), (6, 7));
        let silent = Tpot {
            ns: 1.0,
            low_ns: 1.0,
            high_ns: 1.0,
            intervals: 1.0,
            high_intervals: 1.0,
            ends_silent: true,
            gaps: TokenGaps::default(),
        };
        assert_eq!(early_span_ns(&[5, 1, 7], &[], Some(3), Some(silent)), (5, 3));
        assert_eq!(early_span_ns(&[5, 6, 7, 1], &[0, 1, 0, 1], Some(9), Some(silent)), (6, 9));
    }

    /// What requests usually are: streamed or not, failed, never sent, with the network's part, in a conversation, late.
    #[test]
    fn usual_requests_take_little_memory() {
        let ms = |ms: u64| Tick(10_000_000_000_000 + ms * 1_000_000);
        let mut block = Block::new(0);
        let arrivals = block.keep_arrivals(&[ms(211), ms(231), ms(251), ms(271)]);
        let streamed = RequestRecord {
            index: 70_000,
            due: ms(1),
            picked: Some(ms(101)),
            body_wait_ns: Some(0),
            connected: Some(ms(101)),
            write_start: Some(ms(102)),
            write_end: Some(ms(103)),
            first_token: Some(ms(211)),
            first_answer_token: Some(ms(231)),
            last_token: Some(ms(271)),
            end: ms(272),
            previous_end: Some(ms(100)),
            outcome: Outcome::Ok,
            streamed: true,
            input_tokens: Some(100),
            output_tokens: Some(4),
            events: 6,
            end_early_ns: Some(7_000),
            network: NetworkTimes {
                sent: Some(ms(103)),
                acknowledged: Some(ms(143)),
                rtt_ns: Some(300_000),
                min_rtt_ns: Some(90_000),
                retransmitted: Some(0),
                out_of_order: Some(1),
            },
            arrivals,
            ..RequestRecord::default()
        };
        let failed = RequestRecord { outcome: Outcome::Failed(Failure::Status), streamed: false, ..streamed.clone() };
        let unsent = RequestRecord {
            write_start: None,
            network: NetworkTimes::default(),
            outcome: Outcome::Failed(Failure::Connect),
            ..failed.clone()
        };
        block.records = vec![
            RequestRecord { output_tokens: Some(9), ..streamed.clone() },
            RequestRecord { conversation: Some(8), turn: 3, ..streamed.clone() },
            RequestRecord { streamed: false, first_token: None, ..streamed.clone() },
            // Late by an hour.
            RequestRecord { due: Tick(ms(0).0 - 3_600_000_000_000), ..streamed.clone() },
            streamed,
            failed,
            unsent,
        ];
        let mut samples = RunSamples::default();
        samples.add(&block);
        assert_eq!((samples.requests.len(), samples.requests.kept_whole()), (7, 0));
        let first = samples.requests.first().unwrap();
        assert!(first.tpot_range.is_some_and(|(low, high)| low < high), "{first:?}");
    }

    #[test]
    fn both_sides_cover_the_same_time() {
        let vllm = ServerTimes {
            queue_ns: Some(2_000_000),
            prefill_ns: Some(7_000_000),
            decode_ns: Some(19_000_000),
            tokens: None,
        };
        let timings = RequestTimings::from_record(&record(Some(vllm)), Some(5e6)).unwrap();
        assert_eq!((timings.ttft, timings.per_token), (Some((10e6, 9e6)), Some((5e6, 4.75e6))));
        assert!(timings.with_queue);
        let llama = ServerTimes { queue_ns: None, tokens: Some(3), ..vllm };
        let timings = RequestTimings::from_record(&record(Some(llama)), Some(5e6)).unwrap();
        assert_eq!((timings.ttft, timings.per_token), (Some((10e6, 7e6)), Some((5e6, 9.5e6))));
        assert!(!timings.with_queue);
        assert_eq!(RequestTimings::from_record(&record(None), Some(5e6)), None);
        let whole = RequestRecord { streamed: false, ..record(Some(vllm)) };
        assert_eq!(RequestTimings::from_record(&whole, None), None);
    }
}
