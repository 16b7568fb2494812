//! Where bytes meet the node: events over TCP, everything over HTTP. No answer is computed here.

pub mod http;
pub mod tcp;
