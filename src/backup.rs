//! Backups: the event log as of one commit, a checkpoint, promoted settings, and a manifest with the checksum of every file.
//!
//! Closed segments never change, so a backup on the same file system holds links to them and costs no time; of the newest the complete records are
//! copied. What was acknowledged before the backup was asked for is in it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::also_bought::lambda::Lambda;
use crate::config::promoted;
use crate::ids::IdTable;
use crate::log::segment::{self, Found, Reader, Segment};
use crate::model::Model;
use crate::recover::{LOG_DIR, STORE_DIR};
use crate::store::checkpoint::{Changes, Frozen};
use crate::store::{Store, StoreError, pages};
use crate::window::WindowReport;

const MANIFEST: &str = "manifest.json";
const VERSION: u32 = 1;

/// Why a backup can't be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system refused something.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The checkpoint can't be written.
    #[error("the checkpoint: {0}")]
    Store(#[from] StoreError),
    /// There is no manifest that can be read.
    #[error("{dir} is not a backup: {what}")]
    NotABackup {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with its manifest.
        what: String,
    },
    /// A file is not what it was.
    #[error("the backup is damaged: {path} {what}; nothing was restored")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it differs.
        what: &'static str,
    },
    /// There is something where the backup is to be restored to.
    #[error("there is an event log in {0} already; give another --data-dir, or move it away")]
    NotEmpty(PathBuf),
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// Events in the log.
    pub offset: u64,
    /// When it was made, as RFC 3339.
    pub created_at: String,
    /// Every file beside this one.
    pub files: Vec<Entry>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it is within the backup.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// Its checksum.
    pub crc32c: u32,
}

/// What a backup is made of beside the log.
#[derive(Debug)]
pub struct Contents {
    /// All interests.
    pub frozen: Frozen,
    /// The served model.
    pub model: Option<Arc<Model>>,
    /// The lambda view.
    pub lambda: Arc<Lambda>,
    /// The last windows.
    pub windows: Vec<WindowReport>,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::Io { path: path.to_owned(), source }
}

/// Where a backup made at this time is put at first.
pub fn staging(data_dir: &Path, now: &str) -> Result<PathBuf, BackupError> {
    let data_dir = fs::canonicalize(data_dir).map_err(at(data_dir))?;
    Ok(data_dir.join("backups").join(now))
}

/// Makes a backup of `data_dir` in `dir`, which must not exist. `with_ids` gives the ids of users and products.
pub fn take(
    data_dir: &Path,
    dir: &Path,
    contents: &Contents,
    with_ids: impl Fn(&mut dyn FnMut(&IdTable, &IdTable)),
    created_at: String,
) -> Result<Manifest, BackupError> {
    let partial = dir.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(at(&partial))?;
    }
    fs::create_dir_all(partial.join(LOG_DIR)).map_err(at(&partial))?;
    let offset = link_log(&data_dir.join(LOG_DIR), &partial.join(LOG_DIR))?;
    write_checkpoint(&partial.join(STORE_DIR), contents, with_ids)?;
    let settings = promoted::path(data_dir);
    if settings.exists() {
        fs::copy(&settings, partial.join(promoted::FILE)).map_err(at(&settings))?;
    }
    let mut files = Vec::new();
    describe(&partial, Path::new(""), &mut files)?;
    let manifest = Manifest { version: VERSION, offset, created_at, files };
    let path = partial.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other).map_err(at(&path))?;
    fs::write(&path, text).map_err(at(&path))?;
    sync_all(&partial)?;
    fs::rename(&partial, dir).map_err(at(dir))?;
    Ok(manifest)
}

/// Links the closed segments, copies what is complete of the newest; tells the offset at its end.
fn link_log(from: &Path, to: &Path) -> Result<u64, BackupError> {
    let segments = segment::list(from).map_err(at(from))?;
    let (newest, closed) = match segments.split_last() {
        Some((newest, closed)) => (copy_newest(newest, to)?, closed),
        None => (0, &[][..]),
    };
    // From the newest on: a compaction goes the other way, and takes a request to forget out only behind the events it is about.
    for segment in closed.iter().rev() {
        let target = to.join(segment.path.file_name().unwrap_or_default());
        fs::hard_link(&segment.path, &target)
            .or_else(|_| fs::copy(&segment.path, &target).map(drop))
            .map_err(at(&segment.path))?;
    }
    Ok(newest)
}

fn copy_newest(segment: &Segment, to: &Path) -> Result<u64, BackupError> {
    let at_file = at(&segment.path);
    let target = to.join(segment.path.file_name().unwrap_or_default());
    let copy = || {
        let mut reader = Reader::open(&segment.path, segment::HEADER as u64)?;
        let mut offset = segment.first_offset;
        while let Found::Record(head, _) = reader.read()? {
            offset = head.end_offset();
        }
        io::copy(&mut File::open(&segment.path)?.take(reader.position()), &mut File::create(&target)?)?;
        Ok(offset)
    };
    copy().map_err(at_file)
}

