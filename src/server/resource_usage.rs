//! Resource usage of a local server: CPU time, memory, and GPU memory of this machine.

use std::ffi::OsStr;

use nvml_wrapper::Nvml;

use super::exposition::write_labels;
use super::nvidia_smi::NvidiaSmi;
use super::process::Process;
use crate::record::ServerSample;
use crate::time::Tick;

/// CPU time of all processes of the server, user and system, seconds.
pub(crate) const CPU_SECONDS: &str = "ringmark:server_cpu_seconds_total";
/// Resident memory of all processes of the server, bytes. Shared pages are counted once per process.
pub(crate) const RSS_BYTES: &str = "ringmark:server_rss_bytes";
/// Memory in use of one GPU by all processes, bytes.
pub const GPU_BYTES: &str = "ringmark:gpu_memory_used_bytes";

/// The GPUs of this machine; none by default.
#[derive(Default)]
pub struct Gpus(Source);

/// How the memory of GPUs is read.
#[derive(Default)]
enum Source {
    /// No driver is installed.
    #[default]
    None,
    /// The driver's library.
    Library(Box<Nvml>),
    /// The driver's program, where its library cannot be loaded.
    Program(NvidiaSmi),
}

impl Gpus {
    /// Loads the driver's library, or starts its program, if they are installed.
    pub(crate) fn detect() -> Gpus {
        let program = || NvidiaSmi::start(OsStr::new("nvidia-smi")).map_or(Source::None, Source::Program);
        Gpus(Nvml::init().map_or_else(|_| program(), |nvml| Source::Library(Box::new(nvml))))
    }

    /// Index and memory in use, bytes, of every GPU that reports it.
    fn used_bytes(&self) -> Vec<(u32, u64)> {
        let nvml = match &self.0 {
            Source::None => return Vec::new(),
            Source::Program(smi) => return smi.used_bytes(),
            Source::Library(nvml) => nvml,
        };
        let count = nvml.device_count().unwrap_or(0);
        let used = |index| Some((index, nvml.device_by_index(index).ok()?.memory_info().ok()?.used));
        (0..count).filter_map(used).collect()
    }
}

/// The current usage as samples.
pub fn samples(at: Tick, family: &[Process], gpus: &Gpus) -> Vec<ServerSample> {
    let sample = |name: &str, labels: String, value: f64| ServerSample { at, name: name.to_string(), labels, value };
    let ticks: u64 = family.iter().map(|process| process.cpu_ticks).sum();
    let pages: u64 = family.iter().map(|process| process.rss_pages).sum();
    let cpu_s = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let rss = pages as f64 * rustix::param::page_size() as f64;
    let mut samples = vec![sample(CPU_SECONDS, String::new(), cpu_s), sample(RSS_BYTES, String::new(), rss)];
    for (index, bytes) in gpus.used_bytes() {
        let labels = write_labels(&[("gpu".to_string(), index.to_string())]);
        samples.push(sample(GPU_BYTES, labels, bytes as f64));
    }
    samples
}

/// Resource usage of a server during a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ResourceUsage {
    /// Average number of busy cores.
    pub cores: Option<f64>,
    pub peak_rss_bytes: Option<f64>,
    /// Sum over all GPUs; `None` without GPUs.
    pub peak_gpu_bytes: Option<f64>,
}

/// Computes the usage from the samples of a run; `None` if they have no CPU time.
pub(crate) fn compute(samples: &[ServerSample]) -> Option<ResourceUsage> {
    let of_name = |name: &'static str| samples.iter().filter(move |sample| sample.name == name);
    let first = of_name(CPU_SECONDS).next()?;
    let last = of_name(CPU_SECONDS).next_back()?;
    let elapsed_s = last.at.seconds_since(first.at);
    // The total decreases if a process has ended in between; then the average is unknown.
    let cores = (elapsed_s > 0.0 && last.value >= first.value).then(|| (last.value - first.value) / elapsed_s);
    let mut gpu: Vec<(Tick, f64)> = Vec::new();
    for sample in of_name(GPU_BYTES) {
        match gpu.last_mut() {
            Some((at, sum)) if *at == sample.at => *sum += sample.value,
            _ => gpu.push((sample.at, sample.value)),
        }
    }
    Some(ResourceUsage {
        cores,
        peak_rss_bytes: of_name(RSS_BYTES).map(|sample| sample.value).reduce(f64::max),
        peak_gpu_bytes: gpu.into_iter().map(|(_, sum)| sum).reduce(f64::max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: u64, name: &str, value: f64) -> ServerSample {
        ServerSample { at: Tick(at_s * 1_000_000_000), name: name.to_string(), labels: String::new(), value }
    }

    #[test]
    fn peaks_are_over_time_and_sums_over_gpus() {
        let samples = [
            sample(1, CPU_SECONDS, 10.0),
            sample(1, RSS_BYTES, 5.0),
            sample(1, GPU_BYTES, 1.0),
            sample(1, GPU_BYTES, 2.0),
            sample(3, CPU_SECONDS, 13.0),
            sample(3, RSS_BYTES, 4.0),
            sample(3, GPU_BYTES, 2.5),
        ];
        let expected = ResourceUsage { cores: Some(1.5), peak_rss_bytes: Some(5.0), peak_gpu_bytes: Some(3.0) };
        assert_eq!(compute(&samples), Some(expected));
        assert_eq!(compute(&[]), None);
    }

    #[test]
    fn own_process_uses_memory() {
        let me = super::super::process::family(std::process::id(), &[]);
        let seen = samples(Tick(7), &me, &Gpus::default());
        assert!(seen.iter().any(|sample| sample.name == RSS_BYTES && sample.value > 1e5), "{seen:?}");
    }
}
