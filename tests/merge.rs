//! Shards merged into one run: the figures are those of one process, and what is missing or uncertain is said.

mod records;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use records::{at, closed, collect, push_failed, push_ok, report, start};
use ringmark::plan::Save;
use ringmark::record::clock_exchange::ClockExchange;
use ringmark::record::facts::{ClockOffset, ClockPair, RunEnd, RunFacts, ShardFacts};
use ringmark::record::share::Share;
use ringmark::record::{Block, CollectorMessage, Failure, Outcome, Phase, WorkerReport};
use ringmark::report::merge::{Merged, groups};
use ringmark::report::shards::{are_shards, same_prompts};
use ringmark::report::{from_database, html, json, measured, screen};
use ringmark::spec::Language;
use ringmark::{Finding, Severity};

/// A request: its due time, when its tokens come after that, and whether it fails.
type Request = (u64, Vec<u64>, bool);

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let tokens = prop::collection::vec(1u64..40, 1..6).prop_map(|gaps| {
        gaps.iter()
            .scan(0, |sum, gap| {
                *sum += gap;
                Some(*sum)
            })
            .collect()
    });
    prop::collection::vec((0u64..2_000, tokens, prop::bool::weighted(0.1)), 8..60)
}

/// How a shard differs from one on the machine of shard 0.
#[derive(Clone, Default)]
struct Other {
    /// Its own kernel, whose ticks are later by so much, milliseconds.
    ticks_later_ms: Option<u64>,
    /// Its wall clock is ahead by so much.
    wall_ahead_ns: i64,
    /// What it found out about that.
    offset: Option<ClockOffset>,
    /// Its exchanges of packets with shard 0.
    exchanges: Vec<ClockExchange>,
    killed: bool,
    /// It began so much later than it should have, milliseconds.
    late_ms: u64,
    interrupted: bool,
    /// It sends nothing that is due later than this, milliseconds.
    until_ms: Option<u64>,
    /// It sends so much later than due, milliseconds.
    lag_ms: u64,
    /// Requests that it could not store.
    rows_lost: u64,
    /// The cores of its workers.
    cores: Vec<u16>,
}

struct Call<'a> {
    folder: &'a Path,
    requests: &'a [Request],
    plan_hash: &'a str,
}

