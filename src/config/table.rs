//! The one table of settings. Parser, checks, documentation and `config/bdr.toml` all follow from it.
//!
//! A new setting is a row here and a field of [`Config`](super::Config): a test fails while one of the two is missing.

use std::time::Duration;

use super::kind::Kind;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// `section.key`.
    pub name: &'static str,
    /// The default, as TOML in its canonical form.
    pub default: &'static str,
    /// Which values are allowed.
    pub kind: Kind,
    /// What it does, in one to three sentences.
    pub meaning: &'static str,
}

impl Setting {
    /// The section that the setting is in.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The setting's name within its section.
    pub fn key(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, key)| key)
    }
}

/// The setting of that name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The setting whose name is nearest to `name`, for messages.
///
/// The right key in a wrong section, or in none, is near as well.
pub fn nearest(name: &str) -> &'static str {
    let key = name.rsplit('.').next().unwrap_or(name);
    let distance = |setting: &Setting| {
        let whole = strsim::damerau_levenshtein(name, setting.name);
        whole.min(WRONG_SECTION + strsim::damerau_levenshtein(key, setting.key()))
    };
    SETTINGS.iter().min_by_key(|setting| distance(setting)).map_or("", |setting| setting.name)
}

/// The section whose name is nearest to `name`, for messages.
pub fn nearest_section(name: &str) -> &'static str {
    let sections = SETTINGS.iter().map(Setting::section);
    sections.min_by_key(|section| strsim::damerau_levenshtein(name, section)).unwrap_or("")
}

/// How many typing mistakes a wrong section is taken for.
const WRONG_SECTION: usize = 3;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// The longest duration that can be set: beyond any use, and far from overflow.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

const fn row(name: &'static str, default: &'static str, kind: Kind, meaning: &'static str) -> Setting {
    Setting { name, default, kind, meaning }
}

