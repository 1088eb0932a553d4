//! Flags of the load: number of requests, concurrency, rate, arrival process, duration, warm-up, repetitions.

use std::sync::Arc;

use serde::Serialize;

use super::data::DataSpec;
use super::values::{self, seconds_ns};
use crate::finding::Finding;
use crate::plan::slo::{self, Comparison, Criterion, Figure};
use crate::plan::{Arrival, Load, PlanError, Schedule};
use crate::workload::trace::{Trace, TraceFormat, TraceUnit};

const HEADING: &str = "Load";
/// Default of `--drain`, seconds.
const DEFAULT_DRAIN_S: f64 = 30.0;

/// Flags of the load.
#[derive(clap::Args, Clone, Debug, PartialEq, Serialize)]
pub struct LoadSpec {
    /// Number of requests; several values: one for each load of a sweep [default: 1000; with --duration: no limit]
    #[arg(short = 'n', long, aliases = ["num-prompts", "num_prompts", "request-count", "num-requests", "max-requests"], value_name = "N", num_args = 1.., value_parser = values::count::<u64>, help_heading = HEADING)]
    pub number: Vec<u64>,
    /// Number of concurrent requests (slots); with --rate, the maximum. Several values run as a sweep [default: 1]
    #[arg(long, visible_alias = "concurrency", alias = "max-concurrency", value_name = "N", num_args = 1.., value_parser = values::count::<u32>, help_heading = HEADING)]
    pub parallel: Vec<u32>,
    /// Request rate, requests per second; -1: no rate limit, only --parallel. With --open-loop several values run as a
    /// sweep [default: -1]
    #[arg(long, value_name = "R", num_args = 1.., value_parser = values::number, help_heading = HEADING)]
    pub rate: Vec<f64>,
    /// Arrival process. With --rate: poisson, constant or gamma:CV (CV: coefficient of variation). Without --rate: burst
    /// (all at the start) or trace:FILE (recorded times) [default: poisson]
    #[arg(long, value_name = "LAW", help_heading = HEADING)]
    pub arrival: Option<String>,
    /// Replay recorded times X times as fast [default: 1]
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = HEADING)]
    pub trace_speed: Option<f64>,
    /// Unit of recorded times: s or ms [default: detected from the format of the file]
    #[arg(long, value_name = "UNIT", help_heading = HEADING)]
    pub trace_unit: Option<String>,
    /// Tokens of a trace for each hash id [default: detected: 512 for Mooncake, 16 for Bailian]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = HEADING)]
    pub trace_block: Option<u32>,
    /// Use only what was recorded in this part of a trace, seconds from its start, as 60..120 or 60..
    #[arg(long, value_name = "FROM..TO", help_heading = HEADING)]
    pub trace_window: Option<String>,
    /// Send every request at its scheduled time, without a limit on concurrent requests; needs --rate, --arrival burst or
    /// recorded times
    #[arg(long, help_heading = HEADING)]
    pub open_loop: bool,
    /// Increase rate or concurrency linearly over this time from the first request on, warm-up included, seconds
    #[arg(long = "ramp", value_name = "S", default_value = "0", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "ramp")]
    pub ramp_s: f64,
    /// Stop sending requests this long after the first measured one, seconds
    #[arg(long = "duration", aliases = ["benchmark-duration", "max-seconds"], value_name = "S", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "duration")]
    pub duration_s: Option<f64>,
    /// Wait this long for requests in flight after --duration, seconds; the rest count as unfinished [default: 30]
    #[arg(long = "drain", value_name = "S", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "drain")]
    pub drain_s: Option<f64>,
    /// End a run early if too many of its requests fail, or of those of its warm-up, for example 'failed>20%': no more requests are sent, those in
    /// flight end (for at most --drain), results are written, exit status 1. Judged from 20 requests on, and from
    /// --parallel on if that is more
    #[arg(long, value_name = "CRITERION", help_heading = HEADING)]
    pub abort_on: Option<String>,
    /// Warm-up requests, excluded from all figures: a count, or a fraction of --number below 1. Measured requests follow
    /// without a gap, so use at least --parallel to start with the steady state
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::number, help_heading = HEADING)]
    pub warmup_num: f64,
    /// Pause between the runs of a sweep, seconds
    #[arg(long = "sleep-interval", value_name = "S", default_value = "5", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "sleep_interval")]
    pub sleep_interval_s: f64,
    /// Write intermediate figures to benchmark.log every N requests; 0: never
    #[arg(long, value_name = "N", default_value = "100", value_parser = values::count_or_zero::<u64>, help_heading = HEADING)]
    pub log_every_n_query: u64,
    /// Run each load K times and report the variation between runs; also writes repeats_summary.json
    #[arg(long, value_name = "K", default_value = "1", value_parser = values::count::<u32>, help_heading = HEADING)]
    pub repeat: u32,
}

