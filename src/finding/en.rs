//! Findings in English: what happened, what it means for the figures, what to do. One sentence each.

use super::fields::numbers;
use super::{
    ApartFigure, Cause, CountKind, CountNote, Figure, Finding, Misfit, NotJudged, Oddity, OpenFiles, SearchReason,
    SearchTrouble, Severity, Text, UnequalPercentile, observed, percent,
};
use crate::time::format_ns;

const MORE_WORKERS: &str = "Use more --workers or cores.";
const QUIETER: &str = "Use more --workers or cores, a quieter machine, or a lower load.";

/// Headline above several symptoms of one cause; `None` where findings of one cause are separate problems.
pub(super) fn headline(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::ClientBusy => Some(
            "The load generator did not keep up: its own delays may be part of these figures. Use more --workers or \
             cores, a quieter machine, or a lower load.",
        ),
        Cause::ServerCapacity => Some(
            "The offered load exceeds the capacity of the server: the figures depend on the length of the run. Use a \
             lower --rate.",
        ),
        Cause::ServerAnswers
        | Cause::ServerMetrics
        | Cause::RequestBuilding
        | Cause::Network
        | Cause::Clock
        | Cause::Workload
        | Cause::Configuration
        | Cause::RunLength
        | Cause::Witness
        | Cause::Output
        | Cause::Bug
        | Cause::Unknown => None,
    }
}

