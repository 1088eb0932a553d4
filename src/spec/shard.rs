//! Flags of a shard: one of several processes that send a load together.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::values;
use crate::plan::shard::{RendezvousPlan, ShardAddress, ShardPlan};
use crate::plan::{Load, PlanError};
use crate::record::share::{MAX_SHARDS, Share};

const HEADING: &str = "Several machines";
const SHARD: &str = "--shard";
const RENDEZVOUS: &str = "--rendezvous";
const ADDRESS: &str = "--shard-address";
/// Default of `--rendezvous-timeout`, seconds.
const DEFAULT_TIMEOUT_S: f64 = 300.0;
/// The environment variable with the token that the shards of a job share.
pub(crate) const JOB_TOKEN: &str = "RINGMARK_JOB_TOKEN";
/// The shortest token that is accepted, bytes.
const MIN_TOKEN_BYTES: usize = 16;

/// Flags of a shard.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShardSpec {
    /// Send one share of the load, which the other flags state in total: I/K for shard I, from 0, of K, or auto to take
    /// both from Open MPI, PMI, Slurm or Kubernetes. 'ringmark merge' combines the results
    #[arg(long, value_name = "I/K", help_heading = HEADING)]
    pub shard: Option<String>,
    /// Where the shards agree on the start: pmi (srun --mpi=pmi2, mpiexec), dir:PATH (a shared directory), tcp:HOST:PORT
    /// (a port of shard 0; needs RINGMARK_JOB_TOKEN), or at:TIME (RFC 3339, no communication) [default: pmi, if PMI_FD is
    /// set]
    #[arg(long, value_name = "HOW", help_heading = HEADING)]
    pub rendezvous: Option<String>,
    /// Address of this shard on the network between the shards. Shard 0 listens there instead of at the address of tcp:, and
    /// there the others compare their clocks with it, which dir: and pmi do only with this flag. The others send from
    /// theirs
    #[arg(long, value_name = "HOST[:PORT]", help_heading = HEADING)]
    pub shard_address: Option<String>,
    /// Wait this long for the other shards at each meeting, seconds [default: 300]
    #[arg(long = "rendezvous-timeout", value_name = "S", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "rendezvous_timeout")]
    pub rendezvous_timeout_s: Option<f64>,
}

/// The environment variables that tell a process which shard it is. The caller reads them, so that planning has no side
/// effects.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ShardVariables(BTreeMap<&'static str, String>);

/// Without the values: one of them is a secret.
impl fmt::Debug for ShardVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where an index and a count may come from: their variables, in the order in which they are asked. A count has several
/// variables where a launcher sets only the index itself.
struct Source {
    name: &'static str,
    index: &'static str,
    counts: &'static [&'static str],
}

const SOURCES: [Source; 5] = [
    Source { name: "Open MPI", index: "OMPI_COMM_WORLD_RANK", counts: &["OMPI_COMM_WORLD_SIZE"] },
    Source {
        name: "PMIx",
        index: "PMIX_RANK",
        counts: &["OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "RINGMARK_SHARDS"],
    },
    Source { name: "PMI", index: "PMI_RANK", counts: &["PMI_SIZE"] },
    Source { name: "Slurm", index: "SLURM_PROCID", counts: &["SLURM_STEP_NUM_TASKS"] },
    Source { name: "Kubernetes", index: "JOB_COMPLETION_INDEX", counts: &["RINGMARK_SHARDS"] },
];

impl ShardVariables {
    /// Reads the variables; `variable` returns the value of one.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> ShardVariables {
        let of_sources = SOURCES.iter().flat_map(|source| source.counts.iter().chain([&source.index])).copied();
        let names = of_sources.chain([JOB_TOKEN, "PMI_FD"]);
        let found = names.filter_map(|name| Some((name, variable(name)?)));
        ShardVariables(found.filter(|(_, value)| !value.trim().is_empty()).collect())
    }

    /// The job token, if there is one.
    pub(crate) fn token(&self) -> Option<&str> {
        self.get(JOB_TOKEN)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }

    /// The share that the engine which started this process gave it.
    fn detect(&self) -> Result<Share, PlanError> {
        let mut found: Option<(&Source, Share)> = None;
        for source in &SOURCES {
            let Some(share) = self.detect_from(source)? else { continue };
            match found {
                Some((first, earlier)) if earlier != share => {
                    return Err(PlanError::value(
                        SHARD,
                        format!(
                            "auto: {} ({}) makes this shard {earlier}, and {} ({}) shard {share}: give --shard I/K, with the \
                             variables of the engine that starts the shards",
                            first.name, first.index, source.name, source.index
                        ),
                    ));
                }
                Some(_) => {}
                None => found = Some((source, share)),
            }
        }
        found.map(|(_, share)| share).ok_or_else(|| {
            let names: Vec<&str> = SOURCES.iter().map(|source| source.index).collect();
            PlanError::value(
                SHARD,
                format!(
                    "auto: none of {} is set: start this with mpirun, srun or an Indexed Job, or give --shard I/K",
                    names.join(", ")
                ),
            )
        })
    }

    fn detect_from(&self, source: &Source) -> Result<Option<Share>, PlanError> {
        let wrong = |what: String| PlanError::value(SHARD, format!("auto: {what}"));
        let Some(index) = self.get(source.index) else { return Ok(None) };
        let Some(count) = source.counts.iter().find(|name| self.0.contains_key(*name)) else {
            let hint = match source.name {
                // A batch script has SLURM_PROCID as well.
                "Slurm" => "start the shards with srun, or give --shard I/K",
                "Kubernetes" => "set RINGMARK_SHARDS to the completions of the Job",
                _ => "give --shard I/K",
            };
            return Err(wrong(format!(
                "{} is {index}, but {} is not set: {hint}",
                source.index,
                source.counts.join(" or ")
            )));
        };
        let number = |name: &str| {
            let text = self.get(name).unwrap_or_default();
            text.parse::<u32>().map_err(|_| wrong(format!("{name} is '{text}', which is not a number")))
        };
        let (index, count_name) = (number(source.index)?, count);
        let count = number(count_name)?;
        let share = checked_share(index, count)
            .map_err(|what| wrong(format!("{} is {index} and {count_name} is {count}: {what}", source.index)))?;
        Ok(Some(share))
    }
}

