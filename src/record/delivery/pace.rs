//! Where the counted tokens of an answer most likely began and ended if their number does not decide it: by the pace of
//! its events.
//!
//! A server that sends the event with the role when the first token exists (vLLM) sends it before the first output if a
//! parser holds that token back, or if it has no text. Others send it at once, before the prefill (transformers). A finish
//! event without text may be the step of the last counted token, or not. So there are several spans that could be those of
//! all tokens. Each of them implies a number of steps: a gap of `x` steps of the usual length has `⌊x + 0.2⌋` of them, and a
//! gap between two outputs has at least as many as events at its end. The span whose number of steps is nearest to that of
//! the tokens is taken, if it differs by at most a fifth of the tokens without an event, or by at most half of them if it begins
//! with the first output; of two that are equally near, the shorter one. So nothing is taken if an event has several tokens (speculative decoding), as there are fewer steps than
//! tokens then, nor a role that was sent at once, as there are usually more.
//!
//! If nothing fits because the output came in pieces, whose gaps are not steps, the role and the finish event are taken if
//! the role was certainly not sent at once: if it came half a step or more after the response head, and a step or more before
//! the output, or all output came at one time.

use std::collections::BTreeMap;

use super::{Events, SilentKind, choice_of, kind_of};
use crate::time::Tick;

/// A gap that lacks at most this part of a step has this step. A step is rarely much shorter than usual, but often longer.
const SHORT: f64 = 0.2;
/// The largest difference between the steps of the span and the tokens, as a share of the tokens without an event.
const TOLERANCE: f64 = 0.2;
/// The same if the span begins with the first output: events after the last output are seldom anything but steps.
const FINISH_TOLERANCE: f64 = 0.5;
/// An event without output this part of a step after the last output is a step of its own: a finish event that is none comes
/// with the last output.
const FINISH: f64 = 0.5;
/// The first token takes a step. A role that arrives sooner after the request or the head, in steps, was not sent with it.
const AT_ONCE: f64 = 0.5;

/// What is taken as the first token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    Output,
    Role,
    /// The first event without output.
    Silent,
}

/// What is taken as the last token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Output,
    /// The first and the last event without output after the last output.
    FirstSilent,
    LastSilent,
}

type SpanEnds = (Begin, End);

/// In the order of the length of the span.
const BEGINS: [Begin; 3] = [Begin::Output, Begin::Role, Begin::Silent];
const ENDS: [End; 3] = [End::Output, End::FirstSilent, End::LastSilent];

/// The most plausible time per output token, the mean over the choices, and the arrival of the last counted token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plausible {
    pub ns: f64,
    pub last: Tick,
}

/// The events of one choice.
struct Course {
    /// The times from the first to the last output at which events arrived, and the number of these. Never empty.
    arrivals: Vec<(Tick, u32)>,
    /// The last announcement of the role before the first output, and the first other event without output.
    role: Option<Tick>,
    before: Option<Tick>,
    /// The first and the last event without output after the last output.
    after: Option<(Tick, Tick)>,
}

impl Course {
    fn first(&self) -> Tick {
        self.arrivals[0].0
    }

    fn last(&self) -> Tick {
        self.arrivals[self.arrivals.len() - 1].0
    }

    /// The gaps between arrivals, nanoseconds, and the number of events at the end of each.
    fn gaps(&self) -> impl Iterator<Item = (f64, u32)> + '_ {
        self.arrivals.windows(2).map(|pair| (pair[1].0.ns_since(pair[0].0) as f64, pair[1].1))
    }

    fn begin(&self, begin: Begin) -> Tick {
        let earlier = match begin {
            Begin::Output => None,
            Begin::Role => self.role,
            Begin::Silent => self.before,
        };
        earlier.unwrap_or(self.first())
    }

    fn end(&self, end: End) -> Tick {
        let later = match end {
            End::Output => None,
            End::FirstSilent => self.after.map(|after| after.0),
            End::LastSilent => self.after.map(|after| after.1),
        };
        later.unwrap_or(self.last())
    }

    fn ns(&self, (begin, end): SpanEnds) -> f64 {
        self.end(end).ns_since(self.begin(begin)) as f64
    }

    /// Events from the first to the last output.
    fn events(&self) -> f64 {
        self.arrivals.iter().map(|(_, events)| f64::from(*events)).sum()
    }

    /// The steps between the first and the last token.
    fn steps(&self, (begin, end): SpanEnds, pace_ns: f64) -> f64 {
        let of = |ns: f64| (ns / pace_ns + SHORT).floor();
        let inner: f64 = self.gaps().map(|(ns, events)| of(ns).max(f64::from(events))).sum();
        let front = of(self.first().ns_since(self.begin(begin)) as f64);
        let back_ns = self.end(end).ns_since(self.last()) as f64;
        let back = of(back_ns).max(if back_ns >= FINISH * pace_ns { 1.0 } else { 0.0 });
        front + f64::from(self.arrivals[0].1 - 1) + inner + back
    }
}

