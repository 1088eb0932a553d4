//! Calls through a test proxy.

use std::net::SocketAddr;
use std::process::{Command, Output};

use ringmark::mock::{Config, Mock};
use tempfile::TempDir;

use super::relay::{Mood, Relay};
use crate::call::{Call, line};
use crate::hub::server::{Server, modelscope};
use crate::tls_server::TlsServer;

/// `Basic` of `me:unsaid77`.
const CREDENTIALS: &str = "Proxy-Authorization: Basic bWU6dW5zYWlkNzc=";
const REFUSED: &str = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";

fn mock() -> Mock {
    let config = Config::from_query("ttft=2ms&itl=1ms&tokens=4").unwrap();
    Mock::start(&config, &[], "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// The proxy's URL with a user and a password.
fn secret(relay: &Relay) -> String {
    format!("http://me:unsaid77@{}", relay.addr)
}

#[track_caller]
fn mistake(call: &Call) -> String {
    assert_eq!(call.status, 2, "{}", call.stderr);
    assert!(!call.stderr.contains("unsaid77"), "{}", call.stderr);
    call.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().to_string()
}

#[test]
fn http_servers_are_asked_in_absolute_form() {
    let backend = mock();
    let relay = Relay::start(backend.addr(), Mood::Willing);
    // Nobody but the proxy knows this name; the model is asked for in the same way.
    let url = "http://server.invalid:8000/v1/chat/completions";
    for fallback in ["", "--force-fallback"] {
        let call =
            line(&format!("--url {url} --proxy {} --prompt p -n 6 --parallel 2 {fallback}", secret(&relay)), &[]);
        call.check(6.0);
    }
    let heads = relay.heads();
    assert!(heads[0].starts_with("GET http://server.invalid:8000/v1/models HTTP/1.1\r\n"), "{}", heads[0]);
    assert!(heads.iter().all(|head| head.contains(CREDENTIALS) && head.contains("Host: server.invalid:8000")));
    let posts = heads.iter().filter(|head| head.starts_with("POST http://server.invalid:8000/v1/chat/completions "));
    // Twice six, and the two connection tests.
    assert_eq!(posts.count(), 14);
}

#[test]
fn https_servers_are_reached_through_a_tunnel() {
    let backend = mock();
    let server = TlsServer::named(backend.addr(), &["server.invalid"]);
    let relay = Relay::start(server.addr, Mood::Willing);
    let files = [("ca.pem", server.authority.as_str())];
    for fallback in ["", "--force-fallback"] {
        let url = "https://server.invalid/v1/chat/completions";
        let flags = format!("--proxy {} --cacert ca.pem --cold {fallback}", secret(&relay));
        let call = line(&format!("--url {url} --prompt p -n 6 --parallel 2 {flags}"), &files);
        call.check(6.0);
        let handshakes: Vec<u64> = call.requests("tls_handshake_ns").iter().filter_map(|ns| ns.parse().ok()).collect();
        assert!(!handshakes.is_empty() && handshakes.iter().all(|ns| *ns > 10_000), "{handshakes:?}");
    }
    let heads = relay.heads();
    assert!(heads.iter().all(|head| head.starts_with("CONNECT server.invalid:443 HTTP/1.1\r\n")), "{heads:?}");
    assert!(heads.iter().all(|head| head.contains(CREDENTIALS)));
}

#[test]
fn nothing_that_is_stored_has_the_password() {
    let backend = mock();
    let relay = Relay::start(backend.addr(), Mood::Willing);
    let folder = tempfile::tempdir().unwrap();
    let proxy = secret(&relay);
    let output =
        perf(&folder, &["--url", "http://h/v1", "--proxy", &proxy, "--debug", "--save", "full", "-n", "2"], &[]);
    assert_measured(&output);
    assert!(stderr(&output).contains(&format!("Requests go through the proxy {}", relay.addr)), "{}", stderr(&output));
    let mut seen = [output.stdout.clone(), output.stderr.clone()].concat();
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { folders.push(entry) } else { seen.extend(std::fs::read(entry).unwrap()) }
        }
    }
    let text = String::from_utf8_lossy(&seen);
    assert!(!text.contains("unsaid77") && !text.contains("bWU6dW5zYWlkNzc="));
    assert!(text.contains(&format!("http://****@{}", relay.addr)));
}

#[test]
fn a_refusal_is_reported_with_the_proxys_text() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let call = |mood: Mood, flags: &str| {
        let relay = Relay::start(nobody, mood);
        let url = "https://server.invalid/v1/chat/completions";
        line(&format!("--url {url} --model m --prompt p -n 2 --insecure --proxy {} {flags}", relay.url()), &[])
    };
    for fallback in ["", "--force-fallback"] {
        let error = mistake(&call(Mood::Says(REFUSED), fallback));
        assert!(
            error.contains("the proxy answered CONNECT with status 407 Proxy Authentication Required; give"),
            "{error}"
        );
    }
    let error = mistake(&call(Mood::Says("HTTP/1.1 502 Bad Gateway\r\n\r\nno route"), ""));
    assert!(error.contains("502 Bad Gateway (no route)"), "{error}");
    let error = mistake(&call(Mood::Says("hello\r\n"), ""));
    assert!(error.contains("the proxy's response is not HTTP"), "{error}");
    let error = mistake(&call(Mood::Says(""), ""));
    assert!(error.contains("the proxy closed the connection without a response to CONNECT"), "{error}");
    let error = mistake(&call(Mood::Silent, "--connect-timeout 0.2"));
    assert!(error.contains("the proxy did not answer CONNECT in time (--connect-timeout)"), "{error}");
    let error = mistake(&line(
        "--url https://h/v1 --model m --insecure --proxy http://127.0.0.1:1 -n 1 --ready-timeout 0",
        &[],
    ));
    assert!(error.contains("the proxy 127.0.0.1:1: Connection refused"), "{error}");
    // A run without the test before it has failures of that class.
    let failed = call(Mood::Says(REFUSED), "--no-test-connection");
    assert_eq!(failed.status, 1, "{}", failed.stderr);
    assert_eq!(failed.requests("outcome"), ["connect", "connect"]);
    // Asking for the model goes the same way.
    let relay = Relay::start(nobody, Mood::Says(REFUSED));
    let error = mistake(&line(&format!("--url https://h/v1 --insecure --proxy {} -n 1", relay.url()), &[]));
    assert!(error.contains("--model is not given") && error.contains("407"), "{error}");
}

