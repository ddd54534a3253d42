//! Keeps the house in order: scans the repository for names, sizes and words its plan forbids.

mod code;
mod planted;
mod rules;

use rules::{Breach, inspect, measure};
use std::fs;
use std::path::Path;

/// Folders scanned, with the endings that count there.
const ROOMS: &[(&str, &[&str])] = &[
    ("src", &["rs"]),
    ("python", &["py", "pyi"]),
    ("proto", &["proto"]),
    ("docs", &["md"]),
    ("examples", &["py", "ipynb", "md"]),
    ("benches", &["py", "rs", "md"]),
];
/// Single files scanned.
const PAGES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Makefile",
    ".ci/run",
    "Cargo.toml",
    "pyproject.toml",
    "deny.toml",
    "clippy.toml",
    "build.rs",
];
/// Rows printed of each table.
const WORST: usize = 10;
/// A folder deeper than this is a loop of links.
const MAX_DEPTH: usize = 12;

#[test]
fn the_house_is_in_order() {
    let files = repository();
    let sources = files.iter().filter(|(path, _)| path.starts_with("src/")).count();
    assert!(sources >= 10, "only {sources} files found below src/: the scan itself is broken");
    print_worst(&files);
    let breaches: Vec<Breach> = files.iter().flat_map(|(path, text)| inspect(path, text)).collect();
    let lines: Vec<String> =
        breaches.iter().map(|b| format!("  {}: {}", b.place, b.problem)).collect();
    assert!(breaches.is_empty(), "{} breaches:\n{}", lines.len(), lines.join("\n"));
}

/// Every scanned file, by its path from the root of the repository.
fn repository() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for (room, endings) in ROOMS {
        collect(root, &root.join(room), endings, 0, &mut files);
    }
    for page in PAGES {
        if let Ok(text) = fs::read_to_string(root.join(page)) {
            files.push(((*page).to_owned(), text));
        }
    }
    files.sort();
    files
}

fn collect(
    root: &Path,
    folder: &Path,
    endings: &[&str],
    depth: usize,
    files: &mut Vec<(String, String)>,
) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        if path.is_dir() && depth < MAX_DEPTH {
            collect(root, &path, endings, depth + 1, files);
        } else if endings.contains(&ending)
            && let (Ok(text), Ok(short)) = (fs::read_to_string(&path), path.strip_prefix(root))
        {
            files.push((short.display().to_string(), text));
        }
    }
}

/// `cargo test tidy -- --nocapture` shows where the house is about to burst.
fn print_worst(files: &[(String, String)]) {
    let coded = files.iter().filter(|(path, _)| path.ends_with(".rs") || path.ends_with(".py"));
    let (mut long_files, mut long_functions) = (Vec::new(), Vec::new());
    for (path, text) in coded {
        let sizes = measure(path, text);
        long_files.push((sizes.lines, path.clone()));
        let functions = sizes.functions.into_iter();
        long_functions
            .extend(functions.map(|(n, name, size)| (size, format!("{path}:{n} {name}"))));
    }
    for (title, mut rows) in [("files", long_files), ("functions", long_functions)] {
        rows.sort_by(|a, b| b.cmp(a));
        println!("longest {title}, in lines:");
        for (lines, place) in rows.iter().take(WORST) {
            println!("{lines:>6}  {place}");
        }
    }
}
