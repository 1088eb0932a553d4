//! The figures in the result files of several programs. Missing and malformed members are figures that were not reported.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::claims::{Claims, Reported};

/// The summary of this program, or of evalscope, and its percentiles (`Null` if there are none). Later versions of
/// evalscope have other names, and some times in milliseconds.
pub fn evalscope(summary: &Json, percentiles: &Json) -> Claims {
    let number = |names: [&str; 2]| names.iter().find_map(|name| summary[name].as_f64());
    // The mean of a figure and its column of percentiles; both have the unit in their name.
    let figure = |means: [&str; 2], columns: [&str; 2]| {
        let column = |row: &Json| columns.iter().find_map(|name| Some(row[name].as_f64()? * ms_of(name)));
        let of_row = |row: &Json| {
            let percent = match row["Percentiles"].as_str()?.trim_end_matches('%') {
                "max" => "100",
                "min" => "0",
                percent => percent,
            };
            Some((percent.to_string(), column(row)?))
        };
        Reported {
            mean: means.iter().find_map(|name| Some(summary[name].as_f64()? * ms_of(name))),
            percentiles: percentiles.as_array().into_iter().flatten().filter_map(of_row).collect(),
        }
    };
    Claims {
        ok: number(["Succeed requests", "Success Requests"]),
        failed: number(["Failed requests", "Failed Requests"]),
        requests_per_s: number(["Request throughput (req/s)", "Req Throughput (req/s)"]),
        output_tokens_per_s: number(["Output token throughput (tok/s)", "Output Throughput (tok/s)"]),
        warning: warning(&summary["Findings"]),
        ttft_ms: figure(["Average time to first token (s)", "Avg TTFT (ms)"], ["TTFT (s)", "TTFT (ms)"]),
        itl_ms: figure(["Average inter-token latency (s)", "Avg ITL (ms)"], ["ITL (s)", "ITL (ms)"]),
        tpot_ms: figure(["Average time per output token (s)", "Avg TPOT (ms)"], ["TPOT (s)", "TPOT (ms)"]),
        latency_ms: figure(["Average latency (s)", "Avg Latency (s)"], ["Latency (s)", "Latency (ms)"]),
        ..Claims::default()
    }
}

/// Milliseconds in the unit at the end of a name, `(s)` or `(ms)`.
fn ms_of(name: &str) -> f64 {
    if name.ends_with("(ms)") { 1.0 } else { 1e3 }
}

/// The text of the first finding of this program that is more than a note and is about the client.
fn warning(findings: &Json) -> Option<String> {
    let severe = |finding: &&Json| matches!(finding["severity"].as_str(), Some("caution" | "void"));
    let of_client = |finding: &&Json| finding["cause"].as_str() == Some("client_busy");
    let found = findings.as_array()?.iter().filter(severe).find(of_client)?;
    found["text"].as_str().map(str::to_string)
}

/// vLLM's flat object; SGLang's has the same names except for the latency.
pub fn vllm(json: &Json) -> Claims {
    let figure = |names: &[&str]| {
        let name = names.iter().find(|name| json[format!("mean_{name}_ms")].is_number()).unwrap_or(&names[0]);
        let ms = |prefix: &str| json[format!("{prefix}_{name}_ms")].as_f64();
        let percent_of = |key: &str| {
            let percent = key.strip_suffix(&format!("_{name}_ms"))?.strip_prefix('p')?;
            percent.parse::<f64>().is_ok().then(|| percent.to_string())
        };
        let keys = json.as_object().into_iter().flatten();
        let mut percentiles: BTreeMap<String, f64> =
            keys.filter_map(|(key, value)| Some((percent_of(key)?, value.as_f64()?))).collect();
        percentiles.extend(ms("median").map(|median| ("50".to_string(), median)));
        percentiles.extend(ms("max").map(|max| ("100".to_string(), max)));
        Reported { mean: ms("mean"), percentiles }
    };
    Claims {
        ok: json["completed"].as_f64(),
        failed: json["failed"].as_f64(),
        requests_per_s: json["request_throughput"].as_f64(),
        output_tokens_per_s: json["output_throughput"].as_f64(),
        ttft_ms: figure(&["ttft"]),
        itl_ms: figure(&["itl"]),
        tpot_ms: figure(&["tpot"]),
        latency_ms: figure(&["e2el", "e2e_latency"]),
        ..Claims::default()
    }
}

