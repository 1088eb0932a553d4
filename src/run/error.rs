//! Errors of a run.

use std::path::PathBuf;

use crate::engine::EngineError;
use crate::finding::OpenFiles;
use crate::plan::PlanError;
use crate::rendezvous::RendezvousError;
use crate::store::StoreError;
use crate::workload::WorkloadError;

/// An error that ends a run. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Plan(#[from] PlanError),
    #[error("{0}")]
    Workload(#[from] WorkloadError),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("cannot write {}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error("the connection test failed: {0}\nhint: --no-test-connection skips this test")]
    ConnectionTest(String),
    #[error("{0}")]
    OpenFiles(OpenFiles),
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error("{0}")]
    Rendezvous(RendezvousError),
    #[error("interrupted while the requests were prepared")]
    Interrupted,
    #[error(
        "{used_gib:.1} GiB and nearly all memory of this machine were needed to prepare requests or to count tokens: use \
         fewer or shorter prompts; if these are few and short, check whether the file, the program or the chat template \
         ever ends"
    )]
    Memory { used_gib: f64 },
    #[error("{} is a symbolic link, which results are not written through: remove it", .0.display())]
    Link(PathBuf),
}

impl From<RendezvousError> for RunError {
    fn from(error: RendezvousError) -> RunError {
        match error {
            RendezvousError::Interrupted => RunError::Interrupted,
            failed @ RendezvousError::Failed(_) => RunError::Rendezvous(failed),
        }
    }
}
