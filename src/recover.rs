//! From what is on the disk to what is in memory: the last checkpoint, then the event log behind it.
//!
//! The log decides. A store that can't be used, or was deleted, is begun anew and filled from the log.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::also_bought::lambda::{Lambda, Stream, StreamSettings};
use crate::config::promoted;
use crate::event::encoding::{self, Item};
use crate::ids::IdList;
use crate::interests::counters::{Applied, CountError, Counters};
use crate::log::record::Head;
use crate::log::recovery::{self, OpenError, Options};
use crate::log::writer::Writer;
use crate::store::checkpoint::{Changes, State};
use crate::store::{Store, StoreError, pages};

/// Where the log is within a data directory.
pub const LOG_DIR: &str = "log";
/// Where the store is within a data directory.
pub const STORE_DIR: &str = "sled";

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The data directory can't be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The log can't be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// Not even an empty store can be made.
    #[error("cannot begin a new store in {dir}: {source}")]
    Store {
        /// Where.
        dir: String,
        /// Why.
        source: StoreError,
    },
    /// The checkpoint counts events that the log does not have.
    #[error(
        "the event log ends at event {log}, but the checkpoint in {dir} counts {checkpoint} events: the newest log file is \
         gone; restore it, or delete {dir} to count again what the log still has"
    )]
    LogTooShort {
        /// Events in the log.
        log: u64,
        /// Events in the checkpoint.
        checkpoint: u64,
        /// The store's directory.
        dir: String,
    },
}

/// Why a data directory can't be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The system refused something.
    #[error("cannot use the data directory {dir}: {source}")]
    DataDir {
        /// Where.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process uses it.
    #[error("the data directory {0} is in use by another bdr; stop it, or choose another with --data-dir")]
    InUse(PathBuf),
}

/// Makes the data directory if there is none, and keeps every other process out of it as long as the file lives.
pub fn lock(dir: &Path) -> Result<File, LockError> {
    let at_dir = |source| LockError::DataDir { dir: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(at_dir)?;
    let file = File::create(dir.join("LOCK")).map_err(at_dir)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LockError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(at_dir(source)),
    }
}

