//! Which events of an answer delivered the tokens that its server counts, and from that the time per output token.
//!
//! One event usually is one token, but not always. Servers count tokens that have no text: the end-of-sequence token, whose
//! event carries only the finish reason, and parts of a character. Parsers of tool calls and reasoning swallow tokens, and
//! speculative decoding delivers several tokens in one event. The number of tokens against the number of events says which
//! of these it was:
//!
//! - **As many tokens as events with output**: those events delivered them.
//! - **As many more tokens as there are events without output**: these delivered the rest. If not all of them did, it was
//!   those between two outputs, then the first one after the last output of each choice, then the others after it, then
//!   those that carry the finish reason `length` (which a token with text has reached before), then those before the first
//!   output; the first of these sets that makes the numbers equal.
//! - **Otherwise** it is unknown where the tokens without an event were, so the time per output token is a range. All within
//!   the span from the first to the last output: `span / (tokens − 1)`, the lower end. All outside of it: every interval
//!   between two events is at most one step, the upper end; and no token was generated before the request was sent, which is
//!   a second upper end. The value within the range is the lower end, unless a span that begins with the role or an event
//!   without output, or ends with one, fits the number of tokens better at the pace of the events (`pace`).
//!
//! The event with the role is the step of the first token at some servers only, so it is in none of these sets, and counts by
//! its pace alone.

mod pace;

use super::{Block, RequestRecord, TokenSource};
use crate::time::Tick;

/// What an event of a choice without output carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilentKind {
    /// No finish reason.
    Step = 0,
    /// A finish reason other than `length`.
    Stop = 1,
    /// The finish reason `length`.
    Length = 2,
    /// A role, or the begin of a block of content, before the first output of the choice.
    Role = 3,
}

/// Bytes per event in [`Events::silent_kinds`]: the choice, and the number of a [`SilentKind`].
pub const SILENT_BYTES: usize = 2;

/// The events of one streamed answer that belong to its choices, in order of arrival.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events<'a> {
    /// Arrivals of the events with output.
    pub outputs: &'a [Tick],
    /// The choice of each; empty if all are of the first.
    pub choices: &'a [u8],
    /// Arrivals of the events without output.
    pub silent: &'a [Tick],
    /// Choice and kind of each of these, [`SILENT_BYTES`] bytes.
    pub silent_kinds: &'a [u8],
    /// Arrival of the first byte of the response head.
    pub head: Option<Tick>,
}

/// The time from the first to the last counted token of one choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: Tick,
    last: Tick,
    /// Events that delivered tokens.
    steps: u32,
}

impl Span {
    fn add(span: &mut Option<Span>, at: Tick) {
        let Span { first, last, steps } = span.unwrap_or(Span { first: at, last: at, steps: 0 });
        *span = Some(Span { first: first.min(at), last: last.max(at), steps: steps + 1 });
    }

    fn ns(self) -> f64 {
        self.last.ns_since(self.first).max(0) as f64
    }

    /// Intervals between its events, at least one.
    fn intervals(self) -> f64 {
        f64::from(self.steps.saturating_sub(1).max(1))
    }
}

/// The time per output token of an answer, the mean over its choices, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tpot {
    /// The most plausible value in the range, or the value itself if it is exact.
    pub ns: f64,
    /// The range that contains the value.
    pub low_ns: f64,
    pub high_ns: f64,
    /// The number of intervals between tokens that the span is divided by; with several choices the harmonic mean, by which
    /// an error of a span becomes an error of the value.
    pub intervals: f64,
    /// The same of `high_ns`.
    pub high_intervals: f64,
    /// The last counted token has no text, so it is not among the outputs.
    pub ends_silent: bool,
    /// The gaps between the events that delivered tokens, those without text included. Of a range: between the outputs.
    pub gaps: TokenGaps,
}

/// Gaps between consecutive events of a choice, summed over all choices.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenGaps {
    pub count: u64,
    pub ns: f64,
}

