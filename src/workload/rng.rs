//! Random numbers. Every purpose has a stream of its own, so that a new purpose does not change the draws of another,
//! and a draw at an index does not depend on earlier draws.
//!
//! The draws of a run depend on three numbers, see [`Randomness`]: request `i` is a function of these and `i`.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::record::Phase;

/// The purpose of a draw. Results are reproducible only if the numbers stay: never reuse or reorder one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Gaps between arrivals.
    Arrivals = 1,
    /// The output limit of one request.
    MaxTokens = 2,
    /// The length of a random prompt.
    PromptLength = 3,
    /// The tokens that random prompts share at their beginning.
    SharedPrefix = 4,
    /// The start of a random prompt's text in the vocabulary.
    RandomText = 5,
    /// Tokens that extend a random prompt to its length.
    Filling = 6,
    /// The order in which a data set is sampled.
    Sample = 7,
    /// The contents of images.
    Picture = 8,
    /// The order of the vocabulary in the text that random prompts are cut from.
    VocabularyOrder = 9,
    /// The number of turns of a conversation.
    Turns = 20,
    /// The pause before a turn.
    ThinkTime = 21,
    /// The seed that a request is sampled with.
    RequestSeed = 22,
}

/// The data seed if neither `--data-seed` nor `--seed` is given. Its schedules are unremarkable: the rate of the first
/// 30, 100, 300, 1,000 and 5,000 Poisson arrivals is near the requested one, and their gaps pass for exponential ones
/// (tested in `arrivals.rs`).
pub const DEFAULT_DATA_SEED: u64 = 4_511_874;

/// The numbers that determine the random choices of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Randomness {
    /// `--data-seed`: determines lengths, choices and schedules.
    pub data_seed: u64,
    /// `--salt`: changes synthetic text and images, but no length, choice or schedule.
    pub salt: u64,
    /// The number of the run within its call, from 1. Every run has its own draws.
    pub run: u32,
}

impl Randomness {
    /// Seeds the lengths, choices and the schedule of the run.
    pub(crate) fn run_seed(self) -> u64 {
        mix(mix(self.data_seed) ^ u64::from(self.run))
    }

    /// Seeds the contents of synthetic text and images in the run.
    pub(crate) fn text_seed(self) -> u64 {
        mix(self.run_seed() ^ mix(!self.salt))
    }

    /// Seeds what the synthetic text of all runs of the call has in common.
    pub(crate) fn call_seed(self) -> u64 {
        mix(mix(self.data_seed) ^ mix(!self.salt))
    }
}

/// The seed for draws of one phase other than the measured one, so that its draws are independent of the others'.
pub(crate) fn phase_seed(seed: u64, phase: Phase) -> u64 {
    match phase {
        Phase::Measured => seed,
        Phase::Preflight => mix(seed ^ 1),
        Phase::Warmup => mix(seed ^ 2),
        Phase::Witness => mix(seed ^ 3),
    }
}

/// A generator for sequential draws.
pub fn stream(seed: u64, purpose: Purpose) -> ChaCha12Rng {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    rng.set_stream(purpose as u64);
    rng
}

/// A uniform integer of `low..=high` for request `index`, without state: the output function of SplitMix64
/// (Steele, Lea and Flood 2014) over seed, purpose and index, mapped to the range by multiplication.
pub(crate) fn uniform_at(seed: u64, purpose: Purpose, index: u64, low: u32, high: u32) -> u32 {
    debug_assert!(low <= high);
    let state = mix(seed ^ mix(purpose as u64)).wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let width = u64::from(high - low) + 1;
    low + ((u128::from(mix(state)) * u128::from(width)) >> 64) as u32
}

/// The output function of SplitMix64.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_cover_the_range_evenly_and_repeat() {
        let mut counts = [0u32; 5];
        for index in 0..50_000 {
            counts[(uniform_at(7, Purpose::MaxTokens, index, 10, 14) - 10) as usize] += 1;
        }
        // 10,000 expected each, standard deviation 89.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 450), "{counts:?}");
        assert_eq!(uniform_at(7, Purpose::MaxTokens, 3, 0, 99), uniform_at(7, Purpose::MaxTokens, 3, 0, 99));
        assert_eq!(uniform_at(1, Purpose::MaxTokens, 9, 5, 5), 5);
        assert!((0..1000).all(|index| uniform_at(1, Purpose::MaxTokens, index, 0, u32::MAX) < u32::MAX));
    }
}
