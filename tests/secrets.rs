//! No file of a call contains a secret of the call, even if the server repeats it, and the umask decides who can read
//! the files.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// A server whose answers repeat the request: its first line, its headers and its body. Its threads end with the process.
fn repeating_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(thread::spawn(|| serve(stream)))));
    address
}

fn serve(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    for number in 0.. {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let header = line.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let text = head + &String::from_utf8_lossy(&body);
        // Every second answer is an error.
        let (status, answer) = match number % 2 {
            0 => ("200 OK", serde_json::json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})),
            _ => ("500 No", serde_json::json!({"error": {"message": text}})),
        };
        let answer = answer.to_string();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
        if stream.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn no_file_has_a_secret_of_the_call() {
    let secrets = [
        "sk-0123456789abcdefKEY",
        "urlCode0123456789abcdef",
        "urlSig0123456789abcdef",
        "amzSignature0123456789ab",
        "jwtValue0123456789abcdef",
        "bodyToken0123456789abcde",
        "bodyPwd0123456789abcdefg",
        "bodyPat0123456789abcdefg",
        "headerPass0123456789abcd",
    ];
    let [key, code, sig, amz, jwt, token, pwd, pat, header] = secrets;
    let url = format!(
        "http://{}/v1/chat/completions?code={code}&sig={sig}&X-Amz-Signature={amz}&top_p=visible1",
        repeating_server()
    );
    let extra =
        format!(r#"{{"accessToken":"{token}","auth":{{"userPwd":"{pwd}","githubPat":"{pat}"}},"pattern":"visible2"}}"#);
    for save in ["text", "full"] {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_ringmark"))
            .args(["perf", "--url", &url, "--model", "m", "--api-key", key, "-n", "6", "--no-stream", "--debug"])
            .args(["--headers", &format!("X-Session-Jwt={jwt}"), &format!("X-User-Pass={header}"), "--save", save])
            .args(["--prompt", "visible3", "--extra-args", &extra, "--outputs-dir"])
            .arg(folder.path())
            .output()
            .unwrap();
        let shown = [output.stdout, output.stderr].concat();
        let mut all = vec![("the terminal".to_string(), shown)];
        all.extend(files(folder.path()).into_iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())));
        assert!(all.len() > 5, "{}", String::from_utf8_lossy(&all[0].1));
        let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        for (name, bytes) in &all {
            for secret in secrets {
                assert!(!has(bytes, secret), "{secret} is in {name}");
            }
        }
        for visible in ["visible1", "visible2", "visible3"] {
            assert!(all.iter().any(|(name, bytes)| name.ends_with(".db") && has(bytes, visible)), "{visible}");
        }
    }
}

#[test]
fn the_umask_decides_who_can_read_the_files() {
    for (umask, mode) in [("077", 0o600), ("022", 0o644), ("002", 0o664)] {
        let folder = tempfile::tempdir().unwrap();
        let call = format!(
            "umask {umask}; exec {} perf --url 'mock:?ttft=1ms&itl=1ms&tokens=3' -n 3 --quiet --csv {out}/x.csv --outputs-dir {out}",
            env!("CARGO_BIN_EXE_ringmark"),
            out = folder.path().join("out").display(),
        );
        fs::create_dir(folder.path().join("out")).unwrap();
        let output = Command::new("sh").args(["-c", &call]).output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
        let files = files(&folder.path().join("out"));
        assert!(files.len() >= 8, "{files:?}");
        for path in files {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
        }
    }
}
