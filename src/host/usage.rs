//! CPU time and context switches of a thread.

#![expect(unsafe_code, reason = "no crate in use offers getrusage for a thread")]

/// Resource usage of a thread since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub user_ns: u64,
    pub system_ns: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// The calling thread's usage.
pub fn thread_usage() -> Usage {
    // SAFETY: all zeros is a valid rusage, and the call writes only to it.
    let raw = unsafe {
        let mut raw: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut raw);
        raw
    };
    Usage {
        user_ns: nanoseconds(raw.ru_utime),
        system_ns: nanoseconds(raw.ru_stime),
        voluntary_switches: raw.ru_nvcsw as u64,
        involuntary_switches: raw.ru_nivcsw as u64,
    }
}

fn nanoseconds(time: libc::timeval) -> u64 {
    time.tv_sec as u64 * crate::time::S + time.tv_usec as u64 * crate::time::US
}
