//! A thread for work that blocks, owned by an actor: jobs run one after the other, a panic in one comes back as a value, and dropping the
//! worker waits for the job that runs. So an actor built anew never meets a job of its predecessor.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;

type Job = Box<dyn FnOnce() + Send>;

/// An actor asks for at most this many jobs at a time.
const QUEUE: usize = 4;

/// A job ended by a panic; the message is all that is left of it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

/// The thread.
#[derive(Debug)]
pub struct Worker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread of this name.
    pub fn start(name: &str) -> std::io::Result<Self> {
        let (jobs, queue) = crossbeam_channel::bounded::<Job>(QUEUE);
        let thread = thread::Builder::new().name(name.into()).spawn(move || queue.iter().for_each(|job| job()))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `job` on the thread, then `done` with its outcome.
    pub fn run<T>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(Result<T, Panicked>) + Send + 'static,
    ) {
        let run = move || done(catch_unwind(AssertUnwindSafe(job)).map_err(|panic| Panicked(message(&*panic))));
        if let Some(jobs) = &self.jobs {
            // The thread ends only after this sender is gone.
            let _ = jobs.send(Box::new(run));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_comes_back_as_a_value_and_the_next_job_runs() {
        let worker = Worker::start("test").unwrap();
        let (tell, told) = crossbeam_channel::bounded(2);
        let tell_too = tell.clone();
        worker.run(|| assert_eq!(1, 2, "on purpose"), move |outcome| tell.send(outcome.map_err(|p| p.0)).unwrap());
        worker.run(|| (), move |outcome| tell_too.send(outcome.map_err(|p| p.0)).unwrap());
        assert!(told.recv().unwrap().unwrap_err().contains("on purpose"));
        assert_eq!(told.recv().unwrap(), Ok(()));
    }
}
