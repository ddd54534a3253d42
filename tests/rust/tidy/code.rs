//! Separates Rust code from comments, strings and tests, line by line, so that only code is judged as code.

/// A Rust file whose comments and literals are blanked; lines keep their numbers.
pub struct Code {
    /// The code, tests blanked as well.
    pub text: String,
    /// For each line: does it belong to a `#[cfg(test)]` module?
    pub in_tests: Vec<bool>,
}

impl Code {
    /// Reads `source`.
    pub fn of(source: &str) -> Code {
        let mut text = blank_literals(source);
        let mut in_tests = vec![false; text.lines().count()];
        for (start, end) in test_modules(&text) {
            let first = text[..start].matches('\n').count();
            let last = text[..end].matches('\n').count();
            in_tests[first..=last].fill(true);
            let blanked: String = text[start..end].chars().map(blank).collect();
            text.replace_range(start..end, &blanked);
        }
        Code { text, in_tests }
    }

    /// The functions: line of `fn` (from 1), name, and number of lines to the closing brace.
    pub fn functions(&self) -> Vec<(usize, String, usize)> {
        let mut found = Vec::new();
        for start in words(&self.text, "fn") {
            let rest = self.text[start + 2..].trim_start();
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            // `fn(u8)` is a type.
            if name.is_empty() {
                continue;
            }
            if let Some((_, end)) = body(&self.text, start) {
                let line = self.text[..start].matches('\n').count() + 1;
                found.push((line, name, self.text[start..end].matches('\n').count() + 1));
            }
        }
        found
    }
}

/// Where `word` stands as a whole word.
pub fn words(text: &str, word: &str) -> Vec<usize> {
    let bounded = |start: usize| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        let open = word.starts_with(is_word) && before.is_some_and(is_word);
        let close = word.ends_with(is_word) && after.is_some_and(is_word);
        !open && !close
    };
    text.match_indices(word).map(|(start, _)| start).filter(|start| bounded(*start)).collect()
}

/// The braces after `start`: the first `{` outside brackets and its `}`; `None` if a `;` comes first.
pub fn body(text: &str, start: usize) -> Option<(usize, usize)> {
    let (mut brackets, mut braces, mut open) = (0usize, 0usize, None);
    for (at, c) in text[start..].char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => {
                braces += 1;
                open.get_or_insert(start + at);
            }
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some((open?, start + at + 1));
                }
            }
            _ => {}
        }
    }
    None
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn blank(c: char) -> char {
    if c == '\n' { c } else { ' ' }
}

fn test_modules(text: &str) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (start, attribute) in text.match_indices("#[cfg(test)]") {
        let rest = &text[start + attribute.len()..];
        let item = rest.trim_start();
        let inside = found.last().is_some_and(|last| start < last.1);
        if inside || !(item.starts_with("mod ") || item.starts_with("pub mod ")) {
            continue;
        }
        let head = start + attribute.len();
        // `mod tests;` lives in its own file.
        let end = body(text, head).map_or(head + rest.find(';').map_or(0, |n| n + 1), |b| b.1);
        found.push((start, end));
    }
    found
}

/// Blanks comments and the inside of string and character literals.
fn blank_literals(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut i = 0;
    while i < chars.len() {
        let end = match literal_end(&chars, i) {
            Some(end) => end,
            None => {
                out.push(chars[i]);
                i += 1;
                continue;
            }
        };
        out.extend(chars[i..end].iter().map(|c| blank(*c)));
        i = end;
    }
    out
}

/// If a comment or literal starts at `i`: where it ends.
fn literal_end(chars: &[char], i: usize) -> Option<usize> {
    let at = |n: usize| chars.get(n).copied().unwrap_or('\0');
    let word_before = i > 0 && is_word(at(i - 1));
    match (at(i), at(i + 1)) {
        ('/', '/') => Some((i..chars.len()).find(|n| at(*n) == '\n').unwrap_or(chars.len())),
        ('/', '*') => Some(block_comment_end(chars, i)),
        ('"', _) => Some(string_end(chars, i)),
        ('r', '"' | '#') if !word_before || at(i - 1) == 'b' => raw_string_end(chars, i),
        ('\'', '\\') => {
            Some((i + 3..chars.len()).find(|n| at(*n) == '\'').map_or(chars.len(), |n| n + 1))
        }
        // A lifetime has no closing quote.
        ('\'', _) if at(i + 2) == '\'' => Some(i + 3),
        _ => None,
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0usize;
    let mut i = start;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |n: usize| {
        chars[n] == '"'
            && chars[n + 1..].len() >= hashes
            && chars[n + 1..n + 1 + hashes].iter().all(|c| *c == '#')
    };
    Some((open + 1..chars.len()).find(|n| closes(*n)).map_or(chars.len(), |n| n + 1 + hashes))
}
