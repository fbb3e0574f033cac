//! Reading counts by period, user and line, a bounded piece of work at a time.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use futures_util::future::join_all;
use redis::Value;

use crate::model::time::Timestamp;
use crate::model::usage::ROWS_MAX;
use crate::model::usage::Span;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageQuery;
use crate::model::usage::UsageRow;
use crate::model::usage_row;
use crate::model::usage_row::RowKey;
use crate::store::CountsError;
use crate::store::StoreError;
use crate::store::shared::link::Call;
use crate::store::shared::usage::PERIOD_BYTES_MAX;
use crate::store::shared::usage::PERIOD_LINES_MAX;
use crate::store::shared::usage::READ;
use crate::store::shared::usage::READ_NAMES;
use crate::store::shared::usage::SharedCounts;
use crate::store::shared::usage::hash::PeriodCounts;
use crate::store::shared::usage::read_error;
use crate::store::shared::usage::text;

/// Periods of users that one page looks at, at the most; a page may so end before it is full.
const LOOKS_MAX: usize = 20_000;
/// Looked at together.
const LOOKS_TOGETHER: usize = 128;
/// Names read from a list by one call.
pub(super) const NAMES_TOGETHER: usize = 1000;
/// Months that there can be.
const MONTHS_MAX: usize = 10_000;

/// Where a page begins.
struct Start {
    period: u32,
    user: Option<Arc<str>>,
    /// Rows up to this one were shown.
    behind: Option<Vec<u8>>,
}

impl SharedCounts {
    pub(super) async fn page(&self, query: &UsageQuery) -> Result<UsagePage, CountsError> {
        let limit = query.limit.clamp(1, ROWS_MAX);
        let start = match &query.after {
            Some(after) => Start::read(after).ok_or_else(|| CountsError::Cursor(after.clone()))?,
            None => Start { period: query.span.index(query.from), user: None, behind: None },
        };
        let mut walk = Pairs::begin(self, query, start.period, start.user).await?;
        let mut rows: Vec<(Vec<u8>, UsageRow)> = Vec::new();
        let mut looks = 0;
        let mut page = UsagePage::default();
        loop {
            let pairs = walk.next(self, query, LOOKS_TOGETHER.min(limit.saturating_mul(2).max(8))).await?;
            let Some((first_period, first_user)) = pairs.first() else { break };
            if looks >= LOOKS_MAX {
                page.next = Some(usage_row::write_cursor(&usage_row::prefix(*first_period, Some(first_user))));
                break;
            }
            looks += pairs.len();
            let read = join_all(pairs.iter().map(|(period, user)| self.period_counts(query.span, *period, user))).await;
            for ((period, user), counts) in pairs.iter().zip(read) {
                let found = rows_of(query, *period, user, counts?);
                rows.extend(found.into_iter().filter(|(key, _)| start.behind.as_ref().is_none_or(|behind| key > behind)));
            }
            if rows.len() > limit {
                rows.truncate(limit);
                page.next = rows.last().map(|(key, _)| usage_row::write_cursor(key));
                break;
            }
        }
        page.rows = rows.into_iter().map(|(_, row)| row).collect();
        Ok(page)
    }

    /// Everything that one user has in one period.
    pub(super) async fn period_counts(&self, span: Span, period: u32, user: &str) -> Result<PeriodCounts, StoreError> {
        let place = self.names.counts(span, period, user);
        let shown = String::from_utf8_lossy(&place).into_owned();
        let corrupt = |why: String| StoreError::Corrupt { key: shown.clone(), why };
        let mut counts = PeriodCounts::default();
        let mut cursor = b"0".to_vec();
        // A hash that changes meanwhile can be walked through in more steps than it has lines, but not in many more.
        for _ in 0..=PERIOD_LINES_MAX / 64 {
            let args = vec![cursor.clone(), text(PERIOD_LINES_MAX), text(PERIOD_BYTES_MAX)];
            let answer = self.run(Call { script: &READ, keys: vec![place.clone()], args }).await;
            let Value::Array(answer) = answer.map_err(|error| read_error(&shown, error))? else {
                return Err(corrupt("there is no list".to_owned()));
            };
            let [Value::BulkString(next), Value::Array(pairs)] = answer.as_slice() else {
                return Err(corrupt("there is no list".to_owned()));
            };
            counts.take_in(pairs).map_err(corrupt)?;
            if next == b"0" {
                return counts.finish(cursor == b"0").map_err(corrupt);
            }
            cursor = next.clone();
        }
        Err(corrupt("it has no end".to_owned()))
    }

