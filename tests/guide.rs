//! Runs every command, query and script of the guide, and the examples of `--help`, against the mock.
//!
//! The language of a fenced block says what happens: `sh`, `python` and `sql` are run, `text` is output, and a language
//! followed by `not-run` is not run. Any other block is an error. Commands run as they are written, with these changes:
//! the server at port 8000 is a mock, loads are smaller and pauses shorter (`quick`), and the tokenizer is a local one.

mod data_support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ringmark::guide::{TOPICS, topic};
use ringmark::mock::{Config, Mock};
use ringmark::record::arrivals::decode;
use ringmark::time::Tick;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

/// The server in the guide.
const SERVER: &str = "http://127.0.0.1:8000";
/// The port of a server that the guide starts.
const OWN_PORT: &str = "8099";
/// The tokenizer in the guide.
const TOKENIZER: &str = "Qwen/Qwen2.5-0.5B-Instruct";
/// Files that the guide names but does not make, and where the tests have them.
const FILES: [(&str, &str); 2] = [
    ("ShareGPT_V3_unfiltered_cleaned_split.json", "tests/data/sharegpt.json"),
    ("open_qa.jsonl", "tests/data/open_qa.jsonl"),
];

/// A fenced block of Markdown.
struct Block {
    info: String,
    code: String,
    line: usize,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (number, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(info) => {
                is_open = true;
                blocks.push(Block { info: info.to_string(), code: String::new(), line: number + 1 });
            }
            None if is_open => {
                let block = blocks.last_mut().unwrap();
                block.code.push_str(line);
                block.code.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// A port that nothing uses now.
fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// How the number after a flag is changed, so that a command takes little time.
fn quick_value(flag: &str, value: f64) -> Option<f64> {
    match flag {
        "--number" | "-n" => Some(value.min(24.0)),
        "--duration" | "--drain" => Some(value.min(1.0)),
        "--rate" | "--trace-speed" => Some(value * 10.0),
        "--sla-upper-bound" => Some(value.min(4.0)),
        "--think-time" => Some(value / 100.0),
        _ => None,
    }
}

/// The command with a smaller load, and with flags that leave out pauses and repetitions.
fn quick(command: &str) -> String {
    let mut out = String::new();
    let mut flag = "";
    for word in command.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        if bare.starts_with('-') && bare.parse::<f64>().is_err() {
            flag = bare;
        }
        match bare.parse::<f64>().ok().and_then(|value| quick_value(flag, value)) {
            Some(value) => out.push_str(&format!("{value}{}", &word[bare.len()..])),
            None => out.push_str(word),
        }
    }
    let out = out.replace("ringmark perf ", "ringmark perf --sleep-interval 0 ");
    let out = out.replace("--sla-auto-tune ", "--sla-auto-tune --sla-num-runs 1 ");
    out.replace("rig --calibrate ", "rig --calibrate --duration 1 ")
}

/// A folder in which the blocks of one topic run, one after the other.
struct Place {
    folder: TempDir,
    mock: Mock,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::from_query("ttft=2ms&itl=200us&tokens=8").unwrap();
        let mock = Mock::start(&config, &[], SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        for (name, source) in FILES {
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(source), folder.path().join(name)).unwrap();
        }
        // A missed objective and a void run are results of a busy machine; all other failures are recorded. A server is
        // the process that the guide's `kill` ends.
        let script = format!(
            "#!/bin/sh\nprogram='{}'\n[ \"$1\" = mock ] && exec \"$program\" \"$@\"\n\"$program\" \"$@\"; status=$?\ncase $status in 0|1|3) exit 0 ;; esac\n\
             echo \"status $status: $*\" >>'{}'\nexit $status\n",
            env!("CARGO_BIN_EXE_ringmark"),
            folder.path().join("failed").display()
        );
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("ringmark"), script).unwrap();
        fs::set_permissions(bin.join("ringmark"), fs::Permissions::from_mode(0o755)).unwrap();
        Place { folder, mock }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The code with what this place has for what the guide names.
    fn local(&self, code: &str) -> String {
        let code = code.replace(SERVER, &format!("http://{}", self.mock.addr())).replace(OWN_PORT, &free_port());
        if code.contains(TOKENIZER) { code.replace(TOKENIZER, &data_support::tokenizer("qwen2_5")) } else { code }
    }

    fn run(&self, mut command: Command, what: &str) {
        let path = format!("{}:{}", self.path().join("bin").display(), std::env::var("PATH").unwrap());
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/python/python");
        let output = command
            .current_dir(self.path())
            .env("PATH", path)
            .env("HOME", self.path())
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("PYTHONPATH", python)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("RINGMARK", self.path().join("bin/ringmark"))
            .output()
            .unwrap();
        let failed = fs::read_to_string(self.path().join("failed")).unwrap_or_default();
        let Output { stdout, stderr, status } = &output;
        let texts = [stdout, stderr].map(|bytes| String::from_utf8_lossy(bytes));
        assert!(status.success() && failed.is_empty(), "{what}: {status} {failed}\n{}\n{}", texts[0], texts[1]);
    }

    fn run_shell(&self, code: &str, what: &str) {
        let mut command = Command::new("sh");
        command.args(["-e", "-c", &self.local(&quick(code))]);
        self.run(command, what);
    }

    fn run_python(&self, code: &str, what: &str) {
        let mut command = Command::new("python3");
        command.args(["-W", "error", "-c", &self.local(code)]);
        self.run(command, what);
    }

    /// The first database below the folder.
    fn database(&self) -> Connection {
        fn find(folder: &Path) -> Option<PathBuf> {
            let entries = fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
            let found = entries.iter().find(|path| path.ends_with("benchmark_data.db")).cloned();
            found.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find(path)))
        }
        let path = find(&self.path().join("outputs")).expect("a block before this one measures something");
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
    }

    fn run_sql(&self, code: &str, what: &str) {
        let database = self.database();
        let mut query = database.prepare(code).unwrap_or_else(|error| panic!("{what}: {error}"));
        let rows = query.query_map([], |_| Ok(())).and_then(|rows| rows.collect::<Result<Vec<()>, _>>());
        let rows = rows.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!rows.is_empty(), "{what}: no rows");
    }

    fn run_block(&self, block: &Block, what: &str) {
        match block.info.as_str() {
            "sh" => self.run_shell(&block.code, what),
            "python" => self.run_python(&block.code, what),
            "sql" => self.run_sql(&block.code, what),
            "text" => {}
            info if info.contains(" not-run") => {}
            info => panic!("{what}: '{info}' is not sh, python, sql or text, and not marked as not-run"),
        }
    }
}

