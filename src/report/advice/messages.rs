//! The sentences of the recommendations for a sweep, in both languages.

use crate::report::knee::{KEPT, Load, NEAR_BEST, SOUND, Verdict};
use crate::report::language::Language;
use crate::report::table::digits;

/// A load with its name and its figures as text.
struct Named<'a> {
    name: &'a str,
    requests_per_s: String,
    /// Average latency and TTFT, seconds.
    latency_ms: String,
    ttft_ms: String,
}

/// The sentence for a verdict over these loads, which have these names.
pub fn sentence(verdict: Verdict, loads: &[Load], names: &[String], language: Language) -> Option<String> {
    if verdict == Verdict::Nothing {
        return None;
    }
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_string(), |seconds| digits(seconds * 1e3, 1));
    let named = |place: usize| Named {
        name: &names[place],
        requests_per_s: digits(loads[place].requests_per_s.unwrap_or(0.0), 2),
        latency_ms: ms(loads[place].latency_s),
        ttft_ms: ms(loads[place].ttft_s),
    };
    // A concurrency of 1 is the lowest.
    let can_be_lower = loads[0].parallel != Some(1);
    let with_rates = |place: usize| loads[place].rate_per_s.is_some() && loads[place].parallel.is_none();
    let none_succeeded = |place: usize| loads[place].success == Some(0.0);
    let why_others = |only: usize| why_unusable(loads, only, language);
    Some(match language {
        Language::En => en(verdict, named, can_be_lower, with_rates, none_succeeded, why_others),
        Language::Zh => zh(verdict, named, can_be_lower, with_rates, none_succeeded, why_others),
    })
}

/// Why the loads apart from `only` cannot be used, as the end of "the other loads ...".
fn why_unusable(loads: &[Load], only: usize, language: Language) -> &'static str {
    let others = || loads.iter().enumerate().filter(|(place, _)| *place != only).map(|(_, load)| load);
    let (some_cut, all_cut) = (others().any(Load::is_cut_short), others().all(Load::is_cut_short));
    match (language, some_cut, all_cut) {
        (Language::En, _, true) => "were interrupted",
        (Language::En, true, false) => "were interrupted, are void or fail too often",
        (Language::En, false, false) => "are void or fail too often",
        (Language::Zh, _, true) => "被中断",
        (Language::Zh, true, false) => "被中断、无效或失败过多",
        (Language::Zh, false, false) => "无效或失败过多",
    }
}

