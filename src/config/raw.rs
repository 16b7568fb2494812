//! What was said: names and values as they came, before anyone asks whether the values are allowed.
//!
//! Three places speak, and the later one wins: a file, the environment, the command line. Each is told to [`Raw`] in that order. Names are
//! checked here, so that a mistyped one is never passed over in silence; values are checked by [`Raw::check`], once it is known which count.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use toml::{Table, Value};

use super::table::{self, SETTINGS, Setting};
use super::{Config, Error, InForce, Settings, Source};

/// Environment variables that start with this are settings: `BDR__SECTION__KEY`.
pub const ENVIRONMENT_PREFIX: &str = "BDR__";

/// The values that were set, by the setting's name, each with where it was set.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    values: BTreeMap<&'static str, (Value, Source)>,
}

impl Raw {
    /// Takes the settings of a TOML file, whose text the caller has read.
    pub fn file(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let source = Source::File(path.to_owned());
        let file: Table = text
            .parse()
            .map_err(|error: toml::de::Error| Error::NotToml { path: path.to_owned(), message: error.to_string() })?;
        for (section, content) in file {
            match content {
                Value::Table(entries) => self.section(&section, entries, &source)?,
                value => self.put(&section, source.clone(), |_| value)?,
            }
        }
        Ok(())
    }

    fn section(&mut self, section: &str, entries: Table, source: &Source) -> Result<(), Error> {
        if entries.is_empty() && !SETTINGS.iter().any(|setting| setting.section() == section) {
            let nearest = table::nearest_section(section);
            return Err(Error::UnknownSection { name: section.to_owned(), origin: source.clone(), nearest });
        }
        for (key, value) in entries {
            self.put(&format!("{section}.{key}"), source.clone(), |_| value)?;
        }
        Ok(())
    }

