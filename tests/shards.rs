//! Shards of one load as processes: together they send what one process sends, and none measures alone when another is
//! missing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

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

#[test]
fn a_trace_is_shared_exactly() {
    let rows = |n: usize| {
        let (at, length) = (n * 13 % 7 + n * 9, 20 + n % 5 * 16);
        format!(
            "{{\"timestamp\": {at}, \"input_length\": {length}, \"output_length\": {}, \"hash_ids\": [{}]}}\n",
            2 + n % 3,
            n % 4
        )
    };
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    std::fs::write(file.path(), (0..25).map(rows).collect::<String>()).unwrap();
    // A tokenizer of thirty words.
    let tokenizer = tempfile::tempdir().unwrap();
    let words: BTreeMap<String, usize> = (0..30).map(|n| (format!("word{n}"), n)).collect();
    let model = serde_json::json!({"type": "WordLevel", "vocab": words, "unk_token": "word0"});
    let text = serde_json::json!({"model": model, "pre_tokenizer": {"type": "Whitespace"}}).to_string();
    std::fs::write(tokenizer.path().join("tokenizer.json"), text).unwrap();
    let flags = format!(
        "--dataset trace --dataset-path {} --tokenizer-path {} --open-loop --data-seed 3 --salt 5",
        file.path().display(),
        tokenizer.path().display()
    );
    compare(&[3], &flags, dir, true);
}

