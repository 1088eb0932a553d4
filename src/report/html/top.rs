//! The top of the page: a sentence to quote, void runs, what was run, objectives, failures.

use std::fmt::Write;

use super::bounds::{highest_at_most_s, series};
use super::elements::{at_most_note, facts, table_of_cells};
use super::escape::prose;
use super::objectives::{criterion_words, figure_name, milliseconds, milliseconds_up, shown_factor};
use super::parts::failure_table;
use super::run::{Run, Stored};
use super::setup;
use super::words::{Contents, Words, both};
use crate::finding::Figure as Time;
use crate::plan::sla::Aim;
use crate::plan::slo::Figure;
use crate::record::facts::RunFacts;
use crate::report::advice::{best, success_rate};
use crate::report::early_end;
use crate::report::findings::void_lines;
use crate::report::knee::SOUND;
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::report::objective::{agrees, requests_within_note, upper_bound};
use crate::report::repeats::{self, Spread};
use crate::report::search::figure_of;
use crate::report::table::{Decimals, digits, infinite_note, mark, percent_down};
use crate::search::{Observed, Selection, StoredSearch};
use crate::stats::Summary;
use crate::stats::slo::Judged;

/// Decimals of a value in milliseconds that is close to its bound.
const MOST_DECIMALS: usize = 6;

/// The heading of the page.
pub fn heading(title: &Words) -> String {
    format!("<h1>{}</h1>", title.html())
}

/// The sections above all figures. `runs` are in the order of their loads.
pub fn sections(runs: &[&Run], searches: &[StoredSearch], contents: &mut Contents) -> String {
    let summaries: Vec<&Summary> = runs.iter().map(|run| &run.summary).collect();
    let mut out = both(|language| {
        let mut out = String::new();
        for line in void_lines(&summaries, language) {
            let _ = write!(out, "<p class=\"banner\">{}{}</p>", language.pick("VOID: ", "无效："), prose(&line));
        }
        for sentence in sentences(&summaries, searches) {
            let _ = write!(out, "<p class=\"quote\">{}</p>", prose(sentence.pick(language)));
        }
        out + &early_ends(&summaries, language)
    });
    out.push_str(&contents.heading("h2", "setup", Words::new("What was run", "测试内容")));
    let stored: Vec<Stored<'_>> = runs.iter().map(|run| Stored { run: &run.run, summary: &run.summary }).collect();
    out.push_str(&both(|language| facts(&setup::rows(&stored, language))));
    if summaries.iter().any(|run| run.slo.as_ref().is_some_and(|verdict| !verdict.criteria.is_empty())) {
        out.push_str(&contents.heading("h2", "objectives", Words::new("Objectives", "性能目标")));
        out.push_str(&both(|language| objectives(&summaries, language)));
    }
    if summaries.iter().any(|run| !run.failures.is_empty()) {
        out.push_str(&contents.heading("h2", "failures", Words::new("Failures", "失败列表")));
        out.push_str(&both(|language| failure_table(&summaries, language)));
    }
    out
}

/// A line with the loads of a sweep that ended early; the sentence about a single run has this itself.
fn early_ends(runs: &[&Summary], language: Language) -> String {
    let of_load = |group: &Vec<&Summary>| {
        let clause = early_end::clause(group, language)?;
        Some(format!("{}{}{clause}", load_name(&group[0].facts, language), language.pick(": ", "：")))
    };
    let lines: Vec<String> = match runs {
        [_] => Vec::new(),
        runs => repeats::groups(runs).iter().filter_map(of_load).collect(),
    };
    if lines.is_empty() {
        return String::new();
    }
    let (separator, end) = (language.pick("; ", "；"), language.pick(".", "。"));
    let name = language.pick("Caution", "注意");
    format!("<div class=\"finding caution\"><b>{name}</b>{}{end}</div>", prose(&lines.join(separator)))
}

/// The sentence with what ended runs of this group early.
fn with_early_end(sentence: Words, group: &[&Summary]) -> Words {
    with_clause(&sentence, |language| early_end::clause(group, language))
}

