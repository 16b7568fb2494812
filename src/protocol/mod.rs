//! How events are spoken over a byte stream, without a socket in sight.
//!
//! [`lines`] cuts bytes into lines, [`batch`] turns lines into encoded events and refusals, [`session`] knows the two ways to speak (plain and
//! acknowledged) and writes every answer. Needing more bytes is a normal state here, never an error.

pub mod batch;
pub mod lines;
pub mod session;