/// The text of a finding.
pub(super) fn text(finding: &Finding) -> Text {
    match finding {
        Finding::ParallelNotUsed => {
            observed("--parallel is not used: --open-loop does not limit the number of requests in flight.")
        }
        Finding::CertificateNotVerified => observed(
            "The server's certificate is NOT verified (--insecure): anyone on the network path can read and change the \
             traffic.",
        ),
        Finding::ProxyVariableNotUsed { variable } => {
            observed(format!("{variable} is set but not used: requests go directly to the server."))
                .advise("Add --proxy env to use it.")
        }
        Finding::ProxyUsed { proxy } => {
            observed(format!("Requests go through the proxy {proxy}: its delay is part of the figures."))
        }
        Finding::ProxyNotUsed { url } => {
            observed(format!("--proxy is not used for {url}, which is reached directly."))
        }
        Finding::SeveralAddresses { host, used, spare, silent, rotated } => {
            let mut text = match rotated {
                true => format!("{host} has several addresses: connections are spread over {}", used.join(", ")),
                false => format!("{host} has several addresses: all connections go to {}", used.join(", ")),
            };
            if !spare.is_empty() {
                text.push_str(&format!("; {} would answer as well", spare.join(", ")));
            }
            if !silent.is_empty() {
                text.push_str(&format!("; {} did not answer", silent.join(", ")));
            }
            match spare.is_empty() {
                true => observed(text + "."),
                false => observed(text + ".").advise("--address-rotation spreads connections over all of them."),
            }
        }
        Finding::UrlCompleted { path, url } => {
            observed(format!("--url does not end in an endpoint of this API: {path} is used, requests go to {url}."))
        }
        Finding::TokenIdsRedirected { url } => observed(format!(
            "--tokenize-prompt sends token ids, which /chat/completions does not accept: requests go to {url}."
        )),
        Finding::BarePromptsRedirected { dataset, url } => {
            observed(format!("--dataset {dataset} sends prompts without a chat template: requests go to {url}."))
        }
        Finding::WitnessAddsLoad { connections, parallel, most_in_flight } => observed(format!(
            "--witness {connections} adds to the load of --parallel {parallel}: the server gets up to {most_in_flight} \
             requests at a time."
        )),
        Finding::WorkersShareCores { workers, cores } => {
            observed(format!("{workers} workers share {cores} cores, which causes receive lag."))
                .advise("Use fewer --workers.")
        }
        Finding::WorkersLeftOut { parallel, workers } => observed(format!(
            "--parallel {parallel} keeps only {parallel} of {workers} workers busy: the others are not started."
        )),
        Finding::CpuQuota { cores, workers, given: true } => observed(format!(
            "{workers} workers share the CPU quota of a control group, {cores:.1} cores: when it is used up, they are \
             stopped, which causes receive lag."
        ))
        .advise("Use fewer --workers or a higher quota."),
        Finding::CpuQuota { cores, workers, .. } => observed(format!(
            "A control group limits this process to the CPU time of {cores:.1} cores: the number of workers is {workers}."
        )),
        Finding::DatasetNotRead => observed("--prompt is given: the dataset is not read."),
        Finding::FieldsNotSent { api, flags } => {
            observed(format!("--api {api} has no field for {}: not sent.", flags.join(", ")))
                .advise("--extra-args can send any field.")
        }
        Finding::NotStreamed { api } => {
            observed(format!("--stream has no effect: --api {api} returns each response in one piece."))
        }
        Finding::TemplateLacks { stream: true } => observed(
            "--query-template does not ask for a stream, and only it decides what is sent: responses come in one piece, \
             without TTFT.",
        )
        .advise("Set stream to true in the template, or add --stream."),
        Finding::TemplateLacks { stream: false } => observed(
            "--query-template does not ask for usage, and only it decides what is sent: most servers then count no tokens \
             in a stream.",
        )
        .advise("Set stream_options.include_usage to true in the template, or use --tokenizer-path."),
        Finding::FlagsBesidePrompt { flags } => {
            observed(format!("--prompt is sent as it is; flags of the dataset that are not used: {}.", flags.join(", ")))
        }
        Finding::FlagsWithoutEffect { flags } => {
            observed(format!("No effect here, as they concern evalscope's own implementation: {}.", flags.join(", ")))
        }
        Finding::SameSeed => observed(
            "--seed and a temperature above 0: every request is sampled with the same seed, so similar prompts get similar \
             answers.",
        )
        .advise("--seed-per-request sends another seed with each request."),
        Finding::SamePrompt => {
            observed("--query-template has a prompt and no %p: every request is the same.")
        }
        Finding::BoundInSeconds { criterion, seconds } => observed(format!(
            "{criterion} is a bound of {seconds} s: times without a unit are in seconds."
        ))
        .advise("Add ms if milliseconds are meant."),
        Finding::CalibrationsUnreadable { reason } => observed(format!("Calibrations are not used: {reason}.")),
        Finding::CalibrationNotUsed { path, why } => {
            observed(format!("The calibration in {path} is not used: {}.", misfit(why)))
                .advise("Run 'ringmark rig --calibrate' for a new one.")
        }
        Finding::PromptLengths { off, made, worst_tokens } => observed(format!(
            "{off} of {made} random prompts do not have their exact length: the largest deviation is {}.",
            plural(*worst_tokens, "token")
        ))
        .advise("--tokenize-prompt sends token ids of the exact length."),
        Finding::PromptsRepeat { prompts, requests, most } => observed(format!(
            "The dataset has {} for {}: each is sent up to {}, and the server's prefix cache can answer all but the \
             first.",
            plural(*prompts, "prompt"),
            plural(*requests, "request"),
            plural(*most, "time"),
        ))
        .advise("Use a larger dataset or fewer requests to measure without repetition."),
        Finding::TraceRead { format, unit, block, rows } => observed(format!(
            "The trace is read as {format}: {rows} rows, times in {unit}, {block} tokens for each hash id."
        ))
        .advise("--trace-unit and --trace-block override this."),
        Finding::TraceRowsSkipped { skipped } => observed(format!(
            "Rows of the trace without input or output tokens: {skipped}. They are left out, so the load is lower than \
             recorded."
        )),
        Finding::TestRepeatsPrompt => observed(
            "The dataset has no body left for the connection test: a measured request was sent before, and the \
             server's prefix cache can answer it.",
        )
        .advise("Use a larger dataset or --no-test-connection."),
        Finding::WitnessRepeatsPrompts { prompts } => observed(format!(
            "The dataset has no prompts left for the witness: it sends the {prompts} measured ones as well, and the \
             server's prefix cache can answer the second of each pair.",
        ))
        .advise("Use a larger dataset."),
        Finding::ServerSharesCores => observed(
            "No core is left for the built-in server: these figures are those of client and server on the same cores.",
        ),
        Finding::MockLate { p99_ns } => observed(format!(
            "The built-in server sent late (p99 {}): this machine cannot generate the load.",
            format_ns(*p99_ns)
        ))
        .advise("Use a lower load."),
        Finding::WorkerNotPinned { worker, core } => {
            observed(format!("Worker {worker} could not be pinned to core {core}."))
        }
        Finding::ServerClosesConnections => observed(
            "The server closes each connection after one response without announcing it: every request needs a new \
             connection.",
        ),
        Finding::EpollRequested => observed("Receiving with epoll, because io_uring was switched off."),
        Finding::EpollInstead { reason } => {
            observed(format!("io_uring is not available ({reason}): receiving with epoll instead."))
        }
        Finding::ServerDied { reason, after_s } => observed(format!(
            "The server process ended {}. Only figures of the time before describe it: {reason}",
            time_of_end(*after_s)
        )),
        Finding::ServerEnded { after_s } => observed(format!(
            "The server ended {}: it refused connections from then to the end of the run. Only figures of the time \
             before describe it.",
            time_of_end(*after_s)
        ))
        .advise("See the log of the server, and run again."),
        Finding::VisualizerLost { points, service } => observed(format!(
            "{points} points of the curves did not reach {service}, which was too slow; the results are complete."
        )),
        Finding::WitnessMissing { reason } => observed(format!("The witness did not run: {reason}.")),
        Finding::MetricsUnavailable { reason } => {
            observed(format!("The server's metrics cannot be read: {reason}."))
        }
        Finding::MetricsFailed { failed, asked, url, reason } => observed(format!(
            "{failed} of {asked} reads of the server's metrics ({url}) failed: {reason}. The run is not affected."
        ))
        .advise("Give their address with --server-metrics URL."),
        Finding::MetricsUnknown { url } => observed(format!(
            "The page {url} has no metrics of vLLM, SGLang, TGI, LMDeploy or llama.cpp: it is stored, but nothing can \
             be compared."
        )),
        Finding::ProgramFailed { program, reason, responses_kept } => {
            let kept = if *responses_kept { "; the responses are in the database" } else { "" };
            observed(format!(
                "--api {program} parse: {reason}. Token counts and texts are those read while the responses \
                 arrived{kept}."
            ))
        }
        Finding::Shards { shards } => observed(format!(
            "{shards} processes that ran at the same time on one machine, with one clock, were merged into one run."
        )),
        Finding::ProcessClocksUnknown { processes } => observed(format!(
            "The clocks of these {processes} processes differ by an unknown amount, because they ran on several machines or an \
             earlier version stored them: duration, throughput, rates and concurrency of all of them are unknown. Figures of \
             single requests are not affected."
        ))
        .advise("Start them with --shard and --rendezvous, which measure how clocks differ."),
        Finding::ShardClocks { error_ns, span_ns } => observed(format!(
            "The clocks of the shards' machines are aligned within ±{} over {}: throughput, rates and concurrency of all \
             shards are as exact as that. Figures of single requests are not affected.",
            format_ns(*error_ns),
            format_ns(*span_ns)
        )),
        Finding::ShardClocksUnknown { shards } => observed(format!(
            "It is not known how the clocks of shard 0 and shard {} differ: throughput, rates and concurrency of \
             all shards cannot be computed from their wall clocks. Figures of single requests are not affected.",
            numbers(shards)
        ))
        .advise("Start the shards with --rendezvous tcp:, dir: or pmi, which measure it."),
        Finding::ShardClockJumped { shard, after_ns } => observed(format!(
            "The clocks of shard 0 and shard {shard} fit no constant difference: one of them jumped, at the latest {} after \
             the start.",
            format_ns(*after_ns)
        ))
        .advise("Check that nothing suspends these machines, then run again."),
        Finding::ShardEnded { shard, until_ns, killed: true } => observed(format!(
            "Shard {shard} was killed. Its records are complete for the first {}: the figures are those of all shards until \
             then.",
            format_ns(*until_ns)
        )),
        Finding::ShardEnded { shard, until_ns, killed: false } => observed(format!(
            "Shard {shard} was ended {} after the start, and the others went on: the figures are those of all shards until \
             then.",
            format_ns(*until_ns)
        )),
        Finding::ShardRowsLost { shard, requests, until_ns } => observed(format!(
            "Shard {shard}: {} not written to its database. Its records are complete for the first {}: the figures are those \
             of all shards until then.",
            were(*requests),
            format_ns(*until_ns)
        ))
        .advise("Free space on the disk of its results and run again."),
        Finding::ShardLate { shard, late_ns } => observed(format!(
            "Shard {shard} began {} after the start that all shards had agreed on: requests that were due before are left out \
             of the figures.",
            format_ns(*late_ns)
        ))
        .advise("Check what stopped or delayed this process."),
        Finding::ShardsNeverTogether { shards } => observed(format!(
            "There is no time in which all {shards} shards measured: the figures are not those of the load."
        ))
        .advise("Run again."),
        Finding::ShardsShareCores { shards, cores } => observed(format!(
            "On one machine, workers of shards {} ran on the same {} ({}) and delayed each other.",
            numbers(shards),
            if cores.len() == 1 { "core" } else { "cores" },
            numbers(cores)
        ))
        .advise("Give each shard on that machine its own cores with --cores, or start one shard on each machine."),
        Finding::ShardsUneven { shard, alone_ns, span_ns } => observed(format!(
            "Shard {shard} had done its part {} before the end of the run of {}: after that, only a part of the load was \
             offered.",
            format_ns(*alone_ns),
            format_ns(*span_ns)
        ))
        .advise("Use --duration, which ends all shards at the same time."),
        Finding::ShardSlow { shard, send_lag_p99_ns, others_p99_ns } => observed(format!(
            "Shard {shard} is the slowest: its p99 send lag is {}, the median of the others {}.",
            format_ns(*send_lag_p99_ns),
            format_ns(*others_p99_ns)
        ))
        .advise("Check its machine with 'ringmark rig', or use more shards."),
        Finding::ShardsSamePrompts { shards } => observed(format!(
            "{shards} processes sent the same prompts: a server with a prefix cache computes each of them once only."
        ))
        .advise("Start them with --shard, or give each another --salt or --dataset-offset."),
        Finding::ShardsMissing { missing, killed, shards, .. } => {
            let what = [(missing, ["has no database", "have no database"]), (killed, ["was killed", "were killed"])];
            let parts = what.into_iter().filter(|(list, _)| !list.is_empty());
            let part = |(list, what): (&Vec<u32>, [&str; 2])| match list.len() {
                1 => format!("shard {} {}", numbers(list), what[0]),
                _ => format!("shards {} {}", numbers(list), what[1]),
            };
            let parts: Vec<String> = parts.map(part).collect();
            observed(format!(
                "Of {shards} shards, {}: the figures lack a part of the load.",
                parts.join(", and ")
            ))
            .advise("Add the database, or run again.")
        }
        Finding::RecordsLost { scheduled, accounted } => observed(format!(
            "{scheduled} requests were scheduled but {accounted} are accounted for: records were lost."
        ))
        .advise("Run again; if it happens again, report a bug."),
        Finding::RowsLost { requests } => {
            observed(format!("{} not written to the database.", were(*requests)))
                .advise("Free space on its disk and run again.")
        }
        Finding::LittlesLaw { mean, expected } => observed(format!(
            "Little's law does not hold: {mean:.2} requests were in flight on average, rate times latency gives \
             {expected:.2}. Records were lost or timestamps are wrong."
        ))
        .advise("Run again and report a bug."),
        Finding::CapExceeded { peak, parallel } => {
            observed(format!("{peak} requests were in flight at a time, --parallel allows {parallel}."))
                .advise("Report a bug.")
        }
        Finding::Killed => observed(
            "The run was killed: these figures are those of the requests stored by then, and the client's own error is \
             unknown.",
        ),
        Finding::Interrupted { unsent, unfinished } => {
            let [unsent_were, unfinished_were] = [*unsent, *unfinished].map(were);
            observed(match (unsent, unfinished) {
                (0, 0) => "The run was interrupted.".to_string(),
                (_, 0) => format!("The run was interrupted: {unsent_were} not sent."),
                (0, _) => format!("The run was interrupted: {unfinished_were} still in flight at its end."),
                _ => format!(
                    "The run was interrupted: {unsent_were} not sent, and {unfinished_were} still in flight at its end."
                ),
            })
        }
        Finding::Aborted { criterion, failed, ended, unsent } => observed(format!(
            "--abort-on '{criterion}' ended the run: {failed} of {} failed, and {} not sent. The figures are those of the \
             requests before.",
            plural(*ended, "request"),
            were(*unsent)
        ))
        .advise("See the table of failures."),
        Finding::AbortedInWarmUp { criterion, failed, ended } => observed(format!(
            "--abort-on '{criterion}' ended the run in its warm-up: {failed} of {} failed.",
            plural(*ended, "warm-up request")
        ))
        .advise("Look at the log of the server."),
        Finding::AllFailed { unfinished: 0 } => {
            observed("Every request failed.").advise("See the table of failures.")
        }
        Finding::AllFailed { .. } => {
            observed("Every request that ended failed.").advise("See the table of failures.")
        }
        Finding::Failures { share } => observed(format!(
            "{} of the requests failed: latencies are those of the successful ones only, which may have been faster \
             because of it.",
            percent(*share)
        ))
        .advise("See the table of failures."),
        Finding::StreamOptionsRefused { requests } => observed(format!(
            "The server refused stream_options, which requests token counts, in {}.",
            plural(*requests, "request")
        ))
        .advise("Use --extra-args '{\"stream_options\": null}' to leave the field out."),
        Finding::NoneFinished { in_flight, interrupted } => {
            observed(format!("No request ended before the run did ({in_flight} were in flight)."))
                .advise(longer(*interrupted))
        }
        Finding::Unfinished { share, unfinished, sent, interrupted } => observed(format!(
            "{} of the requests sent ({unfinished} of {sent}) had not ended when the run did: latencies are those of \
             the others only, and the longest responses are missing.",
            percent(*share)
        ))
        .advise(longer(*interrupted)),
        Finding::BrokenConversations { broken, begun } => observed(format!(
            "{broken} of {begun} conversations ended with a failed turn: their later turns count as unsent."
        )),
        Finding::SendLag { p99_ns, median_ttft_ns, of_latency, .. } => observed(format!(
            "p99 send lag was {}: 1 % of the requests were sent at least that long after their scheduled time (median \
             {} {}). {}",
            format_ns(*p99_ns),
            if *of_latency { "latency" } else { "TTFT" },
            format_ns(*median_ttft_ns),
            included_in(*of_latency)
        ))
        .advise("Use more --workers or cores, a lower rate, or --spin."),
        Finding::RequestsBuiltLate { requests, max_ns, median_ttft_ns, of_latency, .. } => observed(format!(
            "{} waited up to {} for the threads that build requests during the run, which did not keep up with the load \
             (median {} {}). {}",
            plural(*requests, "request"),
            format_ns(*max_ns),
            if *of_latency { "latency" } else { "TTFT" },
            format_ns(*median_ttft_ns),
            included_in(*of_latency)
        ))
        .advise("Use --number, with which all requests are built before the run, fewer --workers, or a lower load."),
        Finding::RateNotKept { offered_per_s, sent_per_s } => observed(format!(
            "The schedule offered {offered_per_s:.2} requests/s, but {sent_per_s:.2} were sent: the server did not get \
             the planned load. All times count from the scheduled one, so they include the delay (no coordinated omission)."
        ))
        .advise("Use more --workers or cores, or a lower rate."),
        Finding::RateWithoutConnections { offered_per_s, sent_per_s, requests } => observed(format!(
            "The schedule offered {offered_per_s:.2} requests/s, but {sent_per_s:.2} were sent: {} left without a \
             connection.",
            were(*requests)
        ))
        .advise("See the table of failures."),
        Finding::RateHeldBack { severity, offered_per_s, sent_per_s, parallel, held_share, mean_wait_ns, needed } => {
            let kept = match severity {
                Severity::Note => "The rate was kept, but requests waited for a free slot",
                Severity::Caution | Severity::Void => "The server did not get the scheduled load",
            };
            observed(format!(
                "--parallel {parallel} held requests back: {offered_per_s:.2} requests/s were scheduled and \
                 {sent_per_s:.2} sent. {kept}: {} of the requests waited for one of the slots, and their times contain \
                 that wait ({} on average).",
                percent(*held_share),
                format_ns(*mean_wait_ns)
            ))
            .advise(format!("Use --parallel {needed} or more, --open-loop, or a lower --rate."))
        }
        Finding::ScheduleCount { requests, expected, rate_per_s, span_s } => observed(format!(
            "The random schedule has {requests} requests in {span_s:.2} s, where {rate_per_s} requests/s give \
             {expected:.1} on average: the offered load differs from --rate by chance."
        ))
        .advise("Use a larger --number, another --data-seed, or --arrival constant."),
        Finding::Tail { tail_s, share, requests, total_per_s, steady_per_s, .. } => observed(format!(
            "The last {tail_s:.2} s of the run ({} of its time) waited for few requests ({requests} in the middle of \
             it): throughput is {total_per_s:.2} requests/s over the whole run, and {steady_per_s:.2} before.",
            percent(*share)
        ))
        .advise("Use the steady throughput, and look at the slowest requests."),
        Finding::Stragglers { requests, share, longest_ns, median_ns } => observed(format!(
            "{} in flight for up to {} (the median is {}), {} of the slots' time: throughput is lower by about as much.",
            were(*requests),
            format_ns(*longest_ns),
            format_ns(*median_ns),
            percent(*share)
        ))
        .advise("Look at the slowest requests, and use a lower --read-timeout if they hang."),
        Finding::LossTail { figure, percentile, value_ns, above, with_loss, all_with_loss, recorded } => {
            observed(format!(
                "{} {figure}: {with_loss} of the {above} requests at or above it ({}) had retransmissions: segments of them \
                 were sent again or arrived out of order. Of all {recorded} requests, {all_with_loss} had. The network, not \
                 the server, makes this tail.",
                percentile_name(percentile),
                format_ns(*value_ns)
            ))
            .advise("Check the network between this machine and the server, or measure on the server's machine.")
        }
        Finding::ShortAnswers { short, answers, asked_tokens, mean_tokens } => {
            let asked = asked_tokens.map_or_else(String::new, |asked| format!(" {asked} tokens were asked for."));
            let mean = mean_tokens.map_or_else(String::new, |mean| format!(" The mean is {mean:.1} tokens."));
            observed(format!(
                "{short} of {answers} answers are shorter than asked although ignore_eos is sent: the server does less \
                 work than planned.{asked}{mean}"
            ))
            .advise("Check whether the server supports ignore_eos, or use --min-tokens.")
        }
        Finding::CachedTokens { share, shares_nothing, by_metrics, .. } => {
            let meaning = match shares_nothing {
                true => "although the prompts share nothing on purpose: the figures are not those of a cold cache",
                false => "so the figures are not those of a cold cache",
            };
            let source = if *by_metrics { "According to its metrics, the server had" } else { "The server had" };
            let text = format!("{source} {} of the input tokens in its prefix cache, {meaning}.", percent(*share));
            match shares_nothing {
                true => observed(text).advise(
                    "Check that --salt is not repeated, use longer prompts if the chat template is the shared part, or \
                     turn prefix caching off.",
                ),
                false => observed(text),
            }
        }
        Finding::Growth { early, late } => observed(format!(
            "The number of requests in flight grew through the run, from {early:.1} to {late:.1}: the arrival rate \
             exceeds the capacity of the server, and the figures depend on the length of the run."
        ))
        .advise("Use a lower --rate."),
        Finding::FewConversations { mean, parallel } => observed(format!(
            "{mean:.1} requests were in flight on average, but --parallel is {parallel}: near the end, fewer conversations \
             were left than slots."
        ))
        .advise("Use a higher --number, or --duration, for a constant concurrency."),
        Finding::IdleSlots { mean, parallel } => observed(format!(
            "{mean:.1} requests were in flight on average, but --parallel is {parallel}: slots were idle between two \
             requests (see the turnaround)."
        ))
        .advise(MORE_WORKERS),
        Finding::ReceiveLag { p99_ns, median_itl_ns, shared_timestamps } => {
            let lag = receive_lag(*p99_ns, *median_itl_ns);
            let means = if *shared_timestamps {
                "Arrival times come from the kernel, but tokens that came in one read share the timestamp of the last \
                 one: see the bounds of ITL."
            } else {
                "Arrival times come from the kernel, so the figures stand; only the next sends are delayed."
            };
            observed(format!("{lag} {means}"))
        }
        Finding::ReceiveLagUnstamped { p99_ns, median_itl_ns, unstamped_share } => observed(format!(
            "{} {} of the reads have no kernel timestamp and include this error.",
            receive_lag(*p99_ns, *median_itl_ns),
            percent(*unstamped_share)
        ))
        .advise(MORE_WORKERS),
        Finding::NoTimestamps { share } => observed(format!(
            "{} of the reads have no kernel receive timestamp (Unix sockets never have one): their arrival is the time \
             at which they were processed, late by the receive lag.",
            percent(*share)
        )),
        Finding::CoalescedReads { share, poll_gaps } => {
            let reason = match poll_gaps {
                true => "they queued while the client did not poll, or the server or a proxy sends them together",
                false => "the server or a proxy sends them together, or they queued on the way",
            };
            observed(format!(
                "{} of the reads carried two or more output events: {reason}. Events of one read share a timestamp, so \
                 low ITL percentiles are 0; TPOT and latency are not affected.",
                percent(*share)
            ))
        }
        Finding::AtOnce => observed(
            "At least half of the responses came in one piece, although they have several tokens: TPOT is 0 because the \
             time between the tokens is not known, and TTFT is the whole latency. The server or a proxy buffers the \
             output.",
        ),
        Finding::SeveralTokensPerEvent { tokens_per_event, median_itl_ns, median_tpot_ns, mean_low_ns, mean_high_ns } => {
            let range = mean_low_ns.zip(*mean_high_ns).map_or_else(String::new, |(low, high)| {
                format!(
                    " TPOT is between {} and {} on average: when the tokens of the first and the last event began is not \
                     known.",
                    format_ns(low),
                    format_ns(high)
                )
            });
            observed(format!(
                "An output event carries {tokens_per_event:.1} tokens on average: ITL (median {}) is the time between \
                 events, TPOT (median {}) the time per token.{range}",
                format_ns(*median_itl_ns),
                format_ns(*median_tpot_ns)
            ))
        }
        Finding::OddResponses { oddities, succeeded } => {
            let counted = oddities.iter().map(|count| format!("{} ({})", odd(count.oddity), count.responses));
            observed(format!(
                "Some of {succeeded} responses were unusual but readable, and count as successes: {}.",
                counted.collect::<Vec<_>>().join("; ")
            ))
        }
        Finding::TpotRange { requests, succeeded, value_s, low_s, high_s } => {
            let [value, low, high] = [value_s, low_s, high_s].map(|s| format_ns((s * 1e9) as u64));
            observed(format!(
                "TPOT is between {low} and {high} on average: {requests} of {succeeded} answers have more tokens than \
                 events, because a parser swallows some or an event has several. The value shown, {value}, is the most \
                 plausible one by the pace of the events, and objectives use it."
            ))
        }
        Finding::NoTokenCounts => {
            observed("The server sent no token counts: figures that need them are shown as '-'.")
        }
        Finding::TokenCountsMissing { missing, answers } => observed(format!(
            "{missing} of {answers} responses came without token counts: token throughput is a lower bound, and figures \
             per request are those of the others."
        )),
        Finding::ForcedSwitches { per_worker_per_s } => observed(format!(
            "Workers were preempted {per_worker_per_s:.0} times per second each: other programs run on their cores."
        ))
        .advise("Stop them, or choose idle --cores."),
        Finding::Retried { requests } => observed(format!(
            "{} sent again on a new connection, because the server had closed the reused one without announcing it.",
            were(*requests)
        )),
        Finding::BusyWorkers { busy, workers, limit_share, max_share } => observed(format!(
            "{busy} of {workers} workers used more than {} of their core (the busiest {}): they may delay the load.",
            percent(*limit_share),
            percent(*max_share)
        ))
        .advise(MORE_WORKERS),
        Finding::WorkersNotPinned { workers } => {
            observed(format!("{} could not be pinned to a core.", plural(*workers as u64, "worker")))
                .advise("Choose --cores that exist.")
        }
        Finding::BufferShortages { shortages } => observed(format!(
            "The receive ring ran out of buffers {}: data waited in the kernel, timestamps are not affected.",
            plural(*shortages, "time")
        )),
        Finding::WarmUp { figure, requests, with_s, without_s, warmup_num } => observed(format!(
            "The first {requests} requests look like a warm-up (MSER-5): the average {} is {with_s:.3} s with them and \
             {without_s:.3} s without.",
            in_sentence(*figure)
        ))
        .advise(match warmup_num {
            Some(number) => format!("Use --warmup-num {number} if only the steady state matters."),
            None => "Use a larger --warmup-num if only the steady state matters.".to_string(),
        }),
        Finding::WarmUpSmall { warmup, parallel } => observed(format!(
            "--warmup-num {warmup} does not fill the {parallel} slots: the other slots start with measured requests, \
             which all meet an idle server at once."
        ))
        .advise(format!("Use --warmup-num {parallel} or more if only the steady state matters.")),
        Finding::Drift { from_s, to_s, open_loop } => {
            let way = if to_s > from_s { "rose" } else { "fell" };
            let advice = match *open_loop && to_s > from_s {
                true => "Use a lower --rate, or a longer run.",
                false => "Use a longer run, or more --warmup-num.",
            };
            observed(format!(
                "The average latency {way} through the run, from {from_s:.3} s to {to_s:.3} s: there was no steady \
                 state, and the figures depend on the length of the run."
            ))
            .advise(advice)
        }
        Finding::CalibrationMisfit { why, timestamp_error_ns } => observed(format!(
            "The calibration of this machine does not fit this run: {}. The error of timestamps is taken as {}.",
            misfit(why),
            format_ns(*timestamp_error_ns)
        ))
        .advise("Run 'ringmark rig --calibrate' with this load for a better value."),
        Finding::PollGaps { share, by_ns, longest_ns } => observed(format!(
            "A worker did not poll for up to {}: events that queued on one connection during that time share the \
             timestamp of the last one. {} of the gaps between tokens may be off by up to {}: ITL has gaps that are too \
             long and zeros after them; see the bounds.",
            format_ns(*longest_ns),
            percent(*share),
            format_ns(*by_ns)
        ))
        .advise(QUIETER),
        Finding::OwnError { figure, percentile, by_ns, value_ns, .. } => observed(format!(
            "Measurement error may have moved {} of {} by {} (measured: {}): see the bounds.",
            percentile_name(percentile),
            in_sentence(*figure),
            format_ns(*by_ns),
            format_ns(*value_ns)
        ))
        .advise(QUIETER),
        Finding::ServerApart { figure, server, by_ns, longer_here, also, equal_counts } => {
            let meaning = match (longer_here, equal_counts) {
                (true, _) => "Tokens were delayed on the way, or its metric does not cover the whole time.",
                (false, true) => {
                    "No delay on the way can explain a shorter time here, and both sides counted the same requests: its \
                     metric covers more than this time."
                }
                (false, false) => {
                    "No delay on the way can explain a shorter time here: its metric covers other requests, or more than \
                     this time."
                }
            };
            observed(format!(
                "{figure} measured here is {} than {server} reports, by {} more than its buckets and measurement error \
                 allow{}. {meaning}",
                longer_or_shorter(*longer_here),
                format_ns(*by_ns),
                also_apart(also)
            ))
        }
        Finding::FrontendTime { server, by_ns, share } => observed(format!(
            "{} of TTFT ({}) passed outside of what {server} measures: in the network, in its HTTP frontend, or in a proxy.",
            format_ns(*by_ns),
            percent(*share)
        )),
        Finding::ServerCounts { server, counts } => {
            let one = |count: &super::UnequalCount| {
                let quantity = match count.quantity {
                    CountKind::Requests => "requests",
                    CountKind::PromptTokens => "prompt tokens",
                    CountKind::OutputTokens => "output tokens",
                };
                format!("{quantity} {} (client), {} (server)", count.client, count.server)
            };
            let counts: Vec<String> = counts.iter().map(one).collect();
            observed(format!("The counts of {server} differ from those of the client: {}.", counts.join("; ")))
        }
        Finding::ServerRestarted { server } => {
            observed(format!("The counters of {server} were reset during the run: the server was restarted."))
        }
        Finding::ServerTimesApart { figure, by_ns, longer_here, also } => {
            let meaning = match longer_here {
                true => "Tokens were delayed on the way, or its interval does not cover the whole time.",
                false => "No delay on the way can explain a shorter time here: its interval covers more than this time.",
            };
            observed(format!(
                "Request by request, {} is {} here than the server reports in its answers, by {} more than measurement \
                 error allows{}. {meaning}",
                in_sentence(*figure),
                longer_or_shorter(*longer_here),
                format_ns(*by_ns),
                also_apart(also)
            ))
        }
        Finding::WitnessTooFew { figures, requests } => {
            let figures: Vec<String> = figures.iter().map(Figure::to_string).collect();
            observed(format!(
                "The witness has too few samples of {} to compare ({} during the load).",
                figures.join(" and "),
                plural(*requests as u64, "request")
            ))
            .advise("Use a longer run, or more connections with --witness.")
        }
        Finding::WitnessFailed { failed, requests } => {
            observed(format!("{failed} of the {requests} requests of the witness failed."))
        }
        Finding::WitnessDiffers { figure, percentiles } => {
            let one = |at: &UnequalPercentile| {
                let side = if at.difference_ns > 0 { "more" } else { "less" };
                let [load, witness, by] = [at.load_ns, at.witness_ns, at.difference_ns.unsigned_abs()].map(format_ns);
                format!("p{} is {load} for the load, {witness} for the witness ({by} {side})", at.percentile)
            };
            let percentiles: Vec<String> = percentiles.iter().map(one).collect();
            observed(format!(
                "The witness measured a different {} than the load: {}. Either the server treats the requests of the load \
                 differently (their order, their number on a connection, a cache), or the load generator delays them: \
                 see the client's own figures.",
                in_sentence(*figure),
                percentiles.join("; ")
            ))
        }
        Finding::Stored { text, .. } => observed(text.clone()),
    }
}

