//! The rules of the house as data and small functions; each returns what it found, nothing is printed here.

use super::code::{Code, body, words};

/// Lines of a file; tests and documentation (`///`, `//!`, docstrings) are not counted.
pub const FILE_LINES: usize = 400;
/// Lines of a function, its docstring not counted.
pub const FUNCTION_LINES: usize = 60;
/// Columns of a line of code.
pub const COLUMNS: usize = 100;
/// Columns of a line that is only a comment or a long literal.
pub const PROSE_COLUMNS: usize = 120;

/// A breach: where, and which rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Breach {
    /// `path:line`, or `path`.
    pub place: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

fn breach(path: &str, line: usize, problem: impl Into<String>) -> Breach {
    let place = if line == 0 { path.to_owned() } else { format!("{path}:{line}") };
    Breach { place, problem: problem.into() }
}

/// Words that code in `room` must not name, except below `except`.
struct Wall {
    room: &'static str,
    except: &'static [&'static str],
    names: &'static [&'static str],
    reason: &'static str,
}

const CORE_SIBLINGS: &str =
    "siblings in core do not know each other; core/mod.rs carries values between them";

const WALLS: &[Wall] = &[
    Wall {
        room: "src/core/",
        except: &[],
        names: &[
            "tokio",
            "tonic",
            "prost",
            "openraft",
            "pyo3",
            "sysinfo",
            "rand::rng",
            "rand::random",
            "thread_rng",
            "OsRng",
            "SysRng",
            "from_os_rng",
            "libc",
            "std::fs",
            "std::thread",
            "std::net",
            "std::process",
            "std::env",
            "Instant",
            "SystemTime",
            "async",
            "crate::node",
            "crate::sim",
            "crate::python",
        ],
        reason: "core decides: no files, sockets, threads, clock or randomness of its own",
    },
    Wall {
        room: "src/core/",
        except: &[],
        names: &["HashMap", "HashSet"],
        reason: "iteration order would differ between runs; use BTreeMap or BTreeSet",
    },
    Wall {
        room: "src/core/election/",
        except: &[],
        names: &[
            "core::scheduling",
            "core::worker",
            "super::scheduling",
            "super::worker",
            "cluster::state",
        ],
        reason: CORE_SIBLINGS,
    },
    Wall {
        room: "src/core/cluster/",
        except: &[],
        names: &[
            "core::election",
            "core::scheduling",
            "core::worker",
            "super::election",
            "super::scheduling",
            "super::worker",
        ],
        reason: CORE_SIBLINGS,
    },
    Wall {
        room: "src/core/scheduling/",
        except: &[],
        names: &["core::election", "core::worker", "super::election", "super::worker"],
        reason: CORE_SIBLINGS,
    },
    Wall {
        room: "src/core/worker",
        except: &[],
        names: &["core::election", "core::scheduling", "super::election", "super::scheduling"],
        reason: CORE_SIBLINGS,
    },
    Wall {
        room: "src/node/",
        except: &[],
        names: &["pyo3", "crate::python", "crate::sim"],
        reason: "imports point downward: python -> sim -> node -> core",
    },
    Wall {
        room: "src/node/",
        except: &[
            "src/node/transport/",
            "src/node/client/",
            "src/node/client.rs",
            "src/node/proto.rs",
        ],
        names: &["prost", "node::proto", "super::proto", "tonic"],
        reason: "protobuf and gRPC types live in transport/ and client/ only",
    },
    Wall {
        room: "src/sim/",
        except: &[],
        names: &["pyo3", "crate::python", "tonic", "prost", "std::thread", "spawn_blocking"],
        reason: "simulated code has no Python, no gRPC and no threads",
    },
    Wall {
        room: "src/python/",
        except: &[],
        names: &["openraft", "tonic", "prost", "node::proto"],
        reason: "python converts and forwards",
    },
];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "manager", "common", "misc"];
/// Unfinished work belongs into an issue.
const BANNED_WORDS: &[&str] = &["TODO", "FIXME", "XXX"];
/// Paths of somebody's machine.
const MACHINE_PATHS: &[&str] = &["/work/", "/home/", "/Users/", "/root/", "C:\\Users"];

