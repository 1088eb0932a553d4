//! `ringmark rig --calibrate`: measures the error of this machine and stores it.

#![expect(clippy::disallowed_methods, reason = "a stored calibration has a date")]
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::call_output::screen_width;
use super::exit::{EarlyExit, status};
use super::terminal::print;
use crate::host::calibration::LoadShape;
use crate::host::calibration_file;
use crate::prepare::calibration::default_path;
use crate::report::{load_shape, measurement_error};
use crate::roofline::calibrate::{CalibrationRequest, calibrate};
use crate::spec::values;
use crate::time::{MS, S};

const CALIBRATION: &str = "Calibration (with --calibrate)";
const DEFAULT_PARALLEL: u32 = 100;
const DEFAULT_TTFT_NS: u64 = 50 * MS;
const DEFAULT_ITL_NS: u64 = 10 * MS;
const DEFAULT_TOKENS: u32 = 100;

/// Flags of `ringmark rig --calibrate`.
#[derive(Args, Debug)]
pub struct CalibrateArgs {
    /// Measure the client's error on this machine at a planned load, against the built-in server, and store the result.
    /// 'ringmark perf' uses it when the machine and the load match
    #[arg(long)]
    pub calibrate: bool,
    /// Concurrent requests [default: 100; with --rate: no limit, an open loop]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, requires = "calibrate", help_heading = CALIBRATION)]
    parallel: Option<u32>,
    /// Request rate, requests per second
    #[arg(long, value_name = "R", allow_negative_numbers = true, value_parser = values::number, requires = "calibrate", help_heading = CALIBRATION)]
    rate: Option<f64>,
    /// Size of one event on the wire, bytes [default: what the built-in server sends, about 190]
    #[arg(long, value_name = "BYTES", value_parser = values::count::<u32>, requires = "calibrate", help_heading = CALIBRATION)]
    event_bytes: Option<u32>,
    /// Time to first token (TTFT), seconds or with a unit [default: 50ms]
    #[arg(long, value_name = "TIME", value_parser = values::seconds, requires = "calibrate", help_heading = CALIBRATION)]
    ttft: Option<f64>,
    /// Inter-token latency (ITL), seconds or with a unit [default: 10ms]
    #[arg(long, value_name = "TIME", value_parser = values::seconds, requires = "calibrate", help_heading = CALIBRATION)]
    itl: Option<f64>,
    /// Output tokens of each response [default: 100]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, requires = "calibrate", help_heading = CALIBRATION)]
    tokens: Option<u32>,
    /// Length of the measurement, seconds [default: 3 plus the time to first token]
    #[arg(long, value_name = "S", value_parser = values::seconds, requires = "calibrate", help_heading = CALIBRATION)]
    duration: Option<f64>,
    /// Worker threads [default: as for a run against the built-in server]
    #[arg(long, value_name = "N", value_parser = values::count::<usize>, requires = "calibrate", help_heading = CALIBRATION)]
    workers: Option<usize>,
    /// CPU cores to pin the workers to, for example 2,3 or 4-7
    #[arg(long, value_name = "LIST", value_parser = values::cores, requires = "calibrate", help_heading = CALIBRATION)]
    cores: Option<values::Cores>,
    /// Poll sockets in a busy loop, as 'ringmark perf --spin' does
    #[arg(long, requires = "calibrate", help_heading = CALIBRATION)]
    spin: bool,
    /// Take the load from a stored run (its benchmark_data.db); explicit flags override its values
    #[arg(long = "for", value_name = "RUN.db", requires = "calibrate", help_heading = CALIBRATION)]
    of_run: Option<PathBuf>,
    /// File for the result [default: ringmark/calibrations.json in the user's cache directory]
    #[arg(long, value_name = "FILE", requires = "calibrate", help_heading = CALIBRATION)]
    out: Option<PathBuf>,
}

/// Calibrates, stores the result and prints it.
pub fn run(args: &CalibrateArgs, as_json: bool) -> Result<u8, EarlyExit> {
    let exit = |text: String| EarlyExit::error(&text);
    let path = args.out.clone().or_else(default_path);
    let path = path.ok_or_else(|| {
        exit("no cache directory for the calibration: neither XDG_CACHE_HOME nor HOME is set; give --out FILE".into())
    })?;
    // An unreadable file is reported before the measurement, which takes seconds.
    calibration_file::read(&path).map_err(|error| exit(format!("--out: {error}")))?;
    let planned = planned(args).map_err(exit)?;
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let calibration = calibrate(&planned, &cores, Timestamp::now().as_second()).map_err(exit)?;
    calibration_file::add(&path, &calibration).map_err(|error| exit(format!("--out: {error}")))?;
    if as_json {
        print(&format!("{:#}\n", json!({ "calibration": calibration, "file": path })))?;
    } else {
        print(&measurement_error::calibration_text(&calibration, screen_width()))?;
        print(&format!("Stored in: {}\n", path.display()))?;
    }
    Ok(status::DONE)
}

fn planned(args: &CalibrateArgs) -> Result<CalibrationRequest, String> {
    let of_run = match &args.of_run {
        None => None,
        Some(path) => {
            let shape = load_shape::from_run(path).map_err(|error| format!("--for: {error}"))?;
            Some(shape.ok_or_else(|| {
                format!("--for {}: the run has no streamed responses; choose a run with --stream", path.display())
            })?)
        }
    };
    if args.rate.is_some_and(|rate| rate <= 0.0) {
        return Err("--rate must be above 0; omit it for a closed loop".to_string());
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
    Ok(CalibrationRequest {
        load,
        duration_s: args.duration,
        workers: args.workers,
        cores: args.cores.as_ref().map(|cores| cores.0.clone()).unwrap_or_default(),
        spin: args.spin,
    })
}
