//! Answers read by the program of `--api`, after the run: it knows the server, so its counts and texts win over what was
//! read while the answers arrived.

use std::path::Path;

use crate::api::program::{Parsed, ProgramApi, answer_line};
use crate::finding::Finding;
use crate::plan::Save;
use crate::record::store::answers::{self, Answers, Found};
use crate::run::RunError;
use crate::workload::api_program::call;
use crate::workload::child::{self, Feed};
use crate::workload::making::Making;

/// Hands every stored answer to the program and stores what it finds, all of it or nothing. When the program fails,
/// that is a finding of the run, which is stored too and returned; the answers then stay in the database, unless `save`
/// keeps none.
pub fn reparse(
    database: &Path,
    program: ProgramApi,
    save: Save,
    making: &Making,
) -> Result<Result<(), Finding>, RunError> {
    let parsed = parse(database, program, making);
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

fn parse(database: &Path, program: ProgramApi, making: &Making) -> Result<(), String> {
    let in_words = |error: crate::record::store::StoreError| error.to_string();
    let mut pages = Answers::open(database).map_err(in_words)?;
    let ids = pages.ids().map_err(in_words)?;
    if ids.is_empty() {
        return Ok(());
    }
    making.begin("Parsing answers", ids.len() as u64);
    let found = Found::open(database).map_err(in_words)?;
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
    child::run(&call(program, "parse"), Some(feed), |line, _| {
        let id = ids.get(taken).ok_or("is one more than answers were given: print one for each line that was read")?;
        found.add(*id, &Parsed::scan(line)?).map_err(in_words)?;
        taken += 1;
        making.add(1);
        Ok(())
    })?;
    if taken < ids.len() {
        return Err(format!("it printed {taken} lines for {} answers: print one for each line", ids.len()));
    }
    found.apply().map_err(in_words)
}
