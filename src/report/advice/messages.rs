//! The sentences of the recommendations for a sweep, in both languages.

use crate::report::knee::{KEPT, Load, NEAR_BEST, SOUND, Verdict};
use crate::report::language::Language;
use crate::report::table::digits;

/// A sentence in English and in Chinese, with placeholders `{0}` and so on.
type Message = (&'static str, &'static str);

const ALL_VOID: Message =
    ("Every run is void: do not base decisions on these figures.", "所有测试均无效：请勿以这些数据为依据。");
const NONE_SOUND: Message = (
    "At no load did {0} of the requests succeed (the most did at {1}): these figures do not say what the server can do. Find \
     out why requests fail before you try other loads.",
    "没有任何负载的成功率达到 {0}（最高为 {1}）：这些数据不能反映服务端的能力。请先查明失败原因，再尝试其他负载。",
);
const NONE_SUCCEEDED: Message = (
    "No request succeeded at any load. Find out why before you try other loads.",
    "任何负载下都没有成功的请求。请先查明原因，再尝试其他负载。",
);
const ONE_SOUND: Message = (
    "Only {0} can be used: the other loads are void or fail too often, so there is nothing to compare it with.",
    "只有 {0} 可用：其余负载无效或失败过多，无法比较。",
);
const RATES_NOT_REACHED: Message = (
    "Every rate up to {0} was kept (responses ended at {1} or more of the arrival rate, apart from long last ones): the \
     server is not saturated. Try higher rates.",
    "直到 {0} 均能维持（完成速率不低于到达率的 {1}，末尾较长的响应除外）：服务端尚未饱和，可尝试更高的速率。",
);
const NOT_REACHED: Message = (
    "The highest load, {0}, has the most requests/s, and no lower load reaches {1} of it: the server is not saturated. Try \
     a higher concurrency.",
    "最高负载 {0} 的吞吐量最高，更低的负载均不到其 {1}：服务端尚未饱和，可尝试更高的并发数。",
);
const FAILS_ABOVE: Message = (
    "The highest load that the server sustains is {0}: at {1} fewer than {2} of the requests succeed.",
    "服务端可承受的最高负载为 {0}：{1} 的成功率低于 {2}。",
);
const RATE_LIMITS: Message = (
    "{0} is enough to keep the arrival rate: a higher concurrency cannot give more requests/s than the schedule offers. \
     Try a higher --rate to find the bottleneck.",
    "{0} 已足以维持到达率：并发数再高，吞吐量也不会超过到达率。请提高 --rate 以寻找瓶颈。",
);
const EXCEEDED: Message = (
    "The optimum is around {0}, the highest rate that was kept (responses ended at {1} or more of the arrival rate), at an \
     average latency of {2} s. Higher rates exceed the capacity, about {3} req/s.",
    "最佳负载在 {0} 附近，即能维持的最高速率（完成速率不低于到达率的 {1}），\
     平均时延 {2} s。更高的速率超过服务端的处理能力（约 {3} req/s）。",
);
const NONE_KEPT: Message = (
    "Even the lowest rate, {0}, exceeds the capacity, about {1} req/s (responses ended at less than {2} of the arrival \
     rate). Try lower rates.",
    "最低速率 {0} 已超过服务端的处理能力（约 {1} req/s，完成速率低于到达率的 {2}），请尝试更低的速率。",
);
const OPTIMUM: Message = (
    "The optimum is around {0}, the lowest load with at least {3} of the best requests/s: {1} req/s at an average latency \
     of {2} s.",
    "最佳负载在 {0} 附近，即吞吐量达到最高值 {3} 的最低负载：{1} req/s，平均时延 {2} s。",
);
const SATURATED: Message = (
    "The lowest load, {0}, already saturates the server: {1} req/s, at least {3} of the best, at an average latency of {2} \
     s.",
    "最低负载 {0} 已使服务端饱和：{1} req/s，不低于最高值的 {3}，平均时延 {2} s。",
);
const ONLY_LATENCY: Message = (
    "More load only adds latency: {1} req/s at {2} s with {0}.",
    "更高的负载只会增加时延：{0} 时为 {1} req/s、{2} s。",
);
const PAST: Message = (
    "The highest load is beyond saturation: only {1} req/s at {2} s with {0}.",
    "最高负载已越过饱和点：{0} 时仅 {1} req/s、{2} s。",
);
const LOWER: Message = ("Consider lowering the load.", "建议降低负载。");

