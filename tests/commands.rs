//! The other commands as a user types them, and the real data of the talk where it is at hand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{Setup, count, http, interests_in, line};

fn bdr(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bdr")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn send_counts_everything_resumes_and_tells_what_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&dir.path().join("data")).start();
    let file = dir.path().join("events.ndjson");
    let lines: Vec<String> = (0..20_000).map(|n| line(n % 300, n % 40, n % 9 == 0)).collect();
    fs::write(&file, lines.concat()).unwrap();
    let (path, to) = (file.to_str().unwrap(), node.events.to_string());
    let send = |producer| bdr(&["send", path, "--to", &to, "--producer", producer, "--json"]);
    let first = send("shop");
    assert!(first.status.success(), "{}", text(&first.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!((&summary["accepted"], &summary["rejected"]), (&20_000.into(), &0.into()));
    assert!(summary["seconds"].is_number() && summary["events_per_second"].is_number());
    // The same again under the same name sends nothing.
    assert!(send("shop").status.success());
    fs::write(&file, format!("{}nonsense\n", lines.concat())).unwrap();
    let third = send("shop");
    assert_eq!(third.status.code(), Some(1));
    assert!(text(&third.stderr).contains("line 20001: the line is not a JSON object"), "{}", text(&third.stderr));
    assert!(node.stop().success());
    assert_eq!(interests_in(&dir.path().join("data")), count(lines.iter().map(String::as_str)));
}

#[test]
fn wrong_usage_and_settings_end_with_code_2_and_say_what_was_meant() {
    for (arguments, expected) in [
        (&["serve", "--set", "windw.every=3s"][..], "did you mean `window.every`?"),
        (&["serve", "--set", "window.every=soon"], "it must be a duration"),
        (&["serve", "--config", "/nowhere/bdr.toml"], "/nowhere/bdr.toml"),
        (&["sevre"], "'serve'"),
        (&["generate"], "--events"),
        (&["replay", "--until", "tomorrow"], "expected a time such as 2026-11-23T10:00:00Z"),
        (&["export", "everything", "--out", "x"], "possible values: interests"),
        (&["serve", "--set", "also_bought.scroe=llr"], "did you mean `also_bought.score`?"),
    ] {
        let output = bdr(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
    }
    assert!(text(&bdr(&[]).stdout).contains("Usage: bdr"));
    assert!(text(&bdr(&["completions", "bash"]).stdout).contains("_bdr"));
}

#[test]
fn an_error_says_its_cause_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs::write(&file, "").unwrap();
    let below = file.join("data");
    let no_data_dir = bdr(&["serve", "--data-dir", below.to_str().unwrap()]);
    let node = Setup::new(&dir.path().join("data")).start();
    let (other, taken) = (dir.path().join("other"), format!("ingest.listen={}", node.events));
    let no_port =
        bdr(&["serve", "--data-dir", other.to_str().unwrap(), "--set", &taken, "--set", "http.listen=127.0.0.1:0"]);
    for (output, cause) in [(no_data_dir, "Not a directory"), (no_port, "Address already in use")] {
        let said = text(&output.stderr);
        let complaint = said.lines().find(|line| line.starts_with("bdr: ")).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(complaint.matches(cause).count(), 1, "{complaint}");
    }
}

#[test]
fn the_shipped_settings_are_what_the_binary_shows() {
    let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/bdr.toml")).unwrap();
    assert_eq!(text(&bdr(&["config", "show"]).stdout), shipped);
    let check = bdr(&["config", "check", "--config", concat!(env!("CARGO_MANIFEST_DIR"), "/config/bdr.toml")]);
    assert!(check.status.success() && text(&check.stdout).contains("settings are valid"), "{}", text(&check.stdout));
}

#[test]
fn train_finds_the_tastes_that_generated_traffic_has() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.ndjson");
    fs::write(&file, bdr(&["generate", "--events", "20000", "--users", "500", "--products", "200"]).stdout).unwrap();
    let path = file.to_str().unwrap();
    let report: serde_json::Value =
        serde_json::from_slice(&bdr(&["train", path, "--holdout", "--json", "--set", "als.alpha=1"]).stdout).unwrap();
    assert_eq!((&report["users"], &report["rank"], &report["iterations"]), (&500.into(), &10.into(), &20.into()));
    assert!(report["loss"].as_f64().unwrap() > 0.0 && report["peak_rss_bytes"].as_u64().unwrap() > 1_000_000);
    let ndcg = |name: &str| report["holdout"][name]["ndcg"][1].as_f64().unwrap();
    assert!(ndcg("als") > 1.5 * ndcg("popular"), "{report}");
    let best = dir.path().join("best.toml");
    let tuned = bdr(&["tune", path, "--candidates", "4", "--out", best.to_str().unwrap()]);
    assert!(tuned.status.success(), "{}", text(&tuned.stderr));
    assert_eq!(text(&tuned.stdout).matches("iterations each").count(), 3);
    assert!(bdr(&["config", "check", "--config", best.to_str().unwrap()]).status.success());
    let missing = bdr(&["train", "/nowhere/events.ndjson"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("cannot read /nowhere/events.ndjson"));
}

#[test]
fn generate_is_reproducible() {
    let once = bdr(&["generate", "--events", "1000", "--seed", "7"]);
    assert_eq!(once.stdout.split(|&byte| byte == b'\n').count(), 1001);
    assert_eq!(once.stdout, bdr(&["generate", "--events", "1000", "--seed", "7"]).stdout);
}

/// A hundred real events of the talk, where the data lies beside the project.
#[test]
fn the_talks_own_events_give_five_products() {
    let data: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/events.sample.ndjson");
    let Ok(events) = fs::read_to_string(&data) else {
        eprintln!("no {}: nothing to try", data.display());
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(dir.path()).set("events.schema=talk").start();
    assert_eq!(node.send_plain(events.as_bytes()), "{\"accepted\":100,\"rejected\":0}\n");
    node.train();
    let answer = http::get(node.http, "/bdr?user=2105").json();
    assert_eq!(answer["recommendedProducts"].as_array().unwrap().len(), 5);
    assert!(node.stop().success());
    assert_eq!(interests_in(dir.path()), count(events.lines()));
}