impl ShardSpec {
    /// The plan of this shard; `None` without `--shard`.
    pub(crate) fn resolve(&self, variables: &ShardVariables) -> Result<Option<ShardPlan>, PlanError> {
        let Some(text) = &self.shard else {
            let flags = [
                (self.rendezvous.is_some(), RENDEZVOUS),
                (self.shard_address.is_some(), ADDRESS),
                (self.rendezvous_timeout_s.is_some(), "--rendezvous-timeout"),
            ];
            return match flags.into_iter().find(|(given, _)| *given) {
                Some((_, flag)) => Err(PlanError::conflict(format!(
                    "{flag} is for the shards of a load: add --shard I/K or --shard auto"
                ))),
                None => Ok(None),
            };
        };
        let share = match text.as_str() {
            "auto" => variables.detect()?,
            text => scan_share(text)?,
        };
        let rendezvous = match &self.rendezvous {
            Some(text) => scan_rendezvous(text)?,
            None if variables.get("PMI_FD").is_some() => RendezvousPlan::Pmi,
            None => {
                return Err(PlanError::conflict(
                    "--shard needs a rendezvous: add --rendezvous dir:PATH, tcp:HOST:PORT or at:TIME, or start the shards with \
                     srun --mpi=pmi2 or mpiexec, which offer pmi",
                ));
            }
        };
        check_rendezvous(&rendezvous, share, variables)?;
        let address = self.shard_address.as_deref().map(scan_address).transpose()?;
        if address.is_some() && matches!(rendezvous, RendezvousPlan::At { .. }) {
            return Err(PlanError::conflict(
                "--shard-address cannot be used with --rendezvous at:, with which shards exchange nothing",
            ));
        }
        let timeout_s = self.rendezvous_timeout_s.unwrap_or(DEFAULT_TIMEOUT_S);
        if timeout_s <= 0.0 {
            return Err(PlanError::value("--rendezvous-timeout", "must be above 0"));
        }
        Ok(Some(ShardPlan { share, rendezvous, address, timeout: Duration::from_secs_f64(timeout_s) }))
    }
}

fn checked_share(index: u32, count: u32) -> Result<Share, String> {
    match Share::new(index, count) {
        _ if count > MAX_SHARDS => Err(format!("there can be at most {MAX_SHARDS} shards")),
        Some(share) => Ok(share),
        None => Err(format!("shards are numbered from 0 to {}", i64::from(count) - 1)),
    }
}

fn scan_share(text: &str) -> Result<Share, PlanError> {
    let wrong = |what: &str| PlanError::value(SHARD, format!("'{text}' {what}"));
    let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
    let (index, count) = numbers.ok_or_else(|| wrong("is not I/K such as 0/4, nor auto"))?;
    match count {
        0 => Err(wrong("has no shards: K is their number")),
        _ => checked_share(index, count).map_err(|what| wrong(&format!("is no shard: {what}"))),
    }
}

