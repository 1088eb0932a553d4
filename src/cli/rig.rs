//! `ringmark rig`: checks this machine and measures what its client can sustain.

use clap::Args;
use serde_json::json;

use super::calibration::{self, CalibrateArgs};
use super::call_output::screen_width;
use super::exit::{EarlyExit, status};
use super::terminal::print;
use crate::host::cgroup;
use crate::host::checks::{self, Check};
use crate::host::facts::Facts;
use crate::host::topology::Topology;
use crate::report::table::{Align, Table, cut, number, wrap};
use crate::roofline::{self, LoadFigures, RingSupport, Roofline};
use crate::spec::ClientSpec;
use crate::time::format_ns;

/// Flags of `ringmark rig`.
#[derive(Args, Debug)]
pub struct RigArgs {
    /// Only check the machine; skip the one-second measurement against the built-in server
    #[arg(long, conflicts_with = "calibrate")]
    pub no_roofline: bool,
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub calibrate: CalibrateArgs,
}

/// Maximum width of a value in the table, columns.
const VALUE_WIDTH: usize = 60;

/// Checks, measures and prints the result.
pub(crate) fn show(args: &RigArgs) -> Result<u8, EarlyExit> {
    if args.calibrate.calibrate {
        return calibration::run(&args.calibrate, args.json);
    }
    let facts = Facts::collect();
    let support = roofline::probe();
    let mut checks = checks::evaluate(&facts);
    checks.extend(ring_checks(&support));
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    checks.push(worker_cores(&cores, &Topology::read()));
    let roofline = if args.no_roofline { None } else { Some(roofline::measure(&cores)) };
    let roofline = roofline.transpose().map_err(|error| EarlyExit::error(&error))?;
    if args.json {
        let all = json!({ "facts": facts, "io_uring": support, "checks": checks, "roofline": roofline });
        print(&format!("{all:#}\n"))?;
    } else {
        print(&text(&checks, roofline.as_ref(), screen_width()))?;
    }
    Ok(status::DONE)
}

/// The cores that the workers of a run get.
fn worker_cores(allowed: &[usize], topology: &Topology) -> Check {
    let order = topology.order(allowed);
    let workers = ClientSpec::default_worker_cores(&order, cgroup::cpu_quota());
    let node = |core: &usize| topology.nodes.iter().position(|cores| cores.contains(core));
    let mut nodes: Vec<usize> = workers.iter().filter_map(node).collect();
    nodes.dedup();
    let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<String>>().join(",");
    let several = (nodes.len() > 1).then(|| {
        format!(
            "the workers are on NUMA nodes {}: for the lowest latencies, limit them to those of node {} with --cores {}",
            list(&nodes),
            nodes[0],
            list(&workers.iter().copied().filter(|core| node(core) == Some(nodes[0])).collect::<Vec<usize>>())
        )
    });
    Check::new("Cores of the workers", Some(list(&workers)), several)
}

fn ring_checks(support: &RingSupport) -> Vec<Check> {
    let check = |name, tried: &Result<(), String>, advice: &str| {
        let value = tried.as_ref().map_or_else(|error| error.clone(), |()| "available".to_string());
        Check::new(name, Some(value), tried.is_err().then(|| advice.to_string()))
    };
    let epoll = "epoll is used instead: timestamps have the same accuracy, the CPU time per event is higher";
    let gathers = if support.gathers { "yes" } else { "no" }.to_string();
    let newer = (!support.gathers).then(|| "use Linux 6.12 or later: fewer wake-ups and less CPU time".to_string());
    vec![
        check("Receive ring (multishot, buffer ring)", &support.receive, epoll),
        Check::new("Batched wake-ups", Some(gathers), newer),
    ]
}

