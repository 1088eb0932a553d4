//! A hub on loopback: it answers as it is told and remembers what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Only so many bytes of the body are sent before the connection closes.
    pub cut: Option<usize>,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: b"{\"error\":\"no\"}".to_vec(), cut: None }
    }

    /// A file, or the part of it that is asked for while it is the same file.
    pub fn file(asked: &Asked, body: &[u8], etag: &str) -> Reply {
        let mut reply = Reply { status: 200, headers: Vec::new(), body: body.to_vec(), cut: None };
        reply.headers.push(("ETag", etag.to_string()));
        let start = asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let same = asked.header("if-range").is_none_or(|given| given == etag);
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

    pub fn cut_after(self, bytes: usize) -> Reply {
        Reply { cut: Some(bytes), ..self }
    }
}

/// A running server; its threads end with the process.
pub struct Server {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { addr: listener.local_addr().unwrap(), asked: Arc::default() };
        let (asked, answer) = (server.asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answer) = (asked.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &asked, &*answer));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Their paths.
    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }
}

fn serve(stream: TcpStream, all: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Reply) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        return;
    };
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let head = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    let pair = |line: String| line.split_once(": ").map(|(name, value)| (name.to_string(), value.to_string()));
    let asked = Asked { path, headers: head.filter_map(pair).collect() };
    all.lock().unwrap().push(asked.clone());
    let reply = answer(&asked);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    let sent = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    let mut stream = stream;
    // A client that has gone is no matter of the server's.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&reply.body[..sent]));
}

/// The commit that [`hugging_face`] answers for.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Hugging Face with these files, each a path and its bytes.
pub fn hugging_face(files: Vec<(&'static str, Vec<u8>)>) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    move |asked| match files.iter().find(|(path, _)| resolved(path, &asked.path)) {
        Some((path, body)) => {
            let etag = format!("\"{:x}{}\"", body.len(), path.len());
            Reply::file(asked, body, &etag).with("X-Repo-Commit", COMMIT)
        }
        None => Reply::status(404).with("X-Error-Code", "EntryNotFound").with("X-Repo-Commit", COMMIT),
    }
}

/// Whether `asked` is `/a/b/resolve/REVISION/file` where `path` is `/a/b/file`.
fn resolved(path: &str, asked: &str) -> bool {
    let Some((repository, rest)) = asked.split_once("/resolve/") else { return false };
    rest.split_once('/')
        .is_some_and(|(revision, file)| ["main", COMMIT].contains(&revision) && format!("{repository}/{file}") == path)
}

/// ModelScope with these files.
pub fn modelscope(files: Vec<(&'static str, Vec<u8>)>) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    move |asked| {
        let found = files.iter().find(|(path, _)| {
            let (repository, file) = path.rsplit_once('/').unwrap();
            asked.path.starts_with(&format!("/api/v1{repository}/repo?"))
                && asked.path.contains("Revision=master")
                && asked.path.split(['?', '&']).any(|part| part == format!("FilePath={file}"))
        });
        found.map_or(Reply::status(404), |(_, body)| Reply::file(asked, body, "\"m1\""))
    }
}
