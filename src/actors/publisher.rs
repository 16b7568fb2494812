//! Publisher: puts a new model in front of the readers in one swap, keeps it in the store, and remembers the windows.
//!
//! Owns the numbers of the generations, the history of windows, and the thread that writes models to the store. Is told about models, about
//! windows that got none and about layers of the lambda view; tells nobody but those who wait for one of these.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, Message};
use tokio::sync::oneshot;

use super::messages::{Closed, Flush, ListWindows, NewLayer, Publish, PublishLayer, Untrained};
use super::port::Envelope;
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

/// See the module.
#[derive(Debug)]
pub struct Publisher {
    served: Arc<Served>,
    live: Arc<Live>,
    store: Store,
    metrics: Arc<Metrics>,
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
    pub fn new(
        served: Arc<Served>,
        live: Arc<Live>,
        store: Store,
        metrics: Arc<Metrics>,
        windows: Vec<WindowReport>,
        ended: oneshot::Sender<()>,
    ) -> std::io::Result<Self> {
        let worker = Worker::start("publish")?;
        let (windows, flush_waiters) = (windows.into(), Vec::new());
        Ok(Self {
            served,
            live,
            store,
            metrics,
            windows,
            writing: false,
            unsaved: false,
            flush_waiters,
            worker,
            _ended: ended,
        })
    }

    fn remember(&mut self, window: ClosedWindow, outcome: Outcome, context: &mut Context<Self>) {
        let windows = &self.metrics.windows;
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
        let (store, live) = (self.store.clone(), Arc::clone(&self.live));
        let (model, lambda) = (self.served.model(), self.served.lambda());
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
        let Publish { mut model, window, waiters } = envelope.message;
        // Where the store was lost, generations were too: the window's number is never smaller than theirs.
        let generation = self.served.model().map_or(window.number, |before| before.about.generation + 1);
        model.about.generation = generation;
        let model = Arc::new(*model);
        show(&self.metrics, &model);
        self.served.swap(Arc::clone(&model));
        let about = &model.about;
        tracing::info!(
            "generation {generation} is served: window {}, {} interests of {} users in {} products, loss {:.6}, trained in {:.3} s",
            window.number,
            about.interests,
            about.users,
            about.products,
            about.loss,
            about.seconds
        );
        for waiter in waiters {
            // Whoever asked may have gone.
            let _ = waiter.send(Closed::Trained { window: window.number, generation });
        }
        self.remember(window, Outcome::Trained { generation, loss: about.loss, seconds: about.seconds }, context);
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
        let mut lambda = (*self.served.lambda()).clone();
        lambda.number += 1;
        let layers = &self.metrics.lambda_layers;
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
        self.served.swap_lambda(Arc::new(lambda));
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