impl Call<'_> {
    fn facts(&self, share: Option<Share>) -> RunFacts {
        let (number, parallel) = (self.requests.len() as u64, 8);
        let share_of = share.unwrap_or_default();
        let mut facts = closed(share_of.part(number), share_of.slots(parallel));
        facts.name = "model".to_string();
        facts.rate_per_s = Some(30.0 / f64::from(share_of.count()));
        if let Some(share) = share {
            facts.name = format!("model_shard_{}_of_{}", share.index(), share.count());
            facts.shard = Some(ShardFacts {
                share,
                call_id: "rm-1".to_string(),
                plan_hash: self.plan_hash.to_string(),
                clock_domain: "boot".to_string(),
                parallel: Some(parallel),
                rate_per_s: Some(30.0),
                requests: Some(number),
                ..ShardFacts::default()
            });
        }
        facts
    }

    /// Stores the requests of a share, or all.
    fn store(&self, share: Option<Share>, other: Other) -> PathBuf {
        let mut block = Block::new(0);
        let later_ms = other.ticks_later_ms.unwrap_or(0);
        for (index, (due, tokens, fails)) in (0u64..).zip(self.requests) {
            match *fails {
                _ if share.is_some_and(|share| !share.contains(index)) => {}
                _ if other.until_ms.is_some_and(|until| *due > until) => {}
                true => push_failed(&mut block, index, due + later_ms, Outcome::Failed(Failure::Status), "busy"),
                false => push_ok(&mut block, index, due + later_ms, tokens),
            }
        }
        for record in &mut block.records {
            record.write_start = record.write_start.map(|at| at.plus_ns(other.lag_ms * 1_000_000));
        }
        let mut start = start(self.facts(share), Save::Text);
        start.clock.tick_ns += later_ms * 1_000_000;
        start.clock.unix_ns += other.wall_ahead_ns;
        if let (Some(shard), Some(_)) = (&mut start.facts.shard, other.ticks_later_ms) {
            shard.clock_domain = format!("boot {}", shard.share);
        }
        let name = share.map_or("whole.db".to_string(), |share| format!("{}_{}.db", share.index(), share.count()));
        let path = self.folder.join(name);
        let clock = start.clock;
        let mut messages = vec![CollectorMessage::Block(block)];
        // One process has one worker here; so has the first shard, and the others none.
        if share.is_none_or(Share::is_first) {
            messages.push(CollectorMessage::Worker(Box::new(report(Phase::Measured))));
        }
        for (worker, core) in (0u32..).zip(&other.cores) {
            let report = WorkerReport { worker, core: Some(*core), ..report(Phase::Measured) };
            messages.push(CollectorMessage::Worker(Box::new(report)));
        }
        collect(&path, start, messages);
        let shard_start = share.map(|_| clock);
        let clock_offset = share.filter(|share| share.is_first()).map(|_| ClockOffset::default()).or(other.offset);
        let end = RunEnd {
            clock: ClockPair { tick_ns: clock.tick_ns + 11_000_000_000, unix_ns: clock.unix_ns + 11_000_000_000 },
            shard_start,
            clock_offset,
            shard_late_ns: other.late_ms * 1_000_000,
            interrupted: other.interrupted,
            rows_lost: other.rows_lost,
            ..RunEnd::default()
        };
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute("DELETE FROM run WHERE key = 'end'", []).unwrap();
        if !other.killed {
            let end = serde_json::to_string(&end).unwrap();
            database.execute("INSERT INTO run VALUES ('end', ?1)", [end]).unwrap();
        }
        if share.is_some() {
            let start = serde_json::to_string(&clock).unwrap();
            database.execute("INSERT INTO run VALUES ('shard_start', ?1)", [start]).unwrap();
        }
        for ClockExchange { sent, first_received, first_sent, received } in other.exchanges {
            let ticks = [sent, first_received, first_sent, received].map(|tick| tick.0 as i64);
            database.execute("INSERT INTO clock_exchange VALUES (?1, ?2, ?3, ?4)", ticks).unwrap();
        }
        path
    }

    /// Stores all shards; shard `i` as `others[i]` says.
    fn store_shards(&self, count: u32, others: &[Other]) -> Vec<PathBuf> {
        let shard = |index: u32| {
            let other = others.get(index as usize).cloned().unwrap_or_default();
            self.store(Share::new(index, count), other)
        };
        (0..count).map(shard).collect()
    }
}

fn merge(files: &[PathBuf], allow_missing: bool) -> Merged {
    let groups = groups(files).unwrap();
    assert_eq!(groups.len(), 1);
    groups[0].merge(allow_missing).unwrap()
}

