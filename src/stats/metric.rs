//! The definitions of the figures of one request. All lengths of time are nanoseconds. `None` means that the figure is
//! not defined for this request, which is different from 0.

use crate::record::RequestRecord;
pub(crate) use crate::record::arrivals::consecutive;
use crate::time::Tick;

/// `end − due`: how long a user whose request was due at `due` waited for the whole response.
pub fn latency_ns(record: &RequestRecord) -> u64 {
    length_ns(record.due, record.end)
}

/// `first_token − due`; undefined if the response is not streamed.
pub fn ttft_ns(record: &RequestRecord) -> Option<u64> {
    first_output(record).map(|first| length_ns(record.due, first))
}

/// The time from the first byte sent to the first token of a streamed response.
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

/// The gaps between consecutive arrivals of one choice, with the arrival that ends each.
pub fn gaps_ns<'a>(arrivals: &'a [Tick], choices: &'a [u8]) -> impl Iterator<Item = (Tick, u64)> + 'a {
    consecutive(arrivals, choices).map(|pair| (arrivals[pair.1], gap_ns(arrivals, pair)))
}

/// The gap between two arrivals.
pub(crate) fn gap_ns(arrivals: &[Tick], (before, place): (usize, usize)) -> u64 {
    length_ns(arrivals[before], arrivals[place])
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
    package_latency(record.streamed, record.events, latency_ns(record))
}

/// The same from the parts of a record.
pub(super) fn package_latency(streamed: bool, events: u32, latency_ns: u64) -> Option<f64> {
    (streamed && events > 0).then(|| latency_ns as f64 / f64::from(events))
}

/// A response that is not streamed has no first output: all of it arrives at once.
fn first_output(record: &RequestRecord) -> Option<Tick> {
    record.first_token.filter(|_| record.streamed)
}

/// Never negative: two timestamps mapped by different clock samples can be out of order by nanoseconds.
fn length_ns(from: Tick, to: Tick) -> u64 {
    to.ns_since(from).max(0) as u64
}

/// `None` for a length of 0.
pub(super) fn per_second(amount: f64, length_ns: u64) -> Option<f64> {
    (length_ns > 0).then(|| amount * 1e9 / length_ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Block;

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
    }

    #[test]
    fn undefined_figures_are_not_zero() {
        let one_token = RequestRecord { output_tokens: Some(1), ..record() };
        assert_eq!(one_token.tpot(&Block::default()), None);
        let unknown = RequestRecord { output_tokens: None, ..record() };
        assert_eq!((output_rate_per_s(&unknown), total_rate_per_s(&unknown)), (None, None));
        let whole = RequestRecord { streamed: false, first_token: None, ..record() };
        assert_eq!((ttft_ns(&whole), service_ttft_ns(&whole), package_latency_ns(&whole)), (None, None, None));
        let reused = RequestRecord { reused: true, ..record() };
        assert_eq!(connect_ns(&reused), None);
        let unsent = RequestRecord { write_start: None, ..record() };
        assert_eq!((send_lag_ns(&unsent), turnaround_ns(&unsent)), (None, None));
    }
}
