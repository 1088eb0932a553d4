//! Scrapes the server's own metrics on a separate thread: once just before the first request, every second during
//! the run, and once after the run when the counters have stopped changing.
//!
//! A failure is reported as a finding and does not end the run.

#![expect(clippy::disallowed_methods, reason = "the clock is used to schedule scrapes, not for measurements")]

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::addresses;
use super::exposition::{self, write_labels};
use super::http_get::{GetTimeouts, get_until};
use super::local::Processes;
use super::metric_catalog::{Scrape, is_known};
use super::resource_usage::{self, Gpus};
use crate::finding::Finding;
use crate::net::tls;
use crate::plan::{Plan, Target, Transport};
use crate::record::ServerSample;
use crate::time::Tick;
use crate::time::clock::Clock;

/// Scrape period during the run.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest time of one request for the page, from the connection to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Servers update their counters shortly after the last byte of a response. The counters count as settled when two
/// scrapes this far apart are equal.
const SETTLE_PERIOD: Duration = Duration::from_millis(100);
/// Longest wait for settled counters; those of a server with other clients never settle.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same after an interrupt.
const INTERRUPTED_SETTLE_TIMEOUT: Duration = Duration::from_millis(300);

/// Receives the samples of a scrape.
pub(crate) type SampleSink = Box<dyn FnMut(Vec<ServerSample>) + Send>;

/// A page of metrics, and how to request it.
#[derive(Clone)]
pub struct MetricsPage {
    target: Target,
    /// Complete lines, each ended by CRLF.
    headers: String,
    tls: Option<Arc<ClientConfig>>,
}

/// Scrapes the server during one run.
pub(crate) struct Scraper {
    stop: Sender<()>,
    thread: JoinHandle<Watcher>,
}

/// What to scrape.
pub(crate) struct Sources {
    pub page: Option<MetricsPage>,
    /// The processes of a local server.
    pub processes: Option<Processes>,
    /// Set by an interrupt of the user: then no scrape lasts longer than a second.
    pub stop: Arc<AtomicU8>,
}

/// The state of the scraping thread.
struct Watcher {
    sources: Sources,
    gpus: Gpus,
    clock: Clock,
    sink: SampleSink,
    asked: u64,
    failed: u64,
    /// The reason of the first failure.
    why: String,
    /// A page had no metric of the catalog.
    unknown: bool,
    /// A scrape has failed after an interrupt, so that no other is tried.
    given_up: bool,
}

impl MetricsPage {
    /// The page of metrics of a plan; `None` if metrics are not to be scraped.
    ///
    /// # Errors
    /// The host cannot be resolved, or the TLS configuration is invalid.
    pub(crate) fn from_plan(plan: &Plan) -> Option<Result<MetricsPage, String>> {
        let asked = plan.server_metrics.as_ref()?;
        Some(match &asked.elsewhere {
            // The server under test gets the headers of the load, including its key.
            None => {
                let lines = plan.workload.headers.iter();
                let headers = lines.map(|header| format!("{}: {}\r\n", header.name, header.value)).collect();
                let server = plan.target.url.strip_suffix(&plan.target.path).unwrap_or(&plan.target.url);
                let url = format!("{server}{}", asked.path);
                let target = Target { url, path: asked.path.clone(), ..plan.target.clone() };
                MetricsPage::new(target, headers)
            }
            Some(target) => MetricsPage::new(target.clone(), String::new()),
        })
    }

    fn new(mut target: Target, headers: String) -> Result<MetricsPage, String> {
        let peer = (target.peer().0.to_string(), target.peer().1);
        if let Transport::Tcp(addresses) = &mut target.transport
            && addresses.is_empty()
        {
            let (host, port) = &peer;
            *addresses =
                resolve_host(host, *port).map_err(|error| format!("the name '{host}' cannot be resolved: {error}"))?;
            // A page of another server: which of its addresses is used does not concern the figures of the load.
            let _ = addresses::choose(&mut target, false, &[], TIMEOUT);
        }
        let tls = target.tls.as_ref().map(tls::config).transpose()?;
        Ok(MetricsPage { target, headers, tls })
    }

    /// Scrapes all samples of the page.
    fn read(&self, stop: &AtomicU8) -> Result<Vec<exposition::Sample>, String> {
        let (target, timeouts) = (&self.target, GetTimeouts::all(TIMEOUT));
        let reply = get_until(target, &target.path, &self.headers, self.tls.clone(), timeouts, stop)?;
        match reply.status {
            200 => {}
            404 => {
                return Err(format!("{} does not exist (404); some servers need a flag to serve it", self.target.path));
            }
            status => return Err(format!("GET {} returned status {status}", self.target.path)),
        }
        let page = exposition::parse_page(&reply.body);
        if page.is_cut {
            return Err(format!("the page has more than {} samples", exposition::MAX_SAMPLES));
        }
        match page.invalid_lines.first() {
            Some((line, reason)) if page.samples.is_empty() => {
                Err(format!("the page is not in Prometheus' format: line {line} {reason}"))
            }
            None if page.samples.is_empty() => Err("the page is empty".to_string()),
            _ => Ok(page.samples),
        }
    }

