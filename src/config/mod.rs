//! The settings: what can be set, what was said, and what is in force.
//!
//! 1. [`table`] is the one list of settings: name, default, what is allowed, meaning. All else follows from it.
//! 2. [`raw`] collects what was said: a TOML file, then the environment, then `--set`; later wins. It knows names, not values.
//! 3. [`kind`] says which values are allowed, and how they are written.
//! 4. [`checked`] is the typed [`Config`] that the rest of the program works with.
//! 5. [`promoted`] are settings that a replay made the running ones.
//! 6. [`render`] writes the settings in force as documented TOML: `bdr config show`, and `config/bdr.toml`.
//!
//! Nothing here touches files, the environment or the clock: texts come in, values come out.

pub mod checked;
pub mod kind;
pub mod promoted;
pub mod raw;
pub mod render;
pub mod table;

use std::path::PathBuf;

pub use checked::{Address, Config, Fallback, Merge, OnDamage, Schema, Score, Verify};
pub use raw::Raw;
pub use render::render;

/// Checked settings, each with where it came from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The typed settings.
    pub config: Config,
    /// Every setting in the order of the table.
    pub in_force: Vec<InForce>,
}

/// One setting as it is in force.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The table's row.
    pub setting: &'static table::Setting,
    /// The value, checked and in its canonical form.
    pub value: toml::Value,
    /// Where it came from.
    pub source: Source,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The table.
    Default,
    /// A settings file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A `--set`, or another argument that stands for one, by name.
    Argument(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => formatter.write_str("the default"),
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Environment(variable) => write!(formatter, "the environment ({variable})"),
            Self::Argument(name) => formatter.write_str(name),
        }
    }
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not TOML.
    #[error("{} is not valid TOML\n{message}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and why, over several lines.
        message: String,
    },
    /// Something was set that is no setting.
    #[error("there is no setting `{name}` (from {origin}); did you mean `{nearest}`?")]
    Unknown {
        /// What was set.
        name: String,
        /// Where.
        origin: Source,
        /// The setting whose name is nearest.
        nearest: &'static str,
    },
    /// A section that is none, with nothing in it.
    #[error("there is no section `[{name}]` (from {origin}); did you mean `[{nearest}]`?")]
    UnknownSection {
        /// What the section is called.
        name: String,
        /// Where.
        origin: Source,
        /// The section whose name is nearest.
        nearest: &'static str,
    },
    /// An argument without `=`.
    #[error("`--set {0}` has no value; expected section.key=value, such as http.workers=4")]
    NoValue(String),
    /// An environment variable that is not Unicode.
    #[error("the environment variable {0} is not valid Unicode")]
    NotUnicode(String),
    /// A value that is not allowed.
    #[error("`{name}` (from {origin}) is {value}; it must be {allowed}")]
    Wrong {
        /// The setting.
        name: &'static str,
        /// Where the value came from.
        origin: Source,
        /// The value.
        value: toml::Value,
        /// What is allowed.
        allowed: String,
    },
    /// The table and [`Config`] disagree, which a test rules out.
    #[error("the settings do not fit their types")]
    Mismatch(#[from] toml::de::Error),
}
