//! The checked settings: what the rest of the program works with. Every value here is within its bounds.
//!
//! The fields mirror the table: a row without a field, or a field without a row, fails the tests.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::kind;
use super::raw::Raw;

/// All settings, by section. What each one means is said in the table and in `config/bdr.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where things are kept.
    pub data: Data,
    /// Events over TCP.
    pub ingest: Ingest,
    /// Requests over HTTP.
    pub http: Http,
    /// What an event must hold.
    pub events: Events,
    /// The event log.
    pub event_log: EventLog,
    /// Counters on disk.
    pub checkpoint: Checkpoint,
    /// Windows.
    pub window: Window,
    /// Training.
    pub als: Als,
    /// Pairs of products.
    pub also_bought: AlsoBought,
    /// The lambda view.
    pub lambda: Lambda,
    /// Answers.
    pub serve: Serve,
    /// Log lines.
    pub log: Log,
    /// Stopping.
    pub shutdown: Shutdown,
}

impl Default for Config {
    fn default() -> Self {
        match Raw::default().check() {
            Ok(settings) => settings.config,
            Err(error) => unreachable!("the table's defaults are valid, which tests prove: {error}"),
        }
    }
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The directory that holds everything the node keeps.
    pub dir: PathBuf,
}

/// `[ingest]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    /// Where events are taken in.
    pub listen: Address,
    /// How many connections may be open at once.
    pub max_connections: usize,
    /// How long a connection may complete no line.
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Duration,
    /// The longest line in bytes.
    #[serde(deserialize_with = "bytes")]
    pub max_line_bytes: usize,
    /// The longest time for which acknowledgements are gathered.
    #[serde(deserialize_with = "duration")]
    pub ack_every: Duration,
    /// The bound on memory of events read but not yet counted.
    #[serde(deserialize_with = "bytes")]
    pub in_flight_bytes: usize,
    /// The file that refused lines are appended to, if any.
    #[serde(deserialize_with = "optional_path")]
    pub dead_letter: Option<PathBuf>,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Where requests are answered.
    pub listen: Address,
    /// Threads that answer; 0: one a core.
    pub workers: usize,
}

/// `[events]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Which members an event must have.
    pub schema: Schema,
}

/// Which members an event must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schema {
    /// All twelve members of the talk's events.
    Talk,
    /// Only `user_id` and `product`.
    Minimal,
}

/// `[event_log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventLog {
    /// The size in bytes at which the log goes on in a new file.
    #[serde(deserialize_with = "bytes")]
    pub segment_bytes: usize,
    /// How much is checked at start.
    pub verify: Verify,
    /// What to do about damage in the middle.
    pub on_damage: OnDamage,
    /// How often forgotten users' events are taken out.
    #[serde(deserialize_with = "duration")]
    pub compact_every: Duration,
}

/// How much of the event log is checked at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Everything.
    All,
    /// Only what the last checkpoint does not cover.
    Tail,
}

/// What to do when the event log is damaged in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDamage {
    /// Do not start.
    Refuse,
    /// Leave the damaged records out.
    Skip,
}

/// `[checkpoint]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// How often the counters are written.
    #[serde(deserialize_with = "duration")]
    pub every: Duration,
}

/// `[window]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// How often a window closes.
    #[serde(deserialize_with = "duration")]
    pub every: Duration,
}

/// `[als]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Als {
    /// How many numbers describe a user or a product.
    pub rank: usize,
    /// How many times all users and all products are solved.
    pub iterations: usize,
    /// Regularisation.
    pub lambda: f64,
    /// Confidence per rating.
    pub alpha: f64,
    /// Where random numbers start.
    pub seed: u64,
    /// What one click adds to a rating.
    pub click_weight: f64,
    /// What one purchase adds to a rating.
    pub purchase_weight: f64,
    /// Whether training starts from the model before.
    pub warm_start: bool,
    /// Threads that train; 0: one a core.
    pub threads: usize,
}

/// `[also_bought]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlsoBought {
    /// What puts one product before another.
    pub score: Score,
    /// Whether only purchases are paired.
    pub only_purchases: bool,
    /// How many products of a user are paired.
    pub max_products_per_user: usize,
}

/// What puts one also-bought product before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// The number of users in common.
    Count,
    /// The log-likelihood ratio.
    Llr,
    /// The number against both products' popularity.
    Cosine,
}

/// `[lambda]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lambda {
    /// How long a stream window is.
    #[serde(deserialize_with = "duration")]
    pub stream_every: Duration,
    /// How often the batch view is computed.
    #[serde(deserialize_with = "duration")]
    pub batch_every: Duration,
    /// How both become one answer.
    pub merge: Merge,
}

