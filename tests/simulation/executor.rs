//! The tasks of one worker, polled in the order in which they were woken, as its runtime does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use ringmark::engine::executor::{Executor, SimulatedTask};

type Ready = Arc<Mutex<VecDeque<usize>>>;

/// The tasks of one worker.
#[derive(Default)]
pub struct Tasks {
    tasks: Vec<(Option<SimulatedTask>, Arc<TaskWaker>)>,
    spawned: Rc<RefCell<Vec<SimulatedTask>>>,
    ready: Ready,
}

struct TaskWaker {
    number: usize,
    is_ready: AtomicBool,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap().push_back(self.number);
        }
    }
}

impl Tasks {
    /// What the engine of the worker starts its tasks with.
    pub fn executor(&self) -> Executor {
        let spawned = self.spawned.clone();
        Executor::Simulated(Box::new(move |task| spawned.borrow_mut().push(task)))
    }

    pub fn spawn(&mut self, task: SimulatedTask) {
        let number = self.tasks.len();
        let waker = Arc::new(TaskWaker { number, is_ready: AtomicBool::new(false), ready: self.ready.clone() });
        waker.clone().wake();
        self.tasks.push((Some(task), waker));
    }

    /// Polls every task that is ready now, once. False if none is.
    pub fn run_ready(&mut self) -> bool {
        let ready = std::mem::take(&mut *self.ready.lock().unwrap());
        for &number in &ready {
            self.poll(number);
        }
        !ready.is_empty()
    }

    fn poll(&mut self, number: usize) {
        let (task, waker) = &mut self.tasks[number];
        waker.is_ready.store(false, Ordering::Relaxed);
        let waker = Waker::from(waker.clone());
        let ended = task.as_mut().is_some_and(|task| task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        if ended {
            *task = None;
        }
        let spawned = std::mem::take(&mut *self.spawned.borrow_mut());
        spawned.into_iter().for_each(|task| self.spawn(task));
    }
}
