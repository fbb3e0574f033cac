//! Output for people: tables whose columns stand under each other.

use std::io;
use std::io::Write;

use serde_json::Value;

/// On which side a column is flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Side {
    Left,
    Right,
}

/// One thing that is said of a record: under which name, and what.
pub(in crate::cli) struct Cell {
    name: &'static str,
    /// None: a list does not say it.
    heading: Option<&'static str>,
    reading: Reading,
}

/// Where it is found.
enum Reading {
    Member(&'static str),
    /// A time.
    When(&'static str),
    Made(fn(&Value) -> String),
}

impl Cell {
    pub(in crate::cli) const fn of(name: &'static str, member: &'static str) -> Self {
        Self { name, heading: None, reading: Reading::Member(member) }
    }

    pub(in crate::cli) const fn when(name: &'static str, member: &'static str) -> Self {
        Self { name, heading: None, reading: Reading::When(member) }
    }

    pub(in crate::cli) const fn made(name: &'static str, make: fn(&Value) -> String) -> Self {
        Self { name, heading: None, reading: Reading::Made(make) }
    }

    /// In a list too, under this heading.
    pub(in crate::cli) const fn column(self, heading: &'static str) -> Self {
        Self { heading: Some(heading), ..self }
    }

    fn read(&self, record: &Value) -> String {
        match &self.reading {
            Reading::Member(member) => show(record, member),
            Reading::When(member) => show_when(record, member),
            Reading::Made(make) => make(record),
        }
    }
}

/// Records, one a line.
pub(in crate::cli) fn write_records(out: &mut dyn Write, cells: &[Cell], records: &[Value]) -> io::Result<()> {
    let cells = || cells.iter().filter_map(|cell| Some((cell.heading?, cell)));
    let columns: Vec<(&str, Side)> = cells().map(|(heading, _)| (heading, Side::Left)).collect();
    let rows: Vec<Vec<String>> = records.iter().map(|record| cells().map(|(_, cell)| cell.read(record)).collect()).collect();
    write_table(out, &columns, &rows)
}

/// One record, its values under each other.
pub(in crate::cli) fn write_record(out: &mut dyn Write, cells: &[Cell], record: &Value) -> io::Result<()> {
    write_pairs(out, &cells.iter().map(|cell| (cell.name, cell.read(record))).collect::<Vec<_>>())
}

/// Rows under headings, two spaces between the columns.
pub(in crate::cli) fn write_table(out: &mut dyn Write, columns: &[(&str, Side)], rows: &[Vec<String>]) -> io::Result<()> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize, heading: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heading.chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(|(column, (heading, _side))| width(column, heading)).collect();
    let headings: Vec<String> = columns.iter().map(|(heading, _side)| (*heading).to_owned()).collect();
    for row in std::iter::once(&headings).chain(&rows) {
        let mut line = String::new();
        for ((cell, (_heading, side)), width) in row.iter().zip(columns).zip(&widths) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            match side {
                Side::Left => line.extend([cell.as_str(), &padding, "  "]),
                Side::Right => line.extend([padding.as_str(), cell, "  "]),
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Names and values, the values under each other.
pub(in crate::cli) fn write_pairs(out: &mut dyn Write, pairs: &[(&str, String)]) -> io::Result<()> {
    let width = pairs.iter().map(|(name, _value)| name.chars().count()).max().unwrap_or_default();
    for (name, value) in pairs {
        writeln!(out, "{name:width$}  {}", plain(value))?;
    }
    Ok(())
}

/// Names come from outside: what would move a terminal's cursor, or turn its text around, is shown as an escape.
fn plain(text: &str) -> String {
    let acts =
        |letter: char| letter.is_control() || matches!(letter, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().fold(String::with_capacity(text.len()), |mut shown, letter| {
        if acts(letter) {
            shown.extend(letter.escape_default())
        } else {
            shown.push(letter)
        }
        shown
    })
}

/// A member of the API's JSON as people read it.
pub(in crate::cli) fn show(record: &Value, name: &str) -> String {
    match record.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" "),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(other @ (Value::Number(_) | Value::Object(_))) => other.to_string(),
    }
}

/// A time to the minute, UTC.
pub(in crate::cli) fn show_when(record: &Value, name: &str) -> String {
    let text = show(record, name);
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_speaks_to_the_terminal() {
        let mut out = Vec::new();
        let cell = "a\u{1b}[2J\nb\u{202e}é".to_owned();
        write_table(&mut out, &[("NAME", Side::Left)], &[vec![cell.clone()]]).unwrap();
        write_pairs(&mut out, &[("NAME", cell)]).unwrap();
        let shown = "a\\u{1b}[2J\\nb\\u{202e}é";
        assert_eq!(String::from_utf8(out).unwrap(), format!("NAME\n{shown}\nNAME  {shown}\n"));
    }

    #[test]
    fn columns_stand_under_each_other() {
        let mut out = Vec::new();
        let rows = vec![vec!["a".to_owned(), "1".to_owned(), "x".to_owned()], vec!["blé".to_owned(), "1000".to_owned(), String::new()]];
        write_table(&mut out, &[("NAME", Side::Left), ("COUNT", Side::Right), ("Z", Side::Left)], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME  COUNT  Z\na         1  x\nblé    1000\n");
    }
}