fn receive_lag(p99_ns: u64, median_itl_ns: u64) -> String {
    format!(
        "p99 receive lag was {}: 1 % of the reads were processed at least that long after they had arrived (median ITL \
         {}).",
        format_ns(p99_ns),
        format_ns(median_itl_ns)
    )
}

/// The times that contain a wait before sending: of a run without streams the latency only.
fn included_in(of_latency: bool) -> &'static str {
    if of_latency { "Latency includes it." } else { "TTFT and latency include it." }
}

/// Advice for a run that was too short; none if the user interrupted it.
fn longer(interrupted: bool) -> &'static str {
    if interrupted { "" } else { "Use a longer --drain or --duration." }
}

fn in_sentence(figure: Figure) -> String {
    match figure {
        Figure::Latency => "latency".to_string(),
        abbreviation => abbreviation.to_string(),
    }
}

/// A count with its noun in the right number.
fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The beginning of a sentence about this many requests.
fn were(count: u64) -> String {
    if count == 1 { "1 request was".to_string() } else { format!("{count} requests were") }
}

/// A level such as `50%` or `max`, as a percentile is called in a sentence.
pub(super) fn percentile_name(level: &str) -> String {
    level.strip_suffix('%').map_or_else(|| level.to_string(), |percent| format!("p{percent}"))
}

