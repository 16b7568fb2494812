//! The four actors, each built the same way the first time and every time after.

use std::sync::Arc;

use actix::{Actor, Arbiter, ArbiterHandle};
use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::keep_alive::Keeper;
use super::start::{fits, log_options, stream_settings};
use super::{NodeError, Ports};
use crate::actors::counter::Counter;
use crate::actors::ingest::Ingest;
use crate::actors::messages::TrainAgain;
use crate::actors::publisher::Publisher;
use crate::actors::shared::{Live, Served};
use crate::actors::trainer::Trainer;
use crate::actors::{counter, publisher, trainer};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::recover::{self, Recovered};
use crate::store::Store;
use crate::window::WindowReport;

/// What is needed to build any actor, now or again.
#[derive(Clone)]
pub(super) struct Crew {
    pub(super) config: Arc<Config>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ports: Ports,
    pub(super) live: Arc<Live>,
    pub(super) served: Arc<Served>,
    pub(super) store: Store,
    pub(super) pool: Arc<rayon::ThreadPool>,
    pub(super) mailbox: usize,
    pub(super) fatal: mpsc::Sender<String>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Crew {
    /// Starts all four, each on a thread of its own, and a keeper for each.
    pub(super) fn start(
        &self,
        recovered: Recovered,
        windows: Vec<WindowReport>,
    ) -> Result<(Vec<Arbiter>, Vec<JoinHandle<()>>), NodeError> {
        let arbiters: Vec<Arbiter> = (0..4).map(|_| Arbiter::new()).collect();
        let handles: Vec<ArbiterHandle> = arbiters.iter().map(Arbiter::handle).collect();
        let [ingest, counter, trainer, publisher] =
            <[ArbiterHandle; 4]>::try_from(handles).map_err(|_| no_threads())?;
        let restarts = &self.metrics.actor_restarts;
        let mut keepers = Vec::new();

        let (sender, ended) = oneshot::channel();
        self.publisher(&publisher, windows, sender)?;
        let crew = self.clone();
        keepers.push(actix::spawn(self.keeper("publisher", &restarts.publisher).keep(ended, move |sender| {
            let (crew, arbiter) = (crew.clone(), publisher.clone());
            async move { crew.publisher_again(&arbiter, sender).await }
        })));

        let (sender, ended) = oneshot::channel();
        self.trainer(&trainer, sender)?;
        let crew = self.clone();
        keepers.push(actix::spawn(self.keeper("trainer", &restarts.trainer).keep(ended, move |sender| {
            let (crew, arbiter) = (crew.clone(), trainer.clone());
            async move { crew.trainer_again(&arbiter, sender).await }
        })));

        let (sender, ended) = oneshot::channel();
        self.counter(&counter, recovered, sender)?;
        let crew = self.clone();
        keepers.push(actix::spawn(self.keeper("counter", &restarts.counter).keep(ended, move |sender| {
            let (crew, arbiter) = (crew.clone(), counter.clone());
            async move { crew.counter_again(&arbiter, sender).await }
        })));

        let (sender, ended) = oneshot::channel();
        self.ingest(&ingest, sender)?;
        let crew = self.clone();
        keepers.push(actix::spawn(self.keeper("ingest", &restarts.ingest).keep(ended, move |sender| {
            let (crew, arbiter) = (crew.clone(), ingest.clone());
            async move { crew.ingest(&arbiter, sender).map_err(|error| error.to_string()) }
        })));
        Ok((arbiters, keepers))
    }

    fn keeper(&self, actor: &'static str, restarts: &IntCounter) -> Keeper {
        Keeper { actor, restarts: restarts.clone(), stopping: self.stopping.clone(), fatal: self.fatal.clone() }
    }

    fn ingest(&self, arbiter: &ArbiterHandle, ended: oneshot::Sender<()>) -> Result<(), NodeError> {
        let (append, position) = (self.ports.append.clone(), self.ports.position.clone());
        let dead_letter = self.config.ingest.dead_letter.as_deref();
        let actor = Ingest::new(append, position, Arc::clone(&self.metrics), self.mailbox, dead_letter, ended)
            .map_err(|source| NodeError::DeadLetter { path: dead_letter.unwrap_or("".as_ref()).to_owned(), source })?;
        let address = Ingest::start_in_arbiter(arbiter, move |_| actor);
        self.ports.submit.connect(address.clone().recipient());
        self.ports.introduce.connect(address.clone().recipient());
        self.ports.leave.connect(address.recipient());
        Ok(())
    }

    fn counter(
        &self,
        arbiter: &ArbiterHandle,
        recovered: Recovered,
        ended: oneshot::Sender<()>,
    ) -> Result<(), NodeError> {
        let around = counter::Surroundings {
            config: Arc::clone(&self.config),
            live: Arc::clone(&self.live),
            served: Arc::clone(&self.served),
            store: self.store.clone(),
            train: self.ports.train.clone(),
            count_pairs: self.ports.count_pairs.clone(),
            metrics: Arc::clone(&self.metrics),
            mailbox: self.mailbox,
            fatal: self.fatal.clone(),
        };
        let actor = Counter::new(around, recovered, ended)?;
        let address = Counter::start_in_arbiter(arbiter, move |_| actor);
        self.ports.append.connect(address.clone().recipient());
        self.ports.position.connect(address.clone().recipient());
        self.ports.close_window.connect(address.clone().recipient());
        self.ports.train_again.connect(address.clone().recipient());
        self.ports.start_batch.connect(address.clone().recipient());
        self.ports.compact.connect(address.clone().recipient());
        self.ports.take_snapshot.connect(address.clone().recipient());
        self.ports.checkpoint.connect(address.recipient());
        Ok(())
    }

    async fn counter_again(&self, arbiter: &ArbiterHandle, ended: oneshot::Sender<()>) -> Result<(), String> {
        let (config, store) = (Arc::clone(&self.config), self.store.clone());
        let recovering = tokio::task::spawn_blocking(move || {
            recover::recover(&config.data.dir, &store, log_options(&config), stream_settings(&config))
        });
        let recovered = recovering.await.map_err(|panic| panic.to_string())?.map_err(|error| error.to_string())?;
        // A stream window may have died with the actor.
        let mut lambda = recovered.lambda.clone();
        let served = self.served.lambda();
        lambda.number = lambda.number.max(served.number + 1);
        if lambda.batch.is_some() {
            lambda.batch.clone_from(&served.batch);
        }
        self.served.swap_lambda(Arc::new(lambda));
        // After a compaction the log can number products otherwise than before.
        if self.served.model().is_some_and(|model| !fits(&model, &recovered)) {
            self.served.clear();
        }
        self.counter(arbiter, recovered, ended).map_err(|error| error.to_string())
    }

    fn trainer(&self, arbiter: &ArbiterHandle, ended: oneshot::Sender<()>) -> Result<(), NodeError> {
        let around = trainer::Surroundings {
            pool: Arc::clone(&self.pool),
            live: Arc::clone(&self.live),
            served: Arc::clone(&self.served),
            publish: self.ports.publish.clone(),
            publish_layer: self.ports.publish_layer.clone(),
            untrained: self.ports.untrained.clone(),
            train_again: self.ports.train_again.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let actor = Trainer::new(around, ended)?;
        let address = Trainer::start_in_arbiter(arbiter, move |_| actor);
        self.ports.train.connect(address.clone().recipient());
        self.ports.count_pairs.connect(address.clone().recipient());
        self.ports.stop_training.connect(address.recipient());
        Ok(())
    }

    /// The window that was being trained is lost with the actor, so another is asked for.
    async fn trainer_again(&self, arbiter: &ArbiterHandle, ended: oneshot::Sender<()>) -> Result<(), String> {
        self.trainer(arbiter, ended).map_err(|error| error.to_string())?;
        self.ports.train_again.deliver(TrainAgain { at_once: true }).await;
        Ok(())
    }

    fn publisher(
        &self,
        arbiter: &ArbiterHandle,
        windows: Vec<WindowReport>,
        ended: oneshot::Sender<()>,
    ) -> Result<(), NodeError> {
        let (served, live, metrics) = (Arc::clone(&self.served), Arc::clone(&self.live), Arc::clone(&self.metrics));
        let around = publisher::Surroundings {
            served,
            live,
            store: self.store.clone(),
            metrics,
            train_again: self.ports.train_again.clone(),
        };
        let actor = Publisher::new(around, windows, ended)?;
        let address = Publisher::start_in_arbiter(arbiter, move |_| actor);
        self.ports.publish.connect(address.clone().recipient());
        self.ports.promote.connect(address.clone().recipient());
        self.ports.publish_layer.connect(address.clone().recipient());
        self.ports.untrained.connect(address.clone().recipient());
        self.ports.list_windows.connect(address.clone().recipient());
        self.ports.flush.connect(address.recipient());
        Ok(())
    }

    /// The model that was to be published is lost with the actor, so another is asked for.
    async fn publisher_again(&self, arbiter: &ArbiterHandle, ended: oneshot::Sender<()>) -> Result<(), String> {
        let store = self.store.clone();
        let loading = tokio::task::spawn_blocking(move || store.load_windows());
        let windows = loading.await.map_err(|panic| panic.to_string())?.map_err(|error| error.to_string())?;
        self.publisher(arbiter, windows, ended).map_err(|error| error.to_string())?;
        self.ports.train_again.deliver(TrainAgain { at_once: true }).await;
        Ok(())
    }
}

fn no_threads() -> NodeError {
    NodeError::Thread(std::io::Error::other("four arbiters were asked for"))
}