fn evenly(count: u64) -> Vec<Request> {
    (0..count).map(|index| (index * 100, vec![20, 35, 50], false)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// One store, split by number and merged, gives the same figures to the last byte, whatever the order of the files.
    #[test]
    fn a_split_store_is_merged_to_the_same_json(requests in requests()) {
        let folder = tempfile::tempdir().unwrap();
        let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
        let whole = from_database(&call.store(None, Other::default())).unwrap();
        for count in [1, 2, 3, 7] {
            let mut files = call.store_shards(count, &[]);
            files.reverse();
            let merged = merge(&files, false).measured.summary;
            prop_assert_eq!(json::summary(&merged).to_string(), json::summary(&whole).to_string());
            prop_assert_eq!(json::percentiles(&merged).to_string(), json::percentiles(&whole).to_string());
            prop_assert_eq!(screen::render(&merged, 120), screen::render(&whole, 120));
        }
    }
}

/// Machines that were booted at other times, and whose wall clocks are wrong by seconds, in either direction: what the
/// shards found out about their clocks aligns them.
#[test]
fn wrong_wall_clocks_are_corrected() {
    let folder = tempfile::tempdir().unwrap();
    let requests = evenly(100);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let whole = from_database(&call.store(None, Other::default())).unwrap();
    for ahead_ns in [0, 5_000_000_000, -5_000_000_000] {
        let other =
            |offset| Other { ticks_later_ms: Some(700_000), wall_ahead_ns: ahead_ns, offset, ..Other::default() };
        // Known within 2 ms, and the truth is not in the middle.
        let known = ClockOffset { low_ns: -ahead_ns - 500_000, high_ns: -ahead_ns + 3_500_000 };
        let merged = merge(&call.store_shards(2, &[Other::default(), other(Some(known))]), false);
        assert!(!merged.measured.summary.is_void(), "{:?}", merged.measured.summary.findings);
        let (summary, joint) = (&merged.measured.summary, merged.joint);
        for (ends, truth) in [
            (joint.duration_s, whole.time_s),
            (joint.requests_per_s, whole.throughput.requests_per_s),
            (joint.output_tokens_per_s, whole.throughput.output_tokens_per_s),
            (joint.mean_concurrency, whole.concurrency.mean),
        ] {
            let ((low, high), truth) = (ends.unwrap(), truth.unwrap());
            assert!(low <= truth && truth <= high && high - low < 0.01 * truth, "{low} {truth} {high}");
        }
        // A request's own times need no other clock.
        assert_eq!(summary.series.ttft_s.value(990), whole.series.ttft_s.value(990));
        assert_eq!(summary.series.latency_s.value(500), whole.series.latency_s.value(500));
        assert!(merged.render(200).contains("Requests per second: "), "{}", merged.render(200));
        let (low, high) = joint.requests_per_s.unwrap();
        let page = html::page(&[html::Run::from_merged(merged).unwrap()], Language::En);
        let ends = format!("<td>Requests per second</td><td>{low:.4}</td><td>{high:.4}</td>");
        assert!(page.contains(&ends) && page.contains("All shards measured from"), "{ends}");
        clear(folder.path());
        // The same, unknown: no figure of all shards can be trusted.
        let merged = merge(&call.store_shards(2, &[Other::default(), other(None)]), false);
        let finding = Finding::ShardClocksUnknown { shards: vec![1] };
        assert!(merged.measured.summary.findings.contains(&finding) && merged.measured.summary.is_void());
        assert_eq!(merged.joint.requests_per_s, None);
        let json = merged.json();
        assert!(
            json["Joint figures"]["requests_per_s"].is_null()
                && json["Joint figures"]["all_shards_measured_s"].is_null()
        );
        assert!(json["Request throughput (req/s)"].is_null() && json["Peak concurrency"].is_null(), "{json:#}");
        clear(folder.path());
    }
}

/// Removes the databases of the shards.
fn clear(folder: &Path) {
    let shards = std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.file_name() != "whole.db");
    shards.for_each(|entry| std::fs::remove_file(entry.path()).unwrap());
}

/// The wider the interval, the less the joint figures say.
#[test]
fn vague_clocks_limit_the_joint_figures() {
    let requests = evenly(100);
    for (half_ns, severity) in
        [(1_000_000, Severity::Note), (200_000_000, Severity::Caution), (2_000_000_000, Severity::Void)]
    {
        let folder = tempfile::tempdir().unwrap();
        let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
        let offset = Some(ClockOffset { low_ns: -half_ns, high_ns: half_ns });
        let other = Other { ticks_later_ms: Some(3), offset, ..Other::default() };
        let merged = merge(&call.store_shards(2, &[Other::default(), other]), false);
        let findings = &merged.measured.summary.findings;
        let found = findings.iter().find(|finding| matches!(finding, Finding::ShardClocks { .. })).unwrap();
        assert_eq!(found.severity(), severity, "{}", found.en());
    }
}

#[test]
fn missing_and_killed_shards_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let requests = evenly(90);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let killed = Other { killed: true, ..Other::default() };
    let mut files = call.store_shards(4, &[Other::default(), Other::default(), killed]);
    files.remove(1);
    for allowed in [false, true] {
        let merged = merge(&files, allowed);
        let finding = Finding::ShardsMissing { missing: vec![1], killed: vec![], shards: 4, allowed };
        assert!(merged.measured.summary.findings.contains(&finding), "{:?}", merged.measured.summary.findings);
        assert_eq!(merged.measured.summary.is_void(), !allowed);
        assert!(finding.en().contains("shard 1 has no database"), "{}", finding.en());
        // The last request of shard 2 ended after 8.651 s; a record may be stored 250 ms later.
        let killed = Finding::ShardEnded { shard: 2, until_ns: 8_401_000_000, killed: true };
        assert!(merged.measured.summary.findings.contains(&killed), "{:?}", merged.measured.summary.findings);
        assert_eq!(merged.shards.iter().map(|row| row.index).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(merged.json()["Shards"][1]["requests"], 22);
    }
}