/// Shard 0 alone has the witness and reads the server's metrics; both are those of the merged run.
#[test]
fn witness_and_server_metrics_are_kept() {
    let (mock, folder) = (mock("ttft=2ms&itl=1ms&tokens=4"), tempfile::tempdir().unwrap());
    let flags = format!("--parallel 4 -n 90 --witness 1 --server-metrics {}", tcp());
    for output in ends(start(&mock, folder.path(), 3, &flags)) {
        assert_measured(&output);
    }
    let merged = merge(&folder.path().join("results"));
    let server = &merged["server"];
    let requests = server["counts"].as_array().unwrap().iter().find(|count| count["name"] == "Requests").unwrap();
    // The metrics of the server cover the requests of all shards and those of the witness, of which the last may be cut off.
    let (served, sent) = (requests["server"].as_u64().unwrap(), requests["client"].as_u64().unwrap());
    assert!(served > 90 && served.abs_diff(sent) <= 1, "{server:#}");
    assert!(merged["Witness"]["requests"].as_u64().unwrap() > 0, "{:#}", merged["Witness"]);
    let witnesses: Vec<bool> =
        databases(&folder.path().join("results")).iter().map(|path| read(path).facts.witness > 0).collect();
    assert_eq!(witnesses, [true, false, false]);
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

/// The rows of a table of a database.
fn count(path: &Path, table: &str) -> i64 {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Shards compare their clocks before, during and after the run, where shard 0 has an address. Here they have one clock.
#[test]
fn clocks_are_compared_during_the_run() {
    for with_tcp in [false, true] {
        let (mock, folder) = (mock("ttft=1ms&itl=1ms&tokens=3"), tempfile::tempdir().unwrap());
        let meet = if with_tcp { tcp() } else { format!("{} --shard-address 127.0.0.1", dir(folder.path())) };
        let flags = format!("--open-loop --rate 50 --duration 1.5 {meet}");
        for output in ends(start(&mock, folder.path(), 2, &flags)) {
            assert_measured(&output);
        }
        let found = databases(&folder.path().join("results"));
        assert_eq!(count(&found[0], "clock_exchange"), 0, "shard 0 has the clock that the other is compared with");
        // Every 20 ms before the start, every second from then on, and 20 at the end.
        let exchanges = count(&found[1], "clock_exchange");
        assert!((22..400).contains(&exchanges), "{exchanges}");
        let merged = merge(&folder.path().join("results"));
        let offset = &merged["Shards"][1]["clock_offset_ns"];
        let (low, high) = (offset[0].as_i64().unwrap(), offset[1].as_i64().unwrap());
        assert!(low <= 0 && 0 <= high && high - low < 1_000_000_000, "{offset}");
        assert_eq!(merged["Shards"][1]["clock_error_ns"], 0, "it is one clock");
        let latest = std::fs::read_link(folder.path().join("results/latest")).unwrap();
        assert_eq!(
            Some(latest.as_path()),
            found[0].parent().unwrap().parent().unwrap().parent().unwrap().file_name().map(Path::new)
        );
    }
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// Waits until a run has stored requests.
fn wait_for_requests(results: &Path, shards: usize) {
    let has_requests = |path: &PathBuf| {
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let counted = database
            .and_then(|database| database.query_row("SELECT count(*) FROM request", [], |row| row.get::<_, i64>(0)));
        counted.is_ok_and(|count| count > 0)
    };
    while databases(results).iter().filter(|path| has_requests(path)).count() < shards {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Killed in the middle of a run: the others finish, and the merge names it with its time.
#[test]
fn a_shard_that_is_killed_during_the_run_ends_the_joint_figures() {
    let (mock, folder) = (mock("ttft=1ms&itl=1ms&tokens=3"), tempfile::tempdir().unwrap());
    let flags = format!("--open-loop --rate 300 --duration 4 --workers 1 {}", tcp());
    let mut shards = start(&mock, folder.path(), 3, &flags);
    let results = folder.path().join("results");
    wait_for_requests(&results, 3);
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    shards[1].kill().unwrap();
    let outputs = ends(shards);
    assert!(outputs[1].status.code().is_none());
    [&outputs[0], &outputs[2]].into_iter().for_each(assert_measured);
    let merged = merge(&results);
    let found = merged["Findings"].as_array().unwrap();
    let ended = found.iter().find(|finding| finding["kind"] == "shard_ended").unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!((&ended["shard"], &ended["killed"]), (&1.into(), &true.into()));
    let until_s = ended["until_ns"].as_f64().unwrap() / 1e9;
    let window = &merged["Joint figures"]["all_shards_measured_s"];
    assert!(window[1].as_f64().unwrap() <= until_s && until_s < 4.0, "{window} {until_s}");
}

/// A limit on the size of files stands for a full disk on the machine of one shard: the others finish, and the merge names
/// it.
#[test]
fn a_shard_whose_disk_is_full_is_named() {
    let (mock, folder) = (mock("ttft=1ms&itl=1ms&tokens=3"), tempfile::tempdir().unwrap());
    let flags = format!("--open-loop --rate 1000 --duration 4 --workers 1 {}", tcp());
    let results = folder.path().join("results");
    let first = perf(&mock, &results, &format!("{flags} --shard 0/2"));
    let second = perf(&mock, &results, &format!("{flags} --shard 1/2"));
    let mut limited = Command::new("bash");
    limited.args(["-c", "ulimit -f 400; exec \"$0\" \"$@\""]).arg(second.get_program()).args(second.get_args());
    limited.env("RINGMARK_JOB_TOKEN", TOKEN).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let outputs = ends([first, limited].map(|mut command| command.spawn().unwrap()).into());
    assert_measured(&outputs[0]);
    let text = error(&outputs[1]);
    assert!(text.contains("the run continues, but further requests are not stored"), "{text}");
    let merged = merge(&results);
    let found = merged["Findings"].as_array().unwrap();
    // Its end may have found room, or not.
    let kinds = ["shard_rows_lost", "shard_ended"];
    let is_named = |finding: &&serde_json::Value| kinds.iter().any(|kind| finding["kind"] == *kind);
    let named = found.iter().find(is_named).unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(named["shard"], 1, "{named}");
    let until_s = named["until_ns"].as_f64().unwrap() / 1e9;
    let window = &merged["Joint figures"]["all_shards_measured_s"];
    assert!(window[1].as_f64().unwrap() <= until_s, "{window} {until_s}");
}

/// Stopped before the start and continued after it: it begins late, which the merge names.
#[test]
fn a_shard_that_begins_late_is_named() {
    let (mock, folder) = (mock("ttft=1ms&itl=1ms&tokens=3"), tempfile::tempdir().unwrap());
    let flags = format!("--parallel 4 --duration 4 {} --shard-address 127.0.0.1", tcp());
    let shards = start(&mock, folder.path(), 2, &flags);
    let results = folder.path().join("results");
    // The start that all have agreed on is stored a second before it.
    let is_agreed = |path: &PathBuf| {
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let sql = "SELECT count(*) FROM run WHERE key = 'shard_start'";
        let found = database.and_then(|database| database.query_row(sql, [], |row| row.get::<_, i64>(0)));
        found.is_ok_and(|count| count > 0)
    };
    while databases(&results).iter().filter(|path| is_agreed(path)).count() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal(&shards[1], rustix::process::Signal::STOP);
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    signal(&shards[1], rustix::process::Signal::CONT);
    for output in ends(shards) {
        assert_measured(&output);
    }
    let merged = merge(&results);
    let found = merged["Findings"].as_array().unwrap();
    let late = found.iter().find(|finding| finding["kind"] == "shard_late").unwrap_or_else(|| panic!("{found:?}"));
    let late_ns = late["late_ns"].as_u64().unwrap();
    assert!(late["shard"] == 1 && late_ns > 500_000_000, "{late}");
    assert_eq!(merged["Shards"][1]["late_ns"], late_ns);
    assert!(merged["Joint figures"]["all_shards_measured_s"][0].as_f64().is_some());
}

/// A stopped shard that does not come in time: every other one names it, and nothing is left.
#[test]
fn a_stopped_shard_before_the_start_ends_the_call_of_all() {
    for meet in [tcp as fn() -> String, || String::new()] {
        let (mock, folder) = (mock(""), tempfile::tempdir().unwrap());
        let meet = match meet() {
            none if none.is_empty() => dir(folder.path()),
            meet => meet,
        };
        let results = folder.path().join("results");
        let data = folder.path().join("pipe");
        // It waits for its prompts for ever, as a process does that is stopped.
        assert!(Command::new("mkfifo").arg(&data).status().unwrap().success());
        let prompts = folder.path().join("a.txt");
        std::fs::write(&prompts, "a prompt\n").unwrap();
        let flags = |path: &Path, index: u32| {
            format!(
                "-n 9 --parallel 3 --dataset line_by_line --dataset-path {} {meet} --rendezvous-timeout 5 --shard {index}/3",
                path.display()
            )
        };
        let spawn = |path: &Path, index| perf(&mock, &results, &flags(path, index)).spawn().unwrap();
        let (first, third) = (spawn(&prompts, 0), spawn(&prompts, 2));
        let mut stuck = spawn(&data, 1);
        let outputs = ends(vec![first, third]);
        stuck.kill().unwrap();
        stuck.wait().unwrap();
        for output in &outputs {
            let text = error(output);
            assert_eq!(output.status.code(), Some(2), "{text}");
            assert!(text.contains("shard 1") && text.contains("--rendezvous-timeout"), "{text}");
        }
        assert_eq!(databases(&results), [] as [PathBuf; 0]);
    }
}

/// A relay to `target` that forwards connections until it is cut.
struct Relay {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn start(target: u16) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let kept = open.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // Shard 0 may not listen yet.
                let far = loop {
                    match TcpStream::connect((Ipv4Addr::LOCALHOST, target)) {
                        Ok(far) => break far,
                        Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
                    }
                };
                for (mut from, mut to) in
                    [(&near, &far), (&far, &near)].map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap()))
                {
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
                kept.lock().unwrap().extend([near, far]);
            }
        });
        Relay { port, open }
    }

    fn cut(&self) {
        self.open.lock().unwrap().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

/// Shard 0 listens at `--shard-address`, and the others reach it by another address. Once all have started, nothing
/// that happens to their connection matters.
#[test]
fn a_partition_after_the_start_changes_nothing() {
    let (mock, folder) = (mock("ttft=1ms&itl=1ms&tokens=3"), tempfile::tempdir().unwrap());
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let relay = Relay::start(port);
    let results = folder.path().join("results");
    let flags = format!(
        "--open-loop --rate 200 --duration 2 --rendezvous tcp:127.0.0.1:{} --shard-address 127.0.0.1:{port}",
        relay.port
    );
    let shards = start(&mock, folder.path(), 2, &flags);
    wait_for_requests(&results, 2);
    relay.cut();
    for output in ends(shards) {
        assert_measured(&output);
    }
    let merged = merge(&results);
    assert_eq!(merged["Shards"].as_array().unwrap().len(), 2);
    let missing = |finding: &serde_json::Value| finding["code"] == "shards_missing";
    assert!(!merged["Findings"].as_array().unwrap().iter().any(missing), "{}", merged["Findings"]);
    // By the address of shard 0, not through the relay.
    assert!(count(&databases(&results)[1], "clock_exchange") > 20);
}

/// The same between two runs ends the call on both sides, with what was measured.
#[test]
fn a_partition_between_two_runs_ends_the_call_with_what_was_measured() {
    let (mock, folder) = (mock("ttft=1ms&itl=1ms&tokens=3"), tempfile::tempdir().unwrap());
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let relay = Relay::start(port);
    let results = folder.path().join("results");
    let flags = format!(
        "--parallel 2 4 --duration 1 --sleep-interval 0 --rendezvous tcp:127.0.0.1:{} --shard-address 127.0.0.1:{port}",
        relay.port
    );
    let shards = start(&mock, folder.path(), 2, &flags);
    wait_for_requests(&results, 2);
    relay.cut();
    for output in ends(shards) {
        let text = error(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("has ended, or was killed") && text.contains("ringmark report"), "{text}");
    }
    assert_eq!(databases(&results).len(), 2, "those of the first run");
}
