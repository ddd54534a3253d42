//! The context of a trace that a task belongs to: W3C Trace Context, version 00, as `traceparent` writes it.
//!
//! ```text
//! 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//!    the trace                        whose child       flags; bit 0: sampled
//! ```

use serde::{Deserialize, Serialize};
use std::fmt;

/// Characters of a `traceparent` of version 00.
pub const LENGTH: usize = 55;
/// Characters of a bad one that an error shows.
const SHOWN: usize = 64;
/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// Where in which trace a task was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// The trace; not 0.
    pub trace: u128,
    /// The span that submitted the task; not 0.
    pub span: u64,
    /// As they came.
    pub flags: u8,
}

impl TraceContext {
    /// What `text` says; the problem in words, without the field's name, where it says nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        read(text).ok_or_else(|| {
            let shown: String = text.escape_default().take(SHOWN).collect();
            let more = if text.len() > SHOWN { "..." } else { "" };
            format!(
                "\"{shown}{more}\" is no W3C trace context; give 00-<32 hex>-<16 hex>-<2 hex>, {LENGTH} \
                 characters in lower case with ids that are not all zero, or none"
            )
        })
    }

    /// Whether somebody records this trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

fn read(text: &str) -> Option<TraceContext> {
    let bytes = text.as_bytes();
    let is_plain = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    if bytes.len() != LENGTH || !bytes.iter().all(is_plain) {
        return None;
    }
    let mut fields = text.split('-');
    let mut field = |digits: usize| fields.next().filter(|field| field.len() == digits);
    if field(2)? != "00" {
        return None;
    }
    let trace = u128::from_str_radix(field(32)?, 16).ok().filter(|id| *id != 0)?;
    let span = u64::from_str_radix(field(16)?, 16).ok().filter(|id| *id != 0)?;
    let flags = u8::from_str_radix(field(2)?, 16).ok()?;
    Some(TraceContext { trace, span, flags })
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn it_writes_what_it_reads() {
        for text in [
            GOOD,
            "00-00000000000000000000000000000001-0000000000000001-00",
            "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-ff",
        ] {
            let read = TraceContext::parse(text).unwrap();
            assert_eq!((read.to_string().as_str(), text.len()), (text, LENGTH));
        }
        let read = TraceContext::parse(GOOD).unwrap();
        let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
        assert_eq!(read, TraceContext { trace, span: 0x00f0_67aa_0ba9_02b7, flags: 1 });
        assert!(read.is_sampled() && !TraceContext { flags: 2, ..read }.is_sampled());
    }

    #[test]
    fn whatever_else_is_refused_with_its_beginning() {
        let zero_trace = GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = GOOD.replace("00f067aa0ba902b7", &"0".repeat(16));
        for text in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "01", 1),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replace('-', "_"),
            &GOOD.replacen('4', "+", 1),
            &GOOD.replacen("00-", "0-0", 1),
            &GOOD.replacen("4b", "é", 1),
            &zero_trace,
            &zero_span,
        ] {
            let problem = TraceContext::parse(text).unwrap_err();
            assert!(problem.contains("00-<32 hex>-<16 hex>-<2 hex>"), "{problem}");
        }
        let problem = TraceContext::parse(&"\n".repeat(10_000)).unwrap_err();
        assert!(problem.starts_with("\"\\n\\n") && problem.len() < 300, "{problem}");
    }

    #[test]
    fn each_character_counts() {
        for at in 0..LENGTH {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = b'x';
            assert!(TraceContext::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "{at}");
        }
    }
}