/// AIPerf's metrics: `{"time_to_first_token": {"unit": "ms", "avg": 1.0, "p50": ...}}`.
pub fn aiperf(json: &Json) -> Claims {
    let figure = |name: &str| {
        let metric = &json[name];
        let factor = if matches!(metric["unit"].as_str(), Some("s" | "sec")) { 1e3 } else { 1.0 };
        statistics(metric, "avg").scaled(factor)
    };
    let average = |name: &str| json[name]["avg"].as_f64();
    Claims {
        ok: average("request_count"),
        failed: average("error_request_count"),
        requests_per_s: average("request_throughput"),
        output_tokens_per_s: average("output_token_throughput"),
        ttft_ms: figure("time_to_first_token"),
        itl_ms: figure("inter_token_latency"),
        latency_ms: figure("request_latency"),
        ..Claims::default()
    }
}

/// GuideLLM's report of one load. Only requests that succeeded count, and those cut off by a limit as failed.
///
/// # Errors
/// What is in the file instead of one load.
pub fn guidellm(json: &Json) -> Result<Claims, String> {
    let metrics = match json["benchmarks"].as_array().map(Vec::as_slice) {
        Some([load]) => &load["metrics"],
        Some(loads) => return Err(format!("it has {} loads, and one load is judged at a time", loads.len())),
        None => return Err("it has no member 'benchmarks'".to_string()),
    };
    let figure = |name: &str| {
        let summary = &metrics[name]["successful"];
        let mut reported = statistics(&summary["percentiles"], "mean");
        reported.mean = summary["mean"].as_f64();
        reported.percentiles.extend(summary["max"].as_f64().map(|max| ("100".to_string(), max)));
        // Its keys are p001, p01 and p05 for 0.1 %, 1 % and 5 %, p10 to p99, and p999 for 99.9 %.
        let percent = |key: String| match key.as_str() {
            "001" => "0.1".to_string(),
            "999" => "99.9".to_string(),
            key => key.trim_start_matches('0').to_string(),
        };
        reported.percentiles = reported.percentiles.into_iter().map(|(key, value)| (percent(key), value)).collect();
        reported
    };
    let total = |name: &str| metrics["request_totals"][name].as_f64();
    let rate = |name: &str| metrics[name]["successful"]["mean"].as_f64();
    Ok(Claims {
        ok: total("successful"),
        failed: total("errored").map(|errored| errored + total("incomplete").unwrap_or(0.0)),
        requests_per_s: rate("requests_per_second"),
        output_tokens_per_s: rate("output_tokens_per_second"),
        ttft_ms: figure("time_to_first_token_ms"),
        itl_ms: figure("inter_token_latency_ms"),
        tpot_ms: figure("time_per_output_token_ms"),
        latency_ms: figure("request_latency").scaled(1e3),
        ..Claims::default()
    })
}

/// genai-bench's file of one run. Times have the unit in `_time_unit`.
pub fn genai_bench(json: &Json) -> Claims {
    let metrics = &json["aggregated_metrics"];
    let factor = if json["_time_unit"].as_str() == Some("ms") { 1.0 } else { 1e3 };
    let figure = |name: &str| statistics(&metrics["stats"][name], "mean").scaled(factor);
    Claims {
        ok: metrics["num_completed_requests"].as_f64(),
        failed: metrics["num_error_requests"].as_f64(),
        requests_per_s: metrics["requests_per_second"].as_f64(),
        output_tokens_per_s: metrics["mean_output_throughput_tokens_per_s"].as_f64(),
        ttft_ms: figure("ttft"),
        tpot_ms: figure("tpot"),
        latency_ms: figure("e2e_latency"),
        ..Claims::default()
    }
}

