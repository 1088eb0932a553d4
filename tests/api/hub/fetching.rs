//! Downloads into the caches: new, cached and resumed files, and errors.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringmark::hub::{Fetched, Hub, HubItem, Limits, Settings, fetch, required_items};
use ringmark::spec::{DataSource, Spec};
use ringmark::workload::progress::StepProgress;
use tempfile::TempDir;

use super::server::{COMMIT, Reply, Server, hugging_face, modelscope};

const OPENQA: &[u8] = b"{\"question\":\"1\"}\n{\"question\":\"2\"}\n";

/// A machine with empty caches and one hub.
struct Machine {
    home: TempDir,
    settings: Settings,
}

fn machine(source: DataSource, endpoint: &str, more: &[(&str, &str)]) -> Machine {
    let home = tempfile::tempdir().unwrap();
    let at_home = home.path().to_str().unwrap().to_string();
    let variable = |name: &str| {
        let given = more.iter().find(|(given, _)| *given == name).map(|(_, value)| value.to_string());
        given.or_else(|| match name {
            "HOME" => Some(at_home.clone()),
            "HF_ENDPOINT" | "MODELSCOPE_ENDPOINT" => Some(endpoint.to_string()),
            _ => None,
        })
    };
    let settings = Settings { pause: Duration::ZERO, ..Settings::new(source, &variable).unwrap() };
    Machine { home, settings }
}

impl Machine {
    fn fetch(&self, item: &HubItem) -> Result<Fetched, String> {
        let result = fetch(item, &self.settings, &StepProgress::default(), &mut |_| {});
        if let Err(text) = &result {
            assert!(!text.contains('\n') && text.starts_with("--"), "{text}");
        }
        result
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.home.path().join(".cache").join(path)
    }

    /// Files and links under the caches, without locks.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.at(""), &mut found);
        let mut found: Vec<String> = found
            .iter()
            .map(|path| path.strip_prefix(self.at("").to_str().unwrap()).unwrap().to_string())
            .filter(|path| !path.ends_with("ringmark.lock"))
            .collect();
        found.sort();
        found
    }
}

fn collect(folder: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => collect(&entry.path(), into),
            false => into.push(entry.path().to_str().unwrap().to_string()),
        }
    }
}

fn dataset(name: &str) -> HubItem {
    required_items(&Spec::default().with(|s| s.data.dataset = Some(name.to_string()))).remove(0)
}

fn tokenizer(id: &str) -> HubItem {
    required_items(&Spec::default().with(|s| s.data.tokenizer_path = Some(id.to_string()))).remove(0)
}

#[test]
fn hugging_faces_cache_has_the_layout_of_its_tools_and_is_reused() {
    let server =
        Server::start(hugging_face(vec![("/datasets/Hello-SimpleAI/HC3-Chinese/open_qa.jsonl", OPENQA.into())]));
    let machine = machine(DataSource::Huggingface, &server.url(), &[]);
    let found = machine.fetch(&dataset("openqa")).unwrap();
    assert!(!found.from_cache);
    assert_eq!(fs::read(&found.path).unwrap(), OPENQA);
    let root = "huggingface/hub/datasets--Hello-SimpleAI--HC3-Chinese";
    assert_eq!(found.path, machine.at(&format!("{root}/snapshots/{COMMIT}/open_qa.jsonl")));
    assert_eq!(fs::read_to_string(machine.at(&format!("{root}/refs/main"))).unwrap(), COMMIT);
    let link = fs::read_link(&found.path).unwrap();
    assert!(link.to_str().unwrap().starts_with("../../blobs/"), "{link:?}");
    assert_eq!(machine.files().len(), 3, "{:?}", machine.files());
    let again = machine.fetch(&dataset("openqa")).unwrap();
    assert_eq!(again, Fetched { from_cache: true, ..found });
    assert_eq!(server.paths(), ["/datasets/Hello-SimpleAI/HC3-Chinese/resolve/main/open_qa.jsonl"]);
}

