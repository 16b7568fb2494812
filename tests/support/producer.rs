//! A producer that speaks acknowledged lines and does not give up: what a shop's own client would be.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::PATIENCE;

/// Lines sent by one write.
const LINES_PER_WRITE: usize = 500;

/// Sends all lines, connecting again whenever the node goes away, until the last is acknowledged; `acknowledged` shows how far it is.
pub fn send_all(address: SocketAddr, name: &str, lines: &[String], acknowledged: &AtomicU64) {
    let mut progress = Instant::now();
    let mut last = 0;
    while last < lines.len() as u64 {
        assert!(progress.elapsed() < PATIENCE, "{name}: no progress since line {last}");
        // Whatever goes wrong, the node knows how far it came.
        let _ = session(address, name, lines, acknowledged);
        let now = acknowledged.load(Ordering::SeqCst);
        if now > last {
            (progress, last) = (Instant::now(), now);
        }
        thread::yield_now();
    }
}

/// One connection, from the introduction to the end of the lines or of the node.
fn session(address: SocketAddr, name: &str, lines: &[String], acknowledged: &AtomicU64) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    writeln!(socket, "{{\"hello\":{{\"producer\":\"{name}\"}}}}")?;
    let mut answers = BufReader::new(socket.try_clone()?).lines();
    let welcome: Value = parse(answers.next())?;
    let Some(last) = welcome["welcome"]["last"].as_u64() else { return Err(std::io::ErrorKind::InvalidData.into()) };
    assert!(last >= acknowledged.load(Ordering::SeqCst), "{name}: acknowledged lines were lost: the node knows {last}");
    acknowledged.store(last, Ordering::SeqCst);
    let rest = lines.get(last as usize..).unwrap_or_default();
    thread::scope(|scope| {
        scope.spawn(move || {
            for some in rest.chunks(LINES_PER_WRITE) {
                if socket.write_all(some.concat().as_bytes()).is_err() {
                    return;
                }
            }
            // The other side may be gone already.
            let _ = socket.shutdown(std::net::Shutdown::Write);
        });
        for answer in answers {
            let answer = parse(Some(answer))?;
            assert!(answer.get("reject").is_none(), "{name}: {answer}");
            match answer["ack"].as_u64() {
                Some(line) => acknowledged.store(line, Ordering::SeqCst),
                None => return Ok(()),
            }
        }
        Ok(())
    })
}

fn parse(line: Option<std::io::Result<String>>) -> std::io::Result<Value> {
    let line = line.unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()))?;
    serde_json::from_str(&line).map_err(|_| std::io::ErrorKind::InvalidData.into())
}
