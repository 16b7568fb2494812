//! Windows: the events between two closings, and what became of each.

use serde::{Deserialize, Serialize};

/// A window that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClosedWindow {
    /// Its number, counted from 1.
    pub number: u64,
    /// When it ended, in microseconds since 1970 UTC.
    pub closed_at_micros: i64,
    /// Events in it.
    pub events: u64,
    /// All events up to its end.
    pub offset: u64,
}

/// What became of a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// A model was trained at its end.
    Trained {
        /// The model's number.
        generation: u64,
        /// The objective per interest.
        loss: f64,
        /// How long the training took.
        seconds: f64,
    },
    /// A later window ended before its training began, and was trained instead.
    Superseded,
    /// The training failed.
    Failed(String),
}

/// A window and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowReport {
    /// The window.
    pub window: ClosedWindow,
    /// What became of it.
    pub outcome: Outcome,
}
