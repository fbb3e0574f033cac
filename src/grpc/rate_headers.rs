//! `X-RateLimit-*` for one bucket, the tightest, and the IETF pair `RateLimit-Policy` and `RateLimit` for all of them.

use std::time::Duration;

use crate::check::throttle::Admission;
use crate::check::throttle::PolicyLevel;
use crate::model::time::Timestamp;

/// What two policies take in a header.
const USUAL_BYTES: usize = 64;

/// The headers that tell a client how far it may go; none where nothing limits it.
pub fn rate_headers(admission: &Admission, now: Timestamp) -> Vec<(&'static str, String)> {
    let levels = admission.levels();
    let Some(tightest) = admission.tightest() else {
        return Vec::new();
    };
    let (mut policies, mut remaining) = (String::with_capacity(USUAL_BYTES), String::with_capacity(USUAL_BYTES));
    for (position, bucket) in levels.iter().enumerate() {
        let separator = if position == 0 { "" } else { ", " };
        let name = quoted(&bucket.policy);
        policies.extend([separator, &name, ";q=", &bucket.limit.per_minute.to_string(), ";w=60"]);
        remaining.extend([separator, &name, ";r=", &bucket.level.remaining.to_string()]);
        if bucket.level.remaining == 0 {
            remaining.extend([";t=", &whole_seconds(bucket.level.next_token).max(1).to_string()]);
        }
    }
    vec![
        ("x-ratelimit-limit", tightest.limit.per_minute.to_string()),
        ("x-ratelimit-remaining", tightest.level.remaining.to_string()),
        ("x-ratelimit-reset", full_at(tightest, now).to_string()),
        ("ratelimit-policy", policies),
        ("ratelimit", remaining),
    ]
}

/// Rounded up, so that nobody comes back too early.
pub fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// The Unix second at which the bucket is full again: never before now.
fn full_at(bucket: &PolicyLevel, now: Timestamp) -> u64 {
    let wait = whole_seconds(bucket.level.full_at.since(now));
    let from_now = if wait == 0 { now.unix_seconds() } else { rounded_up(bucket.level.full_at) };
    from_now.max(now.unix_seconds())
}

fn rounded_up(instant: Timestamp) -> u64 {
    let seconds = instant.unix_seconds();
    if instant > Timestamp::from_unix_seconds(seconds) { seconds.saturating_add(1) } else { seconds }
}

/// A string of RFC 9651: printable ASCII, quotes and backslashes escaped.
fn quoted(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => text.push('?'),
        }
    }
    text.push('"');
    text
}