/// oha's JSON. Its times are seconds; the first byte of a body stands for the first token.
pub fn oha(json: &Json) -> Claims {
    let count = |counts: &Json, counted: &dyn Fn(&str) -> bool| {
        let counts = counts.as_object()?.iter().filter(|(name, _)| counted(name));
        Some(counts.filter_map(|(_, count)| count.as_f64()).sum::<f64>())
    };
    let is_ok = |status: &str| status.starts_with('2');
    let errors = count(&json["errorDistribution"], &|_| true);
    let statuses = count(&json["statusCodeDistribution"], &|status| !is_ok(status));
    let figure = |mean: &Json, max: &Json, percentiles: &Json| {
        let mut reported = statistics(percentiles, "mean");
        reported.mean = mean.as_f64();
        reported.percentiles.extend(max.as_f64().map(|max| ("100".to_string(), max)));
        reported.scaled(1e3)
    };
    let (summary, first_byte) = (&json["summary"], &json["details"]["firstByte"]);
    Claims {
        ok: count(&json["statusCodeDistribution"], &is_ok),
        failed: errors.zip(statuses).map(|(errors, statuses)| errors + statuses),
        requests_per_s: summary["requestsPerSec"].as_f64(),
        ttft_ms: figure(&first_byte["average"], &first_byte["slowest"], &json["firstBytePercentiles"]),
        latency_ms: figure(&summary["average"], &summary["slowest"], &json["latencyPercentiles"]),
        ..Claims::default()
    }
}

/// This program's own simple format, for clients of one's own.
pub fn plain(json: &Json) -> Claims {
    Claims {
        ok: json["ok"].as_f64(),
        failed: json["failed"].as_f64(),
        requests_per_s: json["requests_per_s"].as_f64(),
        output_tokens_per_s: json["output_tokens_per_s"].as_f64(),
        warning: json["warning"].as_str().map(str::to_string),
        ttft_ms: statistics(&json["ttft_ms"], "mean"),
        itl_ms: statistics(&json["itl_ms"], "mean"),
        tpot_ms: statistics(&json["tpot_ms"], "mean"),
        latency_ms: statistics(&json["latency_ms"], "mean"),
        ..Claims::default()
    }
}

