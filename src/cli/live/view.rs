//! The full-screen view of a run, drawn from its history.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Sparkline};

use super::history::{History, Series};
use crate::cli::progress::layout::wrapped;
use crate::cli::progress::text::{clock_time, figures_line, phase_name};
use crate::record::Phase;
use crate::time::format_ns;
use crate::visible::visible_line;

/// The fewest columns and lines on which the panels can be read.
const LEAST: (u16, u16) = (40, 12);
/// Lines above the panels.
const HEAD: u16 = 5;
/// The lines that panels need at least, before there is room for the log.
const PANELS: u16 = 8;
/// Lines of the log below the panels.
const LOG: u16 = 4;

/// One quantity over time.
struct Panel<'a> {
    name: &'static str,
    series: &'a Series,
    colour: Color,
    /// A value of the series as text.
    text: fn(u64) -> String,
}

/// Draws the view: `lines` are those of the log, `step` is what happens between runs.
pub(super) fn draw(frame: &mut Frame<'_>, history: &History, lines: &[String], step: Option<&str>) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("--live needs {} columns and {} lines", LEAST.0, LEAST.1);
        frame.render_widget(Line::raw(text), area);
        return;
    }
    head(frame, Rect { height: HEAD, ..area }, history, step);
    let log_lines = LOG.min((area.height - HEAD - 1).saturating_sub(PANELS));
    let middle = Rect { y: HEAD, height: area.height - HEAD - log_lines - 1, ..area };
    panels(frame, middle, history);
    log(frame, Rect { y: middle.bottom(), height: log_lines, ..area }, lines);
    let footer = Line::styled(" Each column is a second. Ctrl-C ends the run.", dim());
    frame.render_widget(footer, Rect { y: area.bottom() - 1, height: 1, ..area });
}

fn dim() -> Style {
    Style::default().add_modifier(Modifier::DIM)
}

fn bold() -> Style {
    Style::default().add_modifier(Modifier::BOLD)
}

/// What runs, how far it is, and the figures so far.
fn head(frame: &mut Frame<'_>, area: Rect, history: &History, step: Option<&str>) {
    let progress = &history.progress;
    let run = &progress.run;
    let row = |at: u16| Rect { y: area.y + at, height: 1, ..area };
    let place = run.place.name().map_or_else(String::new, |place| format!("{place}: "));
    let title = format!(" {place}{}", run.load);
    let server = format!("  {} at {}", visible_line(&run.model), visible_line(&run.url));
    frame.render_widget(Line::from(vec![Span::styled(title, bold()), Span::raw(server)]), row(0));
    let (ratio, count) = match (progress.total, progress.duration_s) {
        (Some(total), _) => {
            (progress.done as f64 / total.max(1) as f64, format!("{} of {total} requests", progress.done))
        }
        (None, Some(duration_s)) => (progress.elapsed_s / duration_s, format!("{} requests", progress.done)),
        (None, None) => (0.0, format!("{} requests", progress.done)),
    };
    let ratio = ratio.clamp(0.0, 1.0);
    let left = (ratio > 0.0 && ratio < 1.0).then(|| clock_time(progress.elapsed_s * (1.0 / ratio - 1.0)));
    let left = left.map_or_else(String::new, |left| format!(", about {left} left"));
    let state = match (step, phase_name(progress.phase)) {
        (Some(step), _) => format!(" {step}"),
        (None, Some(phase)) => format!(" {phase}: {count} done, {}{left}", clock_time(progress.elapsed_s)),
        (None, None) => String::new(),
    };
    frame.render_widget(Line::raw(state), row(1));
    let gauge = LineGauge::default()
        .ratio(ratio)
        .filled_symbol("━")
        .filled_style(Style::default().fg(Color::Green))
        .unfilled_style(dim());
    frame.render_widget(gauge.label(format!(" {:3.0} %", ratio * 100.0)), row(2));
    let failed = if progress.failed > 0 { Style::default().fg(Color::Red) } else { Style::default() };
    let so_far = format!(" so far: {}", figures_line(progress, usize::from(area.width).saturating_sub(10)));
    frame.render_widget(Line::styled(so_far, failed), row(3));
}

fn panels(frame: &mut Frame<'_>, area: Rect, history: &History) {
    let all = chosen_panels(history);
    let columns: u16 = if area.width >= 60 { 2 } else { 1 };
    let rows = (all.len() as u16).div_ceil(columns);
    // Each panel needs its name and a line of bars; with less room, the last ones are left out.
    let height = (area.height / rows).max(2);
    let width = area.width / columns;
    for (index, panel) in all.iter().enumerate() {
        let (column, row) = (index as u16 % columns, index as u16 / columns);
        let place = Rect { x: area.x + column * width, y: area.y + row * height, width: width - 1, height };
        if place.bottom() <= area.bottom() {
            draw_panel(frame, place, panel);
        }
    }
}