#[test]
fn what_is_no_single_run_is_an_error() {
    let (one, other, third) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let requests = evenly(20);
    let call = |folder, plan_hash| Call { folder, requests: &requests, plan_hash };
    let files = call(one.path(), "aa").store_shards(2, &[]);
    let error = |files: &[&PathBuf]| {
        groups(&files.iter().map(|file| (*file).clone()).collect::<Vec<_>>()).unwrap_err().to_string()
    };
    let again = call(other.path(), "aa").store_shards(2, &[]);
    let twice = error(&[&files[0], &files[1], &again[1]]);
    assert!(twice.contains("both shard 1 of one run") && twice.contains("1_2.db"), "{twice}");
    let different = call(third.path(), "bb").store_shards(2, &[]);
    let differ = error(&[&files[0], &different[1]]);
    assert!(differ.contains("sent different loads (plan aa and bb)"), "{differ}");
    let whole = call(one.path(), "aa").store(None, Other::default());
    assert!(error(&[&whole]).contains("it is no shard"));
}

/// Requests that last for 30 ms, one every 10 ms of which three are in flight: one run lasts for `count` times 10 ms.
fn dense(count: u64) -> Vec<Request> {
    (0..count).map(|index| (index * 10, vec![10, 20, 29], false)).collect()
}