fn scan_rendezvous(text: &str) -> Result<RendezvousPlan, PlanError> {
    let wrong = |what: &str| PlanError::value(RENDEZVOUS, format!("'{text}' {what}"));
    match text.split_once(':') {
        None if text == "pmi" => Ok(RendezvousPlan::Pmi),
        Some(("dir", path)) if !path.is_empty() => Ok(RendezvousPlan::Directory(PathBuf::from(path))),
        Some(("tcp", address)) => {
            let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
            match parts.filter(|(host, port)| !host.is_empty() && *port > 0) {
                Some((host, port)) => {
                    let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
                    Ok(RendezvousPlan::Tcp { host, port })
                }
                None => Err(wrong("is not tcp:HOST:PORT, with the host and a free port of shard 0")),
            }
        }
        Some(("at", time)) => {
            let time: Timestamp = time
                .parse()
                .map_err(|_| wrong("has no time such as at:2026-01-31T12:00:00Z (RFC 3339, with its time zone)"))?;
            let unix_ns = i64::try_from(time.as_nanosecond()).map_err(|_| wrong("is too far away"))?;
            Ok(RendezvousPlan::At { unix_ns })
        }
        _ => Err(wrong("is none of pmi, dir:PATH, tcp:HOST:PORT and at:TIME")),
    }
}

/// `HOST`, `HOST:PORT`, `[HOST]:PORT`, or an IPv6 address alone.
fn scan_address(text: &str) -> Result<ShardAddress, PlanError> {
    let wrong = || PlanError::value(ADDRESS, format!("'{text}' is no HOST or HOST:PORT, such as 10.0.0.7:7070"));
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(ShardAddress { host: text.to_string(), port: None });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?)),
        None => (text, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_address = !host.is_empty() && (!host.contains(':') || host.parse::<Ipv6Addr>().is_ok());
    if is_address { Ok(ShardAddress { host: host.to_string(), port }) } else { Err(wrong()) }
}

/// What the rendezvous needs from the environment.
fn check_rendezvous(rendezvous: &RendezvousPlan, share: Share, variables: &ShardVariables) -> Result<(), PlanError> {
    match rendezvous {
        RendezvousPlan::Tcp { .. } => match variables.token() {
            Some(token) if token.len() >= MIN_TOKEN_BYTES => Ok(()),
            Some(_) => Err(PlanError::conflict(format!(
                "{JOB_TOKEN} is shorter than {MIN_TOKEN_BYTES} characters: use a longer one"
            ))),
            None => Err(PlanError::conflict(format!(
                "--rendezvous tcp: needs a token in {JOB_TOKEN}, the same for all shards, by which they recognize each other: \
                 for example the output of 'openssl rand -hex 16'"
            ))),
        },
        RendezvousPlan::Pmi => {
            let of = |name| variables.get(name).and_then(|text| text.parse::<u32>().ok());
            if of("PMI_FD").is_none() {
                return Err(PlanError::conflict(
                    "--rendezvous pmi needs PMI_FD, which srun --mpi=pmi2 and MPICH's mpiexec set: start the shards with these, or \
                     use dir:PATH or tcp:HOST:PORT",
                ));
            }
            match of("PMI_RANK").zip(of("PMI_SIZE")) {
                Some(place) if place != (share.index(), share.count()) => Err(PlanError::conflict(format!(
                    "--shard is {share}, but this is process {} of {} of --rendezvous pmi: use --shard auto",
                    place.0, place.1
                ))),
                Some(_) => Ok(()),
                None => Err(PlanError::conflict("--rendezvous pmi needs PMI_RANK and PMI_SIZE beside PMI_FD")),
            }
        }
        RendezvousPlan::Directory(_) | RendezvousPlan::At { .. } => Ok(()),
    }
}

/// What shards cannot do yet, as flags that are given.
pub(super) struct NotForShards {
    pub local_server: bool,
    pub mock: bool,
    pub visualizer: bool,
    pub search: bool,
}

