//! The labels of tables in English and Chinese. The English text is also the key in JSON files.

use super::language::Language;
use crate::finding::Figure;
use crate::record::Failure;

/// Defines [`Label`]: a name, the English text and the Chinese text of each label.
macro_rules! labels {
    ($($name:ident: $en:literal, $zh:literal;)*) => {
        /// A fixed text of a table: a row, a column, or a cell.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Label {
            $(#[doc = $en] $name,)*
        }

        impl Label {
            /// Every label.
            #[cfg(test)]
            pub(crate) const ALL: &[Label] = &[$(Label::$name,)*];

            /// In English.
            pub const fn en(self) -> &'static str {
                match self { $(Label::$name => $en,)* }
            }

            /// In Chinese.
            pub const fn zh(self) -> &'static str {
                match self { $(Label::$name => $zh,)* }
            }
        }
    };
}

labels! {
    // Rows of the summary.
    TimeTaken: "Time taken for tests (s)", "测试总时长 (s)";
    Concurrency: "Number of concurrency", "并发数";
    TotalRequests: "Total requests", "总请求数";
    SucceedRequests: "Succeed requests", "成功请求数";
    FailedRequests: "Failed requests", "失败请求数";
    UnfinishedRequests: "Unfinished requests", "未完成请求数";
    UnsentRequests: "Unsent requests", "未发送请求数";
    UnknownRequests: "Unknown requests (not stored)", "结果未知的请求数（未存储）";
    OutputThroughput: "Output token throughput (tok/s)", "输出 token 吞吐量 (tok/s)";
    InputThroughput: "Input token throughput (tok/s)", "输入 token 吞吐量 (tok/s)";
    TotalThroughput: "Total token throughput (tok/s)", "总 token 吞吐量 (tok/s)";
    RequestThroughput: "Request throughput (req/s)", "请求吞吐量 (req/s)";
    AverageLatency: "Average latency (s)", "平均端到端时延 (s)";
    AverageTtft: "Average time to first token (s)", "平均首 token 时延 (s)";
    AverageTpot: "Average time per output token (s)", "平均每 token 时延 (s)";
    AverageInputTokens: "Average input tokens per request", "平均输入 token 数";
    AverageOutputTokens: "Average output tokens per request", "平均输出 token 数";
    RequestsPerMinute: "Request throughput (req/min)", "请求吞吐量 (req/min)";
    AverageItl: "Average inter-token latency (s)", "平均 token 间时延 (s)";
    PackagesPerRequest: "Average package per request", "平均每请求数据包数";
    PackageLatency: "Average package latency (s)", "平均每数据包时延 (s)";
    TokensPerEvent: "Average tokens per output event", "平均每输出事件 token 数";
    ExpectedRequests: "Expected number of requests", "计划请求数";
    FirstTokenMin: "First token latency min (s)", "首 token 时延最小值 (s)";
    FirstTokenMax: "First token latency max (s)", "首 token 时延最大值 (s)";
    FirstTokenAverage: "First token latency ave (s)", "首 token 时延平均值 (s)";
    AverageFirstAnswerToken: "Average time to first answer token (s)", "平均首个回答 token 时延 (s)";
    Goodput: "Goodput (req/s)", "有效吞吐量 (req/s)";
    WithinSlo: "Requests within SLO (%)", "SLO 达成率 (%)";
    PlannedRequestRate: "Planned request rate (req/s)", "设定到达率 (req/s)";
    PlannedConversationRate: "Planned conversation rate (1/s)", "设定对话到达率 (1/s)";
    OfferedRate: "Offered request rate (req/s)", "实际到达率 (req/s)";
    SentRate: "Sent request rate (req/s)", "发送速率 (req/s)";
    AchievedRate: "Achieved request rate (req/s)", "完成速率 (req/s)";
    PeakConcurrency: "Peak concurrency", "峰值并发数";
    MeanConcurrency: "Mean concurrency", "平均并发数";
    SteadyRequestThroughput: "Steady request throughput (req/s)", "稳态请求吞吐量 (req/s)";
    SteadyOutputThroughput: "Steady output token throughput (tok/s)", "稳态输出 token 吞吐量 (tok/s)";
    CachedInputShare: "Cached input tokens (%)", "输入 token 缓存命中率 (%)";
    Gpus: "GPUs of the server", "服务端 GPU 数";
    OutputPerGpu: "Output token throughput per GPU (tok/s)", "单 GPU 输出 token 吞吐量 (tok/s)";
    InputPerGpu: "Input token throughput per GPU (tok/s)", "单 GPU 输入 token 吞吐量 (tok/s)";

    // Rows of the client's own figures.
    ReceiveLag: "Receive lag p50 / p99 / max", "接收滞后 p50 / p99 / 最大";
    SendLag: "Send lag p50 / p99 / max", "发送滞后 p50 / p99 / 最大";
    Turnaround: "Turnaround p50 / p99 / max", "周转时间 p50 / p99 / 最大";
    ConnectTime: "Connect time p50 / p99 / max", "建连耗时 p50 / p99 / 最大";
    TlsHandshake: "TLS handshake p50 / p99 / max", "TLS 握手耗时 p50 / p99 / 最大";
    LoopGap: "Loop gap p50 / p99 / max", "事件循环间隔 p50 / p99 / 最大";
    Gathering: "Event gathering p50 / p99 / max", "事件聚集时间 p50 / p99 / 最大";
    ServiceTtft: "Service TTFT avg / p50 / p99", "自发送起的 TTFT 平均 / p50 / p99";
    ServiceLatency: "Service latency avg / p50 / p99", "自发送起的端到端时延 平均 / p50 / p99";
    CoalescedReads: "Reads with two or more events", "含多个事件的读取占比";
    CoalescedEvents: "Events that share a read", "合并到达的事件占比";
    StampedReads: "Reads with a kernel timestamp", "带内核时间戳的读取占比";
    ConcurrencyWhileSending: "Mean concurrency while sending", "发送期间的平均并发数";
    WorkerCpu: "Worker CPU avg / max", "工作线程 CPU 占用 平均 / 最大";
    CpuPerEvent: "CPU per output event", "每个输出事件的 CPU 时间";
    ContextSwitches: "Context switches voluntary / forced", "上下文切换 主动 / 被动";
    ConnectionsOpened: "Connections opened", "新建连接数";
    WayToWire: "Request to network device p50 / p99 / max", "请求到网卡 p50 / p99 / 最大";
    MinimumRtt: "TCP round trip (minimum) p50 / p99 / max", "TCP 往返时间（最小值） p50 / p99 / 最大";
    SmoothedRtt: "TCP round trip (smoothed) p50 / p99 / max", "TCP 往返时间（平滑值） p50 / p99 / 最大";
    Acknowledged: "Request acknowledged after p50 / p99 / max", "请求被确认耗时 p50 / p99 / 最大";
    TtftAtServer: "Server part of TTFT p50 / p99 / max", "TTFT 中服务端部分 p50 / p99 / 最大";
    Retransmissions: "Requests with segments resent / out of order / all", "有分段重传 / 乱序的请求数 / 总数";

    // Columns of the percentiles.
    Ttft: "TTFT (s)", "TTFT (s)";
    Itl: "ITL (s)", "ITL (s)";
    Tpot: "TPOT (s)", "TPOT (s)";
    TpotFrom: "TPOT from (s)", "TPOT 下界 (s)";
    TpotTo: "to (s)", "TPOT 上界 (s)";
    Latency: "Latency (s)", "端到端时延 (s)";
    InputTokens: "Input tokens", "输入 token 数";
    OutputTokens: "Output tokens", "输出 token 数";
    OutputRate: "Output (tok/s)", "输出 (tok/s)";
    TotalRate: "Total (tok/s)", "总计 (tok/s)";

    // Columns of the HTML report, in milliseconds.
    TtftMs: "TTFT (ms)", "TTFT (ms)";
    ItlMs: "ITL (ms)", "ITL (ms)";
    TpotMs: "TPOT (ms)", "TPOT (ms)";
    TpotFromMs: "TPOT from (ms)", "TPOT 下界 (ms)";
    TpotToMs: "TPOT to (ms)", "TPOT 上界 (ms)";
    LatencyMs: "Latency (ms)", "端到端时延 (ms)";
    AvgTtftMs: "Avg TTFT (ms)", "平均 TTFT (ms)";
    P99TtftMs: "P99 TTFT (ms)", "P99 TTFT (ms)";
    AvgTpotMs: "Avg TPOT (ms)", "平均 TPOT (ms)";
    P99TpotMs: "P99 TPOT (ms)", "P99 TPOT (ms)";
    AvgLatencyMs: "Avg latency (ms)", "平均时延 (ms)";
    P99LatencyMs: "P99 latency (ms)", "P99 时延 (ms)";
    InputTokPerS: "Input tok/s", "输入 tok/s";
    PerUser: "tok/s per user", "单用户 tok/s";
    PerGpu: "tok/s per GPU", "单 GPU tok/s";

    // Columns of the turns.
    Turn: "Turn", "轮次";
    Requests: "Requests", "请求数";
    Succeeded: "Succeeded", "成功请求数";
    TtftAverage: "TTFT avg (s)", "TTFT 平均 (s)";
    TtftP99: "TTFT p99 (s)", "TTFT p99 (s)";
    LatencyAverage: "Latency avg (s)", "端到端时延 平均 (s)";
    LatencyP99: "Latency p99 (s)", "端到端时延 p99 (s)";
    History: "History (%)", "历史上文占比 (%)";
    CachedTokens: "Cached tokens", "缓存命中 token 数";
    CachedShare: "Cached (%)", "缓存命中率 (%)";

    // Figures of a load.
    Rps: "RPS", "RPS";
    RequestsPerS: "Requests/s", "请求吞吐量 (req/s)";
    OutputTokPerS: "Output tok/s", "输出 tok/s";
    SuccessRate: "Success rate (%)", "成功率 (%)";

    // The client's figures compared with the server's.
    Mean: "Mean", "平均";
    Verdict: "Verdict", "结论";
    QueueServer: "Queue server", "排队（服务端）";
    PartsOfTtft: "Parts of the mean TTFT", "平均 TTFT 的构成";
    TimeMs: "Time (ms)", "时间 (ms)";
    TtftFromDue: "TTFT from due", "TTFT（自计划时刻起）";
    Connecting: "Connecting", "建连";
    SendLagPart: "Send lag", "发送滞后";
    NetworkAndFrontend: "Network and server frontend", "网络与服务端前端";
    ServerTtft: "The server's own TTFT", "服务端自测 TTFT";
    ReceiveLagPart: "Receive lag (unstamped reads)", "接收滞后（无时间戳的读取）";
    Counts: "Counts", "计数";
    Client: "Client", "客户端";
    Server: "Server", "服务端";
    State: "State", "状态";
    MeanOfScrapes: "Mean of scrapes", "各次采集的平均";
    Maximum: "Maximum", "最大";
    RunningServer: "Running (server)", "运行中（服务端）";
    WaitingServer: "Waiting (server)", "等待中（服务端）";
    CacheUseServer: "Cache use (server, share)", "KV 缓存使用率（服务端）";
    InFlightClient: "In flight (client)", "在途请求（客户端）";
    CachedTokensServer: "Prompt tokens from the cache (server, share)", "前缀缓存命中率（服务端）";
    PreemptionsServer: "Preemptions (server)", "抢占次数（服务端）";
    BucketsNote:
        "Server quantiles are given by the bounds of histogram buckets. TTFT and latency count from the first byte sent. The \
         server's begin when it has read and parsed the request, and end before the token is written to the connection; \
         'frontend and network' is the rest of the client's.",
        "服务端的分位数以直方图分桶的上下界表示。此表的 TTFT 与时延自发出首字节起计。服务端的计时始于请求读取并解析完成，止于 token 写入连接之前；\
         客户端时间的其余部分为“前端与网络”。";

    // The resource use of a server started here.
    UsedByServer: "Used by the server", "服务端资源占用";
    Value: "Value", "数值";
    BusyCores: "Cores busy on average", "平均占用核心数";
    PeakMemory: "Peak memory (GiB)", "内存峰值 (GiB)";
    PeakGpuMemory: "Peak GPU memory (GiB)", "显存峰值 (GiB)";
}

