//! The manual: Markdown files in this folder, compiled into the program. `ringmark guide` shows them on a terminal.
//!
//! `tests/guide.rs` runs every command and every query in them, and compares what they list (findings, columns, flags,
//! definitions) with the code.

mod inline;
mod render;
mod section;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use render::render;

use section::{Section, headings};

use crate::spec::names::nearest;

/// A chapter of the manual.
#[derive(Debug)]
pub struct Topic {
    /// What follows `ringmark guide` on the command line.
    pub name: &'static str,
    /// One line for the list of topics.
    pub summary: &'static str,
    /// The chapter, in Markdown. Its first heading is its title.
    pub text: &'static str,
}

macro_rules! topics {
    ($($name:literal: $summary:literal,)*) => {
        /// All chapters, in the order of the list.
        pub const TOPICS: &[Topic] =
            &[$(Topic { name: $name, summary: $summary, text: include_str!(concat!($name, ".md")) },)*];
    };
}

topics! {
    "start": "getting started: install, the first run, your own server",
    "questions": "forty questions of new users, and where the answers are",
    "capacity": "find the highest load that a server can carry",
    "compare": "compare two builds, two servers or two settings",
    "ci": "make a CI job fail when the server becomes slower",
    "report": "read the report: tables, charts, bounds, findings",
    "method": "how it measures: timestamps, clock, first token, success, limits",
    "findings": "every finding: what causes it and what to do",
    "metrics": "every figure with its formula",
    "glossary": "terms, in English and Chinese",
    "load": "closed and open loops, schedules, warm-up, traces, conversations",
    "flags": "the flags by purpose",
    "database": "the database of a run: columns, SQL, token arrivals",
    "files": "the files of a call, their formats, and exit statuses",
    "lab": "set up a machine for exact measurements",
    "judge": "judge any client against a server that records the truth",
    "containers": "containers: io_uring, seccomp, CPU quotas",
    "shards": "more than one machine: Slurm, MPI, Kubernetes, Ray",
    "custom": "your own datasets, APIs and servers",
    "python": "run measurements from Python and notebooks",
    "migration": "coming from another tool: how the figures differ",
    "evalscope": "coming from evalscope perf: flags and differences",
    "vllm": "coming from vllm bench serve: flags and differences",
    "sglang": "coming from SGLang's bench_serving: flags and differences",
    "lmdeploy": "coming from LMDeploy's profiling scripts: commands and flags",
    "aiperf": "coming from AIPerf: flags and differences",
    "guidellm": "coming from GuideLLM: flags and differences",
}

/// The topics that list the flags of another tool, in tables with the columns `flag` and `ringmark`.
pub const FOREIGN_TOOLS: [&str; 6] = ["evalscope", "vllm", "sglang", "lmdeploy", "aiperf", "guidellm"];

/// The topic of this name.
///
/// # Errors
/// One line with the most similar name, if there is none.
pub fn topic(name: &str) -> Result<&'static Topic, String> {
    let found = TOPICS.iter().find(|topic| topic.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
        let hint = match nearest(name, &names) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("'ringmark guide' lists all topics, 'ringmark guide --search {name}' searches them"),
        };
        format!("'{name}' is not a topic of the guide: {hint}")
    })
}

/// The text to show for the words after `ringmark guide`: a topic, a section of a topic (`findings send_lag`), or a
/// section whose heading only one topic has (`send_lag`).
///
/// # Errors
/// One line that says which name is unknown, and which one is similar.
pub fn lookup(name: &str, section: &[String]) -> Result<&'static str, String> {
    let section = section.join(" ");
    match topic(name) {
        Ok(topic) if section.is_empty() => Ok(topic.text),
        Ok(topic) => section_of(topic, &section),
        Err(error) => {
            let title = format!("{name} {section}");
            let exact =
                |topic: &'static Topic| headings(topic.text).into_iter().find(|found| found.is_titled(title.trim()));
            let found: Vec<Section<'_>> = TOPICS.iter().filter_map(exact).collect();
            if let [only] = found[..] { Ok(only.text) } else { Err(error) }
        }
    }
}

/// The section of `topic` with this heading, or the first one whose heading contains it.
fn section_of(topic: &'static Topic, title: &str) -> Result<&'static str, String> {
    let sections = headings(topic.text);
    let exact = sections.iter().find(|section| section.is_titled(title));
    let found = exact.or_else(|| sections.iter().find(|section| section.contains_title(title)));
    found.map(|section| section.text).ok_or_else(|| {
        let titles: Vec<String> = sections.iter().map(|section| section.title.to_lowercase()).collect();
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        let hint = match nearest(title, &titles) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("'ringmark guide {}' shows all of it", topic.name),
        };
        format!("the topic '{}' has no section '{title}': {hint}", topic.name)
    })
}

/// The list of topics, as Markdown.
pub fn contents() -> String {
    let mut out = "| topic | contents |\n|---|---|\n".to_string();
    for topic in TOPICS {
        out.push_str(&format!("| `{}` | {} |\n", topic.name, topic.summary));
    }
    out + "\n`ringmark guide TOPIC` shows a topic, `ringmark guide TOPIC SECTION` one section of it, \
           `ringmark guide --search WORD` where a word occurs.\n"
}

/// The sections in which `word` occurs, as Markdown; those with it in their heading come first. `None` if it occurs
/// nowhere.
pub fn search(word: &str) -> Option<String> {
    let mut hits: Vec<(bool, &Topic, Section<'_>, String)> = Vec::new();
    for topic in TOPICS {
        for section in headings(topic.text) {
            if section.contains_title(word) {
                hits.push((false, topic, section, section.first_line().to_string()));
            } else if let Some(line) = section.line_with(word) {
                hits.push((true, topic, section, line.to_string()));
            }
        }
    }
    hits.sort_by_key(|(only_in_text, ..)| *only_in_text);
    let rows = hits.iter().map(|(_, topic, section, line)| {
        format!("| `{}` | {} | {} |\n", topic.name, section.title, table::cell_text(line))
    });
    (!hits.is_empty()).then(|| format!("| topic | section | text |\n|---|---|---|\n{}", rows.collect::<String>()))
}

/// What to write instead of a flag of another program, from the tables of [`FOREIGN_TOOLS`], and the topic that says so.
/// `None` if the flag is in none of them.
pub fn replacement(flag: &str) -> Option<(&'static str, String)> {
    FOREIGN_TOOLS.iter().find_map(|name| {
        let mut rows = topic(name).ok()?.text.lines().filter_map(foreign_row);
        rows.find(|(flags, _)| flags.iter().any(|one| one == flag)).map(|(_, ours)| (*name, ours))
    })
}

/// The flags in the first cell of a table row whose first cell begins with a flag, and its second cell without
/// backticks.
pub fn foreign_row(line: &str) -> Option<(Vec<String>, String)> {
    let cells = table::cells(line)?;
    let flags: Vec<String> = cells.first()?.split(',').map(|flag| flag.trim().trim_matches('`').to_string()).collect();
    let ours = cells.get(1)?.replace('`', "");
    // The row below the heading has dashes only.
    let is_flag = |flag: &String| flag.starts_with('-') && flag.contains(char::is_alphanumeric);
    flags.first().is_some_and(is_flag).then_some((flags, ours))
}
