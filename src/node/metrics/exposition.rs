//! Prometheus' text format, version 0.0.4: families of samples with labels, each introduced by its meaning and kind.
//!
//! Written here because what is asked for is gathered at each scrape, node by node: there is nothing to register, and
//! nothing that another node of the same process could share.

use super::histogram::Histogram;
use std::fmt::Write;

/// What every name begins with.
const PREFIX: &str = "hustings_";
/// Longest value of a label, in characters.
const MAX_LABEL: usize = 128;
/// What a scrape is announced as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How samples of a family behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, or begins anew.
    Counter,
    /// Counts by bounds.
    Histogram,
}

/// Labels of one sample.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text so far.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    /// Begins a family; its samples follow. Each is begun once.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        let word = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        self.family = name;
        // Writing into a string has no way to fail.
        let _ = write!(self.text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {word}\n");
        self
    }

    /// A sample of the family.
    pub fn sample(&mut self, labels: Labels, value: f64) -> &mut Self {
        self.line("", labels, None, value)
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// A histogram of the family.
    pub fn histogram(&mut self, labels: Labels, histogram: &Histogram) -> &mut Self {
        for (bound, count) in histogram.cumulated() {
            self.line("_bucket", labels, Some(bound), count as f64);
        }
        self.line("_sum", labels, None, histogram.sum());
        self.line("_count", labels, None, histogram.count() as f64)
    }

    fn line(&mut self, suffix: &str, labels: Labels, le: Option<f64>, value: f64) -> &mut Self {
        let _ = write!(self.text, "{PREFIX}{}{suffix}", self.family);
        let mut mark = '{';
        for (name, text) in labels {
            let _ = write!(self.text, "{mark}{name}=\"{}\"", escape(text));
            mark = ',';
        }
        if let Some(bound) = le {
            let _ = write!(self.text, "{mark}le=\"{}\"", number(bound));
            mark = ',';
        }
        let end = if mark == ',' { "}" } else { "" };
        let _ = writeln!(self.text, "{end} {}", number(value));
        self
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }
}

fn number(value: f64) -> String {
    match value {
        v if v == f64::INFINITY => "+Inf".to_owned(),
        v if v == f64::NEG_INFINITY => "-Inf".to_owned(),
        v if v.is_nan() => "NaN".to_owned(),
        // A negative zero becomes a plain one.
        v => (v + 0.0).to_string(),
    }
}

/// A label's value as the format wants it. Names of tasks come from users: what a terminal would obey is replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars().take(MAX_LABEL) {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            c if c.is_control() => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_samples_and_histograms_are_written_as_prometheus_reads_them() {
        let mut text = Exposition::default();
        text.single("term", Kind::Gauge, "The term.", 7.0);
        let labels = [("task", "a\"b\\c\nd\u{1b}"), ("outcome", "failed")];
        text.family("tasks_completed_total", Kind::Counter, "Tasks.").sample(&labels, 2.0);
        let mut waits = Histogram::new(&[0.5]);
        waits.observe(0.25);
        waits.observe(2.0);
        text.family("wait_seconds", Kind::Histogram, "Waits.").histogram(&[], &waits);
        let expected = "\
# HELP hustings_term The term.
# TYPE hustings_term gauge
hustings_term 7
# HELP hustings_tasks_completed_total Tasks.
# TYPE hustings_tasks_completed_total counter
hustings_tasks_completed_total{task=\"a\\\"b\\\\c\\nd?\",outcome=\"failed\"} 2
# HELP hustings_wait_seconds Waits.
# TYPE hustings_wait_seconds histogram
hustings_wait_seconds_bucket{le=\"0.5\"} 1
hustings_wait_seconds_bucket{le=\"+Inf\"} 2
hustings_wait_seconds_sum 2.25
hustings_wait_seconds_count 2
";
        assert_eq!(text.into_text(), expected);
    }

    #[test]
    fn odd_numbers_have_their_words() {
        for (value, expected) in
            [(f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf"), (f64::NAN, "NaN"), (-0.0, "0")]
        {
            assert_eq!(number(value), expected);
        }
    }
}
