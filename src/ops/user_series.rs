//! Users' counts as Prometheus series. `/metrics` names the first users up to a limit and sums the rest, so its size is bounded;
//! `/metrics/usage` names everybody. Every series only grows and their sum is exact: once a user is named it stays named, and once it is
//! in the sum it stays in the sum, until the process ends.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::model::usage::Outcome;
use crate::stats::UserTotal;
use crate::telemetry::Metrics;
use crate::telemetry::reference::user_requests;

/// No user id renders so.
const OTHER: &str = "__other__";

/// Which users have a series of their own.
#[derive(Debug, Default)]
pub struct UserSeries {
    named: Mutex<HashMap<String, Place>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Named,
    Summed,
}

impl UserSeries {
    /// The lines for `/metrics`; the limit is the one that the gauge `usage_series_limit` shows.
    pub fn write(&self, totals: &[UserTotal], metrics: &Metrics) -> String {
        let limit = usize::try_from(metrics.usage_series_limit.get()).unwrap_or_default();
        let mut places = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = places.values().filter(|place| **place == Place::Named).count();
        let mut others: BTreeMap<Outcome, u64> = BTreeMap::new();
        let mut text = head();
        for total in totals {
            let place = match places.get(&total.user) {
                Some(place) => *place,
                None => {
                    let place = if named < limit { Place::Named } else { Place::Summed };
                    named += usize::from(place == Place::Named);
                    places.insert(total.user.clone(), place);
                    place
                }
            };
            match place {
                Place::Named => write_line(&mut text, &total.user, total.outcome, total.count),
                Place::Summed => {
                    let sum = others.entry(total.outcome).or_default();
                    *sum = sum.saturating_add(total.count);
                }
            }
        }
        for (outcome, count) in others {
            write_line(&mut text, OTHER, outcome, count);
        }
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.usage_series.set(gauge(named));
        metrics.usage_overflow_users.set(gauge(places.len().saturating_sub(named)));
        text
    }
}

/// One part of all users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// Both or neither; the index below the count.
    pub fn new(index: Option<u32>, count: Option<u32>) -> Option<Self> {
        match (index, count) {
            (None, None) => Some(Self { index: 0, count: 1 }),
            (Some(index), Some(count)) if index < count => Some(Self { index, count }),
            (Some(_) | None, Some(_)) | (Some(_), None) => None,
        }
    }

    fn holds(self, user: &str) -> bool {
        crc32fast::hash(user.as_bytes()) % self.count == self.index
    }
}

/// The lines for `/metrics/usage`.
pub fn write_all_users(totals: &[UserTotal], shard: Shard) -> String {
    let mut text = head();
    text.reserve(totals.len() * 80);
    for total in totals.iter().filter(|total| shard.holds(&total.user)) {
        write_line(&mut text, &total.user, total.outcome, total.count);
    }
    text
}

fn head() -> String {
    let family = user_requests();
    format!("# HELP {0} {1}\n# TYPE {0} {2}\n", family.name, family.help, family.kind.as_str())
}

fn write_line(text: &mut String, user: &str, outcome: Outcome, count: u64) {
    text.push_str("tollgate_user_requests_total{user=\"");
    for character in user.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\",outcome=\"{}\"}} {count}", outcome.as_str());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(list: &[(&str, Outcome, u64)]) -> Vec<UserTotal> {
        list.iter().map(|(user, outcome, count)| UserTotal { user: (*user).to_owned(), outcome: *outcome, count: *count }).collect()
    }

    #[test]
    fn users_beyond_the_limit_are_summed_and_stay_where_they_are() {
        let metrics = Metrics::new().unwrap();
        let series = UserSeries::default();
        let first =
            totals(&[("a", Outcome::Allowed, 1), ("b", Outcome::Allowed, 2), ("c", Outcome::Allowed, 4), ("c", Outcome::Limited, 8)]);
        metrics.usage_series_limit.set(2);
        let text = series.write(&first, &metrics);
        assert!(text.contains("{user=\"a\",outcome=\"allowed\"} 1\n"));
        assert!(text.contains("{user=\"__other__\",outcome=\"allowed\"} 4\n"));
        assert!(text.contains("{user=\"__other__\",outcome=\"limited\"} 8\n"));
        assert!(!text.contains("\"c\""));
        assert_eq!(metrics.usage_overflow_users.get(), 1);
        // A higher limit names newcomers; who was summed stays summed, or the sum would shrink.
        let second = totals(&[("d", Outcome::Allowed, 1), ("c", Outcome::Allowed, 5), ("a", Outcome::Allowed, 1)]);
        metrics.usage_series_limit.set(3);
        let text = series.write(&second, &metrics);
        assert!(text.contains("{user=\"d\",outcome=\"allowed\"} 1\n"));
        assert!(text.contains("{user=\"__other__\",outcome=\"allowed\"} 5\n"));
    }

    #[test]
    fn shards_part_the_users_without_rest_or_overlap() {
        let users: Vec<String> = (0..100).map(|number| format!("user-{number}")).collect();
        let all: Vec<UserTotal> = users.iter().map(|user| UserTotal { user: user.clone(), outcome: Outcome::Allowed, count: 1 }).collect();
        let lines =
            |shard| write_all_users(&all, shard).lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        let mut parts: Vec<String> = (0..3).flat_map(|index| lines(Shard::new(Some(index), Some(3)).unwrap())).collect();
        let mut whole = lines(Shard::new(None, None).unwrap());
        parts.sort();
        whole.sort();
        assert_eq!(parts, whole);
        for bad in [(Some(3), Some(3)), (Some(0), Some(0)), (Some(0), None), (None, Some(2))] {
            assert_eq!(Shard::new(bad.0, bad.1), None);
        }
    }

    #[test]
    fn no_user_id_breaks_out_of_its_label() {
        let text = write_all_users(&totals(&[("x\"} 1\n\\", Outcome::Allowed, 7)]), Shard::new(None, None).unwrap());
        assert_eq!(text.lines().count(), 3);
        assert!(text.ends_with("{user=\"x\\\"} 1\\n\\\\\",outcome=\"allowed\"} 7\n"));
    }
}