/// An object with a mean, percentiles `p50`, `p99`, ... and `max`.
fn statistics(json: &Json, mean: &str) -> Reported {
    let percent_of = |key: &str| match key {
        "max" => Some("100".to_string()),
        _ => key.strip_prefix('p').filter(|percent| percent.parse::<f64>().is_ok()).map(str::to_string),
    };
    let fields = json.as_object().into_iter().flatten();
    Reported {
        mean: json[mean].as_f64(),
        percentiles: fields.filter_map(|(key, value)| Some((percent_of(key)?, value.as_f64()?))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn percentiles(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|(percent, value)| ((*percent).to_string(), *value)).collect()
    }

    #[test]
    fn vllms_and_sglangs_names_are_read() {
        let json = json!({"completed": 9, "mean_ttft_ms": 1.0, "median_ttft_ms": 0.9, "p99_ttft_ms": 2.0, "mean_e2e_latency_ms": 7.0, "p99_itl_ms": 3});
        let claims = vllm(&json);
        assert_eq!((claims.ok, claims.ttft_ms.mean, claims.latency_ms.mean), (Some(9.0), Some(1.0), Some(7.0)));
        assert_eq!(claims.ttft_ms.percentiles, percentiles(&[("50", 0.9), ("99", 2.0)]));
        assert_eq!(claims.itl_ms.percentiles, percentiles(&[("99", 3.0)]));
    }

    #[test]
    fn evalscopes_names_of_both_kinds_are_read() {
        let old = evalscope(
            &json!({"Succeed requests": 8, "Average time to first token (s)": 0.5, "Average latency (s)": 2.0}),
            &json!([{"Percentiles": "50%", "TTFT (s)": 0.4, "Latency (s)": 1.5}]),
        );
        let new = evalscope(
            &json!({"Success Requests": 8, "Avg TTFT (ms)": 500.0, "Avg Latency (s)": 2.0}),
            &json!([{"Percentiles": "50%", "TTFT (ms)": 400.0, "Latency (s)": 1.5}]),
        );
        assert_eq!(old, new);
        assert_eq!((new.ok, new.ttft_ms.mean, new.latency_ms.mean), (Some(8.0), Some(500.0), Some(2000.0)));
        assert_eq!(new.ttft_ms.percentiles, percentiles(&[("50", 400.0)]));
        let last = evalscope(
            &Json::Null,
            &json!([{"Percentiles": "min", "ITL (ms)": 1.0}, {"Percentiles": "max", "ITL (ms)": 3.0}]),
        );
        assert_eq!(last.itl_ms.percentiles, percentiles(&[("0", 1.0), ("100", 3.0)]));
    }

    #[test]
    fn aiperfs_units_are_converted() {
        let json = json!({"time_to_first_token": {"unit": "ms", "avg": 5.0, "p50": 4.0}, "request_latency": {"unit": "s", "avg": 0.5, "max": 1.0}});
        let claims = aiperf(&json);
        assert_eq!((claims.ttft_ms.mean, claims.latency_ms.mean), (Some(5.0), Some(500.0)));
        assert_eq!(claims.latency_ms.percentiles, percentiles(&[("100", 1000.0)]));
        assert!(claims.tpot_ms.is_empty());
    }

    #[test]
    fn guidellms_names_of_percentiles_are_read() {
        let ttft = json!({"successful": {"mean": 5.0, "max": 9.0, "percentiles": {"p001": 1.0, "p01": 2.0, "p50": 4.0, "p999": 8.0}}});
        let metrics = json!({
            "request_totals": {"successful": 9, "errored": 2, "incomplete": 1, "total": 12},
            "requests_per_second": {"successful": {"mean": 3.0}},
            "time_to_first_token_ms": ttft, "request_latency": {"successful": {"mean": 0.5, "percentiles": {}}},
        });
        let claims = guidellm(&json!({"benchmarks": [{"metrics": metrics}]})).unwrap();
        assert_eq!((claims.ok, claims.failed, claims.requests_per_s), (Some(9.0), Some(3.0), Some(3.0)));
        let expected = [("0.1", 1.0), ("1", 2.0), ("50", 4.0), ("99.9", 8.0), ("100", 9.0)];
        assert_eq!(claims.ttft_ms, Reported { mean: Some(5.0), percentiles: percentiles(&expected) });
        assert_eq!(claims.latency_ms.mean, Some(500.0));
        let several = json!({"benchmarks": [{}, {}]});
        assert!(guidellm(&several).unwrap_err().contains("2 loads"), "{:?}", guidellm(&several));
        assert!(guidellm(&json!({})).is_err());
    }

    #[test]
    fn genai_benchs_unit_is_read() {
        let file = |unit: &str| {
            json!({"_time_unit": unit, "aggregated_metrics": {"num_completed_requests": 8, "num_error_requests": 1,
            "stats": {"ttft": {"mean": 0.5, "p99": 2.0, "max": 3.0, "stddev": 1.0}}}})
        };
        let claims = genai_bench(&file("s"));
        assert_eq!((claims.ok, claims.failed), (Some(8.0), Some(1.0)));
        let expected = percentiles(&[("99", 2000.0), ("100", 3000.0)]);
        assert_eq!(claims.ttft_ms, Reported { mean: Some(500.0), percentiles: expected });
        assert_eq!(genai_bench(&file("ms")).ttft_ms.mean, Some(0.5));
    }

    #[test]
    fn ohas_outcomes_are_counted_by_status() {
        let json = json!({
            "summary": {"average": 0.5, "slowest": 0.9, "requestsPerSec": 7.0, "successRate": 1.0},
            "latencyPercentiles": {"p50": 0.4, "p99.99": null},
            "firstBytePercentiles": {"p50": 0.1}, "details": {"firstByte": {"average": 0.2, "slowest": 0.3}},
            "statusCodeDistribution": {"200": 8, "429": 2}, "errorDistribution": {"connection closed": 1},
        });
        let claims = oha(&json);
        assert_eq!((claims.ok, claims.failed, claims.requests_per_s), (Some(8.0), Some(3.0), Some(7.0)));
        let latency = percentiles(&[("50", 400.0), ("100", 900.0)]);
        assert_eq!(claims.latency_ms, Reported { mean: Some(500.0), percentiles: latency });
        assert_eq!(claims.ttft_ms.mean, Some(200.0));
    }
}