fn longer_or_shorter(longer: bool) -> &'static str {
    if longer { "longer" } else { "shorter" }
}

/// The other times that differ, in parentheses.
fn also_apart(also: &[ApartFigure]) -> String {
    let one = |apart: &ApartFigure| {
        format!("{} {} by {}", in_sentence(apart.figure), longer_or_shorter(apart.longer_here), format_ns(apart.by_ns))
    };
    let all: Vec<String> = also.iter().map(one).collect();
    if all.is_empty() { String::new() } else { format!(" (also {})", all.join(", ")) }
}

/// Why a time is not judged.
pub(super) fn not_judged(why: NotJudged) -> String {
    match why {
        NotJudged::PrefillIncluded => "inference time over tokens, the prefill included".to_string(),
        NotJudged::MeanOverTokens => "the server's mean over all tokens".to_string(),
        NotJudged::Killed => "the run was killed before the last scrape".to_string(),
        NotJudged::NotStreamed => "the answers were not streamed".to_string(),
        NotJudged::EachChoice { choices } => format!("the server measures each of the {choices} choices"),
        NotJudged::NothingObserved => "nothing was observed".to_string(),
        NotJudged::DifferentCounts { client, server, with_witness, gaps } => {
            let witness = if with_witness { ", both with the witness" } else { "" };
            let reason = if gaps { "the events are not the server's tokens" } else { "they are not the same requests" };
            format!("{client} client, {server} server{witness}: {reason}")
        }
    }
}

