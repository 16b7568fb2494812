//! The metrics: every one in one table, with its name, its meaning and its labels; and the handles that the other modules count with.
//!
//! [`Metrics`] owns its registry, so that two nodes in one process (as tests have them) do not count into each other. Handles are plain
//! atomics: a label that is known beforehand is a field, looked up once here, and never again where events or answers pass. So a fresh node
//! also shows zeros instead of nothing.

use prometheus::core::Collector;
use prometheus::{Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use prometheus::{Opts, Registry, TextEncoder};

/// One metric: its name, what it tells, its labels, and for a histogram the upper bounds of its buckets.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    buckets: &'static [f64],
}

const fn row(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Row {
    Row { name, help, labels, buckets: &[] }
}

impl Row {
    const fn buckets(self, buckets: &'static [f64]) -> Self {
        Self { buckets, ..self }
    }
}

// THE TABLE. Counters end in `_total`; seconds and bytes are said in the name.
const EVENTS_ACCEPTED: Row =
    row("bdr_events_accepted_total", "Events that are durable and will be counted.", &["source"]);
const EVENTS_REJECTED: Row = row("bdr_events_rejected_total", "Lines that are no event.", &["source", "reason"]);
const CONNECTIONS: Row = row("bdr_connections", "Open connections.", &["listener"]);
const IN_FLIGHT: Row = row("bdr_in_flight_bytes", "Memory of events that are read but not yet counted.", &[]);
const IN_FLIGHT_LIMIT: Row =
    row("bdr_in_flight_limit_bytes", "What bdr_in_flight_bytes may reach before reading pauses.", &[]);
const SERVABLE: Row =
    row("bdr_event_to_servable_seconds", "From an event's arrival until answers count it.", &[]).buckets(MS_TO_10_S);

const COMMIT_TIME: Row =
    row("bdr_commit_seconds", "Time of a group commit to the event log.", &[]).buckets(HALF_MS_TO_1_S);
const COMMIT_SIZE: Row =
    row("bdr_commit_events", "Events in a group commit to the event log.", &[]).buckets(ONE_TO_A_MILLION);
const LOG: Row = row("bdr_log_bytes", "Size of the event log on disk.", &[]);
const CHECKPOINT: Row =
    row("bdr_checkpoint_seconds", "Time to write a checkpoint of the counters.", &[]).buckets(MS_TO_1000_S);

const INTERESTS: Row = row("bdr_interests", "Pairs of a user and a product that the user clicked on or bought.", &[]);
const USERS: Row = row("bdr_users", "Users with at least one interest.", &[]);
const PRODUCTS: Row = row("bdr_products", "Products with at least one interest.", &[]);

const WINDOWS: Row = row("bdr_windows_total", "Closed windows by what became of them.", &["outcome"]);
const TRAINING: Row = row("bdr_training_seconds", "Time to train a model.", &[]).buckets(MS_TO_1000_S);
const LOSS: Row = row("bdr_training_loss", "Objective per interest of the served model; lower fits better.", &[]);
const GENERATION: Row = row("bdr_model_generation", "Number of the served model; 0 before the first.", &[]);
const TRAINED_AT: Row =
    row("bdr_model_trained_timestamp_seconds", "When the served model was trained, since 1970.", &[]);
const AGE: Row = row("bdr_model_age_seconds", "Time since the served model was trained; 0 before the first.", &[]);

const ALSO_BOUGHT: Row = row("bdr_also_bought_seconds", "Time to count pairs of products for one layer or model.", &[])
    .buckets(MS_TO_1000_S);
const TOUCHED: Row =
    row("bdr_also_bought_touched_products", "Products whose lists were computed at the last window or batch.", &[]);
const CUT_USERS: Row = row(
    "bdr_also_bought_cut_users",
    "Users of whom only the newest products are paired (also_bought.max_products_per_user).",
    &[],
);
const LAYERS: Row = row("bdr_lambda_layers_total", "Layers of the lambda view that were put into service.", &["layer"]);
const SKIPPED: Row = row(
    "bdr_lambda_skipped_events_total",
    "Events beyond 8388608 within one stream window, which were not paired there.",
    &[],
);

const ANSWER_TIME: Row =
    row("bdr_recommendation_seconds", "Time to find a recommendation.", &["view"]).buckets(TEN_US_TO_100_MS);
const ANSWERS: Row = row("bdr_recommendations_total", "Recommendations by where they came from.", &["view", "source"]);
const REQUESTS: Row = row("bdr_http_requests_total", "HTTP requests that were answered.", &["route", "status"]);

const MAILBOX: Row = row("bdr_mailbox_depth", "Messages that wait for an actor.", &["actor"]);
const RESTARTS: Row = row("bdr_actor_restarts_total", "How often an actor was built anew after a panic.", &["actor"]);
const BUILD: Row = row("bdr_build_info", "Always 1; the version is in the label.", &["version"]);

const TEN_US_TO_100_MS: &[f64] = &[1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1];
const HALF_MS_TO_1_S: &[f64] =
    &[5e-4, 1e-3, 2e-3, 3e-3, 4e-3, 6e-3, 8e-3, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0];
const MS_TO_10_S: &[f64] = &[1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
const MS_TO_1000_S: &[f64] =
    &[1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
const ONE_TO_A_MILLION: &[f64] =
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// The values of `reason` that a fresh node shows; further ones appear when they are met.
const REASONS: [&str; 6] = ["not_utf8", "not_json", "too_long", "missing_member", "wrong_member", "duplicate_member"];
/// The values of `view` that a fresh node shows.
const VIEWS: [&str; 3] = ["user", "product-kappa", "product-lambda"];
/// The values of `source` of recommendations that a fresh node shows.
const SOURCES: [&str; 4] = ["als", "also-bought", "popular", "none"];

/// Where events and requests come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Event lines over TCP.
    Tcp,
    /// HTTP.
    Http,
}

impl Listener {
    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
        }
    }
}