/// The panels of text that is generated, or those of embeddings and rankings, which have neither TTFT nor ITL.
fn chosen_panels(history: &History) -> Vec<Panel<'_>> {
    let panel = |name, series, colour, text| Panel { name, series, colour, text };
    let rate: fn(u64) -> String = |thousandths| format!("{:.1}", thousandths as f64 / 1e3);
    let count: fn(u64) -> String = |thousandths| (thousandths / 1000).to_string();
    let tokens = if history.counts_input() { "input tok/s" } else { "output tok/s" };
    let mut all = vec![
        panel(tokens, &history.tokens_per_s, Color::Green, rate),
        panel("in flight", &history.in_flight, Color::Blue, count),
    ];
    if history.progress.figures.ttft_p50_ns.is_some() {
        all.extend([
            panel("TTFT p50", &history.ttft_ns[0], Color::Cyan, format_ns),
            panel("TTFT p99", &history.ttft_ns[1], Color::Cyan, format_ns),
            panel("ITL p50", &history.itl_ns[0], Color::Magenta, format_ns),
            panel("ITL p99", &history.itl_ns[1], Color::Magenta, format_ns),
        ]);
    } else {
        all.extend([
            panel("latency p50", &history.latency_ns[0], Color::Cyan, format_ns),
            panel("latency p99", &history.latency_ns[1], Color::Cyan, format_ns),
        ]);
    }
    all.extend([
        panel("failures/s", &history.failed_per_s, Color::Red, rate),
        panel("own send lag p99", &history.send_lag_p99_ns, Color::Yellow, format_ns),
    ]);
    all
}

fn draw_panel(frame: &mut Frame<'_>, area: Rect, panel: &Panel<'_>) {
    let bars = usize::from(area.width.saturating_sub(1));
    let most = panel.series.last(bars).flatten().max();
    let value = panel.series.newest().map_or_else(|| "-".to_string(), panel.text);
    let most_text = most.map_or_else(String::new, |most| format!("  max {}", (panel.text)(most)));
    let title = Line::from(vec![
        Span::styled(format!(" {} ", panel.name), Style::default().fg(panel.colour)),
        Span::styled(value, bold()),
        Span::styled(most_text, dim()),
    ]);
    frame.render_widget(title, Rect { height: 1, ..area });
    let below = Rect { x: area.x + 1, y: area.y + 1, width: area.width - 1, height: area.height - 1 };
    let sparkline = Sparkline::default()
        .data(panel.series.last(bars))
        .max(most.unwrap_or(1).max(1))
        .style(Style::default().fg(panel.colour));
    frame.render_widget(sparkline, below);
}

fn log(frame: &mut Frame<'_>, area: Rect, lines: &[String]) {
    let newest = lines.len().saturating_sub(usize::from(area.height));
    let rows: Vec<(String, Style)> = lines[newest..].iter().flat_map(|line| log_rows(line, area.width)).collect();
    let shown = rows.len().saturating_sub(usize::from(area.height));
    for (row, (text, style)) in rows.into_iter().skip(shown).enumerate() {
        frame.render_widget(Line::styled(text, style), Rect { y: area.y + row as u16, height: 1, ..area });
    }
}

/// A line of the log in rows of at most this width.
fn log_rows(line: &str, width: u16) -> Vec<(String, Style)> {
    // The time of day and the level need less room than the text.
    let (text, style) = match line.split_once(" - ringmark - ") {
        Some((_, text)) if text.starts_with("INFO") => (text, dim()),
        Some((_, text)) => (text, Style::default().fg(Color::Yellow)),
        // The result of a run.
        None => (line, Style::default()),
    };
    wrapped(&format!(" {text}"), width.into()).lines().map(|row| (row.to_string(), style)).collect()
}

/// Whether the phase has figures of its own.
pub(super) fn is_shown(phase: Phase) -> bool {
    phase_name(phase).is_some()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::live::history::tests::at;

    fn screen(width: u16, height: u16) -> String {
        let mut history = History::default();
        (0..30).for_each(|second| history.update(at("Concurrency 8", second)));
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let lines = [
            "2026-01-01 00:00:00,000 - ringmark - WARNING - interrupted".to_string(),
            format!("Concurrency 2: {}, 7 failed", "10.3 req/s, 206 tok/s, TTFT p99 59.2 ms, TPOT 7.88 ms"),
        ];
        terminal.draw(|frame| draw(frame, &history, &lines, None)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn every_size_has_what_fits() {
        for (width, height) in [(80, 24), (120, 40), (200, 60)] {
            let text = screen(width, height);
            for part in [
                "Concurrency 8",
                "87 of 200 requests done",
                "output tok/s 100.0",
                "in flight 8",
                "TTFT p50 40.0 ms",
                "TTFT p99 90.0 ms",
                "ITL p50 9.00 ms",
                "ITL p99 -",
                "failures/s 1.0",
                "own send lag p99 30.0 µs",
                "WARNING - interrupted",
                "failed",
                "█",
                "Ctrl-C",
            ] {
                assert!(text.contains(part), "{width} columns: {part}\n{text}");
            }
            assert!(!text.contains('\u{1b}'), "{text}");
        }
        assert!(screen(60, 12).contains("TTFT p50"));
        assert!(screen(39, 24).contains("needs 40"));
        for size in [(1, 1), (40, 12), (41, 13), (500, 5)] {
            screen(size.0, size.1);
        }
    }
}