/// Checks the flags of a shard against those of the load.
pub(super) fn check(
    plan: &ShardPlan,
    unable: &NotForShards,
    loads: &[Load],
    numbers: &[Option<u64>],
    runs: usize,
    (has_data_seed, lacks_salt): (bool, bool),
) -> Result<(), PlanError> {
    let refused = [
        (
            unable.local_server,
            "--shard cannot be used with --api local...: start the server first, and give its --url to all shards",
        ),
        (
            unable.mock,
            "--shard cannot be used with --url mock:, which would start a server in each shard: start 'ringmark mock' once",
        ),
        (unable.visualizer, "--shard cannot be used with a visualizer: send the figures of the merged run instead"),
        (
            unable.search,
            "--shard cannot be used with --sla-auto-tune: measure given loads with several --parallel or --rate",
        ),
    ];
    if let Some((_, line)) = refused.into_iter().find(|(given, _)| *given) {
        return Err(PlanError::conflict(line));
    }
    let count = plan.share.count();
    if let Some(parallel) = loads.iter().filter_map(Load::parallel).find(|parallel| *parallel < count) {
        return Err(PlanError::conflict(format!(
            "--shard: {count} shards cannot share --parallel {parallel}: use at most {parallel} shards"
        )));
    }
    if let Some(number) = numbers.iter().flatten().find(|number| **number < u64::from(count)) {
        return Err(PlanError::conflict(format!(
            "--shard: {count} shards cannot share --number {number}: use at most {number} shards"
        )));
    }
    if let RendezvousPlan::At { .. } = plan.rendezvous {
        if runs > 1 {
            return Err(PlanError::conflict(
                "--rendezvous at: has one start, and this call several runs: give one load, or use another rendezvous",
            ));
        }
        let missing = [(!has_data_seed, "--data-seed"), (lacks_salt, "--salt")];
        if let Some((_, flag)) = missing.into_iter().find(|(missing, _)| *missing) {
            return Err(PlanError::conflict(format!("--rendezvous at: needs {flag}, the same for all shards")));
        }
    }
    Ok(())
}

