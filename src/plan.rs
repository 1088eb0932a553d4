//! What will be done: one run, with every choice made. Plans are plain data; what was asked becomes a [`Plan`] in
//! `spec::resolve`, and after that nothing is decided any more, only carried out.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use self::proxy::Proxy;
use crate::api::Dialect;
use crate::api::endpoint::models_path;
use crate::finding::Finding;
use crate::host::calibration::Calibration;
pub use crate::net::tls::TlsPlan;
pub use crate::options::{LOCAL, Save, Service};
use crate::protocol::tunnel::connect_request;
use crate::secrets::Secrets;
use crate::workload::arrivals::from_offset;
pub use crate::workload::arrivals::{Arrival, Schedule};
use crate::workload::context::ENDLESS;
use crate::workload::{Recipe, Source};

mod error;
pub mod export;
mod facts;
pub mod proxy;
pub mod sla;
pub mod slo;

pub use error::PlanError;

/// The limit of an answer, tokens, where none is given.
pub const DEFAULT_MAX_TOKENS: u32 = 2048;

/// One run, fully decided.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub dialect: Dialect,
    /// Ask for SSE.
    pub stream: bool,
    pub load: Load,
    /// Requests measured (conversations, where the workload has them); `None` when only the duration ends the run.
    pub requests: Option<u64>,
    /// Stop offering after this long, nanoseconds.
    pub duration_ns: Option<u64>,
    /// How long requests in flight may go on after the duration, nanoseconds.
    pub drain_ns: u64,
    /// Requests (or conversations) before the measured ones, in the same load shape; never in the figures.
    pub warmup_requests: u64,
    /// Length of the linear rise of rate or concurrency from the start, nanoseconds.
    pub ramp_ns: u64,
    /// Seeds the schedule of this run; see [`crate::workload::rng::Randomness`].
    pub seed: u64,
    pub timeouts: Timeouts,
    /// One pinned thread each; the core numbers to pin to. At least one.
    pub cores: Vec<usize>,
    /// Busy polling.
    pub spin: bool,
    /// Do not open connections ahead of a closed loop.
    pub cold: bool,
    /// Local addresses to connect from; empty: the kernel chooses.
    pub source_addresses: Vec<IpAddr>,
    /// Use the receive path without io_uring though it is there.
    pub force_fallback: bool,
    /// Send one request before the run, which must succeed.
    pub test_connection: bool,
    /// Pause before this run when it is not the first of its sweep, nanoseconds.
    pub sleep_interval_ns: u64,
    /// What the requests are made of.
    pub workload: Recipe,
    pub save: Save,
    /// The server is to be started here; then it is the target.
    pub local: Option<LocalPlan>,
    /// Scrape the server's own metrics while the run goes on.
    pub server_metrics: Option<MetricsPage>,
    /// A quiet thread that asks the server beside the load.
    pub witness: Option<WitnessPlan>,
    /// What is known of this machine's own error at such a load; found by the caller, who knows the machine.
    pub calibration: Option<Calibration>,
    pub report: Reporting,
    /// What was decided in the user's place and should be said once before the run.
    pub notes: Vec<Finding>,
}

impl Plan {
    /// Prompts of the data set that this run is planned to use. A run that only its duration ends counts as so many as
    /// are generated for one.
    pub fn prompts(&self) -> u64 {
        self.workload.needed.unwrap_or(ENDLESS.saturating_add(self.warmup_requests))
    }

    /// Makes this the run with this number, from 1, of its call. `offset` is that of the call, `before` the prompts of
    /// the runs before it: no run sends the prompts of one before, because the server can have them in its cache.
    pub fn place_in_call(&mut self, number: u32, offset: u64, before: u64) {
        self.workload.randomness.run = number;
        self.seed = self.workload.randomness.run_seed();
        // Generated prompts depend on the number of the run instead.
        let before = if self.workload.source.is_generated() { 0 } else { before };
        self.workload.offset = offset.saturating_add(before);
        if matches!(self.workload.source, Source::Trace(_)) {
            // Recorded requests keep their times.
            if let Some(Arrival::Trace(times)) = self.load.arrival_mut() {
                *times = from_offset(times, self.workload.offset);
            }
        }
    }