fn en<'a>(
    verdict: Verdict,
    named: impl Fn(usize) -> Named<'a>,
    can_be_lower: bool,
    with_rates: impl Fn(usize) -> bool,
    none_succeeded: impl Fn(usize) -> bool,
    why_others: impl Fn(usize) -> &'static str,
) -> String {
    let [sound, near_best, kept] = [SOUND, NEAR_BEST, KEPT].map(percent);
    let name = |place: usize| named(place).name;
    match verdict {
        Verdict::Nothing => String::new(),
        Verdict::AllVoid => "Every run is void: do not base decisions on these figures.".to_string(),
        Verdict::NoneSound { most } if none_succeeded(most) => {
            "No request succeeded at any load. Find out why before you try other loads.".to_string()
        }
        Verdict::NoneSound { most } => format!(
            "At no load did {sound} of the requests succeed (the most did at {}): these figures do not say what the \
             server can do. Find out why requests fail before you try other loads.",
            name(most)
        ),
        Verdict::OneSound { only } => format!(
            "Only {} can be used: the other loads {}, so there is nothing to compare it with.",
            name(only),
            why_others(only)
        ),
        Verdict::NotReached { top } if with_rates(top) => format!(
            "Every rate up to {} was kept (responses ended at {kept} or more of the arrival rate, apart from long last \
             ones): the server is not saturated. Try higher rates.",
            name(top)
        ),
        Verdict::NotReached { top } => format!(
            "The highest load, {}, has the most requests/s, and no lower load reaches {near_best} of it: the server is \
             not saturated. Try a higher concurrency.",
            name(top)
        ),
        Verdict::Between { below, above, parallel } => {
            let (below, above) = (named(below), named(above));
            format!(
                "The server saturates between {} and {}: requests wait there, average TTFT rises from {} ms to {} ms. Try \
                 a concurrency of {parallel}, which {} req/s need at the latency of {}, {} ms.",
                below.name,
                above.name,
                below.ttft_ms,
                above.ttft_ms,
                above.requests_per_s,
                below.name,
                below.latency_ms
            )
        }
        Verdict::FailsAbove { top, failing } => format!(
            "The highest load that the server sustains is {}: at {} fewer than {sound} of the requests succeed.",
            name(top),
            name(failing)
        ),
        Verdict::RateLimits { knee } => format!(
            "{} is enough to keep the arrival rate: a higher concurrency cannot give more requests/s than the schedule \
             offers. Try a higher --rate to find the bottleneck.",
            name(knee)
        ),
        Verdict::Exceeded { last, best } => format!(
            "The optimum is around {}, the highest rate that was kept (responses ended at {kept} or more of the arrival \
             rate), at an average latency of {} ms. Higher rates exceed the capacity, about {} req/s.",
            name(last),
            named(last).latency_ms,
            named(best).requests_per_s
        ),
        Verdict::NoneKept { lowest, best } => format!(
            "Even the lowest rate, {}, exceeds the capacity, about {} req/s (responses ended at less than {kept} of the \
             arrival rate). Try lower rates.",
            name(lowest),
            named(best).requests_per_s
        ),
        Verdict::Flat { knee, top } | Verdict::Past { knee, top } => {
            let is_past = matches!(verdict, Verdict::Past { .. });
            let (at_knee, at_top) = (named(knee), named(top));
            let (rps, latency) = (&at_knee.requests_per_s, &at_knee.latency_ms);
            // If a lower load cannot be used, the lowest load is not known to saturate the server.
            let begin = match knee {
                0 => format!(
                    "The lowest load, {}, already saturates the server: {rps} req/s, at least {near_best} of the best, at \
                     an average latency of {latency} ms.",
                    at_knee.name
                ),
                _ => format!(
                    "The optimum is around {}, the lowest load with at least {near_best} of the best requests/s: {rps} \
                     req/s at an average latency of {latency} ms.",
                    at_knee.name
                ),
            };
            let (name, rps, latency) = (at_top.name, at_top.requests_per_s, at_top.latency_ms);
            let end = match is_past {
                true => format!("The highest load is beyond saturation: only {rps} req/s at {latency} ms with {name}."),
                false => format!("More load only adds latency: {rps} req/s at {latency} ms with {name}."),
            };
            let lower = if knee == 0 && can_be_lower { " Consider lowering the load." } else { "" };
            format!("{begin} {end}{lower}")
        }
    }
}