impl Label {
    /// In this language.
    pub const fn text(self, language: Language) -> &'static str {
        match language {
            Language::En => self.en(),
            Language::Zh => self.zh(),
        }
    }
}

/// Which value of a distribution a row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    Average,
    P50,
    P90,
    P99,
}

impl Statistic {
    /// The level of a percentile, in thousandths; `None` for the average.
    pub(crate) fn per_mille(self) -> Option<u32> {
        match self {
            Statistic::Average => None,
            Statistic::P50 => Some(500),
            Statistic::P90 => Some(900),
            Statistic::P99 => Some(990),
        }
    }
}

/// The name of a time with its statistic and unit: `P99 TTFT (ms)`.
pub(crate) fn time_name(statistic: Statistic, figure: Figure, unit: &str, language: Language) -> String {
    let figure = match figure {
        Figure::Latency => language.pick("latency", "时延"),
        Figure::Ttft | Figure::Itl | Figure::Tpot => figure.en(),
    };
    let statistic = match statistic {
        Statistic::Average => language.pick("Average", "平均"),
        Statistic::P50 => "P50",
        Statistic::P90 => "P90",
        Statistic::P99 => "P99",
    };
    // Chinese characters need no space between them.
    let is_chinese = |text: &str| !text.is_ascii();
    let space = if is_chinese(statistic) && is_chinese(figure) { "" } else { " " };
    format!("{statistic}{space}{figure} ({unit})")
}

