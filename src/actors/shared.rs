//! What requests read without asking an actor: the live counters and the served model. Each has one writer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::also_bought::lambda::Lambda;
use crate::interests::counters::Counters;
use crate::model::Model;
use crate::training::Recipe;

/// The live counters, written by the counter actor, which replaces them as a whole when it was built anew.
#[derive(Debug, Default)]
pub struct Live {
    counters: ArcSwap<RwLock<Counters>>,
    replaced: AtomicU64,
}

impl Live {
    /// Reads the counters; keep it short, for counting waits.
    pub fn read<R>(&self, reader: impl FnOnce(&Counters) -> R) -> R {
        let counters = self.counters.load();
        // A writer that panicked leaves whole numbers behind, at worst a part of one batch; the actor replaces them in a moment.
        reader(&counters.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often the counters were replaced: after a compaction of the log other counters can number users and products otherwise.
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Puts other counters in the place of these; hands out the way to write them.
    pub fn replace(&self, counters: Counters) -> Writable {
        let counters = Arc::new(RwLock::new(counters));
        self.counters.store(Arc::clone(&counters));
        self.replaced.fetch_add(1, Ordering::Relaxed);
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

/// What is served, each swapped as a whole by the publisher.
#[derive(Debug)]
pub struct Served {
    recipe: ArcSwap<Recipe>,
    model: ArcSwapOption<Model>,
    lambda: ArcSwap<Lambda>,
}

impl Served {
    /// Nothing yet; models are to be made by this recipe.
    pub fn new(recipe: Recipe) -> Self {
        Self { recipe: ArcSwap::from_pointee(recipe), model: ArcSwapOption::default(), lambda: ArcSwap::default() }
    }

    /// How models are made now.
    pub fn recipe(&self) -> Arc<Recipe> {
        self.recipe.load_full()
    }

    /// From now on models are made otherwise.
    pub fn change_recipe(&self, recipe: Recipe) {
        self.recipe.store(Arc::new(recipe));
    }

    /// The model served now, if there is one. Keep the handle for a whole answer: then no answer mixes two generations.
    pub fn model(&self) -> Option<Arc<Model>> {
        self.model.load_full()
    }

    /// Serves no model any more.
    pub fn clear(&self) {
        self.model.store(None);
    }

    /// Swaps the model under its readers.
    pub fn swap(&self, model: Arc<Model>) {
        self.model.store(Some(model));
    }

    /// The lambda view served now. Keep the handle for a whole answer.
    pub fn lambda(&self) -> Arc<Lambda> {
        self.lambda.load_full()
    }

    /// Swaps the lambda view under its readers.
    pub fn swap_lambda(&self, lambda: Arc<Lambda>) {
        self.lambda.store(lambda);
    }
}
