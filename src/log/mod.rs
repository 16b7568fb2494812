//! The event log: append-only files, the only thing an acknowledgement waits for. Everything else can be rebuilt from it.
//!
//! [`record`] is one commit as bytes, [`segment`] the files it is appended to, [`writer`] appends and syncs, [`committer`] is the thread that
//! commits together whatever arrived while the last sync ran, [`recovery`] reads it all again at start, cuts off a torn tail and refuses a
//! damaged middle.
//!
//! The log's order is the order of the world: producers' progress and the ends of windows are records in it, beside the events.

pub mod committer;
pub mod compaction;
pub mod reading;
pub mod record;
pub mod recovery;
pub mod segment;
pub mod writer;
