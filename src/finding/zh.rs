//! Findings in Chinese: what happened, what it means for the figures, what to do. The terms are those of the glossary.

use super::fields::numbers;
use super::{
    ApartFigure, Cause, CountNote, Figure, Finding, Misfit, NotJudged, Oddity, OpenFiles, SearchReason, SearchTrouble,
    Severity, Text, UnequalCount, UnequalPercentile, observed, percent,
};
use crate::time::format_ns;

const MORE_WORKERS: &str = "请增加 --workers 或 CPU 核心。";
const QUIETER: &str = "请增加 --workers 或 CPU 核心，换用更空闲的机器，或降低负载。";

/// Headline above several symptoms of one cause; `None` where findings of one cause are separate problems.
pub(super) fn headline(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::ClientBusy => Some(
            "压测客户端跟不上负载，其自身延迟可能已计入结果。请增加 --workers 或 CPU 核心，换用更空闲的机器，或降低负载。",
        ),
        Cause::ServerCapacity => Some("负载超过服务端的处理能力，结果取决于测试时长。请降低 --rate。"),
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
        Finding::ParallelNotUsed => observed("--parallel 不起作用：--open-loop 不限制在途请求数。"),
        Finding::CertificateNotVerified => {
            observed("未验证服务端证书（--insecure）：链路上的任何人都可能读取或篡改流量。")
        }
        Finding::ProxyVariableNotUsed { variable } => {
            observed(format!("已设置 {variable} 但未使用：请求直连服务端。")).advise("如需使用，请加 --proxy env。")
        }
        Finding::ProxyUsed { proxy } => observed(format!("请求经过代理 {proxy}：代理的延迟计入结果。")),
        Finding::ProxyNotUsed { url } => observed(format!("--proxy 不用于 {url}：请求直连该地址。")),
        Finding::SeveralAddresses { host, used, spare, silent, rotated } => {
            let mut text = match rotated {
                true => format!("{host} 有多个地址：连接轮流使用 {}", used.join("、")),
                false => format!("{host} 有多个地址：所有连接都使用 {}", used.join("、")),
            };
            if !spare.is_empty() {
                text.push_str(&format!("；{} 也可连接", spare.join("、")));
            }
            if !silent.is_empty() {
                text.push_str(&format!("；{} 无应答", silent.join("、")));
            }
            match spare.is_empty() {
                true => observed(text + "。"),
                false => observed(text + "。").advise("加 --address-rotation 可让连接轮流使用全部地址。"),
            }
        }
        Finding::UrlCompleted { path, url } => {
            observed(format!("--url 不含该 API 的端点：已补全 {path}，请求发往 {url}。"))
        }
        Finding::TokenIdsRedirected { url } => observed(format!(
            "--tokenize-prompt 发送 token id，而 /chat/completions 不支持：请求改发往 {url}。"
        )),
        Finding::BarePromptsRedirected { dataset, url } => {
            observed(format!("--dataset {dataset} 的提示词不使用对话模板：请求改发往 {url}。"))
        }
        Finding::WitnessAddsLoad { connections, parallel, most_in_flight } => observed(format!(
            "--witness {connections} 会叠加在 --parallel {parallel} 的负载之上：服务端最多同时处理 {most_in_flight} 个请求。"
        )),
        Finding::WorkersShareCores { workers, cores } => {
            observed(format!("{workers} 个工作线程共用 {cores} 个核心，会造成接收滞后。")).advise("请减少 --workers。")
        }
        Finding::WorkersLeftOut { parallel, workers } => observed(format!(
            "--parallel {parallel} 只能用满 {workers} 个工作线程中的 {parallel} 个：其余线程不启动。"
        )),
        Finding::CpuQuota { cores, workers, given: true } => observed(format!(
            "{workers} 个工作线程共用控制组的 CPU 配额（{cores:.1} 核）：配额用尽时会被暂停，造成接收滞后。"
        ))
        .advise("请减少 --workers 或提高配额。"),
        Finding::CpuQuota { cores, workers, .. } => observed(format!(
            "控制组将本进程限制为 {cores:.1} 核的 CPU 时间：工作线程数为 {workers}。"
        )),
        Finding::DatasetNotRead => observed("已给出 --prompt：不读取数据集。"),
        Finding::FieldsNotSent { api, flags } => {
            observed(format!("--api {api} 没有与 {} 对应的字段：未发送。", flags.join("、")))
                .advise("可用 --extra-args 发送任意字段。")
        }
        Finding::NotStreamed { api } => observed(format!("--stream 不起作用：--api {api} 一次性返回完整响应。")),
        Finding::TemplateLacks { stream: true } => {
            observed("--query-template 未要求流式响应，而请求内容只由模板决定：响应一次性返回，没有 TTFT。")
                .advise("请在模板中将 stream 设为 true，或使用 --stream。")
        }
        Finding::TemplateLacks { stream: false } => {
            observed("--query-template 未要求 usage，而请求内容只由模板决定：多数服务端因此不会在流式响应中给出 token 数。").advise(
                "请在模板中将 stream_options.include_usage 设为 true，或使用 --tokenizer-path。",
            )
        }
        Finding::FlagsBesidePrompt { flags } => {
            observed(format!("--prompt 的内容原样发送：数据集的 {} 不起作用。", flags.join("、")))
        }
        Finding::FlagsWithoutEffect { flags } => {
            observed(format!("{} 只与 evalscope 自身的实现有关，在此不起作用。", flags.join("、")))
        }
        Finding::SameSeed => {
            observed("同时使用 --seed 与大于 0 的温度：所有请求以同一种子采样，相似的提示词会得到相似的回答。")
                .advise("--seed-per-request 为每个请求发送不同的种子。")
        }
        Finding::SamePrompt => observed("--query-template 自带提示词且没有 %p：所有请求都相同。"),
        Finding::BoundInSeconds { criterion, seconds } => {
            observed(format!("{criterion} 的界限为 {seconds} s：未写单位的时间以秒计。"))
                .advise("若指毫秒，请加上 ms。")
        }
        Finding::CalibrationsUnreadable { reason } => observed(format!("未使用校准数据：{reason}。")),
        Finding::CalibrationNotUsed { path, why } => {
            observed(format!("未使用 {path} 中的校准数据：{}。", misfit(why)))
                .advise("可运行 'ringmark rig --calibrate' 重新校准。")
        }
        Finding::PromptLengths { off, made, worst_tokens } => observed(format!(
            "{made} 条随机提示词中有 {off} 条未能达到指定长度，最大偏差 {worst_tokens} 个 token。"
        ))
        .advise("--tokenize-prompt 可发送长度精确的 token id。"),
        Finding::PromptsRepeat { prompts, requests, most } => observed(format!(
            "数据集只有 {prompts} 条提示词，而请求有 {requests} 个：每条最多发送 {most} 次，除第一次外都可能命中服务端的前缀缓存。"
        ))
        .advise("如需避免重复，请使用更大的数据集，或减少请求数。"),
        Finding::TraceRead { format, unit, block, rows } => observed(format!(
            "请求记录按 {format} 格式读取：共 {rows} 行，时间单位为 {unit}，每个 hash id 对应 {block} 个 token。"
        ))
        .advise("可用 --trace-unit 和 --trace-block 修改。"),
        Finding::TraceRowsSkipped { skipped } => observed(format!(
            "请求记录中没有输入或输出 token 的行：{skipped}。这些行已跳过，因此负载低于记录。"
        )),
        Finding::TestRepeatsPrompt => observed(
            "数据集中没有多余的请求体可用于连接测试：有一个被测请求已提前发送过，可能命中服务端的前缀缓存。",
        )
        .advise("请使用更大的数据集或 --no-test-connection。"),
        Finding::WitnessRepeatsPrompts { prompts } => observed(format!(
            "数据集中没有多余的提示词可供旁路探测使用：它也会发送这 {prompts} 条被测提示词，其中后发送的一次可能命中服务端的前缀缓存。"
        ))
        .advise("请使用更大的数据集。"),
        Finding::ServerSharesCores => {
            observed("没有核心可供内置服务端独占：这些数据是客户端与服务端共用核心时测得的。")
        }
        Finding::MockLate { p99_ns } => {
            observed(format!("内置服务端发送滞后（p99 为 {}）：本机无法产生这样的负载。", format_ns(*p99_ns)))
                .advise("请降低负载。")
        }
        Finding::WorkerNotPinned { worker, core } => observed(format!("工作线程 {worker} 无法绑定到核心 {core}。")),
        Finding::ServerClosesConnections => {
            observed("服务端每次响应后不经声明就关闭连接：每个请求都要新建连接。")
        }
        Finding::EpollRequested => observed("按要求不使用 io_uring，改用 epoll 接收。"),
        Finding::EpollInstead { reason } => observed(format!("io_uring 不可用（{reason}）：改用 epoll 接收。")),
        Finding::ServerDied { reason, after_s } => {
            observed(format!("服务端进程{}退出，只有此前的数据反映其性能：{reason}", time_of_end(*after_s)))
        }
        Finding::ServerEnded { after_s } => observed(format!(
            "服务端{}退出：此后直到测试结束一直拒绝连接，只有此前的数据反映其性能。",
            time_of_end(*after_s)
        ))
        .advise("请查看服务端日志，然后重新测试。"),
        Finding::VisualizerLost { points, service } => {
            observed(format!("{service} 接收过慢，有 {points} 个曲线点未送达；最终结果完整。"))
        }
        Finding::WitnessMissing { reason } => observed(format!("旁路探测未能启动：{reason}。")),
        Finding::MetricsUnavailable { reason } => observed(format!("无法读取服务端指标：{reason}。")),
        Finding::MetricsFailed { failed, asked, url, reason } => observed(format!(
            "读取服务端指标（{url}）{asked} 次，其中 {failed} 次失败：{reason}。测试不受影响。"
        ))
        .advise("可用 --server-metrics URL 指定指标地址。"),
        Finding::MetricsUnknown { url } => observed(format!(
            "页面 {url} 中没有 vLLM、SGLang、TGI、LMDeploy 或 llama.cpp 的指标：内容已保存，但无法对比。"
        )),
        Finding::ProgramFailed { program, reason, responses_kept } => {
            let kept = if *responses_kept { "；响应已保存在数据库中" } else { "" };
            observed(format!("--api {program} parse：{reason}。token 数与文本取自接收响应时的解析结果{kept}。"))
        }
        Finding::Shards { shards } => observed(format!(
            "{shards} 个进程在同一台机器上同时运行，使用同一个时钟，已合并为一次测试。"
        )),
        Finding::ProcessClocksUnknown { processes } => observed(format!(
            "这 {processes} 个进程的时钟偏差未知（它们运行在不同的机器上，或其数据由较早的版本保存）：合计的时长、吞吐、\
             速率与并发数均未知，单个请求的指标不受影响。"
        ))
        .advise("请用 --shard 与 --rendezvous 启动，它们会测量时钟偏差。"),
        Finding::ShardClocks { error_ns, span_ns } => observed(format!(
            "各分片所在机器的时钟在 {} 的测试内对齐误差为 ±{}：所有分片合计的吞吐、速率与并发数精度以此为限，单个请求的指标不受影响。",
            format_ns(*span_ns),
            format_ns(*error_ns)
        )),
        Finding::ShardClocksUnknown { shards } => observed(format!(
            "分片 {} 与分片 0 的时钟偏差未知：无法根据系统时钟计算所有分片合计的吞吐、速率与并发数，单个请求的指标不受影响。",
            numbers(shards)
        ))
        .advise("请用 --rendezvous tcp:、dir: 或 pmi 启动各分片，它们会测量该偏差。"),
        Finding::ShardClockJumped { shard, after_ns } => observed(format!(
            "分片 0 与分片 {shard} 的时钟之差不恒定：其中一个时钟发生了跳变，最迟在开始后 {}。",
            format_ns(*after_ns)
        ))
        .advise("请检查这些机器是否被挂起，然后重新测试。"),
        Finding::ShardEnded { shard, until_ns, killed: true } => observed(format!(
            "分片 {shard} 在结束前被终止，其记录在前 {} 内是完整的：各项指标只统计到该时刻为止的所有分片。",
            format_ns(*until_ns)
        )),
        Finding::ShardEnded { shard, until_ns, killed: false } => observed(format!(
            "分片 {shard} 在开始后 {} 被提前结束，其他分片仍在继续：各项指标只统计到该时刻为止的所有分片。",
            format_ns(*until_ns)
        )),
        Finding::ShardRowsLost { shard, requests, until_ns } => observed(format!(
            "分片 {shard} 有 {requests} 个请求未能写入其数据库，其记录在前 {} 内是完整的：各项指标只统计到该时刻为止的所有分片。",
            format_ns(*until_ns)
        ))
        .advise("请清理其结果所在磁盘的空间后重新测试。"),
        Finding::ShardLate { shard, late_ns } => observed(format!(
            "分片 {shard} 比各分片约定的时刻晚 {} 才开始：在此之前到期的请求不计入指标。",
            format_ns(*late_ns)
        ))
        .advise("请检查是什么停止或拖慢了该进程。"),
        Finding::ShardsNeverTogether { shards } => observed(format!(
            "{shards} 个分片没有同时测量的时段：各项指标不代表所设负载。"
        ))
        .advise("请重新测试。"),
        Finding::ShardsShareCores { shards, cores } => observed(format!(
            "分片 {} 的工作线程运行在同一台机器的相同核心（{}）上，会相互拖慢。",
            numbers(shards),
            numbers(cores)
        ))
        .advise("请用 --cores 为该机器上的每个分片分配各自的核心，或每台机器只启动一个分片。"),
        Finding::ShardsUneven { shard, alone_ns, span_ns } => observed(format!(
            "在 {} 的测试中，分片 {shard} 提前 {} 完成了自己的部分：此后只有一部分负载。",
            format_ns(*span_ns),
            format_ns(*alone_ns)
        ))
        .advise("可使用 --duration，让所有分片同时结束。"),
        Finding::ShardSlow { shard, send_lag_p99_ns, others_p99_ns } => observed(format!(
            "分片 {shard} 最慢：其发送滞后 p99 为 {}，其他分片的中位数为 {}。",
            format_ns(*send_lag_p99_ns),
            format_ns(*others_p99_ns)
        ))
        .advise("请用 ringmark rig 检查该机器，或增加分片数。"),
        Finding::ShardsSamePrompts { shards } => observed(format!(
            "{shards} 个进程发送了相同的提示词：带前缀缓存的服务端对每个提示词只计算一次。"
        ))
        .advise("请使用 --shard 启动，或为每个进程设置不同的 --salt 或 --dataset-offset。"),
        Finding::ShardsMissing { missing, killed, shards, .. } => {
            let what = [(missing, "没有数据库"), (killed, "在结束前被终止")];
            let parts = what.into_iter().filter(|(list, _)| !list.is_empty());
            let parts: Vec<String> = parts.map(|(list, what)| format!("分片 {} {what}", numbers(list))).collect();
            observed(format!("共 {shards} 个分片，其中{}：合并结果缺少这部分负载。", parts.join("，")))
                .advise("请补上缺少的数据库，或重新测试。")
        }
        Finding::RecordsLost { scheduled, accounted } => {
            observed(format!("计划了 {scheduled} 个请求，只有 {accounted} 个有记录：部分记录丢失。"))
                .advise("请重新测试；若再次出现，请报告缺陷。")
        }
        Finding::RowsLost { requests } => {
            observed(format!("{requests} 个请求未能写入数据库。")).advise("请清理磁盘空间后重新测试。")
        }
        Finding::LittlesLaw { mean, expected } => observed(format!(
            "利特尔定律 (Little's law) 不成立：平均在途请求数为 {mean:.2}，而速率乘以时延为 {expected:.2}。部分记录丢失或时间戳有误。"
        ))
        .advise("请重新测试并报告缺陷。"),
        Finding::CapExceeded { peak, parallel } => {
            observed(format!("同时在途请求数达到 {peak}，超过 --parallel {parallel}。")).advise("请报告缺陷。")
        }
        Finding::Killed => {
            observed("测试被强制终止：结果只包含终止前已保存的请求，客户端的测量误差未知。")
        }
        Finding::Interrupted { unsent, unfinished } => observed(match (unsent, unfinished) {
            (0, 0) => "测试被中断。".to_string(),
            (_, 0) => format!("测试被中断：{unsent} 个请求未发送。"),
            (0, _) => format!("测试被中断：{unfinished} 个请求在结束时仍在途。"),
            _ => format!("测试被中断：{unsent} 个请求未发送，{unfinished} 个请求在结束时仍在途。"),
        }),
        Finding::Aborted { criterion, failed, ended, unsent } => observed(format!(
            "--abort-on '{criterion}' 终止了测试：{ended} 个请求中有 {failed} 个失败，{unsent} 个请求未发送。结果只统计终止前的请求。"
        ))
        .advise("原因见失败列表。"),
        Finding::AbortedInWarmUp { criterion, failed, ended } => observed(format!(
            "--abort-on '{criterion}' 在预热阶段终止了测试：{ended} 个预热请求中有 {failed} 个失败。"
        ))
        .advise("请查看服务端日志。"),
        Finding::AllFailed { unfinished: 0 } => observed("所有请求均失败。").advise("原因见失败列表。"),
        Finding::AllFailed { .. } => observed("已结束的请求全部失败。").advise("原因见失败列表。"),
        Finding::Failures { share } => observed(format!(
            "{} 的请求失败：时延只统计成功的请求，可能因此偏低。",
            percent(*share)
        ))
        .advise("详见失败列表。"),
        Finding::StreamOptionsRefused { requests } => {
            observed(format!("{requests} 个请求因 stream_options 字段（用于获取 token 数）被服务端拒绝。"))
                .advise("请使用 --extra-args '{\"stream_options\": null}' 去掉该字段。")
        }
        Finding::NoneFinished { in_flight, interrupted } => {
            observed(format!("测试结束前没有任何请求完成（{in_flight} 个在途）。")).advise(longer(*interrupted))
        }
        Finding::Unfinished { share, unfinished, sent, interrupted } => observed(format!(
            "已发送的请求中有 {}（{sent} 个中的 {unfinished} 个）在测试结束时尚未完成：时延只统计其余请求，缺少最慢的响应。",
            percent(*share)
        ))
        .advise(longer(*interrupted)),
        Finding::BrokenConversations { broken, begun } => {
            observed(format!("{begun} 个对话中有 {broken} 个因某一轮失败而终止：后续各轮计为未发送。"))
        }
        Finding::SendLag { p99_ns, median_ttft_ns, of_latency, .. } => observed(format!(
            "发送滞后 p99 为 {}，即 1 % 的请求至少比计划时刻晚这么久才发出（{}中位数 {}）。{}包含这段滞后。",
            format_ns(*p99_ns),
            if *of_latency { "端到端时延" } else { "TTFT " },
            format_ns(*median_ttft_ns),
            times_since_schedule(*of_latency)
        ))
        .advise("请增加 --workers 或 CPU 核心，降低速率，或使用 --spin。"),
        Finding::RequestsBuiltLate { requests, max_ns, median_ttft_ns, of_latency, .. } => observed(format!(
            "测试期间构造请求的线程跟不上负载：{requests} 个请求最多等待了 {}（{}中位数 {}）。{}包含这段等待。",
            format_ns(*max_ns),
            if *of_latency { "端到端时延" } else { "TTFT " },
            format_ns(*median_ttft_ns),
            times_since_schedule(*of_latency)
        ))
        .advise("请使用 --number（所有请求在测试前构造完毕），减少 --workers，或降低负载。"),
        Finding::RateNotKept { offered_per_s, sent_per_s } => observed(format!(
            "到达率为每秒 {offered_per_s:.2} 个请求，实际每秒发出 {sent_per_s:.2} 个：服务端承受的不是设定的负载。\
             所有时延自计划时刻起计，已包含这段滞后（没有协同遗漏）。"
        ))
        .advise("请增加 --workers 或 CPU 核心，或降低速率。"),
        Finding::RateWithoutConnections { offered_per_s, sent_per_s, requests } => observed(format!(
            "到达率为每秒 {offered_per_s:.2} 个请求，实际每秒发出 {sent_per_s:.2} 个：{requests} 个请求未能建立连接。"
        ))
        .advise("原因见失败列表。"),
        Finding::RateHeldBack { severity, offered_per_s, sent_per_s, parallel, held_share, mean_wait_ns, needed } => {
            let kept = match severity {
                Severity::Note => "速率得以维持，但有请求等待空闲并发槽",
                Severity::Caution | Severity::Void => "服务端承受的不是设定的负载",
            };
            observed(format!(
                "--parallel {parallel} 限制了发送：设定每秒 {offered_per_s:.2} 个请求，实际每秒发出 {sent_per_s:.2} 个。{kept}：\
                 {} 的请求等待过并发槽，其时延包含这段等待（平均 {}）。",
                percent(*held_share),
                format_ns(*mean_wait_ns)
            ))
            .advise(format!("请将 --parallel 设为 {needed} 或更大，使用 --open-loop，或降低 --rate。"))
        }
        Finding::ScheduleCount { requests, expected, rate_per_s, span_s } => observed(format!(
            "随机调度在 {span_s:.2} s 内有 {requests} 个请求，而每秒 {rate_per_s} 个请求平均应有 {expected:.1} 个：\
             因随机性，实际到达率偏离 --rate。"
        ))
        .advise("请增大 --number，更换 --data-seed，或使用 --arrival constant。"),
        Finding::Tail { tail_s, share, requests, total_per_s, steady_per_s, .. } => observed(format!(
            "测试最后 {tail_s:.2} s（占总时长的 {}）只在等待少数请求（中点时有 {requests} 个）：吞吐量按整个测试计为每秒 \
             {total_per_s:.2} 个请求，此前为每秒 {steady_per_s:.2} 个。",
            percent(*share)
        ))
        .advise("请以稳态吞吐量为准，并查看最慢的请求。"),
        Finding::Stragglers { requests, share, longest_ns, median_ns } => observed(format!(
            "{requests} 个请求最长持续 {}（中位数为 {}），占用并发槽时间的 {}：吞吐量大约因此降低同样的比例。",
            format_ns(*longest_ns),
            format_ns(*median_ns),
            percent(*share)
        ))
        .advise("请查看最慢的请求；若请求挂起，请减小 --read-timeout。"),
        Finding::LossTail { figure, percentile, value_ns, above, with_loss, all_with_loss, recorded } => {
            observed(format!(
                "{} {}：达到或超过该值（{}）的 {above} 个请求中有 {with_loss} 个发生了重传，即有 TCP 分段被重发或乱序到达；\
                 全部 {recorded} 个请求中有 {all_with_loss} 个如此。长尾来自网络，而不是服务端。",
                super::en::percentile_name(percentile),
                figure.zh(),
                format_ns(*value_ns)
            ))
            .advise("请检查本机与服务端之间的网络，或在服务端所在机器上测试。")
        }
        Finding::ShortAnswers { short, answers, asked_tokens, mean_tokens } => {
            let asked = asked_tokens.map_or_else(String::new, |asked| format!("要求输出 {asked} 个 token。"));
            let mean = mean_tokens.map_or_else(String::new, |mean| format!("平均输出 {mean:.1} 个 token。"));
            observed(format!(
                "已发送 ignore_eos，但 {answers} 个回答中有 {short} 个短于要求：服务端完成的工作少于预期。{asked}{mean}"
            ))
            .advise("请确认服务端支持 ignore_eos，或使用 --min-tokens。")
        }
        Finding::CachedTokens { share, shares_nothing, by_metrics, .. } => {
            let meaning = match shares_nothing {
                true => "而提示词之间本不共享内容：各项结果并非冷缓存下的表现",
                false => "因此各项结果并非冷缓存下的表现",
            };
            let source = if *by_metrics { "据服务端指标，" } else { "" };
            let text = format!("{source}{} 的输入 token 命中服务端的前缀缓存，{meaning}。", percent(*share));
            match shares_nothing {
                true => observed(text)
                    .advise("请确认 --salt 未重复使用；若共享部分是对话模板，请使用更长的提示词；或关闭前缀缓存。"),
                false => observed(text),
            }
        }
        Finding::Growth { early, late } => observed(format!(
            "在途请求数在测试中持续增长，从 {early:.1} 增至 {late:.1}：到达率超过服务端的处理能力，结果取决于测试时长。"
        ))
        .advise("请降低 --rate。"),
        Finding::FewConversations { mean, parallel } => observed(format!(
            "平均在途请求 {mean:.1} 个，而 --parallel 为 {parallel}：临近结束时，剩余的对话少于并发槽。"
        ))
        .advise("如需恒定并发，请增大 --number 或使用 --duration。"),
        Finding::IdleSlots { mean, parallel } => observed(format!(
            "平均在途请求数为 {mean:.1}，低于 --parallel {parallel}：并发槽在两个请求之间有空闲（见周转时间）。"
        ))
        .advise(MORE_WORKERS),
        Finding::ReceiveLag { p99_ns, median_itl_ns, shared_timestamps } => {
            let means = if *shared_timestamps {
                "到达时刻取自内核时间戳，但同一次读取到的多个 token 共用最后一个的时间戳：见 ITL 的误差界。"
            } else {
                "到达时刻取自内核时间戳，结果有效；只有后续请求的发送会推迟。"
            };
            observed(receive_lag(*p99_ns, *median_itl_ns) + means)
        }
        Finding::ReceiveLagUnstamped { p99_ns, median_itl_ns, unstamped_share } => observed(format!(
            "{}{} 的读取没有内核时间戳，包含此误差。",
            receive_lag(*p99_ns, *median_itl_ns),
            percent(*unstamped_share)
        ))
        .advise(MORE_WORKERS),
        Finding::NoTimestamps { share } => observed(format!(
            "{} 的读取没有内核接收时间戳（Unix 套接字始终没有）：只能以处理时刻作为到达时刻，因此偏晚一个接收滞后。",
            percent(*share)
        )),
        Finding::CoalescedReads { share, poll_gaps } => {
            let reason = match poll_gaps {
                true => "事件在客户端未轮询期间排队，或被服务端、代理合并发送",
                false => "服务端或代理将其合并发送，或事件在途中排队",
            };
            observed(format!(
                "{} 的读取包含两个以上输出事件：{reason}。同一次读取的事件共用一个时间戳，因此 ITL 的低百分位数为 0；\
                 TPOT 与端到端时延不受影响。",
                percent(*share)
            ))
        }
        Finding::AtOnce => observed(
            "至少一半的响应虽有多个 token 却一次性到达：无法得知 token 之间的时间，因此 TPOT 为 0，TTFT 等于端到端时延。\
             服务端或代理缓冲了输出。",
        ),
        Finding::SeveralTokensPerEvent { tokens_per_event, median_itl_ns, median_tpot_ns, mean_low_ns, mean_high_ns } => {
            let range = mean_low_ns.zip(*mean_high_ns).map_or_else(String::new, |(low, high)| {
                format!(
                    "TPOT 均值在 {} 与 {} 之间：首个和末个事件中的 token 从何时开始生成无法得知。",
                    format_ns(low),
                    format_ns(high)
                )
            });
            observed(format!(
                "每个输出事件平均含 {tokens_per_event:.1} 个 token：ITL（中位数 {}）是事件之间的间隔，TPOT（中位数 {}）才是每个 token 的时间。{range}",
                format_ns(*median_itl_ns),
                format_ns(*median_tpot_ns)
            ))
        }
        Finding::OddResponses { oddities, succeeded } => {
            let counted = oddities.iter().map(|count| format!("{}（{} 个）", odd(count.oddity), count.responses));
            observed(format!(
                "{succeeded} 个响应中有一些不规范但可以解读，计为成功：{}。",
                counted.collect::<Vec<_>>().join("；")
            ))
        }
        Finding::TpotRange { requests, succeeded, value_s, low_s, high_s } => {
            let [value, low, high] = [value_s, low_s, high_s].map(|s| format_ns((s * 1e9) as u64));
            observed(format!(
                "TPOT 平均值介于 {low} 与 {high} 之间：{succeeded} 个响应中有 {requests} 个的 token 数多于事件数，原因是解析器吞掉了部分 token，\
                 或一个事件含多个 token。显示值 {value} 是按事件节奏推断的最可能值，SLO 据此判定。"
            ))
        }
        Finding::NoTokenCounts => observed("服务端未返回 token 数：相关指标显示为“-”。"),
        Finding::TokenCountsMissing { missing, answers } => observed(format!(
            "{answers} 个响应中有 {missing} 个没有 token 数：token 吞吐量为下限，单请求指标只统计其余响应。"
        )),
        Finding::ForcedSwitches { per_worker_per_s } => observed(format!(
            "每个工作线程每秒被抢占 {per_worker_per_s:.0} 次：其核心上有其他程序在运行。"
        ))
        .advise("请停止这些程序，或用 --cores 选择空闲核心。"),
        Finding::Retried { requests } => {
            observed(format!("{requests} 个请求已改用新连接重发：服务端不经声明就关闭了复用的连接。"))
        }
        Finding::BusyWorkers { busy, workers, limit_share, max_share } => observed(format!(
            "{workers} 个工作线程中有 {busy} 个占用所在核心超过 {}（最高 {}）：可能使负载延后发出。",
            percent(*limit_share),
            percent(*max_share)
        ))
        .advise(MORE_WORKERS),
        Finding::WorkersNotPinned { workers } => {
            observed(format!("{workers} 个工作线程无法绑定核心。")).advise("请用 --cores 指定存在的核心。")
        }
        Finding::BufferShortages { shortages } => observed(format!(
            "接收环的缓冲区耗尽 {shortages} 次：数据在内核中等待，时间戳不受影响。"
        )),
        Finding::WarmUp { figure, requests, with_s, without_s, warmup_num } => observed(format!(
            "前 {requests} 个请求疑似预热阶段（MSER-5）：计入时平均{}为 {with_s:.3} s，不计入时为 {without_s:.3} s。",
            spaced(*figure)
        ))
        .advise(match warmup_num {
            Some(number) => format!("若只关心稳态，请使用 --warmup-num {number}。"),
            None => "若只关心稳态，请增大 --warmup-num。".to_string(),
        }),
        Finding::WarmUpSmall { warmup, parallel } => observed(format!(
            "--warmup-num {warmup} 不足以占满 {parallel} 个并发槽位：其余槽位一开始就发送被测请求，这些请求会同时到达空闲的服务端。"
        ))
        .advise(format!("若只关心稳态，请使用 --warmup-num {parallel} 或更大的值。")),
        Finding::Drift { from_s, to_s, open_loop } => {
            let way = if to_s > from_s { "上升" } else { "下降" };
            let advice = match *open_loop && to_s > from_s {
                true => "请降低 --rate，或延长测试。",
                false => "请延长测试，或增大 --warmup-num。",
            };
            observed(format!(
                "平均时延在测试中{way}，从 {from_s:.3} s 变为 {to_s:.3} s：未达到稳态，结果取决于测试时长。"
            ))
            .advise(advice)
        }
        Finding::CalibrationMisfit { why, timestamp_error_ns } => observed(format!(
            "本机的校准数据不适用于此次测试：{}。时间戳误差按 {} 计算。",
            misfit(why),
            format_ns(*timestamp_error_ns)
        ))
        .advise("以此负载运行 'ringmark rig --calibrate' 可得到更准确的值。"),
        Finding::PollGaps { share, by_ns, longest_ns } => observed(format!(
            "某个工作线程最长 {} 没有轮询套接字：其间在同一连接上排队的事件共用最后一个的时间戳。{} 的 token 间时延\
             误差可达 {}：ITL 中会出现偏大的间隔和紧随其后的零值，见误差界。",
            format_ns(*longest_ns),
            percent(*share),
            format_ns(*by_ns)
        ))
        .advise(QUIETER),
        Finding::OwnError { figure, percentile, by_ns, value_ns, .. } => observed(format!(
            "测量误差可能使{}的 {} 偏移 {}（测得值为 {}）：见误差界。",
            spaced(*figure),
            super::en::percentile_name(percentile),
            format_ns(*by_ns),
            format_ns(*value_ns)
        ))
        .advise(QUIETER),
        Finding::ServerApart { figure, server, by_ns, longer_here, also, equal_counts } => {
            let meaning = match (longer_here, equal_counts) {
                (true, _) => "token 在传输途中被延迟，或该指标未覆盖全部时间。",
                (false, true) => "途中的延迟不会使客户端测得的时间更短，且双方计数相同：该指标覆盖的时间更长。",
                (false, false) => "途中的延迟不会使客户端测得的时间更短：该指标包含其他请求，或覆盖的时间更长。",
            };
            observed(format!(
                "客户端测得的{}比 {server} 报告的更{}，超出其分桶宽度与测量误差允许范围 {}{}。{meaning}",
                spaced(*figure),
                longer_or_shorter(*longer_here),
                format_ns(*by_ns),
                also_apart(also)
            ))
        }
        Finding::FrontendTime { server, by_ns, share } => observed(format!(
            "TTFT 中有 {}（{}）不在 {server} 的计时范围内：耗费在网络、其 HTTP 前端或代理。",
            format_ns(*by_ns),
            percent(*share)
        )),
        Finding::ServerCounts { server, counts } => {
            let one = |count: &UnequalCount| {
                format!("{}客户端为 {}，服务端为 {}", count.quantity.zh(), count.client, count.server)
            };
            let counts: Vec<String> = counts.iter().map(one).collect();
            observed(format!("{server} 的计数与客户端不一致：{}。", counts.join("；")))
        }
        Finding::ServerRestarted { server } => {
            observed(format!("{server} 的计数器在测试中被重置：服务曾经重启。"))
        }
        Finding::ServerTimesApart { figure, by_ns, longer_here, also } => {
            let meaning = match longer_here {
                true => "token 在传输途中被延迟，或服务端的区间未覆盖全部时间。",
                false => "途中的延迟不会使客户端测得的时间更短：服务端的区间覆盖的时间更长。",
            };
            observed(format!(
                "逐请求对比，客户端测得的{}比服务端在响应中报告的更{}，超出测量误差允许范围 {}{}。{meaning}",
                spaced(*figure),
                longer_or_shorter(*longer_here),
                format_ns(*by_ns),
                also_apart(also)
            ))
        }
        Finding::WitnessTooFew { figures, requests } => {
            let figures: Vec<&str> = figures.iter().map(|figure| figure.zh()).collect();
            observed(format!("旁路探测的 {} 样本太少，无法比较（负载期间 {requests} 个请求）。", figures.join(" 与 ")))
                .advise("请延长测试，或增加 --witness 的连接数。")
        }
        Finding::WitnessFailed { failed, requests } => {
            observed(format!("旁路探测的 {requests} 个请求中有 {failed} 个失败。"))
        }
        Finding::WitnessDiffers { figure, percentiles } => {
            let one = |at: &UnequalPercentile| {
                let side = if at.difference_ns > 0 { "高" } else { "低" };
                let [load, witness, by] = [at.load_ns, at.witness_ns, at.difference_ns.unsigned_abs()].map(format_ns);
                format!("p{} 负载为 {load}，旁路探测为 {witness}（{side} {by}）", at.percentile)
            };
            let percentiles: Vec<String> = percentiles.iter().map(one).collect();
            observed(format!(
                "旁路探测测得的{}与负载不同：{}。可能是服务端对负载请求的处理不同（顺序、同一连接上的请求数、缓存），\
                 也可能是压测客户端造成了延迟：见客户端自身指标。",
                spaced(*figure),
                percentiles.join("；")
            ))
        }
        Finding::Stored { text, .. } => observed(text.clone()),
    }
}

