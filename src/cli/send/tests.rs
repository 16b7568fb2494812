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
        // In one piece: the rest of a line would wait for the first piece to be confirmed.
        self.output.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn take(&mut self, lines: usize) -> Vec<String> {
        self.input.by_ref().take(lines).map(Result::unwrap).collect()
    }

    /// What comes until the client half-closes.
    fn take_all(&mut self) -> Vec<String> {
        self.input.by_ref().map(Result::unwrap).collect()
    }
}

fn options(listener: &TcpListener) -> Options {
    let to = listener.local_addr().unwrap().to_string();
    Options { to, producer: "p".into(), rate: None, give_up_after: Duration::from_secs(60) }
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| number.to_string() + "\n").collect()
}

/// Runs the client with this input against the server.
fn against(input: &str, server: impl FnOnce(TcpListener) + Send) -> (anyhow::Result<Summary>, Progress) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = options(&listener);
    with_options(input, &options, move || server(listener))
}

fn with_options(input: &str, options: &Options, server: impl FnOnce() + Send) -> (anyhow::Result<Summary>, Progress) {
    let progress = Progress::new(None);
    let input = io::Cursor::new(input.to_owned());
    let summary = thread::scope(|scope| {
        scope.spawn(server);
        send(Box::new(input), options, &progress)
    });
    (summary, progress)
}

#[test]
fn all_lines_arrive_in_order_and_a_missing_line_end_is_added() {
    let (summary, _) = against("1\n\n2\n3", |listener| {
        let mut seen = Seen::accept(&listener, 0);
        assert_eq!(seen.take_all(), ["1", "", "2", "3"]);
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
        let rest = seen.take_all();
        assert_eq!(rest.len(), 200_000 - 777);
        assert!(rest.iter().zip(778u32..).all(|(line, number)| *line == number.to_string()));
        seen.say("{\"ack\":200000}");
    });
    assert_eq!(summary.unwrap().accepted, 200_000);
    assert_eq!(progress.acknowledged(), 200_000);
}

#[test]
fn what_an_earlier_run_left_is_not_sent_again() {
    // Blank lines that were there already count neither way.
    let (summary, _) = against("1\n\n3\n4\n\n6\n", |listener| {
        let mut seen = Seen::accept(&listener, 3);
        assert_eq!(seen.take_all(), ["4", "", "6"]);
        seen.say("{\"ack\":6}");
    });
    let summary = summary.unwrap();
    assert_eq!((summary.accepted, summary.already_there), (2, 3));
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

#[test]
fn any_other_last_words_are_a_reason_to_connect_again() {
    let (summary, _) = against(&numbers(1..11), |listener| {
        let mut seen = Seen::accept(&listener, 0);
        seen.say("{\"error\":\"the node is shutting down\"}");
        drop(seen);
        // Not even an introduction is read here; and then nonsense, while the client may be waiting to write.
        drop(listener.accept().unwrap());
        let mut seen = Seen::accept(&listener, 0);
        seen.say("good morning");
        let mut seen = Seen::accept(&listener, 0);
        assert_eq!(seen.take_all().len(), 10);
        seen.say("{\"ack\":10}");
    });
    assert_eq!(summary.unwrap().accepted, 10);
}

#[test]
fn a_node_that_forgot_what_it_acknowledged_gets_nothing_under_wrong_numbers() {
    let (summary, _) = against(&numbers(1..11), |listener| {
        let mut seen = Seen::accept(&listener, 0);
        seen.take(10);
        seen.say("{\"ack\":8}");
        assert!(seen.take_all().is_empty());
        drop(seen);
        Seen::accept(&listener, 5);
    });
    let error = summary.unwrap_err().to_string();
    assert!(error.contains("acknowledged 8 lines and now knows of 5"), "{error}");
}

#[test]
fn another_input_under_a_used_name_is_an_error() {
    let (summary, _) = against(&numbers(1..4), |listener| {
        assert!(Seen::accept(&listener, 7).take_all().is_empty());
    });
    let error = summary.unwrap_err().to_string();
    assert!(error.starts_with("the input has 3 lines, but the node has 7 of producer p already"), "{error}");
}

#[test]
fn who_gives_up_says_how_far_it_got_and_how_to_go_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options { give_up_after: Duration::from_millis(20), ..options(&listener) };
    // The node listens, and says nothing more; its socket stays open.
    let (keep, _kept) = bounded(1);
    let (summary, _) = with_options(&numbers(1..4), &options, move || {
        let mut seen = Seen::accept(&listener, 1);
        assert_eq!(seen.take_all(), ["2", "3"]);
        keep.send((seen, listener)).unwrap();
    });
    let error = summary.unwrap_err().to_string();
    assert!(error.contains("the node acknowledges nothing"), "{error}");
    assert!(error.ends_with("send the same input again with --producer p"), "{error}");
    assert!(error.contains("1 lines are durable"), "{error}");
}

#[test]
fn a_node_that_ends_an_idle_connection_is_called_again_when_there_is_something_to_send() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = options(&listener);
    let (input, mut source) = io::pipe().unwrap();
    let progress = Progress::new(None);
    let summary = thread::scope(|scope| {
        scope.spawn(move || {
            let mut seen = Seen::accept(&listener, 0);
            source.write_all(b"1\n").unwrap();
            seen.take(1);
            seen.say("{\"ack\":1}\n{\"error\":\"no complete line for 1 s\"}");
            assert!(seen.take_all().is_empty());
            drop(seen);
            source.write_all(b"2\n3\n").unwrap();
            drop(source);
            let mut seen = Seen::accept(&listener, 1);
            assert_eq!(seen.take_all(), ["2", "3"]);
            seen.say("{\"ack\":3}");
        });
        send(Box::new(input), &options, &progress)
    });
    assert_eq!(summary.unwrap().accepted, 3);
}

#[test]
fn a_rate_cuts_the_input_into_small_pieces_that_all_arrive() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options { rate: Some(20_000), ..options(&listener) };
    let (summary, _) = with_options(&numbers(1..1_001), &options, move || {
        let mut seen = Seen::accept(&listener, 0);
        assert_eq!(seen.take_all().len(), 1_000);
        seen.say("{\"ack\":1000}");
    });
    assert_eq!(summary.unwrap().accepted, 1_000);
}

#[test]
fn an_input_that_breaks_off_is_sent_up_to_there_and_reported() {
    struct Breaking(bool);

    impl io::Read for Breaking {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("the disk is gone"));
            }
            out[..4].copy_from_slice(b"1\n2\n");
            Ok(4)
        }
    }

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (options, progress) = (options(&listener), Progress::new(None));
    let summary = thread::scope(|scope| {
        scope.spawn(move || {
            let mut seen = Seen::accept(&listener, 0);
            assert_eq!(seen.take_all(), ["1", "2"]);
            seen.say("{\"ack\":2}");
        });
        send(Box::new(Breaking(false)), &options, &progress)
    });
    assert_eq!(
        format!("{:#}", summary.unwrap_err()),
        "cannot read the input to its end; the lines before are durable: the disk is gone"
    );
}

#[test]
fn a_name_that_no_node_takes_is_refused_before_anything_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options { producer: "p".repeat(129), ..options(&listener) };
    let error = send(Box::new(io::empty()), &options, &Progress::new(None)).unwrap_err();
    assert!(error.to_string().contains("1 to 128 bytes"), "{error}");
}
