//! The definitions of the figures of one request. All lengths of time are nanoseconds. `None` means that the figure is
//! not defined for this request, which is different from 0.

use crate::record::{Block, RequestRecord};
use crate::time::Tick;

/// `end − due`: how long a user whose request was due at `due` waited for the whole response.
pub fn latency_ns(record: &RequestRecord) -> u64 {
    length_ns(record.due, record.end)
}

/// `first_token − due`; the latency if the response is not streamed.
pub fn ttft_ns(record: &RequestRecord) -> Option<u64> {
    first_output(record).map(|first| length_ns(record.due, first))
}

/// The time from the first byte sent to the first token.
pub(crate) fn service_ttft_ns(record: &RequestRecord) -> Option<u64> {
    Some(length_ns(record.write_start?, first_output(record)?))
}

/// The time from the first byte sent to the end of the response.
pub(crate) fn service_latency_ns(record: &RequestRecord) -> Option<u64> {
    Some(length_ns(record.write_start?, record.end))
}

/// `connected − picked` of a connection opened for this request; `None` on a reused one.
pub fn connect_ns(record: &RequestRecord) -> Option<u64> {
    let length = length_ns(record.picked?, record.connected?);
    (!record.reused && length > 0).then_some(length)
}

/// `write_start − previous_end`: how long the client kept a slot of a closed loop idle. The pause before a later turn
/// of a conversation is not included.
pub(crate) fn turnaround_ns(record: &RequestRecord) -> Option<u64> {
    let free = if record.turn > 0 { record.due } else { record.previous_end? };
    Some(length_ns(free, record.write_start?))
}

/// `write_start − due`: how late the request was sent, for any reason.
pub(crate) fn send_lag_ns(record: &RequestRecord) -> Option<u64> {
    Some(length_ns(record.due, record.write_start?))
}

/// `first_answer_token − due` of a streamed response: until the first text that is not reasoning.
pub(crate) fn first_answer_ns(record: &RequestRecord) -> Option<u64> {
    record.first_answer_token.filter(|_| record.streamed).map(|first| length_ns(record.due, first))
}

/// The pairs of consecutive arrivals of one choice, as positions in the arrivals of a response. `choices` has the choice of
/// each arrival, or is empty for a single choice. In order of the later arrival of each pair.
pub(crate) fn consecutive<'a>(arrivals: &'a [Tick], choices: &'a [u8]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mut last = [None; 256];
    (0..arrivals.len()).filter_map(move |place| {
        let choice = choices.get(place).copied().unwrap_or(0);
        let before: Option<usize> = last[usize::from(choice)].replace(place);
        before.map(|before| (before, place))
    })
}

/// The gaps between consecutive arrivals of one choice, with the arrival that ends each.
pub fn gaps_ns<'a>(arrivals: &'a [Tick], choices: &'a [u8]) -> impl Iterator<Item = (Tick, u64)> + 'a {
    consecutive(arrivals, choices).map(|pair| (arrivals[pair.1], gap_ns(arrivals, pair)))
}

/// The gap between two arrivals.
pub(crate) fn gap_ns(arrivals: &[Tick], (before, place): (usize, usize)) -> u64 {
    length_ns(arrivals[before], arrivals[place])
}

/// `(last_token − first_token) / (output_tokens − 1)`; undefined for fewer than two tokens and without a stream.
pub(crate) fn tpot_ns(record: &RequestRecord) -> Option<f64> {
    let tokens = record.output_tokens.filter(|&tokens| tokens >= 2)?;
    if !record.streamed {
        return None;
    }
    let length = length_ns(record.first_token?, record.last_token?);
    Some(length as f64 / f64::from(tokens - 1))
}

/// TPOT of any response: [`tpot_ns`], or [`tpot_of_choices_ns`] if it has several choices. `block` holds the record.
pub(crate) fn tpot_in(record: &RequestRecord, block: &Block) -> Option<f64> {
    match record.choices.slice(&block.bytes) {
        [] => tpot_ns(record),
        choices => tpot_of_choices_ns(record, record.arrivals.slice(&block.arrivals), choices),
    }
}

/// TPOT of a response with several choices: the mean over its choices of `(last − first) / (tokens − 1)`. The server's count
/// covers all choices; each has the part that it has of the output events.
pub(crate) fn tpot_of_choices_ns(record: &RequestRecord, arrivals: &[Tick], choices: &[u8]) -> Option<f64> {
    let tokens = record.output_tokens.filter(|_| record.streamed)?;
    // Some servers state the count of one choice.
    let tokens_per_event = (f64::from(tokens) / arrivals.len().max(1) as f64).max(1.0);
    let mut spans: [Option<(Tick, Tick, u32)>; 256] = [None; 256];
    for (&at, &choice) in arrivals.iter().zip(choices) {
        let span = &mut spans[usize::from(choice)];
        let (first, _, events) = span.unwrap_or((at, at, 0));
        *span = Some((first, at, events + 1));
    }
    let tpots: Vec<f64> = spans
        .into_iter()
        .flatten()
        .filter(|(_, _, events)| *events >= 2)
        .map(|(first, last, events)| length_ns(first, last) as f64 / (f64::from(events) * tokens_per_event - 1.0))
        .collect();
    (!tpots.is_empty()).then(|| tpots.iter().sum::<f64>() / tpots.len() as f64)
}

