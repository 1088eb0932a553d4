//! Samples of the client's processes: CPU time, memory, threads.

#![expect(clippy::disallowed_methods, reason = "the clock is used for CPU shares, not for measurements")]

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::{Deserialize, Serialize};

use super::observed::MAX_TESTS;
use super::processes::Descendants;
use crate::host::cgroup::cpu_quota;
use crate::mock::Mock;
use crate::server::process::{Process, parse_stat, refreshed};

/// Time over which the busiest thread and the CPU time of all threads are determined, and pause between two scans of all
/// processes while answers arrive. A scan takes milliseconds, which a client on the same core could lose, so the processes
/// that were found already are sampled alone in between.
const PERIOD: Duration = Duration::from_secs(1);

/// What was sampled.
pub struct Watch {
    leader: u32,
    descendants: Descendants,
    /// The cores that the client was given.
    cores: CpuSet,
    /// CPU time of each process, clock ticks, by pid and start time.
    cpu_ticks: BTreeMap<(u32, u64), u64>,
    /// The client's processes, also ended ones that were not waited for.
    pub members: Vec<Process>,
    /// CPU seconds of the client and output events of the mock, at the same time.
    points: Vec<(f64, u64)>,
    peak_rss_pages: u64,
    peak_threads: usize,
    periods: Vec<Period>,
    /// The threads, the CPU time of all of them and the mock's output events at the begin of the current period.
    threads: BTreeMap<(u32, u32), u64>,
    period_began: Instant,
    cpu_s_then: f64,
    events_then: u64,
    /// Since when the mock has been sending the answers of the load.
    pub answering_since: Option<Instant>,
}

/// What the client's processes used.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time of all its processes, seconds. Those that nobody waited for count to within a sample period of
    /// their ends.
    pub cpu_s: f64,
    /// CPU time between a quarter and three quarters of all output events, divided by the events of that time,
    /// microseconds.
    pub steady_cpu_per_event_us: Option<f64>,
    /// The rest of the CPU time: start, connections, requests, reports, seconds.
    pub fixed_cpu_s: Option<f64>,
    /// Resident memory of all its processes. Shared pages count once for each.
    pub peak_rss_bytes: u64,
    pub peak_threads: usize,
    /// The largest share of a core that one of its threads used for a second while requests were answered.
    /// `None`: they were not answered for so long.
    pub busiest_thread: Option<f64>,
    /// The largest share of the CPU time of its cores that all its threads used together for a second, and how many cores
    /// these are. `None`: requests were not answered for so long.
    #[serde(default)]
    pub busiest_share: Option<f64>,
    #[serde(default)]
    pub cores: Option<f64>,
}

/// The CPU time of about a second.
struct Period {
    /// Share of a core that the busiest thread used.
    thread: f64,
    /// Cores that all threads used together, and those on which the active ones may run.
    used: f64,
    available: f64,
    /// The mock's output events at the begin and the end.
    events: [u64; 2],
}

impl Watch {
    /// `cores` are those that the client was given.
    pub fn new(leader: u32, descendants: Descendants, cores: CpuSet) -> Watch {
        Watch {
            leader,
            descendants,
            cores,
            cpu_ticks: BTreeMap::new(),
            members: Vec::new(),
            points: Vec::new(),
            peak_rss_pages: 0,
            peak_threads: 0,
            periods: Vec::new(),
            threads: BTreeMap::new(),
            period_began: Instant::now(),
            cpu_s_then: 0.0,
            events_then: 0,
            answering_since: None,
        }
    }

    /// Finds the client's processes among all processes, and waits for those that have ended and were adopted.
    pub fn scan(&mut self) {
        self.members = self.descendants.scan();
        self.count_cpu();
        self.descendants.reap(&self.members, self.leader);
    }

    fn count_cpu(&mut self) {
        for member in &self.members {
            self.cpu_ticks.insert((member.pid, member.started), member.cpu_ticks);
        }
    }

    /// Takes a sample.
    pub fn sample(&mut self, mock: &Mock) {
        let stats = mock.stats();
        let events = stats.events;
        let begins = self.events_then == 0 && events > 0;
        let ends_period = self.period_began.elapsed() >= PERIOD || self.threads.is_empty() || begins;
        // Before the processes, which may be waited for meanwhile: no time counts twice.
        let waited = self.descendants.waited_ticks();
        if self.answering_since.is_none() || ends_period {
            self.scan();
        } else {
            self.members = refreshed(&self.members);
            self.count_cpu();
        }
        // Requests before the load may precede it by any time.
        if events > 0 && stats.requests > MAX_TESTS && stats.in_flight > 0 && self.answering_since.is_none() {
            self.answering_since = Some(Instant::now());
        }
        let cpu_s = self.cpu_s(waited);
        self.points.push((cpu_s, events));
        self.peak_rss_pages = self.peak_rss_pages.max(self.members.iter().map(|member| member.rss_pages).sum());
        if ends_period {
            self.end_period(cpu_s, events);
        }
    }