fn receive_lag(p99_ns: u64, median_itl_ns: u64) -> String {
    format!(
        "接收滞后 p99 为 {}，即 1 % 的读取在数据到达后至少过了这么久才被处理（ITL 中位数 {}）。",
        format_ns(p99_ns),
        format_ns(median_itl_ns)
    )
}

/// The times that contain a wait before sending: of a run without streams the latency only.
fn times_since_schedule(of_latency: bool) -> &'static str {
    if of_latency { "端到端时延" } else { "TTFT 与端到端时延" }
}

/// Advice for a run that was too short; none if the user interrupted it.
fn longer(interrupted: bool) -> &'static str {
    if interrupted { "" } else { "请增大 --drain 或 --duration。" }
}

/// Within a sentence: Latin letters have spaces around them.
fn spaced(figure: Figure) -> String {
    match figure {
        Figure::Latency => figure.zh().to_string(),
        Figure::Ttft | Figure::Itl | Figure::Tpot => format!(" {} ", figure.zh()),
    }
}

fn longer_or_shorter(longer: bool) -> &'static str {
    if longer { "长" } else { "短" }
}

/// The other times that differ, in parentheses.
fn also_apart(also: &[ApartFigure]) -> String {
    let one = |apart: &ApartFigure| {
        format!("{} {} {}", apart.figure.zh(), longer_or_shorter(apart.longer_here), format_ns(apart.by_ns))
    };
    let all: Vec<String> = also.iter().map(one).collect();
    if all.is_empty() { String::new() } else { format!("（另有 {}）", all.join("、")) }
}

