//! Proves that the scanner can fail: every rule is shown a snippet that breaks it and one that does not.

use super::rules::inspect;

/// The problems found in `text`, which is planted at `path` below an opening sentence.
fn check(path: &str, text: &str) -> Vec<String> {
    let opened = match path.rsplit('.').next() {
        Some("rs") => format!("//! Decides what it decides.\n{text}"),
        Some("py") => format!("\"\"\"Decides what it decides.\"\"\"\n{text}"),
        _ => text.to_owned(),
    };
    inspect(path, &opened).into_iter().map(|b| format!("{}: {}", b.place, b.problem)).collect()
}

#[track_caller]
fn refused(path: &str, text: &str, expected: &str) {
    let found = check(path, text);
    assert!(
        found.len() == 1 && found[0].contains(expected),
        "{path} with\n{text}\nshould break one rule ({expected}), but found {found:#?}"
    );
}

#[track_caller]
fn accepted(path: &str, text: &str) {
    let found = check(path, text);
    assert!(found.is_empty(), "{path} with\n{text}\nis fine, but found {found:#?}");
}

#[test]
fn core_names_nothing_of_the_world() {
    for line in [
        "use tokio::sync::mpsc;",
        "use std::fs;",
        "use std::{fmt, net};",
        "fn now() -> std::time::Instant { later() }",
        "fn roll() -> u8 { rand::random() }",
        "use crate::node::clock;",
        "async fn wait() {}",
        "use std::collections::HashMap;",
    ] {
        refused("src/core/cluster/state.rs", line, "in src/core/: ");
    }
    accepted("src/core/cluster/state.rs", "use std::collections::BTreeMap;\nfn operand() {}");
    accepted("src/core/cluster/state.rs", "// tokio is not used\nconst NAME: &str = \"openraft\";");
    accepted("src/node/driver.rs", "use tokio::sync::mpsc;\nuse std::collections::HashMap;");
}

#[test]
fn siblings_in_core_are_strangers() {
    refused("src/core/election/score.rs", "use crate::core::cluster::state;", "siblings");
    refused("src/core/worker.rs", "use super::scheduling::leases;", "siblings");
    refused("src/core/worker.rs", "use crate::core::{ids, scheduling};", "siblings");
    refused("src/core/scheduling/leases.rs", "use super::super::worker::Worker;", "siblings");
    accepted("src/core/election/score.rs", "use crate::core::load::Load;");
}

#[test]
fn imports_point_downward() {
    refused("src/node/mod.rs", "use crate::python::errors;", "downward");
    refused("src/node/execution/thread.rs", "use pyo3::prelude::*;", "downward");
    refused("src/sim/network.rs", "use tonic::Status;", "simulated");
    refused("src/python/node.rs", "use openraft::Raft;", "converts");
    accepted("src/python/node.rs", "use pyo3::prelude::*;\nuse crate::node::Node;");
}

#[test]
fn protobuf_stays_at_the_border() {
    refused("src/node/driver.rs", "use tonic::Status;", "transport/ and client/ only");
    refused("src/node/driver.rs", "use super::proto::Envelope;", "transport/ and client/ only");
    accepted("src/node/transport/wire.rs", "use prost::Message;\nuse crate::node::proto;");
    accepted("src/node/client/stream.rs", "use tonic::Status;");
}

#[test]
fn every_select_is_biased() {
    let biased = "fn f() { tokio::select! { biased; _ = a => {} } }";
    let random = "fn f() { tokio::select! { _ = a => {} } }";
    let late = "fn f() { select! { _ = a => {} biased; } }";
    accepted("src/node/driver.rs", biased);
    refused("src/node/driver.rs", random, "without `biased;`");
    refused("src/node/driver.rs", late, "without `biased;`");
    accepted("src/node/driver.rs", "fn f() { select! { /* why */ biased; _ = a => {} } }");
}