/// A shard that was killed: the figures are those of all shards until its records end, and it is named with that time.
#[test]
fn a_killed_shard_ends_the_joint_figures() {
    let folder = tempfile::tempdir().unwrap();
    let requests = dense(900);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    // Half of its requests are stored.
    let killed = Other { killed: true, until_ms: Some(4_500), ..Other::default() };
    let merged = merge(&call.store_shards(3, &[Other::default(), Other::default(), killed]), false);
    let summary = &merged.measured.summary;
    assert!(!summary.is_void(), "{:?}", summary.findings);
    // It was due at 4,490 ms and ended 30 ms later.
    let until_ns = 4_270_000_000;
    let named = Finding::ShardEnded { shard: 2, until_ns, killed: true };
    assert!(summary.findings.contains(&named), "{:?}", summary.findings);
    assert!(named.en().contains("Shard 2 was killed") && named.en().contains("4.27"), "{}", named.en());
    assert!((summary.time_s.unwrap() - 4.27).abs() < 1e-9);
    // 100 requests a second for 4.24 s, and those in flight at the end.
    assert_eq!((summary.counts.ok, summary.counts.unfinished), (425, 3));
    let rate = summary.throughput.requests_per_s.unwrap();
    assert!((rate - 100.0).abs() < 1.0, "{rate}");
    assert_eq!(summary.series.itl_s.count, 2 * 425);
    assert_eq!(merged.json()["Joint figures"]["all_shards_measured_s"][1], 4.27);
    // Its gaps are those of the page and of exports as well.
    let page = html::page(&[html::Run::from_merged(merged).unwrap()], Language::En);
    assert!(page.contains("Shards") && page.contains("Clock offset"));
    for part in [
        "was the slowest: p99 send lag",
        "All shards measured from 0.0200 s to 4.270 s.",
        "At least",
        "Requests per second",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

/// A killed shard of which nothing is stored after the start proves no time.
#[test]
fn a_shard_that_was_killed_at_the_start_makes_the_run_void() {
    let folder = tempfile::tempdir().unwrap();
    let requests = dense(60);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    for (until_ms, allowed) in [(0, false), (0, true), (100, false)] {
        let killed = Other { killed: true, until_ms: Some(until_ms), ..Other::default() };
        let merged = merge(&call.store_shards(2, &[Other::default(), killed]), allowed);
        let finding = Finding::ShardsMissing { missing: vec![], killed: vec![1], shards: 2, allowed };
        assert!(merged.measured.summary.findings.contains(&finding), "{:?}", merged.measured.summary.findings);
        assert_eq!(merged.measured.summary.is_void(), !allowed);
        clear(folder.path());
    }
}

/// What was due before the last shard began counts to the warm-up.
#[test]
fn a_late_shard_begins_the_joint_figures() {
    let folder = tempfile::tempdir().unwrap();
    let requests = dense(900);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let late = Other { late_ms: 2_000, ..Other::default() };
    let merged = merge(&call.store_shards(3, &[Other::default(), late]), false);
    let summary = &merged.measured.summary;
    let named = Finding::ShardLate { shard: 1, late_ns: 2_000_000_000 };
    assert!(summary.findings.contains(&named) && !summary.is_void(), "{:?}", summary.findings);
    assert_eq!((summary.counts.scheduled, summary.counts.ok), (700, 700));
    assert!((summary.time_s.unwrap() - 7.02).abs() < 1e-9, "{:?}", summary.time_s);
    assert_eq!(summary.series.itl_s.count, 2 * 700);
    assert_eq!(summary.concurrency.peak, Some(3), "requests before it are still in flight");
    // A few milliseconds are within what machines do.
    clear(folder.path());
    let merged = merge(&call.store_shards(3, &[Other::default(), Other { late_ms: 20, ..Other::default() }]), false);
    assert_eq!(merged.measured.summary.counts.ok, 900);
}

/// One shard was interrupted, and the others went on.
#[test]
fn an_interrupted_shard_ends_the_joint_figures() {
    let folder = tempfile::tempdir().unwrap();
    let requests = dense(900);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let interrupted = Other { interrupted: true, until_ms: Some(3_000), ..Other::default() };
    let merged = merge(&call.store_shards(3, &[Other::default(), Other::default(), interrupted]), false);
    let summary = &merged.measured.summary;
    let named = Finding::ShardEnded { shard: 2, until_ns: 2_990_000_000, killed: false };
    assert!(summary.findings.contains(&named) && !summary.is_void(), "{:?}", summary.findings);
    assert!((summary.throughput.requests_per_s.unwrap() - 100.0).abs() < 2.0);
}

#[test]
fn shards_that_never_measured_together_are_void() {
    let folder = tempfile::tempdir().unwrap();
    let requests = dense(300);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let killed = Other { killed: true, until_ms: Some(1_000), ..Other::default() };
    let late = Other { late_ms: 2_000, ..Other::default() };
    let merged = merge(&call.store_shards(2, &[late, killed]), true);
    let summary = &merged.measured.summary;
    assert!(summary.findings.contains(&Finding::ShardsNeverTogether { shards: 2 }) && summary.is_void());
}

/// A closed loop whose shards do not end at about the same time.
#[test]
fn an_uneven_split_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    // The requests of shard 1 take place in half of the time.
    let due = |index: u64| if index % 2 == 1 { index * 10 } else { index * 20 };
    let requests: Vec<Request> = (0..200).map(|index| (due(index), vec![10, 20], false)).collect();
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let merged = merge(&call.store_shards(2, &[]), false);
    let findings = &merged.measured.summary.findings;
    let uneven = Finding::ShardsUneven { shard: 1, alone_ns: 1_970_000_000, span_ns: 3_981_000_000 };
    assert!(findings.contains(&uneven), "{findings:?}");
    let (from, to) = merged.joint.together_s.unwrap();
    // Its last request began at 1.99 s and ended 21 ms later: in between, a slot was idle.
    assert!((from - 0.01).abs() < 1e-9 && (to - 1.99).abs() < 1e-9, "{from} {to}");
}

/// Shards on one machine whose workers have the same cores delay each other.
#[test]
fn shards_on_the_same_cores_are_named() {
    let requests = evenly(60);
    // Cores of each shard, and whether it has a machine of its own.
    let found = |shards: [(&[u16], bool); 3]| {
        let folder = tempfile::tempdir().unwrap();
        let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
        let others = shards.map(|(cores, apart)| Other {
            cores: cores.to_vec(),
            ticks_later_ms: apart.then_some(3),
            offset: apart.then_some(ClockOffset::default()),
            ..Other::default()
        });
        let findings = merge(&call.store_shards(3, &others), false).measured.summary.findings;
        findings.into_iter().filter(|finding| matches!(finding, Finding::ShardsShareCores { .. })).collect::<Vec<_>>()
    };
    let shared = Finding::ShardsShareCores { shards: vec![0, 2], cores: vec![1] };
    assert_eq!(found([(&[0, 1], false), (&[2, 3], false), (&[1, 4], false)]), [shared]);
    let all = Finding::ShardsShareCores { shards: vec![0, 1, 2], cores: vec![5, 6] };
    assert_eq!(found([(&[5, 6], false), (&[5, 9], false), (&[6, 7], false)]), [all]);
    assert_eq!(found([(&[0], false), (&[1], false), (&[2], false)]), []);
    assert_eq!(found([(&[0, 1], false), (&[0, 1], true), (&[0, 1], true)]), [], "other machines have other cores");
}

/// The machine of one shard sends later than the others by far.
#[test]
fn a_slow_shard_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let requests = evenly(60);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let slow_by = |lags_ms: [u64; 3]| {
        let folder = tempfile::tempdir_in(call.folder).unwrap();
        let call = Call { folder: folder.path(), ..call };
        let merged = merge(&call.store_shards(3, &lags_ms.map(|lag_ms| Other { lag_ms, ..Other::default() })), false);
        let largest_ms = *lags_ms.iter().max().unwrap();
        let slowest = merged.json()["Slowest shard"].clone();
        assert_eq!(slowest["send_lag_p99_ns"], largest_ms * 1_000_000);
        assert_eq!(lags_ms[slowest["shard"].as_u64().unwrap() as usize], largest_ms);
        let mut findings = merged.measured.summary.findings.into_iter();
        findings.find(|finding| matches!(finding, Finding::ShardSlow { .. }))
    };
    let slow = Finding::ShardSlow { shard: 1, send_lag_p99_ns: 8_000_000, others_p99_ns: 1_000_000 };
    assert_eq!(slow_by([1, 8, 2]), Some(slow));
    assert_eq!(slow_by([2, 7, 2]), None, "less than four times the others");
    assert_eq!(slow_by([5, 5, 5]), None);
}

