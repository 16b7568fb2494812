//! `bdr config`: loads the settings from where they are said, and shows or checks them.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::{self, Raw, Settings, Source, promoted, render};

/// Why settings could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that `--config` names cannot be read.
    #[error("cannot read the settings file {}; \
             check the path after --config, or write such a file with `bdr config show > bdr.toml`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A setting is unknown or has a wrong value.
    #[error(transparent)]
    Settings(#[from] config::Error),
}

/// The settings in force: defaults, then the file that `--config` names, then what a replay promoted in the data directory, then the environment,
/// then `--data-dir`, then each `--set`.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    data_dir: Option<&str>,
    set: &[String],
) -> Result<Settings, Error> {
    let mut raw = Raw::default();
    if let Some(path) = file {
        raw.file(path, &read(path)?)?;
    }
    let mut said = Raw::default();
    said.environment(environment)?;
    if let Some(data_dir) = data_dir {
        said.named_argument("--data-dir", "data.dir", data_dir)?;
    }
    for argument in set {
        said.argument(argument)?;
    }
    // Where the data directory is decides whether there are promoted settings.
    let before = raw.clone().and(said.clone()).check()?;
    let promoted = promoted::path(&before.config.data.dir);
    if !promoted.exists() {
        return Ok(before);
    }
    raw.file(&promoted, &read(&promoted)?)?;
    Ok(raw.and(said).check()?)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Prints every setting in force with its meaning, as a settings file.
pub fn show(settings: &Settings, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(render(settings).as_bytes())
}

/// Prints that the settings are valid, and how many were set where. Settings that are not have already been refused by [`load`].
pub fn check(settings: &Settings, out: &mut dyn Write) -> io::Result<()> {
    let (mut by_file, mut by_environment, mut by_argument) = (0, 0, 0);
    let mut file = None;
    for entry in &settings.in_force {
        match &entry.source {
            Source::Default => {}
            Source::File(path) => {
                file = Some(path);
                by_file += 1;
            }
            Source::Environment(_) => by_environment += 1,
            Source::Argument(_) => by_argument += 1,
        }
    }
    let file = file.map_or_else(|| "a file".to_owned(), |path| path.display().to_string());
    writeln!(
        out,
        "settings are valid: {by_file} set by {file}, {by_environment} by the environment, {by_argument} by arguments"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_named_file_must_exist() {
        let error = load(Some(Path::new("/nowhere/bdr.toml")), [], None, &[]).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the settings file /nowhere/bdr.toml; check the path"));
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn file_environment_and_arguments_come_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bdr.toml");
        std::fs::write(&path, "[als]\nrank = 5\nseed = 6\n[data]\ndir = \"one\"\n").unwrap();
        let environment = [("BDR__ALS__SEED".into(), "7".into())];
        let set = ["als.alpha=2".to_owned()];
        let settings = load(Some(&path), environment, Some("two"), &set).unwrap();
        assert_eq!(settings.config.data.dir, Path::new("two"));
        assert_eq!(
            written(|out| check(&settings, out)),
            format!("settings are valid: 1 set by {}, 1 by the environment, 2 by arguments\n", path.display())
        );
        let shown = written(|out| show(&settings, out));
        std::fs::write(&path, &shown).unwrap();
        assert_eq!(load(Some(&path), [], None, &[]).unwrap().config, settings.config);
    }

    #[test]
    fn with_nothing_said_everything_is_a_default() {
        let settings = load(None, [], None, &[]).unwrap();
        assert_eq!(
            written(|out| check(&settings, out)),
            "settings are valid: 0 set by a file, 0 by the environment, 0 by arguments\n"
        );
    }
}