#[test]
fn files_in_subfolders_of_a_repository_are_cached() {
    let place = "/datasets/shareAI/ShareGPT-Chinese-English-90k/sharegpt_jsonl/common_zh_70k.jsonl";
    let server = Server::start(hugging_face(vec![(place, OPENQA.into())]));
    let machine = machine(DataSource::Huggingface, &server.url(), &[]);
    let found = machine.fetch(&dataset("share_gpt_zh_multi_turn")).unwrap();
    let root = "huggingface/hub/datasets--shareAI--ShareGPT-Chinese-English-90k";
    assert_eq!(found.path, machine.at(&format!("{root}/snapshots/{COMMIT}/sharegpt_jsonl/common_zh_70k.jsonl")));
    assert_eq!(fs::read(&found.path).unwrap(), OPENQA);
    assert!(machine.fetch(&dataset("share_gpt_zh_multi_turn")).unwrap().from_cache);
}

#[test]
fn modelscopes_cache_has_the_layout_of_its_tools_and_is_reused() {
    let files = vec![
        ("/datasets/AI-ModelScope/HC3-Chinese/open_qa.jsonl", OPENQA.into()),
        ("/models/Qwen/Qwen2.5-0.5B/tokenizer.json", b"{}".into()),
        ("/models/Qwen/Qwen2.5-0.5B/tokenizer_config.json", b"{}".into()),
    ];
    let server = Server::start(modelscope(files));
    let machine = machine(DataSource::Modelscope, &server.url(), &[("MODELSCOPE_API_TOKEN", "ms-secret")]);
    let found = machine.fetch(&dataset("openqa")).unwrap();
    assert_eq!(found.path, machine.at("modelscope/hub/datasets/AI-ModelScope/HC3-Chinese/open_qa.jsonl"));
    let folder = machine.fetch(&tokenizer("Qwen/Qwen2.5-0.5B")).unwrap();
    assert_eq!(folder.path, machine.at("modelscope/hub/models/Qwen/Qwen2___5-0___5B"));
    assert_eq!(machine.files().len(), 3, "{:?}", machine.files());
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.header("authorization") == Some("Bearer ms-secret")));
    assert!(requests.iter().all(|request| request.header("cookie") == Some("m_session_id=ms-secret")));
    assert!(machine.fetch(&dataset("openqa")).unwrap().from_cache);
    assert!(machine.fetch(&tokenizer("Qwen/Qwen2.5-0.5B")).unwrap().from_cache);
    assert_eq!(server.requests().len(), requests.len(), "cached files are requested again");
}

#[test]
fn caches_of_both_hubs_tools_are_searched() {
    let machine = machine(DataSource::Modelscope, "http://127.0.0.1:1", &[]);
    let put = |path: &str| {
        let path = machine.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "main-commit").unwrap();
    };
    // The layout of older ModelScope versions, without a folder for models.
    put("modelscope/hub/Qwen/Qwen2___5-7B/tokenizer.json");
    put("modelscope/hub/Qwen/Qwen2___5-7B/tokenizer_config.json");
    // The layout of the newest version.
    put("modelscope/datasets/AI-ModelScope--HC3-Chinese/snapshots/master/open_qa.jsonl");
    let found = machine.fetch(&dataset("openqa")).unwrap();
    assert!(found.from_cache && found.path.ends_with("snapshots/master/open_qa.jsonl"));
    let root = "huggingface/hub/datasets--Yukang--LongAlpaca-12k";
    put(&format!("{root}/refs/main"));
    put(&format!("{root}/snapshots/main-commit/LongAlpaca-12k.json"));
    let found = machine.fetch(&tokenizer("Qwen/Qwen2.5-7B")).unwrap();
    assert_eq!(found.path, machine.at("modelscope/hub/Qwen/Qwen2___5-7B"));
    let found = machine.fetch(&dataset("longalpaca")).unwrap();
    assert!(found.from_cache && found.path.ends_with("snapshots/main-commit/LongAlpaca-12k.json"));
}

