//! Token counts from the tokenizer if the server sends no `usage`.

mod data_support;

use std::path::{Path, PathBuf};
use std::process::Command;

use data_support::tokenizer;
use ringmark::record::{Phase, TokenSource};
use ringmark::store::Reader;
use ringmark::store::reader::Detail;
use ringmark::workload::tokenizer::Tokenizer;

/// Runs against the built-in server with these arguments. Returns the database and standard error.
fn run(folder: &Path, arguments: &[&str]) -> (PathBuf, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringmark"))
        .args([
            "perf",
            "--verbose",
            "--url",
            "mock:?usage=never&tokens=12&ttft=1ms&itl=0ms",
            "--number",
            "20",
            "--parallel",
            "4",
        ])
        .args(["--no-timestamp", "--name", "x", "--prompt", "Hello, world!", "--outputs-dir"])
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap();
    let screen = String::from_utf8_lossy(&output.stderr).into_owned();
    // A busy machine can make the figures void.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{screen}");
    (folder.join("x/parallel_4_number_20/benchmark_data.db"), screen)
}

#[test]
fn missing_counts_are_added_with_their_source() {
    let folder = tempfile::tempdir().unwrap();
    let (database, _) = run(folder.path(), &["--tokenizer-path", &tokenizer("qwen2_5")]);
    let tokens = Tokenizer::open(tokenizer("qwen2_5").as_ref()).unwrap();
    let prompt_tokens = tokens.count(&tokens.chat_of("Hello, world!").unwrap()).unwrap() as u32;
    let mut count = 0;
    let reader = Reader::open(&database).unwrap();
    reader
        .each_block(Phase::Measured, Detail::Everything, |block| {
            for record in &block.records {
                let text = str::from_utf8(record.text.slice(&block.bytes)).unwrap();
                assert_eq!(record.token_source, TokenSource::Tokenizer);
                assert_eq!(record.output_tokens, Some(tokens.count(text).unwrap() as u32), "{text}");
                assert_eq!(record.input_tokens, Some(prompt_tokens));
                count += 1;
            }
        })
        .unwrap();
    assert_eq!(count, 20);
    let summary = std::fs::read_to_string(database.with_file_name("benchmark_summary.json")).unwrap();
    assert!(
        summary.contains("\"Output token throughput (tok/s)\"")
            && !summary.contains("\"Output token throughput (tok/s)\": null"),
        "{summary}"
    );
}

#[test]
fn counts_of_every_api_with_messages_include_the_template() {
    let tokens = Tokenizer::open(tokenizer("qwen2_5").as_ref()).unwrap();
    let prompt_tokens = tokens.count(&tokens.chat_of("Hello, world!").unwrap()).unwrap() as u32;
    for api in ["openai_responses", "anthropic", "dashscope"] {
        let folder = tempfile::tempdir().unwrap();
        let (database, _) = run(folder.path(), &["--tokenizer-path", &tokenizer("qwen2_5"), "--api", api]);
        let take = |block: &ringmark::record::Block| {
            assert!(block.records.iter().all(|record| record.input_tokens == Some(prompt_tokens)), "{api}");
        };
        Reader::open(&database).unwrap().each_block(Phase::Measured, Detail::Everything, take).unwrap();
    }
}

#[test]
fn responses_that_are_not_stored_are_reported_as_uncounted() {
    let folder = tempfile::tempdir().unwrap();
    let (_, screen) = run(folder.path(), &["--tokenizer-path", &tokenizer("qwen2_5"), "--save", "metrics"]);
    assert!(screen.contains("20 requests could not be counted"), "{screen}");
}