#[test]
fn watch_of_tokio_is_refused_however_it_is_imported() {
    refused("src/node/a.rs", "use tokio::sync::watch;", "wakes waiters");
    refused("src/node/a.rs", "use tokio::sync::{mpsc, watch};", "wakes waiters");
    refused("src/node/a.rs", "fn f() { let x = tokio::sync::watch::channel(1); }", "wakes waiters");
    accepted("src/node/a.rs", "use super::consensus::watch;\nuse tokio::sync::{mpsc, oneshot};");
}

#[test]
fn files_have_a_bound_that_tests_do_not_count_against() {
    let lines = |n: usize| "const A: u8 = 1;\n".repeat(n);
    accepted("src/a.rs", &lines(400));
    refused("src/a.rs", &lines(401), "401 lines");
    accepted("src/a.rs", &format!("{}{}", "/// Why.\n".repeat(300), lines(400)));
    refused("python/hustings/a.py", &"a = 1\n".repeat(401), "401 lines");
    let documented = format!("def f():\n    \"\"\"Says\n{}    \"\"\"\n", "    x\n".repeat(400));
    accepted("python/hustings/a.py", &documented);
    let text = format!("A = \"\"\"\n{}\"\"\"\n", "x\n".repeat(400));
    refused("python/hustings/a.py", &text, "402 lines");
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(300), lines(300));
    accepted("src/a.rs", &tests);
    accepted("src/a/tests.rs", &lines(600));
}

#[test]
fn functions_have_a_bound() {
    let function = |n: usize| format!("fn long(a: [u8; 4]) {{\n{}}}\n", "    step();\n".repeat(n));
    accepted("src/a.rs", &function(58));
    refused("src/a.rs", &function(59), "src/a.rs:2: long has 61 lines");
    accepted("src/a.rs", &format!("trait T {{ fn no_body(&self); }}\n{}", function(10)));
    accepted("src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(90)));
    let method = |n: usize| format!("class A:\n    def f(self):\n{}", "        x()\n\n".repeat(n));
    accepted("python/hustings/a.py", &method(29));
    refused("python/hustings/a.py", &method(31), "f has 62 lines");
}

#[test]
fn braces_in_literals_do_not_confuse_the_count() {
    let text = "fn a() { let _ = (\"}{\", '{', '\\'', r#\"}\"{\"#, b\"{\"); }\n\
                fn b<'a>(x: &'a str) -> &'a str { x /* { /* { */ */ } // {\n";
    let found = super::rules::measure("src/a.rs", text).functions;
    assert_eq!(found, [(1, "a".to_owned(), 1), (2, "b".to_owned(), 1)]);
}

#[test]
fn lines_have_a_bound() {
    let comment = |n: usize| format!("// {}\n", "x".repeat(n - 3));
    accepted("src/a.rs", &comment(120));
    refused("src/a.rs", &comment(121), "121 columns");
    refused("src/a.rs", &format!("const A: u8 = {};", "1".repeat(90)), "105 columns");
    accepted("src/lib.rs", &format!("// {}▶", "─".repeat(140)));
    accepted("src/config.rs", &format!("    knob!({}),", "x".repeat(140)));
}

#[test]
fn empty_names_are_refused() {
    for path in ["src/node/utils.rs", "src/helpers/a.rs", "python/hustings/_common.py"] {
        refused(path, "", "says nothing");
    }
    accepted("src/node/commander.rs", "");
}

#[test]
fn unfinished_work_and_machine_paths_are_refused_even_in_comments() {
    refused("src/a.rs", "// TODO later", "TODO");
    refused("python/hustings/a.py", "# FIXME", "FIXME");
    refused("README.md", "Run /home/somebody/bin/x.\n", "path of one machine");
    accepted("README.md", "See ~/.config and /etc/hosts; XXXL is a size.\n");
}

#[test]
fn files_say_what_they_do() {
    let silent = inspect("src/a.rs", "use std::fmt;\n");
    assert_eq!(silent.len(), 1, "{silent:?}");
    assert_eq!(inspect("python/hustings/a.py", "import os\n").len(), 1);
}
