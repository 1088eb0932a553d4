//! The plan of one run, with all options resolved. Plans are plain data. `spec::resolve` creates them from the flags; later
//! stages only execute them.

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
use crate::record::share::Share;
use crate::secrets::Secrets;
use crate::workload::arrivals::from_offset;
pub use crate::workload::arrivals::{Arrival, Schedule};
use crate::workload::stream::ENDLESS;
use crate::workload::{Recipe, Source};

mod error;
pub mod export;
mod facts;
pub mod proxy;
pub mod shard;
pub mod sla;
pub mod slo;

pub use error::PlanError;

/// Default of `--max-tokens`.
pub(crate) const DEFAULT_MAX_TOKENS: u32 = 2048;

/// The plan of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub dialect: Dialect,
    /// The shard that this process is; `None`: it sends the whole load. Load and numbers of the plan are those of all shards.
    pub shard: Option<shard::ShardPlan>,
    /// Whether responses are streamed (SSE).
    pub stream: bool,
    pub load: Load,
    /// Measured requests, or conversations if the workload has them; `None` if only the duration ends the run.
    pub requests: Option<u64>,
    /// Time after which no more requests are sent, nanoseconds.
    pub duration_ns: Option<u64>,
    /// Time that requests in flight have after the duration, nanoseconds.
    pub drain_ns: u64,
    /// The share of failed requests that ends the run early.
    pub abort_on: Option<slo::Criterion>,
    /// Warm-up requests, or conversations, with the same load; excluded from all figures.
    pub warmup_requests: u64,
    /// Time of the linear increase of rate or concurrency at the start, nanoseconds.
    pub ramp_ns: u64,
    /// Seed of the schedule of this run; see [`crate::workload::rng::Randomness`].
    pub seed: u64,
    pub timeouts: Timeouts,
    /// Longest response accepted, bytes.
    pub max_response_bytes: u64,
    /// The core of each worker thread. At least one.
    pub cores: Vec<usize>,
    /// Whether workers poll sockets in a busy loop.
    pub spin: bool,
    /// Whether a closed loop opens no connections in advance.
    pub cold: bool,
    /// Local addresses to connect from; if empty, the kernel chooses.
    pub source_addresses: Vec<IpAddr>,
    /// Whether connections are spread over all addresses of the server; otherwise all go to the first one.
    pub address_rotation: bool,
    /// Whether to receive with epoll even if io_uring is available.
    pub force_fallback: bool,
    /// Whether to send one request before the run, which must succeed.
    pub test_connection: bool,
    /// How long a server that is still starting is waited for, nanoseconds.
    pub ready_timeout_ns: u64,
    /// Pause before this run if it is not the first of the call, nanoseconds.
    pub sleep_interval_ns: u64,
    /// How requests are built.
    pub workload: Recipe,
    pub save: Save,
    /// The local server to start, which is then the target.
    pub local: Option<LocalPlan>,
    /// The metrics page to scrape during the run.
    pub server_metrics: Option<MetricsPage>,
    /// The witness: a separate thread that sends requests during the load.
    pub witness: Option<WitnessPlan>,
    /// The measured client error of this machine at a similar load. The caller sets it.
    pub calibration: Option<Calibration>,
    pub report: Reporting,
    /// Findings about decisions that the user should know before the run.
    pub notes: Vec<Finding>,
}

impl Plan {
    /// Prompts of the data set that this run is planned to use. A run that only its duration ends counts as so many as
    /// are generated for one.
    pub fn prompts(&self) -> u64 {
        self.workload.needed.unwrap_or(ENDLESS.saturating_add(self.warmup_requests))
    }

    /// The share of the load that this process sends.
    pub fn share(&self) -> Share {
        self.shard.as_ref().map_or_else(Share::default, |shard| shard.share)
    }

    /// The limit on requests in flight of this process; `None` in an open loop.
    pub(crate) fn slots(&self) -> Option<u32> {
        self.load.parallel().map(|parallel| self.share().slots(parallel))
    }