impl Default for LoadSpec {
    fn default() -> LoadSpec {
        LoadSpec {
            number: Vec::new(),
            parallel: Vec::new(),
            rate: Vec::new(),
            arrival: None,
            trace_speed: None,
            trace_unit: None,
            trace_block: None,
            trace_window: None,
            open_loop: false,
            ramp_s: 0.0,
            duration_s: None,
            drain_s: None,
            abort_on: None,
            warmup_num: 0.0,
            sleep_interval_s: 5.0,
            log_every_n_query: 100,
            repeat: 1,
        }
    }
}

impl LoadSpec {
    /// The loads of the call, in order.
    pub(super) fn loads(
        &self,
        data: &DataSpec,
        trace: Option<&Arc<Trace>>,
        notes: &mut Vec<Finding>,
    ) -> Result<Vec<Load>, PlanError> {
        if let Some(schedule) = self.trace_schedule(data.is_trace(), trace)? {
            if self.open_loop || data.is_trace() {
                return self.open_loads(vec![schedule], notes);
            }
            return self.paced_loads(&[schedule]);
        }
        let arrival = match &self.arrival {
            None => Arrival::Poisson,
            Some(text) => {
                Arrival::scan(text).map_err(|what| PlanError::value("--arrival", format!("'{text}': {what}")))?
            }
        };
        let rates = self.rates(&arrival)?;
        if self.arrival.is_some() && rates.is_empty() {
            return Err(PlanError::conflict(format!(
                "--arrival {arrival} needs a rate: add --rate, for example --rate 5 --arrival {arrival}",
                arrival = self.arrival.as_deref().unwrap_or_default()
            )));
        }
        if arrival == Arrival::Burst && self.ramp_s > 0.0 {
            return Err(PlanError::conflict(
                "--arrival burst sends all requests at the start, so --ramp has no effect: remove one of them",
            ));
        }
        let schedules = rates.into_iter().map(|rate_per_s| Schedule { rate_per_s, arrival: arrival.clone() });
        if self.open_loop {
            return self.open_loads(schedules.collect(), notes);
        }
        let schedules: Vec<Schedule> = schedules.collect();
        if schedules.len() > 1 {
            return Err(PlanError::conflict(
                "--rate has several values, which needs an open loop: add --open-loop, or give one rate",
            ));
        }
        self.paced_loads(&schedules)
    }

    /// The trace as the flags ask for it, with notes about how it is read.
    pub(super) fn trace(
        &self,
        trace: Option<&Arc<Trace>>,
        notes: &mut Vec<Finding>,
    ) -> Result<Option<Arc<Trace>>, PlanError> {
        let flags = [
            (self.trace_unit.is_some(), "--trace-unit"),
            (self.trace_block.is_some(), "--trace-block"),
            (self.trace_window.is_some(), "--trace-window"),
        ];
        let Some(trace) = trace else {
            return match flags.into_iter().find(|(given, _)| *given) {
                Some((_, flag)) => Err(PlanError::conflict(format!(
                    "{flag} is about recorded times: add --dataset trace or --arrival trace:FILE"
                ))),
                None => Ok(None),
            };
        };
        let unit = self.trace_unit.as_deref().map(TraceUnit::scan).transpose();
        let unit = unit.map_err(|what| PlanError::value("--trace-unit", what))?;
        if self.trace_block == Some(0) {
            return Err(PlanError::value("--trace-block", "must be at least 1"));
        }
        let mut trace = Trace::clone(trace).read_as(unit, self.trace_block);
        if let Some(text) = &self.trace_window {
            let (from, to) = window(text)?;
            trace = trace
                .window(from, to)
                .ok_or_else(|| PlanError::value("--trace-window", format!("'{text}' contains no recorded request")))?;
        }
        let TraceFormat { name, unit, block } = trace.format;
        let (format, unit) = (name.to_string(), unit.name().to_string());
        notes.push(Finding::TraceRead { format, unit, block, rows: trace.rows.len() as u64 });
        if trace.skipped > 0 {
            notes.push(Finding::TraceRowsSkipped { skipped: trace.skipped });
        }
        Ok(Some(Arc::new(trace)))
    }

