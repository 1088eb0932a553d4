//! `ringmark perf`: measure a server.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Args};

use super::sla::SlaArgs;
use super::values;
use crate::plan::{Save, Service};
use crate::spec::{DataSource, Language, LogLevel, Spec};

const TARGET: &str = "Server";
const LOCAL: &str = "Server started here";
const LOAD: &str = "Load";
const DATA: &str = "Prompts";
const GENERATION: &str = "Generation";
const RESULTS: &str = "Results";
const CLIENT: &str = "Client";

/// Flags of `ringmark perf`.
#[derive(Args, Debug)]
#[command(mut_args(negative_numbers_are_values))]
#[command(after_help = "What every figure means, with its formula: ringmark report --help")]
pub struct PerfArgs {
    /// Model name sent with every request. Default: asked of the server's /v1/models
    #[arg(long, value_name = "NAME", help_heading = TARGET)]
    model: Option<String>,
    /// Server: http://, https://, unix:/path.sock:/v1/..., or mock:?ttft=50ms&itl=10ms&tokens=100 for the built-in one
    #[arg(long, value_name = "URL", help_heading = TARGET)]
    url: Option<String>,
    /// API of the server: openai (the path decides between chat and completions), openai_responses, openai_embedding,
    /// openai_rerank, dashscope, anthropic, or a .toml file or a program (./my_api.py)
    /// that speaks another one (tools/examples/api). Or a server that is started here
    /// and stopped afterwards: local (transformers serve), local_vllm, local_llamacpp, local_sglang, local_lmdeploy
    #[arg(long, value_name = "API", default_value = "openai", help_heading = TARGET)]
    api: String,
    /// Key, sent as "Authorization: Bearer KEY"; masked wherever it would be printed or stored
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, help_heading = TARGET)]
    api_key: Option<String>,
    /// Extra headers; they replace ours of the same name
    #[arg(long, value_name = "NAME=VALUE", num_args = 1.., help_heading = TARGET)]
    headers: Vec<String>,
    /// Longest wait for a connection, TLS included, seconds
    #[arg(long, value_name = "S", default_value = "120", value_parser = values::seconds, help_heading = TARGET)]
    connect_timeout: f64,
    /// Longest silence on the socket while a response is awaited, seconds
    #[arg(long, value_name = "S", default_value = "120", value_parser = values::seconds, help_heading = TARGET)]
    read_timeout: f64,
    /// Longest time for a whole request, seconds
    #[arg(long, value_name = "S", default_value = "21600", value_parser = values::seconds, help_heading = TARGET)]
    total_timeout: f64,
    /// Skip the one request before the run that must succeed
    #[arg(long, help_heading = TARGET)]
    no_test_connection: bool,
    /// PEM file of certificates to trust instead of the system's
    #[arg(long, value_name = "FILE", help_heading = TARGET)]
    cacert: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long, help_heading = TARGET)]
    insecure: bool,
    /// HTTP proxy between here and the server, also for what is fetched from a hub: http://HOST:PORT or
    /// http://USER:PASSWORD@HOST:PORT (https servers through a CONNECT tunnel), or env: what http_proxy, https_proxy,
    /// all_proxy and no_proxy say
    /// [default: none, whatever the environment says]
    #[arg(long, value_name = "URL", help_heading = TARGET)]
    proxy: Option<String>,
    /// Scrape the server's own metrics (Prometheus text) beside the run and compare: a URL, or a path of the server
    /// itself [default without a value: /metrics]
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "", help_heading = TARGET)]
    server_metrics: Option<String>,

    /// Port of the server that is started here [default: 8877]
    #[arg(long, value_name = "N", help_heading = LOCAL)]
    port: Option<u16>,
    /// GPUs that share the model (tensor parallel)
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = LOCAL)]
    tp: Option<u32>,
    /// Attention of transformers serve, for example sdpa or flash_attention_2
    #[arg(long, value_name = "NAME", help_heading = LOCAL)]
    attn_implementation: Option<String>,
    /// Python in whose environment the server, or the SDK of --visualizer, is installed [default: what is on PATH]
    #[arg(long, value_name = "FILE", help_heading = LOCAL)]
    python: Option<PathBuf>,
    /// Everything behind this flag goes to the server as it is, so it comes last
    #[arg(long, value_name = "ARG", num_args = 1.., allow_hyphen_values = true, help_heading = LOCAL)]
    server_args: Vec<String>,

    /// Requests of each run; one value for all runs of a sweep, or one for each. Default: 1000, or with --duration as
    /// many as it lets through
    #[arg(short = 'n', long, value_name = "N", num_args = 1.., value_parser = values::count::<u64>, help_heading = LOAD)]
    number: Vec<u64>,
    /// Requests in flight at all times; several values: one run after the other [default: 1]
    #[arg(long, visible_alias = "concurrency", value_name = "N", num_args = 1.., value_parser = values::count::<u32>, help_heading = LOAD)]
    parallel: Vec<u32>,
    /// Requests per second; -1: as fast as --parallel lets them. With --open-loop several values: one run after the
    /// other [default: -1]
    #[arg(long, value_name = "R", num_args = 1.., value_parser = values::number, help_heading = LOAD)]
    rate: Vec<f64>,
    /// How requests at a rate are spaced: poisson, constant, gamma:CV; without a rate: burst, or trace:FILE (recorded
    /// times) [default: poisson]
    #[arg(long, value_name = "LAW", help_heading = LOAD)]
    arrival: Option<String>,
    /// Let recorded times come so many times as fast [default: 1]
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = LOAD)]
    trace_speed: Option<f64>,
    /// Send on schedule whatever comes back, without a cap; needs --rate
    #[arg(long, help_heading = LOAD)]
    open_loop: bool,
    /// Raise rate or concurrency linearly from the start for so long, seconds
    #[arg(long, value_name = "S", default_value = "0", value_parser = values::seconds, help_heading = LOAD)]
    ramp: f64,
    /// Stop offering requests after so long, seconds
    #[arg(long, value_name = "S", value_parser = values::seconds, help_heading = LOAD)]
    duration: Option<f64>,
    /// How long requests in flight may go on after --duration, seconds; then they count as unfinished [default: 30]
    #[arg(long, value_name = "S", value_parser = values::seconds, help_heading = LOAD)]
    drain: Option<f64>,
    /// Requests before the run, never in the figures: a count, or a share of --number below 1
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::number, help_heading = LOAD)]
    warmup_num: f64,
    /// Pause between the runs of a sweep, seconds
    #[arg(long, value_name = "S", default_value = "5", value_parser = values::seconds, help_heading = LOAD)]
    sleep_interval: f64,
    /// A line in the log with the figures so far every N requests; 0: never
    #[arg(long, value_name = "N", default_value = "100", value_parser = values::count_or_zero::<u64>, help_heading = LOAD)]
    log_every_n_query: u64,
    /// Measure each load so many times, to see what changes from run to run; also in repeats_summary.json
    #[arg(long, value_name = "K", default_value = "1", value_parser = values::count::<u32>, help_heading = LOAD)]
    repeat: u32,
    #[command(flatten)]
    sla: SlaArgs,

    /// Tokenizer: a folder with tokenizer.json (and the chat template), that file, or a model's id as
    /// Qwen/Qwen2.5-0.5B-Instruct, whose tokenizer is fetched once (see --data-source)
    #[arg(long, value_name = "PATH", help_heading = DATA)]
    tokenizer_path: Option<String>,
    /// Count prompts as they are after the tokenizer's chat template; on /v1/completions also send them so. Default:
    /// where the endpoint is chat
    #[arg(long, conflicts_with = "no_apply_chat_template", help_heading = DATA)]
    apply_chat_template: bool,
    /// Count prompts as bare text
    #[arg(long, help_heading = DATA)]
    no_apply_chat_template: bool,
    /// Send token ids as "prompt" to /v1/completions
    #[arg(long, help_heading = DATA)]
    tokenize_prompt: bool,
    /// random: tokens that all prompts begin with, besides those of --min/--max-prompt-length
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::count_or_zero::<u64>, help_heading = DATA)]
    prefix_length: u64,
    /// Prompts: builtin (a hundred questions in several languages); from a file: line_by_line, openqa, longalpaca,
    /// sharegpt, embedding, rerank; made in exact lengths, with --tokenizer-path and --max-prompt-length: random,
    /// random_embedding, random_rerank, random_vl (with pictures); speed_benchmark, speed_benchmark_long; conversations:
    /// random_multi_turn, share_gpt_multi_turn, custom_multi_turn (each line a list of messages or texts); trace (a file of
    /// recorded requests: their times, lengths and shared prefixes; open loop); or a program that prints one JSON per
    /// line, as ./my_prompts.py [default: builtin]
    #[arg(long, value_name = "NAME", help_heading = DATA)]
    dataset: Option<String>,
    /// File of the dataset. line_by_line: each line a text, a JSON list of messages, or a JSON object (a whole body);
    /// the others: JSON Lines or one JSON array. openqa, longalpaca, sharegpt and share_gpt_*_multi_turn are fetched once where
    /// it is not given
    #[arg(long, value_name = "FILE", help_heading = DATA)]
    dataset_path: Option<PathBuf>,
    /// Hub that data sets and tokenizers are fetched from: modelscope, huggingface, or local (none). The caches of both
    /// hubs' own tools are looked at first and filled; there is no fallback to the other hub. Environment:
    /// MODELSCOPE_ENDPOINT, MODELSCOPE_CACHE, MODELSCOPE_API_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN,
    /// HF_HUB_OFFLINE
    #[arg(long, value_name = "HUB", default_value = "modelscope", value_parser = values::data_source(), help_heading = DATA)]
    data_source: DataSource,
    /// sharegpt: make each answer as long as the conversation's was, with max_tokens and ignore_eos
    #[arg(long, help_heading = DATA)]
    sharegpt_output_len: bool,
    /// random_vl: width of each picture, pixels [default: 224]
    #[arg(long, value_name = "N", value_parser = values::count::<u16>, help_heading = DATA)]
    image_width: Option<u16>,
    /// random_vl: height of each picture, pixels [default: 224]
    #[arg(long, value_name = "N", value_parser = values::count::<u16>, help_heading = DATA)]
    image_height: Option<u16>,
    /// random_vl: RGB, RGBA, L (grey), all as PNG, or JPEG [default: RGB]
    #[arg(long, value_name = "FORMAT", help_heading = DATA)]
    image_format: Option<String>,
    /// random_vl: pictures in each request [default: 1]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = DATA)]
    image_num: Option<u32>,
    /// Prompts to leave out at the start of the dataset; in a sweep each run goes on where the one before ended
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::count_or_zero::<u64>, help_heading = DATA)]
    dataset_offset: u64,
    /// Requests are turns of conversations: each sends what was said before, the model's own answers among it. Implied
    /// by the datasets that have them. --number and --warmup-num then count conversations, --parallel those that go on
    /// at a time, and --rate those that begin per second; a failed turn ends its conversation
    #[arg(long, help_heading = DATA)]
    multi_turn: bool,
    /// Fewest turns of a conversation: random_multi_turn draws from here, of a file shorter ones are left out [default: 1]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = DATA)]
    min_turns: Option<u32>,
    /// Most turns of a conversation: random_multi_turn draws up to here, of a file longer ones are cut [default: no limit]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = DATA)]
    max_turns: Option<u32>,
    /// Pause between an answer and the next turn, seconds; two values: drawn uniformly for each turn [default: 0]
    #[arg(long, value_name = "S", num_args = 1..=2, value_parser = values::seconds, help_heading = DATA)]
    think_time: Vec<f64>,
    /// One prompt for every request: a text, or @FILE; beats the dataset
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = DATA)]
    prompt: Option<String>,
    /// Body of every request: JSON, or @FILE. %m and %p in its strings become the model and the prompt; %p alone as a
    /// message's content also takes a whole list of messages. What it sets wins over flags that are not given
    #[arg(long, value_name = "JSON", help_heading = DATA)]
    query_template: Option<String>,
    /// Shortest prompt used: tokens with --tokenizer-path, else characters. random: the range that lengths are drawn from
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::count_or_zero::<u64>, help_heading = DATA)]
    min_prompt_length: u64,
    /// Longest prompt used: tokens with --tokenizer-path, else characters [default: no limit]
    #[arg(long, value_name = "N", value_parser = values::count::<u64>, help_heading = DATA)]
    max_prompt_length: Option<u64>,

    /// Stream the answers (SSE); the default
    #[arg(long, conflicts_with = "no_stream", help_heading = GENERATION)]
    stream: bool,
    /// Ask for whole answers instead of a stream
    #[arg(long, help_heading = GENERATION)]
    no_stream: bool,
    /// Most tokens of an answer; two values: drawn uniformly for each request [default: 2048]
    #[arg(long, value_name = "N", num_args = 1..=2, value_parser = values::count::<u32>, help_heading = GENERATION)]
    max_tokens: Vec<u32>,
    /// Fewest tokens of an answer
    #[arg(long, value_name = "N", value_parser = values::count_or_zero::<u32>, help_heading = GENERATION)]
    min_tokens: Option<u32>,
    /// Sampling temperature; always sent [default: 0]
    #[arg(long, value_name = "T", value_parser = values::number, help_heading = GENERATION)]
    temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1
    #[arg(long, value_name = "P", value_parser = values::number, help_heading = GENERATION)]
    top_p: Option<f64>,
    /// Sample among the K likeliest tokens
    #[arg(long, value_name = "K", help_heading = GENERATION)]
    top_k: Option<i64>,
    /// frequency_penalty of the request
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = GENERATION)]
    frequency_penalty: Option<f64>,
    /// repetition_penalty of the request
    #[arg(long, value_name = "X", value_parser = values::number, help_heading = GENERATION)]
    repetition_penalty: Option<f64>,
    /// Ask for log probabilities
    #[arg(long, help_heading = GENERATION)]
    logprobs: bool,
    /// Answers to each request (n)
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = GENERATION)]
    n_choices: Option<u32>,
    /// Sent with every request; also seeds schedules and everything else drawn here (with 0 when not given)
    #[arg(long, value_name = "N", value_parser = values::count_or_zero::<u64>, help_heading = GENERATION)]
    seed: Option<u64>,
    /// Texts that end an answer
    #[arg(long, value_name = "TEXT", num_args = 1.., help_heading = GENERATION)]
    stop: Vec<String>,
    /// Token ids that end an answer
    #[arg(long, value_name = "ID", num_args = 1.., value_parser = values::count_or_zero::<u32>, help_heading = GENERATION)]
    stop_token_ids: Vec<u32>,
    /// JSON object merged last into every body, for example '{"ignore_eos": true}'
    #[arg(long, value_name = "JSON", help_heading = GENERATION)]
    extra_args: Option<String>,

    /// Name of the results' folder. Default: the model's name
    #[arg(long, value_name = "NAME", help_heading = RESULTS)]
    name: Option<String>,
    /// Folder for all results
    #[arg(long, value_name = "DIR", default_value = "outputs", help_heading = RESULTS)]
    outputs_dir: PathBuf,
    /// Leave the time out of the results' path
    #[arg(long, help_heading = RESULTS)]
    no_timestamp: bool,
    /// What the database keeps: text (prompts and answers), full (every byte as well), metrics (neither)
    #[arg(long, value_name = "WHAT", default_value = "text", value_parser = values::save(), help_heading = RESULTS)]
    save: Save,
    /// Show requests and responses as they pass, secrets masked
    #[arg(long, help_heading = RESULTS)]
    debug: bool,
    /// How much the log says: error, warning, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = values::log_level(), ignore_case = true, help_heading = RESULTS)]
    log_level: LogLevel,
    /// Nothing on the screen but errors and the last line, which says where the results are
    #[arg(long, help_heading = RESULTS)]
    quiet: bool,
    /// Show the figures with this service too, through its own Python SDK: wandb, swanlab, clearml. Its environment
    /// variables hold; a point every --log-every-n-query requests
    #[arg(long, value_name = "SERVICE", value_parser = values::service(), ignore_case = true, help_heading = RESULTS)]
    visualizer: Option<Service>,
    /// Key of wandb; implies --visualizer wandb. Better in the environment, as WANDB_API_KEY
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, help_heading = RESULTS)]
    wandb_api_key: Option<String>,
    /// Key of SwanLab, or "local" to keep everything on this machine; implies --visualizer swanlab
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, help_heading = RESULTS)]
    swanlab_api_key: Option<String>,
    /// Objectives of each run, for example 'p99_ttft<=2 p99_tpot<=50ms', or the JSON of --sla-params: goodput, and exit
    /// status 1 when one is missed
    #[arg(long, value_name = "CRITERION", num_args = 1.., help_heading = RESULTS)]
    slo: Vec<String>,
    /// Language of the HTML report: en, zh
    #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = values::language(), help_heading = RESULTS)]
    language: Language,
    /// Write a row for each run in the columns of LMDeploy's throughput profiling
    #[arg(long, value_name = "FILE", help_heading = RESULTS)]
    csv: Option<PathBuf>,
    /// Write a file for another tool: vllm, aiperf, llmd, or evalscope-db (needs --save full). Several runs: several
    /// files, with the run's name before the extension
    #[arg(long, value_name = "FORMAT=FILE", num_args = 1.., help_heading = RESULTS)]
    export: Vec<String>,

    /// Worker threads, one pinned to each core. Default: all cores but one, never more than --parallel
    #[arg(long, value_name = "N", value_parser = values::count::<usize>, help_heading = CLIENT)]
    workers: Option<usize>,
    /// Cores for the workers, for example 2,3 or 4-7
    #[arg(long, value_name = "LIST", num_args = 1.., value_parser = values::cores, help_heading = CLIENT)]
    cores: Vec<values::Cores>,
    /// Busy polling: sends closer to schedule for a whole core of each worker
    #[arg(long, help_heading = CLIENT)]
    spin: bool,
    /// File of calibrations made by 'ringmark rig --calibrate'; none: use none [default: the one in the user's cache]
    #[arg(long, value_name = "FILE", help_heading = CLIENT)]
    calibration: Option<PathBuf>,
    /// Watch from outside: a quiet thread on a core without workers, with N connections of its own, whose figures are
    /// compared with those of the load and enter none of them
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::count_or_zero::<u32>, help_heading = CLIENT)]
    witness: u32,
    /// Local addresses to connect from, in turn [default: the kernel's choice; on loopback as many as needed]
    #[arg(long, value_name = "IP", num_args = 1.., help_heading = CLIENT)]
    source_address: Vec<IpAddr>,
    /// Open no connections ahead of a closed loop, so that the first requests pay for them
    #[arg(long, help_heading = CLIENT)]
    cold: bool,
    /// Receive without io_uring though it is there
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    force_fallback: bool,
}