    /// Makes this the run with this number, from 1, of its call. `offset` is that of the call, `before` the prompts of
    /// the runs before it: no run sends the prompts of one before, because the server can have them in its cache.
    pub(crate) fn place_in_call(&mut self, number: u32, offset: u64, before: u64) {
        self.workload.randomness.run = number;
        self.report.place.number = number;
        self.seed = self.workload.randomness.run_seed();
        // Generated prompts depend on the number of the run instead.
        let before = if self.workload.source.is_generated() { 0 } else { before };
        self.workload.offset = offset.saturating_add(before);
        if matches!(self.workload.source, Source::Trace(_)) {
            // Recorded requests keep their times. Those that the offset of the call skips are not among them.
            if let Some(Arrival::Trace(times)) = self.load.arrival_mut() {
                *times = from_offset(times, before);
            }
        }
    }

    /// Whether raw response bodies are stored: with `--save full`, or because the program of `--api` parses them.
    pub(crate) fn stores_raw_responses(&self) -> bool {
        self.save == Save::Full || matches!(self.dialect, Dialect::Program(_))
    }
}

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL for display, with the path of the endpoint and secrets masked.
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
    /// The HTTP proxy; if set, the addresses of `transport` are those of the proxy.
    pub proxy: Option<Proxy>,
    /// Parameters of the built-in server (the query of a `mock:` URL). The caller starts it and calls
    /// [`Target::set_mock_address`].
    pub mock: Option<String>,
}

impl Target {
    /// Path and query of the server's list of models, for example `/v1/models` for `/v1/chat/completions`.
    pub(crate) fn models_path(&self) -> String {
        match self.path.split_once('?') {
            Some((path, query)) => format!("{}?{query}", models_path(path)),
            None => models_path(&self.path),
        }
    }

    /// Host and port to connect to: those of the proxy or of the server.
    pub(crate) fn peer(&self) -> (&str, u16) {
        self.proxy.as_ref().map_or((&self.host, self.port), |proxy| (&proxy.host, proxy.port))
    }

    /// The request target for `path` in a request line: the absolute form for a proxy without a tunnel (RFC 9112, 3.2.2),
    /// otherwise `path`.
    pub(crate) fn request_target(&self, path: &str) -> String {
        if self.uses_absolute_form() { format!("http://{}{path}", self.authority) } else { path.to_string() }
    }

    /// The `Proxy-Authorization` header line for a proxy without a tunnel; empty if not needed.
    pub(crate) fn proxy_header(&self) -> String {
        let proxy = self.proxy.as_ref().filter(|_| self.uses_absolute_form());
        let authorization = proxy.and_then(Proxy::authorization);
        authorization.map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"))
    }

    /// The `CONNECT` request for a tunnel through the proxy; `None` if no tunnel is needed.
    pub(crate) fn tunnel_request(&self) -> Option<String> {
        let proxy = self.proxy.as_ref().filter(|_| self.tls.is_some())?;
        let authority = proxy::with_port(&self.host, self.port);
        Some(connect_request(&authority, proxy.authorization().as_deref()))
    }

    fn uses_absolute_form(&self) -> bool {
        self.proxy.is_some() && self.tls.is_none()
    }