/// A remark on a count.
pub(super) fn count_note(note: CountNote) -> String {
    match note {
        CountNote::NoTokenCounts => "the responses had no token counts".to_string(),
        CountNote::NotSucceeded { requests } => {
            format!("{} did not succeed; the server may count them", plural(requests, "request"))
        }
        CountNote::WithoutCached => "without those in its cache".to_string(),
        CountNote::EachChoice { choices } => format!("the server counts each of the {choices} choices"),
    }
}

/// What is unusual about a response.
fn odd(oddity: Oddity) -> &'static str {
    match oddity {
        Oddity::InvalidText => "invalid UTF-8 or lone surrogates in JSON, replaced by U+FFFD",
        Oddity::InvalidNumbers => "numbers that JSON cannot represent, read as null",
        Oddity::MissingBlankLines => "no blank line between events",
        Oddity::Heartbeats => "heartbeats as data that is not JSON, ignored",
        Oddity::MediaType => "events under a media type other than text/event-stream",
        Oddity::OpenAfterEnd => "the body stayed open after the end event, which counts as the end",
        Oddity::ZeroUsage => "usage of zero tokens despite output, treated as missing",
        Oddity::FewerTokensThanEvents => "usage with fewer output tokens than events with output",
    }
}

/// Why a calibration does not fit.
pub(super) fn misfit(why: &Misfit) -> String {
    match why {
        Misfit::OtherMachine => "it was measured on another machine or kernel".to_string(),
        Misfit::Old { days } => format!("it is {days} days old"),
        Misfit::Parallel { calibrated, run } => {
            format!("it was measured with --parallel {calibrated}, this run had {run}")
        }
        Misfit::Rate { calibrated_per_s, run_per_s } => {
            format!("it was measured at {calibrated_per_s} requests/s, this run had {run_per_s}")
        }
        Misfit::Events { calibrated_per_s, run_per_s } => {
            format!("it was measured at {calibrated_per_s:.0} events/s, this run had {run_per_s:.0}")
        }
        Misfit::NoTimestamps => "it has no timestamps".to_string(),
    }
}

