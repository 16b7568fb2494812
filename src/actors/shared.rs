//! What requests read without asking an actor: the live counters and the served model. Each has one writer.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::interests::counters::Counters;
use crate::model::Model;

/// The live counters, written by the counter actor, which replaces them as a whole when it was built anew.
#[derive(Debug, Default)]
pub struct Live(ArcSwap<RwLock<Counters>>);

impl Live {
    /// Reads the counters; keep it short, for counting waits.
    pub fn read<R>(&self, reader: impl FnOnce(&Counters) -> R) -> R {
        let counters = self.0.load();
        // A writer that panicked leaves whole numbers behind, at worst a part of one batch; the actor replaces them in a moment.
        reader(&counters.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other counters in the place of these; hands out the way to write them.
    pub fn replace(&self, counters: Counters) -> Writable {
        let counters = Arc::new(RwLock::new(counters));
        self.0.store(Arc::clone(&counters));
        Writable(counters)
    }
}

/// The one writer's way to the counters.
#[derive(Debug, Clone)]
pub struct Writable(Arc<RwLock<Counters>>);

impl Writable {
    /// Locks the counters for writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, Counters> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads these counters, even when others have replaced them meanwhile.
    pub fn read<R>(&self, reader: impl FnOnce(&Counters) -> R) -> R {
        reader(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The served model, swapped as a whole by the publisher.
#[derive(Debug, Default)]
pub struct Served(ArcSwapOption<Model>);

impl Served {
    /// The model served now, if there is one. Keep the handle for a whole answer: then no answer mixes two generations.
    pub fn model(&self) -> Option<Arc<Model>> {
        self.0.load_full()
    }

    /// Serves no model any more.
    pub fn clear(&self) {
        self.0.store(None);
    }

    /// Swaps the model under its readers.
    pub fn swap(&self, model: Arc<Model>) {
        self.0.store(Some(model));
    }
}