#[test]
fn incomplete_tokenizers_are_completed() {
    let files = vec![
        ("/a/b/tokenizer.json", b"{}".to_vec()),
        ("/a/b/tokenizer_config.json", b"{}".to_vec()),
        ("/a/b/chat_template.jinja", b"x".to_vec()),
        ("/a/bare/tokenizer.json", b"{}".to_vec()),
    ];
    let server = Server::start(hugging_face(files));
    let machine = machine(DataSource::Huggingface, &server.url(), &[]);
    let folder = machine.fetch(&tokenizer("a/b")).unwrap().path;
    let names = ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"];
    let mut there: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, names);
    // Some tools download tokenizer.json only.
    fs::remove_file(folder.join("tokenizer_config.json")).unwrap();
    assert!(!machine.fetch(&tokenizer("a/b")).unwrap().from_cache);
    assert!(folder.join("tokenizer_config.json").exists());
    // The absence of optional files is cached.
    assert!(!machine.fetch(&tokenizer("a/bare")).unwrap().from_cache);
    let before = server.requests().len();
    assert!(machine.fetch(&tokenizer("a/bare")).unwrap().from_cache);
    assert_eq!(server.requests().len(), before);
    // All files are requested from the commit of the first one.
    assert!(server.paths().contains(&format!("/a/b/resolve/{COMMIT}/tokenizer.json")), "{:?}", server.paths());
}

#[test]
fn interrupted_downloads_are_resumed() {
    let body: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    for in_one_call in [true, false] {
        let (sent, count) = (body.clone(), Arc::new(AtomicUsize::new(0)));
        let server = Server::start(move |request| {
            let reply = Reply::file(request, &sent, "\"v1\"").with("X-Repo-Commit", COMMIT);
            let number = count.fetch_add(1, Ordering::Relaxed);
            match (number, in_one_call) {
                (0, _) => reply.cut_after(70_000),
                // The server fails until the call gives up; the next call succeeds.
                (1..=5, false) => Reply::status(503),
                _ => reply,
            }
        });
        let machine = machine(DataSource::Huggingface, &server.url(), &[]);
        let first = machine.fetch(&dataset("openqa"));
        assert_eq!(first.is_ok(), in_one_call, "{first:?}");
        let found = machine.fetch(&dataset("openqa")).unwrap();
        assert!(fs::read(&found.path).unwrap() == body);
        let last = server.requests().pop().unwrap();
        assert_eq!(last.header("range"), Some("bytes=70000-"));
        assert_eq!(last.header("if-range"), Some("\"v1\""));
        assert_eq!(machine.files().len(), 3, "{:?}", machine.files());
    }
}

#[test]
fn changed_files_are_downloaded_from_the_start() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::file(request, b"old bytes, old bytes", "\"v1\"").with("X-Repo-Commit", COMMIT).cut_after(9),
        _ => Reply::file(request, OPENQA, "\"v2\"").with("X-Repo-Commit", COMMIT),
    });
    let machine = machine(DataSource::Huggingface, &server.url(), &[]);
    let found = machine.fetch(&dataset("openqa")).unwrap();
    assert_eq!(fs::read(&found.path).unwrap(), OPENQA);
}

