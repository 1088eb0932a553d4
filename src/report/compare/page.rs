//! A comparison as an HTML page.

use super::cells::{cells, heads, marks};
use super::rows::{Compared, Row, Verdict, compare};
use super::sides::{Comparison, Entry, Load, Side, about, letter, note};
use super::verdicts::sentence;
use super::warnings::{Warning, warnings};
use crate::finding::Severity;
use crate::report::advice::order;
use crate::report::html::{
    ComparedSide, Contents, Stored, Words, both, charts, escape, load_charts, numbers_table, percentile_charts, prose,
    setup_rows, wrap,
};
use crate::report::language::Language;

/// More sentences than these are only in the sections of their loads.
const MOST_SENTENCES: usize = 6;

/// Two entries of a load.
struct Pair<'a> {
    a: &'a Entry<'a>,
    b: &'a Entry<'a>,
    compared: Compared,
}

/// The page, self-contained, in both languages; it is shown in `language` first.
pub fn html(comparison: &Comparison<'_>, language: Language) -> String {
    let title = Words::new("Comparison of runs", "测试对比");
    let mut contents = Contents::default();
    let loads: Vec<(&Load<'_>, Vec<Pair<'_>>)> = comparison.loads.iter().map(|load| (load, pairs(load))).collect();
    let mut body = both(|language| quotes(&loads, language) + &all_warnings(&loads, language));
    body.push_str(&contents.heading("h2", "setup", Words::new("What was compared", "对比内容")));
    body.push_str(&both(|language| setup(&comparison.sides, language)));
    if comparison.loads.len() > 1 {
        body.push_str(&contents.heading("h2", "load-curves", Words::new("Load curves", "负载曲线")));
        let sides: Vec<ComparedSide<'_>> =
            comparison.sides.iter().enumerate().map(|(place, side)| compared_side(place, &side.runs)).collect();
        body.push_str(&charts(&load_charts(&sides)));
    }
    for (index, (load, pairs)) in loads.iter().enumerate() {
        body.push_str(&section(index, load, pairs, &mut contents));
    }
    body.push_str(&both(|language| ending(comparison, language)));
    wrap(&title, &format!("<h1>{}</h1>{}{body}", title.html(), contents.menu()), language)
}

/// Each other entry of a load with the first.
fn pairs<'a>(load: &'a Load<'a>) -> Vec<Pair<'a>> {
    let Some((a, others)) = load.entries.split_first() else { return Vec::new() };
    others.iter().map(|b| Pair { a, b, compared: compare(&a.runs, &b.runs) }).collect()
}

/// The sentences that can be quoted.
fn quotes(loads: &[(&Load<'_>, Vec<Pair<'_>>)], language: Language) -> String {
    let all = loads.iter().flat_map(|(load, pairs)| pairs.iter().map(move |pair| (load, pair)));
    let text = |(load, pair): (&&Load<'_>, &Pair<'_>)| {
        let sentence = sentence(&letter(pair.b.side), &pair.compared, language);
        let load = load.name.map_or_else(String::new, |name| name.text(language) + language.pick(": ", "："));
        (!sentence.is_empty()).then(|| format!("<p class=\"quote\">{}</p>", escape(&format!("{load}{sentence}"))))
    };
    let sentences: Vec<String> = all.filter_map(text).collect();
    if sentences.len() > MOST_SENTENCES { String::new() } else { sentences.concat() }
}

/// The warnings about all pairs.
fn all_warnings(loads: &[(&Load<'_>, Vec<Pair<'_>>)], language: Language) -> String {
    let several = loads.iter().map(|load| load.1.len()).sum::<usize>() > 1;
    let of_pair = |load: &Load<'_>, pair: &Pair<'_>| -> String {
        let place = match (several, load.name) {
            (false, _) => String::new(),
            (true, Some(name)) => name.text(language) + language.pick(": ", "："),
            (true, None) => format!("{}{}", letter(pair.b.side), language.pick(" against A: ", " 对比 A：")),
        };
        let all = warnings(pair.a, pair.b, &pair.compared, language);
        all.iter().map(|warning| warning_html(warning, &place, language)).collect()
    };
    loads.iter().flat_map(|(load, pairs)| pairs.iter().map(|pair| of_pair(load, pair))).collect()
}

