//! The CSV of LMDeploy v0.1.0's `profile_throughput.py`.

use crate::stats::Summary;

/// Its columns, with its spelling.
const HEAD: &str = "batch,num_promts,RPS,RPM,FTL(ave)(s),FTL(min)(s),FTL(max)(s),50%(s),75%(s),95%(s),99%(s),\
                    throughput(out tok/s),throughput(total tok/s)";

/// A row for each run. The percentiles are those of the time between tokens, the first left out.
pub fn lmdeploy(runs: &[&Summary]) -> String {
    let mut out = format!("{HEAD}\n");
    for run in runs {
        let series = &run.series;
        let first = &series.ttft_s;
        let figures = [
            run.throughput.requests_per_s,
            run.throughput.requests_per_s.map(|rate| rate * 60.0),
            first.mean,
            first.min,
            first.max,
            series.itl_s.value(500),
            series.itl_s.value(750),
            series.itl_s.value(950),
            series.itl_s.value(990),
            run.throughput.output_tokens_per_s,
            run.throughput.total_tokens_per_s,
        ];
        let batch = run.facts.parallel.map_or_else(|| "-".to_string(), |parallel| parallel.to_string());
        let cells = figures.map(|figure| figure.map_or_else(|| "-".to_string(), |value| format!("{value:.3}")));
        out.push_str(&format!("{batch},{},{}\n", run.counts.scheduled, cells.join(",")));
    }
    out
}
