//! Chinese names of figures and table cells, and the definitions of figures in both languages.

use crate::report::language::Language;

/// The Chinese names of the summary's rows.
const ROWS: [(&str, &str); 60] = [
    ("Time taken for tests (s)", "测试总时长 (s)"),
    ("Number of concurrency", "并发数"),
    ("Total requests", "总请求数"),
    ("Succeed requests", "成功请求数"),
    ("Failed requests", "失败请求数"),
    ("Unfinished requests", "未完成请求数"),
    ("Unsent requests", "未发送请求数"),
    ("Unknown requests (not stored)", "未知请求数（未存储）"),
    ("Output token throughput (tok/s)", "输出吞吐量 (tok/s)"),
    ("Total token throughput (tok/s)", "总吞吐量 (tok/s)"),
    ("Request throughput (req/s)", "请求吞吐量 (req/s)"),
    ("Average latency (s)", "平均延迟 (s)"),
    ("Average time to first token (s)", "平均首token时间 (s)"),
    ("Average time per output token (s)", "平均每输出token时间 (s)"),
    ("Average input tokens per request", "平均输入token数"),
    ("Average output tokens per request", "平均输出token数"),
    ("Request throughput (req/min)", "请求吞吐量 (req/min)"),
    ("Average inter-token latency (s)", "平均输出token间时延 (s)"),
    ("Average package per request", "每个请求的平均包数"),
    ("Average package latency (s)", "每个包的平均延迟 (s)"),
    ("First token latency min (s)", "首token延时最小值 (s)"),
    ("First token latency max (s)", "首token延时最大值 (s)"),
    ("First token latency ave (s)", "首token延时平均值 (s)"),
    ("Average time to first answer token (s)", "平均首个回答token时间 (s)"),
    ("Planned request rate (req/s)", "计划请求速率 (req/s)"),
    ("Planned conversation rate (1/s)", "计划对话速率 (1/s)"),
    ("Offered request rate (req/s)", "提供的请求速率 (req/s)"),
    ("Sent request rate (req/s)", "发送速率 (req/s)"),
    ("Achieved request rate (req/s)", "完成速率 (req/s)"),
    ("Peak concurrency", "峰值并发"),
    ("Mean concurrency", "平均并发"),
    ("Goodput (req/s)", "有效吞吐量 (req/s)"),
    ("Requests within SLO (%)", "满足 SLO 的请求 (%)"),
    ("Receive lag p50 / p99 / max", "接收滞后 p50 / p99 / 最大"),
    ("Send lag p50 / p99 / max", "发送滞后 p50 / p99 / 最大"),
    ("Turnaround p50 / p99 / max", "周转 p50 / p99 / 最大"),
    ("Connect time p50 / p99 / max", "建连时间 p50 / p99 / 最大"),
    ("TLS handshake p50 / p99 / max", "TLS 握手 p50 / p99 / 最大"),
    ("Loop gap p50 / p99 / max", "循环间隔 p50 / p99 / 最大"),
    ("Service TTFT avg / p50 / p99 (s)", "自发出起的 TTFT 平均 / p50 / p99 (s)"),
    ("Reads with two or more events", "含多个事件的读取"),
    ("Events that share a read", "共享一次读取的事件"),
    ("Reads with a kernel timestamp", "带内核时间戳的读取"),
    ("Mean concurrency while sending", "发送期间的平均并发"),
    ("Worker CPU avg / max", "工作线程 CPU 平均 / 最大"),
    ("CPU per output event", "每个输出事件的 CPU 时间"),
    ("Context switches voluntary / forced", "上下文切换 主动 / 被动"),
    ("Connections opened", "打开的连接数"),
    ("Turn", "轮次"),
    ("Requests", "请求数"),
    ("Succeeded", "成功"),
    ("TTFT avg (s)", "TTFT 平均 (s)"),
    ("TTFT p99 (s)", "TTFT p99 (s)"),
    ("Latency avg (s)", "延迟 平均 (s)"),
    ("Latency p99 (s)", "延迟 p99 (s)"),
    ("Input tokens", "输入token数"),
    ("Output tokens", "输出token数"),
    ("History (%)", "已有上文 (%)"),
    ("Cached tokens", "缓存token数"),
    ("Cached (%)", "缓存 (%)"),
];