/// One handle for each [`Listener`].
#[derive(Debug)]
pub struct PerListener<T> {
    /// Event lines over TCP.
    pub tcp: T,
    /// HTTP.
    pub http: T,
}

impl<T> PerListener<T> {
    fn new(handle: impl Fn(&'static str) -> T) -> Self {
        Self { tcp: handle(Listener::Tcp.name()), http: handle(Listener::Http.name()) }
    }

    /// The handle of `listener`.
    pub fn of(&self, listener: Listener) -> &T {
        match listener {
            Listener::Tcp => &self.tcp,
            Listener::Http => &self.http,
        }
    }
}

/// One handle for each actor.
#[derive(Debug)]
pub struct PerActor<T> {
    /// Reads and parses lines.
    pub ingest: T,
    /// Logs and counts events.
    pub counter: T,
    /// Trains models.
    pub trainer: T,
    /// Puts models into service.
    pub publisher: T,
}

impl<T> PerActor<T> {
    fn new(handle: impl Fn(&'static str) -> T) -> Self {
        Self {
            ingest: handle("ingest"),
            counter: handle("counter"),
            trainer: handle("trainer"),
            publisher: handle("publisher"),
        }
    }
}

/// One handle for each way in which a window ends.
#[derive(Debug)]
pub struct PerOutcome<T> {
    /// A model was trained and is served.
    pub trained: T,
    /// No event came, so nothing was trained.
    pub empty: T,
    /// The training failed; the model before is still served.
    pub failed: T,
    /// A later window closed before this one's training began; that one covers both.
    pub superseded: T,
}

impl<T> PerOutcome<T> {
    fn new(handle: impl Fn(&'static str) -> T) -> Self {
        Self {
            trained: handle("trained"),
            empty: handle("empty"),
            failed: handle("failed"),
            superseded: handle("superseded"),
        }
    }
}

/// One handle for each layer of the lambda view.
#[derive(Debug)]
pub struct PerLayer<T> {
    /// Short windows.
    pub stream: T,
    /// Everything, now and then.
    pub batch: T,
    /// Everything, at each short window.
    pub sum: T,
}

impl<T> PerLayer<T> {
    fn new(handle: impl Fn(&'static str) -> T) -> Self {
        Self { stream: handle("stream"), batch: handle("batch"), sum: handle("sum") }
    }
}

/// Every metric of a node. What a field counts is said in the table at the top of this file.
#[derive(Debug)]
#[allow(missing_docs, reason = "the table at the top of this file says what each one counts")]
pub struct Metrics {
    registry: Registry,
    pub events_accepted: PerListener<IntCounter>,
    events_rejected: IntCounterVec,
    pub connections: PerListener<IntGauge>,
    pub in_flight_bytes: IntGauge,
    pub in_flight_limit_bytes: IntGauge,
    pub event_to_servable_seconds: Histogram,
    pub commit_seconds: Histogram,
    pub commit_events: Histogram,
    pub log_bytes: IntGauge,
    pub checkpoint_seconds: Histogram,
    pub interests: IntGauge,
    pub users: IntGauge,
    pub products: IntGauge,
    pub windows: PerOutcome<IntCounter>,
    pub training_seconds: Histogram,
    pub training_loss: Gauge,
    pub model_generation: IntGauge,
    pub model_trained_timestamp_seconds: Gauge,
    pub model_age_seconds: Gauge,
    pub also_bought_seconds: Histogram,
    pub also_bought_touched_products: IntGauge,
    pub also_bought_cut_users: IntGauge,
    pub lambda_layers: PerLayer<IntCounter>,
    pub stream_events_skipped: IntCounter,
    recommendation_seconds: HistogramVec,
    recommendations: IntCounterVec,
    http_requests: IntCounterVec,
    pub mailbox_depth: PerActor<IntGauge>,
    pub actor_restarts: PerActor<IntCounter>,
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let table = Table { registry: Registry::new() };
        let accepted = table.counters(EVENTS_ACCEPTED)?;
        let connections = table.gauges(CONNECTIONS)?;
        let windows = table.counters(WINDOWS)?;
        let layers = table.counters(LAYERS)?;
        let depth = table.gauges(MAILBOX)?;
        let restarts = table.counters(RESTARTS)?;
        table.gauges(BUILD)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        table.process()?;
        let metrics = Self {
            events_accepted: PerListener::new(|name| accepted.with_label_values(&[name])),
            events_rejected: table.counters(EVENTS_REJECTED)?,
            connections: PerListener::new(|name| connections.with_label_values(&[name])),
            in_flight_bytes: table.gauge(IN_FLIGHT)?,
            in_flight_limit_bytes: table.gauge(IN_FLIGHT_LIMIT)?,
            event_to_servable_seconds: table.histogram(SERVABLE)?,
            commit_seconds: table.histogram(COMMIT_TIME)?,
            commit_events: table.histogram(COMMIT_SIZE)?,
            log_bytes: table.gauge(LOG)?,
            checkpoint_seconds: table.histogram(CHECKPOINT)?,
            interests: table.gauge(INTERESTS)?,
            users: table.gauge(USERS)?,
            products: table.gauge(PRODUCTS)?,
            windows: PerOutcome::new(|name| windows.with_label_values(&[name])),
            training_seconds: table.histogram(TRAINING)?,
            training_loss: table.number(LOSS)?,
            model_generation: table.gauge(GENERATION)?,
            model_trained_timestamp_seconds: table.number(TRAINED_AT)?,
            model_age_seconds: table.number(AGE)?,
            also_bought_seconds: table.histogram(ALSO_BOUGHT)?,
            also_bought_touched_products: table.gauge(TOUCHED)?,
            also_bought_cut_users: table.gauge(CUT_USERS)?,
            lambda_layers: PerLayer::new(|name| layers.with_label_values(&[name])),
            stream_events_skipped: table.counter(SKIPPED)?,
            recommendation_seconds: table.histograms(ANSWER_TIME)?,
            recommendations: table.counters(ANSWERS)?,
            http_requests: table.counters(REQUESTS)?,
            mailbox_depth: PerActor::new(|name| depth.with_label_values(&[name])),
            actor_restarts: PerActor::new(|name| restarts.with_label_values(&[name])),
            registry: table.registry,
        };
        metrics.show_zeros();
        Ok(metrics)
    }

