//! One connection: introduces the producer, sends what the node does not have, and listens to what becomes of it on a thread of its own.

use std::io::{self, BufRead, BufReader, Write};
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
/// A node that says nothing for so long while something is unacknowledged is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// How a connection ended.
pub(super) enum Ended {
    /// Every line is acknowledged.
    Done,
    /// Another connection uses the name.
    TakenOver(String),
    /// The node does not want this producer.
    Refused(String),
    /// The node ended it and said why.
    Said(String),
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
    let strange = |_| {
        io::Error::other(format!("this is not what a bdr node says: {}", line.chars().take(80).collect::<String>()))
    };
    serde_json::from_str(line).map_err(strange)
}

/// Runs one connection to its end.
pub(super) fn run(sending: &mut Sending<'_>) -> io::Result<Ended> {
    let mut socket = connect(&sending.options.to)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let hello = json!({"hello": {"producer": sending.options.producer}});
    writeln!(socket, "{hello}")?;
    let mut answers = BufReader::new(socket.try_clone()?);
    let mut first = String::new();
    answers.read_line(&mut first)?;
    let last = match parse(&first)? {
        Answer { welcome: Some(welcome), .. } => welcome.last,
        Answer { error: Some(error), .. } => return Ok(Ended::Refused(error)),
        _ => return Err(io::Error::other("the node does not answer the introduction")),
    };
    sending.progress.welcomed(last);
    socket.set_read_timeout(None)?;
    let (heard, hears) = bounded(1);
    let progress = sending.progress;
    thread::scope(|scope| {
        let listening = scope.spawn(move || listen(answers, progress, &heard));
        let sent = sending.send(&mut socket, last, &hears);
        // Ends the listening, whatever it still waits for.
        let _ = socket.shutdown(Shutdown::Both);
        let heard = listening.join().unwrap_or_else(|_| Err(io::Error::other("listening to the node panicked")));
        match (sent, heard) {
            (Ok(true), _) => Ok(Ended::Done),
            (_, Ok(Some(said))) if said == TAKEN_OVER => Ok(Ended::TakenOver(said)),
            (_, Ok(Some(said))) => Ok(Ended::Said(said)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(false), Ok(None)) => Err(io::Error::other("the node closed the connection")),
        }
    })
}

fn connect(to: &str) -> io::Result<TcpStream> {
    let mut last_error = io::Error::other(format!("{to} is no address; it should be host:port"));
    for address in to.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
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
        loop {
            self.forget_acknowledged();
            if self.input_ended && self.unacknowledged.is_empty() {
                return Ok(true);
            }
            let full = self.unacknowledged.iter().map(|piece| piece.bytes.len()).sum::<usize>() >= MOST_UNACKNOWLEDGED;
            let nothing = never();
            let input = if full || self.input_ended { &nothing } else { &self.queue };
            let piece = select! {
                recv(input) -> piece => piece.ok(),
                recv(heard) -> heard => {
                    if heard.is_err() {
                        return Ok(false);
                    }
                    continue;
                }
            };
            match piece {
                Some(piece) => self.send_piece(socket, piece, last)?,
                None => self.input_ended = true,
            }
        }
    }

    fn send_piece(&mut self, socket: &mut TcpStream, piece: Piece, last: u64) -> io::Result<()> {
        let bytes = piece.bytes.len() as u64;
        if piece.last() > last {
            self.wait_for_the_rate(piece.lines);
            socket.write_all(piece.behind(last))?;
        }
        self.progress.note_sent(bytes);
        self.unacknowledged.push_back(piece);
        Ok(())
    }

    /// Waits until these lines are due.
    fn wait_for_the_rate(&mut self, lines: u64) {
        if let Some(rate) = self.options.rate {
            let due = self.started + Duration::from_secs_f64(self.sent as f64 / rate as f64);
            let _ = never::<()>().recv_deadline(due.max(Instant::now()));
            self.sent += lines;
        }
    }

    fn forget_acknowledged(&mut self) {
        let acknowledged = self.progress.acknowledged();
        while self.unacknowledged.front().is_some_and(|piece| piece.last() <= acknowledged) {
            self.unacknowledged.pop_front();
        }
    }
}
