//! Memory of this process and of the machine, bytes.

use std::fs;

/// Resident memory of this process; `None` if it is unknown.
pub fn resident() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse::<u64>().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Memory that this process can still get without swapping, within the limit of its control group; `None` if it is
/// unknown.
pub fn available() -> Option<u64> {
    let free = available_in(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let left = limit.map(|limit| limit.saturating_sub(resident().unwrap_or(0)));
    Some(left.map_or(free, |left| left.min(free)))
}

fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        assert_eq!(available_in("MemTotal: 9 kB\nMemAvailable:    3000 kB\n"), Some(3_072_000));
        assert_eq!(available_in("MemTotal: 9 kB\n"), None);
        assert!(resident().is_some_and(|bytes| bytes > 100_000) && available().is_some());
    }
}
