//! Pairs the runs to compare: single loads, or sweeps load by load.

use std::path::{Path, PathBuf};

use super::sides::{Comparison, Entry, Load, LoadName, Missing, Side, is_offered_alike, is_same_load};
use crate::report::Measured;
use crate::report::repeats::are_repeats;

/// A database or a folder of databases, as given on the command line.
pub struct Given<'a> {
    /// The runs with their files; at least one.
    pub runs: Vec<(PathBuf, &'a Measured)>,
    pub is_folder: bool,
}

/// Compares sweeps if a folder contains a call with several loads and there are two calls, else every load with the
/// first. The repeats of a load are one side, unless that leaves nothing to compare.
pub fn comparison<'a>(given: &[Given<'a>]) -> Comparison<'a> {
    let has_sweep =
        |given: &Given<'a>| given.is_folder && by_call(&given.runs).iter().any(|call| loads(&measured(call)).len() > 1);
    if given.iter().any(has_sweep) {
        let calls = calls(given);
        if calls.len() > 1 {
            return of_sweeps(calls);
        }
    }
    let runs: Vec<(PathBuf, &Measured)> = given.iter().flat_map(|given| given.runs.iter().cloned()).collect();
    let mut sides = grouped(&runs, |a, b| are_repeats(&a.summary, &b.summary));
    if sides.len() < 2 {
        sides = runs.into_iter().map(|run| vec![run]).collect();
    }
    let side = |runs: Runs<'a>| Side { name: runs[0].0.display().to_string(), runs: measured(&runs) };
    Comparison::of_sides(sides.into_iter().map(side).collect())
}

/// Each argument as one side, whichever calls made its runs: builds that were measured in turn have a folder each.
pub fn pooled<'a>(given: &[Given<'a>]) -> Comparison<'a> {
    let side = |of: &Given<'a>| Side { name: common_place(&of.runs).display().to_string(), runs: measured(&of.runs) };
    let sides: Vec<Side<'a>> = given.iter().map(side).collect();
    let has_one_load = |side: &Side<'a>| loads(&side.runs).len() == 1;
    if sides.iter().all(has_one_load) { Comparison::of_sides(sides) } else { of_sweeps(sides) }
}

type Runs<'a> = Vec<(PathBuf, &'a Measured)>;

/// The calls of each folder, and those that the single databases belong to.
fn calls<'a>(given: &[Given<'a>]) -> Vec<Side<'a>> {
    let mut calls: Vec<Runs<'a>> = Vec::new();
    // The position of the single databases among the calls: those of one call may be given one by one.
    let mut of_files: Vec<usize> = Vec::new();
    for one in given {
        if one.is_folder {
            calls.extend(by_call(&one.runs));
            continue;
        }
        for run in &one.runs {
            match of_files.iter().copied().find(|&at| is_one_call(calls[at][0].1, run.1)) {
                Some(at) => calls[at].push(run.clone()),
                None => {
                    of_files.push(calls.len());
                    calls.push(vec![run.clone()]);
                }
            }
        }
    }
    calls.iter().map(|runs| Side { name: common_place(runs).display().to_string(), runs: measured(runs) }).collect()
}

fn by_call<'a>(runs: &[(PathBuf, &'a Measured)]) -> Vec<Runs<'a>> {
    grouped(runs, is_one_call)
}

fn is_one_call(a: &Measured, b: &Measured) -> bool {
    a.summary.facts.request_id_prefix == b.summary.facts.request_id_prefix
}

fn grouped<'a>(runs: &[(PathBuf, &'a Measured)], alike: impl Fn(&Measured, &Measured) -> bool) -> Vec<Runs<'a>> {
    let mut groups: Vec<Runs<'a>> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|group| alike(group[0].1, run.1)) {
            Some(group) => group.push(run.clone()),
            None => groups.push(vec![run.clone()]),
        }
    }
    groups
}

fn measured<'a>(runs: &[(PathBuf, &'a Measured)]) -> Vec<&'a Measured> {
    runs.iter().map(|run| run.1).collect()
}