/// Output tokens per second of latency.
pub(crate) fn output_rate_per_s(record: &RequestRecord) -> Option<f64> {
    per_second(f64::from(record.output_tokens?), latency_ns(record))
}

/// Input and output tokens per second of latency.
pub(crate) fn total_rate_per_s(record: &RequestRecord) -> Option<f64> {
    per_second(f64::from(record.input_tokens?) + f64::from(record.output_tokens?), latency_ns(record))
}

/// Latency per SSE event of a streamed response.
pub(crate) fn package_latency_ns(record: &RequestRecord) -> Option<f64> {
    (record.streamed && record.events > 0).then(|| latency_ns(record) as f64 / f64::from(record.events))
}

/// A response that is not streamed has its first output at its end.
fn first_output(record: &RequestRecord) -> Option<Tick> {
    if record.streamed { record.first_token } else { Some(record.end) }
}

/// Never negative: two timestamps mapped by different clock samples can be out of order by nanoseconds.
fn length_ns(from: Tick, to: Tick) -> u64 {
    to.ns_since(from).max(0) as u64
}

fn per_second(amount: f64, length_ns: u64) -> Option<f64> {
    (length_ns > 0).then(|| amount * 1e9 / length_ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RequestRecord {
        RequestRecord {
            due: Tick(1_000),
            picked: Some(Tick(1_100)),
            connected: Some(Tick(1_400)),
            write_start: Some(Tick(1_500)),
            first_token: Some(Tick(3_000)),
            last_token: Some(Tick(9_000)),
            end: Tick(11_000),
            previous_end: Some(Tick(900)),
            streamed: true,
            input_tokens: Some(6),
            output_tokens: Some(4),
            events: 5,
            ..RequestRecord::default()
        }
    }

    #[test]
    fn figures_follow_their_definitions() {
        let r = record();
        assert_eq!(latency_ns(&r), 10_000);
        assert_eq!(ttft_ns(&r), Some(2_000));
        assert_eq!(service_ttft_ns(&r), Some(1_500));
        assert_eq!(service_latency_ns(&r), Some(9_500));
        assert_eq!(connect_ns(&r), Some(300));
        assert_eq!(turnaround_ns(&r), Some(600));
        assert_eq!(send_lag_ns(&r), Some(500));
        assert_eq!(tpot_ns(&r), Some(2_000.0));
        assert_eq!(output_rate_per_s(&r), Some(400_000.0));
        assert_eq!(total_rate_per_s(&r), Some(1_000_000.0));
        assert_eq!(package_latency_ns(&r), Some(2_000.0));
        let arrivals = [Tick(5), Tick(9), Tick(9), Tick(8)];
        let gaps: Vec<u64> = consecutive(&arrivals, &[]).map(|pair| gap_ns(&arrivals, pair)).collect();
        assert_eq!(gaps, [4, 0, 0]);
        let answered = RequestRecord { first_answer_token: Some(Tick(5_000)), ..r };
        assert_eq!(first_answer_ns(&answered), Some(4_000));
        assert_eq!(first_answer_ns(&RequestRecord { streamed: false, ..answered }), None);
    }

    #[test]
    fn several_choices_are_measured_apart() {
        let arrivals = [10, 11, 30, 31, 50, 51, 71].map(Tick);
        let choices = [0, 1, 0, 1, 0, 1, 1];
        let gaps: Vec<u64> = consecutive(&arrivals, &choices).map(|pair| gap_ns(&arrivals, pair)).collect();
        assert_eq!(gaps, [20; 5]);
        let of = |tokens| {
            let record = RequestRecord { output_tokens: Some(tokens), streamed: true, ..RequestRecord::default() };
            tpot_of_choices_ns(&record, &arrivals, &choices)
        };
        assert_eq!(of(7), Some(20.0));
        // Two tokens an event: 40 ns for 5 gaps, 60 ns for 7.
        assert_eq!(of(14), Some((8.0 + 60.0 / 7.0) / 2.0));
        // The count of one choice.
        assert_eq!(of(3), Some(20.0));
    }

    #[test]
    fn undefined_figures_are_not_zero() {
        let one_token = RequestRecord { output_tokens: Some(1), ..record() };
        assert_eq!(tpot_ns(&one_token), None);
        let unknown = RequestRecord { output_tokens: None, ..record() };
        assert_eq!((tpot_ns(&unknown), output_rate_per_s(&unknown), total_rate_per_s(&unknown)), (None, None, None));
        let whole = RequestRecord { streamed: false, first_token: None, ..record() };
        assert_eq!((ttft_ns(&whole), tpot_ns(&whole), package_latency_ns(&whole)), (Some(10_000), None, None));
        let reused = RequestRecord { reused: true, ..record() };
        assert_eq!(connect_ns(&reused), None);
        let unsent = RequestRecord { write_start: None, ..record() };
        assert_eq!((send_lag_ns(&unsent), turnaround_ns(&unsent)), (None, None));
    }
}
