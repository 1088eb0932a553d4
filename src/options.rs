//! Flag values from a fixed list that several modules use.

use serde::Serialize;

/// Which parts of prompts and responses the database stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Save {
    /// Prompts, response text and reasoning text.
    #[default]
    Text,
    /// Also the raw bytes of every event.
    Full,
    /// Neither prompts nor responses.
    Metrics,
}

/// An experiment tracking service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Weights & Biases.
    Wandb,
    /// SwanLab.
    Swanlab,
    /// ClearML.
    Clearml,
}

impl Service {
    /// Its name in `--visualizer`, which is also the name of the Python package of its SDK.
    pub fn name(self) -> &'static str {
        match self {
            Service::Wandb => "wandb",
            Service::Swanlab => "swanlab",
            Service::Clearml => "clearml",
        }
    }
}

/// Value of `--swanlab-api-key` that selects SwanLab's local mode: no data leaves this machine.
pub const LOCAL: &str = "local";

/// The language of the HTML report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Chinese.
    Zh,
}

/// Where missing datasets and tokenizers are downloaded from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSource {
    /// ModelScope.
    #[default]
    Modelscope,
    /// Hugging Face.
    Huggingface,
    /// No downloads; only files on this machine are used.
    Local,
}

/// The least severe level of log lines that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Errors and warnings.
    Warning,
    /// Also what happens in a run.
    #[default]
    Info,
    /// Also every request and response.
    Debug,
}