/// The file of one run, or the common folder of several.
fn common_place(runs: &[(PathBuf, &Measured)]) -> PathBuf {
    let mut place: &Path = &runs[0].0;
    while !runs.iter().all(|run| run.0.starts_with(place)) {
        match place.parent() {
            Some(parent) => place = parent,
            None => break,
        }
    }
    if place.as_os_str().is_empty() { PathBuf::from(".") } else { place.to_path_buf() }
}

/// The runs of each load, the lowest load first.
fn loads<'a>(runs: &[&'a Measured]) -> Vec<Vec<&'a Measured>> {
    let mut loads: Vec<Vec<&'a Measured>> = Vec::new();
    for run in runs {
        let facts = &run.summary.facts;
        let same = |load: &&mut Vec<&Measured>| is_same_load(&load[0].summary.facts, facts);
        match loads.iter_mut().find(same) {
            Some(load) => load.push(run),
            None => loads.push(vec![run]),
        }
    }
    let height = |load: &[&Measured]| {
        let facts = &load[0].summary.facts;
        (facts.parallel, facts.rate_per_s.unwrap_or(0.0), facts.requests)
    };
    loads.sort_by(|a, b| {
        let ((parallel_a, rate_a, requests_a), (parallel_b, rate_b, requests_b)) = (height(a), height(b));
        parallel_a.cmp(&parallel_b).then(rate_a.total_cmp(&rate_b)).then(requests_a.cmp(&requests_b))
    });
    loads
}

/// Pairs each load of the first call with the same load of the others. Loads that differ only in their length are
/// paired too, so that the difference of their workloads is reported.
fn of_sweeps<'a>(sides: Vec<Side<'a>>) -> Comparison<'a> {
    let of_sides: Vec<_> = sides.iter().map(|side| loads(&side.runs)).collect();
    let Some((first, others)) = of_sides.split_first() else { return Comparison::of_sides(sides) };
    let matches: Vec<_> = others.iter().map(|other| matched(first, other)).collect();
    let mut paired = Vec::new();
    for (number, load) in first.iter().enumerate() {
        let entry = |side: usize, runs: &Vec<&'a Measured>| Entry { side, runs: runs.clone() };
        let of_others = (1..).zip(others).zip(&matches);
        let of_others = of_others.filter_map(|((side, other), matches)| Some(entry(side, &other[matches[number]?])));
        let entries: Vec<Entry<'a>> = std::iter::once(entry(0, load)).chain(of_others).collect();
        if entries.len() > 1 {
            paired.push(Load { name: Some(named(load, first)), entries });
        }
    }
    let mut missing = Vec::new();
    for (side, (other, matches)) in (1..).zip(others.iter().zip(&matches)) {
        let only_first = (0..first.len()).filter(|&load| matches[load].is_none());
        let only_other = (0..other.len()).filter(|load| !matches.contains(&Some(*load)));
        missing.push(Missing {
            of: side,
            loads: only_first.map(|load| named(&first[load], first)).collect(),
            there: 0,
        });
        missing.push(Missing {
            of: 0,
            loads: only_other.map(|load| named(&other[load], other)).collect(),
            there: side,
        });
    }
    missing.retain(|missing| !missing.loads.is_empty());
    Comparison { sides, loads: paired, missing }
}

/// For each load of `first` the index of its partner in `other`; each load has at most one partner.
fn matched(first: &[Vec<&Measured>], other: &[Vec<&Measured>]) -> Vec<Option<usize>> {
    let mut found: Vec<Option<usize>> = vec![None; first.len()];
    for alike in [is_same_load, is_offered_alike] {
        for (number, load) in first.iter().enumerate() {
            let fits =
                |at: &usize| !found.contains(&Some(*at)) && alike(&load[0].summary.facts, &other[*at][0].summary.facts);
            found[number] = found[number].or_else(|| (0..other.len()).find(fits));
        }
    }
    found
}

/// The name of a load among all of its call.
fn named<'a>(load: &[&'a Measured], all: &[Vec<&Measured>]) -> LoadName<'a> {
    let facts = &load[0].summary.facts;
    let alike = all.iter().filter(|other| is_offered_alike(&other[0].summary.facts, facts)).count();
    LoadName { facts, with_length: alike > 1 }
}