    /// Takes the settings among these environment variables; others are passed over.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Error> {
        for (variable, value) in variables {
            let variable = variable.to_string_lossy().into_owned();
            let Some(rest) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let name = rest.to_lowercase().replace("__", ".");
            let value = value.into_string().map_err(|_| Error::NotUnicode(variable.clone()))?;
            self.put(&name, Source::Environment(variable), |setting| setting.kind.read(&value))?;
        }
        Ok(())
    }

    /// Takes one `section.key=value` of a `--set`.
    pub fn argument(&mut self, argument: &str) -> Result<(), Error> {
        let (name, value) = argument.split_once('=').ok_or_else(|| Error::NoValue(argument.to_owned()))?;
        self.named_argument("--set", name.trim(), value.trim())
    }

    /// Takes the value of another argument that stands for a setting, such as `--data-dir` for `data.dir`.
    pub fn named_argument(&mut self, argument: &'static str, name: &str, value: &str) -> Result<(), Error> {
        self.put(name, Source::Argument(argument), |setting| setting.kind.read(value))
    }

    fn put(&mut self, name: &str, origin: Source, value: impl FnOnce(&Setting) -> Value) -> Result<(), Error> {
        let Some(setting) = table::find(name) else {
            return Err(Error::Unknown { name: name.to_owned(), origin, nearest: table::nearest(name) });
        };
        self.values.insert(setting.name, (value(setting), origin));
        Ok(())
    }

    /// What was said here and then there; the later wins.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        self.values.extend(later.values);
        self
    }

    /// The settings in force: what was set last, and defaults for the rest.
    pub fn check(mut self) -> Result<Settings, Error> {
        let mut in_force = Vec::with_capacity(SETTINGS.len());
        let mut sections = Table::new();
        for setting in SETTINGS {
            let set = self.values.remove(setting.name);
            let (value, source) = set.unwrap_or_else(|| (setting.kind.read(setting.default), Source::Default));
            let Some(canonical) = setting.kind.check(&value) else {
                let allowed = setting.kind.allowed();
                return Err(Error::Wrong { name: setting.name, origin: source, value, allowed });
            };
            let section = sections.entry(setting.section()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                section.insert(setting.key().to_owned(), canonical.clone());
            }
            in_force.push(InForce { setting, value: canonical, source });
        }
        let config: Config = sections.try_into()?;
        Ok(Settings { config, in_force })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn file(text: &str) -> Result<Raw, Error> {
        let mut raw = Raw::default();
        raw.file(Path::new("bdr.toml"), text).map(|()| raw)
    }

    fn environment(variable: &str, value: &str) -> Result<Raw, Error> {
        let mut raw = Raw::default();
        raw.environment([(variable.into(), value.into())]).map(|()| raw)
    }

    fn argument(argument: &str) -> Result<Raw, Error> {
        let mut raw = Raw::default();
        raw.argument(argument).map(|()| raw)
    }

    fn message(raw: Result<Raw, Error>) -> String {
        raw.and_then(Raw::check).unwrap_err().to_string()
    }

    #[test]
    fn with_nothing_set_the_defaults_are_in_force() {
        let settings = Raw::default().check().unwrap();
        assert_eq!(settings.config, Config::default());
        assert_eq!(settings.in_force.len(), SETTINGS.len());
        for entry in settings.in_force {
            assert_eq!(entry.source, Source::Default);
            assert_eq!(entry.value.to_string(), entry.setting.default, "{} is not canonical", entry.setting.name);
        }
    }

    #[test]
    fn later_wins_and_the_source_is_known() {
        let mut raw = file("[als]\nrank = 11\niterations = 12\nseed = 13\n").unwrap();
        let variables = [("BDR__ALS__RANK", "21"), ("BDR__ALS__SEED", "22"), ("HOME", "/root"), ("BDR_ALS", "no")];
        raw.environment(variables.map(|(name, value)| (name.into(), value.into()))).unwrap();
        raw.argument("als.seed=31").unwrap();
        raw.argument("als.seed = 32").unwrap();
        let settings = raw.check().unwrap();
        let als = &settings.config.als;
        assert_eq!((als.rank, als.iterations, als.seed), (21, 12, 32));
        let source = |name: &str| {
            let entry = settings.in_force.iter().find(|entry| entry.setting.name == name).unwrap();
            entry.source.clone()
        };
        assert_eq!(source("als.iterations"), Source::File("bdr.toml".into()));
        assert_eq!(source("als.rank"), Source::Environment("BDR__ALS__RANK".to_owned()));
        assert_eq!(source("als.seed"), Source::Argument("--set"));
        assert_eq!(source("als.alpha"), Source::Default);
    }

    #[test]
    fn every_setting_can_be_set_in_each_way_to_its_default() {
        for setting in SETTINGS {
            let (section, key, value) = (setting.section(), setting.key(), setting.default);
            let variable = format!("BDR__{}__{}", section.to_uppercase(), key.to_uppercase());
            let ways = [
                file(&format!("[{section}]\n{key} = {value}\n")),
                environment(&variable, value.trim_matches('"')),
                argument(&format!("{}={value}", setting.name)),
            ];
            for raw in ways {
                let settings = raw.and_then(Raw::check).unwrap();
                assert_eq!(settings.config, Config::default(), "{}", setting.name);
                let set = settings.in_force.iter().filter(|entry| entry.source != Source::Default).count();
                assert_eq!(set, 1, "{}", setting.name);
            }
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_the_nearest_in_every_source() {
        assert_eq!(
            message(file("[ingest]\nlisten_on = 1\n")),
            "there is no setting `ingest.listen_on` (from bdr.toml); did you mean `ingest.listen`?"
        );
        assert_eq!(
            message(file("[ingset]\nlisten = \"a:1\"\n")),
            "there is no setting `ingset.listen` (from bdr.toml); did you mean `ingest.listen`?"
        );
        assert_eq!(
            message(file("[windows]\n")),
            "there is no section `[windows]` (from bdr.toml); did you mean `[window]`?"
        );
        assert_eq!(
            message(environment("BDR__ALS__RANKS", "3")),
            "there is no setting `als.ranks` (from the environment (BDR__ALS__RANKS)); did you mean `als.rank`?"
        );
        assert_eq!(
            message(argument("als.itertions=3")),
            "there is no setting `als.itertions` (from --set); did you mean `als.iterations`?"
        );
        assert!(message(file("rank = 3\n")).contains("did you mean `als.rank`?"));
        assert!(message(environment("BDR__RANK", "3")).contains("did you mean `als.rank`?"));
    }

    #[test]
    fn a_wrong_value_names_source_key_value_and_what_is_allowed() {
        assert_eq!(
            message(file("[als]\nrank = 0\n")),
            "`als.rank` (from bdr.toml) is 0; it must be an integer from 1 to 256"
        );
        assert_eq!(
            message(environment("BDR__LOG__FORMAT", "xml")),
            "`log.format` (from the environment (BDR__LOG__FORMAT)) is \"xml\"; it must be \"text\" or \"json\""
        );
        assert_eq!(
            message(argument("ingest.max_line_bytes=16KB")),
            "`ingest.max_line_bytes` (from --set) is \"16KB\"; \
             it must be bytes as an integer, or a string in B, KiB, MiB or GiB, from 256B to 16MiB"
        );
        assert!(message(argument("window.every=")).contains("is \"\"; it must be a duration such as \"50ms\""));
        assert!(message(file("[ingest.listen]\nport = 1\n")).contains("it must be host:port"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        let not_toml = message(file("[als]\nrank 3\n"));
        assert!(not_toml.starts_with("bdr.toml is not valid TOML\n") && not_toml.contains("line 2"), "{not_toml}");
        let no_value = message(argument("als.rank"));
        assert_eq!(no_value, "`--set als.rank` has no value; expected section.key=value, such as http.workers=4");
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_unicode_is_refused_by_name() {
        use std::os::unix::ffi::OsStringExt;
        let mut raw = Raw::default();
        let error = raw.environment([("BDR__DATA__DIR".into(), OsString::from_vec(vec![b'a', 0xff]))]).unwrap_err();
        assert_eq!(error.to_string(), "the environment variable BDR__DATA__DIR is not valid Unicode");
        raw.environment([(OsString::from_vec(vec![0xff]), "x".into())]).unwrap();
    }

    #[test]
    fn an_argument_that_stands_for_a_setting_counts_as_one() {
        let mut raw = Raw::default();
        raw.named_argument("--data-dir", "data.dir", "2026").unwrap();
        raw.argument("window.every=5s").unwrap();
        let settings = raw.check().unwrap();
        assert_eq!(settings.config.data.dir, Path::new("2026"));
        assert_eq!(settings.config.window.every, Duration::from_secs(5));
    }
}