/// All breaches of one file.
pub fn inspect(path: &str, text: &str) -> Vec<Breach> {
    let mut found = names(path);
    found.extend(prose(path, text));
    if path.ends_with(".rs") && path.starts_with("src/") {
        let code = Code::of(text);
        found.extend(walls(path, &code));
        found.extend(channels(path, &code));
        found.extend(opening(path, text, "//!"));
        found.extend(sizes(path, &measure(path, text)));
        found.extend(columns(path, text));
    }
    if path.ends_with(".py") {
        found.extend(opening(path, text, "\"\"\""));
        found.extend(sizes(path, &measure(path, text)));
        found.extend(columns(path, text));
    }
    found
}

fn names(path: &str) -> Vec<Breach> {
    let empty = |part: &&str| {
        let stem = part.split('.').next().unwrap_or(part).trim_start_matches('_');
        EMPTY_NAMES.contains(&stem)
    };
    let problem = |part: &str| format!("{part:?} says nothing; name the file after what it holds");
    path.split('/').find(empty).map(|part| breach(path, 0, problem(part))).into_iter().collect()
}

fn prose(path: &str, text: &str) -> Vec<Breach> {
    let mut found = Vec::new();
    // A picture in a notebook is one long line of letters, among which any word may come up.
    let picture = |line: &str| path.ends_with(".ipynb") && line.contains("\"image/png\"");
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !picture(line)) {
        for word in BANNED_WORDS.iter().filter(|word| !words(line, word).is_empty()) {
            found.push(breach(path, n + 1, format!("{word}: finish it or open an issue")));
        }
        for machine in MACHINE_PATHS.iter().filter(|machine| line.contains(**machine)) {
            found.push(breach(path, n + 1, format!("{machine} is a path of one machine")));
        }
    }
    found
}

fn walls(path: &str, code: &Code) -> Vec<Breach> {
    let mut found = Vec::new();
    for wall in WALLS.iter().filter(|wall| path.starts_with(wall.room)) {
        if wall.except.iter().any(|except| path.starts_with(except)) {
            continue;
        }
        for name in wall.names {
            for at in mentions(&code.text, name) {
                let line = code.text[..at].matches('\n').count() + 1;
                let problem = format!("`{name}` in {}: {}", wall.room, wall.reason);
                found.push(breach(path, line, problem));
            }
        }
    }
    found
}

fn channels(path: &str, code: &Code) -> Vec<Breach> {
    let mut found = Vec::new();
    let line = |at: usize| code.text[..at].matches('\n').count() + 1;
    for at in words(&code.text, "select!") {
        let arms = body(&code.text, at).map_or("", |(open, end)| &code.text[open + 1..end]);
        if words(arms.trim_start(), "biased").first() != Some(&0) {
            found.push(breach(path, line(at), "select! without `biased;` polls in random order"));
        }
    }
    for at in mentions(&code.text, "tokio::sync::watch") {
        let problem = "tokio's watch wakes waiters in random order; use consensus::watch";
        found.push(breach(path, line(at), problem));
    }
    found
}

/// Where the path `name` is written out, or taken from a group: `a::b` stands in `a::{c, b}` as well.
fn mentions(text: &str, name: &str) -> Vec<usize> {
    let mut found = words(text, name);
    if let Some((parent, child)) = name.rsplit_once("::") {
        let groups = words(text, &format!("{parent}::{{"));
        found.extend(groups.into_iter().filter(|at| {
            let group = body(text, *at).map_or("", |(open, end)| &text[open..end]);
            !words(group, child).is_empty()
        }));
    }
    found
}

