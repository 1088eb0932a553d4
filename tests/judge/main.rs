//! `ringmark judge`: each way in which a client can be wrong is caught, and a client that is right passes.
//!
//! The clients are this test program itself, started with [`client::ROLE`] in the environment.

mod client;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// Held while times are measured: a client of another test would use the same core.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long some process has waited for a core since the start of this machine, as the kernel counts it; zero if it does not.
fn waited_for_cores() -> Duration {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let total = text.lines().next().and_then(|line| line.rsplit_once("total="));
    Duration::from_micros(total.and_then(|(_, total)| total.parse().ok()).unwrap_or(0))
}

/// Judges the client with this behaviour in a scenario until the server was in time and the judgement is as expected. What a
/// busy machine does to a client is not what the tests are about: there are several tries, and there is no result if the
/// server was late or others used the cores in some of them.
fn judge_until(
    scenario: &str,
    behaviour: &str,
    flags: &[&str],
    mut is_expected: impl FnMut(&Json) -> bool,
) -> Option<Output> {
    const TRIES: usize = 8;
    const BUSY_TRIES: usize = 4;
    let _alone = alone();
    let (mut busy, mut last) = (0, String::new());
    for _ in 0..TRIES {
        let (began, waited) = (Instant::now(), waited_for_cores());
        let (output, judgement) = judge_once(scenario, behaviour, flags);
        let in_time = verdict(&judgement, "mock") == "pass";
        if in_time && is_expected(&judgement) {
            return Some(output);
        }
        busy += usize::from(!in_time || waited_for_cores() - waited > began.elapsed() / 4);
        last = text(&output);
        if busy == BUSY_TRIES {
            eprintln!(
                "{scenario} {behaviour}: no result, because other processes use the cores; the last time:\n{last}"
            );
            return None;
        }
    }
    panic!("{scenario} {behaviour} is never judged as expected; the last time:\n{last}");
}

fn judge_once(scenario: &str, behaviour: &str, flags: &[&str]) -> (Output, Json) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("judgement.json");
    let mut command = command_for(scenario, behaviour);
    let client = client_command(behaviour);
    let output = command.args(flags).arg("--json").arg(&file).arg("--").args(client).output().unwrap();
    let json = std::fs::read_to_string(&file).unwrap_or_else(|_| "null".to_string());
    (output, serde_json::from_str(&json).unwrap())
}

fn ringmark() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ringmark"))
}

/// The call without its files and the client.
fn command_for(scenario: &str, behaviour: &str) -> Command {
    let mut command = ringmark();
    command.args(["judge", "--scenario", scenario, "--parallel", "4", "--number", "12", "--read", "plain"]);
    if behaviour.contains("open_loop") {
        command.args(["--rate", "20"]);
    }
    command
}

/// This test program as the client.
fn client_command(behaviour: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_string();
    let variables = [format!("{}={behaviour}", client::ROLE), format!("{}={{host}}:{{port}}", client::ADDRESS)];
    let arguments = ["--exact", "the_client", "--ignored", "--nocapture"].map(str::to_string);
    [["/usr/bin/env".to_string()].to_vec(), variables.to_vec(), vec![program], arguments.to_vec()].concat()
}

/// The verdict of a check.
fn verdict<'a>(judgement: &'a Json, name: &str) -> &'a str {
    let checks = judgement[0]["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("{name}: {checks:#?}"))["verdict"].as_str().unwrap()
}

/// The definition other than this program's by which a figure was measured.
fn definition<'a>(judgement: &'a Json, figure: &str) -> Option<&'a str> {
    let deviations = judgement[0]["deviations"].as_array().unwrap();
    deviations.iter().find(|one| one["figure"] == figure).unwrap()["definition"].as_str()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The client as a process; it does nothing in an ordinary run of the tests.
#[test]
#[ignore = "it is started by the other tests"]
fn the_client() {
    if let Ok(behaviour) = std::env::var(client::ROLE) {
        client::run(&behaviour, &std::env::var(client::ADDRESS).unwrap());
    }
}

/// A number in a judgement, by its path.
fn number(judgement: &Json, path: &str) -> f64 {
    judgement[0].pointer(path).and_then(Json::as_f64).unwrap_or_else(|| panic!("{path}: {judgement:#}"))
}

