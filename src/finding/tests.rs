use std::collections::BTreeSet;

use super::samples;
use super::{Cause, Finding, SearchTrouble, Severity};

fn is_chinese(text: &str) -> bool {
    text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
}

/// A whole text without remains of formatting.
fn check(text: &str) {
    assert!(!text.is_empty() && text.trim() == text, "'{text}'");
    // The JSON that one of them advises to type is none.
    let text = text.replace(r#"{"stream_options": null}"#, "");
    for remains in ["{", "}", "Some(", "None", "\"", "  ", "NaN", "\n", "。。", "。."] {
        assert!(!text.contains(remains), "'{remains}' in '{text}'");
    }
}

#[test]
fn every_kind_has_a_sample() {
    // The error of serde lists every kind there is.
    let error = serde_json::from_str::<Finding>(r#"{"kind": "?"}"#).unwrap_err().to_string();
    let known: BTreeSet<String> = error.split('`').skip(1).step_by(2).skip(1).map(str::to_string).collect();
    let kind = |finding: Finding| serde_json::to_value(finding).unwrap()["kind"].as_str().unwrap().to_string();
    let sampled: BTreeSet<String> = samples::findings().into_iter().map(kind).collect();
    assert!(known.len() > 60, "{error}");
    assert_eq!(known, sampled);
}

#[test]
fn every_finding_has_a_text_in_both_languages() {
    for finding in samples::findings() {
        check(&finding.en());
        check(&finding.zh());
        assert!(finding.en().starts_with(&finding.en_symptom()) && finding.zh().starts_with(&finding.zh_symptom()));
        assert!(!is_chinese(&finding.en()), "{}", finding.en());
        assert!(is_chinese(&finding.zh()) != matches!(finding, Finding::Stored { .. }), "{}", finding.zh());
        assert_eq!(finding.cause().en().is_some(), finding.cause().zh().is_some());
    }
    assert!(Cause::ClientBusy.zh().is_some_and(is_chinese));
}

/// Figures that only streams have are named where there are streams, or where the finding has the name from the run. All
/// other findings can belong to embeddings.
#[test]
fn figures_of_streams_are_named_by_findings_about_streams() {
    let of_streams = [
        "at_once",
        "coalesced",
        "frontend_time",
        "held_up",
        "receive_lag",
        "server_times_apart",
        "tokens_per_event",
        "tpot_range",
    ];
    let with_a_name = ["built_late", "loss_tail", "plan", "send_lag", "server_apart", "warm_up", "witness"];
    for finding in samples::findings() {
        let texts = finding.en() + &finding.zh();
        let code = finding.code();
        if ["TTFT", "ITL", "TPOT"].iter().any(|figure| texts.contains(figure)) {
            assert!(of_streams.contains(&code) || with_a_name.contains(&code), "{code}: {texts}");
        }
    }
    for finding in
        samples::findings().iter().filter(|finding| matches!(finding, Finding::SendLag { of_latency: true, .. }))
    {
        assert!(!finding.en().contains("TTFT") && !finding.zh().contains("TTFT"), "{}", finding.zh());
    }
}

#[test]
fn both_texts_contain_all_numbers_and_foreign_words() {
    for mut finding in samples::findings() {
        let words: Vec<String> = finding.foreign_words().into_iter().map(|word| word.clone()).collect();
        for word in words {
            assert!(finding.en().contains(&word) && finding.zh().contains(&word), "{word}: {}", finding.zh());
        }
        let digits = |text: &str| {
            let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').map(|number| number.trim_matches('.'));
            numbers.filter(|number| !number.is_empty()).map(str::to_string).collect::<BTreeSet<_>>()
        };
        let (en, zh) = (digits(&finding.en()), digits(&finding.zh()));
        // English writes out "1 request", "p50" and the like as Chinese does.
        assert!(zh.is_subset(&en) && en.is_subset(&zh), "{en:?} {zh:?}: {}", finding.zh());
    }
}

#[test]
fn searches_have_texts_in_both_languages() {
    let texts = samples::reasons().into_iter().map(|reason| (reason.en(), reason.zh()));
    for (en, zh) in texts.chain(samples::troubles().into_iter().map(|trouble| (trouble.en(), trouble.zh()))) {
        check(&en);
        check(&zh);
        assert!(!is_chinese(&en) && is_chinese(&zh), "{en} {zh}");
    }
    assert_eq!(SearchTrouble::Refused("as stored".to_string()).zh(), "as stored");
}

#[test]
fn stored_findings_are_read_back() {
    for finding in samples::findings() {
        for export in [finding.record(), finding.export()] {
            let json = serde_json::to_value(export).unwrap();
            assert_eq!(json["code"], finding.code());
            assert_eq!(json["severity"], serde_json::to_value(finding.severity()).unwrap());
            assert!(json["cause"].is_string() && json["kind"].is_string(), "{json}");
            assert_eq!(serde_json::from_str::<Finding>(&json.to_string()).unwrap(), finding);
        }
        assert_eq!(serde_json::to_value(finding.export()).unwrap()["text"], finding.en());
    }
}

#[test]
fn fields_are_named_with_their_units() {
    let lag = Finding::SendLag {
        severity: Severity::Void,
        p99_ns: 30_000_000,
        median_ttft_ns: 20_000_000,
        of_latency: false,
    };
    let json = serde_json::to_value(lag.export()).unwrap();
    let expected = serde_json::json!({
        "kind": "send_lag", "code": "send_lag", "severity": "void", "cause": "client_busy",
        "p99_ns": 30_000_000, "median_ttft_ns": 20_000_000, "of_latency": false, "text": lag.en(),
    });
    assert_eq!(json, expected);
}
