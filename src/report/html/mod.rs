//! The HTML report: one file that needs nothing beside it, made from the databases of a call alone.

mod chart;
mod loads;
mod parts;
mod plots;
mod search;
mod server;
mod timeline;
mod words;

use std::path::{Path, PathBuf};

pub use chart::escape;
pub use parts::table as numbers_table;
pub use words::{DEFINITIONS, row_name, word};

use super::language::Language;
use super::{Measured, advice, merge, repeats};
use crate::record::Phase;
use crate::record::store::reader::Detail;
use crate::record::store::{Reader, StoreError, StoredRun};
use crate::server::metrics;
use crate::server::names::Scrape;
use crate::stats::Summary;
use crate::stats::gather::Sample;
use timeline::Timeline;

/// Requests drawn one by one in the whole page: with more, every run shows its extremes.
const MOST_DOTS: usize = 12_000;

/// A run with everything the page shows of it.
#[derive(Debug)]
pub struct Run {
    pub run: StoredRun,
    pub summary: Summary,
    pub samples: Vec<Sample>,
    /// What the server's page of metrics said, look by look.
    looks: Vec<Scrape>,
    timeline: Timeline,
}

impl Run {
    /// Reads a database.
    pub fn read(path: &Path) -> Result<Run, StoreError> {
        Run::of(path, super::measured(path)?)
    }

    /// Completes what was already read of a database.
    pub fn of(path: &Path, measured: Measured) -> Result<Run, StoreError> {
        let Measured { run, summary, samples } = measured;
        let mut timeline = Timeline::new(&samples);
        let reader = Reader::open(path)?;
        reader.each_block(Phase::Measured, Detail::Figures, |block| timeline.add(block))?;
        timeline.finish();
        Ok(Run { run, summary, samples, looks: metrics::scrapes(&reader.server_samples()?), timeline })
    }

    /// Reads shards as one run.
    pub fn read_shards(paths: &[PathBuf]) -> Result<Run, StoreError> {
        let Measured { run, summary, samples } = merge::measured(paths)?;
        let mut timeline = Timeline::new(&samples);
        merge::each_block(paths, |block| timeline.add(block))?;
        timeline.finish();
        Ok(Run { run, summary, samples, looks: Vec::new(), timeline })
    }
}

/// The page over the runs whose databases these are, in this order.
pub fn from_databases(paths: &[PathBuf], language: Language) -> Result<String, StoreError> {
    let runs: Vec<Run> = paths.iter().map(|path| Run::read(path)).collect::<Result<_, _>>()?;
    Ok(page(&runs, language))
}

/// The page over these runs, from the lowest load to the highest.
pub fn page(runs: &[Run], language: Language) -> String {
    let summaries: Vec<&Summary> = runs.iter().map(|run| &run.summary).collect();
    // From the lowest load to the highest, the runs of one load together.
    let order = advice::order(&summaries);
    let summaries: Vec<&Summary> = order.iter().map(|&place| summaries[place]).collect();
    let mut body = parts::head(runs, language);
    let most_dots = (MOST_DOTS / runs.len().max(1)).max(300);
    body.push_str(&search::sections(runs, language));
    if runs.len() > 1 {
        body.push_str(&loads::overview(&summaries, language));
        body.push_str(&parts::charts(&plots::of_sweep(&summaries, language), language));
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

/// A whole page around a body.
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
