//! One user's counts of one period, as the store gives them.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::Value;

use crate::model::usage::Outcome;
use crate::store::shared::usage::COUNT_MAX;
use crate::store::shared::usage::names;

/// A line: its sum over all writers, and each writer's share by its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineCount {
    pub(super) route: Arc<str>,
    pub(super) key: Arc<str>,
    pub(super) outcome: Outcome,
    pub(super) sum: u64,
    pub(super) parts: Vec<u64>,
}

/// All that one hash says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PeriodCounts {
    /// By their position.
    pub(super) writers: BTreeMap<usize, u128>,
    pub(super) lines: BTreeMap<Vec<u8>, LineCount>,
}

impl PeriodCounts {
    /// Takes in names and values in turn.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) fn take_in(&mut self, pairs: &[Value]) -> Result<(), String> {
        for pair in pairs.chunks(2) {
            let [Value::BulkString(field), Value::BulkString(value)] = pair else {
                return Err("a line is no text".to_owned());
            };
            match field.split_first() {
                Some((b'w', [])) => {}
                Some((b'w', writer)) => {
                    let position = number(value).and_then(|position| usize::try_from(position).ok());
                    let (Some(writer), Some(position)) = (names::read_writer(writer), position) else {
                        return Err("a writer cannot be read".to_owned());
                    };
                    self.writers.insert(position, writer);
                }
                _ => {
                    let line = read(field, value).ok_or_else(|| format!("a line cannot be read: {:?}", String::from_utf8_lossy(field)))?;
                    self.lines.insert(field.clone(), line);
                }
            }
        }
        Ok(())
    }
}

fn read(field: &[u8], value: &[u8]) -> Option<LineCount> {
    let (route, key, outcome) = names::read_line(field)?;
    let mut numbers = value.split(|byte| *byte == b';');
    let sum = number(numbers.next()?)?;
    let parts = numbers.map(|part| if part.is_empty() { Some(0) } else { number(part) }).collect::<Option<Vec<u64>>>()?;
    // Whoever changed one of them by hand did not change the other.
    if parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part)).min(COUNT_MAX) != sum {
        return None;
    }
    Some(LineCount { route, key, outcome, sum, parts })
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