/// Why promoted settings can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// What was kept before, or is to be kept, is wrong.
    #[error(transparent)]
    Settings(#[from] promoted::NotReplayed),
    /// The system refused something.
    #[error("cannot keep the promoted settings in {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Keeps settings that a replay promoted in the data directory, beside those promoted before, in one step.
pub fn keep_promoted(data_dir: &Path, set: &[String], when: &str) -> Result<(), KeepError> {
    let path = promoted::path(data_dir);
    let partial = path.with_extension("partial");
    let at_path = |source| KeepError::Io { path: path.clone(), source };
    let kept = if path.exists() { fs::read_to_string(&path).map_err(at_path)? } else { String::new() };
    let text = promoted::keep(&kept, set, when)?;
    fs::write(&partial, text).map_err(at_path)?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(at_path)?;
    fs::rename(&partial, &path).map_err(at_path)
}

/// A node's memory as of the end of its log.
#[derive(Debug)]
pub struct Recovered {
    /// What was counted, how far the producers came, which window was closed last.
    pub state: State,
    /// Events in the checkpoint.
    pub saved_offset: u64,
    /// What the next checkpoint must write.
    pub changes: Changes,
    /// The end of the log.
    pub writer: Writer,
    /// The stream window in progress.
    pub stream: Stream,
    /// The lambda view, with all stream windows that have ended.
    pub lambda: Lambda,
    /// A user was forgotten after the last window, so that its model still knows the user.
    pub forgotten: bool,
}

/// Opens the store of a data directory; one that can't be opened is moved aside.
pub fn open_store(data_dir: &Path) -> Result<Store, RecoverError> {
    let dir = data_dir.join(STORE_DIR);
    Store::open(&dir).or_else(|error| {
        tracing::warn!(
            "the store in {} cannot be opened ({error}): moved aside, rebuilding from the log",
            dir.display()
        );
        Store::begin_anew(&dir).map_err(|source| RecoverError::Store { dir: dir.display().to_string(), source })
    })
}

/// Loads the last checkpoint and reads the log behind it, and behind the last stream window that is kept. `options.from_offset` is set here.
pub fn recover(
    data_dir: &Path,
    store: &Store,
    options: Options,
    stream: StreamSettings,
) -> Result<Recovered, RecoverError> {
    let loaded = store.load_counters().unwrap_or_else(|error| {
        tracing::warn!("the checkpoint cannot be used ({error}): counting again from the log");
        None
    });
    let state = loaded.unwrap_or_default();
    let saved_offset = state.counters.offset();
    let changes = Changes {
        users_before: state.counters.users().len() as u32,
        products_before: state.counters.products().len() as u32,
        ..Changes::default()
    };
    let (lambda, names) = load_lambda(store, &state)
        .unwrap_or_else(|| (Lambda { stream_offset: saved_offset, ..Lambda::default() }, IdList::default()));
    let from_offset = saved_offset.min(lambda.stream_offset);
    let windows = Windows { stream: Stream::new(stream), lambda, most: stream.max_products_per_user };
    let mut replay = Replay { state, changes, saved_offset, windows, forgotten: false };
    let options = Options { from_offset, ..options };
    let mut writer = recovery::open(&data_dir.join(LOG_DIR), options, |head, events| replay.apply(head, events))?;
    let Replay { state, changes, windows: Windows { stream, mut lambda, .. }, forgotten, .. } = replay;
    if !names.is_prefix_of(state.counters.products().list()) {
        tracing::warn!("the kept lambda view numbers its products differently: it begins anew");
        lambda = Lambda { stream_offset: state.counters.offset(), ..Lambda::default() };
    }
    if writer.offset() < saved_offset {
        let dir = data_dir.join(STORE_DIR).display().to_string();
        return Err(RecoverError::LogTooShort { log: writer.offset(), checkpoint: saved_offset, dir });
    }
    writer.set_marks(state.marks.clone());
    Ok(Recovered { state, saved_offset, changes, writer, stream, lambda, forgotten })
}

/// The kept lambda view and its products' names, if it numbers those as the checkpoint does.
fn load_lambda(store: &Store, state: &State) -> Option<(Lambda, IdList)> {
    let loaded = store.load_lambda().unwrap_or_else(|error| {
        tracing::warn!("the lambda view cannot be used ({error}): its stream begins anew");
        None
    });
    let (lambda, names) = loaded?;
    let known: &IdList = state.counters.products().list();
    // Without a checkpoint everything is counted again from the log, stream windows too.
    (!known.is_empty() && names.agrees_with(known)).then_some((lambda, names))
}

/// The stream windows as the log is read.
struct Windows {
    stream: Stream,
    lambda: Lambda,
    most: usize,
}

impl Windows {
    fn take(&mut self, applied: Applied) {
        match applied {
            Applied::Event { user, product, is_purchase } => self.stream.push(user, product, is_purchase),
            Applied::Forgotten { user, products } => {
                self.stream.forget(user);
                self.lambda.forget_lists(&products);
                // It may be from before; without one it is computed at once.
                self.lambda.batch = None;
            }
        }
    }

    /// What follows was committed at this time, behind `offset`.
    fn advance(&mut self, committed_micros: i64, offset: u64, products: &IdList) {
        if let Some(ended) = self.stream.advance(committed_micros)
            && let Ok(lists) = ended.join(products, self.most, &AtomicBool::new(false))
        {
            self.lambda.replace_lists(&lists, offset);
        }
    }
}

struct Replay {
    state: State,
    changes: Changes,
    saved_offset: u64,
    windows: Windows,
    /// A user was forgotten after the last window.
    forgotten: bool,
}

impl Replay {
    fn apply(&mut self, head: &Head, events: &[u8]) -> Result<(), CountError> {
        let Self { state, changes, windows, forgotten, .. } = self;
        let in_stream = head.first_offset >= windows.lambda.stream_offset;
        if in_stream {
            windows.advance(head.committed_micros, head.first_offset, state.counters.products().list());
        }
        let mut stream = |applied| {
            if in_stream {
                windows.take(applied);
            }
        };
        if head.first_offset < self.saved_offset {
            return each_known(&state.counters, events, stream);
        }
        state.counters.skip_to(head.first_offset);
        state.counters.apply_each(events, |applied| {
            if let Applied::Forgotten { user, .. } = &applied {
                changes.forgotten.insert(*user);
                *forgotten = true;
            }
            stream(applied);
        })?;
        for (producer, last) in &head.marks {
            state.marks.insert(producer.as_str().into(), *last);
        }
        if let Some(window) = head.window {
            (state.window, state.window_offset) = (window, head.end_offset());
            *forgotten = false;
        }
        if state.counters.merge_is_due() {
            merge(&mut state.counters, changes);
        }
        Ok(())
    }
}

/// Tells `each` about events that are counted already.
fn each_known(counters: &Counters, mut encoded: &[u8], mut each: impl FnMut(Applied)) -> Result<(), CountError> {
    while !encoded.is_empty() {
        // A user who was forgotten later is not known any more.
        if let Item::Event(event) = encoding::read(&mut encoded)?
            && let Some(user) = counters.users().find(&event.user)
            && let Some(product) = counters.products().find(&event.product)
        {
            each(Applied::Event { user, product, is_purchase: event.is_purchase });
        }
    }
    Ok(())
}

fn merge(counters: &mut Counters, changes: &mut Changes) {
    if let Some(job) = counters.freeze() {
        changes.pages.extend(job.touched_users().map(|user| user / pages::USERS));
        counters.install(job.run());
    }
}