fn opening(path: &str, text: &str, mark: &str) -> Option<Breach> {
    let first = text.trim_start().lines().next().unwrap_or("");
    // An empty `__init__.py` would need no sentence, but ours is the door.
    let opens = first.trim_start_matches('r').starts_with(mark) && first.len() > mark.len() + 3;
    (!opens)
        .then(|| breach(path, 1, format!("opens without a {mark} sentence that says what it does")))
}

/// The sizes of one file.
pub struct Sizes {
    /// Lines without tests and documentation.
    pub lines: usize,
    /// Functions: line, name, length.
    pub functions: Vec<(usize, String, usize)>,
}

/// Measures `text`.
pub fn measure(path: &str, text: &str) -> Sizes {
    if path.ends_with(".py") {
        let lines = docstrings(text).iter().filter(|doc| !**doc).count();
        return Sizes { lines, functions: python_functions(text) };
    }
    if path.ends_with("tests.rs") || path.contains("/tests/") {
        return Sizes { lines: 0, functions: Vec::new() };
    }
    let code = Code::of(text);
    let documents = |line: &str| ["///", "//!"].iter().any(|m| line.trim_start().starts_with(m));
    let lines =
        text.lines().zip(&code.in_tests).filter(|(l, in_test)| !**in_test && !documents(l)).count();
    Sizes { lines, functions: code.functions() }
}

fn sizes(path: &str, sizes: &Sizes) -> Vec<Breach> {
    let mut found = Vec::new();
    if sizes.lines > FILE_LINES {
        let problem = format!("{} lines; split it by phase (at most {FILE_LINES})", sizes.lines);
        found.push(breach(path, 0, problem));
    }
    for (line, name, length) in sizes.functions.iter().filter(|f| f.2 > FUNCTION_LINES) {
        let problem = format!("{name} has {length} lines (at most {FUNCTION_LINES})");
        found.push(breach(path, *line, problem));
    }
    found
}

fn columns(path: &str, text: &str) -> Vec<Breach> {
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let width = line.chars().count();
        let start = line.trim_start();
        let prose = ["//", "#"].iter().any(|mark| start.starts_with(mark));
        let literal = start.starts_with('"') || line.ends_with('\\');
        let limit = if prose || literal { PROSE_COLUMNS } else { COLUMNS };
        // A row of the table of knobs and a line of a picture cannot be broken.
        let whole = start.starts_with("knob!(") || (prose && line.contains(['─', '▶', '◀', '│']));
        if width > limit && !whole {
            found.push(breach(path, n + 1, format!("{width} columns (at most {limit})")));
        }
    }
    found
}

/// A Python function lasts until the next line that is not indented deeper than its `def`.
fn python_functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let documents = docstrings(text);
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let start = line.trim_start();
        let start = start.strip_prefix("async ").unwrap_or(start);
        let Some(rest) = start.strip_prefix("def ") else { continue };
        let name = rest.split('(').next().unwrap_or("").to_owned();
        let mut last = n;
        for (m, later) in lines.iter().enumerate().skip(n + 1) {
            let closes_signature = later.trim_start().starts_with(')');
            if later.trim().is_empty() {
                continue;
            }
            if indent(later) <= indent(line) && !closes_signature {
                break;
            }
            last = m;
        }
        let length = documents[n..=last].iter().filter(|doc| !**doc).count();
        found.push((n + 1, name, length));
    }
    found
}

/// For each line of a Python file: does it belong to a docstring?
fn docstrings(text: &str) -> Vec<bool> {
    let (mut in_docstring, mut in_string) = (false, false);
    text.lines()
        .map(|line| {
            let quotes = line.matches("\"\"\"").count();
            let opens = line.trim_start().trim_start_matches('r').starts_with("\"\"\"");
            let documents = in_docstring || (opens && !in_string);
            if quotes % 2 == 1 && documents {
                in_docstring = !in_docstring;
            } else if quotes % 2 == 1 {
                in_string = !in_string;
            }
            documents
        })
        .collect()
}