    /// Whether the bodies of answers are stored as they came: asked for, or wanted by the program that reads them.
    pub fn keeps_raw(&self) -> bool {
        self.save == Save::Full || matches!(self.dialect, Dialect::Program(_))
    }
}

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL as a person reads it, with the endpoint's path.
    pub url: String,
    pub transport: Transport,
    /// Value of the `Host` header; the name for SNI when TLS is used.
    pub authority: String,
    pub host: String,
    /// TCP port; 0 with a Unix socket.
    pub port: u16,
    /// Path and query of the endpoint.
    pub path: String,
    pub tls: Option<TlsPlan>,
    /// What stands between here and there: then the addresses of the transport are the proxy's.
    pub proxy: Option<Proxy>,
    /// The built-in server is to be started with these parameters (the query of a `mock:` URL) before anything else;
    /// then [`Target::mock_listens_at`] completes the target.
    pub mock: Option<String>,
}

impl Target {
    /// Path and query that list the server's models: `/v1/models` beside `/v1/chat/completions`.
    pub fn models_path(&self) -> String {
        match self.path.split_once('?') {
            Some((path, query)) => format!("{}?{query}", models_path(path)),
            None => models_path(&self.path),
        }
    }

    /// Host and port that a connection is opened to.
    pub fn peer(&self) -> (&str, u16) {
        self.proxy.as_ref().map_or((&self.host, self.port), |proxy| (&proxy.host, proxy.port))
    }

    /// What stands in a request line for `path`: a proxy without a tunnel has to be told the server as well.
    pub fn in_request_line(&self, path: &str) -> String {
        if self.is_told_to_proxy() { format!("http://{}{path}", self.authority) } else { path.to_string() }
    }

    /// The header line with which requests get past a proxy without a tunnel; empty where none is needed.
    pub fn proxy_header(&self) -> String {
        let proxy = self.proxy.as_ref().filter(|_| self.is_told_to_proxy());
        let authorization = proxy.and_then(Proxy::authorization);
        authorization.map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"))
    }

    /// The request for a tunnel through the proxy; `None` where none is needed.
    pub fn tunnel_request(&self) -> Option<String> {
        let proxy = self.proxy.as_ref().filter(|_| self.tls.is_some())?;
        let authority = proxy::with_port(&self.host, self.port);
        Some(connect_request(&authority, proxy.authorization().as_deref()))
    }

    fn is_told_to_proxy(&self) -> bool {
        self.proxy.is_some() && self.tls.is_none()
    }

    /// Sets the address of the built-in server once it listens.
    pub fn mock_listens_at(&mut self, address: SocketAddr) {
        self.authority = address.to_string();
        self.host = address.ip().to_string();
        self.port = address.port();
        self.url = format!("http://{address}{}", self.path);
        self.transport = Transport::Tcp(vec![address]);
    }
}

/// How bytes reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One or more resolved addresses, tried in order. A plan holds none: looking up names is not its work.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

/// How load is offered. Where the workload has conversations, these are what is started: `parallel` of them go on at a
/// time, each with one request in flight, and the places of a schedule are those of their first turns.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// `parallel` requests in flight at all times.
    Closed { parallel: u32 },
    /// Requests at their places in a schedule, but never more than `parallel` in flight.
    Paced { parallel: u32, schedule: Schedule },
    /// Requests at their places in a schedule, whatever comes back.
    Open { schedule: Schedule },
}

impl Load {
    /// The cap on requests in flight; `None` in an open loop.
    pub fn parallel(&self) -> Option<u32> {
        match self {
            Load::Closed { parallel } | Load::Paced { parallel, .. } => Some(*parallel),
            Load::Open { .. } => None,
        }
    }

    fn arrival_mut(&mut self) -> Option<&mut Arrival> {
        match self {
            Load::Closed { .. } => None,
            Load::Paced { schedule, .. } | Load::Open { schedule } => Some(&mut schedule.arrival),
        }
    }

    /// The schedule, where there is one.
    pub fn schedule(&self) -> Option<&Schedule> {
        match self {
            Load::Closed { .. } => None,
            Load::Paced { schedule, .. } | Load::Open { schedule } => Some(schedule),
        }
    }
}

/// Limits on waiting, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection (and TLS) is ready.
    pub connect_ns: u64,
    /// Longest silence on the socket while a response is awaited.
    pub read_ns: u64,
    /// The whole request, from its due instant on the wire.
    pub total_ns: u64,
}

