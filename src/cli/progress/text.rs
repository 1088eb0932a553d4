//! The progress of a run as text, for bars and for the full-screen view.

use crate::record::Phase;
use crate::report;
use crate::run::PhaseProgress;
use crate::time::format_ns;

/// The name of a phase that has a display.
pub(in crate::cli) fn phase_name(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Preflight | Phase::Witness => None,
        Phase::Warmup => Some("Warm-up"),
        Phase::Measured => Some("Processing"),
    }
}

/// Seconds as `00:01:30`.
pub(in crate::cli) fn clock_time(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The figures of a run so far, as many as fit in `width` columns; failures come first.
pub(in crate::cli) fn figures_line(progress: &PhaseProgress, width: usize) -> String {
    let figures = &progress.figures;
    let mut parts = Vec::new();
    if progress.failed > 0 {
        parts.push(format!("{} failed", progress.failed));
    }
    parts.push(format!("{} ok", progress.ok));
    if progress.phase == Phase::Measured {
        parts.extend(figures.requests_per_s().map(|rate| format!("{rate:.1} req/s")));
        parts.extend(report::token_rate(figures));
        let pair = |name: &str, p50: Option<u64>, p99: Option<u64>| {
            Some(format!("{name} p50 {} p99 {}", format_ns(p50?), format_ns(p99?)))
        };
        let ttft = pair("TTFT", figures.ttft_p50_ns, figures.ttft_p99_ns);
        parts.extend(ttft.or_else(|| pair("latency", figures.latency_p50_ns, figures.latency_p99_ns)));
    }
    let mut line = String::new();
    for part in parts {
        let comma = if line.is_empty() { "" } else { ", " };
        if line.chars().count() + comma.len() + part.chars().count() > width {
            break;
        }
        line.push_str(comma);
        line.push_str(&part);
    }
    line
}