impl TokenGaps {
    fn from_spans<'a>(spans: impl Iterator<Item = &'a Span>) -> TokenGaps {
        spans.fold(TokenGaps::default(), |sum, span| TokenGaps {
            count: sum.count + u64::from(span.steps.saturating_sub(1)),
            ns: sum.ns + span.ns(),
        })
    }
}

/// Sets of events without output, in the order in which they are taken as tokens.
const SETS: usize = 5;
/// Of announcements of a role, which are in none of these.
const NO_SET: usize = usize::MAX;

/// The spans of all choices under one assumption.
type Spans = [Option<Span>; 256];

/// The time per output token. `counts_silent`: `tokens` is the server's count, which includes tokens without text. `sent`: the
/// time at which the request was sent. `None` for fewer than two tokens.
pub fn tpot(events: Events<'_>, tokens: u32, counts_silent: bool, sent: Option<Tick>) -> Option<Tpot> {
    if tokens < 2 || events.outputs.is_empty() {
        return None;
    }
    let more = i64::from(tokens) - events.outputs.len() as i64;
    let is_role = |place: usize| kind_of(events, place) == SilentKind::Role as u8;
    if events.choices.is_empty() && (0..events.silent.len()).all(is_role) {
        let found = single(events.outputs, tokens, sent)?;
        return Some(if more > 0 && counts_silent { at_pace(found, events, tokens, sent) } else { found });
    }
    let inner = spans(events, None);
    if more <= 0 || !counts_silent {
        return mean(&inner, &inner, tokens, events.outputs.len(), more <= 0, sent);
    }
    let sets = sets(events, &inner);
    let mut counts = [0i64; SETS];
    sets.iter().filter(|set| **set < SETS).for_each(|set| counts[*set] += 1);
    let mut sum = 0;
    let taken = (0..SETS).find(|set| {
        sum += counts[*set];
        sum == more
    });
    let with = |limit: usize| spans(events, Some((&sets, limit)));
    match taken {
        Some(limit) => {
            let spans = with(limit);
            mean(&spans, &spans, tokens, tokens as usize, true, sent).map(|tpot| Tpot {
                ends_silent: (0..256).any(|choice| spans[choice].map(|s| s.last) > inner[choice].map(|s| s.last)),
                ..tpot
            })
        }
        None => {
            let range = mean(&inner, &with(SETS), tokens, events.outputs.len(), false, sent)?;
            Some(at_pace(range, events, tokens, sent))
        }
    }
}

/// The range with its most plausible value, which it then contains.
fn at_pace(range: Tpot, events: Events<'_>, tokens: u32, sent: Option<Tick>) -> Tpot {
    let Some(plausible) = pace::plausible(events, tokens, sent) else { return range };
    let ns = plausible.ns.max(range.low_ns);
    Tpot { ns, high_ns: range.high_ns.max(ns), ..range }
}

/// The arrival of the last counted token, over all choices. `tokens`: the server's count, if it has one. `sent`: as in
/// [`tpot`].
pub fn last_token(events: Events<'_>, tokens: Option<u32>, sent: Option<Tick>) -> Option<Tick> {
    let last = events.outputs.last().copied()?;
    let more = tokens.map_or(0, |tokens| i64::from(tokens) - events.outputs.len() as i64);
    if more <= 0 || events.silent.is_empty() {
        return Some(last);
    }
    let sets = sets(events, &spans(events, None));
    let number = |limit: usize| sets.iter().filter(|set| **set <= limit).count() as i64;
    let Some(limit) = (0..SETS).find(|limit| number(*limit) == more) else {
        let plausible = pace::plausible(events, tokens.unwrap_or(0), sent);
        return Some(plausible.map_or(last, |plausible| plausible.last.max(last)));
    };
    let counted = events.silent.iter().zip(&sets).filter(|(_, set)| **set <= limit).map(|(at, _)| *at);
    counted.chain([last]).max()
}