fn write_checkpoint(
    dir: &Path,
    contents: &Contents,
    with_ids: impl Fn(&mut dyn FnMut(&IdTable, &IdTable)),
) -> Result<(), BackupError> {
    let store = Store::open(dir)?;
    let users = contents.frozen.base.users() as u32;
    let changes = Changes { pages: (0..pages::pages(users, pages::USERS)).collect(), ..Changes::default() };
    store.save_counters(&contents.frozen, &changes, &with_ids)?;
    store.save_model(contents.model.as_deref(), &contents.windows)?;
    let mut saved = Ok(());
    with_ids(&mut |_, products| saved = store.save_lambda(&contents.lambda, products.list()));
    Ok(saved?)
}

/// Appends all files below `dir/below`, by path.
fn describe(dir: &Path, below: &Path, files: &mut Vec<Entry>) -> Result<(), BackupError> {
    let here = dir.join(below);
    let mut names = Vec::new();
    for entry in fs::read_dir(&here).map_err(at(&here))? {
        names.push(entry.map_err(at(&here))?.file_name());
    }
    names.sort_unstable();
    for name in names {
        let path = below.join(name);
        if dir.join(&path).is_dir() {
            describe(dir, &path, files)?;
        } else {
            let (bytes, crc32c) = checksum(&dir.join(&path))?;
            files.push(Entry { path, bytes, crc32c });
        }
    }
    Ok(())
}

fn checksum(path: &Path) -> Result<(u64, u32), BackupError> {
    let mut file = File::open(path).map_err(at(path))?;
    let (mut piece, mut bytes, mut checksum) = (vec![0; 1 << 20], 0, 0);
    loop {
        let read = file.read(&mut piece).map_err(at(path))?;
        if read == 0 {
            return Ok((bytes, checksum));
        }
        bytes += read as u64;
        checksum = crc32c::crc32c_append(checksum, &piece[..read]);
    }
}

/// Makes all files below `dir` and their names durable.
fn sync_all(dir: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).map_err(at(&path))?;
        }
    }
    segment::sync_dir(dir).map_err(at(dir))
}

/// Reads a backup through and compares every file with the manifest.
pub fn verify(dir: &Path) -> Result<Manifest, BackupError> {
    let not_a_backup = |what: String| BackupError::NotABackup { dir: dir.to_owned(), what };
    let text = fs::read(dir.join(MANIFEST)).map_err(|error| not_a_backup(format!("{MANIFEST}: {error}")))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| not_a_backup(format!("{MANIFEST}: {error}")))?;
    if manifest.version != VERSION {
        return Err(not_a_backup(format!("its version is {}, this bdr reads version {VERSION}", manifest.version)));
    }
    for entry in &manifest.files {
        // A manifest can't name what is outside the backup.
        let inside = entry.path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let path = dir.join(&entry.path);
        let damaged = |what| BackupError::Damaged { path: path.clone(), what };
        if !inside || !path.is_file() {
            return Err(damaged("is missing"));
        }
        if checksum(&path)? != (entry.bytes, entry.crc32c) {
            return Err(damaged("does not have the checksum that the manifest gives"));
        }
    }
    Ok(manifest)
}

/// Copies a verified backup into a data directory without an event log. The caller has locked it.
pub fn restore(dir: &Path, data_dir: &Path) -> Result<Manifest, BackupError> {
    let manifest = verify(dir)?;
    if data_dir.join(LOG_DIR).exists() || data_dir.join(STORE_DIR).exists() {
        return Err(BackupError::NotEmpty(data_dir.to_owned()));
    }
    // Beside, and moved when it is whole: half of a log would start as if it were one.
    let partial = data_dir.join("restore.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(at(&partial))?;
    }
    fs::create_dir_all(partial.join(LOG_DIR)).map_err(at(&partial))?;
    for entry in &manifest.files {
        let target = partial.join(&entry.path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        fs::copy(dir.join(&entry.path), &target).map_err(at(&target))?;
    }
    sync_all(&partial)?;
    for name in [promoted::FILE, STORE_DIR, LOG_DIR] {
        if partial.join(name).exists() {
            fs::rename(partial.join(name), data_dir.join(name)).map_err(at(data_dir))?;
        }
    }
    fs::remove_dir(&partial).map_err(at(&partial))?;
    segment::sync_dir(data_dir).map_err(at(data_dir))?;
    Ok(manifest)
}

/// Moves a backup, over to another file system if need be.
pub fn move_to(from: &Path, to: &Path) -> Result<(), BackupError> {
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    let manifest = verify(from)?;
    let names = manifest.files.iter().map(|entry| entry.path.as_path()).chain([Path::new(MANIFEST)]);
    for name in names {
        let target = to.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        fs::copy(from.join(name), &target).map_err(at(&target))?;
    }
    sync_all(to)?;
    fs::remove_dir_all(from).map_err(at(from))
}
