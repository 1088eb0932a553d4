//! How often prompts were sent. The finding is stored when a run begins and counts what is planned; a run that ended early
//! sent less.

use super::counts::Counts;
use super::turns::Turns;
use crate::finding::Finding;
use crate::record::facts::RunFacts;

/// Planned requests, or conversations, that were not started, those of all shards. `warmed_up` requests of the warm-up were
/// sent.
pub(crate) fn not_started(facts: &RunFacts, counts: &Counts, turns: Option<&Turns>, warmed_up: u64) -> u64 {
    let shards = facts.shard.as_ref().map_or(1, |shard| u64::from(shard.share.count()));
    let missing = match facts.conversations {
        Some(conversations) => {
            let begun = turns.map_or(0, |turns| turns.begun);
            conversations.planned.map_or(0, |planned| planned.saturating_sub(begun))
        }
        None => {
            // The first measured request is sent after the last one of the warm-up.
            let warmup = if counts.sent() == 0 { facts.warmup_requests.saturating_sub(warmed_up) } else { 0 };
            counts.scheduled.saturating_sub(counts.sent()) + warmup
        }
    };
    missing.saturating_mul(shards)
}

/// The stored findings of a run, `missing` of whose requests were not started.
pub(crate) fn of_started(findings: &[Finding], missing: u64) -> Vec<Finding> {
    let started = |finding: &Finding| match finding {
        Finding::PromptsRepeat { prompts, requests, .. } if missing > 0 => {
            let (prompts, requests) = (*prompts, requests.saturating_sub(missing));
            let repeats = requests > prompts;
            repeats.then(|| Finding::PromptsRepeat { prompts, requests, most: requests.div_ceil(prompts.max(1)) })
        }
        other => Some(other.clone()),
    };
    findings.iter().filter_map(started).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::facts::{ConversationFacts, ShardFacts};
    use crate::record::share::Share;

    fn counts(scheduled: u64, unsent: u64) -> Counts {
        Counts { scheduled, ok: scheduled - unsent, unsent, ..Counts::default() }
    }

    #[test]
    fn prompts_that_were_not_sent_are_not_repeated() {
        let planned = [Finding::SamePrompt, Finding::PromptsRepeat { prompts: 100, requests: 1000, most: 10 }];
        let after = |missing| of_started(&planned, missing).pop();
        assert_eq!(of_started(&planned, 0), planned);
        assert_eq!(after(650), Some(Finding::PromptsRepeat { prompts: 100, requests: 350, most: 4 }));
        assert_eq!([after(900), after(5000)], [Some(Finding::SamePrompt), Some(Finding::SamePrompt)]);
    }

    #[test]
    fn what_was_not_started_is_counted_in_the_unit_of_the_plan() {
        let facts = RunFacts { warmup_requests: 10, ..RunFacts::default() };
        assert_eq!(not_started(&facts, &counts(100, 0), None, 10), 0);
        assert_eq!(not_started(&facts, &counts(100, 60), None, 0), 60, "a warm-up that was not stored");
        assert_eq!(not_started(&facts, &counts(100, 100), None, 4), 106);
        let share = Share::new(1, 4).unwrap();
        let shard = Some(ShardFacts { share, ..ShardFacts::default() });
        assert_eq!(not_started(&RunFacts { shard, ..facts.clone() }, &counts(25, 5), None, 0), 20);
        let conversations = Some(ConversationFacts { planned: Some(20), thinks: false });
        let turns = Turns { planned: Some(20), begun: 20, broken: 3, rows: Vec::new() };
        let facts = RunFacts { conversations, ..facts };
        assert_eq!(not_started(&facts, &counts(60, 6), Some(&turns), 0), 0, "turns after a failed one");
        assert_eq!(not_started(&facts, &counts(60, 60), None, 0), 20);
    }
}