/// One choice without silent events.
fn single(outputs: &[Tick], tokens: u32, sent: Option<Tick>) -> Option<Tpot> {
    let span = Span { first: *outputs.first()?, last: *outputs.last()?, steps: outputs.len() as u32 };
    let intervals = f64::from(tokens - 1);
    let low_ns = span.ns() / intervals;
    let exact = tokens as usize <= outputs.len();
    let high_ns = if exact { low_ns } else { high_ns(span, span, f64::from(tokens), sent).max(low_ns) };
    let high_intervals = if exact { intervals } else { span.intervals() };
    let gaps = TokenGaps::from_spans([span].iter());
    Some(Tpot { ns: low_ns, low_ns, high_ns, intervals, high_intervals, ends_silent: false, gaps })
}

/// The spans of all choices: of the outputs, and of the silent events whose set is at most the given one.
fn spans(events: Events<'_>, silent: Option<(&[usize], usize)>) -> Box<Spans> {
    let mut spans: Box<Spans> = Box::new([None; 256]);
    for (place, &at) in events.outputs.iter().enumerate() {
        Span::add(&mut spans[usize::from(events.choices.get(place).copied().unwrap_or(0))], at);
    }
    if let Some((sets, limit)) = silent {
        for (place, &at) in events.silent.iter().enumerate().filter(|(place, _)| sets[*place] <= limit) {
            Span::add(&mut spans[usize::from(choice_of(events, place))], at);
        }
    }
    spans
}

fn choice_of(events: Events<'_>, silent: usize) -> u8 {
    events.silent_kinds.get(silent * SILENT_BYTES).copied().unwrap_or(0)
}

fn kind_of(events: Events<'_>, silent: usize) -> u8 {
    events.silent_kinds.get(silent * SILENT_BYTES + 1).copied().unwrap_or(0)
}

/// The set of each silent event.
fn sets(events: Events<'_>, outputs: &Spans) -> Vec<usize> {
    let mut ended = [false; 256];
    let set = |place: usize| {
        let choice = usize::from(choice_of(events, place));
        let kind = kind_of(events, place);
        let at = events.silent[place];
        match outputs[choice] {
            _ if kind == SilentKind::Role as u8 => NO_SET,
            Some(span) if at < span.first => 4,
            // A silent event in the read of the last output came after it.
            Some(span) if at < span.last => 0,
            _ if kind == SilentKind::Length as u8 => 3,
            _ if std::mem::replace(&mut ended[choice], true) => 2,
            _ => 1,
        }
    };
    (0..events.silent.len()).map(set).collect()
}

/// The mean over the choices. `tokens` over all choices is shared out by the events of `low`, of which there are `events`.
fn mean(low: &Spans, high: &Spans, tokens: u32, events: usize, exact: bool, sent: Option<Tick>) -> Option<Tpot> {
    // Some servers count the tokens of one choice.
    let several = low.iter().flatten().count() > 1;
    let per_event = f64::from(tokens) / events.max(1) as f64;
    let per_event = if several { per_event.max(1.0) } else { per_event };
    let (mut lows, mut highs, mut inverse, mut high_inverse, mut choices) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (low, high) in low.iter().zip(high) {
        let Some((low, high)) = low.zip(*high) else { continue };
        let tokens = f64::from(low.steps) * per_event;
        if tokens < 2.0 {
            continue;
        }
        let value = low.ns() / (tokens - 1.0);
        lows += value;
        highs += if exact { value } else { high_ns(low, high, tokens, sent).max(value) };
        inverse += 1.0 / (tokens - 1.0);
        high_inverse += 1.0 / if exact { tokens - 1.0 } else { low.intervals() };
        choices += 1.0;
    }
    (choices > 0.0).then(|| Tpot {
        ns: lows / choices,
        low_ns: lows / choices,
        high_ns: highs / choices,
        intervals: choices / inverse,
        high_intervals: choices / high_inverse,
        ends_silent: false,
        gaps: TokenGaps::from_spans(low.iter().flatten()),
    })
}

