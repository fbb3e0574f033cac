//! Which buckets a request must pass, and the limiter's answer, or its failure, judged.
//!
//! Two questions: the buckets of the route and of the address first, by themselves, then whatever belongs to the caller, all or
//! none. A burst against one route therefore never drains its caller's own allowance on refusal.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use crate::check::authorise::Permit;
use crate::check::decide::Denial;
use crate::check::decide::Particulars;
use crate::check::reasons::Reason;
use crate::model::caller::Caller;
use crate::model::caller::UserId;
use crate::model::quota::Level;
use crate::model::quota::Limit;
use crate::model::quota::Per;
use crate::model::quota::Policy;
use crate::model::route::Route;
use crate::model::rules::LimitsFailure;
use crate::model::rules::Rules;
use crate::model::scope::UNLIMITED;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;

/// What the limits said. On an allow it is the proof of admission; inside a denial it feeds the headers.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    levels: Vec<PolicyLevel>,
    retry_after: Option<Duration>,
    judged_by: JudgedBy,
}

/// Who judged a request's buckets; of two questions the weaker answer counts, so the order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JudgedBy {
    /// The buckets themselves.
    Limits,
    /// They failed, and this sidecar counted its share of them.
    LocalShare,
    /// They failed, and the config says `pass`.
    Nobody,
}

impl JudgedBy {
    /// For the log, where something stood in for the limits.
    pub const fn note(self) -> Option<&'static str> {
        match self {
            Self::Limits => None,
            Self::LocalShare => Some("the limits failed; judged by this sidecar's share of them"),
            Self::Nobody => Some("the limits failed; passed without them, as the config says"),
        }
    }
}

/// One bucket after the question.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyLevel {
    pub policy: Arc<str>,
    pub limit: Limit,
    pub level: Level,
}

impl Admission {
    /// Every bucket that was asked; empty when nothing limits the caller.
    pub fn levels(&self) -> &[PolicyLevel] {
        &self.levels
    }

    /// The bucket that the `X-RateLimit-*` headers speak of: the one that admits the fewest requests now; among equals the one
    /// that is longest in getting its next token, then the slowest.
    pub fn tightest(&self) -> Option<&PolicyLevel> {
        self.levels.iter().min_by_key(|asked| (asked.level.remaining, std::cmp::Reverse(asked.level.next_token), asked.limit.per_minute))
    }

    /// Until the same request could pass; none on an allow, or when no waiting helps.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Who judged.
    pub fn judged_by(&self) -> JudgedBy {
        self.judged_by
    }

    /// For the tests of doors, which can make no verdict themselves.
    #[cfg(test)]
    pub(in crate::check) fn for_test(levels: Vec<PolicyLevel>, retry_after: Option<Duration>) -> Self {
        Self { levels, retry_after, judged_by: JudgedBy::Limits }
    }
}

/// The buckets that a request must pass.
#[derive(Debug)]
pub struct Questions<'r> {
    shared: Vec<Question<'r>>,
    own: Vec<Question<'r>>,
    /// The caller's owner: the organisation, the user where there is none.
    root: String,
    cost: u32,
}

#[derive(Debug)]
struct Question<'r> {
    policy: Cow<'r, Policy>,
    owner: String,
}

/// A limiter's answer to one of the two questions.
#[derive(Debug)]
pub enum Answered {
    /// There was nothing to ask.
    NotAsked,
    Asked(Result<Taken, StoreError>),
    /// The limits failed, and this sidecar's share of them was asked instead.
    StoodIn {
        failure: StoreError,
        share: Result<Taken, StoreError>,
    },
}

/// The buckets of the route and the address admitted. Only [`enter`] makes one.
#[derive(Debug)]
pub struct Entered {
    levels: Vec<PolicyLevel>,
    judged_by: JudgedBy,
}

impl Entered {
    /// Who judged.
    pub fn judged_by(&self) -> JudgedBy {
        self.judged_by
    }
}

/// Which buckets this request must pass: the tier's, the key's own, and the route's. None for a preflight, and none for whoever
/// holds `tollgate:unlimited` (configured principals that are exempt hold it too).
pub fn questions<'r>(permit: &Permit<'r>, client: Option<IpAddr>, rules: &'r Rules) -> Questions<'r> {
    let (route, caller) = (permit.route(), permit.caller());
    let root = owner_of(Per::Owner, route, caller, client).unwrap_or_default();
    let mut questions = Questions { shared: Vec::new(), own: Vec::new(), root, cost: route.cost };
    if permit.reason() == Reason::Preflight || caller.is_some_and(|caller| caller.scopes.covers(UNLIMITED)) {
        return questions;
    }
    let tier = caller.and_then(|caller| caller.tier.as_ref()).and_then(|tier| rules.tiers.get(tier));
    for policy in tier.map(|tier| tier.policies.as_slice()).unwrap_or_default().iter().chain(&route.limits) {
        if let Some(owner) = owner_of(policy.per, route, caller, client) {
            questions.add(Question { policy: Cow::Borrowed(policy), owner });
        }
    }
    if let Some((caller, per_minute)) = caller.and_then(|caller| caller.key_rate_limit.map(|rate| (caller, rate))) {
        let policy = Policy { name: Arc::clone(&KEY_RATE_LIMIT), per: Per::Key, limit: Limit::new(per_minute, None) };
        if let Some(owner) = owner_of(policy.per, route, Some(caller), client) {
            questions.add(Question { policy: Cow::Owned(policy), owner });
        }
    }
    questions
}

/// The name of the policy that a key's own `rate_limit` makes.
static KEY_RATE_LIMIT: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("key_rate_limit"));