    /// Loads with limited concurrency: a closed loop, or paced by a schedule.
    fn paced_loads(&self, schedules: &[Schedule]) -> Result<Vec<Load>, PlanError> {
        if self.parallel.contains(&0) {
            return Err(PlanError::value("--parallel", "must be at least 1"));
        }
        let parallels = if self.parallel.is_empty() { &[1][..] } else { &self.parallel };
        let load = |parallel: u32| match schedules.first() {
            None => Load::Closed { parallel },
            Some(schedule) => Load::Paced { parallel, schedule: schedule.clone() },
        };
        Ok(parallels.iter().map(|parallel| load(*parallel)).collect())
    }

    fn open_loads(&self, schedules: Vec<Schedule>, notes: &mut Vec<Finding>) -> Result<Vec<Load>, PlanError> {
        if schedules.is_empty() {
            return Err(PlanError::conflict("--open-loop needs a rate above 0: add --rate, for example --rate 5"));
        }
        if !self.parallel.is_empty() {
            notes.push(Finding::ParallelNotUsed);
        }
        Ok(schedules.into_iter().map(|schedule| Load::Open { schedule }).collect())
    }

    /// The values of `--rate`; empty without a schedule. A burst has the single rate 0.
    fn rates(&self, arrival: &Arrival) -> Result<Vec<f64>, PlanError> {
        if let Some(wrong) = self.rate.iter().find(|rate| !rate.is_finite() || (**rate <= 0.0 && **rate != -1.0)) {
            return Err(PlanError::value("--rate", format!("must be above 0, or -1 for no pacing, not {wrong:?}")));
        }
        // Send times are whole nanoseconds, which limits the usable rates.
        if let Some(wrong) = self.rate.iter().find(|rate| **rate > 0.0 && !(1e-6..=1e8).contains(*rate)) {
            return Err(PlanError::value(
                "--rate",
                format!("must be between 0.000001 and 100000000 per second, not {wrong}"),
            ));
        }
        let unpaced = self.rate.contains(&-1.0);
        if unpaced && (self.open_loop || self.rate.len() > 1) {
            return Err(PlanError::value(
                "--rate",
                "must be above 0 for --open-loop and for several rates; -1 means no pacing",
            ));
        }
        match arrival {
            Arrival::Burst if self.rate.is_empty() => Ok(vec![0.0]),
            Arrival::Burst => {
                Err(PlanError::conflict("--arrival burst sends all requests at the start: leave --rate out"))
            }
            _ if unpaced => Ok(Vec::new()),
            _ => Ok(self.rate.clone()),
        }
    }

    /// The schedule of recorded times, if the dataset or `--arrival` has them.
    fn trace_schedule(&self, is_trace: bool, trace: Option<&Arc<Trace>>) -> Result<Option<Schedule>, PlanError> {
        let by_arrival = self.arrival.as_deref().is_some_and(|text| text.starts_with("trace:"));
        if !is_trace && !by_arrival {
            if self.trace_speed.is_some() {
                return Err(PlanError::conflict(
                    "--trace-speed needs recorded times: add --dataset trace or --arrival trace:FILE",
                ));
            }
            return Ok(None);
        }
        if is_trace && self.arrival.is_some() {
            return Err(PlanError::conflict("--dataset trace has its own arrival times: leave --arrival out"));
        }
        if self.rate.iter().any(|rate| *rate != -1.0) {
            return Err(PlanError::conflict(
                "recorded times determine the rate: leave --rate out (--trace-speed scales the times)",
            ));
        }
        if self.ramp_s > 0.0 {
            return Err(PlanError::conflict("--ramp does not apply to recorded times: leave it out"));
        }
        let speed = self.trace_speed.unwrap_or(1.0);
        if !(1e-6..=1e6).contains(&speed) {
            return Err(PlanError::value(
                "--trace-speed",
                format!("must be between 0.000001 and 1000000, not {speed}"),
            ));
        }
        let trace = trace.ok_or(PlanError::conflict("--dataset trace needs a file: add --dataset-path FILE"))?;
        let times = trace.arrivals(speed);
        let span_s = times.last().copied().unwrap_or(0) as f64 / 1e9;
        let rate_per_s = if span_s > 0.0 { (times.len() - 1) as f64 / span_s } else { times.len() as f64 };
        Ok(Some(Schedule { rate_per_s, arrival: Arrival::Trace(times.into()) }))
    }

