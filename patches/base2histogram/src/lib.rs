//! What openraft 0.10.0-alpha.37 needs of `base2histogram` 0.2.3, written anew.
//!
//! That crate computes tables for sixteen widths of bucket when the first histogram is made, of which openraft uses one:
//! 26 MiB in every process that has a node in it. Here a bucket is found by arithmetic. Goes when the crate makes its
//! tables one by one.

use std::fmt;
use std::marker::PhantomData;

/// Each power of two is parted so often.
const PARTS: u64 = 4;
const PARTS_BITS: u32 = PARTS.trailing_zeros();
/// 0, 1, 2, 3, and four for each further power of two up to 2^64.
const BUCKETS: usize = (PARTS as usize) * (64 - PARTS_BITS as usize + 1);

/// Counts of values, a quarter of a power of two to each bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
    of: PhantomData<T>,
}

fn bucket(value: u64) -> usize {
    if value < PARTS {
        return value as usize;
    }
    let power = value.ilog2();
    let part = (value >> (power - PARTS_BITS)) & (PARTS - 1);
    ((power - PARTS_BITS + 1) as u64 * PARTS + part) as usize
}

fn least(bucket: usize) -> u64 {
    let (row, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    if row == 0 { part } else { (PARTS + part) << (row - 1) }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// Without a value.
    pub fn new() -> Self {
        Histogram { counts: Box::new([0; BUCKETS]), total: 0, of: PhantomData }
    }

    /// One more value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// The same value `count` times more.
    #[inline]
    pub fn record_n(&mut self, value: u64, count: u64) {
        self.counts[bucket(value)] += count;
        self.total += count;
    }

    /// How many values there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The least value of the bucket in which that share of the values, in [0, 1], is reached; 0 without values.
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0, least)
    }

    /// The usual ones.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.10),
            p50: self.percentile(0.50),
            p90: self.percentile(0.90),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

/// Percentiles of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values.
    pub samples: u64,
    /// 0.1 %.
    pub p0_1: u64,
    /// 1 %.
    pub p1: u64,
    /// 5 %.
    pub p5: u64,
    /// 10 %.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PercentileStats { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        let low = format_args!("0.1%: {p0_1}, 1%: {p1}, 5%: {p5}, 10%: {p10}, 50%: {p50}");
        write!(f, "{samples} values, {low}, 90%: {p90}, 99%: {p99}, 99.9%: {p99_9}")
    }
}

/// Histograms as text.
#[derive(Clone, Debug)]
pub struct AsciiChart<T = ()> {
    series: Vec<(String, Histogram<T>)>,
}

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> AsciiChart<T> {
    /// Without a histogram.
    pub fn new() -> Self {
        AsciiChart { series: Vec::new() }
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.series.push((name.into(), histogram));
        self
    }

    /// A line for each bucket that is not empty.
    pub fn detailed(&self) -> impl fmt::Display + '_ {
        Detailed(self)
    }
}

struct Detailed<'a, T>(&'a AsciiChart<T>);

impl<T> fmt::Display for Detailed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0.series {
            writeln!(f, "{name}: {}", histogram.total)?;
            let filled = histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0);
            for (bucket, count) in filled {
                writeln!(f, "{:>20} | {count}", least(bucket))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_bucket_that_begins_at_most_a_quarter_below_it() {
        let powers = (0..64).map(|power| 1u64 << power);
        let around = powers.flat_map(|p| [p - 1, p, p + 1, p + p / 3, p + (p - 1)]);
        for value in around.chain(0..5_000).chain([u64::MAX]) {
            let (bucket, begin) = (bucket(value), least(bucket(value)));
            assert!(begin <= value && value - begin <= begin / PARTS, "{value}: from {begin}");
            assert!(bucket < BUCKETS && super::bucket(begin) == bucket);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_where_they_belong() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile(0.5), 0);
        histogram.record_n(2, 98);
        histogram.record(100);
        histogram.record(1_000);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p90), (100, 2, 2));
        assert_eq!((stats.p99, stats.p99_9), (96, 896));
        let text = AsciiChart::new().add("x", histogram).detailed().to_string();
        assert_eq!(text.lines().collect::<Vec<_>>()[..2], ["x: 100", "                   2 | 98"]);
    }
}
