//! Knobs that are words: which policy places tasks, and what becomes of those nobody in reach can take.

use super::Config;
use super::distances::Distances;
use crate::error::{Error, Result};
use std::sync::Arc;

/// How the leader places tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// `lpt` while all nodes are in the leader's reach, otherwise its order pushed by `p2c`.
    #[default]
    Auto,
    /// Keep tasks at the leader until a node has a free place in its window, counted in time.
    Window,
    /// A random eligible node, at once.
    Random,
    /// Of two random eligible nodes the one that would finish it first, at once.
    P2c,
    /// As `window`, those expected to take longest first.
    Lpt,
}

/// What happens to a task that only nodes beyond the leader's reach could run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfReach {
    /// It waits until a node comes into reach, or another one leads.
    #[default]
    Wait,
    /// It is assigned along a chain of members, each in reach of the next.
    Relay,
}

impl Placement {
    /// The names accepted for `placement`.
    pub const NAMES: &'static [&'static str] = &["auto", "window", "random", "p2c", "lpt"];
    const ALL: [Placement; 5] =
        [Placement::Auto, Placement::Window, Placement::Random, Placement::P2c, Placement::Lpt];

    /// The policy called `name`.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Placement::ALL.into_iter().find(|policy| policy.name() == name);
        found.ok_or_else(|| not_a_choice("placement", name, "a policy", Placement::NAMES))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Placement::Auto => "auto",
            Placement::Window => "window",
            Placement::Random => "random",
            Placement::P2c => "p2c",
            Placement::Lpt => "lpt",
        }
    }
}

impl OutOfReach {
    /// The names accepted for `out_of_reach`.
    pub const NAMES: &'static [&'static str] = &["wait", "relay"];

    /// The choice called `name`.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "wait" => Ok(OutOfReach::Wait),
            "relay" => Ok(OutOfReach::Relay),
            other => Err(not_a_choice("out_of_reach", other, "a choice", OutOfReach::NAMES)),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            OutOfReach::Wait => "wait",
            OutOfReach::Relay => "relay",
        }
    }
}

fn not_a_choice(field: &str, given: &str, what: &str, names: &[&str]) -> Error {
    let shown: String = given.chars().take(60).collect();
    Error::config(field, format!("{shown:?} is not {what}; choose one of {}", names.join(", ")))
}

/// A knob that is a word or text.
pub struct Choice {
    /// As Python and TOML spell it.
    pub name: &'static str,
    /// Meaning, for `hustings config show`.
    pub doc: &'static str,
    /// Reads it.
    pub get: fn(&Config) -> String,
    /// Checks and writes it.
    pub set: fn(&mut Config, &str) -> Result<()>,
}

/// The table of such knobs.
pub const CHOICES: &[Choice] = &[
    Choice {
        name: "placement",
        doc: "who gets a waiting task: auto, window, random, p2c or lpt",
        get: |config| config.placement.name().to_owned(),
        set: |config, text| {
            config.placement = Placement::parse(text)?;
            Ok(())
        },
    },
    Choice {
        name: "out_of_reach",
        doc: "a task that only nodes beyond the leader's reach could run: wait or relay",
        get: |config| config.out_of_reach.name().to_owned(),
        set: |config, text| {
            config.out_of_reach = OutOfReach::parse(text)?;
            Ok(())
        },
    },
    Choice {
        name: "distances",
        doc: "distances by names of nodes: name, tab, name, tab, number on a line",
        get: |config| config.distances.to_text(),
        set: |config, text| {
            config.distances = Arc::new(Distances::parse(text)?);
            Ok(())
        },
    },
];
