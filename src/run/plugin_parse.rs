//! Parses the stored answers with the program of `--api`, after the run. It knows the server, so its counts and texts
//! replace what was parsed while the answers arrived.

use std::path::Path;

use super::error::RunError;
use crate::api::program::{Parsed, ProgramApi, answer_line};
use crate::finding::Finding;
use crate::plan::Save;
use crate::record::TokenSource;
use crate::store::answers::{self, AnswerUpdate, AnswerUpdates, Pages, RawAnswer};
use crate::workload::api_program::call;
use crate::workload::plugin_process::{self, Feed};
use crate::workload::progress::StepProgress;

/// Passes every stored answer to the program and stores its results, all of them or none. When the program fails, this
/// is a finding of the run, which is stored too and returned; the answers then stay in the database, unless `save` keeps
/// none.
pub fn parse_with_program(
    database: &Path,
    program: ProgramApi,
    save: Save,
    steps: &StepProgress,
) -> Result<Result<(), Finding>, RunError> {
    let parsed = parse(database, program, steps);
    let trouble = parsed.err().map(|what| {
        let program = program.path().display().to_string();
        Finding::ProgramFailed { program, reason: what, responses_kept: save != Save::Metrics }
    });
    if trouble.is_none() || save == Save::Metrics {
        answers::trim(database, save)?;
    }
    match trouble {
        None => Ok(Ok(())),
        Some(finding) => {
            answers::add_finding(database, &finding)?;
            Ok(Err(finding))
        }
    }
}

fn parse(database: &Path, program: ProgramApi, steps: &StepProgress) -> Result<(), String> {
    let in_words = |error: crate::store::StoreError| error.to_string();
    let mut pages = Pages::<RawAnswer>::open(database).map_err(in_words)?;
    let ids = pages.ids().map_err(in_words)?;
    if ids.is_empty() {
        return Ok(());
    }
    steps.begin("Parsing answers", ids.len() as u64);
    let updates = AnswerUpdates::open(database).map_err(in_words)?;
    let mut taken = 0;
    let feed = move |input: &mut Feed| loop {
        let page = pages.next_page().map_err(in_words)?;
        let all = page.iter().all(|stored| {
            let line = answer_line(stored.request.as_deref(), stored.status, stored.streamed, &stored.raw);
            input.line(&line.to_string())
        });
        if page.is_empty() || !all {
            return Ok(());
        }
    };
    plugin_process::run(&call(program, "parse"), Some(feed), |line, _| {
        let id = ids.get(taken).ok_or("is one more than answers were given: print one for each line that was read")?;
        let Parsed { input_tokens, output_tokens, text, reasoning } = Parsed::scan(line)?;
        let update = AnswerUpdate { id: *id, input_tokens, output_tokens, text, reasoning };
        updates.add(&update).map_err(in_words)?;
        taken += 1;
        steps.add(1);
        Ok(())
    })?;
    if taken < ids.len() {
        return Err(format!("it printed {taken} lines for {} answers: print one for each line", ids.len()));
    }
    updates.apply(TokenSource::Program).map_err(in_words)
}
