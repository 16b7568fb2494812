//! Starting: lock the data directory, listen, load what is on the disk, connect the actors, let events in.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use rayon::ThreadPoolBuilder;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use super::crew::Crew;
use super::{Node, NodeError, Ports};
use crate::actors::budget::Budget;
use crate::actors::publisher;
use crate::actors::shared::{Live, Served};
use crate::als;
use crate::also_bought::{self, lambda::StreamSettings};
use crate::config::{Address, Config, OnDamage, Score, Verify};
use crate::interests::Weights;
use crate::log::recovery;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::recover::{self, RecoverError, Recovered};
use crate::server::{http, tcp};
use crate::store::Store;
use crate::training::Recipe;
use crate::window::WindowReport;

/// Mailboxes have room for all batches that the budget lets in, and for so many requests beside them.
const REQUESTS: usize = 1024;
/// Training yields to answering and counting: a tenth of their share where they compete, all of the machine where they don't.
pub const TRAINING_NICENESS: i32 = 10;
/// Replays yield to training too.
const REPLAY_NICENESS: i32 = 19;

/// How to train, from the settings.
pub fn training_settings(config: &Config) -> als::Settings {
    let settings = &config.als;
    als::Settings {
        rank: settings.rank,
        iterations: settings.iterations,
        lambda: settings.lambda as f32,
        alpha: settings.alpha as f32,
        weights: Weights { click: settings.click_weight as f32, purchase: settings.purchase_weight as f32 },
        seed: settings.seed,
    }
}

/// How to count pairs of products, from the settings.
pub fn pair_settings(config: &Config) -> also_bought::Settings {
    let settings = &config.also_bought;
    also_bought::Settings {
        score: match settings.score {
            Score::Count => also_bought::Score::Count,
            Score::Llr => also_bought::Score::Llr,
            Score::Cosine => also_bought::Score::Cosine,
        },
        only_purchases: settings.only_purchases,
        max_products_per_user: settings.max_products_per_user,
    }
}

/// How models are made, from the settings.
pub fn recipe(config: &Config) -> Recipe {
    Recipe { als: training_settings(config), warm_start: config.als.warm_start, also_bought: pair_settings(config) }
}

/// How events are joined in stream windows, from the settings.
pub fn stream_settings(config: &Config) -> StreamSettings {
    let also_bought::Settings { only_purchases, max_products_per_user, .. } = pair_settings(config);
    StreamSettings { every: config.lambda.stream_every, only_purchases, max_products_per_user }
}

/// How to open the log, from the settings.
pub fn log_options(config: &Config) -> recovery::Options {
    recovery::Options {
        segment_bytes: config.event_log.segment_bytes as u64,
        verify_all: config.event_log.verify == Verify::All,
        on_damage: match config.event_log.on_damage {
            OnDamage::Refuse => recovery::OnDamage::Refuse,
            OnDamage::Skip => recovery::OnDamage::Skip,
        },
        from_offset: 0,
    }
}

/// How many threads train.
fn threads(config: &Config) -> usize {
    match config.als.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    }
}

/// Threads to train on, which yield to all others by this niceness; 0 threads: one a core.
pub fn training_pool(threads: usize, niceness: i32) -> Result<rayon::ThreadPool, rayon::ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("als-{number}"))
        .start_handler(move |_| {
            // Where the system refuses, training is just less polite.
            let _ = rustix::process::nice(niceness);
        })
        .build()
}

fn listen(address: &Address, setting: &'static str) -> Result<TcpListener, NodeError> {
    TcpListener::bind((address.host.as_str(), address.port)).map_err(|source| NodeError::Listen {
        address: address.to_string(),
        setting,
        source,
    })
}

/// All that is on the disk.
struct Loaded {
    store: Store,
    recovered: Recovered,
    windows: Vec<WindowReport>,
}

/// Loads the disk's contents; the model is served as soon as it is there, before the rest is loaded.
fn load(config: &Config, served: &Served, metrics: &Metrics) -> Result<Loaded, NodeError> {
    let store = recover::open_store(&config.data.dir)?;
    let model = store.load_model().unwrap_or_else(|error| {
        tracing::warn!("the stored model cannot be used ({error}): it is trained again");
        None
    });
    let windows = store.load_windows().unwrap_or_else(|error| {
        tracing::warn!("the history of windows cannot be used ({error}): it begins anew");
        Vec::new()
    });
    if let Some(model) = model {
        publisher::show(metrics, &model);
        served.swap(Arc::new(model));
    }
    let recovered = recover::recover(&config.data.dir, &store, log_options(config), stream_settings(config))?;
    served.swap_lambda(Arc::new(recovered.lambda.clone()));
    Ok(Loaded { store, recovered, windows })
}

