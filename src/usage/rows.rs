//! What the history writes under its rows' keys: what an hour knows of its tellers, and the names of totals.

use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::model::usage_row::RowKey;
use crate::usage::live::Stated;

/// How many tellers of one row are remembered one by one. More than one only comes of damage, or of a clock that leapt.
const TELLERS_MAX: usize = 64;
const TELLER_BYTES: usize = 32;

/// The row that a counter belongs to.
pub(super) fn row_of(stated: &Stated, span: Span) -> RowKey {
    RowKey {
        period: span.index(stated.hour.start()),
        user: std::sync::Arc::clone(&stated.user),
        key: std::sync::Arc::clone(&stated.key),
        route: std::sync::Arc::clone(&stated.route),
        outcome: stated.outcome,
    }
}

/// The key of a user's total of one outcome.
pub(super) fn total_key(user: &str, outcome: Outcome) -> String {
    format!("{}:{user}", outcome.as_str())
}

pub(super) fn read_total_key(key: &str) -> Option<(Outcome, &str)> {
    let (outcome, user) = key.split_once(':')?;
    Some((Outcome::ALL.into_iter().find(|known| known.as_str() == outcome)?, user))
}

/// An hour's row: the total, and the greatest count that each birth of a slot has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HourValue {
    pub(super) total: u64,
    tellers: Vec<(u128, u64, u64)>,
}

impl HourValue {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (total, rest) = bytes.split_first_chunk::<8>()?;
        if rest.len() % TELLER_BYTES != 0 {
            return None;
        }
        let mut tellers = Vec::with_capacity(rest.len() / TELLER_BYTES);
        for entry in rest.chunks_exact(TELLER_BYTES) {
            let (writer, entry) = entry.split_first_chunk::<16>()?;
            let (birth, entry) = entry.split_first_chunk::<8>()?;
            let count = entry.first_chunk::<8>()?;
            tellers.push((u128::from_le_bytes(*writer), u64::from_le_bytes(*birth), u64::from_le_bytes(*count)));
        }
        Some(Self { total: u64::from_le_bytes(*total), tellers })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = self.total.to_le_bytes().to_vec();
        for (writer, birth, count) in &self.tellers {
            bytes.extend_from_slice(&writer.to_le_bytes());
            bytes.extend_from_slice(&birth.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    /// The greatest count that this birth has told.
    pub(super) fn told(&self, writer: u128, birth: u64) -> u64 {
        self.tellers.iter().find(|teller| (teller.0, teller.1) == (writer, birth)).map_or(0, |teller| teller.2)
    }

    /// Takes in a count that is told, perhaps again; returns by how much the total rose.
    pub(super) fn tell(&mut self, writer: u128, birth: u64, count: u64) -> u64 {
        let added = count.saturating_sub(self.told(writer, birth));
        if added == 0 {
            return 0;
        }
        match self.tellers.iter_mut().find(|teller| (teller.0, teller.1) == (writer, birth)) {
            Some(teller) => teller.2 = count,
            None => {
                if self.tellers.len() >= TELLERS_MAX {
                    self.tellers.remove(0);
                }
                self.tellers.push((writer, birth, count));
            }
        }
        self.total = self.total.saturating_add(added);
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::ProptestConfig;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_a_value_or_none(bytes in proptest::collection::vec(0_u8..=255, 0..80)) {
            if let Some(value) = HourValue::read(&bytes) {
                prop_assert_eq!(value.write(), bytes);
            }
        }
    }

    #[test]
    fn telling_again_late_or_less_changes_nothing() {
        let mut value = HourValue::default();
        let added: Vec<u64> = [10, 10, 7, 12].into_iter().map(|count| value.tell(1, 5, count)).collect();
        assert_eq!(added, [10, 0, 0, 2]);
        assert_eq!(value.tell(1, 6, 3), 3, "another birth begins at nothing");
        assert_eq!(value.tell(2, 5, 4), 4, "and so does another writer");
        assert_eq!(value.total, 19);
        assert_eq!(HourValue::read(&value.write()), Some(value));
    }
}
