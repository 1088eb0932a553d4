//! Where the tasks of a worker run: in its monoio runtime, or in a test that simulates it.

use std::future::Future;

/// Runs the tasks of one worker.
pub enum Executor {
    Monoio,
    /// Takes over the tasks; the test polls them.
    #[cfg(feature = "internals")]
    Simulated(Box<dyn Fn(SimulatedTask)>),
}

/// A task of a simulated worker.
#[cfg(feature = "internals")]
pub type SimulatedTask = std::pin::Pin<Box<dyn Future<Output = ()>>>;

impl Executor {
    /// Starts a task. The result is a future that is ready when the task has ended, except in a simulation, which ends
    /// all tasks of a phase before it starts the next one.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) -> impl Future<Output = ()> + 'static {
        let handle = match self {
            Executor::Monoio => Some(monoio::spawn(task)),
            #[cfg(feature = "internals")]
            Executor::Simulated(take) => {
                take(Box::pin(task));
                None
            }
        };
        async move {
            if let Some(handle) = handle {
                handle.await;
            }
        }
    }

    /// Lets a simulation run other workers, whose time may be earlier. Does nothing else.
    pub(crate) async fn let_others_run(&self) {
        match self {
            Executor::Monoio => {}
            #[cfg(feature = "internals")]
            Executor::Simulated(_) => yield_once().await,
        }
    }
}

#[cfg(feature = "internals")]
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