/// `--rate -1` is a value, and `--parallel -1` is a wrong value rather than an unknown flag.
fn negative_numbers_are_values(argument: Arg) -> Arg {
    let takes_values = argument.get_action().takes_values();
    argument.allow_negative_numbers(takes_values)
}

impl From<PerfArgs> for Spec {
    fn from(args: PerfArgs) -> Spec {
        Spec {
            model: args.model,
            url: args.url,
            api: args.api,
            api_description: None,
            api_key: args.api_key,
            headers: args.headers,
            connect_timeout_s: args.connect_timeout,
            read_timeout_s: args.read_timeout,
            total_timeout_s: args.total_timeout,
            no_test_connection: args.no_test_connection,
            cacert: args.cacert,
            insecure: args.insecure,
            proxy: args.proxy,
            server_metrics: args.server_metrics,
            port: args.port,
            tp: args.tp,
            attn_implementation: args.attn_implementation,
            python: args.python,
            server_args: args.server_args,
            number: args.number,
            parallel: args.parallel,
            rate: args.rate,
            arrival: args.arrival,
            trace_speed: args.trace_speed,
            open_loop: args.open_loop,
            ramp_s: args.ramp,
            duration_s: args.duration,
            drain_s: args.drain,
            warmup_num: args.warmup_num,
            sleep_interval_s: args.sleep_interval,
            log_every_n_query: args.log_every_n_query,
            repeat: args.repeat,
            sla: args.sla.into(),
            tokenizer_path: args.tokenizer_path,
            apply_chat_template: match (args.apply_chat_template, args.no_apply_chat_template) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            },
            tokenize_prompt: args.tokenize_prompt,
            prefix_length: args.prefix_length,
            dataset: args.dataset,
            dataset_path: args.dataset_path,
            data_source: args.data_source,
            sharegpt_output_len: args.sharegpt_output_len,
            image_width: args.image_width,
            image_height: args.image_height,
            image_format: args.image_format,
            image_num: args.image_num,
            dataset_offset: args.dataset_offset,
            multi_turn: args.multi_turn,
            min_turns: args.min_turns,
            max_turns: args.max_turns,
            think_time_s: args.think_time,
            prompt: args.prompt,
            query_template: args.query_template,
            min_prompt_length: args.min_prompt_length,
            max_prompt_length: args.max_prompt_length,
            stream: !args.no_stream,
            stream_given: args.stream || args.no_stream,
            max_tokens: args.max_tokens,
            min_tokens: args.min_tokens,
            temperature: args.temperature,
            top_p: args.top_p,
            top_k: args.top_k,
            frequency_penalty: args.frequency_penalty,
            repetition_penalty: args.repetition_penalty,
            logprobs: args.logprobs,
            n_choices: args.n_choices,
            seed: args.seed,
            stop: args.stop,
            stop_token_ids: args.stop_token_ids,
            extra_args: args.extra_args,
            name: args.name,
            outputs_dir: args.outputs_dir,
            no_timestamp: args.no_timestamp,
            save: args.save,
            debug: args.debug,
            log_level: args.log_level,
            quiet: args.quiet,
            visualizer: args.visualizer,
            wandb_api_key: args.wandb_api_key,
            swanlab_api_key: args.swanlab_api_key,
            slo: args.slo,
            language: args.language,
            csv: args.csv,
            export: args.export,
            workers: args.workers,
            cores: args.cores.into_iter().flat_map(|cores| cores.0).collect(),
            spin: args.spin,
            calibration: args.calibration,
            witness: args.witness,
            cold: args.cold,
            source_address: args.source_address,
            force_fallback: args.force_fallback,
        }
    }
}
