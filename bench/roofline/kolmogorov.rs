//! The Kolmogorov-Smirnov test of exponential gaps.

/// The largest difference between the distribution of the gaps and the exponential one with this mean, and the value that
/// it exceeds with a probability of 1 % if the gaps are drawn from it (asymptotic: 1.628 / √n).
pub fn distance_from_exponential(gaps: &mut [f64], mean: f64) -> (f64, f64) {
    gaps.sort_unstable_by(f64::total_cmp);
    let count = gaps.len() as f64;
    let distances = gaps.iter().enumerate().map(|(place, gap)| {
        let expected = 1.0 - (-gap / mean).exp();
        (expected - place as f64 / count).max((place + 1) as f64 / count - expected)
    });
    (distances.fold(0.0, f64::max), 1.628 / count.sqrt())
}
