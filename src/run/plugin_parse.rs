//! Parses the stored responses with the program of `--api`, after the run. Its token counts and texts replace those that
//! were parsed during the run, because the program supports the format of the server.

use std::path::Path;

use super::error::RunError;
use crate::api::program::{Parsed, ProgramApi, answer_line};
use crate::finding::Finding;
use crate::plan::Save;
use crate::record::TokenSource;
use crate::store::answers::{self, AnswerUpdate, AnswerUpdates, Pages, RawAnswer};
use crate::workload::Recipe;
use crate::workload::api_program::call;
use crate::workload::plugin_process::{self, Feed};
use crate::workload::progress::StepProgress;

/// Passes every stored response to the program and stores all its results, or none. If the program fails, the finding is
/// stored and returned as `Ok(Err(finding))`, and the raw responses stay in the database unless `save` is `Metrics`.
pub fn parse_with_program(
    database: &Path,
    program: ProgramApi,
    recipe: &Recipe,
    save: Save,
    steps: &StepProgress,
) -> Result<Result<(), Finding>, RunError> {
    let parsed = parse(database, program, recipe, steps);
    let failure = parsed.err().map(|reason| {
        let program = program.path().display().to_string();
        Finding::ProgramFailed { program, reason, responses_kept: save != Save::Metrics }
    });
    if failure.is_none() || save == Save::Metrics {
        answers::trim(database, save)?;
    }
    match failure {
        None => Ok(Ok(())),
        Some(finding) => {
            answers::add_finding(database, &finding)?;
            Ok(Err(finding))
        }
    }
}

fn parse(database: &Path, program: ProgramApi, recipe: &Recipe, steps: &StepProgress) -> Result<(), String> {
    let to_text = |error: crate::store::StoreError| error.to_string();
    let mut pages = Pages::<RawAnswer>::open(database).map_err(to_text)?;
    let ids = pages.ids().map_err(to_text)?;
    if ids.is_empty() {
        return Ok(());
    }
    steps.begin("Parsing responses", ids.len() as u64);
    let updates = AnswerUpdates::open(database).map_err(to_text)?;
    let mut parsed_lines = 0;
    let feed = move |input: &mut Feed| loop {
        let page = pages.next_page().map_err(to_text)?;
        let accepted = page.iter().all(|stored| {
            let line = answer_line(stored.request.as_deref(), stored.status, stored.streamed, &stored.raw);
            input.line(&line.to_string())
        });
        if page.is_empty() || !accepted {
            return Ok(());
        }
    };
    plugin_process::run(&call(program, "parse", recipe), Some(feed), |line, _| {
        let id = ids.get(parsed_lines).ok_or("is one line too many: print exactly one line for each line read")?;
        let Parsed { input_tokens, output_tokens, text, reasoning } = Parsed::scan(line)?;
        let update = AnswerUpdate { id: *id, input_tokens, output_tokens, text, reasoning };
        updates.add(&update).map_err(to_text)?;
        parsed_lines += 1;
        steps.add(1);
        Ok(())
    })?;
    if parsed_lines < ids.len() {
        return Err(format!(
            "it printed {parsed_lines} lines for {} responses: print exactly one line for each line read",
            ids.len()
        ));
    }
    updates.apply(TokenSource::Program).map_err(to_text)
}