/// The name of a row in a language; a row without a translation keeps its name.
pub fn row_name(key: &'static str, language: Language) -> &'static str {
    match language {
        Language::En => key,
        Language::Zh => ROWS.iter().find(|row| row.0 == key).map_or(key, |row| row.1),
    }
}

/// Chinese texts of table cells, and of names within findings.
const WORDS: [(&str, &str); 69] = [
    ("Latency (s)", "延迟 (s)"),
    ("Input tokens", "输入 token"),
    ("Output (tok/s)", "输出 (tok/s)"),
    ("Total (tok/s)", "总计 (tok/s)"),
    ("Requests/s", "每秒请求数"),
    ("Output tok/s", "输出 tok/s"),
    ("Average TTFT (s)", "平均 TTFT (s)"),
    ("Average ITL (s)", "平均 ITL (s)"),
    ("Average TPOT (s)", "平均 TPOT (s)"),
    ("Average latency (s)", "平均延迟 (s)"),
    ("P50 latency (s)", "P50 延迟 (s)"),
    ("P90 latency (s)", "P90 延迟 (s)"),
    ("P99 latency (s)", "P99 延迟 (s)"),
    ("Avg TTFT (s)", "平均 TTFT (s)"),
    ("Avg TPOT (s)", "平均 TPOT (s)"),
    ("Avg latency (s)", "平均延迟 (s)"),
    ("rose", "上升"),
    ("fell", "下降"),
    ("longer", "长"),
    ("shorter", "短"),
    ("Seconds", "秒"),
    ("Mean", "平均"),
    ("Verdict", "结论"),
    ("TTFT client", "TTFT（客户端）"),
    ("TTFT server", "TTFT（服务端）"),
    ("ITL client", "ITL（客户端）"),
    ("ITL server", "ITL（服务端）"),
    ("TPOT client", "TPOT（客户端）"),
    ("TPOT server", "TPOT（服务端）"),
    ("Latency", "延迟"),
    ("Latency client", "延迟（客户端）"),
    ("Latency server", "延迟（服务端）"),
    ("Queue server", "排队（服务端）"),
    ("consistent", "一致"),
    ("equal", "相等"),
    ("apart", "不一致"),
    ("not judged", "未判定"),
    ("client +", "客户端更长"),
    ("server +", "服务端更长"),
    ("nothing was observed", "没有观测"),
    ("the run was killed before the last scrape", "测试在最后一次查看前被终止"),
    ("Parts of the mean TTFT", "平均 TTFT 的构成"),
    ("Time", "时间"),
    ("TTFT from due", "自计划时刻起的 TTFT"),
    ("Connecting", "建连"),
    ("Send lag", "发送滞后"),
    ("Network and server frontend", "网络与服务端前端"),
    ("The server's own TTFT", "服务端自身 TTFT"),
    ("Receive lag (unstamped reads)", "接收滞后（无时间戳的读取）"),
    ("Counts", "计数"),
    ("Client", "客户端"),
    ("Server", "服务端"),
    ("Requests", "请求"),
    ("Prompt tokens", "输入 token"),
    ("Output tokens", "输出 token"),
    ("State", "状态"),
    ("Mean of scrapes", "各次查看的平均"),
    ("Maximum", "最大"),
    ("Running (server)", "运行中（服务端）"),
    ("Waiting (server)", "等待中（服务端）"),
    ("Cache use (server, share)", "缓存使用率（服务端）"),
    ("In flight (client)", "在途（客户端）"),
    ("Preemptions (server)", "抢占次数（服务端）"),
    ("Used by the server", "服务占用"),
    ("Value", "数值"),
    ("Cores busy on average", "平均占用核心数"),
    ("Peak memory (GiB)", "内存峰值 (GiB)"),
    ("Peak GPU memory (GiB)", "显存峰值 (GiB)"),
    (crate::report::server::BUCKETS_NOTE, "服务端百分位只知道落在哪个分桶之内。此处 TTFT 与延迟自请求发出起计。"),
];

/// The text of a table cell in a language; a text without a translation stays as it is.
pub fn word(text: &str, language: Language) -> &str {
    let known = || WORDS.iter().find(|word| word.0 == text);
    match language {
        Language::En => text,
        Language::Zh => known().map_or(text, |word| word.1),
    }
}

/// The name, formula and meaning of a figure, each in English and Chinese.
pub struct Definition {
    pub name: Pair,
    pub formula: Pair,
    pub meaning: Pair,
}

/// A text in English and in Chinese.
type Pair = [&'static str; 2];

const fn define(name: Pair, formula: Pair, en: &'static str, zh: &'static str) -> Definition {
    Definition { name, formula, meaning: [en, zh] }
}

/// Every figure that the report shows.
pub const DEFINITIONS: [Definition; 18] = [
    define(
        ["due", "计划时刻 (due)"],
        ["", ""],
        "The time at which the request should be sent: its scheduled time, or in a closed loop the time at which its slot \
         started it; for a later turn of a conversation, the end of the previous response plus the think time. Waiting \
         for a free slot or for a late client is included (no coordinated omission).",
        "计划发出请求的时刻：开环为调度表中的时刻，闭环为通道取出请求的时刻，对话的后续轮次为上一回答结束加思考时间。\
         等待通道或客户端迟发都计入。",
    ),
    define(
        ["arrival", "到达时刻 (arrival)"],
        ["", ""],
        "The kernel's receive timestamp of the data; without one, the time at which the read completed, before any \
         parsing.",
        "数据到达的内核接收时间戳；没有时间戳时为读取完成的时刻（解析之前）。",
    ),
    define(
        ["Latency (E2E)", "延迟（端到端）"],
        ["end − due", "end − due"],
        "Until the last byte of the response.",
        "端到端延迟，含最后一个字节。",
    ),
    define(
        ["TTFT", "首 token 时间 (TTFT)"],
        ["first_token − due", "first_token − due"],
        "Until the first event with output: text, reasoning or tool call. Events with only a role do not count. Without \
         streaming: the latency.",
        "到首个含输出（文本、推理或工具调用）的事件为止；仅含 role 的事件不算。非流式时等于延迟。",
    ),
    define(
        ["Time to first answer token", "首个回答 token 时间"],
        ["first_answer_token − due", "first_answer_token − due"],
        "Until the first event with text that is not reasoning. Shown if it differs from TTFT.",
        "到首个含非推理文本的事件为止；与 TTFT 不同时显示。",
    ),
    define(
        ["ITL", "token 间时延 (ITL)"],
        ["arrival[i+1] − arrival[i]", "arrival[i+1] − arrival[i]"],
        "Gaps between consecutive output events of one choice of a response, pooled over all requests. Events of one read have the \
         same arrival time.",
        "同一回答中相邻输出事件的间隔，汇总所有请求。同一次读取到的事件时刻相同。",
    ),
    define(
        ["TPOT", "每输出 token 时间 (TPOT)"],
        ["(last_token − first_token) / (output_tokens − 1)", "(last_token − first_token) / (output_tokens − 1)"],
        "Undefined, not 0, for fewer than two tokens. If the server counts a token without text (end of sequence), its \
         event is the last one. Several choices: the mean over the choices.",
        "少于两个token时无定义（不是 0）。若服务端计入无文本的 token（结束符），则以其事件为末个。多个候选回答时取各自的平均。",
    ),
    define(
        ["Output tok/s", "输出 tok/s"],
        ["output_tokens / latency", "output_tokens / latency"],
        "For one request.",
        "单个请求的输出速度。",
    ),
    define(
        ["Time taken", "测试时长"],
        ["last end − first due", "last end − first due"],
        "Over the measured requests.",
        "所有被测请求。",
    ),
    define(
        ["Request throughput", "请求吞吐量"],
        ["succeeded / time", "成功请求数 / 时长"],
        "Failed requests do not count, but their time does.",
        "失败请求不计数，但其时间计入。",
    ),
    define(
        ["Offered, sent, achieved rate", "计划、发出、完成速率"],
        ["(n − 1) / (last − first)", "(n − 1) / (末 − 首)"],
        "Rates of the due times, the send times, and the ends of succeeded requests. A closed loop has no schedule and \
         therefore none of these.",
        "按计划时刻、发出时刻与完成时刻计算；闭环没有调度表，也没有这些速率。",
    ),
    define(
        ["Output throughput", "输出吞吐量"],
        ["Σ output_tokens / time", "Σ output_tokens / 时长"],
        "Of the succeeded requests.",
        "成功请求的输出token。",
    ),
    define(
        ["Total throughput", "总吞吐量"],
        ["(Σ input + Σ output tokens) / time", "(Σ 输入 + Σ 输出 token) / 时长"],
        "Of the succeeded requests.",
        "成功请求的全部token。",
    ),
    define(
        ["tok/s over time", "tok/s 随时间变化"],
        ["Σ tokens arrived / interval", "Σ 到达的 token / 区间长度"],
        "By the arrival of each token, including failed requests; an event counts as its share of the response's \
         tokens.",
        "按每个token的到达时刻统计（含失败请求）；一个事件按其占回答token数的份额计。",
    ),
    define(
        ["Percentile", "百分位"],
        ["nearest rank", "最近秩"],
        "The smallest value with at least p·n values at or below it, from every record. * marks percentiles with fewer \
         than 10 samples beyond.",
        "最近秩法：至少 p·n 个样本不大于它的最小值，由全部记录得出。* 表示其外样本少于 10 个。",
    ),
    define(
        ["Confidence interval", "置信区间"],
        ["order statistics with n / deff", "次序统计量，样本数取 n / deff"],
        "95 %; the design effect is estimated from 30 batches in time order, because neighbouring responses are \
         correlated.",
        "95 %；设计效应由按时间排列的 30 批样本估计，因为同批回答彼此相似。",
    ),
    define(
        ["Goodput", "有效吞吐量"],
        ["requests within every SLO / time", "满足全部 SLO 的请求数 / 时长"],
        "Requests that succeeded and met every bound of --slo themselves.",
        "成功且自身满足每个 --slo 界限的请求。",
    ),
    define(
        ["Receive lag, send lag", "接收滞后、发送滞后"],
        ["processed − arrived; write_start − due", "processed − arrived; write_start − due"],
        "The client's own delays: from arrival to processing, and from the due time to sending. Reported, never subtracted.",
        "客户端自身误差：读取数据的滞后与发送请求的滞后。只报告，从不扣除。",
    ),
];
