//! A replay beside a running node: a thread of its own with half of the cores at the lowest priority, which reads the log to its end, trains, and
//! then follows the live tail.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde::Serialize;

use super::comparison::Comparison;
use super::{Rebuild, ReplayError, Until};
use crate::interests::counters::Counters;
use crate::model::Model;
use crate::training::Recipe;

/// How often the live tail is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Whoever counts, answers or trains for the running node comes first.
const NICENESS: i32 = 19;
/// When the log has so many events more, reading them comes before training.
const NEARLY_LEVEL: u64 = 100_000;
/// So many events are judged between two looks at most; a tail that is faster is only counted.
const JUDGED_AT_A_LOOK: u64 = 2_000;

/// What is to be replayed.
#[derive(Debug, Clone)]
pub struct Order {
    /// Under which settings.
    pub recipe: Recipe,
    /// Up to where; `None` for everything, and on behind the running node.
    pub until: Option<Until>,
}

/// The node that the replay runs beside.
#[derive(Clone)]
pub struct Beside {
    /// Where the log is.
    pub log_dir: PathBuf,
    /// Events counted by the node, now.
    pub offset: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The model served, now.
    pub served: Arc<dyn Fn() -> Option<Arc<Model>> + Send + Sync>,
    /// The threads to train on.
    pub pool: Arc<rayon::ThreadPool>,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Counting the log.
    Reading,
    /// Training.
    Training,
    /// All that the node knows is counted, and a model is there; following the live tail.
    Level,
    /// The point asked for is reached, and a model is there.
    Done,
    /// Y has taken over.
    Promoted,
    /// It ended early.
    Failed,
}

/// What is told about a replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// How far it is.
    pub phase: Phase,
    /// Events counted.
    pub events: u64,
    /// Events in the log.
    pub events_total: u64,
    /// How both models compare, once there is one.
    pub comparison: Option<Comparison>,
    /// Why it ended early.
    pub error: Option<String>,
}

/// What the thread and its owner share.
#[derive(Debug)]
struct Shared {
    cancel: AtomicBool,
    events: AtomicU64,
    status: Mutex<Status>,
    model: Mutex<Option<Arc<Model>>>,
    rebuild: RwLock<Rebuild>,
}

