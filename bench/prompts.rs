//! How long ten thousand random prompts of 1,024 tokens take to make, and whether each has its length.
//!
//! `TOKENIZER=FOLDER cargo bench --bench prompts` measures with that tokenizer (`tools/tokenizers/fetch.sh` fetches two);
//! `cargo test --benches` makes a few, and nothing where there is no tokenizer.

use std::path::Path;
use std::time::Instant;

use ringmark::record::Phase;
use ringmark::spec::{RigFacts, Spec, resolve};
use ringmark::workload::Workload;
use ringmark::workload::tokenizer::Tokenizer;

const TOKENS: u64 = 1024;
/// Prompts that are counted again.
const COUNTED: u64 = 200;

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let Some(folder) = std::env::var_os("TOKENIZER") else {
        println!("prompts: skipped: TOKENIZER names no folder with a tokenizer.json");
        return;
    };
    let number = if full { 10_000 } else { 50 };
    let tokenizer = Tokenizer::open(Path::new(&folder)).expect("TOKENIZER names a tokenizer");
    for (name, endpoint, prefix_length) in [
        ("completions", "completions", 0),
        ("chat", "chat/completions", 0),
        ("chat, prefix of 256", "chat/completions", 256),
    ] {
        let spec = Spec::default().with(|s| {
            s.target.url = Some(format!("http://127.0.0.1:8000/v1/{endpoint}"));
            s.target.model = Some("m".to_string());
            s.data.dataset = Some("random".to_string());
            s.data.tokenizer_path = Some(folder.to_string_lossy().into_owned());
            s.data.min_prompt_length = TOKENS - prefix_length;
            s.data.max_prompt_length = Some(TOKENS - prefix_length);
            s.data.prefix_length = prefix_length;
            s.load.number = vec![number];
        });
        let facts = RigFacts { allowed_cores: vec![0, 1], ..RigFacts::default() };
        let plan = resolve(&spec, &facts).expect("the spec is sound").remove(0);
        let start = Instant::now();
        let made = Workload::build(&plan.workload, &plan.target.authority, &plan.target.path);
        let seconds = start.elapsed().as_secs_f64();
        let made = made.expect("the prompts can be made");
        let wrong = (0..number.min(COUNTED)).filter(|index| count(&made, *index, &tokenizer) != TOKENS).count();
        println!(
            "{name:<20} {number} prompts of {TOKENS} tokens in {seconds:.2} s; {wrong} of those counted again are off"
        );
        made.notes.iter().for_each(|note| println!("    {}", note.en()));
    }
}

/// Tokens of a request's prompt as the model will count them.
fn count(made: &Workload, index: u64, tokenizer: &Tokenizer) -> u64 {
    let body: serde_json::Value = serde_json::from_slice(&made.body(Phase::Measured, index)).expect("a body is JSON");
    let text = match body["prompt"].as_str() {
        Some(text) => text.to_string(),
        None => {
            let content = body["messages"][0]["content"].as_str().expect("a chat has one text");
            if tokenizer.has_template() {
                tokenizer.chat_of(content).expect("its template works")
            } else {
                content.into()
            }
        }
    };
    tokenizer.count(&text).expect("its own text can be encoded")
}
