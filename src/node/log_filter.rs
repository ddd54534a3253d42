//! Which events of the native half are written down: what `HUSTINGS_LOG` says, as `info` or
//! `warn,hustings.node.transport=debug,openraft=info`.
//!
//! A rule holds for its logger and those below it; the longest that fits decides. Loggers of ours begin with
//! `hustings.`, which may be left out. What libraries say is only heard where a rule names them.

use crate::error::{Error, Result};

/// How much is written down, from nothing to everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// And what is not as it should be.
    Warn,
    /// And what happened.
    Info,
    /// And what happens often.
    Debug,
    /// And everything else.
    Trace,
}

const NAMES: [(&str, Verbosity); 8] = [
    ("off", Verbosity::Off),
    ("error", Verbosity::Error),
    ("warning", Verbosity::Warn),
    ("warn", Verbosity::Warn),
    ("info", Verbosity::Info),
    ("debug", Verbosity::Debug),
    ("trace", Verbosity::Trace),
    ("all", Verbosity::Trace),
];
/// Rules one text may have.
pub const MAX_RULES: usize = 64;
/// The root of all our loggers.
pub const ROOT: &str = "hustings";

/// A list of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The longest first.
    rules: Vec<(String, Verbosity)>,
}

impl Default for Filter {
    /// What happened, of ours.
    fn default() -> Self {
        Filter { rules: vec![(ROOT.to_owned(), Verbosity::Info)] }
    }
}

impl Filter {
    /// The filter that `text` describes; the default where it is empty.
    pub fn parse(text: &str) -> Result<Self> {
        let mut filter = Filter::default();
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        for (count, part) in parts.enumerate() {
            if count >= MAX_RULES {
                let problem = format!("more than {MAX_RULES} rules");
                return Err(Error::config("HUSTINGS_LOG", problem));
            }
            let (logger, level) = match part.split_once('=') {
                Some((logger, level)) => (logger_of(logger.trim()), level.trim()),
                None => (ROOT.to_owned(), part),
            };
            let verbosity = verbosity(level)?;
            filter.rules.retain(|(known, _)| *known != logger);
            filter.rules.push((logger, verbosity));
        }
        filter.rules.sort_by_key(|(logger, _)| std::cmp::Reverse(logger.len()));
        Ok(filter)
    }

    /// How much is written down of what `target`, a module's path, says.
    pub fn verbosity(&self, target: &str) -> Verbosity {
        let logger = logger_of(target);
        let fits = |rule: &str| match logger.strip_prefix(rule) {
            Some(rest) => rest.is_empty() || rest.starts_with('.'),
            None => false,
        };
        // A library's logger is below ours in name only.
        let foreign = is_foreign(target);
        let mut rules = self.rules.iter().filter(|(rule, _)| !(foreign && rule == ROOT));
        rules.find(|(rule, _)| fits(rule)).map_or(Verbosity::Off, |(_, verbosity)| *verbosity)
    }

    /// The most of all rules: what is above it need not even be looked at.
    pub fn most(&self) -> Verbosity {
        self.rules.iter().map(|(_, verbosity)| *verbosity).max().unwrap_or(Verbosity::Off)
    }
}

/// The logger of a module: `hustings.node.driver`, and `hustings.openraft.core` for a library's.
pub fn logger_of(target: &str) -> String {
    let dotted = target.replace("::", ".");
    match dotted == ROOT || dotted.starts_with("hustings.") {
        true => dotted,
        false => format!("{ROOT}.{dotted}"),
    }
}

fn is_foreign(target: &str) -> bool {
    target != ROOT && !target.starts_with("hustings::") && !target.starts_with("hustings.")
}

fn verbosity(word: &str) -> Result<Verbosity> {
    let lower = word.to_lowercase();
    NAMES.iter().find(|(name, _)| *name == lower).map(|(_, verbosity)| *verbosity).ok_or_else(|| {
        let shown: String = word.escape_default().take(40).collect();
        let problem = format!(
            "\"{shown}\" is no level; give off, error, warning, info, debug or trace, alone or as \
             logger=level, separated by commas"
        );
        Error::config("HUSTINGS_LOG", problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rule_that_fits_decides() {
        let filter =
            Filter::parse("warn, node.transport=debug,hustings::node::transport::links=off");
        let filter = filter.unwrap();
        for (target, expected) in [
            ("hustings", Verbosity::Warn),
            ("hustings::core", Verbosity::Warn),
            ("hustings::node::transport::server", Verbosity::Debug),
            ("hustings::node::transporter", Verbosity::Warn),
            ("hustings::node::transport::links", Verbosity::Off),
            ("openraft::core", Verbosity::Off),
        ] {
            assert_eq!(filter.verbosity(target), expected, "{target}");
        }
        assert_eq!(filter.most(), Verbosity::Debug);
    }

    #[test]
    fn libraries_are_heard_where_they_are_named() {
        let filter = Filter::parse("off,openraft=Info").unwrap();
        assert_eq!(filter.verbosity("openraft::core::raft_core"), Verbosity::Info);
        assert_eq!(filter.verbosity("tonic"), Verbosity::Off);
        assert_eq!(filter.verbosity("hustings::node"), Verbosity::Off);
        assert_eq!(Filter::parse("").unwrap().verbosity("hustings::node"), Verbosity::Info);
        assert_eq!(Filter::parse(" , ").unwrap(), Filter::default());
    }

    #[test]
    fn what_is_no_level_is_named() {
        let error = Filter::parse("info,node=loud").unwrap_err().to_string();
        assert!(error.contains("HUSTINGS_LOG") && error.contains("\"loud\""), "{error}");
        let many = vec!["a=info"; MAX_RULES + 1].join(",");
        assert!(Filter::parse(&many).is_err());
    }
}