#[test]
fn a_proxy_that_wants_a_password_leads_to_the_flag() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let refused = "HTTP/1.1 407 No\r\nContent-Length: 9\r\n\r\n\u{1b}[31mwho?";
    let relay = Relay::start(nobody, Mood::Says(refused));
    let url = "http://server.invalid/v1/chat/completions";
    let call = |proxy: &str| line(&format!("--url {url} --model m --prompt p -n 2 --proxy {proxy}"), &[]);
    let error = mistake(&call(&relay.url()));
    assert!(error.contains("(status 407): \\u{1b}[31mwho?; the proxy requires a user and password; give"), "{error}");
    assert!(error.contains("in --proxy, as USER:PASSWORD@HOST:PORT"), "{error}");
    let error = mistake(&call(&secret(&relay)));
    assert!(error.contains("the proxy refused the given user and password; give"), "{error}");
}

/// `ringmark perf` with these variables and no others about proxies.
fn perf(folder: &TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.args(["perf", "--outputs-dir", "out", "--no-timestamp", "--model", "m"]).args(arguments);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.envs(variables.iter().copied()).current_dir(folder.path()).env("HOME", folder.path());
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A busy machine can make the figures void.
fn assert_measured(output: &Output) {
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(output));
}

#[test]
fn the_environment_counts_only_when_it_is_asked_for() {
    let backend = mock();
    let relay = Relay::start(backend.addr(), Mood::Willing);
    let (url, proxy) = (format!("http://{}/v1", backend.addr()), relay.url());
    let call = |name: &str, flags: &[&str], variables: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        let output = perf(&folder, &[&["--url", &url, "-n", "2", "--name", name], flags].concat(), variables);
        assert_measured(&output);
        stderr(&output)
    };
    let text = call("a", &[], &[("HTTP_PROXY", &proxy)]);
    assert!(text.contains("HTTP_PROXY is set but not used"), "{text}");
    let text = call("b", &[], &[("https_proxy", &proxy)]);
    assert!(!text.contains("not used"), "it would not hold for http: {text}");
    call("c", &["--proxy", "env"], &[("http_proxy", &proxy), ("no_proxy", "127.0.0.1")]);
    assert!(relay.heads().is_empty());
    call("d", &["--proxy", "env"], &[("all_proxy", &proxy), ("NO_PROXY", "elsewhere")]);
    assert!(!relay.heads().is_empty());
    let folder = tempfile::tempdir().unwrap();
    let output = perf(&folder, &["--url", &url, "--proxy", "env"], &[("http_proxy", "socks5://me:unsaid77@h:1")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--proxy env: http_proxy is not an http:// proxy"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("unsaid77"));
}

#[test]
fn servers_of_this_machine_are_reached_straight() {
    let nobody = "http://127.0.0.1:1";
    let folder = tempfile::tempdir().unwrap();
    let output = perf(&folder, &["--url", "mock:?tokens=2", "-n", "2", "--proxy", nobody], &[]);
    assert_measured(&output);
    assert!(stderr(&output).contains("--proxy is not used for mock:"), "{}", stderr(&output));
    let output = perf(&folder, &["--url", "mock:", "-n", "1", "--proxy", "ftp://x"], &[]);
    assert!(stderr(&output).contains("--proxy is not an http:// proxy"), "{}", stderr(&output));
}

#[test]
fn hubs_are_reached_through_the_proxy_too() {
    let questions = b"{\"question\":\"1\"}\n".to_vec();
    let hub = Server::start(modelscope(vec![("/datasets/AI-ModelScope/HC3-Chinese/open_qa.jsonl", questions)]));
    let relay = Relay::start(hub.addr, Mood::Willing);
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--url", "mock:?tokens=2", "-n", "2", "--dataset", "openqa", "--proxy", &secret(&relay)];
    let output = perf(&folder, &arguments, &[("MODELSCOPE_ENDPOINT", "http://hub.invalid")]);
    assert_measured(&output);
    let heads = relay.heads();
    assert!(heads[0].starts_with("CONNECT hub.invalid:80 ") && heads[0].contains(CREDENTIALS), "{heads:?}");
    let refusing = Relay::start(hub.addr, Mood::Says(REFUSED));
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--url", "mock:", "--dataset", "openqa", "--proxy", &secret(&refusing)];
    let output = perf(&folder, &arguments, &[("MODELSCOPE_ENDPOINT", "http://hub.invalid")]);
    let text = stderr(&output);
    assert!(
        text.contains("407") && text.contains("through the proxy 127.0.0.1:") && !text.contains("unsaid77"),
        "{text}"
    );
}