/// The servers we can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalKind {
    /// `transformers serve`
    Transformers,
    /// `vllm serve`
    Vllm,
    /// `llama-server`, or `xllamacpp` in Python
    LlamaCpp,
    /// `python -m sglang.launch_server`
    Sglang,
    /// `lmdeploy serve api_server`
    Lmdeploy,
}

/// A server to be started before the first run and stopped after the last.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalPlan {
    pub kind: LocalKind,
    /// Folder, file or hub id.
    pub model: String,
    pub port: u16,
    /// GPUs that share the model; `None`: the server's default.
    pub tensor_parallel: Option<u32>,
    pub attn_implementation: Option<String>,
    /// The Python in whose environment the server is; `None`: what is on PATH.
    pub python: Option<PathBuf>,
    /// Passed on as they are.
    pub arguments: Vec<String>,
}

impl LocalKind {
    /// Every kind with its name in `--api`.
    pub const ALL: [(&'static str, LocalKind); 5] = [
        ("local", LocalKind::Transformers),
        ("local_vllm", LocalKind::Vllm),
        ("local_llamacpp", LocalKind::LlamaCpp),
        ("local_sglang", LocalKind::Sglang),
        ("local_lmdeploy", LocalKind::Lmdeploy),
    ];

    /// Whether it shows metrics, so that scraping them needs no asking.
    pub fn has_metrics(self) -> bool {
        self != LocalKind::Transformers
    }
}

impl LocalPlan {
    /// Where it will answer.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/chat/completions", self.port)
    }
}

/// A page of metrics.
#[derive(Clone, Debug)]
pub struct MetricsPage {
    /// Another server than the target; it has no addresses yet.
    pub elsewhere: Option<Target>,
    /// Path and query on the target, where it is not elsewhere.
    pub path: String,
}

/// The witness of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessPlan {
    /// Requests in flight at most, each on a connection of its own.
    pub connections: u32,
    /// The core to pin to; `None`: wherever no worker is, which is where the collector runs.
    pub core: Option<usize>,
}

impl WitnessPlan {
    /// Most prompts made for a witness, which then cycles through them.
    const MOST_PROMPTS: u64 = 1000;
    /// Prompts for each connection of a witness at least.
    const LEAST_PROMPTS: u64 = 32;

    /// Prompts for the witness of a run that needs `needed` and has `parallel` requests in flight. A connection of the
    /// witness pauses about as long as a request takes, so it sends about half as many requests as a slot of the load.
    pub fn prompts(&self, needed: Option<u64>, parallel: Option<u32>) -> u64 {
        let of_a_slot = needed.unwrap_or(ENDLESS) / u64::from(parallel.unwrap_or(1).max(1));
        of_a_slot.max(Self::LEAST_PROMPTS).saturating_mul(u64::from(self.connections)).min(Self::MOST_PROMPTS)
    }
}

/// Names, files and the screen.
#[derive(Clone, Debug, Default)]
pub struct Reporting {
    /// The model's name. Empty when none was given: ask the server, put the answer into the spec, resolve again.
    pub model: String,
    /// `--name`, or the last part of the model's name, made safe for a folder.
    pub name: String,
    pub dataset: String,
    pub api: String,
    /// Folder of the whole call: log, summary and HTML report.
    pub root: PathBuf,
    /// Folder of this run, within `root`.
    pub folder: PathBuf,
    /// A line in the log every so many requests; 0 never.
    pub log_every: u64,
    pub debug: bool,
    /// Objectives of each run, checked; empty without. See [`slo`].
    pub slo: String,
    /// The search that this run belongs to.
    pub search: Option<sla::SearchPlan>,
    /// Files for other tools, written when all runs are over.
    pub exports: Vec<export::Export>,
    /// Figures go to this service as well.
    pub visualizer: Option<VisualPlan>,
    /// The arguments as JSON, secrets masked.
    pub arguments_json: String,
    /// What is masked in stored requests and in stored errors.
    pub secrets: Secrets,
}

/// How figures get to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisualPlan {
    pub service: Service,
    /// A secret. `None`: what the service's SDK finds by itself.
    pub key: Option<String>,
    /// Nothing leaves this machine.
    pub local: bool,
    /// `--name` as it was typed.
    pub name: Option<String>,
    /// The name where neither the command line nor the service's environment has one.
    pub default_name: String,
    /// The Python that has the service's SDK; `None`: `python3` on PATH.
    pub python: Option<PathBuf>,
}
