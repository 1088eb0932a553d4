//! What TLS costs the client for each event: the same load through nginx, plain and encrypted, in turns.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::load::{median, rounds};
use crate::ours::{Ours, measure, spec};
use crate::server::Server;
use crate::truth::compare;

/// Streams in flight, and tokens of each answer.
const LOAD: (u32, u32) = (500, 100);
const SMOKE: (u32, u32) = (10, 5);

/// nginx in front of the mock, on its core; stopped when dropped.
struct Front {
    child: Child,
    plain: u16,
    tls: u16,
    _folder: TempDir,
}

/// The part: CPU of the worker per event, plain and over TLS. Handshakes are over before it is counted.
pub fn tls(full: bool) {
    let (streams, tokens) = if full { LOAD } else { SMOKE };
    let server = Server::start(&format!("ttft=uniform(200ms,300ms)&itl=50ms&tokens={tokens}&seed=4"));
    let Some(front) = Front::start(server.address.port()) else {
        println!("skipped: nginx is not installed");
        return;
    };
    let (mut plain, mut encrypted, mut prices) = (vec![], vec![], vec![]);
    for round in 0..rounds(full) {
        let mut cpu = [0.0; 2];
        for (place, url) in
            [format!("http://127.0.0.1:{}", front.plain), format!("https://localhost:{}", front.tls)].iter().enumerate()
        {
            server.reset();
            let run = load(&format!("{url}/v1/chat/completions"), place == 1, streams);
            cpu[place] = run.cpu_per_event_us();
            let mut compared = compare(&run, &server.truth(), 0);
            let (p50, p99) = (compared.behind_us(0.5), compared.behind_us(0.99));
            println!(
                "round {round}, {}: CPU {:.2} us an event, lost {}, arrival behind the mock's send p50 {p50:.0} us, p99 {p99:.0} us",
                ["plain", "TLS"][place],
                cpu[place],
                compared.lost
            );
        }
        plain.push(cpu[0]);
        encrypted.push(cpu[1]);
        prices.push(cpu[1] - cpu[0]);
    }
    println!(
        "CPU per event: plain {:.2} us, TLS {:.2} us; TLS costs {:.2} us an event",
        median(plain),
        median(encrypted),
        median(prices)
    );
}

fn load(url: &str, insecure: bool, streams: u32) -> Ours {
    let mut spec = spec(url);
    spec.target.insecure = insecure;
    spec.load.parallel = vec![streams];
    spec.load.number = vec![u64::from(streams) * 2];
    measure(spec)
}

impl Front {
    /// `None` where there is no nginx.
    fn start(backend: u16) -> Option<Front> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path();
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("a name is enough");
        let key = certificate.signing_key.serialize_pem();
        let (plain, tls) = (free_port(), free_port());
        let config = include_str!("../../tools/nginx/nginx.conf.template")
            .replace("FOLDER", &place.display().to_string())
            .replace("PLAIN", &plain.to_string())
            .replace("TLS", &tls.to_string())
            .replace("BACKEND", &backend.to_string());
        for (name, text) in [("server.pem", certificate.cert.pem()), ("server.key", key), ("nginx.conf", config)] {
            fs::write(place.join(name), text).expect("the folder is ours");
        }
        let child = nginx(place)?;
        let front = Front { child, plain, tls, _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", plain)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "nginx does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(front)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Its master has to tell its worker, so it is asked rather than killed.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn nginx(place: &Path) -> Option<Child> {
    let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].into_iter().find(|path| Path::new(path).is_file())?;
    let started = Command::new("taskset")
        .args(["-c", "1", program, "-p"])
        .arg(place)
        .arg("-c")
        .arg(place.join("nginx.conf"))
        .arg("-e")
        .arg(place.join("error.log"))
        .stdout(Stdio::null())
        .spawn();
    started.ok()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    listener.local_addr().expect("it is bound").port()
}
