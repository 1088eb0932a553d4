//! Points in time and durations, as numbers and as text. Only [`clock`] reads a clock.

use std::fmt::Write;

pub mod clock;

/// A point in time: nanoseconds on the time scale of `CLOCK_MONOTONIC`, usually read through the TSC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// Nanoseconds from `earlier` to `self`; negative if `self` is before `earlier`.
    pub fn ns_since(self, earlier: Tick) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }

    /// Seconds from `earlier` to `self`.
    pub fn seconds_since(self, earlier: Tick) -> f64 {
        self.ns_since(earlier) as f64 / 1e9
    }

    /// The time `ns` nanoseconds later.
    pub fn plus_ns(self, ns: u64) -> Tick {
        Tick(self.0.saturating_add(ns))
    }
}

/// Nanoseconds in a microsecond, a millisecond and a second.
pub const US: u64 = 1_000;
pub const MS: u64 = 1_000_000;
pub const S: u64 = 1_000_000_000;

/// Parses a duration such as `50ms`, `1.5s`, `200us`, `3m` or `1h`, or a number without unit, which is
/// a multiple of `default_unit_ns`. Returns nanoseconds.
pub(crate) fn scan_duration_ns(text: &str, default_unit_ns: u64) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit_ns = match unit.trim() {
        "" => default_unit_ns,
        "ns" => 1,
        "us" | "µs" => US,
        "ms" => MS,
        "s" => S,
        "m" | "min" => 60 * S,
        "h" => 3600 * S,
        other => return Err(format!("unknown unit '{other}' in '{text}' (use ns, us, ms, s, m or h)")),
    };
    let value: f64 = number.parse().map_err(|_| format!("'{text}' is not a duration such as 50ms or 1.5s"))?;
    Ok((value * unit_ns as f64).round() as u64)
}

/// Formats nanoseconds with three significant digits and a suitable unit: `850 ns`, `12.3 µs`, `4.56 ms`, `7.89 s`.
pub(crate) fn format_ns(ns: u64) -> String {
    let (value, unit) = match ns {
        0..US => return format!("{ns} ns"),
        US..MS => (ns as f64 / US as f64, "µs"),
        MS..S => (ns as f64 / MS as f64, "ms"),
        _ => (ns as f64 / S as f64, "s"),
    };
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    let mut out = String::new();
    write!(out, "{value:.decimals$} {unit}").expect("writing to a String cannot fail");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_subtract_in_both_directions() {
        assert_eq!(Tick(5).ns_since(Tick(3)), 2);
        assert_eq!(Tick(3).ns_since(Tick(5)), -2);
        assert_eq!(Tick(3).plus_ns(4), Tick(7));
    }

    #[test]
    fn durations_are_parsed_with_and_without_unit() {
        assert_eq!(scan_duration_ns("50ms", S), Ok(50 * MS));
        assert_eq!(scan_duration_ns("1.5", S), Ok(1_500 * MS));
        assert_eq!(scan_duration_ns("200us", S), Ok(200 * US));
        assert_eq!(scan_duration_ns("2m", S), Ok(120 * S));
        assert!(scan_duration_ns("5 parsecs", S).unwrap_err().contains("parsecs"));
        assert!(scan_duration_ns("", S).is_err());
    }

    #[test]
    fn nanoseconds_are_formatted_with_three_digits() {
        assert_eq!(format_ns(850), "850 ns");
        assert_eq!(format_ns(12_345), "12.3 µs");
        assert_eq!(format_ns(4_560_000), "4.56 ms");
        assert_eq!(format_ns(123_000_000), "123 ms");
        assert_eq!(format_ns(7_890_000_000), "7.89 s");
    }
}
