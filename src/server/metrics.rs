//! The server's own metrics, scraped beside the run on a thread of their own: once just before the measured requests,
//! every second while they go on, and once after, when the counters have come to rest.
//!
//! Trouble here is told as a finding and never ends a run.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::exposition::{self, write_labels};
use super::get::{Waits, get};
use super::local::Processes;
use super::names::{Scrape, is_known};
use super::usage::{self, Gpus};
use crate::engine::clock::Clock;
use crate::engine::tls;
use crate::finding::Finding;
use crate::plan::{Plan, Target, Transport};
use crate::record::ServerSample;
use crate::time::Tick;

/// Between two looks while the run goes on.
const PERIOD: Duration = Duration::from_secs(1);
/// Patience with a page.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Servers book a request a moment after they have sent its last byte. Two equal pages this far apart are taken for
/// the rest that was waited for.
const REST: Duration = Duration::from_millis(100);
/// A server that others use as well never rests: after this long the page is taken as it is.
const REST_LIMIT: Duration = Duration::from_secs(2);

/// Takes the samples of a scrape.
pub type Take = Box<dyn FnMut(Vec<ServerSample>) + Send>;

/// A page of metrics, and how to ask for it.
#[derive(Clone)]
pub struct Page {
    target: Target,
    /// Whole lines, each ended by CRLF.
    headers: String,
    tls: Option<Arc<ClientConfig>>,
}

/// Looking at the server while one run goes on.
pub struct Scraper {
    stop: Sender<()>,
    thread: JoinHandle<Watcher>,
}

/// What there is to look at. With neither there is nothing to do.
pub struct Sources {
    pub page: Option<Page>,
    /// Of a server of our own.
    pub processes: Option<Processes>,
}

/// What is looked at, and what came of it.
struct Watcher {
    sources: Sources,
    gpus: Gpus,
    clock: Clock,
    take: Take,
    asked: u64,
    failed: u64,
    /// The first reason of a failure.
    why: String,
    /// A page was read that has no metric we know.
    unknown: bool,
}

impl Page {
    /// The page that a plan asks for; `None` when it asks for none.
    pub fn of(plan: &Plan) -> Option<Result<Page, String>> {
        let asked = plan.server_metrics.as_ref()?;
        Some(match &asked.elsewhere {
            // On the server itself it is asked for in the same way as everything else, its key included.
            None => {
                let lines = plan.workload.headers.iter();
                let headers = lines.map(|header| format!("{}: {}\r\n", header.name, header.value)).collect();
                let server = plan.target.url.strip_suffix(&plan.target.path).unwrap_or(&plan.target.url);
                let url = format!("{server}{}", asked.path);
                let target = Target { url, path: asked.path.clone(), ..plan.target.clone() };
                Page::at(target, headers)
            }
            Some(target) => Page::at(target.clone(), String::new()),
        })
    }

    fn at(mut target: Target, headers: String) -> Result<Page, String> {
        let peer = (target.peer().0.to_string(), target.peer().1);
        if let Transport::Tcp(addresses) = &mut target.transport
            && addresses.is_empty()
        {
            let (host, port) = &peer;
            *addresses =
                look_up(host, *port).map_err(|error| format!("the name '{host}' cannot be looked up: {error}"))?;
        }
        let tls = target.tls.as_ref().map(tls::config).transpose()?;
        Ok(Page { target, headers, tls })
    }

    /// Every sample of the page now.
    fn read(&self) -> Result<Vec<exposition::Sample>, String> {
        let reply = get(&self.target, &self.target.path, &self.headers, self.tls.clone(), Waits::of(TIMEOUT))?;
        match reply.status {
            200 => {}
            404 => {
                return Err(format!("{} is not there (404); some servers show it only when told to", self.target.path));
            }
            status => return Err(format!("GET {} was answered with status {status}", self.target.path)),
        }
        let page = exposition::page(&reply.body);
        match page.wrong.first() {
            Some((line, reason)) if page.samples.is_empty() => {
                Err(format!("it is no page of metrics: line {line} {reason}"))
            }
            None if page.samples.is_empty() => Err("the page is empty".to_string()),
            _ => Ok(page.samples),
        }
    }

    /// The page once two looks at its counters agree.
    fn read_at_rest(&self) -> Result<Vec<exposition::Sample>, String> {
        let began = Instant::now();
        let mut last = self.read()?;
        loop {
            std::thread::sleep(REST);
            let now = self.read()?;
            if books(&now).eq(books(&last)) || began.elapsed() > REST_LIMIT {
                return Ok(now);
            }
            last = now;
        }
    }
}

/// The samples of known names: what a server does besides (its memory, its garbage) never rests.
fn books(samples: &[exposition::Sample]) -> impl Iterator<Item = &exposition::Sample> {
    samples.iter().filter(|sample| is_known(&sample.name))
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    if addresses.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(addresses) }
}

impl Scraper {
    /// Looks once, which the caller waits for, and then every second on a thread. `take` gets the samples of each
    /// look: all of the first and the last page, only those of known names in between.
    pub fn start(sources: Sources, take: Take) -> io::Result<Scraper> {
        let (clock, gpus) = (Clock::new(), Gpus::look());
        let mut watcher =
            Watcher { sources, gpus, clock, take, asked: 0, failed: 0, why: String::new(), unknown: false };
        watcher.look_at_rest();
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("server-metrics".to_string()).spawn(move || {
            watcher.go_on(&stopped);
            watcher
        })?;
        Ok(Scraper { stop, thread })
    }

    /// Looks a last time and says what went wrong.
    pub fn finish(self) -> Vec<Finding> {
        // The thread is gone only when it panicked, which the join tells.
        let _ = self.stop.send(());
        match self.thread.join() {
            Ok(mut watcher) => {
                watcher.look_at_rest();
                watcher.findings()
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Watcher {
    fn go_on(&mut self, stopped: &Receiver<()>) {
        let began = Instant::now();
        let mut turn = 1;
        loop {
            // Absolute, so that a slow page does not stretch the second.
            let due = PERIOD * turn;
            let wait = due.saturating_sub(began.elapsed());
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let samples = self.sources.page.as_ref().map(Page::read);
            self.keep(samples, false);
            // Seconds that a slow page has eaten are left out.
            turn = (began.elapsed().as_secs() as u32).max(turn) + 1;
        }
    }

    fn look_at_rest(&mut self) {
        let samples = self.sources.page.as_ref().map(Page::read_at_rest);
        self.keep(samples, true);
    }

    fn keep(&mut self, samples: Option<Result<Vec<exposition::Sample>, String>>, whole: bool) {
        if let Some(processes) = &self.sources.processes {
            (self.take)(usage::samples(self.clock.now(), &processes.now(), &self.gpus));
        }
        let Some(samples) = samples else { return };
        self.asked += 1;
        match samples {
            Ok(samples) => {
                self.unknown |= books(&samples).next().is_none();
                let at = self.clock.now();
                let kept = samples.into_iter().filter(|sample| whole || is_known(&sample.name));
                (self.take)(kept.map(|sample| stored(at, sample)).collect());
            }
            Err(reason) => {
                self.failed += 1;
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

fn stored(at: Tick, sample: exposition::Sample) -> ServerSample {
    ServerSample { at, labels: write_labels(&sample.labels), name: sample.name, value: sample.value }
}

/// The scrapes of a stored run, with the names that are known.
pub fn scrapes(samples: &[ServerSample]) -> Vec<Scrape> {
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