    /// Requests of each run; `None` if only the duration ends it.
    pub(super) fn numbers(&self, loads: &[Load], default: u64) -> Result<Vec<Option<u64>>, PlanError> {
        if self.number.contains(&0) {
            return Err(PlanError::value("--number", "must be at least 1"));
        }
        let endless = |load: &Load| load.schedule().is_none_or(|schedule| schedule.arrival != Arrival::Burst);
        match self.number.as_slice() {
            [] if self.duration_s.is_some() => {
                Ok(loads.iter().map(|load| (!endless(load)).then_some(default)).collect())
            }
            [] => Ok(vec![Some(default); loads.len()]),
            [number] => Ok(vec![Some(*number); loads.len()]),
            numbers if numbers.len() == loads.len() => Ok(numbers.iter().copied().map(Some).collect()),
            numbers => {
                let flag = if self.open_loop { "--rate" } else { "--parallel" };
                Err(PlanError::Lengths { numbers: numbers.len(), flag, loads: loads.len() })
            }
        }
    }

    /// Warm-up requests, computed from a count or a fraction of the requests of the run.
    pub(super) fn warmup(&self, number: Option<u64>) -> Result<u64, PlanError> {
        const FLAG: &str = "--warmup-num";
        let warmup = self.warmup_num;
        match number {
            _ if !warmup.is_finite() || !(0.0..=1e15).contains(&warmup) => Err(PlanError::value(
                FLAG,
                format!("must be 0, a fraction below 1, or a whole number of requests, not {warmup:?}"),
            )),
            _ if warmup == 0.0 => Ok(0),
            Some(number) if warmup < 1.0 => Ok(((warmup * number as f64) as u64).max(1)),
            None if warmup < 1.0 => Err(PlanError::conflict(
                "--warmup-num below 1 is a fraction of --number: add --number, or give a whole number of requests",
            )),
            _ if warmup.fract() != 0.0 => {
                Err(PlanError::value(FLAG, format!("must be a whole number if it is above 1, not {warmup:?}")))
            }
            _ => Ok(warmup as u64),
        }
    }

    /// How many of `all` requests can be measured if the warm-up is among them; at least 1.
    pub(super) fn without_warmup(&self, all: u64) -> u64 {
        let measured = match self.warmup_num {
            share if share < 1.0 => all as f64 / (1.0 + share.max(0.0)),
            count => all as f64 - count,
        };
        (measured as u64).clamp(1, all.max(1))
    }

    /// The file of `--arrival trace:FILE`.
    pub(super) fn arrival_file(&self) -> Option<&str> {
        self.arrival.as_deref().and_then(|text| text.strip_prefix("trace:"))
    }

    /// The time that requests in flight have after the duration, nanoseconds.
    pub(super) fn drain_ns(&self) -> Result<u64, PlanError> {
        match (self.drain_s, self.duration_s) {
            (Some(_), None) if self.abort_on.is_none() => {
                Err(PlanError::conflict("--drain needs --duration: without it, all requests run to their end"))
            }
            (drain, _) => seconds_ns("--drain", drain.unwrap_or(DEFAULT_DRAIN_S), true),
        }
    }

