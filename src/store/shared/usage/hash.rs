//! One user's counts of one period, as the store gives them.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::Value;

use crate::model::usage::Outcome;
use crate::store::shared::usage::COUNT_MAX;
use crate::store::shared::usage::names;

/// Shares that lie in one value.
const WRITERS_A_PIECE: usize = 8;
const PIECES_MAX: usize = 8192;

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
    /// Shares from the ninth writer on, by line and piece.
    pieces: BTreeMap<(Vec<u8>, usize), Vec<u64>>,
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
            let unreadable = || format!("a line cannot be read: {:?}", String::from_utf8_lossy(field));
            match field.split_first() {
                Some((b'w', [])) => {}
                Some((b'w', writer)) => {
                    let position = number(value).and_then(|position| usize::try_from(position).ok());
                    let (Some(writer), Some(position)) = (names::read_writer(writer), position) else {
                        return Err("a writer cannot be read".to_owned());
                    };
                    self.writers.insert(position, writer);
                }
                Some((b'0'..=b'9', _)) => {
                    let (piece, line) = field.split_at(field.iter().take_while(|byte| byte.is_ascii_digit()).count());
                    let piece = number(piece).and_then(|piece| usize::try_from(piece).ok()).filter(|piece| *piece <= PIECES_MAX);
                    let (Some(piece), Some(shares)) = (piece, shares(value.split(|byte| *byte == b';'))) else { return Err(unreadable()) };
                    self.pieces.insert((line.to_vec(), piece), shares);
                }
                _ => {
                    let line = read(field, value).ok_or_else(unreadable)?;
                    self.lines.insert(field.clone(), line);
                }
            }
        }
        Ok(())
    }

    /// Puts the lines together. What was read at one instant must add up: whoever changed a number by hand did not change the
    /// other.
    ///
    /// # Errors
    /// What does not.
    pub(super) fn finish(mut self, at_one_instant: bool) -> Result<Self, String> {
        for ((line, piece), shares) in std::mem::take(&mut self.pieces) {
            if let Some(line) = self.lines.get_mut(&line) {
                let start = piece * WRITERS_A_PIECE;
                line.parts.resize(line.parts.len().max(start + shares.len()), 0);
                for (place, share) in line.parts.iter_mut().skip(start).zip(shares) {
                    *place = share;
                }
            }
        }
        for line in self.lines.values() {
            let sum = line.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part)).min(COUNT_MAX);
            if at_one_instant && sum != line.sum {
                return Err(format!("the line of {} is not the sum of its parts", line.route));
            }
        }
        Ok(self)
    }
}

fn read(field: &[u8], value: &[u8]) -> Option<LineCount> {
    let (route, key, outcome) = names::read_line(field)?;
    let mut numbers = value.split(|byte| *byte == b';');
    let sum = number(numbers.next()?)?;
    Some(LineCount { route, key, outcome, sum, parts: shares(numbers)? })
}

fn shares<'a>(numbers: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u64>> {
    let shares: Vec<u64> = numbers.map(|part| if part.is_empty() { Some(0) } else { number(part) }).collect::<Option<_>>()?;
    (shares.len() <= WRITERS_A_PIECE).then_some(shares)
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