/// The disk of one shard became full: the figures are those until then, it is named, and the run is void.
#[test]
fn a_shard_that_could_not_store_its_requests_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let requests = dense(900);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let full = Other { rows_lost: 150, until_ms: Some(4_500), ..Other::default() };
    let merged = merge(&call.store_shards(3, &[full]), false);
    let findings = &merged.measured.summary.findings;
    // Its last stored request was due at 4,500 ms and ended 30 ms later.
    let named = Finding::ShardRowsLost { shard: 0, requests: 150, until_ns: 4_280_000_000 };
    assert!(findings.contains(&named) && findings.contains(&Finding::RowsLost { requests: 150 }), "{findings:?}");
    assert!(merged.measured.summary.is_void());
    assert!(merged.measured.samples.last().unwrap().due <= at(4_280).0);
}

/// Two processes that nothing coordinated: with the same seed and salt they sent the same prompts twice.
#[test]
fn runs_at_the_same_time_with_the_same_prompts_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, seed: u64, salt: u64, distinct_prompts: bool| {
        let mut block = Block::new(0);
        (0..20).for_each(|index| push_ok(&mut block, index, index * 100, &[20, 35]));
        let facts = RunFacts { seed, salt, distinct_prompts, ..closed(20, 4) };
        let path = folder.path().join(name);
        collect(&path, start(facts, Save::Text), vec![CollectorMessage::Block(block)]);
        path
    };
    let found = |other: PathBuf| {
        let runs = [run("first.db", 1, 7, true), other].map(|path| measured(&path).unwrap());
        std::fs::remove_file(folder.path().join("first.db")).unwrap();
        assert!(are_shards(&runs));
        same_prompts(&runs)
    };
    assert_eq!(found(run("same.db", 1, 7, true)), Some(Finding::ShardsSamePrompts { shards: 2 }));
    assert_eq!(found(run("seed.db", 2, 7, true)), None);
    assert_eq!(found(run("salt.db", 1, 8, true)), None);
}