/// The sentence with a clause at its end, if there is one.
fn with_clause(sentence: &Words, clause: impl Fn(Language) -> Option<String>) -> Words {
    Words::each(|language| {
        let (text, end) = (sentence.pick(language), language.pick(".", "。"));
        match clause(language) {
            Some(clause) => {
                let separator = language.pick("; ", "；");
                format!("{}{separator}{clause}{end}", text.strip_suffix(end).unwrap_or(text))
            }
            None => text.to_string(),
        }
    })
}

/// The sentence with the figures of which only an upper bound is known, seconds, so that the true one may not be as the
/// sentence has it.
fn with_uncertain(sentence: &Words, figures: &[(Figure, f64)]) -> Words {
    with_clause(sentence, |language| {
        let of_figure = |(figure, bound): &(Figure, f64)| {
            let (name, bound) = (figure_name(*figure, language), milliseconds_up(*bound));
            match language {
                Language::En => format!("{name}, whose true value is at most {bound} ms"),
                Language::Zh => format!("{name}，其真实值不高于 {bound} ms"),
            }
        };
        let figures: Vec<String> = figures.iter().map(of_figure).collect();
        let before = language.pick("this client's error exceeds ", "客户端误差超过 ");
        let joined = figures.join(language.pick(", and ", "；"));
        (!figures.is_empty()).then(|| format!("{before}{joined}"))
    })
}

/// The figures of these runs that meet their objectives by the value that was measured, but of which only an upper bound
/// is known that does not: each with its highest bound, seconds.
fn uncertain_objectives(group: &[&Summary]) -> Vec<(Figure, f64)> {
    let mut found: Vec<(Figure, f64)> = Vec::new();
    for run in group {
        for one in run.slo.iter().flat_map(|verdict| &verdict.criteria) {
            let Some(bound) = upper_bound(run, one).filter(|bound| one.criterion.is_left_open_by(*bound)) else {
                continue;
            };
            match found.iter_mut().find(|(figure, _)| *figure == one.criterion.figure) {
                Some((_, highest)) => *highest = highest.max(bound),
                None => found.push((one.criterion.figure, bound)),
            }
        }
    }
    found
}

/// One sentence for each result that can be quoted: for each search what it selected; else the best load that met the
/// objectives; without objectives, or if no load met them, the load with the most requests per second.
fn sentences(runs: &[&Summary], searches: &[StoredSearch]) -> Vec<Words> {
    if !searches.is_empty() {
        return searches.iter().flat_map(|stored| search_sentences(runs, stored)).collect();
    }
    let groups = repeats::groups(runs);
    let sound: Vec<&Vec<&Summary>> =
        groups.iter().filter(|group| group.iter().all(|run| !run.is_void() && run.counts.ok > 0)).collect();
    if sound.is_empty() {
        let void = runs.iter().any(|run| run.is_void());
        let none = Words::new("No request succeeded.", "没有成功的请求。");
        let none = if runs.len() == 1 { with_early_end(none, runs) } else { none };
        return if void || runs.is_empty() { Vec::new() } else { vec![none] };
    }
    let whatever_they_met = match sound.as_slice() {
        [only] if groups.len() == 1 => Some(of_load(only, &Words::default())),
        _ => fastest(&groups, runs).or_else(|| too_few_succeed(&sound, sound.len() < groups.len())),
    };
    if runs.iter().all(|run| run.slo.as_ref().is_none_or(|verdict| verdict.criteria.is_empty())) {
        return whatever_they_met.into_iter().collect();
    }
    let met = sound.into_iter().filter(|group| group.iter().all(|run| !run.missed_slo()));
    let rate = |group: &&Vec<&Summary>| Spread::compute(group, |s| s.throughput.requests_per_s).map_or(0.0, |s| s.mean);
    let best = met.max_by(|a, b| rate(a).total_cmp(&rate(b)));
    let criteria = runs.iter().find_map(|run| run.slo.as_ref()).map_or_else(Words::default, |verdict| {
        joined(verdict.criteria.iter().map(|judged| criterion_words(&judged.criterion)))
    });
    let missed = Words::new(
        format!("No load met the objectives: {}.", criteria.en),
        format!("没有负载达到目标：{}。", criteria.zh),
    );
    match best {
        Some(group) => vec![with_uncertain(&of_load(group, &criteria), &uncertain_objectives(group))],
        None => std::iter::once(missed).chain(whatever_they_met).collect(),
    }
}