/// The error of a figure, milliseconds.
fn error_ms(judgement: &Json, figure: &str, of: &str) -> f64 {
    let mut deviations = judgement[0]["deviations"].as_array().unwrap().iter();
    deviations.find(|one| one["figure"] == figure && one["of"] == of).unwrap()["error_ms"].as_f64().unwrap()
}

#[test]
fn a_client_that_is_wrong_is_caught() {
    // What the client does, the check that finds it, and what only this mistake does, not a busy machine.
    type Evidence = fn(&Json) -> bool;
    let cases: [(&str, &str, &str, Evidence); 14] = [
        ("steady", "exceeds_limit", "limit", |one| number(one, "/observed/peak_in_flight") > 4.0),
        ("steady", "sends_one_twice", "requests", |one| number(one, "/observed/requests") == 13.0),
        ("steady", "sends_fewer", "requests", |one| number(one, "/observed/requests") == 6.0),
        ("steady", "repeats_one_and_skips_one", "requests", |one| number(one, "/observed/repeated") == 1.0),
        ("steady", "half_empty_slots", "slots in use", |one| number(one, "/observed/turnaround_p50_s") > 0.38),
        ("steady", "late_clock", "TTFT", |one| error_ms(one, "TTFT", "p50") > 20.0),
        ("burst", "handles_one_event_at_a_time", "TTFT", |one| error_ms(one, "TTFT", "max") > 8.0),
        ("early_close", "cut_answers_are_ok", "outcomes", |one| number(one, "/claims/ok") == 12.0),
        ("stall", "drops_long_gaps", "ITL", |one| error_ms(one, "ITL", "max") < -400.0),
        ("frozen_client", "plain", "ITL", |one| error_ms(one, "ITL", "max") > 900.0),
        ("too_many_requests", "retries", "requests", |one| number(one, "/observed/requests") > 12.0),
        ("too_many_requests", "errors_are_ok", "outcomes", |one| number(one, "/claims/ok") == 12.0),
        ("slow_first_token", "open_loop waits_for_answers", "rate", |one| number(one, "/observed/rate") < 10.0),
        ("slow_first_token", "gives_up", "given up", |one| number(one, "/observed/given_up") > 0.0),
    ];
    for (scenario, behaviour, check, evidence) in cases {
        let is_caught = |one: &Json| verdict(one, check) == "fail" && evidence(one);
        let flags: &[&str] = if behaviour.starts_with("repeats_one") { &["--distinct-prompts"] } else { &[] };
        let output = judge_until(scenario, behaviour, flags, is_caught);
        assert!(output.is_none_or(|output| output.status.code() == Some(1)), "{scenario} {behaviour}");
    }
}

#[test]
fn a_figure_by_another_definition_is_not_an_error() {
    const ROLE: &str = "to the head of the response, or to the role";
    const EVENTS: &str = "divided by output events";
    let cases: [(&str, &str, &str, Option<&str>); 4] = [
        ("role_first", "role_as_first_token", "TTFT", Some(ROLE)),
        ("several_tokens", "events_as_tokens", "TPOT", Some(EVENTS)),
        ("role_first", "plain", "TTFT", None),
        ("several_tokens", "plain", "TPOT", None),
    ];
    for (scenario, behaviour, figure, expected) in cases {
        let has_definition = |one: &Json| match (definition(one, figure), expected) {
            (Some(found), Some(expected)) => found.starts_with(expected),
            (found, expected) => found.is_none() && expected.is_none(),
        };
        let wanted = if expected.is_some() { "other_definition" } else { "pass" };
        let is_expected = |one: &Json| {
            has_definition(one)
                && verdict(one, figure) == wanted
                && (behaviour != "events_as_tokens" || verdict(one, "throughput") == wanted)
        };
        judge_until(scenario, behaviour, &[], is_expected);
    }
}

