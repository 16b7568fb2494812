//! Promise 2: whatever arrives, the process stays up and its memory stays bounded; what is refused is refused with a reason.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use support::{PATIENCE, Setup, http, interests_in, line};

const GOOD: &str = "{\"user_id\":1,\"product\":2}";

#[test]
fn every_bad_line_gets_its_reason_and_the_good_ones_beside_it_count() {
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join("dead.ndjson");
    let node = Setup::new(&dir.path().join("data")).set(&format!("ingest.dead_letter={}", dead.display())).start();
    let long = format!("{{\"user_id\":1,\"product\":2,\"note\":\"{}\"}}", "x".repeat(1 << 20));
    let long_id = format!("{{\"user_id\":\"{}\",\"product\":2}}", "x".repeat(129));
    let bad: [(&[u8], &str); 13] = [
        (b"hello", "the line is not a JSON object"),
        (b"[1,2]", "the line is not a JSON object"),
        (b"{\"user_id\":\"\xff\",\"product\":2}", "the line is not UTF-8 (first bad byte at position 13)"),
        (long.as_bytes(), "the line is longer than 16384 bytes"),
        (b"{\"product\":2}", "member `user_id` is missing"),
        (b"{\"user_id\":1}", "member `product` is missing"),
        (b"{\"user_id\":1.5,\"product\":2}", "member `user_id` must be an integer or a string of 1 to 128 bytes"),
        (
            b"{\"user_id\":1,\"product\":null}",
            "member `product` must be an integer or a string of 1 to 128 bytes, got null",
        ),
        (b"{\"user_id\":1,\"product\":2,\"is_purchase\":2}", "member `is_purchase` must be 0 or 1, got 2"),
        (b"{\"user_id\":1,\"product\":2,\"date_time\":\"now\"}", "member `date_time` must be an RFC 3339 time"),
        (b"{\"user_id\":1,\"product\":99999999999999999999}", "member `product` must be an integer or a string"),
        (
            long_id.as_bytes(),
            "member `user_id` must be an integer or a string of 1 to 128 bytes, got a string of 129 bytes",
        ),
        (b"\0\0\0{\"user_id\":1,\"product\":2}", "the line is not a JSON object"),
    ];
    let mut input = Vec::from("{\"hello\":{\"producer\":\"p\"}}\n");
    for (line, _) in &bad {
        input.extend_from_slice(GOOD.as_bytes());
        input.push(b'\n');
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    // The last line is cut off: half a line, then the end.
    input.extend_from_slice(b"{\"user_id\":1,\"pro");
    let answers = node.send_plain(&input);
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rejects: Vec<&Value> =
        answers.iter().map(|answer| &answer["reject"]).filter(|reject| !reject.is_null()).collect();
    assert_eq!(rejects.len(), bad.len() + 1);
    for (at, (reject, (_, reason))) in rejects.iter().zip(&bad).enumerate() {
        assert_eq!(reject["seq"], 2 * at + 2);
        assert!(reject["error"].as_str().unwrap().starts_with(reason), "{reject} is not {reason}");
    }
    assert_eq!(answers.last().unwrap()["ack"], 2 * bad.len() + 1);
    let letters = fs::read_to_string(&dead).unwrap();
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(letters.len(), rejects.len());
    assert_eq!((&letters[0]["line"], &letters[0]["source"]), (&"hello".into(), &"tcp".into()));
    let not_json = "bdr_events_rejected_total{reason=\"not_json\",source=\"tcp\"}";
    assert_eq!(node.metric(not_json), 4.0);
    assert!(node.stop().success());
    let interests = interests_in(&dir.path().join("data"));
    assert_eq!(interests.into_iter().collect::<Vec<_>>(), [(("1".into(), "2".into()), (bad.len() as u32, 0))]);
}

/// A megabyte of garbage a second for ever would be refused all the same; memory is what must not grow with it.
#[test]
fn memory_stays_bounded_whatever_the_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).start();
    node.send_plain(GOOD.as_bytes());
    let before = node.resident_bytes();
    let endless_line = vec![b'x'; 64 << 20];
    assert_eq!(node.send_plain(&endless_line), "{\"accepted\":0,\"rejected\":1}\n");
    let garbage = b"not an event at all\n".repeat(200_000);
    assert_eq!(node.send_plain(&garbage), "{\"accepted\":0,\"rejected\":200000}\n");
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    assert_eq!(http::get(node.http, "/healthcheck").text(), "{\"healthcheck\":\"ok\"}");
}