fn joined(words: impl Iterator<Item = Words>) -> Words {
    let (en, zh): (Vec<String>, Vec<String>) = words.map(|words| (words.en, words.zh)).unzip();
    Words::new(en.join(", "), zh.join("，"))
}

/// The load with the most requests per second.
fn fastest(groups: &[Vec<&Summary>], runs: &[&Summary]) -> Option<Words> {
    let run = best(runs).0?.run;
    let group = groups.iter().find(|group| group.iter().any(|other| std::ptr::eq(*other, run)))?;
    let sentence = of_load(group, &Words::default());
    Some(Words::new(
        format!("Highest throughput measured: {}", sentence.en),
        format!("测得的最高吞吐量：{}", sentence.zh),
    ))
}

/// At no load did enough requests succeed: the load at which most did. `others`: there are loads that cannot be used.
fn too_few_succeed(groups: &[&Vec<&Summary>], others: bool) -> Option<Words> {
    let share = |group: &&Vec<&Summary>| Spread::compute(group, success_rate).map(|spread| spread.mean);
    let shares = groups.iter().filter_map(|group| Some((share(group)?, &group[0].facts)));
    let (most, facts) = shares.filter(|(share, _)| *share < SOUND).max_by(|a, b| a.0.total_cmp(&b.0))?;
    let (most, least) = (percent_down(most), SOUND * 100.0);
    let (which, which_zh) = if others { ("load that can be used", "可用负载") } else { ("load", "负载") };
    Some(Words::new(
        format!(
            "At no {which} did {least} % of the requests succeed, at most {most} % at {}.",
            load_name(facts, Language::En)
        ),
        format!("没有{which_zh}的请求成功率达到 {least} %，最高为 {most} %（{}）。", load_name(facts, Language::Zh)),
    ))
}

/// A sentence for each selection of a search.
pub fn search_sentences(runs: &[&Summary], stored: &StoredSearch) -> Vec<Words> {
    let of_aim = |(aim, selection): (&Aim, &Selection)| {
        let criteria = match aim {
            Aim::Hold(criteria) => joined(criteria.iter().map(criterion_words)),
            Aim::Best { name, most: true, .. } => Words::new(format!("the highest {name}"), format!("{name} 最大")),
            Aim::Best { name, most: false, .. } => Words::new(format!("the lowest {name}"), format!("{name} 最小")),
        };
        let Some(load) = selection.value else {
            return Words::new(
                format!("No load that was tried has {}.", criteria.en),
                format!("已测负载均不满足：{}。", criteria.zh),
            );
        };
        let is_selected = |run: &&&Summary| {
            run.facts.search.as_ref() == Some(&stored.plan)
                && run.facts.searched_load(stored.plan.variable) == Some(load)
        };
        let group: Vec<&Summary> = runs.iter().filter(is_selected).copied().collect();
        let selected = stored.probes.iter().find(|probe| probe.value == load);
        let uncertain = selected.map_or_else(Vec::new, |probe| probe.uncertain(aim));
        let with_bound = |observed: &Observed| Some((figure_of(&stored.plan, &observed.name)?, observed.at_most?));
        let uncertain: Vec<(Figure, f64)> = uncertain.into_iter().filter_map(with_bound).collect();
        let sentence = match group.is_empty() {
            // Its runs are not among these.
            true => Words::new(
                format!("{} {load} has {}.", stored.plan.variable.name(), criteria.en),
                format!("{} {load} 满足：{}。", stored.plan.variable.name(), criteria.zh),
            ),
            false => of_load(&group, &criteria),
        };
        with_uncertain(&sentence, &uncertain)
    };
    stored.plan.aims.iter().zip(&stored.selections).map(of_aim).collect()
}

