//! What the mock says, beside the usage, of the time that one request took: the truth, or the truth and a lie.

use super::Exchange;
use crate::mock::config::{Config, TimingsStyle};
use crate::time::{MS, Tick};

impl Exchange {
    /// The members that follow the usage, comma first; empty when none are wanted, and where several answers to one
    /// request leave no time that is the request's own.
    ///
    /// Every token but the last has been sent and stamped by now; the last one leaves with these words, and its due
    /// instant stands for its stamp.
    pub(super) fn stated_times(&self, config: &Config) -> String {
        let Some(started) = self.truth.started.filter(|_| self.asked.choices <= 1 && self.sent > 0) else {
            return String::new();
        };
        let last = Tick(self.due_ns);
        let first = self.truth.sends.first().copied().unwrap_or(last);
        let gaps = i64::from(self.sent.saturating_sub(1));
        let stated =
            |ns: i64, lies: i64| ns.saturating_add(config.lie_ns.saturating_mul(lies)).max(0) as f64 / MS as f64;
        let queue = stated(started.ns_since(self.truth.received_last), 0);
        let prefill = stated(first.ns_since(started), 1);
        let decode = stated(last.ns_since(first), gaps);
        let per_token = if gaps > 0 { decode / gaps as f64 } else { 0.0 };
        match config.timings {
            TimingsStyle::Off => String::new(),
            TimingsStyle::Vllm => format!(
                ",\"metrics\":{{\"time_to_first_token_ms\":{prefill},\"generation_time_ms\":{decode},\
                 \"queue_time_ms\":{queue},\"mean_itl_ms\":{per_token}}}"
            ),
            TimingsStyle::LlamaCpp => format!(
                ",\"timings\":{{\"prompt_n\":{},\"prompt_ms\":{prefill},\"predicted_n\":{},\"predicted_ms\":{decode},\
                 \"predicted_per_token_ms\":{per_token}}}",
                self.truth.prompt_tokens, self.sent
            ),
        }
    }
}
