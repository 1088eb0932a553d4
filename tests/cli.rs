//! The command line of the binary: help texts, and one-line errors.

use std::process::{Command, Output};

fn ringmark(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmark")).args(arguments).output().expect("the binary was built for this test")
}

/// Runs a call that must fail with status 2. Returns its error line and its hint.
fn error_of(line: &str) -> (String, Option<String>) {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let output = ringmark(&arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}: {text}");
    assert!(output.stdout.is_empty(), "{line}");
    let mut lines = text.lines().map(str::to_string);
    let first = lines.next().unwrap_or_default();
    let hint = lines.next();
    assert_eq!(lines.next(), None, "{line}: {text}");
    assert!(first.starts_with("error: "), "{line}: {text}");
    assert!(hint.as_ref().is_none_or(|hint| hint.starts_with("hint: ")), "{line}: {text}");
    (first, hint)
}

#[test]
fn help_and_version_are_shown() {
    for (arguments, what) in [
        (&["--help"][..], "perf"),
        (&["perf", "--help"][..], "--max-prompt-length"),
        (&["perf", "-h"][..], "--concurrency"),
        (&["mock", "--help"][..], "--port"),
        (&["report", "--help"][..], "FILE"),
        (&["rig", "--help"][..], "--no-roofline"),
        (&["--version"][..], env!("CARGO_PKG_VERSION")),
    ] {
        let output = ringmark(arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(text.contains(what), "{arguments:?}: {text}");
    }
    let definitions = String::from_utf8(ringmark(&["report", "--help"]).stdout).unwrap();
    assert!(definitions.contains("TPOT = (last_token − first_token) / (output_tokens − 1)"), "{definitions}");
    assert!(definitions.lines().all(|line| line.chars().count() <= 100), "{definitions}");
    let perf = String::from_utf8(ringmark(&["perf", "--help"]).stdout).unwrap();
    assert!(perf.contains("ringmark report --help"), "{perf}");
    let output = ringmark(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Usage: ringmark"));
}

fn output_of(arguments: &[&str]) -> String {
    let output = ringmark(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn version_and_help_are_commands_too() {
    let version = output_of(&["version"]);
    assert_eq!([output_of(&["-V"]), output_of(&["--version"])], [version.clone(), version.clone()]);
    let names: Vec<&str> = version.lines().map(|line| line.split([' ', ':']).next().unwrap()).collect();
    assert_eq!(names, ["ringmark", "commit", "target", "build", "features"]);
    assert!(version.lines().all(|line| line.split_whitespace().count() >= 2), "{version}");
    assert!(version.contains(std::env::consts::ARCH), "{version}");
    assert_eq!(output_of(&["help", "perf"]), output_of(&["perf", "--help"]));
    assert!(output_of(&["help"]).contains("completions"));
}

#[test]
fn shells_and_man_get_every_flag() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output_of(&["completions", shell]);
        assert!(script.contains("max-prompt-length") && script.contains("guide"), "{shell}");
    }
    let (first, _) = error_of("completions tcsh");
    assert!(first.contains("tcsh") && first.contains("bash"), "{first}");
    let page = output_of(&["man", "perf"]);
    assert!(page.contains(".TH ringmark-perf 1") && page.contains("max\\-prompt\\-length"), "{page}");
    assert!(output_of(&["man"]).contains("ringmark\\-perf(1)"));
    assert!(error_of("man nonsense").0.contains("'nonsense'"));
}

#[test]
fn the_guide_is_printed() {
    let list = output_of(&["guide"]);
    assert!(list.contains("getting started") && list.lines().count() > 20, "{list}");
    assert!(output_of(&["guide", "start"]).starts_with("Getting started\n═══"));
    assert!(output_of(&["guide", "start", "--markdown"]).starts_with("# Getting started\n"));
    assert!(output_of(&["guide", "findings", "send_lag"]).contains("Remedy."));
    assert_eq!(output_of(&["guide", "send_lag"]), output_of(&["guide", "findings", "send_lag"]));
    assert!(output_of(&["guide", "--search", "goodput"]).contains("capacity"));
    assert!(!output_of(&["guide"]).contains('\u{1b}'), "colours only on a terminal");
    for (line, what) in [
        ("guide strat", "did you mean 'start'?"),
        ("guide nonsense", "'nonsense' is not a topic"),
        ("guide start nonsense", "no section 'nonsense'"),
        ("guide --search xylophone", "'xylophone'"),
    ] {
        let (first, _) = error_of(line);
        assert!(first.contains(what), "{line}: {first}");
    }
}

#[test]
fn flags_of_other_tools_name_their_counterpart() {
    for (flag, ours, topic) in [
        ("--request-rate", "--open-loop --rate R", "guide vllm"),
        ("--gsp-num-groups", "--prefix-count N", "guide sglang"),
        ("--isl", "--dataset random", "guide aiperf"),
        ("--request-rate-range", "--open-loop --rate 2 4 6", "guide lmdeploy"),
        ("--constraint", "--number N", "guide guidellm"),
        ("--target", "--url URL", "guide guidellm"),
        ("--random_output_len", "--max-tokens N", "guide vllm"),
        ("--swanlab-host", "SWANLAB_HOST", "guide evalscope"),
    ] {
        let (first, hint) = error_of(&format!("perf {flag} 1"));
        let hint = hint.unwrap();
        assert!(first.contains(flag) && hint.contains(ours) && hint.contains(topic), "{first} {hint}");
    }
}

#[test]
fn python_has_a_field_for_every_flag() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/python/fields.py");
    let mut check = Command::new("python3");
    check.args([script, "--check"]).env("RINGMARK", env!("CARGO_BIN_EXE_ringmark"));
    let output = check.output().expect("python3 is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn unknown_flags_and_commands_get_a_suggestion() {
    for (line, flag, suggestion) in [
        ("perf --paralel 2", "--paralel", "--parallel"),
        ("perf --dataste builtin", "--dataste", "--dataset"),
        ("perff", "perff", "perf"),
    ] {
        let (first, hint) = error_of(line);
        assert!(first.contains(flag) && hint.unwrap().contains(suggestion), "{line}: {first}");
    }
}

#[test]
fn errors_of_invalid_values_are_one_line_that_names_the_flag() {
    for (line, what) in [
        ("perf", "--url"),
        ("perf --url", "--url"),
        ("perf --url localhost:8000", "--url"),
        ("perf --url mock: --api nonsense", "--api"),
        ("perf --url mock: --dataset nonsense", "--dataset"),
        ("perf --url mock: --parallel 0", "--parallel"),
        ("perf --url mock: --parallel -1", "--parallel"),
        ("perf --url mock: --parallel 1 x", "--parallel"),
        ("perf --url mock: --concurrency 0", "--parallel"),
        ("perf --url mock: -n 0", "--number"),
        ("perf --url mock: -n 1.5", "--number"),
        ("perf --url mock: -n 99999999999999999999999", "too large"),
        ("perf --url mock: --parallel 1 2 3 --number 1 2", "--number"),
        ("perf --url mock: --rate 0", "--rate"),
        ("perf --url mock: --rate nan", "--rate"),
        ("perf --url mock: --rate 1 2", "--open-loop"),
        ("perf --url mock: --open-loop", "--rate"),
        ("perf --url mock: --open-loop --rate -1", "--rate"),
        ("perf --url mock: --duration 0", "--duration"),
        ("perf --url mock: --duration -5", "--duration"),
        ("perf --url mock: --duration soon", "--duration"),
        ("perf --url mock: --warmup-num -1", "--warmup-num"),
        ("perf --url mock: --max-tokens 20 10", "--max-tokens"),
        ("perf --url mock: --max-tokens 0", "--max-tokens"),
        ("perf --url mock: --connect-timeout 0", "--connect-timeout"),
        ("perf --url mock: --headers nonsense", "--headers"),
        ("perf --url mock: --extra-args {", "--extra-args"),
        ("perf --url mock: --save all", "--save"),
        ("perf --url mock: --log-level loud", "--log-level"),
        ("perf --url mock: --cores a", "--cores"),
        ("perf --url mock: --cores 0,0", "--cores has core 0 twice"),
        ("perf --url mock: --stream --no-stream", "'--stream' cannot be used with '--no-stream'"),
        ("perf --url mock: --workers 0", "--workers"),
        ("perf --url mock: --source-address nowhere", "--source-address"),
        ("perf --url mock: --dataset line_by_line", "--dataset-path"),
        ("report", "<FILE>"),
        ("mock --port 99999", "--port"),
    ] {
        let (first, _) = error_of(line);
        assert!(first.contains(what), "{line}: {first}");
    }
}

#[test]
fn errors_contain_no_secrets() {
    let (first, _) = error_of("perf --url ftp://h/v1?api_key=hidden1 --api-key hidden2 --headers hidden3");
    assert!(!first.contains("hidden"), "{first}");
    let (first, _) = error_of("perf --url http://user:hidden1@h/v1 --server-metrics http://me:hidden2@h/metrics");
    assert!(!first.contains("hidden") && first.contains("http://****@h/v1"), "{first}");
    let (first, _) = error_of("perf --url user:hidden1@h/v1");
    assert!(!first.contains("hidden"), "{first}");
    let (first, _) = error_of("perf --url mock: --server-metrics http://me:hidden2@h/metrics");
    assert!(!first.contains("hidden"), "{first}");
}

#[test]
fn an_endless_file_is_an_error_that_names_its_flag() {
    let url = "perf --url https://127.0.0.1:1/v1/chat/completions --model m --number 1";
    for (flags, flag, limit) in [
        ("--url mock: --dataset line_by_line --dataset-path /dev/zero", "--dataset-path", "256 MiB"),
        ("--url mock: --dataset openqa --dataset-path /dev/zero", "--dataset-path", "256 MiB"),
        ("--url mock: --arrival trace:/dev/zero", "--arrival", "256 MiB"),
        ("--url mock: --prompt @/dev/zero", "--prompt", "64 MiB"),
        ("--url mock: --query-template @/dev/zero", "--query-template", "64 MiB"),
        ("--url mock: --calibration /dev/zero", "--calibration", "64 MiB"),
        ("--cert /dev/zero --insecure", "--cert", "64 MiB"),
        ("--cacert /dev/zero", "--cacert", "64 MiB"),
    ] {
        let line = match flags.strip_prefix("--url mock: ") {
            Some(more) => format!("perf --url mock: --number 1 {more}"),
            None => format!("{url} {flags}"),
        };
        let (first, _) = error_of(&line);
        assert!(first.contains(flag) && first.contains(limit) && first.contains("/dev/zero"), "{line}: {first}");
    }
}

/// Other root certificates in place of those that the user named would trust more than was asked for.
#[test]
fn root_certificates_that_a_variable_names_must_exist() {
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        let output = Command::new(env!("CARGO_BIN_EXE_ringmark"))
            .args(["perf", "--url", "https://127.0.0.1:1/v1/chat/completions", "--model", "m", "--ready-timeout", "0"])
            .env(variable, "/nonexistent/roots.pem")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("{variable} names no readable root certificate")), "{text}");
    }
}

/// A port that accepts connections and never sends anything.
fn silent_server() -> (std::net::TcpListener, std::net::SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn the_request_for_models_obeys_the_read_timeout() {
    let (_listener, address) = silent_server();
    let (first, _) = error_of(&format!("perf --url http://{address}/v1/chat/completions --read-timeout 0.3"));
    assert!(first.contains("no byte for 0.3 s (--read-timeout)") && first.contains("give --model NAME"), "{first}");
}

#[test]
fn a_pending_tls_handshake_is_logged() {
    let (_listener, address) = silent_server();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("https://{address}/v1/chat/completions");
    let outputs = folder.path().to_str().unwrap();
    let fixed = ["--insecure", "--model", "m", "--connect-timeout", "3", "--outputs-dir", outputs];
    let output = ringmark(&[&["perf", "--url", &url][..], &fixed].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let logged = text.find(&format!("connection test: waiting for the TLS handshake with {address}"));
    assert!(logged.is_some() && logged < text.find("error: "), "{text}");
}