/// The upper end of the range of one choice. `inner` is the span of its outputs, `outer` that of all its events.
fn high_ns(inner: Span, outer: Span, tokens: f64, sent: Option<Tick>) -> f64 {
    let since_sent = sent.map(|sent| outer.last.ns_since(sent).max(0) as f64 / (tokens - 1.0));
    // One output, or several in one read, have no pace; that of the events without output would depend on the reads.
    if let Some(since_sent) = since_sent.filter(|_| inner.ns() == 0.0) {
        return since_sent;
    }
    let per_step = |span: Span| (span.steps >= 2).then(|| span.ns() / f64::from(span.steps - 1));
    // An event that shares the time of another one would only lower the value.
    let steps = per_step(inner).into_iter().chain(per_step(outer)).reduce(f64::max);
    match (steps, since_sent) {
        (Some(steps), Some(since)) => steps.min(since),
        (steps, since) => steps.or(since).unwrap_or(0.0),
    }
}

impl RequestRecord {
    /// The time per output token of this streamed answer; `None` if it is not defined. `block` holds the record.
    pub fn tpot(&self, block: &Block) -> Option<Tpot> {
        let tokens = self.output_tokens.filter(|_| self.streamed)?;
        let events = self.events_in(block);
        if events.outputs.is_empty() {
            return None;
        }
        let counts_silent = self.token_source == TokenSource::Server;
        let last = self.last_token.filter(|last| events.outputs.last() < Some(last));
        match last.filter(|_| events.silent.is_empty() && events.choices.is_empty()) {
            // Older databases have the last counted token alone.
            Some(last) => {
                let stop = [0, SilentKind::Stop as u8];
                tpot(Events { silent: &[last], silent_kinds: &stop, ..events }, tokens, true, self.write_start)
            }
            None => tpot(events, tokens, counts_silent, self.write_start),
        }
    }