    /// Scrapes the page until two scrapes of its counters are equal.
    fn read_settled(&self, stop: &AtomicU8) -> Result<Vec<exposition::Sample>, String> {
        let began = Instant::now();
        let mut last = self.read(stop)?;
        loop {
            let timeout = if is_set(stop) { INTERRUPTED_SETTLE_TIMEOUT } else { SETTLE_TIMEOUT };
            if began.elapsed() > timeout {
                return Ok(last);
            }
            std::thread::sleep(SETTLE_PERIOD);
            let now = self.read(stop)?;
            if known_samples(&now).eq(known_samples(&last)) {
                return Ok(now);
            }
            last = now;
        }
    }
}

fn is_set(stop: &AtomicU8) -> bool {
    stop.load(Ordering::Relaxed) != 0
}

/// The samples of metrics in the catalog; others, such as memory and garbage collection, never settle.
fn known_samples(samples: &[exposition::Sample]) -> impl Iterator<Item = &exposition::Sample> {
    samples.iter().filter(|sample| is_known(&sample.name))
}

fn resolve_host(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    if addresses.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(addresses) }
}

impl Scraper {
    /// Scrapes once before it returns, and then every second on a separate thread. `sink` receives the samples of each
    /// scrape: all samples of the first and the last scrape, and only those of known metrics in between.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(sources: Sources, sink: SampleSink) -> io::Result<Scraper> {
        let clock = Clock::new();
        let gpus = if sources.processes.is_some() { Gpus::detect() } else { Gpus::default() };
        let mut watcher = Watcher {
            sources,
            gpus,
            clock,
            sink,
            asked: 0,
            failed: 0,
            why: String::new(),
            unknown: false,
            given_up: false,
        };
        watcher.scrape_settled();
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("server-metrics".to_string()).spawn(move || {
            watcher.run(&stopped);
            watcher
        })?;
        Ok(Scraper { stop, thread })
    }

    /// Scrapes a last time and returns the findings about failures.
    pub fn finish(self) -> Vec<Finding> {
        // The thread has ended only if it panicked, which `join` reports.
        let _ = self.stop.send(());
        match self.thread.join() {
            Ok(mut watcher) => {
                watcher.scrape_settled();
                watcher.findings()
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Watcher {
    fn run(&mut self, stopped: &Receiver<()>) {
        let began = Instant::now();
        let mut turn = 1;
        loop {
            // An absolute time, so that a slow page does not delay later scrapes.
            let due = PERIOD * turn;
            let wait = due.saturating_sub(began.elapsed());
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let samples = self.page().map(|page| page.read(&self.sources.stop));
            self.store(samples, false);
            // Scrapes that were due during a slow one are skipped.
            turn = (began.elapsed().as_secs() as u32).max(turn) + 1;
        }
    }

    fn scrape_settled(&mut self) {
        let samples = self.page().map(|page| page.read_settled(&self.sources.stop));
        self.store(samples, true);
    }

    /// The page, if it is to be scraped.
    fn page(&self) -> Option<&MetricsPage> {
        self.sources.page.as_ref().filter(|_| !self.given_up)
    }

    fn store(&mut self, samples: Option<Result<Vec<exposition::Sample>, String>>, whole: bool) {
        self.clock.maintain(self.clock.now());
        if let Some(processes) = &self.sources.processes {
            (self.sink)(resource_usage::samples(self.clock.now(), &processes.now(), &self.gpus));
        }
        let Some(samples) = samples else { return };
        self.asked += 1;
        match samples {
            Ok(samples) => {
                self.unknown |= known_samples(&samples).next().is_none();
                let at = self.clock.now();
                let selected = samples.into_iter().filter(|sample| whole || is_known(&sample.name));
                (self.sink)(selected.map(|sample| to_stored(at, sample)).collect());
            }
            Err(reason) => {
                self.failed += 1;
                self.given_up = is_set(&self.sources.stop);
                if self.why.is_empty() {
                    self.why = reason;
                }
            }
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let url = self.sources.page.as_ref().map_or_else(String::new, |page| page.target.url.clone());
        if self.failed > 0 {
            let (failed, asked, reason) = (self.failed, self.asked, self.why.clone());
            vec![Finding::MetricsFailed { failed, asked, url, reason }]
        } else if self.unknown {
            vec![Finding::MetricsUnknown { url }]
        } else {
            Vec::new()
        }
    }
}

fn to_stored(at: Tick, sample: exposition::Sample) -> ServerSample {
    ServerSample { at, labels: write_labels(&sample.labels), name: sample.name, value: sample.value }
}

/// The scrapes of a stored run, with the samples of known metrics.
pub(crate) fn scrapes(samples: &[ServerSample]) -> Vec<Scrape> {
    let mut scrapes: Vec<Scrape> = Vec::new();
    for sample in samples.iter().filter(|sample| is_known(&sample.name)) {
        if scrapes.last().is_none_or(|scrape| scrape.at != sample.at) {
            scrapes.push(Scrape { at: sample.at, samples: Vec::new() });
        }
        let labels = exposition::read_labels(&sample.labels).unwrap_or_default();
        let read = exposition::Sample { name: sample.name.clone(), labels, value: sample.value, timestamp: None };
        if let Some(scrape) = scrapes.last_mut() {
            scrape.samples.push(read);
        }
    }
    scrapes
}
