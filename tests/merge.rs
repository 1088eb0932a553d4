//! Shards merged into one run: the figures are those of one process, and what is missing or uncertain is said.

mod records;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use records::{closed, collect, push_failed, push_ok, report, start};
use ringmark::plan::Save;
use ringmark::record::facts::{ClockOffset, RunEnd, RunFacts, ShardFacts};
use ringmark::record::share::Share;
use ringmark::record::{Block, CollectorMessage, Failure, Outcome, Phase};
use ringmark::report::merge::{Merged, groups};
use ringmark::report::{from_database, json, screen};
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
#[derive(Clone, Copy, Default)]
struct Other {
    /// Its own kernel, whose ticks are later by so much, milliseconds.
    ticks_later_ms: Option<u64>,
    /// Its wall clock is ahead by so much.
    wall_ahead_ns: i64,
    /// What it found out about that.
    offset: Option<ClockOffset>,
    killed: bool,
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
                true => push_failed(&mut block, index, due + later_ms, Outcome::Failed(Failure::Status), "busy"),
                false => push_ok(&mut block, index, due + later_ms, tokens),
            }
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
        collect(&path, start, messages);
        let shard_start = share.map(|_| clock);
        let clock_offset = share.filter(|share| share.is_first()).map(|_| ClockOffset::default()).or(other.offset);
        let end = RunEnd { clock, shard_start, clock_offset, ..RunEnd::default() };
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute("DELETE FROM run WHERE key = 'end'", []).unwrap();
        if !other.killed {
            let end = serde_json::to_string(&end).unwrap();
            database.execute("INSERT INTO run VALUES ('end', ?1)", [end]).unwrap();
        }
        path
    }

    /// Stores all shards; shard `i` as `others[i]` says.
    fn store_shards(&self, count: u32, others: &[Other]) -> Vec<PathBuf> {
        let shard = |index: u32| {
            let other = others.get(index as usize).copied().unwrap_or_default();
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
        let other = |offset| Other { ticks_later_ms: Some(700_000), wall_ahead_ns: ahead_ns, offset, killed: false };
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
        clear(folder.path());
        // The same, unknown: no figure of all shards can be trusted.
        let merged = merge(&call.store_shards(2, &[Other::default(), other(None)]), false);
        let finding = Finding::ShardClocksUnknown { shards: vec![1] };
        assert!(merged.measured.summary.findings.contains(&finding) && merged.measured.summary.is_void());
        assert_eq!(merged.joint.requests_per_s, None);
        assert!(merged.json()["Joint figures"]["requests_per_s"].is_null());
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
        let other = Other { ticks_later_ms: Some(3), wall_ahead_ns: 0, offset, killed: false };
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
        let finding = Finding::ShardsMissing { missing: vec![1], killed: vec![2], shards: 4, allowed };
        assert!(merged.measured.summary.findings.contains(&finding), "{:?}", merged.measured.summary.findings);
        assert_eq!(merged.measured.summary.is_void(), !allowed);
        assert!(finding.en().contains("shard 1 has no database, and shard 2 was killed"), "{}", finding.en());
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
