//! Trainer: one training at a time, off the threads that answer; windows that end meanwhile are joined, for the newest knows all that they know.
//!
//! Owns the threads that train and that count pairs of products, and the cores' pool. Is told to train and to count; tells Publisher about a model,
//! about a window that got none, and about a layer of the lambda view.

mod pairs;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix::{Actor, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::oneshot;

use self::pairs::KappaJob;
use super::messages::{Closed, CountPairs, Publish, PublishLayer, StopTraining, Train, TrainAgain, Untrained};
use super::port::{Envelope, Port};
use super::shared::{Live, Served};
use super::worker::{Panicked, Worker};
use crate::als;
use crate::also_bought::kappa::Kappa;
use crate::clock;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::training::Recipe;
use crate::window::{ClosedWindow, Outcome};

/// What Trainer works with.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The cores to train on.
    pub pool: Arc<rayon::ThreadPool>,
    /// Where the products' names are.
    pub live: Arc<Live>,
    /// What is served, and how models are made.
    pub served: Arc<Served>,
    /// Where models go.
    pub publish: Port<Publish>,
    /// Where layers of the lambda view go.
    pub publish_layer: Port<PublishLayer>,
    /// Where windows without a model go.
    pub untrained: Port<Untrained>,
    /// Where it is told that a training failed.
    pub train_again: Port<TrainAgain>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// See the module.
#[derive(Debug)]
pub struct Trainer {
    around: Surroundings,
    running: Option<Running>,
    waiting: Option<Train>,
    /// The newest lists over all interests, and how often the counters had been replaced then.
    kappa: Option<(Arc<Kappa>, u64)>,
    counting: bool,
    pairs_waiting: VecDeque<CountPairs>,
    stop_waiters: Vec<oneshot::Sender<()>>,
    stopping: bool,
    cancel: Cancel,
    worker: Worker,
    pairs_worker: Worker,
    _ended: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Running {
    recipe: Arc<Recipe>,
    window: ClosedWindow,
    waiters: Vec<oneshot::Sender<Closed>>,
}

/// Cancels the training when it is dropped: it stands before the worker, which waits for the training to end.
#[derive(Debug, Default)]
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a training gives: the model, and the also-bought lists in it in the form that the next ones begin from.
type Products = (Box<Model>, Arc<Kappa>);

/// From the thread that trains.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Trained(Result<Result<Products, als::Cancelled>, Panicked>);

impl Trainer {
    /// A trainer with nothing to do.
    pub fn new(around: Surroundings, ended: oneshot::Sender<()>) -> std::io::Result<Self> {
        Ok(Self {
            around,
            running: None,
            waiting: None,
            kappa: None,
            counting: false,
            pairs_waiting: VecDeque::new(),
            stop_waiters: Vec::new(),
            stopping: false,
            cancel: Cancel::default(),
            worker: Worker::start("train")?,
            pairs_worker: Worker::start("pairs")?,
            _ended: ended,
        })
    }

    fn begin(&mut self, train: Train, context: &mut Context<Self>) {
        let Train { window, base, waiters } = train;
        let recipe = self.around.served.recipe();
        let kappa = KappaJob {
            base,
            before: self.lists_before(),
            settings: recipe.also_bought,
            live: Arc::clone(&self.around.live),
            cancel: Arc::clone(&self.cancel.0),
        };
        let job = Job {
            recipe: Arc::clone(&recipe),
            before: self.around.served.model(),
            pool: Arc::clone(&self.around.pool),
            metrics: Arc::clone(&self.around.metrics),
            window: window.clone(),
            kappa,
        };
        self.running = Some(Running { recipe, window, waiters });
        let address = context.address();
        self.worker.run(
            move || job.run(),
            move |trained| {
                // An actor that died meanwhile asked for another training.
                let _ = address.try_send(Trained(trained));
            },
        );
    }