/// Whether the model's products are numbered as the counters number them, so that live interests mean the same products to it.
pub(super) fn fits(model: &Model, recovered: &Recovered) -> bool {
    model.products().is_prefix_of(recovered.state.counters.products().list())
}

/// Begins to answer requests: what needs the loaded state says that it is loading, until `ready` tells otherwise.
fn answer(
    config: &Arc<Config>,
    metrics: &Arc<Metrics>,
    ports: &Ports,
    ready: watch::Receiver<bool>,
) -> Result<(http::Site, SocketAddr, ServerHandle), NodeError> {
    let listener = listen(&config.http.listen, "http.listen")?;
    let address = listener.local_addr()?;
    metrics.in_flight_limit_bytes.set(config.ingest.in_flight_bytes as i64);
    let entrance = tcp::Entrance {
        submit: ports.submit.clone(),
        introduce: ports.introduce.clone(),
        leave: ports.leave.clone(),
        budget: Budget::new(config.ingest.in_flight_bytes, metrics.in_flight_bytes.clone()),
        config: Arc::clone(config),
        metrics: Arc::clone(metrics),
    };
    let site = http::Site {
        entrance,
        live: Arc::new(Live::default()),
        served: Arc::new(Served::new(recipe(config))),
        close_window: ports.close_window.clone(),
        append: ports.append.clone(),
        start_batch: ports.start_batch.clone(),
        compact: ports.compact.clone(),
        take_snapshot: ports.take_snapshot.clone(),
        exporting: Arc::default(),
        promote: ports.promote.clone(),
        replays: Arc::default(),
        replay_pool: Arc::new(training_pool((threads(config) / 2).max(1), REPLAY_NICENESS)?),
        pool: Arc::new(training_pool(config.als.threads, TRAINING_NICENESS)?),
        list_windows: ports.list_windows.clone(),
        log_reader: Arc::default(),
        ready,
    };
    let server = http::serve(listener, site.clone())?;
    let handle = server.handle();
    actix::spawn(server);
    Ok((site, address, handle))
}

/// Loads the disk's contents off this thread, and drops a model that does not fit them.
async fn loaded(site: &http::Site) -> Result<Loaded, NodeError> {
    let (config, metrics) = (Arc::clone(&site.entrance.config), Arc::clone(&site.entrance.metrics));
    let served = Arc::clone(&site.served);
    let loading = tokio::task::spawn_blocking(move || load(&config, &served, &metrics));
    let failed = |panic| Err(NodeError::Fatal(format!("loading the data directory: {panic}")));
    let loaded = loading.await.unwrap_or_else(failed)?;
    if let Some(model) = site.served.model()
        && !fits(&model, &loaded.recovered)
    {
        tracing::warn!("the stored model numbers its products differently: it is trained again");
        site.served.clear();
    }
    Ok(loaded)
}

/// The threads that connections run on.
fn socket_threads() -> std::io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread().worker_threads(cores).thread_name("sockets").enable_all().build()
}

impl Node {
    /// Starts a node with these settings and waits until it is ready.
    pub async fn start(config: Config, metrics: Metrics) -> Result<Self, NodeError> {
        let (config, metrics) = (Arc::new(config), Arc::new(metrics));
        let lock = recover::lock(&config.data.dir).map_err(RecoverError::from)?;
        let events_listener = listen(&config.ingest.listen, "ingest.listen")?;
        let events_address = events_listener.local_addr()?;
        let ports = Ports::new(&metrics);
        let (ready, is_ready) = watch::channel(false);
        let (site, http_address, http) = answer(&config, &metrics, &ports, is_ready)?;
        let Loaded { store, recovered, windows } = loaded(&site).await?;
        let (fatal, fatal_receiver) = mpsc::channel(4);
        let stopping = watch::Sender::new(false);
        let crew = Crew {
            config: Arc::clone(&config),
            metrics,
            ports: ports.clone(),
            live: Arc::clone(&site.live),
            served: Arc::clone(&site.served),
            store,
            pool: Arc::clone(&site.pool),
            mailbox: site.entrance.budget.most_batches() + REQUESTS,
            fatal,
            stopping: stopping.subscribe(),
        };
        let (arbiters, keepers) = crew.start(recovered, windows)?;
        let sockets = socket_threads()?;
        let stop_connections = watch::Sender::new(false);
        let serving = tcp::serve(events_listener, site.entrance.clone(), stop_connections.subscribe());
        let connections = sockets.spawn(serving);
        ready.send_replace(true);
        Ok(Self {
            config,
            site,
            ports,
            events_address,
            http_address,
            http,
            stop_connections,
            connections,
            stopping,
            keepers,
            arbiters,
            sockets: Some(sockets),
            fatal: fatal_receiver,
            _lock: lock,
        })
    }
}