fn text(checks: &[Check], roofline: Option<&Roofline>, width: usize) -> String {
    let row = |check: &Check| {
        let value = check.value.as_deref().unwrap_or("-");
        vec![check.name.to_string(), cut(value, VALUE_WIDTH), check.verdict.text().to_string()]
    };
    let table = Table {
        head: ["This machine", "Found", "Verdict"].map(str::to_string).to_vec(),
        aligns: vec![Align::Left; 3],
        rows: checks.iter().map(row).collect(),
        grid: false,
    };
    let mut out = table.render();
    let noted = checks.iter().filter_map(|check| Some((check.name, check.advice.as_ref()?)));
    for (name, advice) in noted {
        out.push_str(&wrap(&format!("{name}: "), advice, width));
    }
    if let Some(roofline) = roofline {
        out.push('\n');
        out.push_str(&roofline_text(roofline, width));
    }
    out
}

fn roofline_text(roofline: &Roofline, width: usize) -> String {
    let row = |name: &str, value: &dyn Fn(&LoadFigures) -> String| {
        vec![name.to_string(), value(&roofline.flat_out), value(&roofline.paced)]
    };
    let optional = |value: Option<String>| value.unwrap_or_else(|| "-".to_string());
    let pair = |p50: u64, p99: u64| format!("{} / {}", format_ns(p50), format_ns(p99));
    let timestamps =
        |m: &LoadFigures| optional(m.stamp_lag_p50_ns.zip(m.stamp_lag_p99_ns).map(|(p50, p99)| pair(p50, p99)));
    let rows = vec![
        row("Streams", &|m| m.streams.to_string()),
        row("Events/s", &|m| optional(m.events_per_s.map(|rate| number(rate.round())))),
        row("CPU per event", &|m| optional(m.cpu_per_event_ns.map(|ns| format_ns(ns as u64)))),
        row("Timestamp after the send p50 / p99", &timestamps),
        row("Receive lag p50 / p99", &|m| pair(m.receive_lag_p50_ns, m.receive_lag_p99_ns)),
        row("Events that share a read", &|m| optional(m.coalesced.map(|share| format!("{:.2} %", share * 100.0)))),
    ];
    let head = ["Client against the mock", "Flat out", "Paced"].map(str::to_string).to_vec();
    let mut out = Table { head, aligns: vec![Align::Left, Align::Right, Align::Right], rows, grid: false }.render();
    let server = match roofline.server_core {
        Some(core) => format!("server on core {core}"),
        None => "server on the same core: the figures include the server".to_string(),
    };
    out.push_str(&wrap("", &format!("Worker on core {}, {server}.", roofline.worker_core), width));
    for note in &roofline.notes {
        out.push_str(&wrap("Note: ", &note.en(), width));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_of_the_workers_are_listed() {
        let node = |first: usize| vec![first, first + 1, first + 4, first + 5];
        let siblings = (0..4).map(|core| vec![core, core + 4]).collect();
        let mut topology = Topology { siblings, nodes: vec![node(0), node(2)], network_node: None };
        let all: Vec<usize> = (0..8).collect();
        let check = worker_cores(&all, &topology);
        assert_eq!(check.value.as_deref(), Some("1,2,3"));
        assert!(check.advice.is_some_and(|advice| advice.contains("NUMA nodes 0,1") && advice.ends_with("--cores 1")));
        topology.nodes = Vec::new();
        assert_eq!(worker_cores(&all, &topology).advice, None);
    }

    #[test]
    fn advice_is_printed_below_the_table() {
        let checks = vec![
            Check::new("Cores", Some("2".to_string()), None),
            Check::new("Load", Some("9".to_string()), Some("stop it".to_string())),
            Check::new("Kernel", None, None),
        ];
        let text = text(&checks, Some(&Roofline::default()), 80);
        assert!(text.contains("| Cores        | 2     | ok      |"), "{text}");
        assert!(text.contains("| Kernel       | -     | unknown |"), "{text}");
        assert!(text.contains("Load: stop it\n") && text.contains("same core"), "{text}");
    }
}