    /// Makes the known label combinations that have no field appear before they are first counted.
    fn show_zeros(&self) {
        for reason in REASONS {
            self.rejected(Listener::Tcp, reason, 0);
            self.rejected(Listener::Http, reason, 0);
        }
        for view in VIEWS {
            self.recommendation_seconds.with_label_values(&[view]);
            for source in SOURCES {
                self.recommendations.with_label_values(&[view, source]);
            }
        }
    }

    /// Counts lines that were refused for one reason, which is one word from a fixed list.
    pub fn rejected(&self, listener: Listener, reason: &'static str, lines: u64) {
        self.events_rejected.with_label_values(&[listener.name(), reason]).inc_by(lines);
    }

    /// Counts a recommendation, and the time it took to find it.
    ///
    /// `view` is `user`, `product-kappa` or `product-lambda`, `source` what the header `X-Source` says.
    pub fn recommended(&self, view: &'static str, source: &'static str, seconds: f64) {
        self.recommendation_seconds.with_label_values(&[view]).observe(seconds);
        self.recommendations.with_label_values(&[view, source]).inc();
    }

    /// Counts an answered HTTP request. `route` is the route's pattern, never the path as it came, or strangers could fill the memory.
    pub fn requested(&self, route: &str, status: &str) {
        self.http_requests.with_label_values(&[route, status]).inc();
    }