#[test]
fn redirects_are_followed_without_the_token_and_resumed() {
    let body: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
    let (sent, count) = (body.clone(), AtomicUsize::new(0));
    let cdn = Server::start(move |request| {
        let reply = Reply::file(request, &sent, "\"of-the-cdn\"");
        if count.fetch_add(1, Ordering::Relaxed) == 0 { reply.cut_after(30_000) } else { reply }
    });
    let (location, size) = (format!("{}/blob?signature=s", cdn.url()), body.len());
    let hub = Server::start(move |request| {
        if request.path.starts_with("/datasets/") {
            return Reply::status(307).with("Location", "/moved?x");
        }
        Reply::status(302)
            .with("Location", location.clone())
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Etag", "\"ab12\"")
            .with("X-Linked-Size", size.to_string())
    });
    let machine = machine(DataSource::Huggingface, &hub.url(), &[("HF_TOKEN", "hf_secret")]);
    let found = machine.fetch(&dataset("sharegpt")).unwrap();
    assert!(fs::read(&found.path).unwrap() == body);
    assert!(fs::read_link(&found.path).unwrap().ends_with("blobs/ab12"));
    assert!(hub.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_secret")));
    let at_cdn = cdn.requests();
    assert!(at_cdn.iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(at_cdn.len(), 2);
    assert_eq!((at_cdn[1].header("range"), at_cdn[1].header("if-range")), (Some("bytes=30000-"), None));
}

#[test]
fn files_of_wrong_size_are_discarded() {
    let server = Server::start(|request| {
        Reply::file(request, OPENQA, "\"v1\"").with("X-Repo-Commit", COMMIT).with("X-Linked-Size", "99")
    });
    let machine = machine(DataSource::Huggingface, &server.url(), &[]);
    let error = machine.fetch(&dataset("openqa")).unwrap_err();
    assert!(error.contains("sent 34 bytes instead of the announced 99"), "{error}");
    assert!(machine.files().is_empty(), "{:?}", machine.files());
}

#[test]
fn errors_contain_what_to_do() {
    let error = |source: DataSource, reply: fn() -> Reply, item: &HubItem, more: &[(&str, &str)]| {
        let server = Server::start(move |_| reply());
        machine(source, &server.url(), more).fetch(item).unwrap_err()
    };
    let (hf, ms) = (DataSource::Huggingface, DataSource::Modelscope);
    let model = tokenizer("meta-llama/Llama-3");
    let text = error(ms, || Reply::status(404), &model, &[]);
    assert!(
        text.starts_with("--tokenizer-path meta-llama/Llama-3: no such folder, and ModelScope has no model"),
        "{text}"
    );
    assert!(text.contains("MODELSCOPE_API_TOKEN") && text.contains("--data-source huggingface"), "{text}");
    let text = error(hf, || Reply::status(401).with("X-Error-Code", "RepoNotFound"), &model, &[]);
    assert!(text.contains("Hugging Face has no model meta-llama/Llama-3") && text.contains("HF_TOKEN"), "{text}");
    let text = error(hf, || Reply::status(401).with("X-Error-Code", "GatedRepo"), &model, &[]);
    assert!(text.contains("401 (GatedRepo)") && text.contains("accept the model's terms"), "{text}");
    assert!(text.contains("and set HF_TOKEN"), "{text}");
    let text = error(hf, || Reply::status(403), &model, &[("HF_TOKEN", "hf_secret")]);
    assert!(text.contains("the token in HF_TOKEN has no access to") && !text.contains("hf_secret"), "{text}");
    let text = error(ms, || Reply::status(404), &dataset("openqa"), &[]);
    assert!(text.contains("give open_qa.jsonl with --dataset-path FILE"), "{text}");
    let text = error(hf, || Reply::file(&empty_request(), b"<html>", "\"x\""), &dataset("openqa"), &[]);
    assert!(text.contains("did not send the headers X-Repo-Commit and ETag"), "{text}");
    let text = error(hf, || Reply::status(500), &dataset("openqa"), &[]);
    assert!(text.contains("responded with status 500") && text.contains("HF_ENDPOINT"), "{text}");
    let text = error(hf, || Reply::status(302).with("Location", "/again"), &dataset("openqa"), &[]);
    assert!(text.contains("redirected more than 8 times"), "{text}");
}

/// A request without headers.
fn empty_request() -> super::server::HubRequest {
    let server = Server::start(|_| Reply::status(200));
    let mut stream = std::net::TcpStream::connect(server.addr).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
    server.requests().remove(0)
}

#[test]
fn errors_without_network_contain_the_file_and_how_to_give_it() {
    // Nothing listens at port 1 of loopback.
    let unreachable = machine(DataSource::Modelscope, "http://127.0.0.1:1", &[]);
    let text = unreachable.fetch(&dataset("openqa")).unwrap_err();
    assert!(text.starts_with("--dataset openqa: 127.0.0.1:1 cannot be reached: "), "{text}");
    assert!(text.contains("try --data-source huggingface, or a mirror with MODELSCOPE_ENDPOINT"), "{text}");
    assert!(text.ends_with("; or give open_qa.jsonl with --dataset-path FILE"), "{text}");
    for (source, more, what) in [
        (DataSource::Huggingface, &[("HF_HUB_OFFLINE", "1")][..], "HF_HUB_OFFLINE disables downloads"),
        (DataSource::Local, &[][..], "--data-source local disables downloads"),
    ] {
        let server = Server::start(|_| Reply::status(500));
        let offline = machine(source, &server.url(), more);
        let text = offline.fetch(&tokenizer("a/b")).unwrap_err();
        assert!(text.contains("tokenizer.json is not in the caches ") && text.contains(what), "{text}");
        assert!(text.contains("with --tokenizer-path (a folder ./a/b is used automatically)"), "{text}");
        assert!(server.requests().is_empty());
    }
}

#[test]
fn unwritable_cache_is_reported_in_one_line() {
    let server = Server::start(|_| Reply::status(500));
    let file = tempfile::NamedTempFile::new().unwrap();
    let cache = [("MODELSCOPE_CACHE", file.path().to_str().unwrap())];
    let text = machine(DataSource::Modelscope, &server.url(), &cache).fetch(&dataset("openqa")).unwrap_err();
    assert!(text.contains("cannot write to the cache"), "{text}");
}

#[test]
fn concurrent_calls_download_once() {
    let server = Server::start(|request| {
        std::thread::sleep(Duration::from_millis(50));
        modelscope(vec![("/datasets/AI-ModelScope/HC3-Chinese/open_qa.jsonl", OPENQA.into())])(request)
    });
    let machine = machine(DataSource::Modelscope, &server.url(), &[]);
    let found: Vec<Fetched> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| machine.fetch(&dataset("openqa")).unwrap())).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(found.iter().filter(|found| !found.from_cache).count(), 1);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(fs::read(&found[0].path).unwrap(), OPENQA);
    assert_eq!(machine.settings.site.hub, Hub::ModelScope);
}

