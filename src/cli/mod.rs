//! The commands, one file each. Drawing on the terminal happens only here.

pub mod backup;
mod client;
pub mod config;
pub mod demo;
pub mod export;
pub mod generate;
pub mod logging;
pub mod replay;
pub mod send;
pub mod serve;
pub mod train;
pub mod tune;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// Standard output without a buffer, for commands that write large chunks (`io::stdout` looks for line ends in all of it).
pub fn raw_stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}