impl<'r> Questions<'r> {
    /// What to ask first, by itself.
    pub fn shared(&self) -> Vec<Take<'_>> {
        self.takes(&self.shared)
    }

    /// What to ask then: all of it admits, or none of it is debited.
    pub fn own(&self) -> Vec<Take<'_>> {
        self.takes(&self.own)
    }

    fn takes<'q>(&'q self, asked: &'q [Question<'r>]) -> Vec<Take<'q>> {
        let take = |question: &'q Question<'r>| Take {
            policy: &question.policy,
            owner: &question.owner,
            root: self.root_of(question),
            cost: self.cost,
        };
        asked.iter().map(take).collect()
    }

    /// Those of the route and of the address have nothing to do with the caller.
    fn root_of<'q>(&'q self, question: &'q Question<'r>) -> &'q str {
        match question.policy.per {
            Per::Route | Per::Address => &question.owner,
            Per::Owner | Per::User | Per::Organization | Per::Key => &self.root,
        }
    }

    fn add(&mut self, question: Question<'r>) {
        match question.policy.per {
            Per::Route | Per::Address => self.shared.push(question),
            Per::Owner | Per::User | Per::Organization | Per::Key => self.own.push(question),
        }
    }
}

/// Whether this sidecar's share is to be asked when the limits fail.
pub fn is_stood_in_for(rules: &Rules) -> bool {
    rules.limits_failure == LimitsFailure::LocalShare
}

/// Judges the answer to [`Questions::shared`].
///
/// # Errors
/// [`Reason::RateLimited`], or [`Reason::LimitsUnavailable`] when there was no answer and the config does not say `pass`.
pub fn enter(questions: &Questions<'_>, answer: Answered, rules: &Rules) -> Result<Entered, Denial> {
    judge(&questions.shared, Entered { levels: Vec::new(), judged_by: JudgedBy::Limits }, answer, rules)
}

/// Judges the answer to [`Questions::own`].
///
/// # Errors
/// As [`enter`].
pub fn throttle(questions: &Questions<'_>, entered: Entered, answer: Answered, rules: &Rules) -> Result<Admission, Denial> {
    let Entered { levels, judged_by } = judge(&questions.own, entered, answer, rules)?;
    Ok(Admission { levels, retry_after: None, judged_by })
}

fn judge(asked: &[Question<'_>], entered: Entered, answer: Answered, rules: &Rules) -> Result<Entered, Denial> {
    let (taken, judged_by) = match (answer, rules.limits_failure) {
        (Answered::NotAsked, _) if asked.is_empty() => return Ok(entered),
        (Answered::NotAsked, _) => return Err(Denial::new(Reason::Internal).because("limits were not asked")),
        (Answered::Asked(Ok(taken)), _) => (taken, entered.judged_by),
        (Answered::StoodIn { share: Ok(taken), .. }, LimitsFailure::LocalShare) => (taken, entered.judged_by.max(JudgedBy::LocalShare)),
        (Answered::StoodIn { failure, share: Err(error) }, LimitsFailure::LocalShare) => {
            let why = format!("{failure}; this sidecar's share of the limits failed too: {error}");
            return Err(Denial::new(Reason::LimitsUnavailable).because(why));
        }
        (Answered::Asked(Err(_)) | Answered::StoodIn { .. }, LimitsFailure::Pass) => {
            return Ok(Entered { judged_by: JudgedBy::Nobody, ..entered });
        }
        // An engine that nothing stands in for leaves nothing to count by.
        (Answered::Asked(Err(failure)), LimitsFailure::LocalShare | LimitsFailure::Deny)
        | (Answered::StoodIn { failure, .. }, LimitsFailure::Deny) => {
            return Err(Denial::new(Reason::LimitsUnavailable).because(failure.to_string()));
        }
    };
    if taken.levels.len() != asked.len() {
        return Err(Denial::new(Reason::Internal).because("the limiter answered another question"));
    }
    let mut levels = entered.levels;
    levels.extend(asked.iter().zip(&taken.levels).map(|(question, level)| PolicyLevel {
        policy: Arc::clone(&question.policy.name),
        limit: question.policy.limit,
        level: *level,
    }));
    if taken.admitted {
        return Ok(Entered { levels, judged_by });
    }
    let refused = Admission { levels, retry_after: taken.retry_after, judged_by };
    let denial = Denial::with(Reason::RateLimited, Particulars::Limits(Box::new(refused)));
    Err(match judged_by.note() {
        Some(note) => denial.because(note),
        None => denial,
    })
}

/// Whose bucket; none where the request has no such owner. Nobody in particular shares one bucket with everybody else of that
/// kind, so that a limit per user or per address holds for those who show neither.
fn owner_of(per: Per, route: &Route, caller: Option<&Caller>, client: Option<IpAddr>) -> Option<String> {
    let user = || format!("user:{}", caller.map_or(UserId::anonymous_ref(), |caller| &caller.user));
    let organization = || caller.and_then(|caller| caller.organization.as_ref()).map(|organization| format!("org:{organization}"));
    match per {
        Per::Owner => Some(organization().unwrap_or_else(user)),
        Per::User => Some(user()),
        Per::Organization => organization(),
        Per::Key => caller.and_then(|caller| caller.key.as_ref()).map(|key| format!("key:{key}")),
        Per::Route => Some(format!("route:{}", route.name)),
        Per::Address => Some(match client.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => format!("address:{address}"),
            // One customer holds a /64; its single addresses are free for the taking.
            Some(IpAddr::V6(address)) => {
                let network = address.to_bits() & (u128::MAX << 64);
                format!("address:{}/64", std::net::Ipv6Addr::from_bits(network))
            }
            None => "address:unknown".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