/// Why a time is not judged.
pub(super) fn not_judged(why: NotJudged) -> String {
    match why {
        NotJudged::PrefillIncluded => "服务端取推理时间除以 token 数，含 prefill".to_string(),
        NotJudged::MeanOverTokens => "服务端只给出全部 token 的平均值".to_string(),
        NotJudged::Killed => "测试在最后一次采集前被强制终止".to_string(),
        NotJudged::NotStreamed => "响应不是流式".to_string(),
        NotJudged::EachChoice { choices } => format!("服务端对 {choices} 个候选回答分别计时"),
        NotJudged::NothingObserved => "没有观测值".to_string(),
        NotJudged::DifferentCounts { client, server, with_witness, gaps } => {
            let witness = if with_witness { "（均含旁路探测）" } else { "" };
            let reason = if gaps { "事件与服务端的 token 不对应" } else { "不是同一批请求" };
            format!("客户端 {client} 个，服务端 {server} 个{witness}，{reason}")
        }
    }
}

/// A remark on a count.
pub(super) fn count_note(note: CountNote) -> String {
    match note {
        CountNote::NoTokenCounts => "响应中没有 token 数".to_string(),
        CountNote::NotSucceeded { requests } => format!("{requests} 个请求未成功，服务端可能已计入"),
        CountNote::WithoutCached => "不含缓存命中的部分".to_string(),
        CountNote::EachChoice { choices } => format!("服务端对 {choices} 个候选回答分别计数"),
    }
}