/// The sentence for a verdict over these loads, which have these names.
pub fn sentence(verdict: Verdict, loads: &[Load], names: &[String], language: Language) -> Option<String> {
    let fill = |message: Message, values: &[String]| Some(filled(message, values, language));
    let name = |place: usize| names[place].clone();
    let rps = |place: usize| digits(loads[place].requests_per_s.unwrap_or(0.0), 2);
    let latency = |place: usize| loads[place].latency_s.map_or_else(|| "-".to_string(), |s| digits(s, 3));
    match verdict {
        Verdict::Nothing => None,
        Verdict::AllVoid => fill(ALL_VOID, &[]),
        Verdict::NoneSound { most } if loads[most].success == Some(0.0) => fill(NONE_SUCCEEDED, &[]),
        Verdict::NoneSound { most } => fill(NONE_SOUND, &[percent(SOUND), name(most)]),
        Verdict::OneSound { only } => fill(ONE_SOUND, &[name(only)]),
        Verdict::NotReached { top } if loads[top].rate_per_s.is_some() && loads[top].parallel.is_none() => {
            fill(RATES_NOT_REACHED, &[name(top), percent(KEPT)])
        }
        Verdict::NotReached { top } => fill(NOT_REACHED, &[name(top), percent(NEAR_BEST)]),
        Verdict::FailsAbove { top, failing } => fill(FAILS_ABOVE, &[name(top), name(failing), percent(SOUND)]),
        Verdict::RateLimits { knee } => fill(RATE_LIMITS, &[name(knee)]),
        Verdict::Exceeded { last, best } => fill(EXCEEDED, &[name(last), percent(KEPT), latency(last), rps(best)]),
        Verdict::NoneKept { lowest, best } => fill(NONE_KEPT, &[name(lowest), rps(best), percent(KEPT)]),
        Verdict::Flat { knee, top } | Verdict::Past { knee, top } => {
            let known = |place: usize| [name(place), rps(place), latency(place), percent(NEAR_BEST)];
            // If a lower load cannot be used, the lowest load is not known to saturate the server.
            let begin = if knee == 0 { SATURATED } else { OPTIMUM };
            let end = if matches!(verdict, Verdict::Past { .. }) { PAST } else { ONLY_LATENCY };
            let mut out = vec![filled(begin, &known(knee), language), filled(end, &known(top), language)];
            // A concurrency of 1 is the lowest.
            out.extend((knee == 0 && loads[0].parallel != Some(1)).then(|| filled(LOWER, &[], language)));
            Some(out.join(language.pick(" ", "")))
        }
    }
}

fn filled((en, zh): Message, values: &[String], language: Language) -> String {
    let put = |text: String, (place, value): (usize, &String)| text.replace(&format!("{{{place}}}"), value);
    values.iter().enumerate().fold(language.pick(en, zh).to_string(), put)
}

/// A share as an integer percentage, such as 95 for 0.95.
fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::knee::decide;

    fn sentence_for(figures: &[(u32, f64, f64)], language: Language) -> String {
        let load = |&(parallel, rps, latency_s): &(u32, f64, f64)| Load {
            parallel: Some(parallel),
            requests_per_s: Some(rps),
            latency_s: Some(latency_s),
            success: Some(1.0),
            ..Load::default()
        };
        let loads: Vec<Load> = figures.iter().map(load).collect();
        let names: Vec<String> = figures.iter().map(|figure| format!("C{}", figure.0)).collect();
        sentence(decide(&loads), &loads, &names, language).unwrap()
    }

    #[test]
    fn flat_curve_names_its_knee_and_the_added_latency() {
        let flat = [(1, 31.0, 0.0301), (2, 33.0, 0.06), (4, 33.2, 0.12), (8, 33.1, 0.25)];
        let expected = "The optimum is around C2, the lowest load with at least 95 % of the best requests/s: 33.00 req/s \
                        at an average latency of 0.0600 s. More load only adds latency: 33.10 req/s at 0.250 s with C8.";
        assert_eq!(sentence_for(&flat, Language::En), expected);
        assert!(sentence_for(&flat, Language::Zh).starts_with("最佳负载在 C2 附近"));
        let saturated = sentence_for(&flat[1..], Language::En);
        assert!(saturated.starts_with("The lowest load, C2, already") && saturated.ends_with("lowering the load."));
        let alone = sentence_for(&[(1, 33.0, 0.03), (2, 33.1, 0.06)], Language::En);
        assert!(alone.starts_with("The lowest load, C1, already") && !alone.contains("lowering"), "{alone}");
        let past = sentence_for(&[(1, 10.0, 0.1), (2, 20.0, 0.1), (4, 12.0, 0.3)], Language::En);
        assert!(past.contains("around C2") && past.contains("beyond saturation: only 12.00 req/s at 0.300 s with C4"));
    }

    #[test]
    fn every_placeholder_is_filled() {
        let load = Load { rate_per_s: Some(1.0), ..Load::default() };
        let (loads, names) = ([load.clone(), load], ["A".to_string(), "B".to_string()]);
        let verdicts = [
            Verdict::AllVoid,
            Verdict::NoneSound { most: 1 },
            Verdict::OneSound { only: 1 },
            Verdict::NotReached { top: 1 },
            Verdict::FailsAbove { top: 0, failing: 1 },
            Verdict::RateLimits { knee: 1 },
            Verdict::Exceeded { last: 0, best: 1 },
            Verdict::NoneKept { lowest: 0, best: 1 },
            Verdict::Flat { knee: 0, top: 1 },
            Verdict::Past { knee: 0, top: 1 },
        ];
        for (verdict, language) in verdicts.into_iter().flat_map(|v| [(v, Language::En), (v, Language::Zh)]) {
            let text = sentence(verdict, &loads, &names, language).unwrap();
            assert!(!text.contains('{') && text.ends_with(['.', '。']), "{text}");
        }
        assert_eq!(sentence(Verdict::Nothing, &loads, &names, Language::En), None);
    }
}