    fn supersede(&self, older: Train, context: &mut Context<Self>) {
        let untrained = Untrained { window: older.window, outcome: Outcome::Superseded, waiters: Vec::new() };
        let port = self.around.untrained.clone();
        context.spawn(async move { port.deliver(untrained).await }.into_actor(self));
    }

    /// Tells who waits for it that nothing runs any more.
    fn tell_stopped(&mut self) {
        if self.stopping && self.running.is_none() && !self.counting {
            for waiter in self.stop_waiters.drain(..) {
                let _ = waiter.send(());
            }
        }
    }

    fn fail(&self, running: Running, error: String, context: &mut Context<Self>) {
        let Running { window, waiters, .. } = running;
        tracing::error!("window {}: training failed: {error}; the next window is trained in its place", window.number);
        let untrained = Untrained { window, outcome: Outcome::Failed(error), waiters };
        let (port, again) = (self.around.untrained.clone(), self.around.train_again.clone());
        let report = async move {
            again.deliver(TrainAgain { at_once: false }).await;
            port.deliver(untrained).await;
        };
        context.spawn(report.into_actor(self));
    }
}

/// One training.
struct Job {
    recipe: Arc<Recipe>,
    before: Option<Arc<Model>>,
    pool: Arc<rayon::ThreadPool>,
    metrics: Arc<Metrics>,
    window: ClosedWindow,
    kappa: KappaJob,
}

impl Job {
    fn run(self) -> Result<Products, als::Cancelled> {
        fail::fail_point!("trainer::train");
        let timer = self.metrics.also_bought_seconds.start_timer();
        let kappa = self.pool.install(|| self.kappa.run()).map_err(|_| als::Cancelled)?;
        timer.observe_duration();
        let started = Instant::now();
        let KappaJob { base, live, cancel, .. } = self.kappa;
        let products = live.read(|counters| counters.products().list().prefix(base.products()));
        let lists = kappa.table().clone();
        let mut model = self.recipe.train(&base, products, lists, self.before.as_deref(), &self.pool, &cancel)?;
        model.about.window = self.window.number;
        model.about.events = self.window.offset;
        model.about.trained_at_micros = clock::now_micros();
        model.about.seconds = started.elapsed().as_secs_f64();
        Ok((Box::new(model), kappa))
    }
}

impl Actor for Trainer {
    type Context = Context<Self>;
}

impl Handler<Envelope<Train>> for Trainer {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Train>, context: &mut Self::Context) {
        fail::fail_point!("trainer::handle");
        let mut train = envelope.message;
        if self.stopping {
            // Who waits for it sees the dropped reply.
            drop(train);
        } else if self.running.is_none() {
            self.begin(train, context);
        } else if let Some(mut older) = self.waiting.take() {
            train.waiters.append(&mut older.waiters);
            self.supersede(older, context);
            self.waiting = Some(train);
        } else {
            self.waiting = Some(train);
        }
    }
}

impl Handler<Trained> for Trainer {
    type Result = ();

    fn handle(&mut self, Trained(trained): Trained, context: &mut Self::Context) {
        let Some(running) = self.running.take() else { return };
        match trained {
            Ok(Ok((model, kappa))) => {
                self.keep(kappa);
                self.around.metrics.training_seconds.observe(model.about.seconds);
                let port = self.around.publish.clone();
                let Running { recipe, window, waiters } = running;
                let publish = Publish { model, recipe, window, waiters };
                context.spawn(async move { port.deliver(publish).await }.into_actor(self));
            }
            Ok(Err(als::Cancelled)) => drop(running),
            Err(panicked) => self.fail(running, panicked.to_string(), context),
        }
        if !self.stopping
            && let Some(next) = self.waiting.take()
        {
            self.begin(next, context);
        }
        self.tell_stopped();
    }
}

impl Handler<Envelope<StopTraining>> for Trainer {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<StopTraining>, _: &mut Self::Context) {
        self.stopping = true;
        self.cancel.0.store(true, Ordering::Relaxed);
        self.stop_waiters.push(envelope.message.reply);
        self.tell_stopped();
    }
}
