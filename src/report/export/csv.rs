//! The CSV files of LMDeploy v0.1.0: those of `profile_throughput.py` and of `profile_restful_api.py`.

use crate::stats::Summary;

/// The columns of `profile_throughput.py`, with its spelling.
const HEAD: &str = "batch,num_promts,RPS,RPM,FTL(ave)(s),FTL(min)(s),FTL(max)(s),50%(s),75%(s),95%(s),99%(s),\
                    throughput(out tok/s),throughput(total tok/s)";

/// The columns of `profile_restful_api.py`: the same without percentiles.
const API_HEAD: &str = "batch,num_promts,RPS,RPM,FTL(ave)(s),FTL(min)(s),FTL(max)(s),throughput(out tok/s),\
                        throughput(total tok/s)";

/// The file of `profile_throughput.py`, with a row for each run. The percentiles are those of the time between tokens, the
/// first left out.
pub fn lmdeploy(runs: &[&Summary]) -> String {
    file(HEAD, runs, |run| {
        let itl_s = &run.series.itl_s;
        vec![itl_s.value(500), itl_s.value(750), itl_s.value(950), itl_s.value(990)]
    })
}

/// The file of `profile_restful_api.py`, with a row for each run.
pub fn lmdeploy_api(runs: &[&Summary]) -> String {
    file(API_HEAD, runs, |_| Vec::new())
}

/// A file with a row for each run; `percentiles` are the columns between the first tokens and the throughput.
fn file(head: &str, runs: &[&Summary], percentiles: fn(&Summary) -> Vec<Option<f64>>) -> String {
    let mut out = format!("{head}\n");
    for run in runs {
        let first = &run.series.ttft_s;
        let rate = run.throughput.requests_per_s;
        let mut figures = vec![rate, rate.map(|rate| rate * 60.0), first.mean, first.min, first.max];
        figures.extend(percentiles(run));
        figures.extend([run.throughput.output_tokens_per_s, run.throughput.total_tokens_per_s]);
        let batch = run.facts.parallel.map_or_else(|| "-".to_string(), |parallel| parallel.to_string());
        let cell = |figure: &Option<f64>| figure.map_or_else(|| "-".to_string(), |value| format!("{value:.3}"));
        let cells: Vec<String> = figures.iter().map(cell).collect();
        out.push_str(&format!("{batch},{},{}\n", run.counts.scheduled, cells.join(",")));
    }
    out
}
