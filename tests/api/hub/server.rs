//! A hub on loopback with configurable responses, which records its requests.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A received request.
#[derive(Clone, Debug)]
pub struct HubRequest {
    /// Path and query.
    pub path: String,
    headers: Vec<(String, String)>,
}

impl HubRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The number of body bytes that are sent before the connection is closed.
    pub cut: Option<usize>,
    /// The body is sent byte by byte with this pause.
    pub drip: Option<Duration>,
    /// The end of the body is the end of the connection.
    pub no_length: bool,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: b"{\"error\":\"no\"}".to_vec(),
            cut: None,
            drip: None,
            no_length: false,
        }
    }

    /// A file, or its rest after the requested offset if the ETag matches.
    pub fn file(request: &HubRequest, body: &[u8], etag: &str) -> Reply {
        let mut reply =
            Reply { status: 200, headers: Vec::new(), body: body.to_vec(), cut: None, drip: None, no_length: false };
        reply.headers.push(("ETag", etag.to_string()));
        let start = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let same = request.header("if-range").is_none_or(|given| given == etag);
        if let Some(start) = start.map(|start| start.parse::<usize>().unwrap()).filter(|_| same) {
            reply.status = 206;
            reply.headers.push(("Content-Range", format!("bytes {start}-{}/{}", body.len() - 1, body.len())));
            reply.body.drain(..start);
        }
        reply
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    pub fn dripping(self, pause: Duration) -> Reply {
        Reply { drip: Some(pause), ..self }
    }

    pub fn without_length(self) -> Reply {
        Reply { no_length: true, ..self }
    }

    pub fn cut_after(self, bytes: usize) -> Reply {
        Reply { cut: Some(bytes), ..self }
    }
}

/// A running server; its threads end with the process.
pub struct Server {
    pub addr: SocketAddr,
    requests: Arc<Mutex<Vec<HubRequest>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&HubRequest) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { addr: listener.local_addr().unwrap(), requests: Arc::default() };
        let (requests, answer) = (server.requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (requests, answer) = (requests.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &requests, &*answer));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<HubRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// The paths of the requests so far.
    pub fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }
}

fn serve(stream: TcpStream, all: &Mutex<Vec<HubRequest>>, answer: &dyn Fn(&HubRequest) -> Reply) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        return;
    };
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let head = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    let pair = |line: String| line.split_once(": ").map(|(name, value)| (name.to_string(), value.to_string()));
    let request = HubRequest { path, headers: head.filter_map(pair).collect() };
    all.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.no_length && !reply.headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    let sent_bytes = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    let mut stream = stream;
    if let Some(pause) = reply.drip {
        let headed = stream.write_all(format!("{head}\r\n").as_bytes());
        let drop_by_drop = reply.body[..sent_bytes].iter().try_for_each(|byte| {
            std::thread::sleep(pause);
            stream.write_all(&[*byte])
        });
        // The client may have closed the connection.
        let _ = headed.and(drop_by_drop);
        return;
    }
    // The client may have closed the connection.
    let _ =
        stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&reply.body[..sent_bytes]));
}

/// The commit of all files of [`hugging_face`].
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Hugging Face with these files, each a path and its bytes.
pub fn hugging_face(files: Vec<(&'static str, Vec<u8>)>) -> impl Fn(&HubRequest) -> Reply + Send + Sync + 'static {
    move |request| match files.iter().find(|(path, _)| resolved(path, &request.path)) {
        Some((path, body)) => {
            let etag = format!("\"{:x}{}\"", body.len(), path.len());
            Reply::file(request, body, &etag).with("X-Repo-Commit", COMMIT)
        }
        None => Reply::status(404).with("X-Error-Code", "EntryNotFound").with("X-Repo-Commit", COMMIT),
    }
}

/// Whether `requested` is `/a/b/resolve/REVISION/file` for the `path` `/a/b/file`.
fn resolved(path: &str, requested: &str) -> bool {
    let Some((repository, rest)) = requested.split_once("/resolve/") else { return false };
    rest.split_once('/')
        .is_some_and(|(revision, file)| ["main", COMMIT].contains(&revision) && format!("{repository}/{file}") == path)
}

/// ModelScope with these files.
pub fn modelscope(files: Vec<(&'static str, Vec<u8>)>) -> impl Fn(&HubRequest) -> Reply + Send + Sync + 'static {
    move |request| {
        let found = files.iter().find(|(path, _)| {
            let (repository, file) = path.rsplit_once('/').unwrap();
            request.path.starts_with(&format!("/api/v1{repository}/repo?"))
                && request.path.contains("Revision=master")
                && request.path.split(['?', '&']).any(|part| part == format!("FilePath={file}"))
        });
        found.map_or(Reply::status(404), |(_, body)| Reply::file(request, body, "\"m1\""))
    }
}
