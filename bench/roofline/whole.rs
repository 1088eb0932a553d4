//! Responses that are not streamed, from nginx: requests per second beside those of wrk, each pinned to one core with all
//! its threads.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cost::{machine, spawn_on_core};
use crate::load::{median, rounds};
use crate::ours::{measure, spec};
use crate::tls::{free_port, start_nginx, wait_for_nginx};

const CONNECTIONS: u32 = 64;
/// Every response.
const BODY: &str = r#"{"id":"1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Because of Rayleigh scattering."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":6,"total_tokens":15}}"#;

/// Prints requests per second of both.
pub fn whole(full: bool) {
    println!("{}", machine());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let config = CONFIG
        .replace("FOLDER", &folder.path().display().to_string())
        .replace("PORT", &port.to_string())
        .replace("BODY", BODY);
    std::fs::write(folder.path().join("nginx.conf"), config).expect("the folder is writable");
    let Some(_nginx) = start_nginx(folder.path()) else {
        println!("skipped: nginx is not installed");
        return;
    };
    wait_for_nginx(port);
    let url = format!("http://127.0.0.1:{port}/v1/chat/completions");
    let (seconds, requests) = if full { (5, 400_000) } else { (1, 200) };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds(full) {
        theirs.extend(wrk(&url, seconds, folder.path()));
        let mut spec = spec(&url);
        spec.sampling.no_stream = true;
        spec.load.parallel = vec![CONNECTIONS];
        spec.load.number = vec![requests];
        let run = measure(spec);
        let worker = &run.worker;
        let per_s = run.summary.counts.ok as f64 / (worker.wall_ns as f64 / 1e9);
        println!(
            "ringmark: {per_s:.0} requests/s, worker CPU {:.0} %, {} waits",
            (worker.cpu_user_ns + worker.cpu_system_ns) as f64 / worker.wall_ns as f64 * 100.0,
            worker.gather_ns.len()
        );
        ours.push(per_s);
    }
    match theirs.is_empty() {
        true => println!("wrk is not installed"),
        false => {
            let (ours, theirs) = (median(ours), median(theirs));
            println!("ringmark {ours:.0}, wrk {theirs:.0} requests/s: {:.2} (at least 0.9 expected)", ours / theirs);
        }
    }
}

/// Requests per second of wrk; `None` if it is not installed.
fn wrk(url: &str, seconds: u32, folder: &Path) -> Option<f64> {
    let script = folder.join("post.lua");
    let body = r#"{"model":"mock","messages":[{"role":"user","content":"Why is the sky blue?"}],"stream":false}"#;
    let text = format!("wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = '{body}'\n");
    std::fs::write(&script, text).ok()?;
    let mut command = Command::new("wrk");
    command.args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{seconds}s"), "-s"]).arg(script).arg(url);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let output = spawn_on_core(command, 0).ok()?.wait_with_output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).to_string();
    let per_s: f64 = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"))?.trim().parse().ok()?;
    println!("wrk: {per_s:.0} requests/s");
    Some(per_s)
}

const CONFIG: &str = r#"
daemon off;
pid FOLDER/nginx.pid;
error_log FOLDER/error.log warn;
worker_processes 1;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    keepalive_requests 1000000000;
    server {
        listen 127.0.0.1:PORT;
        location / {
            default_type application/json;
            return 200 'BODY';
        }
    }
}
"#;
