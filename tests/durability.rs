//! Promise 4: what happens to the files of a data directory is repaired, refused with its place, or rebuilt.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use support::{Setup, count, http, interests_in, line, producer};

fn lines(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|n| line(n % 50, n % 7, n % 3 == 0)).collect()
}

fn segment(data_dir: &Path) -> PathBuf {
    data_dir.join("log").join("00000000000000000000.log")
}

/// A data directory that a node was stopped on, with a model, a checkpoint and 1,000 events behind it.
fn stopped(data_dir: &Path) -> Setup {
    let setup = Setup::new(data_dir);
    let node = setup.start();
    for from in (0..1000).step_by(100) {
        node.send_plain(lines(from, from + 100).concat().as_bytes());
    }
    node.train();
    assert!(node.stop().success());
    setup
}

/// The crash: the machine stopped while a commit was being written.
#[test]
fn a_torn_tail_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let setup = stopped(dir.path());
    let mut bytes = fs::read(segment(dir.path())).unwrap();
    bytes.extend_from_within(20..90);
    fs::write(segment(dir.path()), bytes).unwrap();
    let node = setup.start();
    assert!(node.log().contains("cut off 70 bytes of an unfinished commit"), "{}", node.log());
    assert_eq!(node.send_plain(line(1, 1, false).as_bytes()), "{\"accepted\":1,\"rejected\":0}\n");
    node.kill();
    let all: Vec<String> = lines(0, 1000).into_iter().chain([line(1, 1, false)]).collect();
    assert_eq!(interests_in(dir.path()), count(all.iter().map(String::as_str)));
}

#[test]
fn a_flipped_byte_in_the_middle_is_refused_with_its_place_and_skipped_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let setup = stopped(dir.path());
    let mut bytes = fs::read(segment(dir.path())).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(segment(dir.path()), bytes).unwrap();
    let (code, said) = setup.start_in_vain();
    assert_eq!(code, Some(1));
    assert!(said.contains("the event log is damaged: ") && said.contains("00000000000000000000.log, byte "), "{said}");
    assert!(said.contains("event_log.on_damage=skip"), "{said}");
    let node = setup.set("event_log.on_damage=skip").start();
    assert_eq!(node.send_plain(line(1, 1, false).as_bytes()), "{\"accepted\":1,\"rejected\":0}\n");
}

/// A full disk: nothing that could not be written is acknowledged, the node goes on, and so does the producer when there is room again.
#[test]
fn a_full_disk_refuses_and_the_producer_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).failpoints("log::write=2*off->3*return->off").start();
    for number in 0..2 {
        assert_eq!(node.send_plain(line(number, 1, false).as_bytes()), "{\"accepted\":1,\"rejected\":0}\n");
    }
    let refused = node.send_plain(line(7, 1, false).as_bytes());
    let why = format!("{{\"error\":\"cannot append to {}", segment(dir.path()).display());
    assert!(refused.starts_with(&format!("{{\"accepted\":0,\"rejected\":0}}\n{why}")), "{refused}");
    let answer = http::post(node.http, "/bdr", "application/json", line(7, 1, false).as_bytes());
    assert_eq!(answer.status, 503);
    let lines = lines(0, 100);
    let acknowledged = AtomicU64::new(0);
    producer::send_all(node.events, "shop", &lines, &acknowledged);
    assert_eq!(http::get(node.http, "/healthcheck").status, 200);
    assert!(node.stop().success());
    let all: Vec<String> = (0..2).map(|number| line(number, 1, false)).chain(lines).collect();
    assert_eq!(interests_in(dir.path()), count(all.iter().map(String::as_str)));
}

#[test]
fn a_deleted_store_is_rebuilt_from_the_log_and_trained_again() {
    let dir = tempfile::tempdir().unwrap();
    let setup = stopped(dir.path());
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let node = setup.start();
    // Without anybody asking for it: the store knew the model.
    support::eventually("a model", || (http::get(node.http, "/model").status == 200).then_some(()));
    assert_eq!(http::get(node.http, "/bdr?user=7").json()["recommendedProducts"].as_array().unwrap().len(), 5);
    assert!(node.stop().success());
    assert_eq!(interests_in(dir.path()), count(lines(0, 1000).iter().map(String::as_str)));
}

#[test]
fn a_store_that_cannot_be_opened_is_moved_aside_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let setup = stopped(dir.path());
    let db = dir.path().join("sled").join("db");
    fs::remove_file(&db).unwrap();
    fs::create_dir(&db).unwrap();
    let node = setup.start();
    assert!(node.log().contains("moved aside, rebuilding from the log"), "{}", node.log());
    assert!(node.stop().success());
    assert!(dir.path().join("sled.damaged").exists());
    assert_eq!(interests_in(dir.path()), count(lines(0, 1000).iter().map(String::as_str)));
}

/// sled takes garbage for a torn tail and begins empty without a word; the log knows better.
#[test]
fn a_store_full_of_garbage_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let setup = stopped(dir.path());
    let db = dir.path().join("sled").join("db");
    let length = fs::metadata(&db).unwrap().len() as usize;
    for garbage in [vec![0xa5; length], fs::read(&db).unwrap()[..length / 2].to_vec()] {
        fs::write(&db, garbage).unwrap();
        assert!(setup.start().stop().success());
        assert_eq!(interests_in(dir.path()), count(lines(0, 1000).iter().map(String::as_str)));
    }
}

#[test]
fn a_restart_serves_the_same_model_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let setup = stopped(dir.path());
    let node = setup.start();
    let model = http::get(node.http, "/model");
    assert_eq!((model.header("x-generation"), model.json()["window"].as_u64()), (Some("1"), Some(1)));
    let before = http::get(node.http, "/bdr?user=7").text();
    assert_eq!(http::get(node.http, "/windows").json()[0]["outcome"], "trained");
    let nothing_new = node.train();
    assert_eq!((&nothing_new["window"], &nothing_new["generation"]), (&1.into(), &1.into()));
    assert!(nothing_new["empty"].as_str().unwrap().contains("nothing was trained"));
    node.kill();
    let node = setup.start();
    assert_eq!(http::get(node.http, "/bdr?user=7").text(), before);
}

#[test]
fn a_data_directory_is_used_by_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let _node = Setup::new(dir.path()).start();
    let (code, said) = Setup::new(dir.path()).start_in_vain();
    assert_eq!(code, Some(1));
    assert!(said.contains("is in use by another bdr"), "{said}");
}
