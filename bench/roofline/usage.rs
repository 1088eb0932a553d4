//! CPU time of other processes, from proc_pid_schedstat(5) and proc_pid_stat(5), which has a resolution of 10 ms.

/// CPU time of all threads of a running process, nanoseconds; `None` when it has ended. Threads that have ended do not
/// count.
pub fn process_cpu_ns(pid: u32) -> Option<u64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of_thread = |folder: std::path::PathBuf| {
        let text = std::fs::read_to_string(folder.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let times: Vec<u64> = threads.filter_map(|thread| of_thread(thread.ok()?.path())).collect();
    (!times.is_empty()).then(|| times.iter().sum())
}

/// CPU time of all children of this process that have exited, nanoseconds.
pub fn children_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // cutime and cstime, fields 16 and 17.
    sum_of_fields(&text, [13, 14])
}

/// The sum of two fields, counted from the one after the process's name, as nanoseconds.
fn sum_of_fields(stat: &str, fields: [usize; 2]) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let words: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |place: usize| words.get(place).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    fields.map(ticks).iter().sum::<u64>() * 10_000_000
}