fn zh<'a>(
    verdict: Verdict,
    named: impl Fn(usize) -> Named<'a>,
    can_be_lower: bool,
    with_rates: impl Fn(usize) -> bool,
    none_succeeded: impl Fn(usize) -> bool,
    why_others: impl Fn(usize) -> &'static str,
) -> String {
    let [sound, near_best, kept] = [SOUND, NEAR_BEST, KEPT].map(percent);
    let name = |place: usize| named(place).name;
    match verdict {
        Verdict::Nothing => String::new(),
        Verdict::AllVoid => "所有测试均无效：请勿以这些数据为依据。".to_string(),
        Verdict::NoneSound { most } if none_succeeded(most) => {
            "任何负载下都没有成功的请求。请先查明原因，再尝试其他负载。".to_string()
        }
        Verdict::NoneSound { most } => format!(
            "没有任何负载的成功率达到 {sound}（最高为 {}）：这些数据不能反映服务端的能力。请先查明失败原因，再尝试其他负载。",
            name(most)
        ),
        Verdict::OneSound { only } => format!("只有 {} 可用：其余负载{}，无法比较。", name(only), why_others(only)),
        Verdict::NotReached { top } if with_rates(top) => format!(
            "直到 {} 均能维持（完成速率不低于到达率的 {kept}，末尾较长的响应除外）：服务端尚未饱和，可尝试更高的速率。",
            name(top)
        ),
        Verdict::NotReached { top } => format!(
            "最高负载 {} 的吞吐量最高，更低的负载均不到其 {near_best}：服务端尚未饱和，可尝试更高的并发数。",
            name(top)
        ),
        Verdict::Between { below, above, parallel } => {
            let (below, above) = (named(below), named(above));
            format!(
                "服务端在 {} 与 {} 之间达到饱和：请求开始排队，平均 TTFT 从 {} ms 升至 {} ms。可尝试并发数 {parallel}，\
                 即以 {} 的时延（{} ms）达到 {} req/s 所需的并发数。",
                below.name,
                above.name,
                below.ttft_ms,
                above.ttft_ms,
                below.name,
                below.latency_ms,
                above.requests_per_s
            )
        }
        Verdict::FailsAbove { top, failing } => {
            format!("服务端可承受的最高负载为 {}：{} 的成功率低于 {sound}。", name(top), name(failing))
        }
        Verdict::RateLimits { knee } => {
            format!("{} 已足以维持到达率：并发数再高，吞吐量也不会超过到达率。请提高 --rate 以寻找瓶颈。", name(knee))
        }
        Verdict::Exceeded { last, best } => format!(
            "最佳负载在 {} 附近，即能维持的最高速率（完成速率不低于到达率的 {kept}），平均时延 {} ms。更高的速率超过服务端的\
             处理能力（约 {} req/s）。",
            name(last),
            named(last).latency_ms,
            named(best).requests_per_s
        ),
        Verdict::NoneKept { lowest, best } => format!(
            "最低速率 {} 已超过服务端的处理能力（约 {} req/s，完成速率低于到达率的 {kept}），请尝试更低的速率。",
            name(lowest),
            named(best).requests_per_s
        ),
        Verdict::Flat { knee, top } | Verdict::Past { knee, top } => {
            let is_past = matches!(verdict, Verdict::Past { .. });
            let (at_knee, at_top) = (named(knee), named(top));
            let (rps, latency) = (&at_knee.requests_per_s, &at_knee.latency_ms);
            let begin = match knee {
                0 => format!(
                    "最低负载 {} 已使服务端饱和：{rps} req/s，不低于最高值的 {near_best}，平均时延 {latency} ms。",
                    at_knee.name
                ),
                _ => format!(
                    "最佳负载在 {} 附近，即吞吐量达到最高值 {near_best} 的最低负载：{rps} req/s，平均时延 {latency} ms。",
                    at_knee.name
                ),
            };
            let (name, rps, latency) = (at_top.name, at_top.requests_per_s, at_top.latency_ms);
            let end = match is_past {
                true => format!("最高负载已越过饱和点：{name} 时仅 {rps} req/s、{latency} ms。"),
                false => format!("更高的负载只会增加时延：{name} 时为 {rps} req/s、{latency} ms。"),
            };
            let lower = if knee == 0 && can_be_lower { "建议降低负载。" } else { "" };
            format!("{begin}{end}{lower}")
        }
    }
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
                        at an average latency of 60.0 ms. More load only adds latency: 33.10 req/s at 250.0 ms with C8.";
        assert_eq!(sentence_for(&flat, Language::En), expected);
        assert!(sentence_for(&flat, Language::Zh).starts_with("最佳负载在 C2 附近"));
        let saturated = sentence_for(&flat[1..], Language::En);
        assert!(saturated.starts_with("The lowest load, C2, already") && saturated.ends_with("lowering the load."));
        let alone = sentence_for(&[(1, 33.0, 0.03), (2, 33.1, 0.06)], Language::En);
        assert!(alone.starts_with("The lowest load, C1, already") && !alone.contains("lowering"), "{alone}");
        let past = sentence_for(&[(1, 10.0, 0.1), (2, 20.0, 0.1), (4, 12.0, 0.3)], Language::En);
        assert!(past.contains("around C2") && past.contains("beyond saturation: only 12.00 req/s at 300.0 ms with C4"));
    }

    #[test]
    fn coarse_sweeps_get_a_load_to_try() {
        // A server with 8 slots.
        let load = |parallel, rps, ttft_s, latency_s| Load {
            parallel: Some(parallel),
            requests_per_s: Some(rps),
            ttft_s: Some(ttft_s),
            latency_s: Some(latency_s),
            success: Some(1.0),
            ..Load::default()
        };
        let loads = [load(4, 8.0, 0.09, 0.5), load(16, 15.9, 0.6, 1.0)];
        let names = ["C4", "C16"].map(str::to_string);
        let text = |language| sentence(decide(&loads), &loads, &names, language).unwrap();
        let en = text(Language::En);
        assert!(
            en.starts_with("The server saturates between C4 and C16: ") && en.contains("concurrency of 8,"),
            "{en}"
        );
        let zh = text(Language::Zh);
        assert!(zh.contains("在 C4 与 C16 之间达到饱和") && zh.contains("可尝试并发数 8，"), "{zh}");
    }

    #[test]
    fn every_verdict_has_a_text() {
        let load = Load { rate_per_s: Some(1.0), ..Load::default() };
        let (loads, names) = ([load.clone(), load], ["A".to_string(), "B".to_string()]);
        let verdicts = [
            Verdict::AllVoid,
            Verdict::NoneSound { most: 1 },
            Verdict::OneSound { only: 1 },
            Verdict::NotReached { top: 1 },
            Verdict::Between { below: 0, above: 1, parallel: 6 },
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
