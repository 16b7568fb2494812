//! The house rules, as a test: who may import whom, what pure modules may not touch, how long files and functions may be, and that documents and
//! dashboards speak of what exists.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Module, and which of ours it may import. `src/lib.rs` and `src/main.rs` are free.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("varint", &[]),
    ("random", &[]),
    ("memory", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("metrics", &[]),
    ("window", &[]),
    ("ids", &["varint"]),
    ("event", &["ids", "varint"]),
    ("protocol", &["event", "ids"]),
    ("interests", &["event", "ids", "memory", "varint"]),
    ("generate", &["random", "event", "ids"]),
    ("als", &["interests", "memory", "random"]),
    ("also_bought", &["ids", "interests", "memory"]),
    ("ranking", &["als", "ids"]),
    ("model", &["als", "also_bought", "ids", "interests", "ranking"]),
    ("training", &["als", "also_bought", "ids", "interests", "model"]),
    ("evaluation", &["ids", "interests", "model"]),
    ("log", &["clock", "event", "ids"]),
    ("store", &["als", "also_bought", "event", "ids", "interests", "log", "model", "varint", "window"]),
    ("export", &["clock", "event", "ids", "interests", "log", "model"]),
    ("backup", &["also_bought", "config", "ids", "log", "model", "recover", "store", "window"]),
    ("replay", &["als", "also_bought", "clock", "event", "interests", "log", "model", "training"]),
    ("recover", &["also_bought", "config", "event", "ids", "interests", "log", "store"]),
    (
        "actors",
        &[
            "als",
            "also_bought",
            "clock",
            "config",
            "interests",
            "log",
            "metrics",
            "model",
            "protocol",
            "recover",
            "server",
            "store",
            "training",
            "window",
        ],
    ),
    (
        "server",
        &[
            "actors",
            "als",
            "also_bought",
            "backup",
            "clock",
            "config",
            "event",
            "export",
            "ids",
            "interests",
            "log",
            "metrics",
            "model",
            "protocol",
            "recover",
            "replay",
            "store",
            "window",
        ],
    ),
    (
        "cli",
        &[
            "actors",
            "als",
            "also_bought",
            "backup",
            "clock",
            "config",
            "evaluation",
            "event",
            "export",
            "generate",
            "ids",
            "interests",
            "metrics",
            "model",
            "protocol",
            "random",
            "recover",
            "replay",
            "store",
            "training",
        ],
    ),
];

/// Modules that compute and nothing else.
const PURE: &[&str] = &[
    "varint",
    "random",
    "memory",
    "ids",
    "event",
    "protocol",
    "interests",
    "window",
    "generate",
    "als",
    "also_bought",
    "ranking",
    "model",
    "training",
    "evaluation",
    "config",
];
/// What pure modules may not name.
const IMPURE: &[&str] = &[
    "actix",
    "tokio",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "std::env",
    "SystemTime",
    "Instant::now",
    "thread::spawn",
    "println!",
];

const MOST_LINES: usize = 500;
const MOST_LINES_OF_AN_ACTOR: usize = 300;
const MOST_LINES_OF_A_FUNCTION: usize = 70;

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// The top module of a source file, `None` for the crate's roots.
fn module(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").ok()?.components().next()?.as_os_str().to_str()?;
    let name = first.trim_end_matches(".rs");
    (name != "lib" && name != "main").then(|| name.to_owned())
}

/// The text without its tests.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
}

#[test]
fn modules_import_what_the_table_allows() {
    for (path, text) in sources("src") {
        let Some(module) = module(&path).filter(|_| !is_test(&path)) else { continue };
        let row = MAY_IMPORT.iter().find(|(name, _)| *name == module);
        let (_, allowed) = row.unwrap_or_else(|| panic!("module {module} is not in the table"));
        for part in production(&text).split("crate::").skip(1) {
            let imported: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let fine = imported == module || allowed.contains(&imported.as_str());
            assert!(fine, "{}: {module} may not import {imported}", path.display());
        }
    }
}

