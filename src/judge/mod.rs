//! Any client judged against the mock, which records what it really received and sent, and when.
//!
//! A scenario is a load on the mock. The client under judgement runs as a process on all cores but the mock's. Afterwards
//! the mock's records give what the client did ([`observed`]) and the true figures ([`figures`]), with which the figures
//! that the client reported ([`claims`]) are compared ([`deviations`]). [`checks`] turn all this into verdicts, and [`page`]
//! shows those of several clients side by side.

pub mod checks;
pub mod claims;
pub mod client;
pub mod deviations;
pub mod figures;
pub mod observed;
pub mod page;
pub mod processes;
mod programs;
pub mod result_file;
pub mod scenario;
pub mod sheet;
#[cfg(test)]
mod tests;
pub mod text;
pub mod verdict;
mod watch;

use std::path::PathBuf;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mock::{Config, Mock, Stats, Truth};
use claims::Claims;
use client::ClientRun;
use deviations::Deviation;
use figures::Figures;
use observed::Observed;
use result_file::Format;
use scenario::Scenario;
use verdict::{Check, Verdict};

/// What the client was asked to do, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Requests in flight at a time.
    pub parallel: Option<u32>,
    /// Requests per second.
    pub rate: Option<f64>,
    /// Requests.
    pub number: Option<u64>,
}

/// One call of a client.
#[derive(Clone, Debug)]
pub struct Judging {
    /// The client's name on sheets.
    pub name: String,
    /// Program and arguments; `{url}` and the other placeholders are not replaced yet.
    pub command: Vec<String>,
    /// Keys of the mock, which take precedence over those of the scenario.
    pub mock: String,
    /// Values of `{parallel}`, `{rate}` and `{number}`.
    pub parallel: u32,
    pub rate: f64,
    pub number: u64,
    pub asked: Asked,
    /// Whether all requests that the client was asked for have different prompts.
    pub distinct_prompts: bool,
    /// Where the client writes its result.
    pub read: Option<Format>,
    /// The file, if it is not where the format's program writes it by default.
    pub result: Option<PathBuf>,
    pub timeout: Duration,
}

/// What is known after a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judgement {
    /// The client's name.
    #[serde(default)]
    pub name: String,
    pub scenario: String,
    pub mock: String,
    pub asked: Asked,
    pub client: ClientRun,
    pub observed: Observed,
    pub truth: Figures,
    /// The figures that the client reported; `None` if they were not asked for or could not be read.
    pub claims: Option<Claims>,
    pub server: ServerError,
    pub checks: Vec<Check>,
    /// The reported means and percentiles beside the true ones.
    #[serde(default)]
    pub deviations: Vec<Deviation>,
}

impl Judgement {
    /// Whether the mock was not good enough to judge the client.
    pub fn is_void(&self) -> bool {
        self.checks.iter().any(|check| check.name == checks::MOCK && check.verdict != Verdict::Pass)
    }
}

/// The mock's own error, nanoseconds: how late it sent, and how far apart the times before and after its system calls
/// are, between which the bytes were sent.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ServerError {
    pub lateness_p50_ns: u64,
    pub lateness_p99_ns: u64,
    pub lateness_max_ns: u64,
    #[serde(default)]
    pub uncertainty_p50_ns: u64,
    #[serde(default)]
    pub uncertainty_p99_ns: u64,
    #[serde(default)]
    pub uncertainty_max_ns: u64,
    /// Writes that a socket did not accept completely, so that their recorded send times are too early.
    pub blocked_writes: u64,
    /// Requests without a record.
    pub dropped: u64,
}

impl ServerError {
    fn new(stats: &Stats, truths: &[Truth]) -> ServerError {
        let sends = truths.iter().flat_map(|truth| truth.sends.iter().zip(&truth.returns));
        let mut widths: Vec<u64> = sends.map(|(before, after)| after.ns_since(*before).max(0) as u64).collect();
        widths.sort_unstable();
        let at = |share| observed::nearest(&widths, share).unwrap_or(0);
        ServerError {
            uncertainty_p50_ns: at(0.5),
            uncertainty_p99_ns: at(0.99),
            uncertainty_max_ns: at(1.0),
            lateness_p50_ns: stats.lateness_p50_ns,
            lateness_p99_ns: stats.lateness_p99_ns,
            lateness_max_ns: stats.lateness_max_ns,
            blocked_writes: stats.blocked_writes,
            dropped: stats.truth_dropped,
        }
    }
}

/// The most request records that the mock keeps.
const KEPT_REQUESTS: usize = 2_000_000;

/// Runs one scenario.
///
/// # Errors
/// One line: the mock's keys are wrong, the mock or the client cannot be started, or `stop` ended the run.
pub fn judge(judging: &Judging, scenario: &Scenario, stop: &AtomicU8) -> Result<Judgement, String> {
    let keys: Vec<&str> = [scenario.mock, judging.mock.as_str()].into_iter().filter(|keys| !keys.is_empty()).collect();
    let keys = keys.join("&");
    let mut config = Config::from_query(&keys)?;
    config.keep = KEPT_REQUESTS;
    let cores = client::split_cores();
    let address = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let mut mock = Mock::start(&config, cores.mock.as_slice(), address)
        .map_err(|error| format!("the mock cannot be started: {error}"))?;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder can be made: {error}"))?;
    let words = client::fill_in(&judging.command, &client::Values::new(judging, &mock, &config.model));
    let before = result_file::Before::new(judging.result.as_deref(), folder.path());
    let client = client::run(&words, folder.path(), &cores, &mock, scenario.freeze, judging.timeout, stop)?;
    mock.stop().map_err(|error| format!("the mock failed: {error}"))?;
    let all = mock.truth();
    let truths = observed::without_tests(&all, &judging.asked);
    let stats = mock.stats();
    let observed =
        Observed { refused: stats.refused, ..observed::observe(truths, all.len() - truths.len(), &judging.asked) };
    let truth = figures::of_successes(truths);
    let read = |format| result_file::read(format, judging.result.as_deref(), folder.path(), &before, &client);
    let claims = judging.read.map(read);
    let server = ServerError::new(&stats, &all);
    let facts = checks::Facts { judging, client: &client, observed: &observed, truths, role: config.role, server };
    let (checks, deviations) = checks::evaluate(&facts, claims.as_ref());
    Ok(Judgement {
        name: judging.name.clone(),
        scenario: scenario.name.to_string(),
        mock: keys,
        asked: judging.asked,
        client,
        observed,
        truth,
        claims: claims.and_then(Result::ok),
        server,
        checks,
        deviations,
    })
}