#[test]
fn a_client_that_is_right_passes() {
    const LOAD: [&str; 6] = ["end", "requests", "limit", "outcomes", "bodies", "given up"];
    const TIMES: [&str; 5] = ["TTFT", "ITL", "TPOT", "latency", "slots in use"];
    for (scenario, behaviour) in [
        ("steady", "plain"),
        ("burst", "plain"),
        ("role_first", "plain"),
        ("several_tokens", "plain"),
        ("early_close", "plain"),
        ("stall", "plain"),
        ("frozen_client", "warns"),
        ("too_many_requests", "plain"),
        ("slow_first_token", "open_loop"),
    ] {
        let is_open_loop = behaviour == "open_loop";
        let is_checked = |name: &str| !(is_open_loop && ["limit", "slots in use"].contains(&name));
        // A machine that is busy for a moment makes a time wrong, another one in each try.
        let mut open: Vec<&str> = TIMES.into_iter().filter(|name| is_checked(name)).collect();
        open.extend(is_open_loop.then_some("rate"));
        if scenario == "frozen_client" {
            open = vec!["stop"];
        }
        judge_until(scenario, behaviour, &[], |one| {
            for check in LOAD.into_iter().filter(|name| is_checked(name)) {
                assert_eq!(verdict(one, check), "pass", "{scenario} {check}: {one:#}");
            }
            if scenario == "frozen_client" {
                assert_eq!(verdict(one, "ITL"), "warned", "{one:#}");
            }
            open.retain(|check| verdict(one, check) != "pass");
            open.is_empty()
        });
    }
}

#[test]
fn many_busy_threads_on_one_core_are_seen_together() {
    let _alone = alone();
    let (output, judgement) = judge_once("steady", "is_busy", &["ttft=100ms", "itl=40ms", "tokens=30"]);
    let (thread, all) = (number(&judgement, "/client/busiest_thread"), number(&judgement, "/client/busiest_share"));
    assert!(all > 2.0 * thread && number(&judgement, "/client/cores") <= 1.0, "{thread} {all}: {}", text(&output));
    let expected = if all < 0.95 { "pass" } else { "fail" };
    assert_eq!(verdict(&judgement, "saturation"), expected, "{}", text(&output));
}

#[test]
fn processes_that_end_soon_are_in_the_cpu_time() {
    let folder = tempfile::tempdir().unwrap();
    let (seen, file) = (folder.path().join("ticks"), folder.path().join("judgement.json"));
    let mut command = command_for("steady", "");
    command.args(["ttft=1ms", "itl=1ms", "--json"]).arg(&file).arg("--").args(client_command("starts_processes"));
    let output = command.env(client::SURROUNDINGS, &seen).output().unwrap();
    let ticks: f64 = std::fs::read_to_string(&seen).unwrap().parse().unwrap();
    let judgement: Json = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let children_s = ticks / rustix::param::clock_ticks_per_second() as f64;
    assert!(children_s > 0.0 && number(&judgement, "/client/cpu_s") >= children_s, "{children_s}: {}", text(&output));
}

#[test]
fn a_result_without_an_end_is_refused() {
    let judge = |read: &str, result: &str, script: &str| {
        let flags = ["judge", "--read", read, "--timeout", "20"];
        let output = ringmark().args(flags).args(["--result", result, "--", "/bin/sh", "-c", script]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        text(&output)
    };
    assert!(judge("plain", "result.json", "mkfifo result.json").contains("not a regular file"));
    assert!(judge("plain", "result.json", "ln -s /dev/zero result.json").contains("not a regular file"));
    let summary = "echo {} >benchmark_summary.json; mkfifo benchmark_percentile.json";
    assert!(judge("ringmark", "benchmark_summary.json", summary).contains("not a regular file"));
    // The judge's own copies of the output.
    judge("plain", "result.json", "rm stdout.txt stderr.txt; mkfifo stdout.txt stderr.txt; exit 1");
}

#[test]
fn a_result_from_before_the_start_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.json");
    std::fs::write(&old, r#"{"ok": 12, "ttft_ms": {"mean": 1.0}}"#).unwrap();
    let mut command = ringmark();
    command.args(["judge", "--read", "plain", "--result"]).arg(&old).args(["--", "true"]);
    let output = command.output().unwrap();
    assert!(text(&output).contains("it is from before the start"), "{}", text(&output));
}

#[test]
fn rejected_requests_are_distinguished_from_none() {
    let (output, judgement) = judge_once("steady", "wrong_path", &[]);
    assert_eq!(verdict(&judgement, "requests"), "fail");
    assert_eq!(number(&judgement, "/observed/refused"), 12.0);
    assert!(text(&output).contains("no valid request: 12 were rejected"), "{}", text(&output));
}

#[test]
fn documents_go_to_standard_output() {
    let judge = |flags: &[&str]| {
        let mut command = command_for("steady", "plain");
        command.args(["ttft=1ms", "itl=1ms"]).args(flags).arg("--").args(client_command("plain")).output().unwrap()
    };
    let output = judge(&["--json", "-"]);
    let judgement: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number(&judgement, "/observed/requests"), 12.0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("checks passed"));
    assert!(judge(&["--html", "-"]).stdout.starts_with(b"<!DOCTYPE html>"));
    let output = judge(&["--html", "-", "--json", "-"]);
    assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{}", text(&output));
}