/// Actors know messages, never each other; only the node connects them.
#[test]
fn actors_do_not_know_each_other() {
    let actors = ["ingest", "counter", "trainer", "publisher"];
    for (path, text) in sources("src/actors") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if actors.contains(&name.as_str()) {
            for other in actors.iter().filter(|other| **other != name) {
                assert!(!text.contains(&format!("super::{other}")), "{name} knows {other}");
                assert!(!text.contains(&format!("actors::{other}")), "{name} knows {other}");
            }
        }
    }
}

#[test]
fn pure_modules_do_nothing_but_compute() {
    for (path, text) in sources("src") {
        if module(&path).is_some_and(|module| PURE.contains(&module.as_str())) {
            for name in IMPURE {
                let found =
                    production(&text).lines().find(|line| line.contains(name) && !line.trim_start().starts_with("//"));
                assert!(found.is_none(), "{} is pure and names {name}: {found:?}", path.display());
            }
        }
    }
}

#[test]
fn files_tell_their_story_and_end_in_time() {
    for (path, text) in sources("src").into_iter().chain(sources("tests")).chain(sources("benches")) {
        assert!(text.starts_with("//!"), "{} does not begin with its story", path.display());
        let lines = text.lines().count();
        let actor = path.starts_with("src/actors");
        let most = if actor { MOST_LINES_OF_AN_ACTOR } else { MOST_LINES };
        assert!(lines <= most, "{} has {lines} lines, more than {most}", path.display());
    }
}

#[test]
fn functions_fit_on_a_screen() {
    for (path, text) in sources("src") {
        let mut begun: Option<(usize, usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let begins = ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(super) fn ", "pub(crate) async fn "]
                .iter()
                .any(|start| line.trim_start().starts_with(start));
            if begins && begun.is_none() && !line.trim_end().ends_with(['}', ';']) {
                begun = Some((number, indent, line.trim().to_owned()));
            } else if let Some((start, depth, name)) = &begun
                && indent == *depth
                && line.trim_start().starts_with('}')
            {
                let lines = number - start + 1;
                assert!(lines <= MOST_LINES_OF_A_FUNCTION, "{}: {name} has {lines} lines", path.display());
                begun = None;
            }
        }
    }
}

/// Unsafe code is for the kernels, and each block says why it is sound.
#[test]
fn unsafe_code_stays_in_the_kernels() {
    for (path, text) in sources("src") {
        let uses = text.lines().filter(|line| line.contains("unsafe ") && !line.trim_start().starts_with("//")).count();
        if uses > 0 {
            assert!(path.starts_with("src/als/kernel"), "{} has unsafe code", path.display());
            assert!(text.contains("SAFETY"), "{} does not say why its unsafe code is sound", path.display());
        }
    }
}

/// The names that begin with `bdr_` in a text, without the suffixes that histograms add.
fn metric_names(text: &str) -> BTreeSet<String> {
    let names = text.split("bdr_").skip(1);
    let names =
        names.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>());
    names
        .map(|name| {
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
            format!("bdr_{base}")
        })
        .collect()
}

#[test]
fn dashboards_and_readme_name_metrics_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let known = fs::read_to_string(root.join("src/metrics.rs")).unwrap();
    for file in ["dashboards/bigdatariver.json", "dashboards/alerts.yml", "README.md", "ARCHITECTURE.md"] {
        for name in metric_names(&fs::read_to_string(root.join(file)).unwrap()) {
            assert!(known.contains(&format!("\"{name}\"")), "{file} names {name}, which src/metrics.rs does not");
        }
    }
}

/// Every route of the server is described in its OpenAPI document, and nothing else is.
#[test]
fn every_route_is_described() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let server = fs::read_to_string(root.join("src/server/http/mod.rs")).unwrap();
    let routes: BTreeSet<String> =
        server.split("web::resource(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    let described: BTreeSet<String> = sources("src/server/http")
        .iter()
        .flat_map(|(_, text)| {
            text.split("path = \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(routes, described);
}