/// How batch and stream become one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Merge {
    /// The batch's products, then the stream's.
    Talk,
    /// Added up.
    Sum,
}

/// `[serve]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// What a user gets of whom nothing is known.
    pub fallback: Fallback,
}

/// What a user gets of whom nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// An empty list.
    None,
    /// The most popular products.
    Popular,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// How log lines are written.
    pub format: LogFormat,
    /// The least important messages that are logged.
    pub level: LogLevel,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How important a message is, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something looks wrong.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// The level's name, as log filters spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[shutdown]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// How long a stop may take.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
}

/// A host (a name or an IP address, which is resolved only when it is listened on) and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The name or IP address; an IPv6 address without its brackets.
    pub host: String,
    /// The port; 0 means any free one.
    pub port: u16,
}

impl Address {
    /// The address that `host:port` or `[ipv6]:port` stands for.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = port.parse().ok()?;
        let host = if let Some(bracketed) = host.strip_prefix('[') {
            bracketed.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())?
        } else {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            Some(host).filter(|host| !host.is_empty() && host.bytes().all(is_name))?
        };
        Some(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected host:port"))
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    let bytes = kind::bytes_of(&value).ok_or_else(|| D::Error::custom("expected a size"))?;
    usize::try_from(bytes).map_err(D::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    kind::parse_duration(&text).ok_or_else(|| D::Error::custom("expected a duration"))
}

fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kind::Kind;
    use crate::config::table::SETTINGS;

    #[test]
    fn the_defaults_are_what_users_are_told() {
        let config = Config::default();
        assert_eq!(config.data.dir, PathBuf::from("data"));
        assert_eq!(config.ingest.listen.to_string(), "127.0.0.1:8001");
        assert_eq!(config.ingest.max_line_bytes, 16_384);
        assert_eq!(config.ingest.in_flight_bytes, 67_108_864);
        assert_eq!(config.ingest.ack_every, Duration::from_millis(50));
        assert_eq!(config.ingest.idle_timeout, Duration::from_secs(600));
        assert_eq!(config.ingest.dead_letter, None);
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:8000");
        assert_eq!(config.events.schema, Schema::Talk);
        assert_eq!((config.event_log.verify, config.event_log.on_damage), (Verify::All, OnDamage::Refuse));
        assert_eq!(config.window.every, Duration::from_secs(60));
        let Als { rank, iterations, lambda, alpha, seed, click_weight, purchase_weight, .. } = config.als;
        assert_eq!((rank, iterations, seed), (10, 20, 42));
        let numbers = [lambda, alpha, click_weight, purchase_weight].map(|number| number.to_string());
        assert_eq!(numbers, ["0.01", "0.01", "1", "3"]);
        assert_eq!(config.serve.fallback, Fallback::None);
        assert_eq!((config.log.format, config.log.level), (LogFormat::Text, LogLevel::Info));
    }

    #[test]
    fn every_choice_and_every_bound_in_the_table_has_its_place_in_the_types() {
        for setting in SETTINGS {
            let allowed: Vec<String> = match setting.kind {
                Kind::Choice(choices) => choices.iter().map(|choice| (*choice).to_owned()).collect(),
                Kind::Integer(least, most) => vec![least.to_string(), most.to_string()],
                Kind::Bytes(least, most) => vec![least.to_string(), most.to_string()],
                Kind::Duration(least, most) => vec![format!("{}ns", least.as_nanos()), format!("{}s", most.as_secs())],
                Kind::Flag => vec!["true".to_owned(), "false".to_owned()],
                Kind::Path | Kind::OptionalPath | Kind::Address | Kind::Number => Vec::new(),
            };
            for value in allowed {
                let mut raw = Raw::default();
                raw.argument(&format!("{}={value}", setting.name)).unwrap();
                raw.check().unwrap_or_else(|error| panic!("{}={value}: {error}", setting.name));
            }
        }
    }

    #[test]
    fn levels_are_named_as_they_are_set() {
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            let mut raw = Raw::default();
            raw.argument(&format!("log.level={}", level.name())).unwrap();
            assert_eq!(raw.check().unwrap().config.log.level, level);
        }
    }

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for text in ["127.0.0.1:8001", "localhost:0", "[::1]:65535", "my_host-1.example:80"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("[::1]:1").unwrap().host, "::1");
        let refused = [
            "",
            ":8001",
            "8001",
            "localhost",
            "localhost:",
            "localhost:65536",
            "a:+1",
            "::1:80",
            "[x]:1",
            "[::1]",
            "a b:1",
        ];
        for text in refused {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
