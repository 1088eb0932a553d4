//! Random numbers: a small generator, and the distributions of delays and counts.

use crate::time::{MS, scan_duration_ns};

/// SplitMix64. Its state has eight bytes, so that each of ten thousand streams can have its own generator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// The generator of request `ordinal`. It depends on the seed and the ordinal only.
    pub(super) fn new(seed: u64, ordinal: u64) -> Rng {
        let mut rng = Rng(seed.rotate_left(32) ^ ordinal.wrapping_mul(0xD1B5_4A32_D192_ED03));
        rng.next();
        rng
    }

    /// The next 64 random bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box-Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// A probability distribution, written `5`, `uniform(a,b)`, `exp(mean)`, `normal(mean,sd)` or `lognormal(median,sigma)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    Constant(f64),
    Uniform {
        low: f64,
        high: f64,
    },
    Exp {
        mean: f64,
    },
    Normal {
        mean: f64,
        sd: f64,
    },
    /// `sigma` is the standard deviation of the logarithm.
    LogNormal {
        median: f64,
        sigma: f64,
    },
}

impl Distribution {
    fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Distribution::Constant(value) => value,
            Distribution::Uniform { low, high } => low + (high - low) * rng.unit(),
            Distribution::Exp { mean } => -mean * (1.0 - rng.unit()).ln(),
            Distribution::Normal { mean, sd } => mean + sd * rng.normal(),
            Distribution::LogNormal { median, sigma } => median * (sigma * rng.normal()).exp(),
        }
    }

    /// Parses a distribution. `number` parses its parameters, except `sigma`, which is always a plain number.
    fn scan(text: &str, number: impl Fn(&str) -> Result<f64, String>) -> Result<Distribution, String> {
        let Some((name, arguments)) = scan_call(text)? else { return Ok(Distribution::Constant(number(text)?)) };
        let wrong = || {
            format!(
                "'{text}' is not a distribution; write uniform(a,b), exp(mean), normal(mean,sd) or lognormal(median,sigma)"
            )
        };
        match (name, arguments.as_slice()) {
            ("uniform", [low, high]) => {
                let (low, high) = (number(low)?, number(high)?);
                if low > high {
                    return Err(format!("in '{text}' the lower bound is above the upper bound"));
                }
                Ok(Distribution::Uniform { low, high })
            }
            ("exp", [mean]) => Ok(Distribution::Exp { mean: number(mean)? }),
            ("normal", [mean, sd]) => Ok(Distribution::Normal { mean: number(mean)?, sd: number(sd)? }),
            ("lognormal", [median, sigma]) => match sigma.parse::<f64>() {
                Ok(sigma) if sigma.is_finite() && sigma >= 0.0 => {
                    Ok(Distribution::LogNormal { median: number(median)?, sigma })
                }
                _ => Err(format!("in '{text}' sigma must be a number such as 0.5")),
            },
            _ => Err(wrong()),
        }
    }
}

/// Splits `name(a,b)` into its name and arguments; `None` when there are no parentheses.
pub(super) fn scan_call(text: &str) -> Result<Option<(&str, Vec<&str>)>, String> {
    let Some((name, rest)) = text.split_once('(') else { return Ok(None) };
    let inner = rest.strip_suffix(')').ok_or_else(|| format!("'{text}' has no closing parenthesis"))?;
    Ok(Some((name.trim(), inner.split(',').map(str::trim).collect())))
}

/// A distribution of durations, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delay(pub Distribution);

impl Delay {
    /// Always `ns` nanoseconds.
    pub fn constant(ns: u64) -> Delay {
        Delay(Distribution::Constant(ns as f64))
    }

    /// Draws a duration in nanoseconds, from 0 to one hour.
    pub(super) fn draw_ns(self, rng: &mut Rng) -> u64 {
        self.0.draw(rng).clamp(0.0, 3.6e12) as u64
    }

    /// Parses `50ms`, `uniform(10ms,20ms)` and so on. Numbers without a unit are milliseconds.
    pub fn scan(text: &str) -> Result<Delay, String> {
        let number = |text: &str| scan_duration_ns(text, MS).map(|ns| ns as f64);
        Distribution::scan(text, number).map(Delay)
    }
}

/// A distribution of token counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count(pub Distribution);

impl Count {
    /// Always `n`.
    pub fn constant(n: u32) -> Count {
        Count(Distribution::Constant(f64::from(n)))
    }

    /// Draws a count of at least 1.
    pub(super) fn draw(self, rng: &mut Rng) -> u32 {
        let value = match self.0 {
            // Widened by 0.5 so that after rounding the bounds are as frequent as the other values.
            Distribution::Uniform { low, high } => Distribution::Uniform { low: low - 0.5, high: high + 0.5 }.draw(rng),
            law => law.draw(rng),
        };
        value.round().clamp(1.0, 1e7) as u32
    }

    /// Parses `100`, `uniform(50,150)` and so on.
    pub fn scan(text: &str) -> Result<Count, String> {
        let number = |text: &str| match text.trim().parse::<u32>() {
            Ok(value) if value > 0 => Ok(f64::from(value)),
            _ => Err(format!("'{text}' is not a count of 1 or more")),
        };
        Distribution::scan(text, number).map(Count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_ns(delay: Delay) -> f64 {
        let mut rng = Rng::new(7, 0);
        (0..20_000).map(|_| delay.draw_ns(&mut rng) as f64).sum::<f64>() / 20_000.0
    }

    #[test]
    fn distributions_have_the_expected_means() {
        for (text, mean_ms) in
            [("50ms", 50.0), ("uniform(10ms,20ms)", 15.0), ("exp(20ms)", 20.0), ("normal(20,2)", 20.0)]
        {
            let got = mean_ns(Delay::scan(text).unwrap()) / 1e6;
            assert!((got - mean_ms).abs() < mean_ms * 0.03, "{text}: {got}");
        }
        let lognormal = mean_ns(Delay::scan("lognormal(20ms,0.5)").unwrap()) / 1e6;
        assert!((lognormal - 20.0 * (0.125f64).exp()).abs() < 0.7, "{lognormal}");
    }

    #[test]
    fn uniform_counts_include_both_bounds() {
        let mut rng = Rng::new(1, 1);
        let count = Count::scan("uniform(2,4)").unwrap();
        let mut seen = [0u32; 6];
        (0..3_000).for_each(|_| seen[count.draw(&mut rng) as usize] += 1);
        assert_eq!((seen[0], seen[1], seen[5]), (0, 0, 0));
        assert!(seen[2..5].iter().all(|&n| n > 850), "{seen:?}");
    }

    #[test]
    fn random_numbers_depend_on_seed_and_ordinal_only() {
        assert_eq!(Rng::new(3, 9).next(), Rng::new(3, 9).next());
        assert_ne!(Rng::new(3, 9).next(), Rng::new(3, 10).next());
        assert_ne!(Rng::new(4, 9).next(), Rng::new(3, 9).next());
    }

    #[test]
    fn invalid_distributions_are_rejected() {
        for text in ["uniform(2ms)", "uniform(3ms,2ms)", "weird(1)", "exp(2ms", "soon", "lognormal(1ms,x)"] {
            assert!(Delay::scan(text).is_err(), "{text}");
        }
        assert!(Count::scan("0").is_err());
    }
}
