//! Names of folders: where the results of a call and of each of its runs go.

use std::path::{Path, PathBuf};

use super::Load;
use crate::workload::arrivals::Arrival;

/// Bytes of a folder's name that every file system takes, with room for a suffix.
const MAX_NAME_BYTES: usize = 200;

/// `outputs/<started>/<name>`, without the middle part when `started` is `None`.
pub fn root_folder(outputs: &Path, started: Option<&str>, name: &str) -> PathBuf {
    match started {
        Some(started) => outputs.join(started).join(name),
        None => outputs.join(name),
    }
}

/// `--name` as a folder's name.
pub fn name_of_run(name: &str) -> String {
    let safe: String =
        name.chars().map(|c| if "<>:\"|?*\\/".contains(c) || c.is_control() { '_' } else { c }).collect();
    let mut end = safe.len().min(MAX_NAME_BYTES);
    while !safe.is_char_boundary(end) {
        end -= 1;
    }
    match safe[..end].trim() {
        // Names with a meaning of their own, or none.
        "" | "." | ".." => "_".to_string(),
        name => name.to_string(),
    }
}

/// The last path part of a model's name as a folder's name.
pub fn name_of_model(model: &str) -> String {
    let last = model.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(model);
    name_of_run(last)
}

/// The folder of one run: `parallel_8_number_100`, `rate_20.0_number_100`, `burst_number_100`, or with `duration_30s`
/// at the end where only the duration ends the run.
pub fn name_of_load(load: &Load, number: Option<u64>, duration_s: Option<f64>) -> String {
    let what = match load {
        Load::Closed { parallel } | Load::Paced { parallel, .. } => format!("parallel_{parallel}"),
        Load::Open { schedule } if schedule.arrival == Arrival::Burst => "burst".to_string(),
        Load::Open { schedule } if matches!(schedule.arrival, Arrival::Trace(_)) => "trace".to_string(),
        // With a decimal point always, as `rate_20.0`: the form that scripts for evalscope's results look for.
        Load::Open { schedule } => format!("rate_{:?}", schedule.rate_per_s),
    };
    match (number, duration_s) {
        (Some(number), _) => format!("{what}_number_{number}"),
        (None, Some(seconds)) => format!("{what}_duration_{seconds}s"),
        (None, None) => what,
    }
}

/// What a load's folder has at its end when the load runs several times.
pub fn suffix_of_run(run: u32) -> String {
    format!("_run_{run}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::arrivals::Schedule;

    #[test]
    fn names_are_safe_for_folders() {
        assert_eq!(name_of_model("Qwen/Qwen2.5-0.5B-Instruct"), "Qwen2.5-0.5B-Instruct");
        assert_eq!(name_of_model("/models/llama/"), "llama");
        assert_eq!(name_of_run("a/b:c\0d"), "a_b_c_d");
        assert_eq!(name_of_run(".."), "_");
        assert_eq!(name_of_run("通义千问"), "通义千问");
        assert!(name_of_run(&"通".repeat(300)).len() <= MAX_NAME_BYTES);
    }

    #[test]
    fn folders_say_the_load() {
        let schedule = Schedule { rate_per_s: 20.0, arrival: Arrival::Poisson };
        assert_eq!(name_of_load(&Load::Open { schedule }, Some(7), None), "rate_20.0_number_7");
        assert_eq!(name_of_load(&Load::Closed { parallel: 4 }, None, Some(30.0)), "parallel_4_duration_30s");
        assert_eq!(name_of_load(&Load::Closed { parallel: 4 }, None, Some(0.5)), "parallel_4_duration_0.5s");
    }
}