fn run_topic(name: &str) {
    let place = Place::new();
    // Scripts that read results may come first.
    let text = topic(name).unwrap().text;
    if text.contains("outputs/") {
        place.run_shell(&format!("ringmark perf --url {SERVER}/v1/chat/completions --number 20\n"), name);
    }
    for block in blocks(text) {
        place.run_block(&block, &format!("src/guide/{name}.md:{}", block.line));
    }
}

macro_rules! topics {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run_topic(stringify!($name)); })*

        #[test]
        fn every_topic_is_run() {
            let names: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

topics! {
    start questions capacity compare ci report method findings metrics glossary load flags database files lab judge
    containers shards custom python migration evalscope vllm sglang lmdeploy aiperf guidellm
}

#[test]
fn blocks_without_a_known_language_are_errors() {
    let place = Place::new();
    for info in ["", "console", "toml"] {
        let block = Block { info: info.to_string(), code: String::new(), line: 1 };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| place.run_block(&block, "x"))).is_err());
    }
    let failing = || place.run_shell("ringmark perf --nonsense || true\n", "x");
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(failing)).is_err(), "a failed command is an error");
}

#[test]
fn commands_are_made_quick() {
    assert_eq!(
        quick("ringmark perf --parallel 1 64 --number 20 320 \\\n  --rate 5 --slo 'p99_ttft<=2'"),
        "ringmark perf --sleep-interval 0 --parallel 1 64 --number 20 24 \\\n  --rate 50 --slo 'p99_ttft<=2'"
    );
}

#[test]
fn arrivals_in_sql_are_those_of_the_records() {
    let place = Place::new();
    place.run_shell(&format!("ringmark perf --url {SERVER}/v1/chat/completions --number 5\n"), "run");
    let text = topic("database").unwrap().text;
    let query = blocks(text).into_iter().find(|block| block.code.contains("WITH RECURSIVE")).unwrap().code;
    let database = place.database();
    let mut found: Vec<Vec<Tick>> = vec![Vec::new(); 5];
    let mut statement = database.prepare(&query).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (index, at_ns): (u32, i64) = (row.get(0).unwrap(), row.get(2).unwrap());
        found[index as usize].push(Tick(at_ns as u64));
    }
    let all = "SELECT due_ns, arrivals FROM request WHERE phase = 'measured' ORDER BY idx";
    let mut statement = database.prepare(all).unwrap();
    let decoded = statement.query_map([], |row| {
        let (due, coded): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let mut arrivals = Vec::new();
        decode(Tick(due as u64), &coded, &mut arrivals).unwrap();
        Ok(arrivals)
    });
    let expected: Vec<Vec<Tick>> = decoded.unwrap().collect::<Result<_, _>>().unwrap();
    assert!(expected.iter().all(|arrivals| arrivals.len() == 8));
    assert_eq!(found, expected);
}

/// The commands in the examples of a help text.
fn examples(command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ringmark")).args([command, "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{command} has no examples"));
    let lines = examples.lines().take_while(|line| !line.is_empty()).filter(|line| line.starts_with("    "));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_examples_of_help_run() {
    let place = Place::new();
    for name in ["old", "new"] {
        let call = format!("ringmark perf --url {SERVER}/v1/chat/completions --number 20 --name {name}\n");
        place.run_shell(&call, "runs to compare");
    }
    for command in ["report", "compare", "rig", "guide", "perf"] {
        place.run_shell(&examples(command), command);
    }
    for line in examples("mock").lines() {
        let query: Vec<&str> = line.split_whitespace().filter(|word| word.contains('=')).collect();
        Config::from_query(&query.join("&")).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}
