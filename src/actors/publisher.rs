//! Publisher: puts a new model in front of the readers in one swap, keeps it in the store, and remembers the windows.
//!
//! Owns the numbers of the generations, the history of windows, and the thread that writes models to the store. Is told about models, about
//! windows that got none and about layers of the lambda view; tells nobody but those who wait for one of these.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::oneshot;

use super::messages::{Closed, Flush, ListWindows, NewLayer, Promote, Publish, PublishLayer, TrainAgain, Untrained};
use super::port::{Envelope, Port};
use super::shared::{Live, Served};
use super::worker::Worker;
use crate::also_bought::lambda::Batch;
use crate::clock;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::store::Store;
use crate::window::{ClosedWindow, Outcome, WindowReport};

/// So many windows are remembered.
const REMEMBERED_WINDOWS: usize = 100;

/// What Publisher works with.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// What is served, and how models are made.
    pub served: Arc<Served>,
    /// Where the products' names are.
    pub live: Arc<Live>,
    /// Where what is served is kept.
    pub store: Store,
    /// Where it is told that a model came too late.
    pub train_again: Port<TrainAgain>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// See the module.
#[derive(Debug)]
pub struct Publisher {
    around: Surroundings,
    windows: VecDeque<WindowReport>,
    /// What is being written, and what waits behind it: only the newest is worth it.
    writing: bool,
    unsaved: bool,
    flush_waiters: Vec<oneshot::Sender<()>>,
    worker: Worker,
    _ended: oneshot::Sender<()>,
}

/// From the thread that writes.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Written;

impl Publisher {
    /// A publisher that remembers these windows, newest first.
    pub fn new(around: Surroundings, windows: Vec<WindowReport>, ended: oneshot::Sender<()>) -> std::io::Result<Self> {
        let worker = Worker::start("publish")?;
        let (windows, flush_waiters) = (windows.into(), Vec::new());
        Ok(Self { around, windows, writing: false, unsaved: false, flush_waiters, worker, _ended: ended })
    }

    /// Serves this model from now on; tells its number.
    fn swap(&self, mut model: Box<Model>) -> u64 {
        // Where the store was lost, generations were too: the window's number is never smaller than theirs.
        let generation = self.around.served.model().map_or(model.about.window, |before| before.about.generation + 1);
        model.about.generation = generation;
        let model = Arc::new(*model);
        show(&self.around.metrics, &model);
        self.around.served.swap(Arc::clone(&model));
        let about = &model.about;
        tracing::info!(
            "generation {generation} is served: window {}, {} interests of {} users in {} products, loss {:.6}, trained in {:.3} s",
            about.window,
            about.interests,
            about.users,
            about.products,
            about.loss,
            about.seconds
        );
        generation
    }

    fn remember(&mut self, window: ClosedWindow, outcome: Outcome, context: &mut Context<Self>) {
        let windows = &self.around.metrics.windows;
        match &outcome {
            Outcome::Trained { .. } => windows.trained.inc(),
            Outcome::Superseded => windows.superseded.inc(),
            Outcome::Failed(_) => windows.failed.inc(),
        }
        self.windows.push_front(WindowReport { window, outcome });
        self.windows.truncate(REMEMBERED_WINDOWS);
        self.unsaved = true;
        self.save(context);
    }

    /// Keeps the served model and the windows in the store.
    fn save(&mut self, context: &mut Context<Self>) {
        if self.writing {
            return;
        }
        if !self.unsaved {
            for waiter in self.flush_waiters.drain(..) {
                let _ = waiter.send(());
            }
            return;
        }
        (self.writing, self.unsaved) = (true, false);
        let (store, live) = (self.around.store.clone(), Arc::clone(&self.around.live));
        let (model, lambda) = (self.around.served.model(), self.around.served.lambda());
        let windows: Vec<WindowReport> = self.windows.iter().cloned().collect();
        let address = context.address();
        let write = move || {
            store.save_lambda(&lambda, &live.read(|counters| counters.products().list().clone()))?;
            store.save_model(model.as_deref(), &windows)
        };
        self.worker.run(write, move |written| {
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!("cannot keep the model: {error}; after a restart it is trained again");
                }
                Err(panicked) => tracing::error!("keeping the model {panicked}; after a restart it is trained again"),
            }
            // An actor that died meanwhile has nothing to write.
            let _ = address.try_send(Written);
        });
    }
}

impl Actor for Publisher {
    type Context = Context<Self>;
}