/// A replay under way. Dropping it ends it.
#[derive(Debug)]
pub struct Replay {
    /// Under which settings, up to where.
    pub order: Order,
    shared: Arc<Shared>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole at any moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replay {
    /// Begins one.
    pub fn start(order: Order, beside: Beside) -> std::io::Result<Self> {
        let status =
            Status { phase: Phase::Reading, events: 0, events_total: (beside.offset)(), comparison: None, error: None };
        let shared = Arc::new(Shared {
            cancel: AtomicBool::new(false),
            events: AtomicU64::new(0),
            status: Mutex::new(status),
            model: Mutex::new(None),
            rebuild: RwLock::default(),
        });
        let (end, ended) = crossbeam_channel::bounded(1);
        let job = Job { order: order.clone(), beside, shared: Arc::clone(&shared), ended };
        let thread = thread::Builder::new().name("replay".into()).spawn(move || job.run())?;
        Ok(Self { order, shared, end: Some(end), thread: Some(thread) })
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        let mut status = lock(&self.shared.status).clone();
        status.events = self.shared.events.load(Ordering::Relaxed);
        status.events_total = status.events_total.max(status.events);
        status
    }

    /// The newest model, if one is trained.
    pub fn model(&self) -> Option<Arc<Model>> {
        lock(&self.shared.model).clone()
    }

    /// Reads what was counted, unless counting or training is under way just now; keep it short, for counting waits.
    pub fn read<R>(&self, reader: impl FnOnce(&Counters) -> R) -> Option<R> {
        let rebuild = match self.shared.rebuild.try_read() {
            Ok(rebuild) => rebuild,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(reader(rebuild.counters()))
    }

    /// Ends the work: Y has taken over. Does not wait for the thread.
    pub fn promoted(&mut self) {
        self.cancel();
        lock(&self.shared.status).phase = Phase::Promoted;
    }

    fn cancel(&mut self) {
        self.shared.cancel.store(true, Ordering::Relaxed);
        self.end = None;
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

/// The thread's work.
struct Job {
    order: Order,
    beside: Beside,
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

impl Job {
    fn run(self) {
        // Where the system refuses, the replay is just less polite.
        let _ = rustix::process::nice(NICENESS);
        let outcome = self.build().and_then(|()| if self.order.until.is_none() { self.follow() } else { Ok(()) });
        match outcome {
            Ok(()) | Err(ReplayError::Cancelled) => {}
            Err(error) => {
                let mut status = lock(&self.shared.status);
                (status.phase, status.error) = (Phase::Failed, Some(error.to_string()));
            }
        }
    }

    fn enter(&self, phase: Phase) {
        let mut status = lock(&self.shared.status);
        if status.phase != Phase::Promoted {
            status.phase = phase;
        }
    }

    /// The served model, where it numbers products as the replay does: after a compaction it need not, and then there is nothing to compare.
    fn x(&self, counters: &Counters) -> Option<Arc<Model>> {
        (self.beside.served)().filter(|x| x.products().agrees_with(counters.products().list()))
    }

    /// Counts up to `until`, judging the first events if there is something to judge.
    fn advance(&self, until: Until, comparison: &mut Option<Comparison>) -> Result<(), ReplayError> {
        let y = lock(&self.shared.model).clone();
        let mut left = JUDGED_AT_A_LOOK;
        let mut rebuild = self.shared.rebuild.write().unwrap_or_else(PoisonError::into_inner);
        let x = self.x(rebuild.counters());
        rebuild.advance(
            &self.beside.log_dir,
            until,
            &self.shared.cancel,
            |counters, event| {
                if let (Some(comparison), Some(y), true) = (&mut *comparison, &y, left > 0) {
                    left -= 1;
                    comparison.judge(x.as_deref(), y, counters, event);
                }
            },
            |events| self.shared.events.store(events, Ordering::Relaxed),
        )
    }

    /// Reads the log and trains.
    fn build(&self) -> Result<(), ReplayError> {
        match self.order.until {
            Some(until) => self.advance(until, &mut None)?,
            None => loop {
                let end = (self.beside.offset)();
                lock(&self.shared.status).events_total = end;
                self.advance(Until::Offset(end), &mut None)?;
                if (self.beside.offset)() - end < NEARLY_LEVEL {
                    break;
                }
            },
        }
        self.enter(Phase::Training);
        self.train(&mut None)?;
        self.enter(if self.order.until.is_some() { Phase::Done } else { Phase::Level });
        Ok(())
    }

    fn train(&self, comparison: &mut Option<Comparison>) -> Result<(), ReplayError> {
        let mut rebuild = self.shared.rebuild.write().unwrap_or_else(PoisonError::into_inner);
        let model = rebuild.train(&self.order.recipe, &self.beside.pool, &self.shared.cancel)?;
        let counters = rebuild.counters();
        let x = self.x(counters);
        match comparison {
            Some(comparison) => comparison.renew(x.as_deref(), &model, counters),
            None => *comparison = Some(Comparison::new(x.as_deref(), &model, counters)),
        }
        lock(&self.shared.status).comparison.clone_from(comparison);
        *lock(&self.shared.model) = Some(Arc::new(model));
        Ok(())
    }

    /// Follows the live tail; trains again whenever the node has.
    fn follow(&self) -> Result<(), ReplayError> {
        let mut comparison = lock(&self.shared.status).comparison.clone();
        let generation = || (self.beside.served)().map_or(0, |model| model.about.generation);
        let mut seen = generation();
        while self.ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            let end = (self.beside.offset)();
            self.advance(Until::Offset(end), &mut comparison)?;
            lock(&self.shared.status).comparison.clone_from(&comparison);
            if generation() != seen {
                seen = generation();
                // The model before stays level meanwhile.
                self.train(&mut comparison)?;
            }
        }
        Ok(())
    }
}
