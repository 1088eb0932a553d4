//! Values that a flag chooses from a short list, and that several modules share.

use serde::Serialize;

/// What of prompts and answers the database keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Save {
    /// Prompts, answer text and reasoning text.
    #[default]
    Text,
    /// Every event's bytes as well.
    Full,
    /// Neither prompts nor answers.
    Metrics,
}

/// A service that shows figures of experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    Wandb,
    Swanlab,
    Clearml,
}

impl Service {
    /// As in `--visualizer`, and as its SDK's package is called.
    pub fn name(self) -> &'static str {
        match self {
            Service::Wandb => "wandb",
            Service::Swanlab => "swanlab",
            Service::Clearml => "clearml",
        }
    }
}

/// The value of SwanLab's key that keeps everything on this machine.
pub const LOCAL: &str = "local";

/// The language of the HTML report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    Zh,
}

/// Where datasets and tokenizers come from that are not on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSource {
    #[default]
    Modelscope,
    Huggingface,
    /// Only files of this machine are used.
    Local,
}

/// The least important level of log lines that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warning,
    #[default]
    Info,
    Debug,
}
