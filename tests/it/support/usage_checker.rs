//! The judge of shared counts, over what lies in Redis itself and nothing of ours: for each user and period every line's total is the
//! sum of what its writers say, and
//! allows seen ≤ total ≤ allows seen + what may have been in flight when a sidecar was killed.
//!
//! The library's own tests include this file too, so it uses nothing but the standard library.

use std::collections::BTreeMap;

/// A line stops counting here.
const COUNT_MAX: u64 = (1 << 53) - 1;

/// A user's tag, as it is written in keys: everything but letters, digits and `-_.~@/` as `%` and two digits.
pub type Tag = String;

/// `h`, `d` or `m`, and the number of the period.
pub type Period = (char, u32);

/// Sends one command to one server; the texts of the list that it answers.
pub type Ask<'a> = &'a dyn Fn(&[&str]) -> Vec<String>;

/// One line: what it says all in all, and what each writer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub total: u64,
    pub by_writer: BTreeMap<String, u64>,
}

/// All counts of a store, by user and period and then by line.
#[derive(Clone, Debug, Default)]
pub struct Contents(pub BTreeMap<(Tag, Period), BTreeMap<String, Line>>);

/// What a client knows of a user in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub allows: u64,
    /// Checks of which nobody knows whether they were counted.
    pub in_flight: u64,
}

impl Contents {
    /// Reads everything from the servers that hold it.
    ///
    /// # Panics
    /// When something cannot be read.
    pub fn read(servers: &[Ask<'_>], prefix: &str) -> Self {
        let mut contents = Self::default();
        for ask in servers {
            for key in ask(&["KEYS", &format!("{prefix}:1:u:*")]) {
                let (tag, rest) = key.split_once('{').and_then(|(_, rest)| rest.split_once("}:")).expect("a user's tag");
                let (span, number) = rest.split_once(':').expect("a span and a period");
                let period = (span.chars().next().expect("a span"), number.parse().expect("a period"));
                let lines = lines_of(&key, &ask(&["HGETALL", &key]));
                assert!(contents.0.insert((tag.to_owned(), period), lines).is_none(), "{key} lies on two servers");
            }
        }
        contents
    }

    /// The sum of admitted requests.
    pub fn allowed(&self, tag: &str, period: Period) -> u64 {
        self.lines(tag, period).filter(|(line, _)| line.starts_with('a')).map(|(_, line)| line.total).sum()
    }

    /// What one writer says of a user in a period.
    pub fn of_writer(&self, tag: &str, period: Period, writer: &str) -> u64 {
        self.lines(tag, period).filter_map(|(_, line)| line.by_writer.get(writer)).sum()
    }

    fn lines(&self, tag: &str, period: Period) -> impl Iterator<Item = (&String, &Line)> {
        self.0.get(&(tag.to_owned(), period)).into_iter().flatten()
    }

    /// Judges. `seen` is by user and hour; days and months follow from it, `month_of` tells the month of an hour.
    ///
    /// # Errors
    /// Every breach, one a line.
    pub fn judge(&self, seen: &BTreeMap<(Tag, u32), Seen>, month_of: &dyn Fn(u32) -> u32) -> Result<(), String> {
        let mut breaches = self.sums();
        let mut expected: BTreeMap<(Tag, Period), Seen> = BTreeMap::new();
        for ((tag, hour), seen) in seen {
            for period in [('h', *hour), ('d', hour / 24), ('m', month_of(*hour))] {
                let sum = expected.entry((tag.clone(), period)).or_default();
                sum.allows += seen.allows;
                sum.in_flight += seen.in_flight;
            }
        }
        for ((tag, period), seen) in &expected {
            let total = self.allowed(tag, *period);
            if total < seen.allows || total > seen.allows + seen.in_flight {
                breaches.push(format!("{tag} {period:?}: {total} counted, {} seen, {} in flight", seen.allows, seen.in_flight));
            }
        }
        for ((tag, period), lines) in &self.0 {
            if !expected.contains_key(&(tag.clone(), *period)) && lines.keys().any(|line| line.starts_with('a')) {
                breaches.push(format!("{tag} {period:?}: counted, and nobody saw anything"));
            }
        }
        if breaches.is_empty() { Ok(()) } else { Err(breaches.join("\n")) }
    }

    /// Lines whose total is not the sum of what their writers say.
    pub fn sums(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        for ((tag, period), lines) in &self.0 {
            for (name, line) in lines {
                let sum = line.by_writer.values().fold(0_u64, |sum, count| sum.saturating_add(*count)).min(COUNT_MAX);
                if sum != line.total {
                    breaches.push(format!("{tag} {period:?} {name}: {} in all, and {:?}", line.total, line.by_writer));
                }
            }
        }
        breaches
    }
}

fn lines_of(key: &str, pairs: &[String]) -> BTreeMap<String, Line> {
    let mut writers: BTreeMap<usize, String> = BTreeMap::new();
    let mut shares: BTreeMap<String, Vec<(usize, u64)>> = BTreeMap::new();
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{key}: {text:?} is no count"));
    for pair in pairs.chunks(2) {
        let [field, value] = pair else { panic!("{key}: {pair:?}") };
        if let Some(writer) = field.strip_prefix('w') {
            if !writer.is_empty() {
                assert!(writers.insert(value.parse().expect("a position"), writer.to_owned()).is_none(), "{key}: {pair:?}");
            }
            continue;
        }
        // The first eight shares lie behind the total, the others in fields that begin with a number.
        let line = field.trim_start_matches(|byte: char| byte.is_ascii_digit());
        let piece = field.strip_suffix(line).expect("a line").parse().unwrap_or(0_usize);
        let mut numbers = value.split(';');
        if piece == 0 {
            totals.insert(line.to_owned(), number(numbers.next().expect("a total")));
        }
        let found = numbers.enumerate().filter(|(_, part)| !part.is_empty()).map(|(at, part)| (8 * piece + at, number(part)));
        shares.entry(line.to_owned()).or_default().extend(found);
    }
    shares
        .into_iter()
        .map(|(name, shares)| {
            let total = *totals.get(&name).expect("a total");
            let by_writer = shares.into_iter().map(|(at, count)| (writers.get(&at).expect("a writer").clone(), count)).collect();
            (name, Line { total, by_writer })
        })
        .collect()
}
