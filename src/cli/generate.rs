//! `bdr generate`: shop traffic on standard output, as much as is wanted, the same for the same seed.

use std::io::{self, Write};

use crate::generate::{Generator, Settings};

/// Written at once.
const CHUNK: usize = 256 << 10;

/// What to generate.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many events
    #[arg(long, value_name = "N")]
    events: u64,
    /// How many users they are by
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    users: u32,
    /// How many products they are on
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    products: u32,
    /// Where all chance comes from: the same seed gives the same bytes
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
}

/// Writes the events as NDJSON in the talk's schema.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> io::Result<()> {
    let Arguments { events, users, products, seed } = *arguments;
    let mut generator = Generator::new(Settings { users, products, seed });
    let mut chunk = Vec::with_capacity(CHUNK + 1024);
    for _ in 0..events {
        generator.write_line(&mut chunk);
        if chunk.len() >= CHUNK {
            out.write_all(&chunk)?;
            chunk.clear();
        }
    }
    out.write_all(&chunk)?;
    out.flush()
}
