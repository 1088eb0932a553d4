//! A small HTTP proxy: CONNECT, and requests in absolute form. Wherever it is asked to go, it goes to one server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running proxy; its threads end with the process.
pub struct Relay {
    pub addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

/// What a proxy does with those who ask.
#[derive(Clone, Copy)]
pub enum Mood {
    Willing,
    /// This is the whole answer.
    Says(&'static str),
    /// Nothing is ever answered.
    Silent,
}

impl Relay {
    pub fn start(to: SocketAddr, mood: Mood) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay { addr: listener.local_addr().unwrap(), heads: Arc::default() };
        let heads = relay.heads.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let heads = heads.clone();
                std::thread::spawn(move || serve(client, to, mood, &heads));
            }
        });
        relay
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(client: TcpStream, to: SocketAddr, mood: Mood, heads: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut client = client;
    let mut server: Option<TcpStream> = None;
    while let Some(head) = read_head(&mut reader) {
        heads.lock().unwrap().push(head.clone());
        match mood {
            Mood::Willing => {}
            Mood::Silent => {
                let _ = reader.read_to_end(&mut Vec::new());
                return;
            }
            Mood::Says(answer) => {
                let _ = client.write_all(answer.as_bytes());
                return;
            }
        }
        let server = server.get_or_insert_with(|| {
            let server = TcpStream::connect(to).unwrap();
            let (mut from, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            if head.starts_with("CONNECT ") {
                // In two pieces, as networks may have it.
                client.write_all(b"HTTP/1.1 200 Connection ").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(2));
                client.write_all(b"established\r\nVia: test\r\n\r\n").unwrap();
            }
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut back);
                let _ = back.shutdown(Shutdown::Both);
            });
            server
        });
        if head.starts_with("CONNECT ") {
            let _ = std::io::copy(&mut reader, server);
            let _ = server.shutdown(Shutdown::Both);
            return;
        }
        let (method, rest) = head.split_once(' ').unwrap();
        let path = rest.strip_prefix("http://").expect("an absolute request").split_once('/').unwrap().1;
        let length =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let _ = server.write_all(&[format!("{method} /{path}").as_bytes(), &body].concat());
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}
