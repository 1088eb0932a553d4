//! Calibrations on the command line: made by `ringmark rig --calibrate`, taken along by `ringmark perf`.

#![expect(clippy::disallowed_methods, reason = "a stored calibration has a date")]
#![expect(clippy::print_stdout, reason = "the command line writes the tables")]

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::call_output::screen_width;
use super::exit::{EarlyExit, status};
use crate::finding::Finding;
use crate::host::calibration::{LoadShape, Machine};
use crate::host::calibration_file::{self, Choice};
use crate::plan::Plan;
use crate::report::{load_shape, measurement_error};
use crate::roofline::planned::{Planned, calibrate};
use crate::spec::{Spec, values};
use crate::time::{MS, S};

const CALIBRATION: &str = "Calibration (with --calibrate)";
const DEFAULT_PARALLEL: u32 = 100;
const DEFAULT_TTFT_NS: u64 = 50 * MS;
const DEFAULT_ITL_NS: u64 = 10 * MS;
const DEFAULT_TOKENS: u32 = 100;
/// In place of a file: none.
const NONE: &str = "none";

/// Flags of `ringmark rig --calibrate`.
#[derive(Args, Debug)]
pub struct CalibrateArgs {
    /// Measure how exact the client is here at a planned load, against the built-in server, and keep the result:
    /// 'ringmark perf' takes it along where machine and load fit
    #[arg(long)]
    pub calibrate: bool,
    /// Requests in flight [default: 100, or none with --rate: an open loop]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, requires = "calibrate", help_heading = CALIBRATION)]
    parallel: Option<u32>,
    /// Requests per second
    #[arg(long, value_name = "R", allow_negative_numbers = true, value_parser = values::number, requires = "calibrate", help_heading = CALIBRATION)]
    rate: Option<f64>,
    /// Bytes of an event on the wire [default: as the built-in server writes them, about 190]
    #[arg(long, value_name = "BYTES", value_parser = values::count::<u32>, requires = "calibrate", help_heading = CALIBRATION)]
    event_bytes: Option<u32>,
    /// Time to first token, as 50ms [default: 50ms]
    #[arg(long, value_name = "TIME", value_parser = values::seconds, requires = "calibrate", help_heading = CALIBRATION)]
    ttft: Option<f64>,
    /// Time between tokens, as 10ms [default: 10ms]
    #[arg(long, value_name = "TIME", value_parser = values::seconds, requires = "calibrate", help_heading = CALIBRATION)]
    itl: Option<f64>,
    /// Tokens of each answer [default: 100]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, requires = "calibrate", help_heading = CALIBRATION)]
    tokens: Option<u32>,
    /// How long to measure, seconds [default: 3, and the time to first token]
    #[arg(long, value_name = "S", value_parser = values::seconds, requires = "calibrate", help_heading = CALIBRATION)]
    duration: Option<f64>,
    /// Worker threads [default: as a run against the built-in server]
    #[arg(long, value_name = "N", value_parser = values::count::<usize>, requires = "calibrate", help_heading = CALIBRATION)]
    workers: Option<usize>,
    /// Cores for the workers, for example 2,3 or 4-7
    #[arg(long, value_name = "LIST", value_parser = values::cores, requires = "calibrate", help_heading = CALIBRATION)]
    cores: Option<values::Cores>,
    /// Busy polling, as with 'ringmark perf --spin'
    #[arg(long, requires = "calibrate", help_heading = CALIBRATION)]
    spin: bool,
    /// The load of a stored run (its benchmark_data.db); flags that are given win over it
    #[arg(long = "for", value_name = "RUN.db", requires = "calibrate", help_heading = CALIBRATION)]
    of_run: Option<PathBuf>,
    /// File that keeps the result [default: ringmark/calibrations.json in the user's cache]
    #[arg(long, value_name = "FILE", requires = "calibrate", help_heading = CALIBRATION)]
    out: Option<PathBuf>,
}