    /// All metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot render all metrics");
        }
        text
    }
}

/// Makes metrics from rows, and registers them.
struct Table {
    registry: Registry,
}

impl Table {
    fn counters(&self, row: Row) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(row.name, row.help), row.labels)?)
    }

    fn gauges(&self, row: Row) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(row.name, row.help), row.labels)?)
    }

    fn gauge(&self, row: Row) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(row.name, row.help)?)
    }

    fn counter(&self, row: Row) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(row.name, row.help)?)
    }

    fn number(&self, row: Row) -> prometheus::Result<Gauge> {
        self.register(Gauge::new(row.name, row.help)?)
    }

    fn histogram(&self, row: Row) -> prometheus::Result<Histogram> {
        self.register(Histogram::with_opts(HistogramOpts::new(row.name, row.help).buckets(row.buckets.to_vec()))?)
    }

    fn histograms(&self, row: Row) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(row.name, row.help).buckets(row.buckets.to_vec());
        self.register(HistogramVec::new(options, row.labels)?)
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    /// Memory, processor time and open files of this process, where the system tells them.
    #[cfg(target_os = "linux")]
    fn process(&self) -> prometheus::Result<()> {
        self.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "the same shape on every system")]
    fn process(&self) -> prometheus::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_node_shows_every_metric_at_zero() {
        let text = Metrics::new().unwrap().render();
        for line in [
            "bdr_events_accepted_total{source=\"tcp\"} 0",
            "bdr_events_accepted_total{source=\"http\"} 0",
            "bdr_events_rejected_total{reason=\"too_long\",source=\"tcp\"} 0",
            "bdr_connections{listener=\"http\"} 0",
            "bdr_windows_total{outcome=\"superseded\"} 0",
            "bdr_mailbox_depth{actor=\"ingest\"} 0",
            "bdr_actor_restarts_total{actor=\"publisher\"} 0",
            "bdr_recommendations_total{source=\"als\",view=\"user\"} 0",
            "bdr_recommendation_seconds_count{view=\"user\"} 0",
            "bdr_event_to_servable_seconds_bucket{le=\"0.001\"} 0",
            "bdr_model_generation 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is missing from\n{text}");
        }
        let version = env!("CARGO_PKG_VERSION");
        assert!(text.contains(&format!("bdr_build_info{{version=\"{version}\"}} 1")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_of_the_process_is_shown() {
        assert!(Metrics::new().unwrap().render().contains("process_resident_memory_bytes "));
    }

    #[test]
    fn what_is_counted_is_shown_under_its_labels() {
        let metrics = Metrics::new().unwrap();
        metrics.events_accepted.of(Listener::Tcp).inc_by(7);
        metrics.connections.of(Listener::Http).inc();
        metrics.rejected(Listener::Http, "not_json", 3);
        metrics.recommended("user", "popular", 0.000_03);
        metrics.requested("/bdr", "200");
        metrics.windows.empty.inc();
        metrics.actor_restarts.trainer.inc();
        metrics.training_loss.set(0.25);
        let text = metrics.render();
        for line in [
            "bdr_events_accepted_total{source=\"tcp\"} 7",
            "bdr_connections{listener=\"http\"} 1",
            "bdr_events_rejected_total{reason=\"not_json\",source=\"http\"} 3",
            "bdr_recommendations_total{source=\"popular\",view=\"user\"} 1",
            "bdr_recommendation_seconds_bucket{view=\"user\",le=\"0.00002\"} 0",
            "bdr_recommendation_seconds_bucket{view=\"user\",le=\"0.00005\"} 1",
            "bdr_http_requests_total{route=\"/bdr\",status=\"200\"} 1",
            "bdr_windows_total{outcome=\"empty\"} 1",
            "bdr_actor_restarts_total{actor=\"trainer\"} 1",
            "bdr_training_loss 0.25",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn two_nodes_in_one_process_count_apart() {
        let (one, other) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        one.interests.set(5);
        assert!(other.render().contains("\nbdr_interests 0\n"));
    }

    #[test]
    fn buckets_rise() {
        for buckets in [TEN_US_TO_100_MS, HALF_MS_TO_1_S, MS_TO_10_S, MS_TO_1000_S, ONE_TO_A_MILLION] {
            assert!(buckets.is_sorted_by(|one, next| one < next), "{buckets:?}");
        }
    }
}
