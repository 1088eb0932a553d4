//! The faults that the mock can inject.

use super::distribution::{Rng, scan_call};
use crate::time::{MS, S, scan_duration_ns};

/// A kind of fault. "Midway" means after half of the events of a stream, or half of the bytes of a JSON response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// An error status instead of the response, with `Retry-After` in seconds if given.
    Status { code: u16, retry_after_s: Option<u32> },
    /// The connection is reset (RST) midway.
    Reset,
    /// Nothing is sent after midway; the connection stays open.
    Hang,
    /// The connection is closed midway, without the end of the framing.
    Truncate,
    /// The stream ends midway with correct framing, but without finish reason and `[DONE]`.
    CleanTruncate,
    /// Bytes that are not HTTP instead of a response.
    Garbage,
    /// An error event midway, then `[DONE]`.
    InStreamError,
    /// A 200 response without output.
    Empty,
    /// The connection is closed before any byte of the response.
    CloseBeforeResponse,
    /// An event midway whose JSON is cut off; the stream then continues.
    MalformedEvent,
    /// An additional event midway whose content has this many bytes; the stream then continues.
    HugeEvent { bytes: usize },
    /// Nothing is sent for this time midway; then the stream continues.
    Stall { ns: u64 },
    /// The head is sent byte by byte over this time.
    SlowHead { ns: u64 },
}

/// The syntax and meaning of each kind, for `--help`.
pub const FAULTS: &[(&str, &str)] = &[
    ("status(CODE) status(CODE,RETRY_AFTER_S)", "an error status instead of a response"),
    ("reset", "the connection is reset (RST) midway"),
    ("hang", "nothing is sent after midway; the connection stays open"),
    ("truncate", "the connection closes midway, without the end of the framing"),
    ("clean_truncate", "the stream ends midway with correct framing, without finish reason and [DONE]"),
    ("garbage", "bytes that are not HTTP instead of a response"),
    ("error", "an error event midway in a 200 stream"),
    ("empty", "a 200 response without output"),
    ("close", "the connection closes before any byte of the response"),
    ("malformed", "an event midway that is not JSON"),
    ("huge huge(BYTES)", "an event midway of 17 MiB, or of BYTES"),
    ("stall stall(TIME)", "nothing is sent midway for 1 s, or for TIME"),
    ("slow_head slow_head(TIME)", "the head is sent byte by byte over 1 s, or over TIME"),
];

impl FaultKind {
    /// The name in the fault syntax.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Status { .. } => "status",
            FaultKind::Reset => "reset",
            FaultKind::Hang => "hang",
            FaultKind::Truncate => "truncate",
            FaultKind::CleanTruncate => "clean_truncate",
            FaultKind::Garbage => "garbage",
            FaultKind::InStreamError => "error",
            FaultKind::Empty => "empty",
            FaultKind::CloseBeforeResponse => "close",
            FaultKind::MalformedEvent => "malformed",
            FaultKind::HugeEvent { .. } => "huge",
            FaultKind::Stall { .. } => "stall",
            FaultKind::SlowHead { .. } => "slow_head",
        }
    }

    fn scan(text: &str) -> Result<FaultKind, String> {
        let (name, arguments) = scan_call(text)?.unwrap_or((text.trim(), Vec::new()));
        let wrong = |what: &str| format!("fault '{text}': {what}");
        match (name, arguments.as_slice()) {
            ("status", [code, rest @ ..]) if rest.len() <= 1 => {
                let code = code.parse().ok().filter(|code| (300..600).contains(code));
                let code = code.ok_or_else(|| wrong("the status must be a number from 300 to 599"))?;
                let seconds = |s: &&str| s.parse().map_err(|_| wrong("Retry-After must be a number of seconds"));
                Ok(FaultKind::Status { code, retry_after_s: rest.first().map(seconds).transpose()? })
            }
            ("status", _) => Err(wrong("write status(503) or status(503,2)")),
            ("reset", []) => Ok(FaultKind::Reset),
            ("hang", []) => Ok(FaultKind::Hang),
            ("truncate", []) => Ok(FaultKind::Truncate),
            ("clean_truncate", []) => Ok(FaultKind::CleanTruncate),
            ("garbage", []) => Ok(FaultKind::Garbage),
            ("error", []) => Ok(FaultKind::InStreamError),
            ("empty", []) => Ok(FaultKind::Empty),
            ("close", []) => Ok(FaultKind::CloseBeforeResponse),
            ("malformed", []) => Ok(FaultKind::MalformedEvent),
            ("huge", []) => Ok(FaultKind::HugeEvent { bytes: 17 << 20 }),
            ("huge", [bytes]) => match bytes.parse() {
                Ok(bytes) if bytes <= 1 << 30 => Ok(FaultKind::HugeEvent { bytes }),
                _ => Err(wrong("the size must be a number of bytes, at most 1 GiB")),
            },
            ("stall", []) => Ok(FaultKind::Stall { ns: S }),
            ("stall", [time]) => Ok(FaultKind::Stall { ns: scan_duration_ns(time, MS)? }),
            ("slow_head", []) => Ok(FaultKind::SlowHead { ns: S }),
            ("slow_head", [time]) => Ok(FaultKind::SlowHead { ns: scan_duration_ns(time, MS)? }),
            _ => Err(wrong(&format!("unknown (known: {})", known()))),
        }
    }
}

