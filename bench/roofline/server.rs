//! The built-in mock server as a separate process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::cost::spawn_on_core;

/// A running mock, stopped when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts the mock with these parameters on core 1, on core 0 if there is only one, or with a thread on each of the
    /// cores 1 to 4 if there are eight or more: one core feeds about 75,000 events per second.
    pub fn start(parameters: &str) -> Server {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let core = usize::from(cores > 1);
        let several = cores >= 8;
        let list = if several { "1-4".to_string() } else { core.to_string() };
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
        command.args(["mock", "--port", "0", "--cores", &list]).args(parameters.split('&'));
        command.stdout(Stdio::piped());
        let child = if several { command.spawn() } else { spawn_on_core(command, core) };
        let mut child = child.expect("the binary was built for this bench");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("standard output is piped");
        BufReader::new(output).read_line(&mut line).expect("the mock prints its address");
        let address = line.split("//").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no address in '{line}'"));
        Server { child, address }
    }

    /// The URL of its chat endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/v1/chat/completions", self.address)
    }

    /// The mock's records of all requests since the last reset.
    pub fn truth(&self) -> serde_json::Value {
        serde_json::from_slice(&self.request("GET", "/truth")).expect("the records are JSON")
    }

    /// Clears the mock's records.
    pub fn reset(&self) {
        self.request("POST", "/truth/reset");
    }

    /// The output tokens that the mock has sent since its start.
    pub fn events_sent(&self) -> u64 {
        let page = self.request("GET", "/metrics");
        let page = String::from_utf8_lossy(&page);
        let line = page.lines().find(|line| line.starts_with("vllm:generation_tokens_total"));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        value.expect("the mock counts its tokens") as u64
    }

    /// How late the mock sent since the last reset, the 99.9th percentile, nanoseconds.
    pub fn lateness_p999_ns(&self) -> f64 {
        self.truth()["stats"]["lateness_ns"]["p999"].as_f64().unwrap_or(f64::NAN)
    }

    fn request(&self, method: &str, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("the mock listens");
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: mock\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the mock reads");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("the mock responds");
        let head = reply.windows(4).position(|window| window == b"\r\n\r\n").expect("a response has a head");
        reply.split_off(head + 4)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