/// `None` if the events with output are as plausible as any others, or if nothing fits. `tokens`: the server's count, of
/// more tokens than there are events with output.
pub(super) fn plausible(events: Events<'_>, tokens: u32, sent: Option<Tick>) -> Option<Plausible> {
    if events.silent.is_empty() {
        return None;
    }
    let (courses, apart) = courses(events);
    let tokens = f64::from(tokens.saturating_sub(apart));
    let intervals = tokens - courses.len() as f64;
    let missing = tokens - courses.iter().map(Course::events).sum::<f64>();
    let pace_ns = pace_ns(&courses);
    let by_pace = pace_ns.and_then(|pace_ns| nearest(&courses, intervals, missing, (pace_ns, sent)));
    let (span, pace_ns) = match by_pace {
        Some(span) => (span, pace_ns?),
        None => pieces(&courses, intervals, events.head)?,
    };
    if span == (Begin::Output, End::Output) {
        return None;
    }
    let all = steps(&courses, span, pace_ns);
    let value = |course: &Course| {
        let own = intervals * course.steps(span, pace_ns) / all;
        (own >= 1.0).then_some(course.ns(span) / own)
    };
    let values: Vec<f64> = courses.iter().filter_map(value).collect();
    let last = courses.iter().map(|course| course.end(span.1)).max()?;
    (!values.is_empty()).then(|| Plausible { ns: values.iter().sum::<f64>() / values.len() as f64, last })
}

/// The span whose number of steps is nearest to `intervals`, if it is near enough.
fn nearest(courses: &[Course], intervals: f64, missing: f64, (pace_ns, sent): (f64, Option<Tick>)) -> Option<SpanEnds> {
    let is_at_once = |course: &Course| course.role.zip(sent).is_some_and(|(role, sent)| is_soon(role, sent, pace_ns));
    let has_role = !courses.iter().any(is_at_once);
    let mut nearest = (None, f64::INFINITY);
    for span in BEGINS.into_iter().flat_map(|begin| ENDS.map(|end| (begin, end))) {
        let difference = (steps(courses, span, pace_ns) - intervals).abs();
        if difference < nearest.1 && (has_role || span.0 != Begin::Role) {
            nearest = (Some(span), difference);
        }
    }
    let tolerance = |span: &SpanEnds| if span.0 == Begin::Output { FINISH_TOLERANCE } else { TOLERANCE };
    nearest.0.filter(|span| nearest.1 <= tolerance(span) * missing)
}

/// The span from the role to the finish event, with its time per token, if the output came in pieces after a role that was
/// not sent at once.
fn pieces(courses: &[Course], intervals: f64, head: Option<Tick>) -> Option<(SpanEnds, f64)> {
    let (span, head) = ((Begin::Role, End::FirstSilent), head?);
    let pace_ns = courses.iter().map(|course| course.ns(span)).sum::<f64>() / intervals;
    let is_late = |course: &Course| course.role.is_some_and(|role| !is_soon(role, head, pace_ns));
    let is_held_back = |course: &Course| {
        let front_ns = course.first().ns_since(course.begin(Begin::Role)) as f64;
        front_ns >= (1.0 - SHORT) * pace_ns || course.arrivals.len() == 1
    };
    let is_in_pieces = pace_ns > 0.0 && courses.iter().all(is_late) && courses.iter().any(is_held_back);
    is_in_pieces.then_some((span, pace_ns))
}

