//! Whether the wall clock of this machine is synchronized, according to the kernel and the program that sets it.

#![expect(unsafe_code, reason = "no crate in use offers adjtimex")]

use serde::Serialize;

/// The state of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClockState {
    /// NTP, PTP or another program keeps it synchronized.
    pub synchronized: bool,
    /// The bound of its error that this program has set, and which grows since then, microseconds.
    pub max_error_us: u64,
    /// The error that this program estimates, microseconds.
    pub estimated_error_us: u64,
    /// By how much the kernel corrects the rate of the clock, parts per million.
    pub frequency_ppm: i64,
}

/// Reads the state, which changes nothing; `None` if the system does not allow it.
pub(crate) fn read() -> Option<ClockState> {
    // SAFETY: `timex` holds integers, for which all zeros are valid; without a mode the call only reads.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    let microseconds = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
    (state >= 0).then(|| ClockState {
        synchronized: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        max_error_us: microseconds(timex.maxerror),
        estimated_error_us: microseconds(timex.esterror),
        // In units of 2⁻¹⁶ ppm.
        frequency_ppm: timex.freq >> 16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_this_machine_is_plausible() {
        // Containers may refuse it.
        let Some(state) = read() else { return };
        assert!(state.frequency_ppm.abs() <= 500, "{state:?}");
    }
}