#[test]
fn without_a_limit_the_requests_in_flight_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let mut command = ringmark();
    command.args(["judge", "ttft=1ms", "itl=1ms", "--html"]).arg(&page).arg("--").args(client_command("plain"));
    let output = command.output().unwrap();
    let page = std::fs::read_to_string(&page).unwrap();
    for shown in [text(&output), page] {
        assert!(shown.contains("limit") && shown.contains("requests in flight, "), "{shown}");
    }
}

#[test]
fn the_server_does_the_same_in_each_run() {
    let judged = || judge_once("steady", "plain", &["tokens=uniform(5,40)", "ttft=uniform(1ms,9ms)", "itl=1ms"]).1;
    let (first, second) = (judged(), judged());
    for what in ["output_tokens", "max_tokens", "requests"] {
        assert_eq!(first[0]["observed"][what], second[0]["observed"][what], "{what}");
    }
    let server = &first[0]["server"];
    let at = |name: &str| server[name].as_u64().unwrap_or_else(|| panic!("{name}: {server}"));
    assert!(at("uncertainty_p50_ns") > 0 && at("uncertainty_p99_ns") <= at("uncertainty_max_ns"), "{server}");
    assert!(at("lateness_p50_ns") <= at("lateness_p99_ns"), "{server}");
}

#[test]
fn a_client_is_kept_apart_from_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen.json");
    let home = folder.path().join("home");
    let hub = home.join(".cache/huggingface/hub");
    std::fs::create_dir_all(&hub).unwrap();
    std::fs::write(home.join(".cache/huggingface/token"), "secret").unwrap();
    let output = command_for("steady", "")
        .args(["ttft=1ms", "itl=1ms", "--"])
        .args(client_command("shows_its_surroundings"))
        .env(client::SURROUNDINGS, &seen)
        .env("HF_TOKEN", "secret-1")
        .env("AWS_SECRET_ACCESS_KEY", "secret-2")
        .env("OPENAI_API_KEY", "secret-3")
        .env("HTTP_PROXY", "http://me:secret-4@proxy:3128")
        .env("DATABASE_URL", "postgres://me:secret-5@db/x")
        .env("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/secret-6")
        .env("STORE", "https://s3/x?X-Amz-Signature=secret-7")
        .env("HOME", &home)
        .env_remove("HF_HOME")
        .env_remove("HF_HUB_CACHE")
        .env("NETRC", home.join(".netrc"))
        .env("HF_TOKEN_PATH", home.join("token"))
        .env("TOKENIZERS_PARALLELISM", "false")
        .env("XDG_CONFIG_HOME", folder.path())
        .output()
        .unwrap();
    let seen = std::fs::read_to_string(&seen).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    assert!(!seen.contains("secret-"), "{seen}");
    let seen: Json = serde_json::from_str(&seen).unwrap();
    let variable = |name: &str| seen["variables"][name].as_str();
    assert_eq!((variable("XDG_CONFIG_HOME"), variable("NETRC")), (None, None));
    assert_eq!(variable("TOKENIZERS_PARALLELISM"), Some("false"));
    let own = seen["folder"].as_str().unwrap();
    // The models of the user are found, the token beside them is not.
    assert_eq!(variable("HF_HUB_CACHE"), hub.to_str());
    for name in ["HF_HOME", "HF_TOKEN_PATH"] {
        assert!(variable(name).is_some_and(|path| path.starts_with(own)), "{name}: {seen}");
    }
    assert!(variable("HOME") == Some(own) && variable("TMPDIR") == Some(own), "{seen}");
    assert!(!Path::new(own).exists(), "the client's folder is removed");
}