/// All kinds in one line.
fn known() -> String {
    FAULTS.iter().map(|(written, _)| *written).collect::<Vec<_>>().join(", ")
}

/// Which requests a fault affects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// Each request with this probability.
    Probability(f64),
    /// Every k-th request: the k-th, the 2k-th, and so on.
    Every(u64),
}

/// A kind of fault and the requests it affects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    pub kind: FaultKind,
    pub when: When,
}

impl Fault {
    /// Parses `KIND:0.01`, `KIND:1/100`, or `KIND` for every request.
    pub fn scan(text: &str) -> Result<Fault, String> {
        let Some((kind, when)) = text.rsplit_once(':') else {
            return Ok(Fault { kind: FaultKind::scan(text)?, when: When::Every(1) });
        };
        let wrong =
            || format!("fault '{text}': after ':' write a probability such as 0.01, or 1/K for every K-th request");
        let when = match when.trim().strip_prefix("1/") {
            Some(k) => When::Every(k.parse().ok().filter(|&k| k > 0).ok_or_else(wrong)?),
            None => {
                let p = when.trim().parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p));
                When::Probability(p.ok_or_else(wrong)?)
            }
        };
        Ok(Fault { kind: FaultKind::scan(kind)?, when })
    }
}

/// The first fault that affects request `ordinal` (from 0). Every probabilistic fault draws one random number, so that a
/// fault added at the end of the list does not change the requests that the others affect.
pub(super) fn choose(faults: &[Fault], ordinal: u64, rng: &mut Rng) -> Option<FaultKind> {
    let mut chosen = None;
    for fault in faults {
        let affects = match fault.when {
            When::Probability(p) => rng.unit() < p,
            When::Every(k) => (ordinal + 1).is_multiple_of(k),
        };
        if affects && chosen.is_none() {
            chosen = Some(fault.kind);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_parsed() {
        let fault = |text| Fault::scan(text).unwrap();
        assert_eq!(fault("reset:0.01"), Fault { kind: FaultKind::Reset, when: When::Probability(0.01) });
        assert_eq!(fault("hang:1/3").when, When::Every(3));
        assert_eq!(fault("empty").when, When::Every(1));
        assert_eq!(fault("status(503,2):1").kind, FaultKind::Status { code: 503, retry_after_s: Some(2) });
        assert_eq!(fault("huge(100)").kind, FaultKind::HugeEvent { bytes: 100 });
        assert_eq!(fault("stall(20ms)").kind, FaultKind::Stall { ns: 20 * MS });
        assert_eq!(fault("slow_head(20ms)").kind, FaultKind::SlowHead { ns: 20 * MS });
        for text in ["status", "status(900)", "status(200)", "reset:2", "reset:1/0", "explode:0.1", "reset(1)"] {
            assert!(Fault::scan(text).is_err(), "{text}");
        }
        assert!(Fault::scan("explode").unwrap_err().contains("clean_truncate"));
    }

    #[test]
    fn every_listed_kind_is_parsed_by_its_name() {
        for (written, _) in FAULTS {
            let name = written.split(['(', ' ']).next().unwrap();
            let text = if name == "status" { "status(500)" } else { name };
            assert_eq!(Fault::scan(text).unwrap().kind.name(), name);
        }
    }

    #[test]
    fn every_kth_request_is_affected() {
        let faults = [Fault { kind: FaultKind::Reset, when: When::Every(3) }];
        let met: Vec<u64> = (0..9).filter(|&i| choose(&faults, i, &mut Rng::new(0, i)).is_some()).collect();
        assert_eq!(met, [2, 5, 8]);
    }
}