impl Handler<Envelope<Publish>> for Publisher {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Publish>, context: &mut Self::Context) {
        fail::fail_point!("publisher::publish");
        let Publish { model, recipe, window, waiters } = envelope.message;
        if *recipe != *self.around.served.recipe() {
            // Other settings were promoted while it was being made. Who waits sees the dropped reply.
            let again = self.around.train_again.clone();
            context.spawn(async move { again.deliver(TrainAgain { at_once: true }).await }.into_actor(self));
            self.remember(window, Outcome::Superseded, context);
            return;
        }
        let generation = self.swap(model);
        let about = self.around.served.model().map(|model| model.about.clone());
        let (loss, seconds) = about.map_or((0.0, 0.0), |about| (about.loss, about.seconds));
        for waiter in waiters {
            // Whoever asked may have gone.
            let _ = waiter.send(Closed::Trained { window: window.number, generation });
        }
        self.remember(window, Outcome::Trained { generation, loss, seconds }, context);
    }
}

impl Handler<Envelope<Promote>> for Publisher {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Promote>, context: &mut Self::Context) {
        let Promote { model, recipe, reply } = envelope.message;
        self.around.served.change_recipe(recipe);
        let generation = if let Some(mut model) = model {
            let served = self.around.served.model();
            model.about.window = served.map_or(model.about.window, |served| served.about.window);
            self.unsaved = true;
            self.swap(model)
        } else {
            let again = self.around.train_again.clone();
            context.spawn(async move { again.deliver(TrainAgain { at_once: true }).await }.into_actor(self));
            self.around.served.model().map_or(0, |model| model.about.generation)
        };
        self.save(context);
        // Whoever asked may have gone.
        let _ = reply.send(generation);
    }
}

/// Sets the metrics of the served model.
pub fn show(metrics: &Metrics, model: &Model) {
    metrics.model_generation.set(model.about.generation as i64);
    metrics.training_loss.set(model.about.loss);
    metrics.model_trained_timestamp_seconds.set(model.about.trained_at_micros as f64 / 1e6);
}

impl Handler<Envelope<PublishLayer>> for Publisher {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<PublishLayer>, context: &mut Self::Context) {
        fail::fail_point!("publisher::layer");
        let PublishLayer { layer, offset, waiters } = envelope.message;
        let mut lambda = (*self.around.served.lambda()).clone();
        lambda.number += 1;
        let layers = &self.around.metrics.lambda_layers;
        self.unsaved = true;
        let save_now = matches!(layer, NewLayer::Batch(_) | NewLayer::Forgotten(_));
        match layer {
            NewLayer::Stream(lists) => {
                lambda.replace_lists(&lists, offset);
                layers.stream.inc();
            }
            NewLayer::Batch(table) => {
                let computed_micros = clock::now_micros();
                lambda.batch = Some(Batch { table: Arc::new(table), offset, computed_micros });
                layers.batch.inc();
            }
            NewLayer::Sum(table) => {
                (lambda.sum, lambda.stream_offset) = (Some(Arc::new(table)), offset);
                layers.sum.inc();
            }
            NewLayer::Forgotten(products) => lambda.forget_lists(&products),
        }
        self.around.served.swap_lambda(Arc::new(lambda));
        if save_now {
            // Stream windows are kept together with the next model: until then the log has them.
            self.save(context);
        }
        for waiter in waiters {
            // Whoever asked may have gone.
            let _ = waiter.send(offset);
        }
    }
}

impl Handler<Envelope<Untrained>> for Publisher {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Untrained>, context: &mut Self::Context) {
        let Untrained { window, outcome, waiters } = envelope.message;
        let number = window.number;
        if let Outcome::Failed(error) = &outcome {
            for waiter in waiters {
                let _ = waiter.send(Closed::Failed { window: number, error: error.clone() });
            }
        }
        self.remember(window, outcome, context);
    }
}

impl Handler<Written> for Publisher {
    type Result = ();

    fn handle(&mut self, _: Written, context: &mut Self::Context) {
        self.writing = false;
        self.save(context);
    }
}

impl Handler<Envelope<ListWindows>> for Publisher {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<ListWindows>, _: &mut Self::Context) {
        let _ = envelope.message.reply.send(self.windows.iter().cloned().collect());
    }
}

impl Handler<Envelope<Flush>> for Publisher {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Flush>, context: &mut Self::Context) {
        self.flush_waiters.push(envelope.message.reply);
        self.save(context);
    }
}