/// `8 users at p99 TTFT below 400 ms: 12.3 req/s, 493 tok/s.` Without criteria, the highest percentile
/// follows that does not come from few samples. The end of a run that ended early follows in any case.
fn of_load(group: &[&Summary], criteria: &Words) -> Words {
    let mean = |of: fn(&Summary) -> Option<f64>| Spread::compute(group, of).map(|spread| spread.mean);
    let text = group.iter().any(|run| run.generates_text());
    let requests = mean(|s| s.throughput.requests_per_s).map(|rate| format!("{} req/s", digits(rate, 0)));
    let mut figures = vec![requests.map(|text| Words::new(text.clone(), text))];
    let plain = |text: String| Words::new(text.clone(), text);
    let tokens = match text {
        true => mean(|s| s.throughput.output_tokens_per_s).map(|rate| plain(format!("{} tok/s", digits(rate, 0)))),
        // Embeddings and rankings have no output tokens.
        false => mean(|s| s.throughput.input_tokens_per_s).map(|rate| {
            let rate = digits(rate, 0);
            Words::new(format!("{rate} input tok/s"), format!("输入 {rate} tok/s"))
        }),
    };
    figures.push(tokens);
    figures.push(mean(Summary::per_gpu).map(|rate| plain(format!("{} tok/s/GPU", digits(rate, 0)))));
    let figures: Vec<Words> = figures.into_iter().flatten().collect();
    let (name, time) = match text {
        true => (Words::new("TTFT", "TTFT"), Time::Ttft),
        false => (Words::new("latency", "端到端时延"), Time::Latency),
    };
    let is_sure = |per_mille| group.iter().all(|run| series(run, time).at(per_mille).is_some_and(|q| !q.few));
    let level = [990, 900, 500].into_iter().find(|&per_mille| criteria.is_empty() && is_sure(per_mille));
    let percentile = level.and_then(|per_mille| {
        let bound = highest_at_most_s(group.iter().copied(), time, per_mille);
        let value = match bound {
            Some(bound) => format!("≤ {}", milliseconds_up(bound)),
            None => milliseconds(Spread::compute(group, |run| series(run, time).value(per_mille))?.mean),
        };
        Some((per_mille / 10, value))
    });
    let success = mean(success_rate).filter(|&share| share < 1.0).map(percent_down);
    let sentence = Words::each(|language| {
        let mut parts: Vec<String> = figures.iter().map(|figure| figure.pick(language).to_string()).collect();
        parts.extend(percentile.as_ref().map(|(level, ms)| format!("p{level} {} {ms} ms", name.pick(language))));
        parts.extend(success.as_ref().map(|percent| match language {
            Language::En => format!("{percent} % of the requests succeeded"),
            Language::Zh => format!("请求成功率 {percent} %"),
        }));
        let load = users(&group[0].facts, language);
        let criteria = criteria.pick(language);
        let at =
            if criteria.is_empty() { String::new() } else { format!("{}{criteria}", language.pick(" at ", "，")) };
        let (colon, end) = (language.pick(": ", "："), language.pick(".", "。"));
        format!("{load}{at}{colon}{}{end}", parts.join(language.pick(", ", "，")))
    });
    with_early_end(sentence, group)
}

/// A load as the reader of a sentence calls it.
fn users(facts: &RunFacts, language: Language) -> String {
    match (facts.parallel, facts.rate_per_s, language) {
        (Some(1), None, Language::En) => "1 user".to_string(),
        (Some(users), None, Language::En) => format!("{users} users"),
        (Some(users), None, Language::Zh) => format!("{users} 个并发用户"),
        (..) => load_name(facts, language),
    }
}

