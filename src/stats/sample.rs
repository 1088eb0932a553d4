//! The figures of one request.

use crate::record::{Finish, NetworkTimes};

/// The figures of one request. Lengths of time are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    pub index: u64,
    /// The conversation that it is a turn of.
    pub conversation: Option<u64>,
    pub turn: u32,
    pub due: u64,
    pub write_start: Option<u64>,
    pub end: u64,
    pub ok: bool,
    pub failed: bool,
    pub streamed: bool,
    pub ttft: Option<u64>,
    pub service_ttft: Option<u64>,
    /// Until the first text that is not reasoning.
    pub first_answer: Option<u64>,
    pub latency: u64,
    pub service_latency: Option<u64>,
    pub tpot: Option<f64>,
    /// The range that contains it, and the numbers of intervals that its ends are means of; see [`crate::record::delivery`].
    pub tpot_range: Option<(f64, f64)>,
    pub tpot_intervals: (f64, f64),
    pub package_latency: Option<f64>,
    pub input_tokens: Option<u32>,
    pub output_tokens: Option<u32>,
    pub cached_tokens: Option<u32>,
    pub output_rate: Option<f64>,
    pub total_rate: Option<f64>,
    pub finish: Finish,
    pub events: u32,
    pub send_lag: Option<u64>,
    pub connect: Option<u64>,
    pub turnaround: Option<u64>,
    /// From `due` to `picked`: waiting for a free slot or for a late client.
    pub pick_lag: Option<u64>,
    /// The part of it that was spent waiting for the body to be built; `None` if that was built before the run.
    pub body_wait: Option<u64>,
    /// Sum and number of its gaps between arrivals.
    pub gaps_ns: u64,
    pub gaps: u32,
    /// From the first to the last byte of the request that the kernel accepted.
    pub write_ns: u64,
    /// By how much the first output event may have arrived earlier than recorded; see [`super::measurement_error`].
    pub early_first_ns: u32,
    /// The same of the first and the last counted token, of several choices the largest of each.
    pub early_span_ns: (u32, u32),
    /// The same of the end.
    pub early_end_ns: u32,
    /// These three are known.
    pub bounded: bool,
    pub network: NetworkTimes,
    /// Its number among the succeeded requests of its phase, in the order in which they are stored.
    pub place: u64,
}

impl Sample {
    /// Send lag without the time for connecting and, if an open loop has a cap, without the wait for a free slot: until the
    /// end of the slot's previous request, or all of it for the first request of a slot.
    pub fn own_send_lag(&self, capped_schedule: bool) -> Option<u64> {
        let send_lag = self.send_lag?;
        let slot_wait = self.pick_lag.unwrap_or(0).saturating_sub(self.body_wait.unwrap_or(0));
        let until_free = self.turnaround.map_or(slot_wait, |turnaround| send_lag.saturating_sub(turnaround));
        let waited = if capped_schedule { slot_wait.min(until_free) } else { 0 };
        Some(send_lag.saturating_sub(self.connect.unwrap_or(0) + waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_send_lag_of_a_capped_schedule_begins_when_the_slot_is_free() {
        let sample = Sample { send_lag: Some(900), pick_lag: Some(800), ..Sample::default() };
        assert_eq!((sample.own_send_lag(false), sample.own_send_lag(true)), (Some(900), Some(100)));
        // The slot was free 500 ns before, or before the request was due.
        let free = |turnaround| Sample { turnaround: Some(turnaround), ..sample.clone() };
        assert_eq!((free(500).own_send_lag(true), free(2_000).own_send_lag(true)), (Some(500), Some(900)));
        // Part of it was for the body.
        let waited = Sample { body_wait: Some(400), ..free(500) };
        assert_eq!(waited.own_send_lag(true), Some(500));
    }
}