    /// The months that have counts, in order.
    pub(super) async fn months(&self) -> Result<Vec<u32>, StoreError> {
        let names = self.read_names(self.names.months(), None, MONTHS_MAX).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Users that have counts in a month, what follows `after`.
    pub(super) async fn users_of(&self, month: u32, after: Option<&str>, most: usize) -> Result<Vec<Arc<str>>, StoreError> {
        self.read_names(self.names.users(month), after, most).await
    }

    async fn read_names(&self, list: Vec<u8>, after: Option<&str>, most: usize) -> Result<Vec<Arc<str>>, StoreError> {
        let shown = String::from_utf8_lossy(&list).into_owned();
        let corrupt = |why: &str| StoreError::Corrupt { key: shown.clone(), why: why.to_owned() };
        let mut args = vec![text(most as u64)];
        args.extend(after.map(|after| after.as_bytes().to_vec()));
        let answer = self.run(Call { script: &READ_NAMES, keys: vec![list], args }).await;
        let Value::Array(names) = answer.map_err(|error| read_error(&shown, error))? else {
            return Err(corrupt("there is no list"));
        };
        let read = |name: Value| {
            let Value::BulkString(name) = name else { return Err(corrupt("a name is no text")) };
            String::from_utf8(name).map(Arc::from).map_err(|_| corrupt("a name is no text"))
        };
        names.into_iter().map(read).collect()
    }
}

impl Start {
    /// A row that was shown, or a user with whom to begin.
    fn read(text: &str) -> Option<Self> {
        let bytes = usage_row::read_cursor(text)?;
        if let Some(row) = RowKey::read(&bytes) {
            return Some(Self { period: row.period, user: Some(row.user), behind: Some(bytes) });
        }
        let (period, user) = usage_row::read_prefix(&bytes)?;
        Some(Self { period, user: Some(user), behind: None })
    }
}

/// Periods and users in the order of rows.
struct Pairs {
    /// First and end, in order and apart.
    stretches: Vec<(u32, u32, u32)>,
    period: u32,
    /// The next user is the first one from here on.
    from: Bound<Arc<str>>,
    /// Users of a month, when all of them fit into one reading.
    whole_month: Option<(u32, Vec<Arc<str>>)>,
}

impl Pairs {
    async fn begin(counts: &SharedCounts, query: &UsageQuery, period: u32, user: Option<Arc<str>>) -> Result<Self, StoreError> {
        let (span, oldest) = (query.span, query.span.oldest_kept(counts.clock.now()));
        let (first, end) = (period.max(oldest), query.end_period());
        let mut stretches = Vec::new();
        for month in counts.months().await? {
            let starts = span.index(Span::Month.start(month));
            let ends = span.index(Span::Month.start(month.saturating_add(1)));
            if starts.max(first) < ends.min(end) {
                stretches.push((starts.max(first), ends.min(end), month));
            }
        }
        // A cursor's user counts in the cursor's period alone.
        let from = match user {
            Some(user) if stretches.first().is_some_and(|(first, ..)| *first == period) => Bound::Included(user),
            _ => Bound::Unbounded,
        };
        let period = stretches.first().map_or(0, |(first, ..)| *first);
        stretches.reverse();
        Ok(Self { stretches, period, from, whole_month: None })
    }

    /// The next ones, at most this many; none: there are no more.
    async fn next(&mut self, counts: &SharedCounts, query: &UsageQuery, most: usize) -> Result<Vec<(u32, Arc<str>)>, StoreError> {
        let mut pairs = Vec::with_capacity(most);
        while let Some(&(_, end, month)) = self.stretches.last() {
            let left = most - pairs.len();
            if left == 0 {
                break;
            }
            let users = match &query.users {
                Some(users) => among(users, &self.from, left),
                None => self.listed(counts, month, left).await?,
            };
            let is_through = users.len() < left;
            if let Some(last) = users.last() {
                self.from = Bound::Excluded(Arc::clone(last));
            }
            pairs.extend(users.into_iter().map(|user| (self.period, user)));
            if is_through {
                self.from = Bound::Unbounded;
                self.period += 1;
                if self.period >= end {
                    self.stretches.pop();
                    self.whole_month = None;
                    if let Some((first, ..)) = self.stretches.last() {
                        self.period = *first;
                    }
                }
            }
        }
        Ok(pairs)
    }

    async fn listed(&mut self, counts: &SharedCounts, month: u32, most: usize) -> Result<Vec<Arc<str>>, StoreError> {
        if self.whole_month.as_ref().is_none_or(|(known, _)| *known != month) {
            let users = counts.users_of(month, None, NAMES_TOGETHER).await?;
            if users.len() < NAMES_TOGETHER {
                self.whole_month = Some((month, users));
            } else {
                return self.listed_from(counts, month, most).await;
            }
        }
        let users = self.whole_month.as_ref().map(|(_, users)| users.as_slice()).unwrap_or_default();
        let begin = match &self.from {
            Bound::Unbounded => 0,
            Bound::Included(user) => users.partition_point(|known| known < user),
            Bound::Excluded(user) => users.partition_point(|known| known <= user),
        };
        Ok(users.iter().skip(begin).take(most).cloned().collect())
    }

    async fn listed_from(&self, counts: &SharedCounts, month: u32, most: usize) -> Result<Vec<Arc<str>>, StoreError> {
        match &self.from {
            Bound::Unbounded => counts.users_of(month, None, most).await,
            Bound::Excluded(user) => counts.users_of(month, Some(user), most).await,
            Bound::Included(user) => {
                // Whether the user is listed or not, it may be looked at.
                let mut users = vec![Arc::clone(user)];
                if most > 1 {
                    users.extend(counts.users_of(month, Some(user), most - 1).await?);
                }
                Ok(users)
            }
        }
    }
}

fn among(users: &BTreeSet<Arc<str>>, from: &Bound<Arc<str>>, most: usize) -> Vec<Arc<str>> {
    users.range::<Arc<str>, _>((from.as_ref(), Bound::Unbounded)).take(most).cloned().collect()
}

fn rows_of(query: &UsageQuery, period: u32, user: &Arc<str>, counts: PeriodCounts) -> Vec<(Vec<u8>, UsageRow)> {
    let start: Timestamp = query.span.start(period);
    let mut rows = Vec::new();
    for line in counts.lines.into_values() {
        let row = RowKey { period, user: Arc::clone(user), key: line.key, route: line.route, outcome: line.outcome };
        if query.matches(&row) {
            let key = row.write();
            let shown = (!row.key.is_empty()).then_some(row.key);
            rows.push((key, UsageRow { start, user: row.user, key: shown, route: row.route, outcome: row.outcome, count: line.sum }));
        }
    }
    rows.sort_by(|one, two| one.0.cmp(&two.0));
    rows
}
