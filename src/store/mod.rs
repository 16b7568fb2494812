//! The embedded store: checkpoints of what the event log says, so that a start need not read all of it. The only user of sled.
//!
//! A checkpoint is a document: the pages that changed, and which offset of the log they stand for, seen all or none. Whatever is damaged or
//! missing here can be built again from the log; nothing here is ever needed to keep a promise.

pub mod checkpoint;
mod document;
pub mod envelope;
pub mod models;
pub mod pages;
pub mod tables;

use std::path::{Path, PathBuf};
use std::{fs, io, panic};

use envelope::{BadValue, Kind};

use crate::varint::Malformed;

/// sled is known to use many times its cache setting; the pages are read once, at start.
const CACHE_BYTES: u64 = 16 << 20;

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// sled reported a problem.
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    /// sled panicked on what it found.
    #[error("sled stopped with a panic while opening")]
    Panicked,
    /// A value can't be used.
    #[error("value {key}: {why}")]
    Value {
        /// Its key.
        key: String,
        /// What is wrong.
        why: BadValue,
    },
    /// A value has a good checksum and yet makes no sense.
    #[error("value {key}: {what}")]
    Content {
        /// Its key.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// The file system refused something.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The open store.
#[derive(Debug, Clone)]
pub struct Store {
    db: sled::Db,
}

impl Store {
    /// Opens the store in `dir`, creating it where there is none.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        // sled 0.34.7 panics on some damaged files instead of saying so.
        let opened = panic::catch_unwind(|| {
            sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()
        });
        let opened = opened.map_err(|_| StoreError::Panicked)?;
        let store = Self { db: opened? };
        store.sweep(&[checkpoint::COUNTERS, models::MODEL, tables::LAMBDA])?;
        Ok(store)
    }

    /// Moves a store that can't be used out of the way (replacing one that was moved before) and begins an empty one.
    pub fn begin_anew(dir: &Path) -> Result<Self, StoreError> {
        let aside = dir.with_extension("damaged");
        let at_aside = |source| StoreError::Io { path: aside.clone(), source };
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(at_aside)?;
        }
        fs::rename(dir, &aside).map_err(at_aside)?;
        Self::open(dir)
    }

    /// Hands what was written to the operating system.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        Ok(())
    }

    fn read(&self, key: &[u8], kind: Kind) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(value) = self.db.get(key)? else { return Ok(None) };
        let payload = envelope::open(kind, &value).map_err(|why| StoreError::Value { key: name(key), why })?;
        Ok(Some(payload.to_vec()))
    }
}

fn name(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

fn content(key: &[u8], what: impl Into<String>) -> StoreError {
    StoreError::Content { key: name(key), what: what.into() }
}

fn malformed(key: &[u8]) -> impl FnOnce(Malformed) -> StoreError {
    move |error| content(key, error.to_string())
}
