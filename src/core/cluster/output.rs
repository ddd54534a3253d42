//! What the attempts of one task printed and logged, as one text: that of the first as it is, each later one's after a
//! line that names it.

use bytes::Bytes;

/// Begins the line that names an attempt. A task that forges one only speaks for itself.
const MARK: u8 = 0x1e;
/// Bytes kept of what attempts before the last one said, in whole lines where that can be; the last one's own are
/// bounded where they are heard.
pub const EARLIER: usize = 2 << 10;

/// `output` of `attempt` after what attempts before said, of which the oldest is forgotten first.
pub(super) fn append(earlier: &[u8], attempt: u32, output: &[u8]) -> Bytes {
    let mut kept = Vec::new();
    let mut left = EARLIER;
    for (attempt, said) in split(earlier).into_iter().rev() {
        if said.is_empty() {
            continue;
        }
        if left == 0 {
            break;
        }
        kept.push((attempt, last_of(said, left)));
        // Of whoever spoke before one that is cut nothing is kept.
        left = left.saturating_sub(said.len());
    }
    kept.reverse();
    // Silence is told from words that are forgotten only where there were words before.
    if !output.is_empty() || !kept.is_empty() {
        kept.push((attempt, output));
    }
    let mut joined = Vec::new();
    for (attempt, said) in kept {
        if attempt != 1 {
            if joined.last().is_some_and(|byte| *byte != b'\n') {
                joined.push(b'\n');
            }
            joined.push(MARK);
            joined.extend_from_slice(format!("{attempt}\n").as_bytes());
        }
        joined.extend_from_slice(said);
    }
    Bytes::from(joined)
}

/// Which attempts said what, oldest first.
pub fn split(output: &[u8]) -> Vec<(u32, &[u8])> {
    let mut parts = Vec::new();
    let (mut attempt, mut begin, mut at) = (1, 0, 0);
    while at < output.len() {
        let end =
            output[at..].iter().position(|b| *b == b'\n').map_or(output.len(), |n| at + n + 1);
        if let Some(named) = named(&output[at..end]) {
            parts.push((attempt, &output[begin..at]));
            (attempt, begin) = (named, end);
        }
        at = end;
    }
    parts.push((attempt, &output[begin..]));
    // Nobody spoke before the first name, or nobody at all.
    if parts[0].1.is_empty() {
        parts.remove(0);
    }
    parts
}

/// What the last of them said.
pub fn last(output: &[u8]) -> &[u8] {
    split(output).pop().map_or(&[], |(_, said)| said)
}

/// The attempt a line names.
fn named(line: &[u8]) -> Option<u32> {
    let digits = line.strip_prefix(&[MARK])?.strip_suffix(b"\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The last of `said` within `limit`: from a line's beginning, or at least from a character's.
fn last_of(said: &[u8], limit: usize) -> &[u8] {
    let Some(cut) = said.len().checked_sub(limit).filter(|cut| *cut > 0) else { return said };
    let rest = &said[cut..];
    let line = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    match line.filter(|at| *at < rest.len()) {
        Some(at) => &rest[at..],
        None => {
            let whole = rest.iter().position(|byte| byte & 0xc0 != 0x80).unwrap_or(rest.len());
            &rest[whole..]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(attempts: &[(u32, &str)]) -> Bytes {
        let append = |earlier: Bytes, (attempt, said): &(u32, &str)| {
            super::append(&earlier, *attempt, said.as_bytes())
        };
        attempts.iter().fold(Bytes::new(), append)
    }

    fn check(attempts: &[(u32, &str)], want: &[(u32, &str)]) {
        let output = told(attempts);
        let want: Vec<_> = want.iter().map(|(n, said)| (*n, said.as_bytes())).collect();
        assert_eq!(split(&output), want, "{attempts:?}");
        assert_eq!(last(&output), want.last().map_or(&b""[..], |(_, said)| said), "{attempts:?}");
    }

    #[test]
    fn who_said_what_is_kept() {
        check(&[], &[]);
        check(&[(1, "")], &[]);
        check(&[(1, "one\n")], &[(1, "one\n")]);
        check(&[(1, "one\n"), (2, "two\n")], &[(1, "one\n"), (2, "two\n")]);
        check(&[(1, "one\n"), (2, "")], &[(1, "one\n"), (2, "")]);
        check(&[(1, "one\n"), (2, ""), (4, "four\n")], &[(1, "one\n"), (4, "four\n")]);
        check(&[(1, ""), (2, "two\n")], &[(2, "two\n")]);
        check(&[(3, "no break"), (4, "four")], &[(3, "no break\n"), (4, "four")]);
        assert_eq!(told(&[(1, "one\n")]), "one\n", "a task that is not tried again costs nothing");
    }

    #[test]
    fn the_oldest_is_forgotten_first_and_the_last_is_whole() {
        let line = "0123456789abcdé\n";
        let long = line.repeat(EARLIER / line.len() + 9);
        let output = told(&[(1, "forgotten\n"), (2, &long), (3, &long)]);
        let parts = split(&output);
        assert_eq!(parts.iter().map(|part| part.0).collect::<Vec<_>>(), [2, 3]);
        assert!(parts[0].1.len() <= EARLIER && parts[0].1.starts_with(b"0123"), "whole lines");
        assert_eq!(parts[1].1, long.as_bytes());
        let endless = "é".repeat(EARLIER);
        let output = told(&[(1, &endless), (2, "two\n")]);
        assert!(std::str::from_utf8(split(&output)[0].1).is_ok(), "whole characters");
        let many: Vec<_> = (1..200).map(|n| (n, "a line of it\n")).collect();
        assert!(told(&many).len() < 2 * EARLIER);
    }

    #[test]
    fn a_forged_name_does_no_harm() {
        check(&[(1, "a\n\u{1e}7\nb\n")], &[(1, "a\n"), (7, "b\n")]);
        check(&[(1, "a\n\u{1e}x\nb\n")], &[(1, "a\n\u{1e}x\nb\n")]);
        check(&[(1, "\u{1e}99999999999\n")], &[(1, "\u{1e}99999999999\n")]);
    }
}