/// Why a search selected a load.
pub(super) fn search_reason(reason: &SearchReason) -> String {
    match reason {
        SearchReason::HoldsToUpperBound => "holds up to the upper bound".to_string(),
        SearchReason::FailsAtLowerBound { lower } => format!("fails even at the lower bound, {lower}"),
        SearchReason::HoldsHere { fails_at } => format!("holds here, fails at {fails_at}"),
        SearchReason::HoldsAgain { fails_at, holds_at } => {
            format!("holds here, fails at {fails_at}, and holds again at {holds_at}: the runs vary a lot")
        }
        SearchReason::Between { too_little_at, fails_at } => {
            format!("at {too_little_at} a figure is too low, at {fails_at} other conditions fail")
        }
        SearchReason::TooLittleEverywhere => "a figure is too low at every tested load".to_string(),
        SearchReason::Best => "the best tested load".to_string(),
        SearchReason::NoneUsable => "at no tested load did all requests succeed and have this figure".to_string(),
        SearchReason::Undecided { has_best: true } => "not decided: the best load so far".to_string(),
        SearchReason::Undecided { has_best: false } => "not decided".to_string(),
    }
}

/// Why the figures of a load do not count.
pub(super) fn search_trouble(trouble: &SearchTrouble) -> String {
    match trouble {
        SearchTrouble::Void { run } => format!("run {run} is void"),
        SearchTrouble::Failed { run, succeeded, sent } => {
            format!("run {run}: {succeeded} of {sent} requests succeeded")
        }
        SearchTrouble::OpenFiles(files) => open_files(*files),
        SearchTrouble::Refused(text) => text.clone(),
    }
}

/// Why a load cannot be offered.
pub(super) fn open_files(files: OpenFiles) -> String {
    let OpenFiles { parallel, needed, limit, with_mock } = files;
    let instead = if with_mock { "or run 'ringmark mock' in another terminal" } else { "or lower --parallel" };
    format!(
        "--parallel {parallel} needs {needed} open files, but the limit of this process is {limit}: raise 'ulimit -n', \
         {instead}"
    )
}

fn time_of_end(after_s: Option<f64>) -> String {
    after_s.map_or("during the run".to_string(), |seconds| format!("{seconds:.1} s after the start of the measurement"))
}
