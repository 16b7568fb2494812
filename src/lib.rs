//! BigDataRiver: recommendations from a live stream of clicks and purchases, in one binary on one node.
//!
//! The modules in the order in which an event meets them:

// Bytes become events.
pub mod event;
pub mod ids;
pub mod protocol;

// Events become interests.
pub mod interests;
pub mod window;

// Interests become recommendations.
pub mod als;
pub mod also_bought;
pub mod evaluation;
pub mod model;
pub mod ranking;
pub mod training;

// What is durable.
pub mod backup;
pub mod export;
pub mod log;
pub mod recover;
pub mod replay;
pub mod store;

// Who does it, and who asks for it.
pub mod actors;
pub mod server;

// What all of them use.
pub mod cli;
pub mod clock;
pub mod config;
pub mod generate;
pub mod memory;
pub mod metrics;
pub mod random;
pub mod varint;
