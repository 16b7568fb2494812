//! An actor that panics is built anew from durable state: counted, nothing acknowledged is lost, readers notice nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use support::{Setup, count, eventually, http, interests_in, line, producer};

const EVENTS: u32 = 40_000;

/// Streams events into a node in which `actor` panics once at `place`, trains, and asks for recommendations all the while.
fn survives_a_panic(actor: &str, place: &str) {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path()).set("als.iterations=2").failpoints(place);
    let lines: Vec<String> = (0..EVENTS).map(|n| line(n % 701, n % 97, n % 5 == 0)).collect();
    let node = setup.start();
    // So that readers have something to see from the first: a model, and a user it knows.
    assert_eq!(node.send_plain(line(1_000_000, 1, false).repeat(3).as_bytes()), "{\"accepted\":3,\"rejected\":0}\n");
    node.train();
    let acknowledged = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let questions = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut questions = 0;
            while !done.load(Ordering::SeqCst) {
                let answer = http::get(node.http, "/bdr?user=1000000");
                assert_eq!((answer.status, answer.header("x-source")), (200, Some("als")), "{answer:?}");
                questions += 1;
            }
            questions
        });
        producer::send_all(node.events, "shop", &lines[..EVENTS as usize / 2], &acknowledged);
        node.train();
        producer::send_all(node.events, "shop", &lines, &acknowledged);
        node.train();
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    assert!(questions > 0);
    assert_eq!(acknowledged.load(Ordering::SeqCst), u64::from(EVENTS));
    let restarts = format!("bdr_actor_restarts_total{{actor=\"{actor}\"}}");
    eventually("restart", || (node.metric(&restarts) >= 1.0).then_some(()));
    let recommended = http::get(node.http, "/bdr?user=7");
    assert_eq!(recommended.json()["recommendedProducts"].as_array().unwrap().len(), 5);
    assert!(node.stop().success());
    let first = line(1_000_000, 1, false);
    let expected = count(lines.iter().map(String::as_str).chain([first.as_str(); 3]));
    assert!(interests_in(dir.path()) == expected, "the interests differ from a single pass");
}

#[test]
fn ingest_is_built_anew() {
    survives_a_panic("ingest", "ingest::submit=9*off->1*panic(on purpose)->off");
}

#[test]
fn counter_is_built_anew_when_it_dies_before_the_log() {
    survives_a_panic("counter", "counter::append=9*off->1*panic(on purpose)->off");
}

#[test]
fn counter_is_built_anew_when_it_dies_behind_the_log() {
    survives_a_panic("counter", "counter::durable=9*off->1*panic(on purpose)->off");
}

#[test]
fn trainer_is_built_anew() {
    survives_a_panic("trainer", "trainer::handle=1*off->1*panic(on purpose)->off");
}

#[test]
fn publisher_is_built_anew() {
    survives_a_panic("publisher", "publisher::publish=1*off->1*panic(on purpose)->off");
}

/// A panic in the training itself is no actor's death: the window fails, the next one trains.
#[test]
fn a_panic_in_the_training_is_a_failed_window() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).failpoints("trainer::train=1*panic(on purpose)->off").start();
    node.send_plain(line(1, 2, true).as_bytes());
    let answer = http::post(node.http, "/windows?wait=true", "", b"");
    assert_eq!(answer.status, 500);
    assert!(answer.json()["error"].as_str().unwrap().contains("on purpose"), "{answer:?}");
    assert_eq!(http::get(node.http, "/windows").json()[0]["outcome"], "failed");
    assert_eq!(node.metric("bdr_windows_total{outcome=\"failed\"}"), 1.0);
    assert_eq!(node.train()["window"], 2);
    assert_eq!(http::get(node.http, "/bdr?user=1").header("x-source"), Some("als"));
}