fn warning_html(warning: &Warning, place: &str, language: Language) -> String {
    let (class, name) = match warning.severity {
        Severity::Void => ("void", language.pick("VOID", "无效")),
        Severity::Caution | Severity::Note => ("caution", language.pick("Caution", "注意")),
    };
    format!("<div class=\"finding {class}\"><b>{name}</b>{}</div>", prose(&format!("{place}{}", warning.text)))
}

/// What was run on each side; what is equal on all of them is there once.
fn setup(sides: &[Side<'_>], language: Language) -> String {
    let of_side = |side: &Side<'_>| {
        // In the order of their loads.
        let order = order(&side.runs.iter().map(|run| &run.summary).collect::<Vec<_>>());
        let runs = order.into_iter().map(|place| side.runs[place]);
        let runs: Vec<Stored<'_>> = runs.map(|run| Stored { run: &run.run, summary: &run.summary }).collect();
        let mut rows = vec![
            (language.pick("Runs", "测试"), escape(&about(side, language))),
            (language.pick("Files", "文件"), escape(&side.name)),
        ];
        rows.extend(setup_rows(&runs, language));
        rows
    };
    let columns: Vec<Vec<(&str, String)>> = sides.iter().map(of_side).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in columns.iter().flatten() {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let head: String = (0..sides.len()).map(|place| format!("<th>{}</th>", letter(place))).collect();
    let row = |name: &&str| {
        let value = |column: &Vec<(&str, String)>| {
            column.iter().find(|row| row.0 == *name).map_or_else(|| "-".to_string(), |row| row.1.clone())
        };
        let values: Vec<String> = columns.iter().map(value).collect();
        let cells = match values.iter().all(|value| *value == values[0]) {
            true => format!("<td colspan=\"{}\">{}</td>", values.len(), values[0]),
            false => values.iter().map(|value| format!("<td>{value}</td>")).collect(),
        };
        format!("<tr><th>{}</th>{cells}</tr>", escape(name))
    };
    let rows: String = names.iter().map(row).collect();
    format!(
        "<div class=\"scroll\"><table class=\"words facts\"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

fn compared_side<'a>(place: usize, runs: &[&'a crate::report::Measured]) -> ComparedSide<'a> {
    ComparedSide { name: letter(place), runs: runs.iter().map(|run| (&run.summary, &run.samples)).collect() }
}

/// A load: the figures of each pair, and the percentiles of all sides.
fn section(index: usize, load: &Load<'_>, pairs: &[Pair<'_>], contents: &mut Contents) -> String {
    let mut out = String::new();
    let id = format!("load-{}", index + 1);
    for (place, pair) in pairs.iter().enumerate() {
        let name = letter(pair.b.side);
        let title = Words::new(format!("{name} against A"), format!("{name} 对比 A"));
        match load.name {
            Some(load) if place == 0 => {
                out.push_str(&contents.heading("h2", &id, Words::each(|language| load.text(language))))
            }
            Some(_) => {}
            None => out.push_str(&contents.heading("h2", &format!("{id}-{name}"), title.clone())),
        }
        if load.name.is_some() {
            out.push_str(&format!("<h3>{}</h3>", title.html()));
        }
        out.push_str(&both(|language| figures(pair, language)));
    }
    let sides: Vec<ComparedSide<'_>> =
        load.entries.iter().map(|entry| compared_side(entry.side, &entry.runs)).collect();
    out + &charts(&percentile_charts(&sides))
}

/// The table of two entries.
fn figures(pair: &Pair<'_>, language: Language) -> String {
    let Pair { b, compared, .. } = pair;
    let class = |row: &Row| match row.verdict {
        Verdict::Better => "good",
        Verdict::Worse => "bad",
        _ => "",
    };
    let rows: Vec<(&str, Vec<String>)> = compared.rows.iter().map(|row| (class(row), cells(row, language))).collect();
    let mut out = numbers_table(&heads(&letter(b.side), language), &rows);
    for (mark, note) in marks(&compared.rows, language) {
        out.push_str(&format!("<p class=\"note\">{mark} {note}</p>"));
    }
    out
}

/// The loads that were not compared, and what the intervals cover.
fn ending(comparison: &Comparison<'_>, language: Language) -> String {
    let missing = comparison.missing.iter().map(|missing| format!("<p>{}</p>", escape(&missing.text(language))));
    let missing: String = missing.collect();
    format!("{missing}<p class=\"note\">{}</p>", note(comparison, language))
}
