//! The limit on open descriptors, which bounds how many connections one process can hold.

#![expect(unsafe_code, reason = "getrlimit and setrlimit")]

/// Raises the soft limit on open descriptors to the hard one and returns what it is then.
pub fn raise_open_files() -> u64 {
    // SAFETY: all zeros is a valid rlimit, and both calls only read and write it.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return 1024;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 { raised.rlim_cur } else { limit.rlim_cur }
    }
}
