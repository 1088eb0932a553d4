//! TLS in front of the mock: certificate checks, handshake times, session resumption; and Unix sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use ringmark::mock::{Config, Mock};

use super::call::{Call, line};
use super::tls_server::{TlsServer, authority, client_certificate};

fn mock(query: &str) -> Mock {
    let config = Config::from_query(query).unwrap();
    Mock::start(&config, &[], "127.0.0.1:0".parse().unwrap()).unwrap()
}

const QUICK: &str = "ttft=2ms&itl=1ms&tokens=5";

/// A call over TLS. `ca.pem` is the certificate authority of the server, `other.pem` another one.
fn over_tls(server: &TlsServer, flags: &str) -> Call {
    let url = format!("https://{}/v1/chat/completions", server.addr);
    let other = authority().pem();
    let files = [("ca.pem", server.authority.as_str()), ("other.pem", other.as_str()), ("empty.pem", "nothing\n")];
    let broken = server.authority.replace("-----END CERTIFICATE-----", "");
    let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let files: Vec<(&str, &str)> =
        files.into_iter().chain([("broken.pem", broken.as_str()), ("key.pem", key)]).collect();
    line(&format!("--url {url} --model m --prompt 'one two' {flags}"), &files)
}

/// The error line of a failed call.
#[track_caller]
fn error_of(call: &Call) -> String {
    assert_eq!(call.status, 2, "{}", call.stderr);
    let lines: Vec<&str> = call.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{}", call.stderr);
    lines[0].to_string()
}

#[test]
fn a_server_is_trusted_by_its_authority() {
    let backend = mock(QUICK);
    let server = TlsServer::start(backend.addr());
    for (flags, streamed) in [("", "1"), ("--no-stream", "0"), ("--force-fallback", "1")] {
        let call = over_tls(&server, &format!("--cacert ca.pem -n 8 --parallel 4 --cold {flags}"));
        call.check(8.0);
        assert_eq!(call.requests("streamed"), vec![streamed; 8], "{flags}");
        assert_eq!(call.number("Average output tokens per request"), 5.0);
        // Only requests that opened a connection have a handshake time.
        let handshakes = call.requests("tls_handshake_ns");
        let opened = call.requests("reused").iter().filter(|reused| *reused == "0").count();
        assert!(opened > 0 && handshakes.iter().filter(|ns| !ns.is_empty()).count() == opened, "{handshakes:?}");
        assert!(handshakes.iter().filter_map(|ns| ns.parse::<u64>().ok()).all(|ns| ns > 10_000), "{handshakes:?}");
    }
}

/// Servers send the session tickets of TLS 1.3 after the handshake, when the connection is open and not in use yet.
#[test]
fn late_session_tickets_close_no_connection() {
    let backend = mock(QUICK);
    for receive in ["", "--force-fallback"] {
        let server = TlsServer::with_late_tickets(backend.addr(), Duration::from_millis(30));
        // The slots begin to send one after the other, so that their connections wait for up to 300 ms.
        let flags = format!("--cacert ca.pem -n 8 --parallel 4 --ramp 0.4 --no-test-connection {receive}");
        over_tls(&server, &flags).check(8.0);
        let (full, resumed) = server.handshakes();
        assert_eq!(full + resumed, 4, "a connection was replaced ({receive})");
    }
}

#[test]
fn a_client_certificate_is_sent_to_a_server_that_requires_one() {
    let backend = mock(QUICK);
    let clients = authority();
    let server = TlsServer::for_clients_of(backend.addr(), &clients);
    let ((cert, key), (foreign, foreign_key)) = (client_certificate(&clients), client_certificate(&authority()));
    let both = format!("{cert}{key}");
    let files = [
        ("ca.pem", server.authority.as_str()),
        ("cert.pem", &cert),
        ("key.pem", &key),
        ("both.pem", &both),
        ("foreign.pem", &foreign),
        ("foreign.key", &foreign_key),
    ];
    let url = format!("https://{}/v1/chat/completions", server.addr);
    let call = |flags: &str| line(&format!("--url {url} --prompt 'one two' --cacert ca.pem -n 6 {flags}"), &files);
    // Without --model, the list of models is read with the certificate as well.
    for flags in ["--cert cert.pem --key key.pem", "--cert both.pem --model m", "--cert both.pem --force-fallback"] {
        let call = call(flags);
        call.check(6.0);
        // Neither the key nor where it is.
        assert!(!call.arguments().contains("key.pem"), "{}", call.arguments());
    }
    for (flags, words) in [
        ("--model m", "give one with --cert FILE and --key FILE"),
        ("--model m --cert foreign.pem --key foreign.key", "rejects the client certificate"),
        ("--cert cert.pem --key foreign.key", "belongs to another certificate"),
        ("--cert cert.pem", "give it with --key FILE"),
        ("--key key.pem", "add --cert FILE"),
    ] {
        let error = error_of(&call(flags));
        assert!(error.contains(words), "{flags}: {error}");
    }
    let error = error_of(&line("--url http://127.0.0.1:1/v1 --model m --cert cert.pem", &files));
    assert!(error.contains("--cert applies to TLS"), "{error}");
}