fn is_soon(at: Tick, after: Tick, pace_ns: f64) -> bool {
    (at.ns_since(after) as f64) < AT_ONCE * pace_ns
}

fn steps(courses: &[Course], span: SpanEnds, pace_ns: f64) -> f64 {
    courses.iter().map(|course| course.steps(span, pace_ns)).sum()
}

/// The events of each choice with output, and the number of those of other choices.
fn courses(events: Events<'_>) -> (Vec<Course>, u32) {
    let mut courses: BTreeMap<u8, Course> = BTreeMap::new();
    for (place, &at) in events.outputs.iter().enumerate() {
        let choice = events.choices.get(place).copied().unwrap_or(0);
        let course = courses.entry(choice).or_insert_with(|| Course {
            arrivals: Vec::new(),
            role: None,
            before: None,
            after: None,
        });
        course.arrivals.push((at, 1));
    }
    let mut apart = 0;
    for (place, &at) in events.silent.iter().enumerate() {
        let is_role = kind_of(events, place) == SilentKind::Role as u8;
        let Some(course) = courses.get_mut(&choice_of(events, place)) else {
            apart += u32::from(!is_role);
            continue;
        };
        if is_role {
            course.role = Some(at).filter(|at| *at <= course.first()).or(course.role);
        } else if at < course.first() {
            course.before.get_or_insert(at);
        } else if at >= course.last() {
            course.after = Some((course.after.map_or(at, |after| after.0), at));
        } else {
            let place = course.arrivals.partition_point(|(other, _)| *other <= at);
            course.arrivals.insert(place, (at, 1));
        }
    }
    for course in courses.values_mut() {
        course.arrivals.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            earlier.1 += if is_same { later.1 } else { 0 };
            is_same
        });
    }
    (courses.into_values().collect(), apart)
}

