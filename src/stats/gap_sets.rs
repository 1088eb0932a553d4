//! The gaps between output events of a run, as far as its figures need them, read in several passes over its requests.
//!
//! A set that is a part of the run, such as its steady part, is a list of requests; the gaps of several runs that are
//! read as one are added one after the other. So no index of the gaps has to be stored.

use std::sync::Arc;

use super::gap_set::{GapFigures, GapSet, GapsWanted};
use super::samples::Sample;
use crate::record::Phase;
use crate::record::arrivals::Gap;

/// What reads all gaps several times. Parts of the requests can be read into forks at the same time.
pub trait GapPass: Send {
    /// Whether the requests of this phase are read in this pass.
    fn reads(&self, phase: Phase) -> bool;

    /// Adds the gaps of a succeeded request; `place` is its [`Sample::place`].
    fn add(&mut self, phase: Phase, place: u64, gaps: &[Gap]);

    /// A copy that reads another part of the requests in this pass.
    fn fork(&self) -> Self
    where
        Self: Sized;

    /// Adds what a fork has read.
    fn join(&mut self, part: &Self);
}

/// Succeeded requests of a phase.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// One bit for each [`Sample::place`].
    bits: Vec<u64>,
}

impl Members {
    /// The requests of these samples.
    pub fn from_samples(samples: impl Iterator<Item = Sample>) -> Members {
        let mut bits = Vec::new();
        for sample in samples {
            let word = (sample.place / 64) as usize;
            if bits.len() <= word {
                bits.resize(word + 1, 0);
            }
            bits[word] |= 1u64 << (sample.place % 64);
        }
        Members { bits }
    }

    fn has(&self, place: u64) -> bool {
        self.bits.get((place / 64) as usize).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }
}

/// The figures of all sets; `None` for a set that was not asked for.
#[derive(Clone, Debug, Default)]
pub struct AllGapFigures {
    pub measured: GapFigures,
    pub steady: Option<GapFigures>,
    pub with_others: Option<GapFigures>,
    pub witness: Option<GapFigures>,
}

/// The sets of gaps of a run.
#[derive(Clone, Debug)]
pub struct GapSets {
    measured: GapSet,
    steady: Option<Part>,
    with_others: Option<Box<GapSet>>,
    witness: Option<Part>,
}

/// A set of some of the requests of a phase.
#[derive(Clone, Debug)]
struct Part {
    members: Arc<Members>,
    set: Box<GapSet>,
}

impl Part {
    fn new(members: Members, span: (u64, u64)) -> Part {
        Part { members: members.into(), set: Box::new(GapSet::new(GapsWanted { span, ..GapsWanted::default() })) }
    }

    fn add(&mut self, place: u64, gaps: &[Gap]) {
        if self.members.has(place) {
            self.set.add(gaps);
        }
    }

    fn fork(&self) -> Part {
        Part { members: self.members.clone(), set: Box::new(self.set.fork()) }
    }
}

impl GapSets {
    /// The gaps of all measured requests.
    pub fn new(wanted: GapsWanted) -> GapSets {
        GapSets { measured: GapSet::new(wanted), steady: None, with_others: None, witness: None }
    }

    /// Those of some measured requests, too.
    #[must_use]
    pub fn with_steady(self, members: Option<Members>, span: (u64, u64)) -> GapSets {
        GapSets { steady: members.map(|members| Part::new(members, span)), ..self }
    }

    /// Those of the measured requests, of the warm-up and of the witness, too.
    #[must_use]
    pub fn with_others(self, span: Option<(u64, u64)>) -> GapSets {
        let set = |span| Box::new(GapSet::new(GapsWanted { span, ..GapsWanted::default() }));
        GapSets { with_others: span.map(set), ..self }
    }

    /// Those of some requests of the witness, too.
    #[must_use]
    pub fn with_witness(self, members: Option<Members>, span: (u64, u64)) -> GapSets {
        GapSets { witness: members.map(|members| Part::new(members, span)), ..self }
    }

    /// Calls `read`, which adds all gaps of the run, until every figure is known.
    ///
    /// # Errors
    /// That of `read`.
    pub fn compute<E>(mut self, mut read: impl FnMut(&mut GapSets) -> Result<(), E>) -> Result<AllGapFigures, E> {
        while self.sets().iter().any(|set| !set.is_done()) {
            read(&mut self)?;
            self.sets_mut().into_iter().for_each(GapSet::end_pass);
        }
        let part = |part: Option<Part>| part.map(|part| part.set.figures());
        Ok(AllGapFigures {
            measured: self.measured.figures(),
            steady: part(self.steady),
            with_others: self.with_others.map(|set| set.figures()),
            witness: part(self.witness),
        })
    }

    fn sets(&self) -> Vec<&GapSet> {
        let parts = [&self.steady, &self.witness].into_iter().flatten().map(|part| &*part.set);
        [&self.measured].into_iter().chain(parts).chain(self.with_others.as_deref()).collect()
    }

    fn sets_mut(&mut self) -> Vec<&mut GapSet> {
        let parts = [&mut self.steady, &mut self.witness].into_iter().flatten().map(|part| &mut *part.set);
        [&mut self.measured].into_iter().chain(parts).chain(self.with_others.as_deref_mut()).collect()
    }
}

impl GapPass for GapSets {
    fn reads(&self, phase: Phase) -> bool {
        let is_open = |part: &Option<Part>| part.as_ref().is_some_and(|part| !part.set.is_done());
        let others_are_open = self.with_others.as_ref().is_some_and(|set| !set.is_done());
        match phase {
            Phase::Measured => !self.measured.is_done() || is_open(&self.steady) || others_are_open,
            Phase::Warmup => others_are_open,
            Phase::Witness => is_open(&self.witness) || others_are_open,
            Phase::Preflight => false,
        }
    }

    fn add(&mut self, phase: Phase, place: u64, gaps: &[Gap]) {
        match phase {
            Phase::Measured => {
                self.measured.add(gaps);
                self.steady.iter_mut().for_each(|part| part.add(place, gaps));
                self.with_others.iter_mut().for_each(|set| set.add(gaps));
            }
            Phase::Warmup => self.with_others.iter_mut().for_each(|set| set.add(gaps)),
            Phase::Witness => {
                self.witness.iter_mut().for_each(|part| part.add(place, gaps));
                self.with_others.iter_mut().for_each(|set| set.add(gaps));
            }
            Phase::Preflight => {}
        }
    }

    fn fork(&self) -> GapSets {
        GapSets {
            measured: self.measured.fork(),
            steady: self.steady.as_ref().map(Part::fork),
            with_others: self.with_others.as_ref().map(|set| Box::new(set.fork())),
            witness: self.witness.as_ref().map(Part::fork),
        }
    }

    fn join(&mut self, part: &GapSets) {
        for (set, of_part) in self.sets_mut().into_iter().zip(part.sets()) {
            set.join(of_part);
        }
    }
}
