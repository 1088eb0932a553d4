//! The HTML report: one self-contained file in English and Chinese, made only from the databases of a call.

mod axis;
pub(super) mod bounds;
mod chart;
mod command;
mod compared_plots;
mod elements;
mod escape;
mod gap_quantiles;
mod load_plots;
mod loads;
mod objectives;
mod over_time;
mod parts;
mod plots;
mod run;
mod search;
mod server;
mod setup;
mod timeline;
mod top;
mod words;

use std::path::PathBuf;

pub use compared_plots::{ComparedSide, load_charts, percentile_charts};
pub use elements::{charts, table as numbers_table, table_of_cells};
pub use escape::{escape, prose};
pub use run::{Run, Stored};
pub use setup::rows as setup_rows;
pub use top::search_sentences;
pub use words::{Contents, Words, both};

use super::language::Language;
use super::{advice, repeats};
use crate::stats::Summary;
use crate::store::StoreError;

/// Maximum of requests drawn as single points on the whole page; with more, only the extremes are drawn.
const MOST_DOTS: usize = 12_000;
/// More runs than these have no entries of their own in the contents.
const MOST_ENTRIES: usize = 12;

/// The page over the runs in these databases. It is shown in `language` first.
pub fn from_databases(paths: &[PathBuf], language: Language) -> Result<String, StoreError> {
    let runs: Vec<Run> = paths.iter().map(|path| Run::read(path)).collect::<Result<_, _>>()?;
    Ok(page(&runs, language))
}

/// The page over these runs, from the lowest load to the highest. It is shown in `language` first.
pub fn page(runs: &[Run], language: Language) -> String {
    let summaries: Vec<&Summary> = runs.iter().map(|run| &run.summary).collect();
    // By load, with the runs of one load together.
    let order = advice::order(&summaries);
    let ordered: Vec<&Run> = order.iter().map(|&place| &runs[place]).collect();
    let summaries: Vec<&Summary> = ordered.iter().map(|run| &run.summary).collect();
    let searches = search::stored(runs);
    let mut contents = Contents::default();
    let mut body = top::sections(&ordered, &searches, &mut contents);
    body.push_str(&search::sections(&searches, &mut contents));
    let most_dots = (MOST_DOTS / runs.len().max(1)).max(300);
    let several = runs.len() > 1;
    if several {
        body.push_str(&loads::overview(&summaries, &mut contents));
        body.push_str(&contents.heading("h2", "runs", Words::new("Runs", "各次测试")));
    }
    for (index, run) in ordered.iter().enumerate() {
        let repeats = |others: &[&Summary]| others.iter().filter(|o| repeats::are_repeats(o, &run.summary)).count();
        let number = (repeats(&summaries) > 1).then(|| repeats(&summaries[..index]) + 1);
        let place = parts::Place { index, number, folded: several, listed: runs.len() <= MOST_ENTRIES };
        body.push_str(&parts::run(run, place, most_dots, &mut contents));
    }
    body.push_str(&contents.heading("h2", "definitions", Words::new("Definitions", "指标定义")));
    body.push_str(&both(parts::definitions));
    let model = summaries.first().map_or("", |run| run.facts.model.as_str());
    let title = Words::each(|language| parts::title(model, language));
    wrap(&title, &(top::heading(&title) + &contents.menu() + &body), language)
}

/// A complete page with this body, which is in English only.
pub fn english_page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>{}</title>\
         <style>{}</style></head><body><main>{body}<footer>ringmark {}</footer></main></body></html>\n",
        escape(title),
        include_str!("style.css"),
        env!("CARGO_PKG_VERSION"),
    )
}

/// A complete page with this body, which has both languages; it is shown in `language` first.
pub fn wrap(title: &Words, body: &str, language: Language) -> String {
    let tag = if language == Language::Zh { "zh-CN" } else { "en" };
    let input = |id: &str, shown: bool| {
        let checked = if shown { " checked=\"checked\"" } else { "" };
        format!("<input class=\"switch\" type=\"radio\" name=\"language\" id=\"{id}\"{checked}/>")
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"{tag}\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>{}</title>\
         <style>{}</style></head><body>{}{}<main><div class=\"languages\"><label for=\"in-en\">English</label>\
         <label for=\"in-zh\">中文</label></div>{body}<footer>ringmark {}</footer></main><script>{}</script></body></html>\n",
        escape(title.pick(language)),
        include_str!("style.css"),
        input("in-en", language == Language::En),
        input("in-zh", language == Language::Zh),
        env!("CARGO_PKG_VERSION"),
        include_str!("hover.js"),
    )
}