/// The usual length of a step: the median over all choices of the time from one event to the next, the one after the last
/// output included. Events of one read share the gap before it.
fn pace_ns(courses: &[Course]) -> Option<f64> {
    let inner = courses.iter().flat_map(Course::gaps).map(|(ns, events)| ns / f64::from(events));
    let after = courses.iter().map(|course| course.end(End::FirstSilent).ns_since(course.last()) as f64);
    let mut gaps: Vec<f64> = inner.chain(after.filter(|ns| *ns > 0.0)).collect();
    let place = gaps.len().checked_sub(1)? / 2;
    let (_, median, _) = gaps.select_nth_unstable_by(place, f64::total_cmp);
    Some(*median).filter(|ns| *ns > 0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::{SILENT_BYTES, tpot};
    use super::*;

    const STEP_NS: f64 = 10e6;
    /// Steps differ by this part in either direction.
    const JITTER: f64 = 0.04;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Role {
        None,
        AtOnce,
        WithFirst,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Last {
        /// The last token carries the finish reason, whether it has text or not.
        Length,
        /// A step of its own.
        CountedEos,
        UncountedEos,
    }

    #[derive(Debug)]
    struct Sent {
        outputs: Vec<Tick>,
        silent: Vec<Tick>,
        kinds: Vec<u8>,
        tokens: u32,
        truth_ns: f64,
        /// Most tokens are in a step after the one before, and no step has two of them.
        is_regular: bool,
        head: Tick,
    }

    /// An answer of a server that sends no event for hidden tokens, to a request that was sent at 0.
    fn answer(rng: &mut impl Rng, role: Role, last: Last, per_step: u32) -> Option<Sent> {
        let texts: u32 = rng.random_range(3..100);
        let (front, back) = (rng.random_range(0..4u32), rng.random_range(0..3u32));
        let hidden_share = [0.0, 0.05, 0.2][rng.random_range(0..3)];
        let mut at = STEP_NS * rng.random_range(1.0..30.0);
        let mut sent = Sent {
            outputs: Vec::new(),
            silent: Vec::new(),
            kinds: Vec::new(),
            tokens: 0,
            truth_ns: 0.0,
            is_regular: per_step == 1,
            head: Tick((rng.random_range(0.25..0.3) * STEP_NS) as u64),
        };
        let note = |sent: &mut Sent, at: f64, kind: SilentKind| {
            sent.silent.push(Tick(at as u64));
            sent.kinds.extend([0, kind as u8]);
        };
        match role {
            Role::None => {}
            Role::AtOnce => note(&mut sent, rng.random_range(0.3..0.35) * STEP_NS, SilentKind::Role),
            Role::WithFirst => note(&mut sent, at, SilentKind::Role),
        }
        let (first, mut last_token) = (at, at);
        let steps = front + texts + back;
        let mut single = 0;
        let mut hidden_before = 0;
        for step in 0..steps {
            if step > 0 {
                at += STEP_NS * rng.random_range(1.0 - JITTER..1.0 + JITTER);
            }
            last_token = at;
            let many = if per_step == 1 { 1 } else { rng.random_range(1..=per_step) };
            sent.tokens += many;
            let is_middle = step > front && step + back + 1 < steps;
            let hidden = step < front || step >= front + texts || (is_middle && rng.random_bool(hidden_share));
            if hidden {
                hidden_before += 1;
                if last == Last::Length && step + 1 == steps {
                    note(&mut sent, at, SilentKind::Length);
                }
            } else {
                single += usize::from(hidden_before == 0 && !sent.outputs.is_empty());
                hidden_before = 0;
                sent.outputs.push(Tick(at as u64));
            }
        }
        if last != Last::Length {
            at += STEP_NS * rng.random_range(1.0 - JITTER..1.0 + JITTER);
            note(&mut sent, at, SilentKind::Stop);
            if last == Last::CountedEos {
                last_token = at;
                sent.tokens += 1;
            }
        }
        sent.is_regular &= sent.outputs.len() >= 3 && 2 * single > sent.outputs.len();
        sent.truth_ns = (last_token - first) / f64::from(sent.tokens - 1);
        (sent.tokens as usize > sent.outputs.len()).then_some(sent)
    }

    fn value(sent: &Sent) -> super::super::Tpot {
        assert_eq!(sent.silent.len() * SILENT_BYTES, sent.kinds.len());
        let events = Events {
            outputs: &sent.outputs,
            choices: &[],
            silent: &sent.silent,
            silent_kinds: &sent.kinds,
            head: Some(sent.head),
        };
        tpot(events, sent.tokens, true, Some(Tick(0))).unwrap()
    }

    proptest! {
        /// The jitter is not part of the range.
        #[test]
        fn the_range_contains_the_value_and_the_truth(
            seed in any::<u64>(),
            role in prop_oneof![Just(Role::None), Just(Role::AtOnce), Just(Role::WithFirst)],
            last in prop_oneof![Just(Last::Length), Just(Last::CountedEos), Just(Last::UncountedEos)],
            per_step in prop_oneof![Just(1u32), 2u32..5],
        ) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let Some(sent) = answer(&mut rng, role, last, per_step) else { return Ok(()) };
            let found = value(&sent);
            prop_assert!(found.low_ns <= found.ns && found.ns <= found.high_ns, "{found:?}");
            if found.low_ns < found.high_ns {
                let truth = sent.truth_ns;
                prop_assert!(found.low_ns <= truth + 1.0, "{found:?} {sent:?}");
                prop_assert!(truth <= found.high_ns * (1.0 + 2.5 * JITTER), "{found:?} {sent:?}");
                // Nothing is worse than the lower end, which was shown before.
                let (by, of_low) = ((found.ns - truth).abs(), (found.low_ns - truth).abs());
                prop_assert!(by <= of_low + 0.005 * truth, "{found:?} {sent:?}");
            }
        }

        /// Servers such as vLLM: the role comes with the first token, and the last one has an event.
        #[test]
        fn tokens_without_events_at_the_ends_do_not_change_the_value(
            seed in any::<u64>(),
            last in prop_oneof![Just(Last::Length), Just(Last::CountedEos)],
        ) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let Some(sent) = answer(&mut rng, Role::WithFirst, last, 1).filter(|sent| sent.is_regular) else {
                return Ok(());
            };
            let found = value(&sent);
            prop_assert!((found.ns - sent.truth_ns).abs() <= 0.005 * sent.truth_ns, "{found:?} {sent:?}");
        }
    }
}
