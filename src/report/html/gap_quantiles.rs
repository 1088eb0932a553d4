//! Exact quantiles of the gaps between output events: of all, and of those that ended in intervals of time. In memory that
//! does not depend on the number of gaps; see [`crate::stats::selection`].

use crate::record::Phase;
use crate::record::arrivals::Gap;
use crate::stats::gap_sets::GapPass;
use crate::stats::selection::{Key, Selection};

/// Bits of the coarse buckets of all gaps, and of those of a group.
const ALL_BITS: u32 = 12;
const GROUP_BITS: u32 = 7;

/// Positions, from 0 in ascending order.
#[derive(Clone, Debug, Default)]
pub struct WantedRanks {
    pub all: Vec<u64>,
    pub in_groups: Vec<Vec<u64>>,
}

/// The gaps while they are read.
#[derive(Clone, Debug)]
pub struct GapQuantiles {
    from: u64,
    step_ns: u64,
    /// The group of each interval of `step_ns` after `from`; the last one has no end.
    group_of: Vec<Option<usize>>,
    all: Selection,
    groups: Vec<Selection>,
}

impl GapQuantiles {
    pub fn new(from: u64, step_ns: u64, group_of: Vec<Option<usize>>, wanted: &WantedRanks) -> GapQuantiles {
        let groups = wanted.in_groups.iter().map(|_| Selection::values(GROUP_BITS)).collect();
        GapQuantiles { from, step_ns, group_of, all: Selection::values(ALL_BITS), groups }
    }

    /// Calls `read`, which adds all gaps, until the wanted positions are found.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn compute<E>(
        mut self,
        wanted: &WantedRanks,
        mut read: impl FnMut(&mut GapQuantiles) -> Result<(), E>,
    ) -> Result<GapQuantiles, E> {
        read(&mut self)?;
        self.all.want(wanted.all.iter().copied());
        for (group, wanted) in self.groups.iter_mut().zip(&wanted.in_groups) {
            group.want(wanted.iter().copied());
        }
        while self.all.is_pending() || self.groups.iter().any(Selection::is_pending) {
            read(&mut self)?;
            self.all.end_pass();
            self.groups.iter_mut().for_each(Selection::end_pass);
        }
        Ok(self)
    }

    /// The value at a position of all, seconds.
    pub fn value_s(&self, position: u64) -> Option<f64> {
        seconds_at(&self.all, position)
    }

    /// The value at a position of a group, seconds.
    pub fn in_group_s(&self, group: usize, position: u64) -> Option<f64> {
        seconds_at(self.groups.get(group)?, position)
    }

    /// The interval of a time, and the first time of it and of the next one.
    fn interval(&self, at: u64) -> (usize, u64, u64) {
        let last = self.group_of.len() - 1;
        let interval = ((at.saturating_sub(self.from) / self.step_ns) as usize).min(last);
        let begin = |interval: usize| self.from.saturating_add(self.step_ns.saturating_mul(interval as u64));
        let first = if interval == 0 { 0 } else { begin(interval) };
        (interval, first, if interval == last { u64::MAX } else { begin(interval + 1) })
    }
}

fn seconds_at(selection: &Selection, position: u64) -> Option<f64> {
    selection.found(position).map(|found| found.key.first as f64 / 1e9)
}

impl GapPass for GapQuantiles {
    fn reads(&self, phase: Phase) -> bool {
        phase == Phase::Measured
    }

    fn add(&mut self, _: Phase, _: u64, gaps: &[Gap]) {
        // Neighbouring gaps are mostly in one interval.
        let (mut interval, mut begin, mut end) = (0, 1, 0);
        for gap in gaps {
            if gap.at < begin || gap.at >= end {
                (interval, begin, end) = self.interval(gap.at);
            }
            let key = Key { first: gap.ns, second: 0 };
            self.all.add(key);
            if let Some(group) = self.group_of[interval].and_then(|group| self.groups.get_mut(group)) {
                group.add(key);
            }
        }
    }

    fn fork(&self) -> GapQuantiles {
        GapQuantiles {
            group_of: self.group_of.clone(),
            all: self.all.fork(),
            groups: self.groups.iter().map(Selection::fork).collect(),
            ..*self
        }
    }

    fn join(&mut self, part: &GapQuantiles) {
        self.all.join(&part.all);
        for (group, of_part) in self.groups.iter_mut().zip(&part.groups) {
            group.join(of_part);
        }
    }
}