    /// The limit of `--abort-on`.
    pub(super) fn abort_limit(&self) -> Result<Option<Criterion>, PlanError> {
        const FLAG: &str = "--abort-on";
        let Some(text) = &self.abort_on else { return Ok(None) };
        let limit = slo::scan(text).map_err(|what| PlanError::value(FLAG, what))?;
        let is_upper = matches!(limit.comparison, Comparison::Above | Comparison::AtLeast);
        if limit.figure != Figure::FailedPercent
            || !is_upper
            || (limit.bound == 0.0 && limit.comparison != Comparison::Above)
        {
            return Err(PlanError::value(
                FLAG,
                format!("'{text}' is not a share of failed requests such as failed>20%"),
            ));
        }
        Ok(Some(limit))
    }

    pub(super) fn duration_ns(&self) -> Result<Option<u64>, PlanError> {
        self.duration_s.map(|s| seconds_ns("--duration", s, false)).transpose()
    }

    pub(super) fn ramp_ns(&self) -> Result<u64, PlanError> {
        seconds_ns("--ramp", self.ramp_s, true)
    }

    pub(super) fn sleep_interval_ns(&self) -> Result<u64, PlanError> {
        seconds_ns("--sleep-interval", self.sleep_interval_s, true)
    }
}

/// The ends of a part of a trace, nanoseconds.
fn window(text: &str) -> Result<(u64, u64), PlanError> {
    const FLAG: &str = "--trace-window";
    let wrong = || PlanError::value(FLAG, format!("'{text}' is not FROM..TO in seconds, for example 60..120"));
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let end = |text: &str, default: u64| match text.trim() {
        "" => Ok(default),
        text => seconds_ns(FLAG, text.parse().map_err(|_| wrong())?, true),
    };
    let (from, to) = (end(from, 0)?, end(to, u64::MAX)?);
    if from < to { Ok((from, to)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_parallel_determine_the_load() {
        let loads = |spec: &LoadSpec| spec.loads(&DataSpec::default(), None, &mut Vec::new());
        assert_eq!(loads(&LoadSpec::default()), Ok(vec![Load::Closed { parallel: 1 }]));
        let schedule = |rate_per_s| Schedule { rate_per_s, arrival: Arrival::Poisson };
        let paced = LoadSpec { parallel: vec![4], rate: vec![2.0], ..LoadSpec::default() };
        assert_eq!(loads(&paced), Ok(vec![Load::Paced { parallel: 4, schedule: schedule(2.0) }]));
        let open = LoadSpec { open_loop: true, rate: vec![2.0, 3.0], ..LoadSpec::default() };
        assert_eq!(loads(&open), Ok([2.0, 3.0].map(|rate| Load::Open { schedule: schedule(rate) }).to_vec()));
    }

    #[test]
    fn a_run_ends_early_only_for_failed_requests() {
        let limit = |text: &str| LoadSpec { abort_on: Some(text.to_string()), ..LoadSpec::default() }.abort_limit();
        assert_eq!(limit("failed > 20 %").unwrap().unwrap().bound, 20.0);
        assert!(limit("failed>=5%").is_ok() && limit("failed>0").is_ok());
        for wrong in ["failed<20%", "failed>20", "failed>=0", "p99_ttft>2", "success<50%", "often"] {
            let error = limit(wrong).unwrap_err().to_string();
            assert!(error.contains("--abort-on"), "{error}");
        }
        assert_eq!(LoadSpec::default().abort_limit(), Ok(None));
    }

    #[test]
    fn one_number_applies_to_all_loads_or_each_load_has_its_own() {
        let loads = [1, 2].map(|parallel| Load::Closed { parallel });
        let numbers = |number: &[u64], duration_s| {
            LoadSpec { number: number.to_vec(), duration_s, ..LoadSpec::default() }.numbers(&loads, 9)
        };
        assert_eq!(numbers(&[], None), Ok(vec![Some(9), Some(9)]));
        assert_eq!(numbers(&[], Some(1.0)), Ok(vec![None, None]));
        assert_eq!(numbers(&[7], None), Ok(vec![Some(7), Some(7)]));
        assert_eq!(numbers(&[3, 4], Some(1.0)), Ok(vec![Some(3), Some(4)]));
        assert!(numbers(&[1, 2, 3], None).is_err() && numbers(&[0], None).is_err());
    }
}