#[test]
fn two_thousand_idle_connections_cost_little_and_stop_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).start();
    let before = node.resident_bytes();
    let idle: Vec<TcpStream> = (0..2000).map(|_| TcpStream::connect(node.events).unwrap()).collect();
    support::eventually("all of them", || (node.metric("bdr_connections{listener=\"tcp\"}") >= 2000.0).then_some(()));
    assert_eq!(node.send_plain(GOOD.as_bytes()), "{\"accepted\":1,\"rejected\":0}\n");
    assert_eq!(http::get(node.http, "/bdr?user=1").status, 200);
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes for 2000 idle connections");
    drop(idle);
    support::eventually("end of them", || (node.metric("bdr_connections{listener=\"tcp\"}") == 0.0).then_some(()));
}

#[test]
fn a_connection_beyond_the_limit_hears_why() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).set("ingest.max_connections=1").start();
    let first = TcpStream::connect(node.events).unwrap();
    support::eventually("the first", || (node.metric("bdr_connections{listener=\"tcp\"}") == 1.0).then_some(()));
    let mut answer = String::new();
    TcpStream::connect(node.events).unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "{\"error\":\"too many connections: the limit is 1 (ingest.max_connections)\"}\n");
    drop(first);
}

/// One byte now and then never makes a line: the time of the whole line counts, not of the byte.
#[test]
fn a_connection_that_completes_no_line_is_closed_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).set("ingest.idle_timeout=300ms").start();
    let mut socket = TcpStream::connect(node.events).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers = BufReader::new(socket.try_clone().unwrap());
    let (said, hears) = crossbeam_channel::bounded(2);
    std::thread::spawn(move || {
        for _ in 0..2 {
            let mut answer = String::new();
            answers.read_line(&mut answer).unwrap();
            said.send(answer).unwrap();
        }
    });
    let mut bytes = GOOD.bytes().cycle();
    // A byte every 20 ms, as long as nothing is said.
    let summary = loop {
        if let Ok(answer) = hears.recv_timeout(std::time::Duration::from_millis(20)) {
            break answer;
        }
        let _ = socket.write_all(&[bytes.next().unwrap()]);
    };
    assert_eq!(summary, "{\"accepted\":0,\"rejected\":0}\n");
    assert_eq!(hears.recv().unwrap(), "{\"error\":\"no complete line for 0.3 s (ingest.idle_timeout)\"}\n");
}

#[test]
fn introductions_that_are_not_understood_are_refused_with_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).start();
    assert!(
        node.send_plain(b"{\"hello\":{\"producer\":\"\"}}\n")
            .contains("hello.producer must be a string of 1 to 128 bytes")
    );
    assert!(node.send_plain(b"{\"hello\":7}\n").contains("expected {\\\"hello\\\":{\\\"producer\\\":"));
    assert_eq!(node.send_plain(b""), "{\"accepted\":0,\"rejected\":0}\n");
    assert_eq!(node.send_plain(b"\n\n"), "{\"accepted\":0,\"rejected\":0}\n");
}

#[test]
fn a_newer_connection_takes_a_producers_name_over() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).start();
    let mut older = TcpStream::connect(node.events).unwrap();
    older.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(older, "{{\"hello\":{{\"producer\":\"shop\"}}}}\n{}", line(1, 2, false)).unwrap();
    let mut answers = BufReader::new(older.try_clone().unwrap()).lines().map(Result::unwrap);
    assert_eq!(answers.next().unwrap(), "{\"welcome\":{\"producer\":\"shop\",\"last\":0}}");
    assert_eq!(answers.next().unwrap(), "{\"ack\":1}");
    let newer = node.send_plain(format!("{{\"hello\":{{\"producer\":\"shop\"}}}}\n{}", line(1, 2, false)).as_bytes());
    assert_eq!(newer, "{\"welcome\":{\"producer\":\"shop\",\"last\":1}}\n{\"ack\":2}\n");
    assert!(answers.next().unwrap().contains("took over"));
    assert!(answers.next().is_none());
}

/// What the node says until it hangs up. Its last words may still be on their way while a sender goes on sending, which must
/// not reset the connection.
fn hear_while_sending(socket: &mut TcpStream) -> String {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = String::new();
    socket.read_to_string(&mut heard).unwrap();
    for _ in 0..100 {
        socket.write_all(&[b'\n'; 4096]).unwrap();
    }
    heard
}

#[test]
fn a_sender_that_goes_on_sending_is_not_reset_before_it_hears_why() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).set("ingest.max_connections=2").start();
    let introduced = || {
        let mut socket = TcpStream::connect(node.events).unwrap();
        socket.write_all(b"{\"hello\":{\"producer\":\"shop\"}}\n").unwrap();
        socket.read_exact(&mut [0]).unwrap();
        socket
    };
    let mut older = introduced();
    let _newer = introduced();
    let mut third = TcpStream::connect(node.events).unwrap();
    assert!(hear_while_sending(&mut third).contains("too many connections"));
    assert!(hear_while_sending(&mut older).ends_with("took over\"}\n"));
}
