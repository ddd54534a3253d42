//! G14: a linearizable read sees every write that was acknowledged before it began.

use super::{Fact, Promise};
use std::time::Duration;

/// Needs no memory: the reader brings what it knew.
#[derive(Default)]
pub struct Reads;

impl Promise for Reads {
    fn name(&self) -> &'static str {
        "G14"
    }

    fn look(&mut self, _: Duration, fact: &Fact) -> Option<String> {
        let Fact::Read { node, known, seen } = *fact else { return None };
        (seen < known).then(|| format!("{node} serves a read of {seen} after {known} was told"))
    }
}
