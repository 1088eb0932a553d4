//! Shards of one load as processes: together they send what one process sends, and none measures alone when another is
//! missing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ringmark::mock::{Config, Mock};
use ringmark::record::facts::{RunEnd, RunFacts};
use rusqlite::{Connection, OpenFlags};

const TOKEN: &str = "0123456789abcdef";

fn mock(query: &str) -> Mock {
    Mock::start(&Config::from_query(query).unwrap(), &[], SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
}

/// A call of `ringmark perf` against the mock, with its results in `folder`.
fn perf(mock: &Mock, folder: &Path, flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.args(["perf", "--model", "mock", "--quiet", "--outputs-dir"]).arg(folder);
    if !flags.contains("--url") {
        command.arg("--url").arg(format!("http://{}/v1/chat/completions", mock.addr()));
    }
    command.args(flags.split_whitespace());
    command.env("RINGMARK_JOB_TOKEN", TOKEN).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn dir(folder: &Path) -> String {
    format!("--rendezvous dir:{}", folder.join("meet").display())
}

fn tcp() -> String {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    format!("--rendezvous tcp:127.0.0.1:{port}")
}

/// Starts all shards of a call.
fn start(mock: &Mock, folder: &Path, count: u32, flags: &str) -> Vec<Child> {
    let results = folder.join("results");
    let shard = |index| perf(mock, &results, &format!("{flags} --shard {index}/{count}")).spawn().unwrap();
    (0..count).map(shard).collect()
}

fn ends(shards: Vec<Child>) -> Vec<Output> {
    shards.into_iter().map(|shard| shard.wait_with_output().unwrap()).collect()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// On a busy machine a run may be void, but it has its database.
fn assert_measured(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}{}", error(output));
}

fn databases(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            // The link to the latest results.
            path if path.is_symlink() => {}
            path if path.is_dir() => found.extend(databases(&path)),
            path if path.ends_with("benchmark_data.db") => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

/// A request: its body, and its due time.
type Requests = BTreeMap<(String, i64), (String, i64)>;

struct Stored {
    facts: RunFacts,
    end: RunEnd,
    requests: Requests,
}

fn read(path: &Path) -> Stored {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let value = |key: &str| -> String {
        database.query_row("SELECT value FROM run WHERE key = ?1", [key], |row| row.get(0)).unwrap()
    };
    let sql = "SELECT phase, idx, json, due_ns FROM request LEFT JOIN body ON body.id = body_id";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement
        .query_map([], |row| {
            Ok(((row.get(0)?, row.get(1)?), (row.get::<_, Option<String>>(2)?.unwrap_or_default(), row.get(3)?)))
        })
        .unwrap();
    Stored {
        facts: serde_json::from_str(&value("facts")).unwrap(),
        end: serde_json::from_str(&value("end")).unwrap(),
        requests: rows.collect::<Result<_, _>>().unwrap(),
    }
}

/// The requests of all shards, with due times from the start on. Each has only its own.
fn union(stored: &[Stored]) -> Requests {
    let mut all = Requests::new();
    for shard in stored {
        let share = shard.facts.shard.clone().unwrap().share;
        let start = shard.end.shard_start.unwrap().tick_ns as i64;
        for ((phase, index), (body, due)) in &shard.requests {
            let number = if shard.facts.conversations.is_some() { None } else { Some(*index as u64) };
            assert!(number.is_none_or(|number| share.contains(number)), "{phase} {index} of {share}");
            assert!(
                all.insert((phase.clone(), *index), (body.clone(), due - start)).is_none(),
                "{phase} {index} twice"
            );
        }
    }
    all
}

/// A body without the answers of the mock, which are not the same in each run.
fn without_answers(body: &str) -> serde_json::Value {
    let mut body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["messages"].as_array_mut().unwrap().retain(|message| message["role"] != "assistant");
    body
}

/// The figures of the merged run.
fn merge(results: &Path) -> serde_json::Value {
    let file = results.join("merged.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    let output = command.arg("merge").arg(results).arg("--json").arg(&file).output().unwrap();
    assert_measured(&output);
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap()
}

/// Runs a call as one process and as shards, and compares the requests; `scheduled`: also their due times.
fn compare(counts: &[u32], flags: &str, rendezvous: impl Fn(&Path) -> String, scheduled: bool) {
    let mock = mock("ttft=1ms&itl=1ms&tokens=3");
    let folder = tempfile::tempdir().unwrap();
    let whole = perf(&mock, &folder.path().join("whole"), flags).output().unwrap();
    assert_measured(&whole);
    let whole = read(&databases(&folder.path().join("whole"))[0]).requests;
    for &count in counts {
        let folder = tempfile::tempdir().unwrap();
        let flags = format!("{flags} {}", rendezvous(folder.path()));
        for output in ends(start(&mock, folder.path(), count, &flags)) {
            assert_measured(&output);
        }
        let stored: Vec<Stored> = databases(&folder.path().join("results")).iter().map(|path| read(path)).collect();
        assert_eq!(stored.len(), count as usize);
        // The link is to the folder of the call, with all shards.
        assert_eq!(databases(&folder.path().join("results/latest")).len(), count as usize);
        let merged = merge(&folder.path().join("results"));
        assert!(merged["Percentiles"][2]["TTFT (s)"].is_f64(), "{}", merged["Percentiles"]);
        assert_eq!(merged["Shards"].as_array().unwrap().len(), count as usize);
        let rate = &merged["Joint figures"]["requests_per_s"];
        assert!(rate[0].is_f64() && rate[0] == rate[1], "all shards have one clock: {rate}");
        let shards: Vec<_> = stored.iter().map(|stored| stored.facts.shard.clone().unwrap()).collect();
        assert!(
            shards.iter().all(|shard| shard.plan_hash == shards[0].plan_hash && shard.call_id == shards[0].call_id)
        );
        let parts: u64 = stored.iter().filter_map(|stored| stored.facts.requests).sum();
        assert_eq!(Some(parts), shards[0].requests);
        let all = union(&stored);
        assert!(all.keys().eq(whole.keys()), "{count} shards sent {:?}, one process {:?}", all.keys(), whole.keys());
        let first = |all: &Requests| all.values().map(|(_, due)| *due).min().unwrap();
        let (begins, whole_begins) = (first(&all), first(&whole));
        for (place, (body, due)) in &all {
            let (same_body, same_due) = &whole[place];
            assert_eq!(without_answers(body), without_answers(same_body), "{place:?}");
            if scheduled {
                assert_eq!(due - begins, same_due - whole_begins, "{place:?}");
            }
        }
        assert!(
            !folder.path().join("meet").exists() || std::fs::read_dir(folder.path().join("meet")).unwrap().count() == 0
        );
    }
}

#[test]
fn an_open_loop_is_shared_exactly() {
    let flags =
        "--open-loop --rate 400 -n 43 --warmup-num 5 --ramp 0.05 --max-tokens 2 9 --data-seed 4 --no-test-connection";
    compare(&[1, 3, 7], flags, dir, true);
}

#[test]
fn a_closed_loop_is_shared_exactly() {
    compare(&[2], "--parallel 5 -n 31 --warmup-num 3 --max-tokens 2 9", |_| tcp(), false);
}

#[test]
fn a_paced_loop_is_shared_exactly() {
    compare(&[3], "--parallel 7 --rate 300 -n 40 --arrival gamma:2", |_| tcp(), true);
}

#[test]
fn conversations_are_shared_exactly() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = |n: usize| format!("{:?}\n", (0..=n % 3).map(|turn| format!("c{n} t{turn}")).collect::<Vec<_>>());
    std::fs::write(file.path(), (0..9).map(line).collect::<String>()).unwrap();
    let flags = format!(
        "--multi-turn --dataset custom_multi_turn --dataset-path {} --parallel 4 -n 17 --warmup-num 2",
        file.path().display()
    );
    compare(&[3], &flags, |_| tcp(), false);
}

/// A run that only its duration ends: no number is sent twice, and none below the last one is left out.
#[test]
fn a_duration_is_shared() {
    let (mock, folder) = (mock("ttft=1ms&itl=1ms&tokens=3"), tempfile::tempdir().unwrap());
    let flags = format!("--open-loop --rate 300 --duration 0.5 {}", tcp());
    for output in ends(start(&mock, folder.path(), 3, &flags)) {
        assert_measured(&output);
    }
    let stored: Vec<Stored> = databases(&folder.path().join("results")).iter().map(|path| read(path)).collect();
    let all = union(&stored);
    let indices: Vec<i64> = all.keys().map(|(_, index)| *index).collect();
    assert!(!indices.is_empty() && indices == (0..indices.len() as i64).collect::<Vec<_>>(), "{indices:?}");
}

/// Two loads, twice each: every run has its own start.
#[test]
fn sweeps_and_repetitions_meet_for_each_run() {
    let (mock, folder) = (mock("ttft=1ms&itl=1ms&tokens=3"), tempfile::tempdir().unwrap());
    let flags = format!("--parallel 2 4 -n 8 --repeat 2 --sleep-interval 0 {}", tcp());
    for output in ends(start(&mock, folder.path(), 2, &flags)) {
        assert_measured(&output);
    }
    let stored: Vec<Stored> = databases(&folder.path().join("results")).iter().map(|path| read(path)).collect();
    assert_eq!(stored.len(), 8);
    for run in 1..=4 {
        let starts: Vec<i64> = stored
            .iter()
            .filter(|stored| stored.facts.run == run)
            .map(|stored| stored.end.shard_start.unwrap().unix_ns)
            .collect();
        assert!(starts.len() == 2 && starts[0] == starts[1], "{starts:?}");
    }
}

/// Asserts that a call ended without a measurement, with this text on every shard.
fn assert_refused(outputs: &[Output], folder: &Path, words: &[&str]) {
    for output in outputs {
        let text = error(output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }
    let results = folder.join("results");
    let left: Vec<PathBuf> =
        std::fs::read_dir(&results).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn shards_with_different_requests_do_not_start() {
    let (mock, folder) = (mock(""), tempfile::tempdir().unwrap());
    let results = folder.path().join("results");
    let (one, other) = (folder.path().join("a.txt"), folder.path().join("b.txt"));
    std::fs::write(&one, "first prompt\nsecond prompt\n").unwrap();
    std::fs::write(&other, "first prompt\nsecond prompt.\n").unwrap();
    for flags in [
        [
            format!("--dataset line_by_line --dataset-path {}", one.display()),
            format!("--dataset line_by_line --dataset-path {}", other.display()),
        ],
        ["--max-tokens 5".to_string(), "--max-tokens 6".to_string()],
        ["--open-loop --rate 50".to_string(), "--open-loop --rate 50 --data-seed 3".to_string()],
    ] {
        let meet = tcp();
        let shards = [0, 1].map(|index: u32| {
            let flags = format!("-n 8 --parallel 2 {} {meet} --shard {index}/2", flags[index as usize]);
            perf(&mock, &results, &flags).spawn().unwrap()
        });
        assert_refused(&ends(shards.into()), folder.path(), &["shard 1 has another plan", "same flags"]);
    }
}

#[test]
fn a_shard_that_fails_before_the_start_is_named_by_all() {
    let (mock, folder) = (mock(""), tempfile::tempdir().unwrap());
    let results = folder.path().join("results");
    let meet = tcp();
    let data = folder.path().join("a.txt");
    std::fs::write(&data, "a prompt\n").unwrap();
    let flags = |path: &Path, index: u32| {
        format!("-n 8 --parallel 2 --dataset line_by_line --dataset-path {} {meet} --shard {index}/2", path.display())
    };
    let missing = folder.path().join("missing.txt");
    let shards =
        [(&data, 0), (&missing, 1)].map(|(path, index)| perf(&mock, &results, &flags(path, index)).spawn().unwrap());
    assert_refused(&ends(shards.into()), folder.path(), &["missing.txt"]);
}

/// Killed while it waits for the others.
#[test]
fn a_killed_shard_is_named() {
    let (mock, folder) = (mock(""), tempfile::tempdir().unwrap());
    let meet = tcp();
    let flags = format!("-n 9 --parallel 3 {meet} --rendezvous-timeout 20");
    let results = folder.path().join("results");
    let spawn = |index: u32| perf(&mock, &results, &format!("{flags} --shard {index}/3")).spawn().unwrap();
    let (first, mut second) = (spawn(0), spawn(1));
    // By then it has greeted shard 0, or not: either way it is missing.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    second.kill().unwrap();
    second.wait().unwrap();
    let third = spawn(2);
    assert_refused(&ends(vec![first, third]), folder.path(), &["shard 1"]);
}

#[test]
fn what_shards_cannot_do_is_refused_with_one_line() {
    let (mock, folder) = (mock(""), tempfile::tempdir().unwrap());
    for (flags, word) in [
        ("--shard 0/2 --parallel 2", "--shard needs a rendezvous"),
        ("--shard auto --rendezvous dir:x --parallel 2", "--shard auto: none of"),
        ("--shard 0/4 --rendezvous dir:x --parallel 3", "4 shards cannot share --parallel 3"),
        ("--shard 0/4 --rendezvous dir:x --parallel 4 -n 3", "4 shards cannot share --number 3"),
        ("--shard 0/2 --rendezvous dir:x --parallel 2 --url mock:", "--url mock:"),
        ("--shard 0/2 --rendezvous dir:x --parallel 2 --visualizer wandb", "visualizer"),
        ("--shard 0/2 --rendezvous dir:x --sla-auto-tune --sla-params [{\"p99_ttft\":\"<=2\"}]", "--sla-auto-tune"),
        ("--shard 0/2 --rendezvous at:2200-01-01T00:00:00Z --parallel 2", "needs --data-seed"),
        ("--shard 0/2 --rendezvous at:2200-01-01T00:00:00Z --parallel 2 4 --data-seed 1", "several runs"),
        (
            "--shard 0/2 --rendezvous at:2001-01-01T00:00:00Z --parallel 2 --data-seed 1 -n 4",
            "was not ready at the start",
        ),
        ("--rendezvous pmi", "add --shard"),
    ] {
        let mut command = perf(&mock, &folder.path().join("results"), flags);
        for name in ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "JOB_COMPLETION_INDEX", "PMI_FD"]
        {
            command.env_remove(name);
        }
        let output = command.current_dir(folder.path()).output().unwrap();
        let text = error(&output);
        assert_eq!(output.status.code(), Some(2), "{flags}: {text}");
        assert!(
            text.contains(word) && text.lines().filter(|line| line.starts_with("error")).count() == 1,
            "{flags}: {text}"
        );
    }
    assert!(!folder.path().join("x").exists());
}
