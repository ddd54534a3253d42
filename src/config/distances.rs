//! How far nodes are from each other where the user says so, by name; elsewhere their positions say it.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Pairs at most.
pub const MAX_PAIRS: usize = 100_000;

/// A matrix of distances, as far as it is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distances {
    pairs: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Distances {
    /// Nothing is given.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// From `from` to `to`: as given, else as given the other way round, else unknown.
    pub fn between(&self, from: &str, to: &str) -> Option<f64> {
        let given = |from: &str, to: &str| self.pairs.get(from)?.get(to).copied();
        given(from, to).or_else(|| given(to, from))
    }

    /// Lines of a name, a tab, a name, a tab and a number; names cannot hold tabs.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |problem: String| Error::config("distances", problem);
        let mut pairs: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
        for (count, line) in text.lines().filter(|line| !line.is_empty()).enumerate() {
            if count == MAX_PAIRS {
                return Err(refuse(format!("more than {MAX_PAIRS} pairs; give positions instead")));
            }
            let shown: String = line.escape_default().take(64).collect();
            let mut words = line.split('\t');
            let parts = (words.next(), words.next(), words.next(), words.next());
            let (Some(from), Some(to), Some(number), None) = parts else {
                return Err(refuse(format!("\"{shown}\" must read name, name, distance")));
            };
            let distance = number.parse::<f64>().ok().filter(|d| *d >= 0.0);
            let distance = distance.ok_or_else(|| {
                refuse(format!("\"{shown}\": a distance is a number of at least 0; inf: never"))
            })?;
            if from == to || from.is_empty() || to.is_empty() {
                return Err(refuse(format!("\"{shown}\": give the names of two nodes")));
            }
            pairs.entry(from.to_owned()).or_default().insert(to.to_owned(), distance);
        }
        Ok(Distances { pairs })
    }

    /// What [`Distances::parse`] reads.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (from, row) in &self.pairs {
            for (to, distance) in row {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{from}\t{to}\t{distance}");
            }
        }
        text
    }

    /// All pairs as given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.pairs.iter().flat_map(|(from, row)| {
            row.iter().map(move |(to, distance)| (from.as_str(), to.as_str(), *distance))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_holds_both_ways_unless_both_are_given() {
        let given = Distances::parse("a\tb\t3\nb\tc\t1.5\nc\tb\tinf\n").unwrap();
        let check = |from: &str, to: &str, expected: Option<f64>| {
            assert_eq!(given.between(from, to), expected, "{from} {to}");
        };
        check("a", "b", Some(3.0));
        check("b", "a", Some(3.0));
        check("b", "c", Some(1.5));
        check("c", "b", Some(f64::INFINITY));
        check("a", "c", None);
        assert_eq!(Distances::parse(&given.to_text()).unwrap(), given);
    }

    #[test]
    fn nonsense_is_refused_with_the_line() {
        for bad in ["a b 3", "a\tb", "a\tb\t-1", "a\tb\tNaN", "a\tb\tx", "a\ta\t1", "a\tb\t1\t2"] {
            let error = Distances::parse(bad).unwrap_err().to_string();
            assert!(error.contains("distances"), "{bad:?}: {error}");
        }
    }
}