#[test]
fn the_witness_supports_tls() {
    // The witness needs a core without workers.
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        return;
    }
    let backend = mock(QUICK);
    let server = TlsServer::start(backend.addr());
    let call = over_tls(&server, "--cacert ca.pem --duration 1 --parallel 2 --witness 2");
    call.witnessed();
}

#[test]
fn the_host_name_is_verified() {
    let backend = mock(QUICK);
    let server = TlsServer::named(backend.addr(), &["localhost"]);
    let call = |host: &str| {
        let url = format!("https://{host}:{}/v1/chat/completions", server.addr.port());
        let files = [("ca.pem", server.authority.as_str())];
        line(&format!("--url {url} --model m --prompt p -n 2 --cacert ca.pem"), &files)
    };
    call("localhost").check(2.0);
    let error = error_of(&call("127.0.0.1"));
    assert!(error.contains("a name in --url that the certificate has"), "{error}");
}

#[test]
fn untrusted_certificates_are_one_line() {
    let backend = mock(QUICK);
    let server = TlsServer::start(backend.addr());
    for (flags, what) in [
        ("", "--cacert"),
        ("--cacert other.pem", "--cacert"),
        ("--cacert none.pem", "none.pem"),
        ("--cacert empty.pem", "no certificate in this file"),
        ("--cacert key.pem", "no certificate in this file"),
        ("--cacert broken.pem", "--cacert broken.pem"),
        ("--cacert .", "--cacert ."),
    ] {
        let error = error_of(&over_tls(&server, &format!("-n 2 {flags}")));
        assert!(error.contains(what), "{flags}: {error}");
    }
}

#[test]
fn expired_and_future_certificates_are_reported() {
    let backend = mock(QUICK);
    for (years, what) in [((2000, 2001), "has expired"), ((3000, 3001), "is not valid yet")] {
        let server = TlsServer::valid(backend.addr(), &["127.0.0.1"], years);
        let error = error_of(&over_tls(&server, "-n 2 --cacert ca.pem"));
        assert!(error.contains(what) && error.contains("--insecure"), "{error}");
    }
}

#[test]
fn insecure_gives_a_warning() {
    let backend = mock(QUICK);
    let server = TlsServer::start(backend.addr());
    let call = over_tls(&server, "--insecure -n 2");
    call.check(2.0);
    assert!(call.findings().iter().any(|text| text.contains("NOT verified")), "{:?}", call.findings());
    // The warning is also on the screen without --quiet.
    let url = format!("https://{}/v1/chat/completions", server.addr);
    let loud = std::process::Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .args(["perf", "--url", &url, "--model", "m", "--prompt", "p", "-n", "1", "--insecure", "--outputs-dir"])
        .arg(tempfile::tempdir().unwrap().path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&loud.stderr).contains("NOT verified"));
}

#[test]
fn a_plain_http_port_is_reported() {
    let backend = mock(QUICK);
    let call =
        line(&format!("--url https://{}/v1/completions --model m --prompt p -n 1 --insecure", backend.addr()), &[]);
    let error = error_of(&call);
    assert!(error.contains("use http:// instead of https://"), "{error}");
}

#[test]
fn sessions_are_resumed_on_new_connections() {
    let backend = mock(&format!("{QUICK}&close=silent"));
    let server = TlsServer::start(backend.addr());
    let call = over_tls(&server, "--cacert ca.pem -n 12 --parallel 1 --no-test-connection");
    call.check(12.0);
    let (full, resumed) = server.handshakes();
    assert!(full <= 2 && resumed >= 8, "{full} full, {resumed} resumed");
}

#[test]
fn the_model_is_requested_over_tls() {
    let backend = mock(&format!("{QUICK}&model=asked"));
    let server = TlsServer::start(backend.addr());
    let files = [("ca.pem", server.authority.as_str())];
    let call = line(&format!("--url https://{}/v1 --prompt p -n 1 --cacert ca.pem", server.addr), &files);
    call.check(1.0);
    assert_eq!(call.bodies()[0]["model"], "asked");
}

#[test]
fn a_unix_socket_carries_requests() {
    let backend = mock(QUICK);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("llm.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let to = backend.addr();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || forward(client, to));
        }
    });
    let url = format!("unix:{}:/v1/completions", path.display());
    for flags in ["", "--force-fallback", "--no-stream"] {
        let call = line(&format!("--url {url} --prompt p -n 6 --parallel 2 {flags}"), &[]);
        call.check(6.0);
        assert_eq!(call.number("Average output tokens per request"), 5.0);
    }
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        line(&format!("--url {url} --prompt p --duration 1 --parallel 2 --witness 2"), &[]).witnessed();
    }
    let call = line("--url unix:/nowhere/at/all.sock --model m --prompt p -n 1", &[]);
    assert!(error_of(&call).contains("/nowhere/at/all.sock"), "{}", call.stderr);
}

/// Forwards bytes between a Unix and a TCP socket.
fn forward(mut client: UnixStream, to: SocketAddr) {
    let mut upstream = TcpStream::connect(to).unwrap();
    let (mut from, mut back) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        copy(&mut from, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    copy(&mut client, &mut upstream);
    let _ = upstream.shutdown(Shutdown::Both);
}

fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
