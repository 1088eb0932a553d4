//! Scales, axes, ticks and steps of charts.

/// The scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
    /// Percentiles from 0 to 100; each further nine has the same width.
    Tail,
}

impl Scale {
    /// The value in the coordinate in which the axis is linear.
    pub fn apply(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::Tail => -(1.0 - value / 100.0).max(1e-9).log10(),
        }
    }

    /// Whether the axis has a place for this value.
    pub fn has(self, value: f64) -> bool {
        value.is_finite() && (self != Scale::Log || value > 0.0)
    }
}

/// One axis: its domain in scaled values, and its position in the drawing.
#[derive(Clone, Debug)]
pub struct Axis {
    pub scale: Scale,
    from: f64,
    to: f64,
    begin: f64,
    end: f64,
}

impl Axis {
    /// An axis that contains all values, drawn from `begin` to `end`.
    pub fn over(values: &[f64], scale: Scale, at_least: Option<f64>, (begin, end): (f64, f64)) -> Axis {
        let usable = values.iter().copied().filter(|&value| scale.has(value));
        let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (1.0, 1.0) } else { (low, high.max(at_least.unwrap_or(high))) };
        let (from, to) = match scale {
            Scale::Linear => (low.min(0.0), high),
            Scale::Log => (scale.apply(low) - 0.03, scale.apply(high) + 0.03),
            Scale::Tail => (0.0, scale.apply(high)),
        };
        let to = if to > from { to } else { from + 1.0 };
        // A margin above the highest point.
        let to = if scale == Scale::Linear && at_least.is_none() { from + (to - from) * 1.04 } else { to };
        Axis { scale, from, to, begin, end }
    }

    /// The position of a value in the drawing.
    pub fn place(&self, value: f64) -> f64 {
        let share = (self.scale.apply(value) - self.from) / (self.to - self.from);
        self.begin + share * (self.end - self.begin)
    }

    /// Whether the value lies on the axis.
    pub fn contains(&self, value: f64) -> bool {
        self.scale.has(value) && (self.from - 1e-9..=self.to + 1e-9).contains(&self.scale.apply(value))
    }

    /// Round values on the axis.
    pub fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => linear_ticks(self.from, self.to),
            Scale::Log => log_ticks(self.from, self.to),
            Scale::Tail => {
                let all = [0.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999];
                all.into_iter().filter(|&value| self.contains(value)).collect()
            }
        }
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least `least`, which is positive.
pub fn step_125(least: f64) -> f64 {
    let power = least.log10().floor() as i32;
    let steps = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| scaled_by_ten(factor, power));
    steps.into_iter().find(|&step| step >= least * (1.0 - 1e-12)).unwrap_or(least)
}

/// `factor` times ten to this power, correctly rounded: 0.001 is not 1.0000000000000002e-3.
fn scaled_by_ten(factor: f64, power: i32) -> f64 {
    if power < 0 { factor / 10f64.powi(-power) } else { factor * 10f64.powi(power) }
}

fn linear_ticks(from: f64, to: f64) -> Vec<f64> {
    let step = step_125((to - from) / 6.0);
    let first = (from / step).ceil() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

fn log_ticks(from: f64, to: f64) -> Vec<f64> {
    let decades = (from.floor() as i32)..=(to.ceil() as i32);
    let factors: &[f64] = if to - from > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = decades.flat_map(|decade| factors.iter().map(move |factor| scaled_by_ten(*factor, decade)));
    let inside: Vec<f64> = all.filter(|tick| (from..=to).contains(&tick.log10())).collect();
    if inside.len() > 1 {
        return inside;
    }
    // The values are so close to each other that the scale is nearly linear.
    let (low, high) = (10f64.powf(from), 10f64.powf(to));
    linear_ticks(low, high).into_iter().filter(|tick| (low..=high).contains(tick)).collect()
}

/// The label of a tick.
pub fn short(value: f64) -> String {
    let size = value.abs();
    let (value, suffix) = match size {
        s if s >= 1e9 => (value / 1e9, "G"),
        s if s >= 1e6 => (value / 1e6, "M"),
        s if s >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match value.abs() {
        0.0 => 0,
        v if v >= 1.0 => 3,
        v => (2.0 - v.log10().floor()) as usize,
    };
    format!("{}{suffix}", trimmed(&format!("{value:.decimals$}")))
}

/// A value as it is shown under the pointer: five significant digits, or all of an integer.
pub fn exact(value: f64) -> String {
    let size = value.abs();
    if size < 1e-12 {
        return "0".to_string();
    }
    let decimals = (4 - size.log10().floor() as i32).clamp(0, 12) as usize;
    trimmed(&format!("{value:.decimals$}")).to_string()
}

/// Without the zeros at the end of the decimals.
fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(linear_ticks(0.0, 1.04).len(), 6);
        assert_eq!(linear_ticks(0.0, 52.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(log_ticks(0.0, 1.0), [1.0, 2.0, 5.0, 10.0]);
        let labels =
            |low: f64, high: f64| log_ticks(low.log10(), high.log10()).into_iter().map(short).collect::<Vec<_>>();
        assert_eq!(labels(7.9, 9.1), ["8", "8.2", "8.4", "8.6", "8.8", "9"]);
        assert_eq!(labels(188.0, 233.0), ["190", "200", "210", "220", "230"]);
        assert_eq!([0.0, 0.5, 12.0, 12_000.0, 0.00123].map(short), ["0", "0.5", "12", "12k", "0.00123"]);
    }

    #[test]
    fn steps_are_one_two_or_five_times_a_power_of_ten() {
        assert_eq!([0.7, 1.0, 1.1, 3.0, 5.0, 5.1, 0.0012].map(step_125), [1.0, 1.0, 2.0, 5.0, 5.0, 10.0, 0.002]);
        for i in 0..400 {
            let least = 10f64.powf(f64::from(i) / 30.0 - 6.0);
            let step = step_125(least);
            assert!(step >= least * (1.0 - 1e-9) && step < least * 2.6, "{least} {step}");
            let text = format!("{step:e}");
            assert!(["1", "2", "5"].contains(&text.split('e').next().unwrap()), "{text}");
        }
    }

    #[test]
    fn exact_values_have_five_digits() {
        assert_eq!(
            [97.1234567, 0.097123, 123_456.0, 0.0, 1.0, 12.0004, -3.25].map(exact),
            ["97.123", "0.097123", "123456", "0", "1", "12", "-3.25"]
        );
    }

    #[test]
    fn an_axis_contains_its_values() {
        let axis = Axis::over(&[2.0, 30.0], Scale::Linear, None, (0.0, 100.0));
        assert!(axis.contains(0.0) && axis.contains(30.0) && !axis.contains(40.0));
        let log = Axis::over(&[0.0, 2.0, 30.0], Scale::Log, None, (0.0, 100.0));
        assert!(log.contains(2.0) && !log.contains(0.0) && !log.contains(1.0));
    }
}
