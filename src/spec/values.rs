//! Parsers for flag values, and serializers for `benchmark_args.json`. Parse errors say what is expected.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::{Serialize, Serializer};

use crate::options::{DataSource, Language, LogLevel, Save, Service};
use crate::plan::PlanError;
use crate::plan::sla::Variable;
use crate::time::{S, scan_duration_ns};

/// About 30 years. Larger values are typing errors and would overflow nanoseconds.
const MAX_SECONDS: f64 = 1e9;

/// The cores of one value of `--cores`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

/// Highest accepted core number; larger values are typing errors.
const MAX_CORE: usize = 4095;

/// Parses a whole number of at least 1.
pub fn count<T: FromStr + PartialOrd + Default>(text: &str) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(number) if number > T::default() => Ok(number),
        _ => Err(too_large(text).unwrap_or_else(|| "must be a whole number of at least 1".to_string())),
    }
}

/// Parses a whole number of at least 0.
pub(crate) fn count_or_zero<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| too_large(text).unwrap_or_else(|| "must be a whole number of 0 or more".to_string()))
}

fn too_large(text: &str) -> Option<String> {
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits && text.bytes().any(|byte| byte != b'0')).then(|| "is too large".to_string())
}

/// Parses a finite number.
pub fn number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| "must be a number".to_string())
}

/// Parses seconds: a number, or a duration with a unit (500ms, 2m).
pub fn seconds(text: &str) -> Result<f64, String> {
    if text.starts_with('-') {
        return Err("must not be negative".to_string());
    }
    scan_duration_ns(text, S).map(|ns| ns as f64 / S as f64)
}

/// The largest response that can be stored, bytes.
const MAX_SIZE: u64 = 512 << 20;

/// Parses a size in bytes with an optional unit: `1000`, `64KiB`, `256MB`. 1 KiB to 512 MiB.
pub fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("k", 1 << 10),
        ("m", 1 << 20),
        ("g", 1 << 30),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((lower.strip_suffix('b').unwrap_or(&lower), 1));
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes
        .filter(|bytes| (1 << 10..=MAX_SIZE).contains(bytes))
        .ok_or_else(|| "must be a size from 1KiB to 512MiB, for example 64MiB".to_string())
}

/// Parses core numbers: `2`, `2,3`, `4-7`, `0,2-3`.
pub fn cores(text: &str) -> Result<Cores, String> {
    let number = |part: &str| match part.trim().parse::<usize>() {
        Ok(core) if core <= MAX_CORE => Ok(core),
        _ => Err(format!("'{part}' is not a core number; write for example 2,3 or 4-7")),
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => cores.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(format!("the range {part} is descending; write the lower number first"));
                }
                cores.extend(first..=last);
            }
        }
    }
    Ok(Cores(cores))
}

/// Parser of `--save`.
pub fn save() -> impl TypedValueParser<Value = Save> {
    PossibleValuesParser::new(["text", "full", "metrics"]).map(|word| match word.as_str() {
        "full" => Save::Full,
        "metrics" => Save::Metrics,
        _ => Save::Text,
    })
}

/// Parser of `--sla-variable`.
pub fn variable() -> impl TypedValueParser<Value = Variable> {
    PossibleValuesParser::new(["parallel", "rate"]).map(|word| match word.as_str() {
        "rate" => Variable::Rate,
        _ => Variable::Parallel,
    })
}

/// Parser of `--language`.
pub fn language() -> impl TypedValueParser<Value = Language> {
    PossibleValuesParser::new(["en", "zh"]).map(|word| match word.as_str() {
        "zh" => Language::Zh,
        _ => Language::En,
    })
}

/// Parser of `--visualizer`.
pub fn service() -> impl TypedValueParser<Value = Service> {
    PossibleValuesParser::new(["wandb", "swanlab", "clearml"]).map(|word| match word.to_lowercase().as_str() {
        "swanlab" => Service::Swanlab,
        "clearml" => Service::Clearml,
        _ => Service::Wandb,
    })
}

/// Parser of `--data-source`.
pub(crate) fn data_source() -> impl TypedValueParser<Value = DataSource> {
    PossibleValuesParser::new(["modelscope", "huggingface", "local"]).map(|word| match word.as_str() {
        "huggingface" => DataSource::Huggingface,
        "local" => DataSource::Local,
        _ => DataSource::Modelscope,
    })
}

/// Parser of `--log-level`.
pub(crate) fn log_level() -> impl TypedValueParser<Value = LogLevel> {
    PossibleValuesParser::new(["error", "warning", "info", "debug"]).map(|word| match word.to_lowercase().as_str() {
        "error" => LogLevel::Error,
        "warning" => LogLevel::Warning,
        "debug" => LogLevel::Debug,
        _ => LogLevel::Info,
    })
}

/// Converts the seconds of `flag` to nanoseconds.
pub(crate) fn seconds_ns(flag: &'static str, seconds: f64, allow_zero: bool) -> Result<u64, PlanError> {
    if allow_zero && seconds == 0.0 {
        return Ok(0);
    }
    if !seconds.is_finite() || seconds <= 0.0 || seconds > MAX_SECONDS {
        let minimum = if allow_zero { "0 or more" } else { "above 0" };
        return Err(PlanError::value(
            flag,
            format!("must be {minimum} seconds and at most {MAX_SECONDS:.0}, not {seconds:?}"),
        ));
    }
    Ok((seconds * S as f64).round() as u64)
}

/// Serializes headers in the form `name=value` as a JSON object.
pub(crate) fn headers_as_object<S: Serializer>(headers: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let pairs = headers.iter().filter_map(|header| header.split_once('='));
    serializer.collect_map(pairs.collect::<BTreeMap<_, _>>())
}

/// Serializes a JSON text as its value; as an empty object if there is none.
pub(crate) fn json_text_as_value<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let value = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
    value.unwrap_or_else(|| serde_json::json!({})).serialize(serializer)
}

/// Serializes a JSON text as its value; as null if there is none.
pub(crate) fn json_text_or_null<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let value: Option<serde_json::Value> = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
    value.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_parsed_or_rejected() {
        assert_eq!(count::<u32>("7"), Ok(7));
        for bad in ["0", "-5", "1.5", "", "x", "1,2"] {
            assert!(count::<u32>(bad).unwrap_err().contains("at least 1"), "{bad}");
        }
        assert!(count::<u32>("99999999999").unwrap_err().contains("too large"));
        assert_eq!(count_or_zero::<u64>("0"), Ok(0));
        assert_eq!(
            ["4096", "64KiB", "1 MB", "2m", "512MiB"].map(|text| size(text).unwrap()),
            [4096, 65_536, 1_000_000, 2 << 20, 512 << 20]
        );
        for bad in ["", "0", "1023", "1GiB", "-1", "x", "1.5MiB"] {
            assert!(size(bad).unwrap_err().contains("for example 64MiB"), "{bad}");
        }
        assert!(number("nan").is_err() && number("inf").is_err());
        assert_eq!(seconds("500ms"), Ok(0.5));
        assert!(seconds("-1").unwrap_err().contains("negative"));
    }

    #[test]
    fn core_lists_are_parsed() {
        assert_eq!(cores("0,2-4"), Ok(Cores(vec![0, 2, 3, 4])));
        for bad in ["", "a", "3-1", "1-", "99999", "1,,2"] {
            assert!(cores(bad).is_err(), "{bad}");
        }
    }
}