/// A row for each run: every criterion with its value and verdict.
fn objectives(runs: &[&Summary], language: Language) -> String {
    let judged = |run: &Summary| run.slo.as_ref().map_or_else(Vec::new, |verdict| verdict.criteria.clone());
    let Some(first) = runs.iter().map(|run| judged(run)).find(|criteria| !criteria.is_empty()) else {
        return String::new();
    };
    let mut head = vec![language.pick("Load", "负载").to_string()];
    head.extend(first.iter().map(|one| criterion_words(&one.criterion).pick(language).to_string()));
    head.extend([
        language.pick("Goodput (req/s)", "有效吞吐量 (req/s)").to_string(),
        language.pick("Requests within (%)", "达标请求占比 (%)").to_string(),
        language.pick("Verdict", "结论").to_string(),
    ]);
    // Runs of one page can have different objectives.
    let of_run =
        |run: &Summary, one: &Judged| judged(run).into_iter().find(|other| other.criterion.text == one.criterion.text);
    let columns: Vec<Vec<Option<(&str, String)>>> = first
        .iter()
        .map(|one| objective_cells(&runs.iter().map(|run| of_run(run, one)).collect::<Vec<_>>(), runs))
        .collect();
    let row = |(place, run): (usize, &&Summary)| {
        let verdict = run.slo.as_ref()?;
        let mut cells = vec![("", load_name(&run.facts, language))];
        cells.extend(columns.iter().map(|cells| cells[place].clone().unwrap_or_else(|| ("", "-".to_string()))));
        let percent = verdict.good_share.map(|share| share * 100.0);
        cells.extend([verdict.goodput_per_s, percent].map(|value| ("", super::elements::fixed(value, 2))));
        let met = verdict.is_met();
        let text =
            if met { language.pick("met ✓", "达标 ✓") } else { language.pick("missed ✗", "未达标 ✗") };
        cells.push((verdict_class(met), text.to_string()));
        Some(cells)
    };
    let rows: Vec<Vec<(&str, String)>> = runs.iter().enumerate().filter_map(row).collect();
    let infinite = rows.iter().flatten().any(|cell| cell.1.starts_with('∞'));
    let note = if infinite { format!("<p class=\"note\">{}</p>", infinite_note(language)) } else { String::new() };
    let has = |mark: &str| rows.iter().flatten().any(|cell| cell.1.contains(mark));
    let few = if has("* ") { super::elements::few_note(language) } else { String::new() };
    let bounds = if has("≤ ") { at_most_note(language) } else { String::new() };
    let within = requests_within_note(&first, language).map(|note| format!("<p class=\"note\">{}</p>", prose(&note)));
    table_of_cells(&head, &rows) + &within.unwrap_or_default() + &few + &bounds + &note
}

/// A criterion judged in each run: values in the unit of the criterion, with the same decimals, and verdicts. Where the
/// table of percentiles has only an upper bound, it stands beside the value.
fn objective_cells(judged: &[Option<Judged>], runs: &[&Summary]) -> Vec<Option<(&'static str, String)>> {
    let shown = |one: &Judged| one.judged.value.map(|value| value * shown_factor(one.criterion.figure));
    let finite = |one: &&Judged| shown(one).is_some_and(f64::is_finite);
    let bound = |run: &Summary, one: &Judged| Some(upper_bound(run, one)? * shown_factor(one.criterion.figure));
    let bounds = judged.iter().zip(runs).filter_map(|(one, run)| bound(run, one.as_ref()?));
    let least = Decimals::for_digits(judged.iter().flatten().filter(finite).filter_map(shown).chain(bounds), 0);
    // A value that is rounded to its bound must not contradict its verdict.
    let all_agree = |decimals: &Decimals| {
        let agrees = |one: &Judged| {
            shown(one).is_none_or(|value| agrees(one, &decimals.text(value), shown_factor(one.criterion.figure)))
        };
        judged.iter().flatten().filter(finite).all(agrees)
    };
    let decimals = (least.0..=MOST_DECIMALS).map(Decimals).find(all_agree).unwrap_or(least);
    let cell = |one: &Judged, run: &Summary| {
        let value = match shown(one) {
            Some(value) if value.is_finite() => decimals.text(value),
            Some(_) => "∞".to_string(),
            None => "-".to_string(),
        };
        let bound = bound(run, one).map_or_else(String::new, |bound| format!(" (≤ {})", decimals.ceil(bound)));
        let verdict = if one.met { "✓" } else { "✗" };
        (verdict_class(one.met), format!("{value}{}{bound} {verdict}", mark(one.judged.few)))
    };
    judged.iter().zip(runs).map(|(one, run)| Some(cell(one.as_ref()?, run))).collect()
}

fn verdict_class(met: bool) -> &'static str {
    if met { "good" } else { "bad" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_counted() {
        let users_of = |parallel| users(&RunFacts { parallel: Some(parallel), ..RunFacts::default() }, Language::En);
        assert_eq!([1, 8].map(users_of), ["1 user", "8 users"]);
        let rate = RunFacts { rate_per_s: Some(5.0), ..RunFacts::default() };
        assert_eq!(users(&rate, Language::En), "Rate 5 req/s");
    }
}
