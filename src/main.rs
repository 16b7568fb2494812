//! The `bdr` command.
fn main() {}
