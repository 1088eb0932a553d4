//! CPU time of other processes, from proc_pid_stat(5), with its resolution of 10 ms.

/// CPU time of a running process, all threads, nanoseconds; `None` when it has ended.
pub fn process_cpu_ns(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // utime and stime, fields 14 and 15.
    Some(sum_of_fields(&text, [11, 12]))
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
