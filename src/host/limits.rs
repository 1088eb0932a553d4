//! The limits of this process: open descriptors, which limit the number of connections, and memory.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open descriptors to the hard limit. Returns the resulting limit; `u64::MAX` if unlimited.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let resulting = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    resulting.unwrap_or(u64::MAX)
}

/// The memory that this process can use: that of the machine, or less if a control group limits it; bytes.
pub fn memory_bytes() -> u64 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    memory_limit(&read)
}

/// The same from the files that `read` returns. `u64::MAX` if none states any.
fn memory_limit(read: &dyn Fn(&Path) -> Option<String>) -> u64 {
    let total = read(Path::new("/proc/meminfo")).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.saturating_mul(1024))
    });
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // Every group up to the root has a limit. In a container the path may not exist, and the root is its own group.
        let groups = Path::new(group).ancestors();
        let folders = groups.map(|group| Path::new(root).join(group.strip_prefix("/").unwrap_or(group)));
        folders.filter_map(|folder| read(&folder.join(file))?.trim().parse::<u64>().ok()).collect()
    });
    limits.chain(total).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_all_groups_counts() {
        const MEMORY: (&str, &str) = ("/proc/meminfo", "MemTotal:       1000 kB\nMemFree: 5 kB\n");
        let limit = |files: &[(&str, &str)]| {
            memory_limit(&|path| {
                files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| text.to_string())
            })
        };
        assert_eq!(limit(&[MEMORY]), 1_024_000);
        assert_eq!(limit(&[]), u64::MAX);
        let group = ("/proc/self/cgroup", "0::/user/app\n");
        let max = |bytes| ("/sys/fs/cgroup/user/memory.max", bytes);
        assert_eq!(limit(&[MEMORY, group, max("4096\n")]), 4096);
        assert_eq!(limit(&[MEMORY, group, max("max\n")]), 1_024_000);
        assert_eq!(limit(&[MEMORY, group, ("/sys/fs/cgroup/memory.max", "8192")]), 8192);
        let old = ("/proc/self/cgroup", "5:cpu:/x\n4:memory:/x\n");
        assert_eq!(limit(&[MEMORY, old, ("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "16384")]), 16_384);
    }
}