/// Calibrates, keeps the result and prints it.
pub fn run(args: &CalibrateArgs, as_json: bool) -> Result<u8, EarlyExit> {
    let exit = |text: String| EarlyExit::error(&text);
    let path = args.out.clone().or_else(default_path);
    let path = path.ok_or_else(|| exit("there is no home to keep the calibration in: give --out FILE".into()))?;
    // Before the measurement, so that its seconds are not spent for nothing.
    calibration_file::read(&path).map_err(|error| exit(format!("--out: {error}")))?;
    let planned = planned(args).map_err(exit)?;
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let calibration = calibrate(&planned, &cores, Timestamp::now().as_second()).map_err(exit)?;
    calibration_file::keep(&path, &calibration).map_err(|error| exit(format!("--out: {error}")))?;
    if as_json {
        println!("{:#}", json!({ "calibration": calibration, "file": path }));
    } else {
        print!("{}", measurement_error::calibration_text(&calibration, screen_width()));
        println!("Kept in: {}", path.display());
    }
    Ok(status::DONE)
}

fn planned(args: &CalibrateArgs) -> Result<Planned, String> {
    let of_run = match &args.of_run {
        None => None,
        Some(path) => {
            let shape = load_shape::from_run(path).map_err(|error| format!("--for: {error}"))?;
            Some(shape.ok_or_else(|| format!("--for {}: nothing was streamed in that run", path.display()))?)
        }
    };
    if args.rate.is_some_and(|rate| rate <= 0.0) {
        return Err("--rate must be above 0; leave it out for a closed loop".to_string());
    }
    let defaults = LoadShape {
        parallel: args.rate.is_none().then_some(DEFAULT_PARALLEL),
        ttft_ns: DEFAULT_TTFT_NS,
        itl_ns: DEFAULT_ITL_NS,
        tokens: DEFAULT_TOKENS,
        ..LoadShape::default()
    };
    let base = of_run.unwrap_or(defaults);
    let ns = |seconds: f64| (seconds * S as f64) as u64;
    let load = LoadShape {
        parallel: args.parallel.or(base.parallel),
        rate_per_s: args.rate.or(base.rate_per_s),
        event_bytes: args.event_bytes.unwrap_or(base.event_bytes),
        ttft_ns: args.ttft.map_or(base.ttft_ns, ns),
        itl_ns: args.itl.map_or(base.itl_ns, ns),
        tokens: args.tokens.unwrap_or(base.tokens),
        workers: 0,
    };
    Ok(Planned {
        load,
        duration_s: args.duration,
        workers: args.workers,
        cores: args.cores.as_ref().map(|cores| cores.0.clone()).unwrap_or_default(),
        spin: args.spin,
    })
}

fn default_path() -> Option<PathBuf> {
    calibration_file::default_path(|name| std::env::var_os(name))
}

/// Gives each plan the calibration that fits it, where there is one. Trouble with a file that was named is an error,
/// with the one in the user's cache a note.
pub fn attach(spec: &Spec, plans: &mut [Plan]) -> Result<(), String> {
    let named = spec.client.calibration.as_deref();
    if named == Some(Path::new(NONE)) {
        return Ok(());
    }
    let Some(path) = named.map(Path::to_path_buf).or_else(default_path) else { return Ok(()) };
    let all = match calibration_file::read(&path) {
        Ok(all) if all.is_empty() && named.is_some() => {
            return Err(format!(
                "--calibration {}: there is no calibration; make one with 'ringmark rig --calibrate --out {}'",
                path.display(),
                path.display()
            ));
        }
        Ok(all) => all,
        Err(error) if named.is_some() => return Err(format!("--calibration: {error}")),
        Err(error) => {
            plans[0].notes.push(Finding::CalibrationsUnreadable { reason: error });
            return Ok(());
        }
    };
    let (machine, now) = (Machine::here(), Timestamp::now().as_second());
    for plan in plans.iter_mut() {
        let rate = plan.load.schedule().map(|schedule| schedule.rate_per_s);
        match calibration_file::choose(&all, &machine, now, plan.load.parallel(), rate) {
            Choice::Nothing => {}
            Choice::Found(calibration) => plan.calibration = Some(*calibration),
            Choice::Refused(why) => {
                plan.notes.push(Finding::CalibrationNotUsed { path: path.display().to_string(), why });
            }
        }
    }
    Ok(())
}
