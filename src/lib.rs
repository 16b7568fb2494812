//! BigDataRiver: recommendations from a live stream of clicks and purchases, in one binary on one node.
//!
//! The modules in the order in which an event meets them.

pub mod als;
pub mod event;
pub mod ids;
pub mod interests;
pub mod random;
pub mod varint;
