//! Events of `tracing`, ours and those of libraries, as lines of the logbook: filtered where they are written, never
//! waiting, never near an interpreter. Spans are not kept.

use super::log_filter::{Filter, Verbosity, logger_of};
use super::logbook::{LOGBOOK, Line, level};
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Level, Metadata};

/// Longest text of one event, in bytes.
const MAX_TEXT: usize = 4 << 10;

struct Writer {
    filter: Filter,
}

/// From now on events go into the logbook. The first call in a process decides; later ones change nothing.
pub fn install(filter: Filter) {
    // Somebody else's subscriber, if there is one, is as good.
    let _ = tracing::subscriber::set_global_default(Writer { filter });
}

impl Writer {
    fn wants(&self, event: &Metadata<'_>) -> bool {
        event.is_event() && verbosity(event.level()) <= self.filter.verbosity(event.target())
    }
}

impl Subscriber for Writer {
    fn register_callsite(&self, callsite: &'static Metadata<'static>) -> Interest {
        // Decided once for each place in the code: what is not wanted costs nothing.
        if self.wants(callsite) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, event: &Metadata<'_>) -> bool {
        self.wants(event)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.filter.most() {
            Verbosity::Off => LevelFilter::OFF,
            Verbosity::Error => LevelFilter::ERROR,
            Verbosity::Warn => LevelFilter::WARN,
            Verbosity::Info => LevelFilter::INFO,
            Verbosity::Debug => LevelFilter::DEBUG,
            Verbosity::Trace => LevelFilter::TRACE,
        })
    }

    fn event(&self, event: &Event<'_>) {
        if !LOGBOOK.is_open() {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let of = event.metadata();
        LOGBOOK.write(Line::new(number(of.level()), logger_of(of.target()), text.finish()));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn verbosity(level: &Level) -> Verbosity {
    match *level {
        Level::ERROR => Verbosity::Error,
        Level::WARN => Verbosity::Warn,
        Level::INFO => Verbosity::Info,
        Level::DEBUG => Verbosity::Debug,
        Level::TRACE => Verbosity::Trace,
    }
}

fn number(of: &Level) -> u8 {
    match *of {
        Level::ERROR => level::ERROR,
        Level::WARN => level::WARNING,
        Level::INFO => level::INFO,
        Level::DEBUG | Level::TRACE => level::DEBUG,
    }
}

/// The message first, then the other fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(mut self) -> String {
        self.message.push_str(&self.fields);
        let mut end = self.message.len().min(MAX_TEXT);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        self.message.truncate(end);
        one_line(self.message)
    }
}

/// What could end a line, move the cursor or turn the direction of writing is shown, not done: whoever reads a log must
/// be able to trust that a line of it is one of ours.
fn one_line(text: String) -> String {
    let sly = |c: char| {
        let marks = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}');
        let turns = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c.is_control() || marks || turns
    };
    if !text.contains(sly) {
        return text;
    }
    text.chars().fold(String::with_capacity(text.len() + 16), |mut safe, c| {
        match sly(c) {
            true => safe.extend(c.escape_default()),
            false => safe.push(c),
        }
        safe
    })
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_cannot_end_a_line_or_turn_it() {
        let text = "name\r\nlevel=ERROR all is lost \u{1b}[2J \u{202e}gnirts";
        let safe = one_line(text.to_owned());
        assert_eq!(safe, "name\\r\\nlevel=ERROR all is lost \\u{1b}[2J \\u{202e}gnirts");
        assert_eq!(one_line("plain, ä and \"quoted\"".to_owned()), "plain, ä and \"quoted\"");
    }

    #[test]
    fn events_become_lines_of_their_modules_logger() {
        let filter = Filter::parse("info,openraft=error").unwrap();
        tracing::subscriber::with_default(Writer { filter }, || {
            LOGBOOK.open();
            tracing::info!(target: "hustings::test::heard", node = "n1", term = 3, "leads");
            tracing::debug!(target: "hustings::test::heard", "too much");
            tracing::warn!(target: "openraft::core", "not asked for");
            tracing::info_span!(target: "hustings::test::heard", "span").in_scope(|| ());
        });
        let page = LOGBOOK.read().unwrap();
        LOGBOOK.close();
        // Tests of other modules share the logbook.
        let heard: Vec<_> = page.lines.iter().filter(|l| l.logger.contains("test.heard")).collect();
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0].text, "leads node=n1 term=3");
        assert_eq!((heard[0].level, &*heard[0].logger), (level::INFO, "hustings.test.heard"));
        assert!(!page.lines.iter().any(|line| line.logger.contains("openraft")));
    }
}
