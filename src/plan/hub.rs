//! Files that a call names without a path: whoever plans has found them first.

use std::path::PathBuf;

use crate::spec::Spec;

/// Where the files of hubs are; see [`crate::hub`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubFiles {
    /// The file of the data set.
    pub dataset: Option<PathBuf>,
    /// The folder of the tokenizer.
    pub tokenizer: Option<PathBuf>,
}

impl HubFiles {
    /// The same call with the files' places in it.
    pub fn named_in(&self, spec: &Spec) -> Spec {
        let mut spec = spec.clone();
        if let Some(path) = &self.dataset {
            spec.dataset_path = Some(path.clone());
        }
        if let Some(path) = &self.tokenizer {
            spec.tokenizer_path = Some(path.display().to_string());
        }
        spec
    }
}
