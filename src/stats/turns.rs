//! Conversations by turn: how latency grows with the history, and how much of the history the server had cached.

use std::collections::BTreeMap;

use super::quantile::Series;
use super::samples::{Sample, Samples, Selection};
use crate::record::facts::RunFacts;

/// The figures of a run of conversations.
#[derive(Clone, Debug, PartialEq)]
pub struct Turns {
    /// Planned conversations; `None` if only the duration limited the run.
    pub planned: Option<u64>,
    /// Conversations whose first turn was started.
    pub begun: u64,
    /// Conversations that ended with a failed turn.
    pub broken: u64,
    /// One row for each turn, the first turn first.
    pub rows: Vec<TurnRow>,
}

/// The requests of one turn. Figures are those of the succeeded ones; means are `None` if a count is unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnRow {
    /// From 1.
    pub turn: u32,
    pub requests: u64,
    pub ok: u64,
    pub ttft_s: Series,
    pub latency_s: Series,
    pub input_tokens: Option<f64>,
    pub output_tokens: Option<f64>,
    /// Input tokens that the server read from its cache: per request, and as a share of all input from 0 to 1.
    pub cached_tokens: Option<f64>,
    pub cached_share: Option<f64>,
    /// Input and output of the previous turn as a share of all input, from 0 to 1: the largest share that a cache can
    /// hold of the conversation itself.
    pub said_before_share: Option<f64>,
}

/// The turns of a run whose samples are sorted by due time; `None` for single requests.
pub(crate) fn compute(facts: &RunFacts, samples: &Samples) -> Option<Turns> {
    let by_turn = samples.group_by(|sample| sample.conversation.map(|_| sample.turn));
    let first = by_turn.values().next()?;
    let planned = facts.conversations.and_then(|conversations| conversations.planned);
    let (begun, broken) = (first.len() as u64, samples.iter().filter(|sample| sample.failed).count() as u64);
    let mut rows = Vec::with_capacity(by_turn.len());
    // Input and output tokens of the previous turn, by conversation.
    let mut before: BTreeMap<u64, Option<u64>> = BTreeMap::new();
    for (&turn, samples) in &by_turn {
        rows.push(row(turn, samples, &before));
        before.clear();
        for sample in samples.iter() {
            // Shards use the same conversation numbers, so the shard of the next turn is unknown.
            let of = before.entry(sample.conversation.unwrap_or_default());
            of.and_modify(|tokens| *tokens = None).or_insert_with(|| total_tokens(&sample));
        }
    }
    Some(Turns { planned, begun, broken, rows })
}

/// Input and output tokens.
fn total_tokens(sample: &Sample) -> Option<u64> {
    Some(u64::from(sample.input_tokens?) + u64::from(sample.output_tokens?))
}

fn row(turn: u32, samples: &Selection<'_>, before: &BTreeMap<u64, Option<u64>>) -> TurnRow {
    let ok = samples.clone().select(|sample| sample.ok);
    let seconds = |ns: Vec<u64>| Series::compute(&ns.into_iter().map(|ns| ns as f64 / 1e9).collect::<Vec<f64>>());
    let sum = |of: &dyn Fn(&Sample) -> Option<u64>| ok.iter().map(|sample| of(&sample)).sum::<Option<u64>>();
    let input = sum(&|sample| sample.input_tokens.map(u64::from));
    // A server that never reports cached tokens: unknown. A server that reports them sometimes: 0 where it does not.
    let counts_cached = ok.iter().any(|sample| sample.cached_tokens.is_some());
    let cached = sum(&|sample| Some(u64::from(sample.cached_tokens.unwrap_or(0)))).filter(|_| counts_cached);
    let said_before = sum(&|sample| match turn {
        0 => Some(0),
        _ => *before.get(&sample.conversation?)?,
    });
    let mean = |sum: Option<u64>| sum.filter(|_| !ok.is_empty()).map(|sum| sum as f64 / ok.len() as f64);
    let share = |part: Option<u64>| Some(part? as f64 / input.filter(|&input| input > 0)? as f64);
    TurnRow {
        turn: turn + 1,
        requests: samples.len() as u64,
        ok: ok.len() as u64,
        ttft_s: seconds(ok.iter().filter_map(|sample| sample.ttft).collect()),
        latency_s: seconds(ok.iter().map(|sample| sample.latency).collect()),
        input_tokens: mean(input),
        output_tokens: mean(sum(&|sample| sample.output_tokens.map(u64::from))),
        cached_tokens: mean(cached),
        cached_share: share(cached),
        said_before_share: share(said_before),
    }
}
