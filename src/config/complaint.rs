//! What is wrong with a config, where, and what to do about it.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

/// One mistake, or one warning. Never carries the content of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    pub file: Arc<str>,
    /// Counted from 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// Counted from 1; 0 when the file as a whole is meant.
    pub column: u32,
    /// For example `routes[2].limits[0].burst`; empty for the file as a whole.
    pub field: String,
    pub wrong: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Complaint {
    /// About a file as a whole: it is missing, too large, not text.
    pub fn about_file(file: &Arc<str>, wrong: impl Into<String>) -> Self {
        Self { file: Arc::clone(file), line: 0, column: 0, field: String::new(), wrong: wrong.into(), expected: None, hint: None }
    }

    #[must_use]
    pub fn expecting(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    #[must_use]
    pub fn hinting(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Complaint {
    /// `file:line:column: field: message`, which editors and terminals turn into a link. Names from the file may hold what would steer a
    /// terminal, so that is escaped.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.line > 0 { format!(":{}:{}", self.line, self.column) } else { String::new() };
        let field = if self.field.is_empty() { String::new() } else { format!("{}: ", self.field) };
        let expected = self.expected.as_ref().map(|expected| format!("; expected {expected}")).unwrap_or_default();
        let hint = self.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        for letter in format!("{}{place}: {field}{}{expected}{hint}", self.file, self.wrong).chars() {
            if steers_terminal(letter) { write!(out, "{}", letter.escape_default())? } else { out.write_char(letter)? }
        }
        Ok(())
    }
}

/// Control characters, and those that turn the order of what is read.
fn steers_terminal(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `did you mean …?` when a known name is near, else the list of what is known (cut where it is long).
pub fn suggestion<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const LISTED: usize = 12;
    let known: Vec<&str> = known.into_iter().collect();
    match did_you_mean(written, known.iter().copied()) {
        Some(hint) => Some(hint),
        None if known.is_empty() => None,
        None => {
            let listed: Vec<String> = known.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
            let more = if known.len() > LISTED { ", …" } else { "" };
            Some(format!("there is: {}{more}", listed.join(", ")))
        }
    }
}

/// `did you mean …?` when a known name is near.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let tolerated = (written.chars().count() / 3).max(1);
    let nearest = known.into_iter().map(|name| (distance(written, name), name)).filter(|(far, _)| *far <= tolerated).min();
    nearest.map(|(_, name)| format!("did you mean `{name}`?"))
}

/// So many of these, as one says it: `1 key`, `2 keys`.
pub fn so_many<N: From<u8> + PartialEq + fmt::Display>(count: N, one: &str, many: &str) -> String {
    let what = if count == N::from(1) { one } else { many };
    format!("{count} {what}")
}

/// Edit distance with swaps of neighbours, on texts cut at 64 characters so that hostile input costs little.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(64).flat_map(char::to_lowercase).collect();
    let right: Vec<char> = right.chars().take(64).flat_map(char::to_lowercase).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&last, column) + usize::from(from != to);
            let mut best = replaced.min(at(&last, column + 1) + 1).min(at(&current, column) + 1);
            if row > 0 && column > 0 && left.get(row - 1) == Some(to) && right.get(column - 1) == Some(from) {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_escaped() {
        let shown = Complaint::about_file(&Arc::from("a.yaml"), "`\u{1b}]0;evil\u{7}` and `\u{202e}é`").to_string();
        assert_eq!(shown, "a.yaml: `\\u{1b}]0;evil\\u{7}` and `\\u{202e}é`");
    }

    #[test]
    fn names_the_nearest_or_lists_what_is_known() {
        let cases = [
            ("mehtods", &["methods", "path"][..], Some("did you mean `methods`?")),
            ("Free", &["free", "pro"], Some("did you mean `free`?")),
            ("zebra", &["free", "pro"], Some("there is: `free`, `pro`")),
            ("zebra", &[], None),
        ];
        for (written, known, wanted) in cases {
            assert_eq!(suggestion(written, known.iter().copied()).as_deref(), wanted, "{written}");
        }
    }
}
