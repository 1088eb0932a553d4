//! The time to generate ten thousand random prompts of 1,024 tokens, and whether each has its length.
//!
//! `TOKENIZER=FOLDER cargo bench --bench prompts` measures with that tokenizer (`tools/tokenizers/fetch.sh` downloads
//! two); `cargo test --benches` generates a few prompts, or none if there is no tokenizer.

use std::path::Path;
use std::time::Instant;

use ringmark::record::Phase;
use ringmark::spec::{RigFacts, Spec, resolve};
use ringmark::workload::Workload;
use ringmark::workload::tokenizer::Tokenizer;

const TOKENS: u64 = 1024;
/// Number of prompts whose tokens are counted.
const VERIFIED: u64 = 200;

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let Some(folder) = std::env::var_os("TOKENIZER") else {
        println!("prompts: skipped: TOKENIZER is not set to a folder with a tokenizer.json");
        return;
    };
    let number = if full { 10_000 } else { 50 };
    let tokenizer = Tokenizer::open(Path::new(&folder)).expect("TOKENIZER is the folder of a tokenizer");
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
        let plan = resolve(&spec, &facts).expect("the spec is valid").remove(0);
        let start = Instant::now();
        let workload = Workload::build(&plan.workload, &plan.target.authority, &plan.target.path);
        let seconds = start.elapsed().as_secs_f64();
        let workload = workload.expect("the prompts can be generated");
        let wrong =
            (0..number.min(VERIFIED)).filter(|index| count_tokens(&workload, *index, &tokenizer) != TOKENS).count();
        println!(
            "{name:<20} {number} prompts of {TOKENS} tokens in {seconds:.2} s; {wrong} of those counted have another length"
        );
        workload.notes.iter().for_each(|note| println!("    {}", note.en()));
    }
}

/// The number of tokens of a request's prompt as the model counts them.
fn count_tokens(workload: &Workload, index: u64, tokenizer: &Tokenizer) -> u64 {
    let body: serde_json::Value =
        serde_json::from_slice(&workload.body(Phase::Measured, index)).expect("a body is JSON");
    let text = match body["prompt"].as_str() {
        Some(text) => text.to_string(),
        None => {
            let content = body["messages"][0]["content"].as_str().expect("a chat request has one message");
            if tokenizer.has_template() {
                tokenizer.chat_of(content).expect("the chat template is valid")
            } else {
                content.into()
            }
        }
    };
    tokenizer.count(&text).expect("the text can be encoded")
}
