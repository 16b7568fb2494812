//! One connection: introduces the producer, sends what the node does not have, and listens to what becomes of it on a thread of its own.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use serde::Deserialize;
use serde_json::json;

use super::Sending;
use super::input::Piece;
use super::progress::Progress;
use crate::protocol::session::TAKEN_OVER;

/// Bytes that may wait for their acknowledgement.
const MOST_UNACKNOWLEDGED: usize = 32 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A node that does not answer an introduction for so long is none.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of the rate may be made up for after a pause.
const LARGEST_BURST: Duration = Duration::from_millis(100);

/// How a connection ended that did not simply break.
pub(super) enum Ended {
    /// Every line is acknowledged.
    Done,
    /// Connecting again would make it worse.
    ForGood(String),
}

/// A line that the node says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    welcome: Option<Welcome>,
    ack: Option<u64>,
    reject: Option<Reject>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Welcome {
    last: u64,
}

#[derive(Debug, Deserialize)]
struct Reject {
    seq: u64,
    error: String,
}

fn parse(line: &str) -> io::Result<Answer> {
    let strange =
        |_| io::Error::other(format!("{:?} is not what a node says", line.chars().take(80).collect::<String>()));
    serde_json::from_str(line).map_err(strange)
}

/// Runs one connection to its end. An error is a reason to connect again.
pub(super) fn run(sending: &mut Sending<'_>) -> io::Result<Ended> {
    let mut socket = connect(&sending.options.to)?;
    let (last, answers) = introduce(&mut socket, &sending.options.producer)?;
    let acknowledged = sending.progress.acknowledged();
    if last < acknowledged {
        return Ok(Ended::ForGood(format!(
            "the node acknowledged {acknowledged} lines and now knows of {last}: its data is not what it was"
        )));
    }
    sending.progress.welcomed(last);
    socket.set_write_timeout(Some(sending.options.give_up_after.max(Duration::from_millis(1))))?;
    let (heard, hears) = bounded(1);
    let (progress, listening_socket) = (sending.progress, socket.try_clone()?);
    let (sent, said) = thread::scope(|scope| {
        let listening = scope.spawn(move || {
            let said = listen(answers, progress, &heard);
            // Without anyone listening the sending must end too, also where it waits to write.
            let _ = listening_socket.shutdown(Shutdown::Both);
            said
        });
        let sent = sending.send(&mut socket, last, &hears);
        // Ends the listening, whatever it still waits for. What has arrived can still be read.
        let _ = socket.shutdown(Shutdown::Both);
        let said = listening.join().unwrap_or_else(|_| Err(io::Error::other("listening to the node panicked")));
        (sent, said)
    });
    match (sent, said) {
        (Ok(true), _) => Ok(Ended::Done),
        (_, Ok(Some(said))) if said == TAKEN_OVER => Ok(Ended::ForGood(said)),
        (_, Ok(Some(said))) => Err(io::Error::other(said)),
        (Ok(false), Ok(None)) => Err(closed()),
        // A closed connection makes the other side fail too; the more telling reason counts.
        (Ok(false), Err(error)) | (Err(error), _) => Err(error),
    }
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the node closed the connection")
}

fn connect(to: &str) -> io::Result<TcpStream> {
    let mut last_error = io::Error::other("the name has no address");
    for address in to.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// Tells the producer's name; returns the last line that the node has of it, and what the node says from there on.
fn introduce(socket: &mut TcpStream, producer: &str) -> io::Result<(u64, BufReader<TcpStream>)> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(WELCOME_TIMEOUT))?;
    let hello = json!({"hello": {"producer": producer}});
    socket.write_all(format!("{hello}\n").as_bytes())?;
    let mut answers = BufReader::new(socket.try_clone()?);
    let mut first = String::new();
    if answers.read_line(&mut first)? == 0 {
        return Err(closed());
    }
    let last = match parse(&first)? {
        Answer { welcome: Some(welcome), .. } => welcome.last,
        Answer { error: Some(said), .. } => return Err(io::Error::other(said)),
        _ => return Err(io::Error::other("the node does not answer the introduction")),
    };
    socket.set_read_timeout(None)?;
    Ok((last, answers))
}

/// Notes what the node says until it says nothing more; returns its last words.
fn listen(answers: impl BufRead, progress: &Progress, heard: &Sender<()>) -> io::Result<Option<String>> {
    for line in answers.lines() {
        let answer = parse(&line?)?;
        if let Some(Reject { seq, error }) = answer.reject {
            progress.note_reject(seq, error);
        }
        if let Some(line) = answer.ack {
            progress.note_ack(line);
            // One note that something was heard is enough.
            let _ = heard.try_send(());
        }
        if answer.error.is_some() {
            return Ok(answer.error);
        }
    }
    Ok(None)
}

impl Sending<'_> {
    /// Sends everything behind line `last` and waits for its acknowledgement. False when the node hung up before.
    fn send(&mut self, socket: &mut TcpStream, last: u64, heard: &Receiver<()>) -> io::Result<bool> {
        self.forget_acknowledged();
        for piece in &self.unacknowledged {
            socket.write_all(piece.behind(last))?;
        }
        let mut half_closed = false;
        loop {
            self.forget_acknowledged();
            if self.is_done() {
                return Ok(true);
            }
            if self.input_ended && !half_closed {
                socket.shutdown(Shutdown::Write)?;
                half_closed = true;
            }
            let nothing = never();
            let is_full = self.unacknowledged_bytes >= MOST_UNACKNOWLEDGED;
            let input = if is_full || self.input_ended { &nothing } else { &self.queue };
            select! {
                recv(input) -> piece => match piece {
                    Ok(piece) => self.send_piece(socket, piece, last)?,
                    Err(_) => self.input_ended = true,
                },
                // The last acknowledgement may have come just before the end.
                recv(heard) -> heard => if heard.is_err() {
                    self.forget_acknowledged();
                    return Ok(self.is_done());
                },
                default(self.patience()) => if self.patience().is_zero() {
                    return Err(io::Error::new(ErrorKind::TimedOut, "the node acknowledges nothing"));
                },
            }
        }
    }

    fn send_piece(&mut self, socket: &mut TcpStream, piece: Piece, last: u64) -> io::Result<()> {
        let is_new = piece.last() > last;
        if is_new {
            self.wait_for_the_rate(piece.lines);
        }
        // Kept before it is written: a write that fails must not lose it.
        self.keep(piece);
        match self.unacknowledged.back() {
            Some(piece) if is_new => socket.write_all(piece.behind(last)),
            _ => Ok(()),
        }
    }

    /// Waits until these lines are due.
    fn wait_for_the_rate(&mut self, lines: u64) {
        if let Some(rate) = self.options.rate {
            let _ = never::<()>().recv_deadline(self.due);
            // Waking up late or a slow input may be made up for, a long pause not.
            let earliest = Instant::now().checked_sub(LARGEST_BURST).unwrap_or(self.due);
            self.due = self.due.max(earliest) + Duration::from_secs_f64(lines as f64 / rate as f64);
        }
    }
}