    /// The events of its choices.
    pub fn events_in<'a>(&self, block: &'a Block) -> Events<'a> {
        Events {
            outputs: self.arrivals.slice(&block.arrivals),
            choices: self.choices.slice(&block.bytes),
            silent: self.silent.slice(&block.arrivals),
            silent_kinds: self.silent_kinds.slice(&block.bytes),
            head: self.first_byte,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u8 = SilentKind::Step as u8;
    const STOP: u8 = SilentKind::Stop as u8;
    const LENGTH: u8 = SilentKind::Length as u8;
    const ROLE: u8 = SilentKind::Role as u8;

    fn ticks(times: &[u64]) -> Vec<Tick> {
        times.iter().map(|&ns| Tick(ns)).collect()
    }

    /// Value, range and last token of an answer sent at 0. Outputs are (time, choice), silent events (time, choice, kind).
    fn value(outputs: &[(u64, u8)], silent: &[(u64, u8, u8)], tokens: u32) -> (f64, f64, f64, u64) {
        let (arrivals, choices): (Vec<u64>, Vec<u8>) = outputs.iter().copied().unzip();
        let choices = if choices.iter().all(|choice| *choice == 0) { Vec::new() } else { choices };
        let silent_kinds: Vec<u8> = silent.iter().flat_map(|(_, choice, kind)| [*choice, *kind]).collect();
        let (arrivals, quiet) = (ticks(&arrivals), ticks(&silent.iter().map(|event| event.0).collect::<Vec<_>>()));
        let events =
            Events { outputs: &arrivals, choices: &choices, silent: &quiet, silent_kinds: &silent_kinds, head: None };
        let found = tpot(events, tokens, true, Some(Tick(0))).unwrap();
        (found.ns, found.low_ns, found.high_ns, last_token(events, Some(tokens), Some(Tick(0))).unwrap().0)
    }

    /// Outputs of the first choice every 10 ns.
    fn every_10(from: u64, number: u64) -> Vec<(u64, u8)> {
        (0..number).map(|place| (from + 10 * place, 0)).collect()
    }

    #[test]
    fn tokens_without_text_are_counted_where_they_were_delivered() {
        let exact = |last| (10.0, 10.0, 10.0, last);
        assert_eq!(value(&every_10(100, 4), &[], 4), exact(130));
        // End of sequence in a step of its own, counted or not; the finish reason beside the last token.
        assert_eq!(value(&every_10(100, 4), &[(140, 0, STOP)], 5), exact(140));
        assert_eq!(value(&every_10(100, 4), &[(140, 0, STOP)], 4), exact(130));
        assert_eq!(value(&every_10(100, 4), &[(130, 0, LENGTH)], 4), exact(130));
        // A part of a character in the middle, and both.
        let split = [(100, 0), (110, 0), (130, 0)];
        assert_eq!(value(&split, &[(120, 0, STEP)], 4), exact(130));
        assert_eq!(value(&split, &[(120, 0, STEP), (140, 0, STOP)], 4), exact(130));
        assert_eq!(value(&split, &[(120, 0, STEP), (140, 0, STOP)], 5), exact(140));
        // The last token has no text, and the finish reason has an event of its own.
        assert_eq!(value(&every_10(100, 4), &[(140, 0, STEP), (150, 0, STOP)], 5), exact(140));
        assert_eq!(value(&every_10(100, 4), &[(140, 0, STEP), (140, 0, LENGTH)], 5), exact(140));
        // Text held back for a stop string.
        assert_eq!(value(&every_10(120, 4), &[(100, 0, STEP), (110, 0, STEP), (160, 0, STOP)], 7), exact(160));
    }

    #[test]
    fn gaps_between_tokens_include_those_without_text() {
        let gaps = |outputs: &[(u64, u8)], silent: &[(u64, u8, u8)], tokens| {
            let (arrivals, choices): (Vec<u64>, Vec<u8>) = outputs.iter().copied().unzip();
            let (quiet, kinds): (Vec<u64>, Vec<[u8; 2]>) =
                silent.iter().map(|(at, choice, kind)| (*at, [*choice, *kind])).unzip();
            let (arrivals, quiet, silent_kinds) = (ticks(&arrivals), ticks(&quiet), kinds.concat());
            let choices = if choices.iter().all(|choice| *choice == 0) { Vec::new() } else { choices };
            let events = Events {
                outputs: &arrivals,
                choices: &choices,
                silent: &quiet,
                silent_kinds: &silent_kinds,
                head: None,
            };
            let gaps = tpot(events, tokens, true, Some(Tick(0))).unwrap().gaps;
            (gaps.count, gaps.ns)
        };
        assert_eq!(gaps(&every_10(100, 4), &[], 4), (3, 30.0));
        // The end of the sequence, counted or not; a part of a character in the middle.
        assert_eq!(gaps(&every_10(100, 4), &[(145, 0, STOP)], 5), (4, 45.0));
        assert_eq!(gaps(&every_10(100, 4), &[(145, 0, STOP)], 4), (3, 30.0));
        assert_eq!(gaps(&[(100, 0), (120, 0)], &[(110, 0, STEP)], 3), (2, 20.0));
        let both = [every_10(100, 4), (0..4).map(|step| (101 + 10 * step, 1)).collect()].concat();
        assert_eq!(gaps(&both, &[(140, 0, STOP), (141, 1, STOP)], 10), (8, 80.0));
        // Where the tokens were is unknown.
        assert_eq!(gaps(&every_10(100, 4), &[(140, 0, STOP)], 9), (3, 30.0));
    }

    #[test]
    fn each_choice_has_its_own_span() {
        let outputs: Vec<(u64, u8)> = (0..4).flat_map(|step| [(100 + 10 * step, 0), (101 + 10 * step, 1)]).collect();
        assert_eq!(value(&outputs, &[], 8), (10.0, 10.0, 10.0, 131));
        let both = [(140, 0, STOP), (141, 1, STOP)];
        assert_eq!(value(&outputs, &both, 10), (10.0, 10.0, 10.0, 141));
        assert_eq!(value(&outputs, &both, 8), (10.0, 10.0, 10.0, 131));
        // One ends with an end of sequence, the other one at its limit.
        assert_eq!(value(&outputs, &[(131, 1, LENGTH), (140, 0, STOP)], 9), (10.0, 10.0, 10.0, 140));
        // The count of one choice.
        assert_eq!(value(&outputs, &[], 4), (10.0, 10.0, 10.0, 131));
        // A choice whose only token has no text.
        assert_eq!(value(&every_10(100, 4), &[(100, 1, STOP)], 5), (10.0, 10.0, 10.0, 130));
    }

    #[test]
    fn tokens_without_an_event_give_a_range() {
        // A parser swallowed two tokens before the first event, one after the last: 10 ns each.
        let (value_ns, low, high, last) = value(&every_10(120, 4), &[(160, 0, STOP)], 8);
        assert_eq!((value_ns, low, last), (30.0 / 7.0, 30.0 / 7.0, 150));
        assert!(low < 10.0 && (10.0..11.0).contains(&high), "{low} {high}");
        // Two tokens in each of four events; the end of sequence is not counted.
        let (value_ns, low, high, _) = value(&every_10(100, 4), &[(140, 0, STOP)], 8);
        assert_eq!((value_ns, low, high), (30.0 / 7.0, 30.0 / 7.0, 10.0));
        // All in one event: the request was sent at 0.
        assert_eq!(value(&every_10(100, 1), &[], 11), (0.0, 0.0, 10.0, 100));
        let counted_here = Events { outputs: &ticks(&[100, 110]), ..Events::default() };
        assert_eq!(tpot(counted_here, 1, false, None), None);
    }

    /// However the reads were: the finish event is in that of the output, or in the next one; all outputs are in one.
    #[test]
    fn outputs_of_one_time_have_a_range_from_the_request_on() {
        assert_eq!(value(&[(110, 0)], &[(110, 0, LENGTH)], 12), (0.0, 0.0, 10.0, 110));
        assert_eq!(value(&[(108, 0)], &[(110, 0, LENGTH)], 12), (0.0, 0.0, 10.0, 108));
        assert_eq!(value(&[(110, 0); 3], &[(110, 0, STOP)], 12), (0.0, 0.0, 10.0, 110));
        assert_eq!(value(&[(110, 0); 3], &[], 12), (0.0, 0.0, 10.0, 110));
        assert_eq!(value(&[(110, 0), (110, 1)], &[], 24), (0.0, 0.0, 10.0, 110));
    }

    #[test]
    fn a_role_changes_no_exact_value() {
        let exact = |last| (10.0, 10.0, 10.0, last);
        // As many tokens as events, or explained by the finish event: whether the role came at once, a step before, or with
        // the first output.
        for at in [1, 90, 100] {
            assert_eq!(value(&every_10(100, 4), &[(at, 0, ROLE)], 4), exact(130));
            assert_eq!(value(&every_10(100, 4), &[(at, 0, ROLE), (140, 0, STOP)], 5), exact(140));
            assert_eq!(value(&every_10(100, 4), &[(at, 0, ROLE), (140, 0, STOP)], 4), exact(130));
            assert_eq!(value(&every_10(100, 4), &[(at, 0, ROLE), (130, 0, LENGTH)], 4), exact(130));
        }
    }

    #[test]
    fn a_role_at_the_pace_of_the_events_is_the_first_token() {
        // The first two tokens have no text; the role came with the first one.
        let (ns, low, high, last) = value(&every_10(120, 4), &[(100, 0, ROLE)], 6);
        assert_eq!((ns, low, high, last), (10.0, 6.0, 10.0, 150));
        // And an end of sequence; one in the middle has no text either.
        let outputs = [(120, 0), (130, 0), (150, 0), (160, 0)];
        let (ns, low, high, last) = value(&outputs, &[(100, 0, ROLE), (170, 0, STOP)], 8);
        assert_eq!((ns, last), (10.0, 170));
        assert!(low < 10.0 && high >= 10.0, "{low} {high}");
        // Without an end of sequence that counts, the finish event is not the last token.
        let (ns, .., last) = value(&outputs, &[(100, 0, ROLE), (170, 0, STOP)], 7);
        assert_eq!((ns, last), (10.0, 160));
        // A tool call: a parser holds 13 tokens back.
        let (ns, .., last) = value(&every_10(230, 20), &[(100, 0, ROLE), (430, 0, STOP)], 34);
        assert_eq!((ns, last), (10.0, 430));
        // Two choices, one longer than the other.
        let both = [every_10(120, 4), (0..9).map(|step| (121 + 10 * step, 1)).collect()].concat();
        let silent = [(100, 0, ROLE), (100, 1, ROLE), (160, 0, STOP), (211, 1, STOP)];
        let (ns, .., last) = value(&both, &silent, 19);
        assert!((ns - 10.0).abs() < 0.1 && last == 211, "{ns} {last}");
    }

    #[test]
    fn a_finish_event_of_its_own_is_a_token_though_another_is_unexplained() {
        let (ns, low, _, last) = value(&every_10(100, 20), &[(300, 0, STOP)], 22);
        assert_eq!((ns, low, last), (200.0 / 21.0, 190.0 / 21.0, 300));
        // Events of two tokens each: it would explain one of twenty.
        let (ns, low, _, last) = value(&every_10(100, 20), &[(300, 0, STOP)], 40);
        assert_eq!((ns, low, last), (190.0 / 39.0, 190.0 / 39.0, 290));
    }

    #[test]
    fn a_role_that_does_not_fit_is_no_token() {
        // Sent at once, before the prefill; a token in the middle has no text.
        let outputs = [(120, 0), (130, 0), (150, 0), (160, 0)];
        assert_eq!(value(&outputs, &[(1, 0, ROLE)], 5).0, 10.0);
        assert_eq!(value(&outputs, &[(90, 0, ROLE)], 5).0, 10.0);
        // As many steps before the first output as the second tokens of ten events, but too soon to be a token.
        let (ns, low, ..) = value(&every_10(104, 10), &[(4, 0, ROLE)], 20);
        assert_eq!((ns, low), (90.0 / 19.0, 90.0 / 19.0));
        let (ns, low, ..) = value(&every_10(200, 10), &[(170, 0, ROLE)], 20);
        assert_eq!((ns, low), (90.0 / 19.0, 90.0 / 19.0));
        // One event has no pace.
        assert_eq!(value(&every_10(200, 1), &[(170, 0, ROLE)], 5).0, 0.0);
    }

    #[test]
    fn output_in_pieces_after_a_late_role_begins_with_the_role() {
        // A parser sends the whole call in two pieces: 22 tokens from 100 to 310.
        let outputs = ticks(&[250, 310]);
        let (silent, kinds) = (ticks(&[100, 310]), [0, ROLE, 0, STOP]);
        let events = Events { outputs: &outputs, silent: &silent, silent_kinds: &kinds, ..Events::default() };
        let ns = |head| {
            let events = Events { head: Some(Tick(head)), ..events };
            let found = tpot(events, 22, true, Some(Tick(0))).unwrap();
            assert!(found.low_ns == 60.0 / 21.0 && found.ns <= found.high_ns, "{found:?}");
            (found.ns, last_token(events, Some(22), Some(Tick(0))).unwrap().0)
        };
        assert_eq!(ns(2), (10.0, 310));
        // A role with the head may have been sent at once.
        assert_eq!(ns(98), (60.0 / 21.0, 310));
    }

    #[test]
    fn tokens_counted_from_the_text_leave_silent_events_out() {
        let (outputs, silent) = (ticks(&[100, 110, 120]), ticks(&[130]));
        let events = Events { outputs: &outputs, silent: &silent, silent_kinds: &[0, STOP], ..Events::default() };
        assert_eq!(tpot(events, 3, false, None).unwrap().ns, 10.0);
        assert_eq!(tpot(events, 4, true, None).unwrap().ns, 10.0);
        let more = tpot(events, 4, false, None).unwrap();
        assert_eq!((more.low_ns, more.high_ns), (20.0 / 3.0, 10.0));
    }
}