#[test]
fn a_file_beyond_the_limit_is_given_up_and_removed() {
    for announced in [true, false] {
        let server = Server::start(move |request| {
            let reply = Reply::file(request, &[b'a'; 5000], "\"e\"").with("X-Repo-Commit", COMMIT);
            // Without a length, the body ends with the connection.
            if announced { reply } else { reply.without_length() }
        });
        let mut machine = machine(DataSource::Huggingface, &server.url(), &[]);
        machine.settings.limits = Limits { max_bytes: 4000, ..Limits::default() };
        let text = machine.fetch(&dataset("openqa")).unwrap_err();
        assert!(text.contains("more than 4000 bytes"), "{text}");
        assert_eq!(machine.files(), Vec::<String>::new());
    }
}

#[test]
fn a_slow_download_is_given_up_and_can_be_resumed() {
    let server = Server::start(|request| {
        Reply::file(request, OPENQA, "\"e\"").with("X-Repo-Commit", COMMIT).dripping(Duration::from_millis(20))
    });
    let mut machine = machine(DataSource::Huggingface, &server.url(), &[]);
    machine.settings.limits =
        Limits { slow_bytes: 1 << 20, slow_time: Duration::from_millis(100), ..Limits::default() };
    let text = machine.fetch(&dataset("openqa")).unwrap_err();
    assert!(text.contains("fewer than 1048576 bytes within 0.1 s") && text.contains("resumes"), "{text}");
    assert_eq!(server.paths().len(), 1, "a slow server is not asked again");
    machine.settings.limits = Limits::default();
    assert_eq!(fs::read(machine.fetch(&dataset("openqa")).unwrap().path).unwrap(), OPENQA);
    assert!(server.requests()[1].header("range").is_some());
}

#[test]
fn a_full_disk_leaves_no_partial_file() {
    let server =
        Server::start(hugging_face(vec![("/datasets/Hello-SimpleAI/HC3-Chinese/open_qa.jsonl", OPENQA.into())]));
    let machine = machine(DataSource::Huggingface, &server.url(), &[]);
    // The failed attempt shows where the partial file is; in its place comes a device that is always full.
    let requests = AtomicUsize::new(0);
    let cut = Server::start(move |request| match requests.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::file(request, OPENQA, "\"e\"").with("X-Repo-Commit", COMMIT).cut_after(5),
        _ => Reply::status(403),
    });
    let mut settings = machine.settings.clone();
    settings.site.endpoint = self::machine(DataSource::Huggingface, &cut.url(), &[]).settings.site.endpoint;
    fetch(&dataset("openqa"), &settings, &StepProgress::default(), &mut |_| {}).unwrap_err();
    let partial = machine.files().into_iter().find(|path| path.ends_with(".incomplete")).unwrap();
    fs::remove_file(machine.at(&partial)).unwrap();
    std::os::unix::fs::symlink("/dev/full", machine.at(&partial)).unwrap();
    let text = machine.fetch(&dataset("openqa")).unwrap_err();
    assert!(text.contains("No space left"), "{text}");
    assert!(!machine.files().iter().any(|path| path.contains("incomplete")), "{:?}", machine.files());
}