    /// The addresses that connections go to, as text; empty if that is not decided, and with a Unix socket.
    pub(crate) fn addresses_used(&self, rotated: bool) -> Vec<String> {
        match &self.transport {
            Transport::Tcp(addresses) if rotated || addresses.len() == 1 => {
                addresses.iter().map(ToString::to_string).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Sets the address of the built-in server.
    pub(crate) fn set_mock_address(&mut self, address: SocketAddr) {
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
    /// Resolved addresses: the one that is used, those that are used in turn, or, if none has answered yet, all of them,
    /// tried in order. Empty in a new plan; the caller resolves the host name.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

/// The load model. With conversations, `parallel` is the number of concurrent conversations, each with one request in
/// flight, and a schedule has the start times of their first turns.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// Closed loop: `parallel` requests in flight at all times.
    Closed { parallel: u32 },
    /// Requests at scheduled times, with at most `parallel` in flight.
    Paced { parallel: u32, schedule: Schedule },
    /// Open loop: requests at scheduled times, with no limit on requests in flight.
    Open { schedule: Schedule },
}

impl Load {
    /// The limit on requests in flight; `None` in an open loop.
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

    /// The schedule; `None` in a closed loop.
    pub fn schedule(&self) -> Option<&Schedule> {
        match self {
            Load::Closed { .. } => None,
            Load::Paced { schedule, .. } | Load::Open { schedule } => Some(schedule),
        }
    }
}

/// Timeouts, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Opening a connection, including TLS.
    pub connect_ns: u64,
    /// Time without a received byte while waiting for a response.
    pub read_ns: u64,
    /// The whole request, from its scheduled time.
    pub total_ns: u64,
}

/// The kinds of local servers that ringmark can start.
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

/// A local server that is started before the first run and stopped after the last one.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalPlan {
    pub kind: LocalKind,
    /// Folder, file or hub id.
    pub model: String,
    pub port: u16,
    /// Number of GPUs for tensor parallelism; `None`: the server's default.
    pub tensor_parallel: Option<u32>,
    pub attn_implementation: Option<String>,
    /// The Python interpreter that has the server; `None`: from PATH.
    pub python: Option<PathBuf>,
    /// Further arguments of the server, passed unchanged.
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

    /// Whether the server has a metrics page, which is then scraped by default.
    pub(crate) fn has_metrics(self) -> bool {
        self != LocalKind::Transformers
    }
}

impl LocalPlan {
    /// The URL of its chat endpoint.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/chat/completions", self.port)
    }
}

/// A page with Prometheus metrics.
#[derive(Clone, Debug)]
pub struct MetricsPage {
    /// The server of the page if it is not the target; not resolved to addresses yet.
    pub elsewhere: Option<Target>,
    /// Path and query of the page.
    pub path: String,
}

/// The witness of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessPlan {
    /// Number of connections, each with one request in flight.
    pub connections: u32,
    /// The core to pin to; `None`: any core without a worker, shared with the collector.
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

/// The place of a run among the runs of its call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// From 1; 0 outside of a call.
    pub number: u32,
    /// Runs of the call; `None` in a search, which plans one after the other.
    pub of: Option<u32>,
    /// Each load has several runs.
    pub repeated: bool,
}

impl Place {
    /// `load 2 of 5`, or `run 2 of 6` if loads have several runs; `None` for the only run of a call.
    pub(crate) fn name(&self) -> Option<String> {
        let what = if self.repeated { "run" } else { "load" };
        match self.of {
            Some(0 | 1) => None,
            Some(of) => Some(format!("{what} {} of {of}", self.number)),
            None => Some(format!("{what} {}", self.number)),
        }
    }
}

/// Names, output files and reporting options.
#[derive(Clone, Debug, Default)]
pub struct Reporting {
    /// The model name; empty if `--model` is not given and the server has not been asked.
    pub model: String,
    /// `--name`, or the last component of the model name, as a valid folder name.
    pub name: String,
    pub dataset: String,
    pub api: String,
    /// Folder of the whole call: log, summary and HTML report.
    pub root: PathBuf,
    /// Folder of this run, within `root`.
    pub folder: PathBuf,
    pub place: Place,
    /// Number of requests between lines with figures in the log file; 0: none.
    pub log_every: u64,
    /// A full-screen view shows the run, with percentiles of the last second.
    pub live: bool,
    pub debug: bool,
    /// Validated SLOs of each run; empty if there are none. See [`slo`].
    pub slo: String,
    /// GPUs of the server, for figures per GPU.
    pub gpus: Option<u32>,
    /// The search that this run is part of.
    pub search: Option<sla::SearchPlan>,
    /// Files for other tools, written after all runs.
    pub exports: Vec<export::Export>,
    /// The experiment tracker that receives the figures.
    pub visualizer: Option<VisualizerPlan>,
    /// The content of `benchmark_args.json`, with secrets masked.
    pub arguments_json: String,
    /// Secrets that are masked in stored requests and errors.
    pub secrets: Secrets,
}

/// Connection to an experiment tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisualizerPlan {
    pub service: Service,
    /// The API key, a secret; `None`: the SDK finds a key itself.
    pub key: Option<String>,
    /// Local mode: no data leaves this machine.
    pub local: bool,
    /// `--name`, unchanged.
    pub name: Option<String>,
    /// The name if neither the command line nor the environment of the service sets one.
    pub default_name: String,
    /// The Python interpreter that has the SDK; `None`: `python3` from PATH.
    pub python: Option<PathBuf>,
}
