//! The server-side times of a request that a stream reports with its usage, with the configured error added.

use super::Exchange;
use crate::mock::config::{Config, EosStyle, TimingsStyle};
use crate::time::{MS, Tick};

impl Exchange {
    /// The JSON members that follow the usage, with a leading comma. Empty if none are configured, and for requests with
    /// several choices, whose times are ambiguous.
    ///
    /// The last token is sent together with these members, so the time of this step replaces its send time, which
    /// is not known yet.
    pub(super) fn stated_times(&self, config: &Config) -> String {
        let Some(started) = self.truth.started.filter(|_| self.params.choices <= 1 && self.sent > 0) else {
            return String::new();
        };
        let last = Tick(self.due_ns.max(self.now_ns));
        let choice = self.truth.choices.first().copied().unwrap_or_default();
        let first = choice.first_token.unwrap_or(last);
        // An end-of-sequence token that is not counted was generated after the last one.
        let last = choice.last_token.filter(|_| self.eos_due && config.eos == EosStyle::Uncounted).unwrap_or(last);
        let tokens = self.counted(config, self.sent_tokens(config));
        let gaps = i64::from(tokens.saturating_sub(1));
        let reported_ms =
            |ns: i64, lies: i64| ns.saturating_add(config.lie_ns.saturating_mul(lies)).max(0) as f64 / MS as f64;
        let queue = reported_ms(started.ns_since(self.truth.received_last), 0);
        let prefill = reported_ms(first.ns_since(started), 1);
        let decode = reported_ms(last.ns_since(first), gaps);
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
                self.truth.prompt_tokens, tokens
            ),
        }
    }
}