/// Whatever the clocks in a file show, the exchanges of packets align it.
#[test]
fn forged_clocks_are_recovered_from_exchanges() {
    let folder = tempfile::tempdir().unwrap();
    let requests = evenly(100);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let whole = from_database(&call.store(None, Other::default())).unwrap();
    const LATER_MS: u64 = 700_000;
    // Exchanges of 200 µs there and 300 µs back, once a second, by two clocks that drift apart by 20 ppm.
    let exchange = |second: u64| {
        let sent = at(LATER_MS + second * 1000);
        let on_first = |ns: u64| at(second * 1000).plus_ns(ns + second * 20_000);
        ClockExchange {
            sent,
            first_received: on_first(200_000),
            first_sent: on_first(210_000),
            received: sent.plus_ns(510_000),
        }
    };
    let exchanges: Vec<ClockExchange> = (0..12).map(exchange).collect();
    for ahead_ns in [0, 5_000_000_000, -5_000_000_000] {
        for killed in [false, true] {
            let other = Other {
                ticks_later_ms: Some(LATER_MS),
                wall_ahead_ns: ahead_ns,
                exchanges: exchanges.clone(),
                killed,
                ..Other::default()
            };
            let merged = merge(&call.store_shards(2, &[Other::default(), other]), false);
            let summary = &merged.measured.summary;
            assert!(!summary.is_void(), "{:?}", summary.findings);
            let ((low, high), truth) = (merged.joint.requests_per_s.unwrap(), whole.throughput.requests_per_s.unwrap());
            // A killed shard ends the figures earlier, not the rate.
            let slack = if killed { 0.05 * truth } else { 0.0 };
            assert!(
                low - slack <= truth && truth <= high + slack && high - low < 0.002 * truth,
                "{low} {truth} {high}"
            );
            let row = &merged.shards[1];
            let offset = row.alignment.offset.unwrap();
            assert!(offset.low_ns <= -ahead_ns && -ahead_ns <= offset.high_ns, "{offset:?} {ahead_ns}");
            assert!(row.alignment.error_ns.unwrap() < 1_000_000, "{:?}", row.alignment);
            clear(folder.path());
        }
    }
    // One of the clocks jumps.
    let mut jumped = exchanges;
    jumped.iter_mut().skip(6).for_each(|exchange| {
        exchange.first_received = exchange.first_received.plus_ns(50_000_000);
        exchange.first_sent = exchange.first_sent.plus_ns(50_000_000);
    });
    let other = Other { ticks_later_ms: Some(LATER_MS), exchanges: jumped, ..Other::default() };
    let merged = merge(&call.store_shards(2, &[Other::default(), other]), false);
    let findings = &merged.measured.summary.findings;
    let jump = findings.iter().find(|finding| matches!(finding, Finding::ShardClockJumped { shard: 1, .. }));
    assert!(jump.is_some() && merged.measured.summary.is_void(), "{findings:?}");
    assert!(findings.contains(&Finding::ShardClocksUnknown { shards: vec![1] }));
}

/// Files for other tools are those of one process.
#[test]
fn exports_of_a_split_store_are_those_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let requests = evenly(37);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let whole = call.store(None, Other::default());
    let shards = folder.path().join("shards");
    std::fs::create_dir(&shards).unwrap();
    let split = Call { folder: &shards, ..call };
    let files = split.store_shards(3, &[]);
    let write = |command: &str, input: &[PathBuf], name: &str| {
        let out = folder.path().join(name);
        std::fs::create_dir(&out).unwrap();
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_ringmark"));
        program.arg(command).args(input).arg("--csv").arg(out.join("a.csv"));
        for (format, file) in [("vllm", "v.json"), ("llmd", "l.json"), ("aiperf", "a.jsonl"), ("evalscope", "e")] {
            program.arg("--export").arg(format!("{format}={}", out.join(file).display()));
        }
        let output = program.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        out
    };
    let (one, merged) = (write("report", &[whole], "one"), write("merge", &files, "merged"));
    let read = |folder: &Path, file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    for file in ["a.csv", "v.json"] {
        assert_eq!(read(&merged, file), read(&one, file), "{file}");
    }
    assert_eq!(read(&merged, "a.jsonl").lines().count(), 37);
    assert!(read(&merged, "l.json").contains("\"total\": 37"));
    let rows = |folder: &Path| -> (i64, f64) {
        let run = std::fs::read_dir(folder.join("e")).unwrap().next().unwrap().unwrap().path();
        let database = rusqlite::Connection::open(run.join("benchmark_data.db")).unwrap();
        let sql = "SELECT count(DISTINCT request_id), sum(start_time) FROM result";
        database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    assert_eq!((rows(&merged).0, rows(&merged).1.round()), (37, rows(&one).1.round()));
}

#[test]
fn requests_of_another_shard_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let requests = evenly(20);
    let call = Call { folder: folder.path(), requests: &requests, plan_hash: "aa" };
    let files = call.store_shards(2, &[]);
    let database = rusqlite::Connection::open(&files[1]).unwrap();
    database.execute("UPDATE request SET idx = 4 WHERE idx = 5", []).unwrap();
    let error = groups(&files).unwrap()[0].merge(false).unwrap_err().to_string();
    assert!(error.contains("1_2.db: it is shard 1/2 but has request 4"), "{error}");
}