    fn end_period(&mut self, cpu_s: f64, events: u64) {
        let elapsed_s = self.period_began.elapsed().as_secs_f64();
        let running = self.members.iter().filter(|member| !member.zombie);
        let now: BTreeMap<(u32, u32), u64> = running.flat_map(|member| threads_of(member.pid)).collect();
        let used = now.iter().filter_map(|(thread, ticks)| Some(ticks.saturating_sub(*self.threads.get(thread)?)));
        let most_s = seconds(used.max().unwrap_or(0));
        if elapsed_s > 0.5 {
            self.periods.push(Period {
                thread: (most_s / elapsed_s).min(1.0),
                used: (cpu_s - self.cpu_s_then).max(0.0) / elapsed_s,
                available: available(self.active(&now), &self.cores),
                events: [self.events_then, events],
            });
        }
        self.cpu_s_then = cpu_s;
        self.events_then = events;
        self.peak_threads = self.peak_threads.max(now.len());
        self.threads = now;
        self.period_began = Instant::now();
    }

    /// The threads that have used CPU time since the begin of the period.
    fn active<'a>(&'a self, now: &'a BTreeMap<(u32, u32), u64>) -> impl Iterator<Item = u32> + 'a {
        let has_run = |(thread, ticks): &(&(u32, u32), &u64)| **ticks > self.threads.get(*thread).copied().unwrap_or(0);
        now.iter().filter(has_run).map(|((_, thread), _)| *thread)
    }

    /// CPU time of the client, seconds: of the processes that there are and the ended ones that they have waited for. Ended
    /// processes that nobody waited for count as far as they were sampled. `waited_ticks` is the time of those that this
    /// process has waited for.
    fn cpu_s(&self, waited_ticks: u64) -> f64 {
        let present: u64 = self.members.iter().map(|member| member.cpu_ticks + member.waited_ticks).sum();
        seconds((present + waited_ticks).max(self.cpu_ticks.values().sum()))
    }

    /// Ends all processes that are left when the client has ended.
    ///
    /// # Errors
    /// One line: some do not end.
    pub fn kill(&mut self) -> Result<(), String> {
        self.descendants.kill(self.leader)?;
        self.members.clear();
        Ok(())
    }

    /// What was sampled, when no process is left.
    pub fn finish(self) -> Usage {
        let cpu_s = self.cpu_s(self.descendants.waited_ticks());
        let events = self.points.last().map_or(0, |point| point.1);
        // A client may be busy while it starts and when it reports.
        let loaded = || self.periods.iter().filter(|period| period.events[0] > 0 && period.events[1] < events);
        let busiest = loaded().max_by(|a, b| a.share().total_cmp(&b.share()));
        let events = events as f64;
        let at = |share: f64| self.points.iter().find(|point| point.1 as f64 >= share * events);
        let steady = at(0.25).zip(at(0.75)).filter(|(from, to)| to.1 > from.1);
        let per_event_s = steady.map(|(from, to)| (to.0 - from.0).max(0.0) / (to.1 - from.1) as f64);
        Usage {
            cpu_s,
            steady_cpu_per_event_us: per_event_s.map(|seconds| seconds * 1e6),
            fixed_cpu_s: per_event_s.map(|seconds| (cpu_s - seconds * events).max(0.0)),
            peak_rss_bytes: self.peak_rss_pages * rustix::param::page_size() as u64,
            peak_threads: self.peak_threads,
            busiest_thread: loaded().map(|period| period.thread).reduce(f64::max),
            busiest_share: busiest.map(Period::share),
            cores: busiest.map(|period| period.available),
        }
    }
}

impl Period {
    fn share(&self) -> f64 {
        (self.used / self.available).min(1.0)
    }
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The cores on which at least one of these threads may run, of those that the client was given, or the quota of CPU time
/// if that is less.
fn available(threads: impl Iterator<Item = u32>, given: &CpuSet) -> f64 {
    let affinities: Vec<CpuSet> =
        threads.filter_map(|thread| sched_getaffinity(Pid::from_raw(thread as i32)).ok()).collect();
    let may_run = |core: &usize| given.is_set(*core) && affinities.iter().any(|affinity| affinity.is_set(*core));
    let cores = (0..CpuSet::MAX_CPU).filter(may_run).count();
    // Threads that have left the cores which they were given compete with the mock.
    let cores = if cores == 0 { given.count().max(1) as usize } else { cores };
    (cores as f64).min(cpu_quota().unwrap_or(f64::INFINITY))
}

/// CPU time of each thread of a process, clock ticks.
fn threads_of(pid: u32) -> Vec<((u32, u32), u64)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let ids = tasks.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{id}/stat")).ok()?;
        Some(((pid, id), parse_stat(&stat)?.cpu_ticks))
    })
    .collect()
}