/// What is unusual about a response.
fn odd(oddity: Oddity) -> &'static str {
    match oddity {
        Oddity::InvalidText => "JSON 中有无效的 UTF-8 或孤立代理项，以 U+FFFD 代替",
        Oddity::InvalidNumbers => "有 JSON 无法表示的数值，按 null 处理",
        Oddity::MissingBlankLines => "事件之间没有空行",
        Oddity::Heartbeats => "以非 JSON 数据发送的心跳，已忽略",
        Oddity::MediaType => "事件流的媒体类型不是 text/event-stream",
        Oddity::OpenAfterEnd => "结束事件之后响应体仍未关闭，以结束事件为准",
        Oddity::ZeroUsage => "有输出但 usage 为零，视为缺失",
        Oddity::FewerTokensThanEvents => "usage 中的输出 token 数少于输出事件数",
    }
}

/// Why a calibration does not fit.
fn misfit(why: &Misfit) -> String {
    match why {
        Misfit::OtherMachine => "它在另一台机器或另一个内核版本上测得".to_string(),
        Misfit::Old { days } => format!("它已有 {days} 天"),
        Misfit::Parallel { calibrated, run } => {
            format!("它在 --parallel {calibrated} 下测得，而此次测试为 {run}")
        }
        Misfit::Rate { calibrated_per_s, run_per_s } => {
            format!("它在每秒 {calibrated_per_s} 个请求下测得，而此次测试为 {run_per_s}")
        }
        Misfit::Events { calibrated_per_s, run_per_s } => {
            format!("它在每秒 {calibrated_per_s:.0} 个事件下测得，而此次测试为 {run_per_s:.0}")
        }
        Misfit::NoTimestamps => "其中没有时间戳".to_string(),
    }
}

