//! The definitions of all figures: for the HTML report in both languages, and as text for `--help`.

use super::table::wrap;

/// A text in English and in Chinese.
pub(crate) type Pair = [&'static str; 2];

/// The name, formula and meaning of a figure, each in English and Chinese.
pub(crate) struct Definition {
    pub name: Pair,
    pub formula: Pair,
    pub meaning: Pair,
}

const fn define(name: Pair, formula: Pair, en: &'static str, zh: &'static str) -> Definition {
    Definition { name, formula, meaning: [en, zh] }
}

/// Every figure that the report shows.
pub(crate) const DEFINITIONS: [Definition; 23] = [
    define(
        ["due", "计划时刻 (due)"],
        ["", ""],
        "The time at which the request should be sent: its scheduled time, or in a closed loop the time at which its slot \
         started it; for a later turn of a conversation, the end of the previous response plus the think time. Waiting \
         for a free slot or for a late client is included (no coordinated omission).",
        "请求应当发出的时刻：开环为调度时刻，闭环为并发槽取出请求的时刻，对话的后续轮次为上一响应结束加思考时间。\
         等待空闲并发槽、客户端迟发的时间都计入指标，因此没有协同遗漏 (coordinated omission)。",
    ),
    define(
        ["arrival", "到达时刻 (arrival)"],
        ["", ""],
        "The kernel's receive timestamp of the data; without one, the time at which the read completed, before any \
         parsing.",
        "内核记录的数据接收时间戳；没有时间戳时取读取完成的时刻，早于任何解析。",
    ),
    define(
        ["Latency (E2E)", "端到端时延 (E2E)"],
        ["end − due", "end − due"],
        "Until the last byte of the response.",
        "到响应的最后一个字节为止。",
    ),
    define(
        ["TTFT", "首 token 时延 (TTFT)"],
        ["first_token − due", "first_token − due"],
        "Until the first event with output: text, reasoning or tool call. Events with only a role do not count. Of streamed \
         responses only, as are ITL and TPOT; a response that is not streamed has a latency.",
        "到首个含输出（文本、推理内容或工具调用）的事件为止，仅含 role 的事件不算。与 ITL、TPOT 一样只统计流式响应；非流式响应只有端到端时延。",
    ),
    define(
        ["Time to first answer token", "首个回答 token 时延"],
        ["first_answer_token − due", "first_answer_token − due"],
        "Until the first event with text that is not reasoning. Shown if it differs from TTFT.",
        "到首个含非推理文本的事件为止；与 TTFT 不同时才显示。",
    ),
    define(
        ["ITL", "token 间时延 (ITL)"],
        ["arrival[i+1] − arrival[i]", "arrival[i+1] − arrival[i]"],
        "Gaps between consecutive output events of one choice of a response, pooled over all requests; a token without \
         text ends no gap. Events of one read have the same arrival time.",
        "同一响应的同一候选回答中相邻输出事件的间隔，所有请求合并统计；无文本的 token 不构成间隔。同一次读取到的事件到达时刻相同。",
    ),
    define(
        ["TPOT", "每 token 时延 (TPOT)"],
        ["(last_token − first_token) / (output_tokens − 1)", "(last_token − first_token) / (output_tokens − 1)"],
        "Undefined, not 0, for fewer than two tokens. If the server counts tokens without text (end of sequence, parts of a \
         character), their events are the first or the last one. If there are more tokens than events (parsers swallow \
         some, one event has several), it is a range: all tokens without an event lie within the span, or none does. The \
         value shown is the lower end, unless a span that begins with the role or ends with the finish event has, at the pace \
         of the events, a number of steps nearer to that of the tokens; charts, comparisons, objectives and exports use it. \
         Several choices: the mean over the choices.",
        "输出不足两个 token 时无定义（不记为 0）。若服务端计入无文本的 token（结束符、字符的一部分），则以其事件为首个或末个。若 token 数多于事件数\
         （解析器吞掉若干 token，或一个事件含多个 token），则为一个范围：无事件的 token 全部位于跨度之内，或全部在其外。显示值为下界；\
         若以 role 事件为首个或以结束事件为末个时，按事件节奏推算的步数更接近 token 数，则取该跨度的值。图表、对比、SLO 与导出均用显示值。多个候选回答时取各自的平均值。",
    ),
    define(
        ["Output tok/s", "输出速度 (tok/s)"],
        ["output_tokens / latency", "output_tokens / latency"],
        "For one request.",
        "单个请求的输出速度。",
    ),
    define(
        ["Time taken", "测试时长"],
        ["last end − first due", "末个 end − 首个 due"],
        "Over the measured requests.",
        "只计被测请求，不含预热。",
    ),
    define(
        ["Request throughput", "请求吞吐量"],
        ["succeeded / time", "成功请求数 / 时长"],
        "Failed requests do not count, but their time does.",
        "失败的请求不计数，但其耗时计入时长。",
    ),
    define(
        ["Offered, sent, achieved rate", "到达率、发送速率、完成速率"],
        ["(n − 1) / (last − first)", "(n − 1) / (末 − 首)"],
        "Rates of the due times, the send times, and the ends of succeeded requests. A closed loop has no schedule and \
         therefore none of these.",
        "分别按计划时刻、发送时刻、成功请求的结束时刻计算。闭环没有调度，也没有这些速率。",
    ),
    define(
        ["Output throughput", "输出 token 吞吐量"],
        ["Σ output_tokens / time", "Σ output_tokens / 时长"],
        "Of the succeeded requests.",
        "只计成功的请求。",
    ),
    define(
        ["Total throughput", "总 token 吞吐量"],
        ["(Σ input + Σ output tokens) / time", "(Σ 输入 + Σ 输出 token) / 时长"],
        "Of the succeeded requests.",
        "只计成功的请求。",
    ),
    define(
        ["Speed per user", "单用户速度"],
        ["1 / mean TPOT", "1 / 平均 TPOT"],
        "Output tokens per second that one user sees once the response has begun.",
        "响应开始后单个用户每秒看到的输出 token 数。",
    ),
    define(
        ["Throughput per GPU", "单 GPU 吞吐量"],
        ["output throughput / GPUs", "输出 token 吞吐量 / GPU 数"],
        "With --gpus, which gives the number of GPUs of the server.",
        "GPU 数由 --gpus 给出。",
    ),
    define(
        ["Steady throughput", "稳态吞吐量"],
        ["succeeded / time with all slots busy", "成功请求数 / 所有并发槽均忙的时长"],
        "From the first to the last time at which all slots of a closed loop were busy, or while a schedule was offering: \
         without start-up and drain. None below 1 s or 30 requests.",
        "闭环从首次到最后一次所有并发槽均忙的时段，或调度持续到达的时段，不含启动和收尾。不足 1 s 或 30 个请求时没有此指标。",
    ),
    define(
        ["Cached input tokens", "输入 token 缓存命中率"],
        ["Σ cached / Σ input tokens", "Σ 缓存命中 / Σ 输入 token"],
        "Input tokens that the server found in its prefix cache, of the succeeded requests. Shown if the server reports them.",
        "服务端前缀缓存命中的输入 token，只计成功的请求；服务端报告时才显示。",
    ),
    define(
        ["tok/s over time", "tok/s 随时间变化"],
        ["Σ tokens arrived / interval", "Σ 到达的 token / 区间长度"],
        "By the arrival of each token, including failed requests; an event counts as its share of the response's \
         tokens.",
        "按 token 的到达时刻统计，含失败的请求；响应的 token 数平均分摊到各个事件。",
    ),
    define(
        ["Percentile", "百分位数"],
        ["nearest rank", "最近秩"],
        "The smallest value with at least p·n values at or below it, from every record. * marks percentiles with fewer \
         than 10 samples beyond.",
        "至少有 p·n 个样本不大于它的最小值，由全部记录算出。* 表示大于它的样本不足 10 个。",
    ),
    define(
        ["Confidence interval", "置信区间"],
        ["order statistics with n / deff", "次序统计量，样本数取 n / deff"],
        "95 %; the design effect is estimated from 30 batches in time order, because neighbouring responses are \
         correlated.",
        "置信水平 95 %；相邻响应彼此相关，因此按时间分 30 批估计设计效应 (deff)。",
    ),
    define(
        ["Goodput", "有效吞吐量"],
        ["requests within every SLO / time", "满足全部 SLO 的请求数 / 时长"],
        "Requests that succeeded and met every bound of --slo themselves.",
        "只计成功且自身满足 --slo 全部界限的请求。",
    ),
    define(
        ["Receive lag, send lag", "接收滞后、发送滞后"],
        ["processed − arrived; write_start − due", "processed − arrived; write_start − due"],
        "The client's own delays: from arrival to processing, and from the due time to sending. Reported, never subtracted.",
        "客户端自身造成的延迟：从数据到达到处理，从计划时刻到发送。只报告，从不扣除。",
    ),
    define(
        ["Server part of TTFT", "TTFT 中服务端部分"],
        ["first_token − sent − min RTT", "first_token − sent − min RTT"],
        "TTFT without send lag, without the way to the network device and without the minimum TCP round trip. \
         Acknowledgements may be delayed, so only the minimum counts as network. Through a proxy it is that of the way to the \
         proxy.",
        "从 TTFT 中减去发送滞后、到网卡的时间和 TCP 往返时间的最小值。确认可能被对端延迟，因此只把最小值计为网络；经代理时为到代理的往返时间。",
    ),
];

/// Every figure with its formula, then its meaning, in lines of at most `width` columns.
pub fn text(width: usize) -> String {
    let mut out = "Definitions (times are seconds; the HTML report has them too):\n".to_string();
    for definition in &DEFINITIONS {
        let [name, formula, meaning] = [definition.name, definition.formula, definition.meaning].map(|pair| pair[0]);
        let formula = if formula.is_empty() { String::new() } else { format!(" = {formula}") };
        out.push_str(&wrap("  ", &format!("{name}{formula}"), width));
        out.push_str(&wrap("      ", meaning, width));
    }
    out.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn every_formula_fits_a_narrow_screen() {
        let text = text(80);
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        for what in ["TTFT = first_token − due", "/ (output_tokens − 1)", "Goodput = ", "arrival[i+1]"] {
            assert!(text.contains(what), "{what}: {text}");
        }
    }
}