/// The end of the name of the results folder of a shard. The number of digits is that of the last one, so that the
/// folders sort.
pub(crate) fn folder_suffix(share: Share) -> String {
    let digits = (share.count() - 1).to_string().len();
    format!("_shard_{:0digits$}_of_{}", share.index(), share.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(given: &[(&str, &str)]) -> ShardVariables {
        ShardVariables::read(&|name| given.iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_string()))
    }

    fn detect(given: &[(&str, &str)]) -> Result<String, String> {
        variables(given).detect().map(|share| share.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_engine_is_detected() {
        for (given, share) in [
            (&[("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "4"), ("PMIX_RANK", "1")][..], "1/4"),
            (&[("PMIX_RANK", "2"), ("SLURM_STEP_NUM_TASKS", "3"), ("SLURM_PROCID", "2")], "2/3"),
            (&[("PMIX_RANK", "2"), ("RINGMARK_SHARDS", "3")], "2/3"),
            (&[("PMI_RANK", "0"), ("PMI_SIZE", "2")], "0/2"),
            (&[("SLURM_PROCID", "5"), ("SLURM_STEP_NUM_TASKS", "6"), ("PMI_RANK", "5"), ("PMI_SIZE", "6")], "5/6"),
            (&[("JOB_COMPLETION_INDEX", " 7 "), ("RINGMARK_SHARDS", "8")], "7/8"),
        ] {
            assert_eq!(detect(given).as_deref(), Ok(share), "{given:?}");
        }
    }

    #[test]
    fn doubtful_environments_are_errors() {
        for (given, words) in [
            (&[][..], &["none of OMPI_COMM_WORLD_RANK", "--shard I/K"][..]),
            (&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")], &["SLURM_STEP_NUM_TASKS is not set", "srun"]),
            (&[("JOB_COMPLETION_INDEX", "0")], &["RINGMARK_SHARDS is not set", "completions"]),
            (&[("OMPI_COMM_WORLD_RANK", "0")], &["OMPI_COMM_WORLD_SIZE is not set"]),
            (&[("PMIX_RANK", "0")], &["PMIX_RANK is 0", "is not set"]),
            (&[("PMI_RANK", "0")], &["PMI_SIZE is not set"]),
            (&[("PMI_RANK", "2"), ("PMI_SIZE", "2")], &["numbered from 0 to 1"]),
            (&[("PMI_RANK", "x"), ("PMI_SIZE", "2")], &["PMI_RANK is 'x'"]),
            (&[("PMI_RANK", "0"), ("PMI_SIZE", "0")], &["numbered"]),
            (
                &[("PMI_RANK", "0"), ("PMI_SIZE", "2"), ("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "4")],
                &["PMI (PMI_RANK) makes this shard 0/2", "Slurm (SLURM_PROCID) shard 0/4"],
            ),
            (
                &[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2"), ("PMIX_RANK", "1")],
                &["Open MPI", "PMIx", "--shard I/K"],
            ),
        ] {
            let error = detect(given).unwrap_err();
            assert!(error.starts_with("--shard auto: ") && words.iter().all(|word| error.contains(word)), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    fn resolve(
        shard: Option<&str>,
        rendezvous: Option<&str>,
        given: &[(&str, &str)],
    ) -> Result<Option<ShardPlan>, String> {
        let text = |value: Option<&str>| value.map(str::to_string);
        let spec = ShardSpec { shard: text(shard), rendezvous: text(rendezvous), ..ShardSpec::default() };
        spec.resolve(&variables(given)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_shard_needs_a_usable_rendezvous() {
        const TOKEN: (&str, &str) = (JOB_TOKEN, "0123456789abcdef");
        let pmi = [("PMI_FD", "9"), ("PMI_RANK", "1"), ("PMI_SIZE", "2")];
        let how =
            |shard, rendezvous, given: &[_]| resolve(shard, rendezvous, given).map(|plan| plan.unwrap().rendezvous);
        assert_eq!(how(Some("auto"), None, &pmi), Ok(RendezvousPlan::Pmi));
        assert_eq!(how(Some("1/2"), Some("dir:/a b"), &[]), Ok(RendezvousPlan::Directory("/a b".into())));
        let tcp = RendezvousPlan::Tcp { host: "::1".to_string(), port: 7 };
        assert_eq!(how(Some("1/2"), Some("tcp:[::1]:7"), &[TOKEN]), Ok(tcp));
        let at = RendezvousPlan::At { unix_ns: 1_500_000_000 };
        assert_eq!(how(Some("1/2"), Some("at:1970-01-01T01:00:01.5+01:00"), &[]), Ok(at));
        assert_eq!(resolve(None, None, &pmi), Ok(None), "auto is never the default");
        for (shard, rendezvous, given, word) in [
            (Some("1/2"), None, &[][..], "needs a rendezvous"),
            (None, Some("pmi"), &[], "add --shard"),
            (Some("2/2"), Some("pmi"), &[], "from 0 to 1"),
            (Some("0/0"), Some("pmi"), &[], "has no shards"),
            (Some("1"), Some("pmi"), &[], "is not I/K"),
            (Some("1/2"), Some("pmi"), &[], "needs PMI_FD"),
            (Some("0/2"), Some("pmi"), &pmi, "this is process 1 of 2"),
            (Some("1/2"), Some("tcp:h:7"), &[], JOB_TOKEN),
            (Some("1/2"), Some("tcp:h:7"), &[(JOB_TOKEN, "short")], "shorter than 16"),
            (Some("1/2"), Some("tcp:h"), &[TOKEN], "tcp:HOST:PORT"),
            (Some("1/2"), Some("tcp:h:0"), &[TOKEN], "tcp:HOST:PORT"),
            (Some("1/2"), Some("at:noon"), &[], "RFC 3339"),
            (Some("1/2"), Some("udp:h:7"), &[], "none of pmi"),
        ] {
            let error = resolve(shard, rendezvous, given).unwrap_err();
            assert!(error.contains(word) && error.lines().count() == 1, "{shard:?} {rendezvous:?}: {error}");
        }
    }

    #[test]
    fn addresses_of_shards_are_parsed() {
        let parse =
            |text| scan_address(text).map(|address| (address.host, address.port)).map_err(|error| error.to_string());
        let host = |host: &str, port| Ok((host.to_string(), port));
        assert_eq!(parse("10.0.0.7"), host("10.0.0.7", None));
        assert_eq!(parse("node-1:70"), host("node-1", Some(70)));
        assert_eq!((parse("fe80::1"), parse("[::1]:9")), (host("fe80::1", None), host("::1", Some(9))));
        for wrong in ["", ":7", "a:0", "a:x", "a:b:7", "a:70000"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.starts_with("--shard-address") && error.contains("HOST:PORT"), "{error}");
        }
        let at = |address: &str| {
            let text = |text: &str| Some(text.to_string());
            let spec = ShardSpec {
                shard: text("0/2"),
                rendezvous: text("at:2200-01-01T00:00:00Z"),
                shard_address: text(address),
                ..ShardSpec::default()
            };
            spec.resolve(&variables(&[])).unwrap_err().to_string()
        };
        assert!(at("h").contains("at:"), "{}", at("h"));
    }

    #[test]
    fn the_token_is_not_shown() {
        let shown = format!("{:?}", variables(&[(JOB_TOKEN, "0123456789abcdef")]));
        assert!(shown.contains(JOB_TOKEN) && !shown.contains("0123"), "{shown}");
    }

    #[test]
    fn folders_of_shards_sort() {
        let suffix = |index, count| folder_suffix(Share::new(index, count).unwrap());
        assert_eq!((suffix(3, 10), suffix(3, 11)), ("_shard_3_of_10".to_string(), "_shard_03_of_11".to_string()));
    }
}
