//! What most samples of most runs lack: columns beside the rows of the samples, which are empty until one sample has a value.

use bytemuck::{Pod, Zeroable};

use super::samples::Sample;
use crate::files::long_list::LongList;
use crate::record::NetworkTimes;
use crate::time::Tick;

/// Stand for no value.
pub(super) const NONE: u32 = u32::MAX;
pub(super) const NONE_LONG: [u8; 6] = [u8::MAX; 6];
const NO_COUNT: u8 = u8::MAX;

/// The short form of a value. One that is too large becomes none, so that its sample is kept as it is.
pub(super) fn short(value: Option<u64>) -> u32 {
    value.map_or(NONE, |value| u32::try_from(value).unwrap_or(NONE))
}

/// The value of a short form.
pub(super) fn some(value: u32) -> Option<u32> {
    Some(value).filter(|&value| value != NONE)
}

/// A time of up to three days, nanoseconds. One that is too long becomes none.
pub(super) fn long(ns: Option<u64>) -> [u8; 6] {
    match ns.map(u64::to_le_bytes) {
        Some([a, b, c, d, e, f, 0, 0]) => [a, b, c, d, e, f],
        _ => NONE_LONG,
    }
}

/// The time in this form.
#[inline]
pub(super) fn long_ns(ns: [u8; 6]) -> Option<u64> {
    let [a, b, c, d, e, f] = ns;
    (ns != NONE_LONG).then(|| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
}

/// The values of a sample in the columns. Names are those of its fields; lengths of time are nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extras {
    /// If it is not the first token.
    pub first_answer: [u8; 6],
    /// TPOT if it is not the mean gap; not a number if there is none.
    pub tpot_bits: u64,
    /// If these are not the intervals of TPOT.
    pub gaps: u32,
    pub conversation: u32,
    pub turn: u16,
    pub cached_tokens: u32,
    pub connect: u32,
    pub body_wait: u32,
    pub network: Network,
}

/// The network's part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Network {
    /// After the first byte sent.
    sent_after: u32,
    acknowledged_after: u32,
    rtt_ns: u32,
    min_rtt_ns: u32,
    retransmitted: u8,
    out_of_order: u8,
    unused: [u8; 2],
}

impl Network {
    const NONE: Network = Network {
        sent_after: NONE,
        acknowledged_after: NONE,
        rtt_ns: NONE,
        min_rtt_ns: NONE,
        retransmitted: NO_COUNT,
        out_of_order: NO_COUNT,
        unused: [0; 2],
    };

    fn pack(times: &NetworkTimes, sent_at: u64) -> Network {
        let after = |at: Option<Tick>| short(at.map(|at| at.0.wrapping_sub(sent_at)));
        Network {
            sent_after: after(times.sent),
            acknowledged_after: after(times.acknowledged),
            rtt_ns: short(times.rtt_ns),
            min_rtt_ns: short(times.min_rtt_ns),
            retransmitted: times.retransmitted.map_or(NO_COUNT, |count| count as u8),
            out_of_order: times.out_of_order.map_or(NO_COUNT, |count| count as u8),
            ..Network::NONE
        }
    }

    /// The times of a request whose first byte was sent then.
    #[inline]
    pub(super) fn times(&self, sent_at: Tick) -> NetworkTimes {
        let after = |ns: u32| some(ns).map(|ns| Tick(sent_at.0.wrapping_add(u64::from(ns))));
        let count = |count: u8| Some(count).filter(|&count| count != NO_COUNT).map(u32::from);
        NetworkTimes {
            sent: after(self.sent_after),
            acknowledged: after(self.acknowledged_after),
            rtt_ns: some(self.rtt_ns).map(u64::from),
            min_rtt_ns: some(self.min_rtt_ns).map(u64::from),
            retransmitted: count(self.retransmitted),
            out_of_order: count(self.out_of_order),
        }
    }
}

impl Extras {
    /// Of a sample without any of them.
    pub(super) const NONE: Extras = Extras {
        first_answer: NONE_LONG,
        tpot_bits: f64::NAN.to_bits(),
        gaps: 0,
        conversation: NONE,
        turn: 0,
        cached_tokens: NONE,
        connect: NONE,
        body_wait: NONE,
        network: Network::NONE,
    };

    /// Those that do not depend on the rest of the sample.
    pub(super) fn pack(sample: &Sample) -> Extras {
        Extras {
            conversation: short(sample.conversation),
            turn: sample.turn as u16,
            cached_tokens: sample.cached_tokens.unwrap_or(NONE),
            connect: short(sample.connect),
            body_wait: short(sample.body_wait),
            network: Network::pack(&sample.network, sample.write_start.unwrap_or(sample.due)),
            ..Extras::NONE
        }
    }
}

/// A value for each row; without values, all of them are none.
#[derive(Debug)]
struct Column<T: Pod>(LongList<T>);

impl<T: Pod + PartialEq> Column<T> {
    fn push(&mut self, rows: usize, value: T, none: T) {
        if self.0.is_empty() && value == none {
            return;
        }
        // Those before.
        self.0.extend_to(rows, none);
        self.0.push(value);
    }

    #[inline]
    fn get(&self, nth: usize, none: T) -> T {
        self.0.get(nth).copied().unwrap_or(none)
    }

    fn reorder(&mut self, order: &[u32]) {
        if !self.0.is_empty() {
            self.0.reorder(order);
        }
    }
}

/// Makes the columns, one for each of these fields of [`Extras`].
macro_rules! columns {
    ($($field:ident: $kind:ty),* $(,)?) => {
        /// The columns of a list of samples.
        #[derive(Debug)]
        pub(super) struct Columns {
            $($field: Column<$kind>,)*
        }

        impl Default for Columns {
            fn default() -> Columns {
                Columns { $($field: Column(LongList::default()),)* }
            }
        }

        impl Columns {
            /// Columns that are in files from their second value on.
            #[cfg(test)]
            pub(super) fn in_files() -> Columns {
                Columns { $($field: Column(LongList::with_most_in_memory(0)),)* }
            }

            /// Adds a row after so many.
            pub(super) fn push(&mut self, rows: usize, extras: Extras) {
                $(self.$field.push(rows, extras.$field, Extras::NONE.$field);)*
            }

            #[inline]
            pub(super) fn get(&self, nth: usize) -> Extras {
                Extras { $($field: self.$field.get(nth, Extras::NONE.$field),)* }
            }

            /// The one at `order[i]` comes to `i`.
            pub(super) fn reorder(&mut self, order: &[u32]) {
                $(self.$field.reorder(order);)*
            }
        }
    };
}

columns! {
    first_answer: [u8; 6],
    tpot_bits: u64,
    gaps: u32,
    conversation: u32,
    turn: u16,
    cached_tokens: u32,
    connect: u32,
    body_wait: u32,
    network: Network,
}
