//! How a run ended before its plan did, in words that stand beside its figures: they are those of a part of the load.

use super::language::Language;
use crate::finding::Finding;
use crate::stats::Summary;

/// What ended a run early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EarlyEnd {
    ServerEnded,
    /// The program was killed, so nothing is stored about the end.
    Killed,
    /// By `--abort-on`.
    Aborted,
    /// By the user.
    Interrupted,
}

impl EarlyEnd {
    /// `None` if the run ended as planned.
    pub(crate) fn of_run(s: &Summary) -> Option<EarlyEnd> {
        let has = |which: fn(&Finding) -> bool| s.findings.iter().any(which);
        match () {
            () if s.server_ended() => Some(EarlyEnd::ServerEnded),
            () if has(|finding| matches!(finding, Finding::Killed)) => Some(EarlyEnd::Killed),
            () if s.is_aborted() => Some(EarlyEnd::Aborted),
            () if has(|finding| matches!(finding, Finding::Interrupted { .. })) => Some(EarlyEnd::Interrupted),
            () => None,
        }
    }

    /// A clause without the counts.
    pub(crate) fn clause(self, language: Language) -> &'static str {
        match self {
            EarlyEnd::ServerEnded => language.pick("the server ended", "服务端已退出"),
            EarlyEnd::Killed => language.pick("the run was killed", "测试进程被终止"),
            EarlyEnd::Aborted => language.pick("--abort-on ended the run", "--abort-on 结束了测试"),
            EarlyEnd::Interrupted => language.pick("the run was interrupted", "测试被中断"),
        }
    }

    /// One or two words, behind the name of a load.
    fn word(self, language: Language) -> &'static str {
        match self {
            EarlyEnd::ServerEnded => language.pick("server ended", "服务端退出"),
            EarlyEnd::Killed => language.pick("killed", "被终止"),
            EarlyEnd::Aborted => language.pick("ended by --abort-on", "被 --abort-on 结束"),
            EarlyEnd::Interrupted => language.pick("interrupted", "被中断"),
        }
    }
}

/// `the run was interrupted after 17 of 1000 requests`, of several runs `1 of 3 runs ended early (interrupted)`. `None` if
/// all ended as planned.
pub(crate) fn clause(runs: &[&Summary], language: Language) -> Option<String> {
    let early: Vec<(&Summary, EarlyEnd)> = runs.iter().filter_map(|run| Some((*run, EarlyEnd::of_run(run)?))).collect();
    let (run, end) = *early.first()?;
    Some(match (runs.len(), language) {
        (1, _) => after_requests(run, end, language),
        (all, Language::En) => format!("{} of {all} runs ended early ({})", early.len(), end.word(language)),
        (all, Language::Zh) => format!("{all} 次测试中有 {} 次提前结束（{}）", early.len(), end.word(language)),
    })
}

fn after_requests(run: &Summary, end: EarlyEnd, language: Language) -> String {
    let (ended, clause) = (run.counts.ok + run.counts.failed, end.clause(language));
    // Without a number, only the time was planned.
    let planned = run.facts.requests.map(|_| run.counts.scheduled);
    match (planned, language) {
        (Some(1), Language::En) => format!("{clause} after {ended} of 1 request"),
        (Some(planned), Language::En) => format!("{clause} after {ended} of {planned} requests"),
        (None, Language::En) => format!("{clause} after {ended} request{}", if ended == 1 { "" } else { "s" }),
        (Some(planned), Language::Zh) => format!("{clause}，{planned} 个请求中只完成了 {ended} 个"),
        (None, Language::Zh) => format!("{clause}，只完成了 {ended} 个请求"),
    }
}

/// What follows the name of a load in tables: whether its run is void or ended early.
pub(crate) fn mark(run: &Summary, language: Language) -> String {
    let words = run.is_void().then(|| language.pick("void", "无效"));
    let words = words.into_iter().chain(EarlyEnd::of_run(run).map(|end| end.word(language)));
    let words: Vec<&str> = words.collect();
    match (words.is_empty(), language) {
        (true, _) => String::new(),
        (false, Language::En) => format!(" ({})", words.join(", ")),
        (false, Language::Zh) => format!("（{}）", words.join("，")),
    }
}