/// The name of a class of failures: the one in the database, or what it means in Chinese.
pub(crate) fn failure_name(failure: Failure, language: Language) -> &'static str {
    let zh = match failure {
        Failure::Connect => "连接失败",
        Failure::ConnectTimeout => "连接超时",
        Failure::Tls => "TLS 握手失败",
        Failure::Write => "发送失败",
        Failure::ReadTimeout => "读取超时",
        Failure::TotalTimeout => "总超时",
        Failure::ServerGone => "服务端已退出",
        Failure::Reset => "连接被重置",
        Failure::ClosedEarly => "未响应即关闭连接",
        Failure::Truncated => "响应不完整",
        Failure::Protocol => "HTTP 协议错误",
        Failure::Status => "HTTP 状态码非 200",
        Failure::InStream => "响应流中报错",
        Failure::Empty => "响应无输出",
        Failure::Body => "响应体无法解析",
    };
    language.pick(failure.name(), zh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_chinese_but_for_abbreviations_and_units() {
        for label in Label::ALL {
            let abbreviations = matches!(
                label,
                Label::Ttft
                    | Label::Itl
                    | Label::Tpot
                    | Label::TtftP99
                    | Label::Rps
                    | Label::TtftMs
                    | Label::ItlMs
                    | Label::TpotMs
                    | Label::P99TtftMs
                    | Label::P99TpotMs
            );
            assert_eq!(label.zh().is_ascii(), abbreviations, "{label:?}");
            assert!(label.en().is_ascii(), "{label:?}");
        }
    }

    #[test]
    fn names_of_times() {
        use Language::{En, Zh};
        assert_eq!(time_name(Statistic::Average, Figure::Latency, "s", En), "Average latency (s)");
        assert_eq!(time_name(Statistic::Average, Figure::Latency, "s", Zh), "平均时延 (s)");
        assert_eq!(time_name(Statistic::P99, Figure::Latency, "ms", Zh), "P99 时延 (ms)");
        assert_eq!(time_name(Statistic::Average, Figure::Itl, "ms", Zh), "平均 ITL (ms)");
    }
}