/// All settings; those of one section stand together.
pub static SETTINGS: &[Setting] = &[
    row(
        "data.dir",
        r#""data""#,
        Kind::Path,
        "The directory that holds everything the node keeps: the event log, the counters and the models. \
         It is created if it does not exist. A relative path starts at the working directory.",
    ),
    row(
        "ingest.listen",
        r#""127.0.0.1:8001""#,
        Kind::Address,
        "Where events are taken in over TCP, one JSON object a line. Port 0 takes any free port.",
    ),
    row(
        "ingest.max_connections",
        "4096",
        Kind::Integer(1, 1_000_000),
        "How many TCP connections may be open at once. A further one is refused with the reason.",
    ),
    row(
        "ingest.idle_timeout",
        r#""10m""#,
        Kind::Duration(MILLISECOND.saturating_mul(10), YEAR),
        "A connection that completes no line for this long is closed.",
    ),
    row(
        "ingest.max_line_bytes",
        r#""16KiB""#,
        Kind::Bytes(256, 16 * MIB),
        "The longest line that can be an event. A longer one is refused; the lines after it are read as usual.",
    ),
    row(
        "ingest.ack_every",
        r#""50ms""#,
        Kind::Duration(MILLISECOND, SECOND.saturating_mul(10)),
        "The longest time for which acknowledgements are gathered into one.",
    ),
    row(
        "ingest.in_flight_bytes",
        r#""64MiB""#,
        Kind::Bytes(MIB, 16 * GIB),
        "The most memory that events may take which are read but not yet counted. \
         When it is used up, reading from the sockets pauses until some are counted: senders wait, nothing is dropped.",
    ),
    row(
        "ingest.dead_letter",
        r#""""#,
        Kind::OptionalPath,
        "A file that refused lines are appended to, each with its reason, as NDJSON. Empty: they are only counted.",
    ),
    row(
        "http.listen",
        r#""127.0.0.1:8000""#,
        Kind::Address,
        "Where HTTP requests are answered. Port 0 takes any free port.",
    ),
    row("http.workers", "0", Kind::Integer(0, 1024), "How many threads answer HTTP requests. 0: one a core."),
    row(
        "events.schema",
        r#""talk""#,
        Kind::Choice(&["talk", "minimal"]),
        "Which members an event must have. talk: all twelve of the talk's events. \
         minimal: user_id and product; is_purchase defaults to 0 and date_time to the time of arrival.",
    ),
    row(
        "event_log.segment_bytes",
        r#""256MiB""#,
        Kind::Bytes(MIB, 16 * GIB),
        "The size at which the event log goes on in a new file.",
    ),
    row(
        "event_log.verify",
        r#""all""#,
        Kind::Choice(&["all", "tail"]),
        "How much of the event log is checked against its checksums at start. all: everything. \
         tail: only what the last checkpoint does not cover, which starts faster.",
    ),
    row(
        "event_log.on_damage",
        r#""refuse""#,
        Kind::Choice(&["refuse", "skip"]),
        "What to do when the event log is damaged in the middle. refuse: do not start, and say where. \
         skip: leave the damaged records out, and say how many. A torn end, as a crash leaves it, is always repaired.",
    ),
    row(
        "event_log.compact_every",
        r#""24h""#,
        Kind::Duration(SECOND, YEAR),
        "How often the events of users who were forgotten (DELETE /users/ID) are taken out of the event log. Without such users nothing is done.",
    ),
    row(
        "checkpoint.every",
        r#""1m""#,
        Kind::Duration(SECOND, YEAR),
        "How often the counters are written to disk. What came since is read from the event log at the next start, \
         so a shorter time starts faster and writes more; no event depends on it. While a model is trained it can wait \
         for the next window.",
    ),
    row(
        "window.every",
        r#""1m""#,
        Kind::Duration(MILLISECOND.saturating_mul(100), YEAR),
        "How often a window closes. Then a model is trained on all interests so far, and replaces the served one.",
    ),
    row(
        "als.rank",
        "10",
        Kind::Integer(1, 256),
        "How many numbers describe a user or a product. More can tell finer tastes apart, and take longer to train.",
    ),
    row(
        "als.iterations",
        "20",
        Kind::Integer(1, 1000),
        "How many times training solves all users and then all products.",
    ),
    row(
        "als.lambda",
        "0.01",
        Kind::Number,
        "Regularisation, scaled by the number of interests a user or product has. More keeps rare ones nearer to the average.",
    ),
    row(
        "als.alpha",
        "0.01",
        Kind::Number,
        "How much an interest adds to the confidence that a user likes a product: confidence is 1 + alpha * rating.",
    ),
    row(
        "als.seed",
        "42",
        Kind::Integer(0, i64::MAX),
        "Where random numbers start. The same events, settings and seed give the same model.",
    ),
    row("als.click_weight", "1.0", Kind::Number, "What one click adds to the rating of a product by a user."),
    row("als.purchase_weight", "3.0", Kind::Number, "What one purchase adds to the rating of a product by a user."),
    row(
        "als.warm_start",
        "false",
        Kind::Flag,
        "Start training from the model before instead of from random numbers. \
         Training ends as soon as it has settled, but the result then depends on that model too.",
    ),
    row("als.threads", "0", Kind::Integer(0, 1024), "How many threads train. 0: one a core."),
    row(
        "also_bought.score",
        r#""count""#,
        Kind::Choice(&["count", "llr", "cosine"]),
        "What puts one also-bought product before another. count: how many users had both, as in the talk. \
         llr: how surprising that number is (log-likelihood ratio). cosine: that number against how popular both are.",
    ),
    row(
        "also_bought.only_purchases",
        "false",
        Kind::Flag,
        "Pair only products that a user bought. Otherwise a click counts too, as in the talk.",
    ),
    row(
        "also_bought.max_products_per_user",
        "1000",
        Kind::Integer(2, 1_000_000),
        "Of a user with more products only so many are paired, those that came into the shop last: \
         the pairs of one user grow with the square. The metric bdr_also_bought_cut_users says how many users that are.",
    ),
    row(
        "lambda.stream_every",
        r#""10s""#,
        Kind::Duration(MILLISECOND.saturating_mul(100), YEAR),
        "How long a stream window of the lambda view is: the events of a user within it are paired, and the lists of their products are replaced.",
    ),
    row(
        "lambda.batch_every",
        r#""1h""#,
        Kind::Duration(SECOND, YEAR),
        "How often the batch view of the lambda view is computed over all events.",
    ),
    row(
        "lambda.merge",
        r#""talk""#,
        Kind::Choice(&["talk", "sum"]),
        "How batch and stream become one answer. talk: the batch's products, then the stream's, without repeats. \
         sum: what the batch counted plus what came after it, computed at each stream window.",
    ),
    row(
        "serve.fallback",
        r#""none""#,
        Kind::Choice(&["none", "popular"]),
        "What a user gets of whom nothing is known. none: an empty list. popular: the most popular products.",
    ),
    row(
        "log.format",
        r#""text""#,
        Kind::Choice(&["text", "json"]),
        "How log lines are written to standard error. text: for people. json: one JSON object a line.",
    ),
    row(
        "log.level",
        r#""info""#,
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "The least important messages that are logged. The environment variable RUST_LOG, if set, wins.",
    ),
    row(
        "shutdown.grace",
        r#""10s""#,
        Kind::Duration(MILLISECOND.saturating_mul(100), HOUR),
        "How long a stop may take to answer what is in flight. What takes longer is cut off.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_one_section_stand_together_and_no_name_is_there_twice() {
        let mut sections: Vec<_> = SETTINGS.iter().map(Setting::section).collect();
        sections.dedup();
        let runs = sections.len();
        sections.sort_unstable();
        sections.dedup();
        assert_eq!(sections.len(), runs, "a section appears in two places");
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }

    #[test]
    fn every_meaning_is_one_to_three_sentences_or_lists_its_choices() {
        for setting in SETTINGS {
            assert!(setting.meaning.ends_with('.'), "{}", setting.name);
            let sentences = setting.meaning.split_inclusive(". ").count();
            assert!((1..=4).contains(&sentences), "{} has {sentences}", setting.name);
            if let Kind::Choice(choices) = setting.kind
                && setting.name != "log.level"
            {
                for choice in choices {
                    assert!(setting.meaning.contains(choice), "{} does not explain {choice}", setting.name);
                }
            }
        }
    }

    #[test]
    fn the_nearest_setting_is_the_one_that_was_meant() {
        for (typed, meant) in [
            ("ingest.max_conections", "ingest.max_connections"),
            ("ingset.listen", "ingest.listen"),
            ("windows.every", "window.every"),
            ("server.grace", "shutdown.grace"),
            ("max_line_bytes", "ingest.max_line_bytes"),
            ("als.itertions", "als.iterations"),
        ] {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
        assert_eq!(nearest_section("evnt_log"), "event_log");
    }
}
