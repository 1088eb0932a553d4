"""A typed field for each flag of `ringmark perf`. Written by tools/python/fields.py; do not edit."""

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

PathLike = Union[str, "os.PathLike[str]"]
Json = Union[Dict[str, Any], List[Any]]


class Fields:
    """The keywords of :class:`ringmark.perf.Arguments`."""

    #: End a run early if too many of its requests fail, or of those of its warm-up, for example 'failed>20%'
    abort_on: Optional[Union[str, Json]]
    #: Spread connections over all addresses of the server's name, in rotation [default: all go to the first that
    #: answers]
    address_rotation: Optional[bool]
    #: API of the server [default: openai]
    api: Optional[PathLike]
    #: API key, sent as "Authorization: Bearer KEY"
    api_key: Optional[str]
    #: Count prompt tokens after applying the chat template [default: on chat endpoints]
    apply_chat_template: Optional[bool]
    #: Arrival process [default: poisson]
    arrival: Optional[str]
    #: Attention implementation of transformers serve, for example sdpa or flash_attention_2
    attn_implementation: Optional[str]
    #: Trust the CA certificates in this PEM file instead of those of the system
    cacert: Optional[PathLike]
    #: Calibration file from 'ringmark rig --calibrate', or none to use no calibration [default: the file in the
    #: user's cache directory]
    calibration: Optional[PathLike]
    #: Client certificate for a server that requires one
    cert: Optional[PathLike]
    #: Closed loop: do not open connections in advance, so that first requests include the connection setup
    cold: Optional[bool]
    #: Number of concurrent requests (slots) [default: 1]
    concurrency: Optional[Union[int, Sequence[int]]]
    #: Read flags from a TOML file
    config: Optional[PathLike]
    #: Timeout for opening a connection, including TLS, seconds [default: 120]
    connect_timeout: Optional[float]
    #: CPU cores to pin the workers to, for example 2,3 or 4-7
    cores: Optional[Union[Union[int, str], Sequence[Union[int, str]]]]
    #: Write a CSV file with one row for each run, in the columns of LMDeploy's profile_throughput.py
    csv: Optional[PathLike]
    #: Determines the lengths, the choices and the schedule of the call [default: --seed, else a fixed number]
    data_seed: Optional[int]
    #: Hub for missing datasets and tokenizers [default: modelscope] [possible values: modelscope, huggingface,
    #: local]
    data_source: Optional[str]
    #: Dataset [default: builtin]
    dataset: Optional[PathLike]
    #: Arguments of the dataset
    dataset_args: Optional[Union[str, Json]]
    #: Skip N prompts at the start of the dataset [default: 0]
    dataset_offset: Optional[int]
    #: File of the dataset
    dataset_path: Optional[PathLike]
    #: Log every request and response, with secrets masked
    debug: Optional[bool]
    #: Wait this long for requests in flight after --duration, seconds [default: 30]
    drain: Optional[float]
    #: Stop sending requests this long after the first measured one, seconds
    duration: Optional[float]
    #: Write a file in the format of another tool
    export: Optional[Union[str, Sequence[str], Mapping[str, Any]]]
    #: JSON object merged into every request body after all other fields, for example '{"ignore_eos": true}'
    extra_args: Optional[Union[str, Json]]
    #: Frequency penalty
    frequency_penalty: Optional[float]
    #: Number of GPUs of the server
    gpus: Optional[int]
    #: Additional request headers
    headers: Optional[Union[str, Sequence[str], Mapping[str, Any]]]
    #: random_vl: picture format [default: RGB]
    image_format: Optional[str]
    #: random_vl: height of each picture, pixels [default: 224]
    image_height: Optional[int]
    #: random_vl: number of pictures in each request [default: 1]
    image_num: Optional[int]
    #: random_vl: width of each picture, pixels [default: 224]
    image_width: Optional[int]
    #: Do not verify the server's certificate
    insecure: Optional[bool]
    #: Write one JSON document with all results of the call (tools/schema/call.schema.json) to FILE
    json: Optional[PathLike]
    #: Write the verdicts on the objectives of --slo and --sla-params as a JUnit XML file, for CI systems
    junit: Optional[PathLike]
    #: Private key of --cert, a PEM file that is not encrypted [default: the key in the file of --cert]
    key: Optional[PathLike]
    #: Language in which the HTML report opens [default: en] [possible values: en, zh]
    language: Optional[str]
    #: Show the run on the full screen while it lasts
    live: Optional[bool]
    #: Write intermediate figures to benchmark.log every N requests [default: 100]
    log_every_n_query: Optional[int]
    #: Log level [default: info] [possible values: error, warning, info, debug]
    log_level: Optional[str]
    #: Request log probabilities
    logprobs: Optional[bool]
    #: Maximum prompt length [default: no limit]
    max_prompt_length: Optional[int]
    #: Longest response accepted, whole or streamed [default: 256MiB]
    max_response_size: Optional[Union[int, str]]
    #: Maximum output tokens [default: 2048]
    max_tokens: Optional[Union[int, Sequence[int]]]
    #: Maximum turns of a conversation [default: no limit]
    max_turns: Optional[int]
    #: Minimum prompt length [default: 0]
    min_prompt_length: Optional[int]
    #: Minimum output tokens
    min_tokens: Optional[int]
    #: Minimum turns of a conversation [default: 1]
    min_turns: Optional[int]
    #: Model name, sent with every request [default: the first model of the server's /v1/models]
    model: Optional[str]
    #: Send multi-turn conversations
    multi_turn: Optional[bool]
    #: Number of choices for each request (n)
    n_choices: Optional[int]
    #: Name of the results folder [default: the model name]
    name: Optional[str]
    #: Count prompt tokens without the chat template
    no_apply_chat_template: Optional[bool]
    #: Request whole responses instead of a stream
    no_stream: Optional[bool]
    #: Skip the connection test
    no_test_connection: Optional[bool]
    #: Omit the start time from the path of the results
    no_timestamp: Optional[bool]
    #: Number of requests [default: 1000; with --duration: no limit]
    number: Optional[Union[int, Sequence[int]]]
    #: Send every request at its scheduled time, without a limit on concurrent requests
    open_loop: Optional[bool]
    #: Parent folder of all results [default: outputs]
    outputs_dir: Optional[PathLike]
    #: Number of concurrent requests (slots) [default: 1]
    parallel: Optional[Union[int, Sequence[int]]]
    #: TCP port of the local server [default: 8877]
    port: Optional[int]
    #: random: number of different prefixes of --prefix-length tokens [default: 1]
    prefix_count: Optional[int]
    #: random: length of a prefix that prompts share, tokens [default: 0]
    prefix_length: Optional[int]
    #: Print the flags of the call as a file for --config, and do nothing else
    print_config: Optional[bool]
    #: Use one prompt for every request
    prompt: Optional[str]
    #: HTTP proxy for requests and hub downloads [default: none; the variables are ignored]
    proxy: Optional[str]
    #: Python interpreter whose environment has the server or the SDK of --visualizer [default: from PATH]
    python: Optional[PathLike]
    #: Template of the request body
    query_template: Optional[Union[str, Json]]
    #: Print only errors, the verdicts of --slo and the path of the results
    quiet: Optional[bool]
    #: Increase rate or concurrency linearly over this time from the first request on, warm-up included, seconds
    #: [default: 0]
    ramp: Optional[float]
    #: Request rate, requests per second [default: -1]
    rate: Optional[Union[float, Sequence[float]]]
    #: Timeout without any received byte while waiting for a response, seconds [default: 120]
    read_timeout: Optional[float]
    #: Wait this long for a server that is still starting [default: 30]
    ready_timeout: Optional[float]
    #: Where the shards agree on the start [default: pmi, if PMI_FD is set]
    rendezvous: Optional[str]
    #: Wait this long for the other shards at each meeting, seconds [default: 300]
    rendezvous_timeout: Optional[float]
    #: Run each load K times and report the variation between runs [default: 1]
    repeat: Optional[int]
    #: Repetition penalty
    repetition_penalty: Optional[float]
    #: Changes the synthetic text and pictures of the random datasets and of traces, so that the server's prefix
    #: cache cannot answer a second call [default: another number in each call, printed and stored]
    salt: Optional[int]
    #: Content of the database [default: text] [possible values: text, full, metrics]
    save: Optional[str]
    #: Run only these scenarios of --config [default: all, in the order of the file]
    scenario: Optional[Union[str, Sequence[str]]]
    #: Seed, sent with every request [default: not sent]
    seed: Optional[int]
    #: Send another seed with every request, drawn from --seed (else from the data seed)
    seed_per_request: Optional[bool]
    #: Pass all following arguments to the server unchanged
    server_args: Optional[Union[Union[str, int, float], Sequence[Union[str, int, float]]]]
    #: Scrape the server's Prometheus metrics during the run and compare them with the client's figures [default
    #: without a value: /metrics]
    server_metrics: Optional[Union[str, bool]]
    #: Send one share of the load, which the other flags state in total
    shard: Optional[str]
    #: Address of this shard on the network between the shards
    shard_address: Optional[Union[str, bool]]
    #: sharegpt: request the output length of the recorded conversation, with max_tokens and ignore_eos
    sharegpt_output_len: Optional[bool]
    #: Search for the highest load that meets --sla-params, or for the load with the best figure
    sla_auto_tune: Optional[bool]
    #: Limit on concurrent requests in a search for a rate [default: none, an open loop]
    sla_fixed_parallel: Optional[int]
    #: Lowest load to try [default: 1 for parallel, 0.1 for rate]
    sla_lower_bound: Optional[float]
    #: Number of runs at each load [default: 3]
    sla_num_runs: Optional[int]
    #: Requests of each run as a multiple of the load, if neither --number nor --duration is given [default: 2 for
    #: parallel, 10 for rate]
    sla_number_multiplier: Optional[float]
    #: SLOs to meet
    sla_params: Optional[Union[Union[str, Json], Sequence[Union[str, Json]]]]
    #: Stop when the passing and the failing load differ by less than this fraction [default: 0 (exact) for parallel,
    #: 0.02 for rate]
    sla_precision: Optional[float]
    #: Highest load to try [default: 65536]
    sla_upper_bound: Optional[float]
    #: Variable of the search [default: parallel] [possible values: parallel, rate]
    sla_variable: Optional[str]
    #: Pause between the runs of a sweep, seconds [default: 5]
    sleep_interval: Optional[float]
    #: Service level objectives, for example 'p99_ttft <= 2 p99_tpot<=50ms failed<=1%', or JSON as for --sla-params
    slo: Optional[Union[Union[str, Json], Sequence[Union[str, Json]]]]
    #: Local IP addresses to connect from, used in rotation [default: chosen by the kernel; on loopback, as many as
    #: needed]
    source_address: Optional[Union[str, Sequence[str]]]
    #: Poll sockets in a busy loop
    spin: Optional[bool]
    #: Stop sequences
    stop: Optional[Union[str, Sequence[str]]]
    #: Stop token ids
    stop_token_ids: Optional[Union[int, Sequence[int]]]
    #: Stream responses (SSE)
    stream: Optional[bool]
    #: API key of SwanLab, or "local" to keep all data on this machine
    swanlab_api_key: Optional[str]
    #: Sampling temperature [default: 0]
    temperature: Optional[float]
    #: Pause between a response and the next turn, seconds [default: 0]
    think_time: Optional[Union[float, Sequence[float]]]
    #: Send prompts as token ids to /v1/completions
    tokenize_prompt: Optional[bool]
    #: Tokenizer: a folder with tokenizer.json (and the chat template), that file, or a model id such as
    #: Qwen/Qwen2.5-0.5B-Instruct, whose tokenizer is downloaded once (see --data-source)
    tokenizer_path: Optional[PathLike]
    #: Sample from the K most likely tokens
    top_k: Optional[int]
    #: Nucleus sampling, 0 to 1
    top_p: Optional[float]
    #: Timeout for a whole request, seconds [default: 21600]
    total_timeout: Optional[float]
    #: Number of GPUs for tensor parallelism [default: the default of the server]
    tp: Optional[int]
    #: Tokens of a trace for each hash id [default: detected: 512 for Mooncake, 16 for Bailian]
    trace_block: Optional[int]
    #: Replay recorded times X times as fast [default: 1]
    trace_speed: Optional[float]
    #: Unit of recorded times [default: detected from the format of the file]
    trace_unit: Optional[str]
    #: Use only what was recorded in this part of a trace, seconds from its start, as 60..120 or 60..
    trace_window: Optional[str]
    #: Server URL
    url: Optional[str]
    #: Print all tables of each run, as performance_summary.txt has them
    verbose: Optional[bool]
    #: Send the figures to an experiment tracker through its Python SDK [possible values: wandb, swanlab, clearml]
    visualizer: Optional[str]
    #: API key of wandb
    wandb_api_key: Optional[str]
    #: Warm-up requests, excluded from all figures [default: 0]
    warmup_num: Optional[float]
    #: Run a witness [default: 0]
    witness: Optional[int]
    #: Worker threads, each pinned to a core [default: one for each physical core except the first, within the CPU
    #: quota of a container, at most --parallel]
    workers: Optional[int]

    def __init__(
        self,
        *,
        abort_on: Optional[Union[str, Json]] = None,
        address_rotation: Optional[bool] = None,
        api: Optional[PathLike] = None,
        api_key: Optional[str] = None,
        apply_chat_template: Optional[bool] = None,
        arrival: Optional[str] = None,
        attn_implementation: Optional[str] = None,
        cacert: Optional[PathLike] = None,
        calibration: Optional[PathLike] = None,
        cert: Optional[PathLike] = None,
        cold: Optional[bool] = None,
        concurrency: Optional[Union[int, Sequence[int]]] = None,
        config: Optional[PathLike] = None,
        connect_timeout: Optional[float] = None,
        cores: Optional[Union[Union[int, str], Sequence[Union[int, str]]]] = None,
        csv: Optional[PathLike] = None,
        data_seed: Optional[int] = None,
        data_source: Optional[str] = None,
        dataset: Optional[PathLike] = None,
        dataset_args: Optional[Union[str, Json]] = None,
        dataset_offset: Optional[int] = None,
        dataset_path: Optional[PathLike] = None,
        debug: Optional[bool] = None,
        drain: Optional[float] = None,
        duration: Optional[float] = None,
        export: Optional[Union[str, Sequence[str], Mapping[str, Any]]] = None,
        extra_args: Optional[Union[str, Json]] = None,
        frequency_penalty: Optional[float] = None,
        gpus: Optional[int] = None,
        headers: Optional[Union[str, Sequence[str], Mapping[str, Any]]] = None,
        image_format: Optional[str] = None,
        image_height: Optional[int] = None,
        image_num: Optional[int] = None,
        image_width: Optional[int] = None,
        insecure: Optional[bool] = None,
        json: Optional[PathLike] = None,
        junit: Optional[PathLike] = None,
        key: Optional[PathLike] = None,
        language: Optional[str] = None,
        live: Optional[bool] = None,
        log_every_n_query: Optional[int] = None,
        log_level: Optional[str] = None,
        logprobs: Optional[bool] = None,
        max_prompt_length: Optional[int] = None,
        max_response_size: Optional[Union[int, str]] = None,
        max_tokens: Optional[Union[int, Sequence[int]]] = None,
        max_turns: Optional[int] = None,
        min_prompt_length: Optional[int] = None,
        min_tokens: Optional[int] = None,
        min_turns: Optional[int] = None,
        model: Optional[str] = None,
        multi_turn: Optional[bool] = None,
        n_choices: Optional[int] = None,
        name: Optional[str] = None,
        no_apply_chat_template: Optional[bool] = None,
        no_stream: Optional[bool] = None,
        no_test_connection: Optional[bool] = None,
        no_timestamp: Optional[bool] = None,
        number: Optional[Union[int, Sequence[int]]] = None,
        open_loop: Optional[bool] = None,
        outputs_dir: Optional[PathLike] = None,
        parallel: Optional[Union[int, Sequence[int]]] = None,
        port: Optional[int] = None,
        prefix_count: Optional[int] = None,
        prefix_length: Optional[int] = None,
        print_config: Optional[bool] = None,
        prompt: Optional[str] = None,
        proxy: Optional[str] = None,
        python: Optional[PathLike] = None,
        query_template: Optional[Union[str, Json]] = None,
        quiet: Optional[bool] = None,
        ramp: Optional[float] = None,
        rate: Optional[Union[float, Sequence[float]]] = None,
        read_timeout: Optional[float] = None,
        ready_timeout: Optional[float] = None,
        rendezvous: Optional[str] = None,
        rendezvous_timeout: Optional[float] = None,
        repeat: Optional[int] = None,
        repetition_penalty: Optional[float] = None,
        salt: Optional[int] = None,
        save: Optional[str] = None,
        scenario: Optional[Union[str, Sequence[str]]] = None,
        seed: Optional[int] = None,
        seed_per_request: Optional[bool] = None,
        server_args: Optional[Union[Union[str, int, float], Sequence[Union[str, int, float]]]] = None,
        server_metrics: Optional[Union[str, bool]] = None,
        shard: Optional[str] = None,
        shard_address: Optional[Union[str, bool]] = None,
        sharegpt_output_len: Optional[bool] = None,
        sla_auto_tune: Optional[bool] = None,
        sla_fixed_parallel: Optional[int] = None,
        sla_lower_bound: Optional[float] = None,
        sla_num_runs: Optional[int] = None,
        sla_number_multiplier: Optional[float] = None,
        sla_params: Optional[Union[Union[str, Json], Sequence[Union[str, Json]]]] = None,
        sla_precision: Optional[float] = None,
        sla_upper_bound: Optional[float] = None,
        sla_variable: Optional[str] = None,
        sleep_interval: Optional[float] = None,
        slo: Optional[Union[Union[str, Json], Sequence[Union[str, Json]]]] = None,
        source_address: Optional[Union[str, Sequence[str]]] = None,
        spin: Optional[bool] = None,
        stop: Optional[Union[str, Sequence[str]]] = None,
        stop_token_ids: Optional[Union[int, Sequence[int]]] = None,
        stream: Optional[bool] = None,
        swanlab_api_key: Optional[str] = None,
        temperature: Optional[float] = None,
        think_time: Optional[Union[float, Sequence[float]]] = None,
        tokenize_prompt: Optional[bool] = None,
        tokenizer_path: Optional[PathLike] = None,
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        total_timeout: Optional[float] = None,
        tp: Optional[int] = None,
        trace_block: Optional[int] = None,
        trace_speed: Optional[float] = None,
        trace_unit: Optional[str] = None,
        trace_window: Optional[str] = None,
        url: Optional[str] = None,
        verbose: Optional[bool] = None,
        visualizer: Optional[str] = None,
        wandb_api_key: Optional[str] = None,
        warmup_num: Optional[float] = None,
        witness: Optional[int] = None,
        workers: Optional[int] = None,
    ) -> None: ...
