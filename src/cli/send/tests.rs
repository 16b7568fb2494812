//! The client against a small server that behaves as a node may: acknowledges, refuses, hangs up, takes over.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;

/// What the server does on one connection, having read the introduction.
struct Seen {
    input: std::io::Lines<BufReader<TcpStream>>,
    output: TcpStream,
}

impl Seen {
    fn accept(listener: &TcpListener, last: u64) -> Self {
        let (socket, _) = listener.accept().unwrap();
        let mut seen = Self { output: socket.try_clone().unwrap(), input: BufReader::new(socket).lines() };
        assert_eq!(seen.input.next().unwrap().unwrap(), "{\"hello\":{\"producer\":\"p\"}}");
        seen.say(&format!("{{\"welcome\":{{\"producer\":\"p\",\"last\":{last}}}}}"));
        seen
    }

    fn say(&mut self, line: &str) {
        writeln!(self.output, "{line}").unwrap();
    }

    fn take(&mut self, lines: usize) -> Vec<String> {
        self.input.by_ref().take(lines).map(Result::unwrap).collect()
    }
}

fn options(listener: &TcpListener) -> Options {
    let to = listener.local_addr().unwrap().to_string();
    Options { to, producer: "p".into(), rate: None, give_up_after: Duration::from_secs(60) }
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

/// Runs the client with this input against the server.
fn against(input: &str, server: impl FnOnce(TcpListener) + Send) -> (anyhow::Result<Summary>, Progress) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (options, progress) = (options(&listener), Progress::new(None));
    let input = io::Cursor::new(input.to_owned());
    let summary = thread::scope(|scope| {
        scope.spawn(move || server(listener));
        send(Box::new(input), &options, &progress)
    });
    (summary, progress)
}

#[test]
fn all_lines_arrive_in_order_and_a_missing_line_end_is_added() {
    let (summary, _) = against("1\n\n2\n3", |listener| {
        let mut seen = Seen::accept(&listener, 0);
        assert_eq!(seen.take(4), ["1", "", "2", "3"]);
        seen.say("{\"ack\":4}");
    });
    let summary = summary.unwrap();
    assert_eq!((summary.accepted, summary.rejected), (3, 0));
}

#[test]
fn after_a_hang_up_it_goes_on_behind_what_is_durable() {
    let (summary, progress) = against(&numbers(1..200_001), |listener| {
        let mut seen = Seen::accept(&listener, 0);
        assert_eq!(seen.take(1000).last().unwrap(), "1000");
        seen.say("{\"ack\":500}");
        drop(seen);
        // More was durable than the last acknowledgement told.
        let mut seen = Seen::accept(&listener, 777);
        let rest = seen.take(200_000 - 777);
        assert!(rest.iter().zip(778u32..).all(|(line, number)| *line == number.to_string()));
        seen.say("{\"ack\":200000}");
    });
    assert_eq!(summary.unwrap().accepted, 200_000);
    assert_eq!(progress.acknowledged(), 200_000);
}

#[test]
fn what_an_earlier_run_left_is_not_sent_again() {
    let (summary, _) = against(&numbers(1..11), |listener| {
        let mut seen = Seen::accept(&listener, 7);
        assert_eq!(seen.take(3), ["8", "9", "10"]);
        seen.say("{\"ack\":10}");
    });
    let summary = summary.unwrap();
    assert_eq!((summary.accepted, summary.already_there), (3, 7));
}

#[test]
fn refused_lines_are_counted_once_with_their_reasons() {
    let (summary, progress) = against("1\nx\n3\ny\n", |listener| {
        let mut seen = Seen::accept(&listener, 0);
        seen.take(4);
        seen.say("{\"reject\":{\"seq\":2,\"error\":\"no\"}}");
        drop(seen);
        let mut seen = Seen::accept(&listener, 0);
        seen.take(4);
        seen.say("{\"reject\":{\"seq\":2,\"error\":\"no\"}}");
        seen.say("{\"reject\":{\"seq\":4,\"error\":\"not this either\"}}");
        seen.say("{\"ack\":4}");
    });
    let summary = summary.unwrap();
    assert_eq!((summary.accepted, summary.rejected), (2, 2));
    assert_eq!(progress.first_reasons(), [(2, "no".to_owned()), (4, "not this either".to_owned())]);
}

#[test]
fn who_is_taken_over_does_not_fight() {
    let (summary, _) = against("1\n", |listener| {
        let mut seen = Seen::accept(&listener, 0);
        seen.say(&format!("{{\"error\":\"{}\"}}", crate::protocol::session::TAKEN_OVER));
    });
    assert!(summary.unwrap_err().to_string().contains("took over"));
}
