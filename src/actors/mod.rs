//! The story: how one event becomes a recommendation, told by four actors.
//!
//! ```text
//!  server (TCP, HTTP)
//!     │ Submit: lines that arrived together, parsed
//!     ▼
//!  Ingest ── who may send what: producers, refusals, dead letters
//!     │ Append
//!     ▼
//!  Counter ── the log thread makes it durable, then it is counted, then it is acknowledged
//!     │ Train: all interests as of the end of a window, immutable
//!     ▼
//!  Trainer ── one training at a time; windows that end meanwhile are joined
//!     │ Publish: a whole model
//!     ▼
//!  Publisher ── swaps it in, keeps it in the store, remembers the windows
//!     │
//!     ▼
//!  Served (read by every request)
//! ```
//!
//! Actors know [`messages`], never each other: [`node`] connects them by [`port`]s, builds one anew when it dies, and shuts down in the order of
//! the flow. What requests read without asking an actor is in [`shared`]. Work that blocks runs on a [`worker`]'s thread.

pub mod budget;
pub mod counter;
pub mod ingest;
pub mod messages;
pub mod node;
pub mod port;
pub mod publisher;
pub mod shared;
pub mod trainer;
pub mod worker;