#[test]
fn several_clients_are_shown_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    for (name, behaviour) in [("right & good", "plain"), ("<wrong>", "sends_fewer")] {
        let (json, html) = (path(&format!("{behaviour}.json")), path("one.html"));
        let flags = ["--name", name, "--json", &json, "--html", &html, "ttft=5ms", "itl=1ms", "--"];
        let output = command_for("steady", behaviour).args(flags).args(client_command(behaviour)).output().unwrap();
        assert!(output.status.code().is_some_and(|code| code != 2), "{}", text(&output));
        assert!(std::fs::read_to_string(&html).unwrap().contains("<html"));
    }
    let (right, wrong, page, all) = (path("plain.json"), path("sends_fewer.json"), path("all.html"), path("all.json"));
    let flags = ["judge", "--compare", &right, &wrong, "--html", &page, "--json", &all];
    let output = ringmark().args(flags).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("right & good") && text(&output).contains("<wrong>"), "{}", text(&output));
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("<th>right &amp; good</th><th>&lt;wrong&gt;</th>") && !page.contains("<wrong>"), "{page}");
    let judgements: Json = serde_json::from_str(&std::fs::read_to_string(&all).unwrap()).unwrap();
    assert_eq!(judgements.as_array().unwrap().len(), 2);
    // Clients of one name have the file's name beside it.
    let output = ringmark().args(["judge", "--compare", &right, &right]).output().unwrap();
    assert!(text(&output).contains("plain.json"), "{}", text(&output));
}

#[test]
fn what_cannot_be_shown_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.json");
    let compare = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = ringmark().args(["judge", "--compare"]).arg(&file).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for wrong in ["", "{}", "[]", "[{\"scenario\": 1}]"] {
        let (status, error) = compare(wrong);
        assert!(status == Some(2) && error.lines().count() == 1 && error.contains("other.json"), "{error}");
    }
    let output = ringmark().args(["judge", "--compare", "a.json", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = ringmark().args(["judge", "--scenario", "steady"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "no client");
}

#[test]
fn a_client_that_sends_nothing_has_failed() {
    let output = ringmark().args(["judge", "--", "true"]).output().unwrap();
    assert!(output.status.code() == Some(1) && text(&output).contains("no request"), "{}", text(&output));
}

#[test]
fn a_client_that_cannot_run_is_an_error() {
    let judge = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringmark")).arg("judge").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, error) = judge(&["--", "./no/such/client"]);
    assert_eq!((status, error.lines().count()), (Some(2), 1), "{error}");
    assert!(error.contains("./no/such/client"), "{error}");
    let (status, error) = judge(&["--scenario", "other", "--", "true"]);
    assert!(status == Some(2) && error.contains("--scenario") && error.contains("stall"), "{error}");
    let (status, error) = judge(&["ttft=fast", "--", "true"]);
    assert!(status == Some(2) && error.contains("ttft"), "{error}");
}

#[test]
fn a_client_is_ended_with_all_its_processes() {
    // The first one hangs; the second one ends and leaves a process in a session of its own.
    // The third one has no variables, and the last one starts processes while others are ended.
    let clients = [
        ("86399", "sleep 86399 & sleep 86399"),
        ("86398", "setsid sleep 86398 & sleep 0.3"),
        ("86397", "env -i setsid sleep 86397 &"),
        ("86396", "env -i setsid sh -c 'trap \"\" TERM; while :; do sleep 86396 & wait; done' &"),
    ];
    for (seconds, script) in clients {
        let flags = ["judge", "--timeout", "1", "--", "/bin/sh", "-c", script];
        let output = ringmark().args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert_eq!(text(&output).contains("did not end within 1 s"), seconds == "86399", "{}", text(&output));
        let left = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line == format!("sleep\0{seconds}\0").into_bytes()
        });
        assert!(!left, "a child of the client still runs");
    }
}

#[test]
fn the_chart_is_made_of_the_data_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = |name: &str| {
        let mut python = Command::new("python3");
        let output = python.arg("-B").arg(root.join("tools/judge").join(name)).arg(root.join("tools/judge/data.json"));
        let output = output.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let chart = std::fs::read_to_string(root.join("tools/readme/errors.svg")).unwrap();
    let hint = "python3 tools/judge/chart.py tools/judge/data.json >tools/readme/errors.svg";
    assert!(script("chart.py") == chart, "make it again: {hint}");
    let tables = script("tables.py");
    assert!(tables.contains("## Checks passed") && tables.contains("## Definitions"), "{tables}");
}
