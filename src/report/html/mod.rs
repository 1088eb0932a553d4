//! The HTML report: one self-contained file, made only from the databases of a call.

mod chart;
mod elements;
mod loads;
mod over_time;
mod parts;
mod plots;
mod run;
mod search;
mod server;
mod timeline;

use std::path::PathBuf;

pub use chart::escape;
pub use elements::table as numbers_table;
pub use run::Run;

use super::language::Language;
use super::{advice, repeats};
use crate::stats::Summary;
use crate::store::StoreError;

/// Maximum of requests drawn as single points on the whole page; with more, only the extremes are drawn.
const MOST_DOTS: usize = 12_000;

/// The page over the runs in these databases.
pub fn from_databases(paths: &[PathBuf], language: Language) -> Result<String, StoreError> {
    let runs: Vec<Run> = paths.iter().map(|path| Run::read(path)).collect::<Result<_, _>>()?;
    Ok(page(&runs, language))
}

/// The page over these runs, from the lowest load to the highest.
pub fn page(runs: &[Run], language: Language) -> String {
    let summaries: Vec<&Summary> = runs.iter().map(|run| &run.summary).collect();
    // By load, with the runs of one load together.
    let order = advice::order(&summaries);
    let summaries: Vec<&Summary> = order.iter().map(|&place| summaries[place]).collect();
    let mut body = parts::head(runs, language);
    let most_dots = (MOST_DOTS / runs.len().max(1)).max(300);
    body.push_str(&search::sections(runs, language));
    if runs.len() > 1 {
        body.push_str(&loads::overview(&summaries, language));
        body.push_str(&elements::charts(&plots::sweep_charts(&summaries, language), language));
    }
    for (index, run) in order.iter().map(|&place| &runs[place]).enumerate() {
        let repeats = |others: &[&Summary]| others.iter().filter(|o| repeats::are_repeats(o, &run.summary)).count();
        let number = (repeats(&summaries) > 1).then(|| repeats(&summaries[..index]) + 1);
        body.push_str(&parts::run(run, number, runs.len() > 1, most_dots, language));
    }
    body.push_str(&parts::definitions(language));
    let model = summaries.first().map_or("", |run| run.facts.model.as_str());
    wrap(&parts::title(model, language), &body, language)
}

/// A complete page with this body.
pub fn wrap(title: &str, body: &str, language: Language) -> String {
    let tag = if language == Language::Zh { "zh-CN" } else { "en" };
    format!(
        "<!DOCTYPE html>\n<html lang=\"{tag}\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>{}</title>\
         <style>{}</style></head><body><main>{body}<footer>ringmark {}</footer></main><script>{}</script></body></html>\n",
        escape(title),
        include_str!("style.css"),
        env!("CARGO_PKG_VERSION"),
        include_str!("hover.js"),
    )
}
