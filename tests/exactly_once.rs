//! Promise 1: an acknowledged event is on disk, and is counted exactly once, across SIGKILL at any instant and across resends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bigdatariver::random::SplitMix64;
use support::{Setup, count, eventually, http, interests_in, line, producer};

const PRODUCERS: usize = 4;
const EVENTS_EACH: usize = 75_000;
const KILLS: u64 = 20;

/// So that the same pairs come from several producers, and some of them many times.
fn lines_of(producer: usize) -> Vec<String> {
    let mut random = SplitMix64::new(producer as u64);
    (0..EVENTS_EACH).map(|_| line(random.below(2000), random.below(300), random.below(8) == 0)).collect()
}

/// The crash: the process is gone in the middle of commits, checkpoints and the ends of windows, twenty times.
#[test]
fn every_event_is_counted_once_whatever_is_killed_when() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path())
        .set("window.every=200ms")
        .set("checkpoint.every=1s")
        .set("event_log.segment_bytes=1MiB")
        .set("als.iterations=2")
        // Wider gaps for a kill to fall into.
        .failpoints("log::before_sync=10%delay(3);store::before_directory=delay(20);store::before_emptying=delay(20)");
    let lines: Vec<Vec<String>> = (0..PRODUCERS).map(lines_of).collect();
    let acknowledged: Vec<AtomicU64> = (0..PRODUCERS).map(|_| AtomicU64::new(0)).collect();
    let total = (PRODUCERS * EVENTS_EACH) as u64;
    let so_far = || acknowledged.iter().map(|a| a.load(Ordering::SeqCst)).sum::<u64>();
    let node = thread::scope(|scope| {
        let mut node = setup.start();
        for (number, (lines, acknowledged)) in lines.iter().zip(&acknowledged).enumerate() {
            let address = node.events;
            scope.spawn(move || producer::send_all(address, &format!("shop-{number}"), lines, acknowledged));
        }
        let mut random = SplitMix64::new(2026);
        for kill in 1..=KILLS {
            let target = (total * kill / (KILLS + 1)).saturating_sub(u64::from(random.below(5000)));
            eventually("progress", || (so_far() >= target).then_some(()));
            if kill % 3 == 0 {
                // The end of a window is under way when the kill comes.
                let _ = http::request(node.http, "POST", "/windows", "", b"");
            }
            node.kill();
            node = setup.start();
        }
        node
    });
    assert_eq!(so_far(), total);
    let expected = count(lines.iter().flatten().map(String::as_str));
    assert!(node.stop().success());
    assert!(interests_in(dir.path()) == expected, "the interests differ from a single pass");
    // The log alone tells the same.
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    assert!(interests_in(dir.path()) == expected, "the log tells other interests than the checkpoint");
}