/// Why a search selected a load.
pub(super) fn search_reason(reason: &SearchReason) -> String {
    match reason {
        SearchReason::HoldsToUpperBound => "上限处仍满足条件".to_string(),
        SearchReason::FailsAtLowerBound { lower } => format!("下限 {lower} 处即不满足条件"),
        SearchReason::HoldsHere { fails_at } => format!("此处满足条件，{fails_at} 处不满足"),
        SearchReason::HoldsAgain { fails_at, holds_at } => {
            format!("此处满足条件，{fails_at} 处不满足，{holds_at} 处又满足：各次测试差异较大")
        }
        SearchReason::Between { too_little_at, fails_at } => {
            format!("{too_little_at} 处有指标偏低，{fails_at} 处不满足其他条件")
        }
        SearchReason::TooLittleEverywhere => "各档已测负载均有指标偏低".to_string(),
        SearchReason::Best => "已测负载中最佳".to_string(),
        SearchReason::NoneUsable => "没有一档已测负载的请求全部成功且有该指标".to_string(),
        SearchReason::Undecided { has_best: true } => "尚未确定：目前最佳".to_string(),
        SearchReason::Undecided { has_best: false } => "尚未确定".to_string(),
    }
}

/// Why the figures of a load do not count.
pub(super) fn search_trouble(trouble: &SearchTrouble) -> String {
    match trouble {
        SearchTrouble::Void { run } => format!("第 {run} 次测试无效"),
        SearchTrouble::Failed { run, succeeded, sent } => {
            format!("第 {run} 次测试：{sent} 个请求中有 {succeeded} 个成功")
        }
        SearchTrouble::OpenFiles(OpenFiles { parallel, needed, limit, with_mock }) => {
            let instead = if *with_mock { "在另一个终端运行 'ringmark mock'" } else { "降低 --parallel" };
            format!(
                "--parallel {parallel} 需要打开 {needed} 个文件，本进程的上限为 {limit}：请提高 'ulimit -n'，或{instead}"
            )
        }
        SearchTrouble::Refused(text) => text.clone(),
    }
}

fn time_of_end(after_s: Option<f64>) -> String {
    after_s.map_or("在测试中".to_string(), |seconds| format!("在测量开始 {seconds:.1} 秒后"))
}
