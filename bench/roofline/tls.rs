//! The cost of TLS per event in the client: the same load through nginx, plain and encrypted, interleaved.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::load::{median, rounds};
use crate::ours::{FinishedRun, measure, spec};
use crate::server::Server;
use crate::truth::compare;

/// Streams in flight, and tokens per response.
const LOAD: (u32, u32) = (500, 100);
const SMOKE: (u32, u32) = (10, 5);

/// nginx in front of the mock, on the mock's core; stopped when dropped.
struct Proxy {
    _nginx: Nginx,
    plain: u16,
    tls: u16,
    _folder: TempDir,
}

/// Measures the CPU time of the worker per event, plain and with TLS. Handshakes are not included.
pub fn tls(full: bool) {
    let (streams, tokens) = if full { LOAD } else { SMOKE };
    let server = Server::start(&format!("ttft=uniform(200ms,300ms)&itl=50ms&tokens={tokens}&seed=4"));
    let Some(proxy) = Proxy::start(server.address.port()) else {
        println!("skipped: nginx is not installed");
        return;
    };
    let (mut plain, mut encrypted, mut differences) = (vec![], vec![], vec![]);
    for round in 0..rounds(full) {
        let mut cpu = [0.0; 2];
        for (place, url) in
            [format!("http://127.0.0.1:{}", proxy.plain), format!("https://localhost:{}", proxy.tls)].iter().enumerate()
        {
            server.reset();
            let run = load(&format!("{url}/v1/chat/completions"), place == 1, streams);
            cpu[place] = run.cpu_per_event_us();
            let mut comparison = compare(&run, &server.truth(), 0);
            let (p50, p99) = (comparison.arrival_lag_us(0.5), comparison.arrival_lag_us(0.99));
            println!(
                "round {round}, {}: CPU {:.2} us per event, lost {}, arrival timestamp after the mock's send p50 {p50:.0} us, p99 {p99:.0} us",
                ["plain", "TLS"][place],
                cpu[place],
                comparison.lost
            );
        }
        plain.push(cpu[0]);
        encrypted.push(cpu[1]);
        differences.push(cpu[1] - cpu[0]);
    }
    println!(
        "CPU per event: plain {:.2} us, TLS {:.2} us; TLS costs {:.2} us per event",
        median(plain),
        median(encrypted),
        median(differences)
    );
}

fn load(url: &str, insecure: bool, streams: u32) -> FinishedRun {
    let mut spec = spec(url);
    spec.target.insecure = insecure;
    spec.load.parallel = vec![streams];
    spec.load.number = vec![u64::from(streams) * 2];
    measure(spec)
}

impl Proxy {
    /// Starts nginx; `None` if it is not installed.
    fn start(backend: u16) -> Option<Proxy> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path();
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("the name is valid");
        let key = certificate.signing_key.serialize_pem();
        let (plain, tls) = (free_port(), free_port());
        let config = include_str!("../../tools/nginx/nginx.conf.template")
            .replace("FOLDER", &path.display().to_string())
            .replace("PLAIN", &plain.to_string())
            .replace("TLS", &tls.to_string())
            .replace("BACKEND", &backend.to_string());
        for (name, text) in [("server.pem", certificate.cert.pem()), ("server.key", key), ("nginx.conf", config)] {
            fs::write(path.join(name), text).expect("the folder is writable");
        }
        let nginx = start_nginx(path)?;
        let proxy = Proxy { _nginx: nginx, plain, tls, _folder: folder };
        wait_for_nginx(plain);
        Some(proxy)
    }
}

/// A running nginx; stopped when dropped.
pub struct Nginx {
    child: Child,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, because the master process must stop its worker.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Starts nginx on core 1 with the configuration in a folder; `None` if it is not installed.
pub fn start_nginx(folder: &Path) -> Option<Nginx> {
    let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].into_iter().find(|path| Path::new(path).is_file())?;
    let started = Command::new("taskset")
        .args(["-c", "1", program, "-p"])
        .arg(folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        .arg("-e")
        .arg(folder.join("error.log"))
        .stdout(Stdio::null())
        .spawn();
    started.ok().map(|child| Nginx { child })
}

/// Waits until nginx accepts connections.
pub fn wait_for_nginx(port: u16) {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "nginx does not respond");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that nothing uses.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    listener.local_addr().expect("the socket is bound").port()
}
