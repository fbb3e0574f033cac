//! A recorded request judged again, without a shelf: the corridor's own rooms in their order, but for those between the credential and the
//! caller, whose outcome is the recorded one. For replays alone; nothing that serves calls this, and no allow ([`crate::check::decide::Grant`]) comes of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::check::authorise::authorise;
use crate::check::decide::Denial;
use crate::check::decide::Exit;
use crate::check::decide::Fault;
use crate::check::find_route::Found;
use crate::check::find_route::find_route;
use crate::check::meter;
use crate::check::pin_version::pin_version;
use crate::check::prepare::Prepared;
use crate::check::prepare::prepare;
use crate::check::reasons::Kind;
use crate::check::reasons::Reason;
use crate::check::resolve::recorded::KeptIn;
use crate::check::resolve::recorded::from_record;
use crate::check::seen::Room;
use crate::check::seen::Seen;
use crate::check::take_credential::Credential;
use crate::check::take_credential::Shown;
use crate::check::take_credential::take_credential;
use crate::check::tell;
use crate::check::throttle::Admission;
use crate::check::throttle::Answered;
use crate::check::throttle::enter;
use crate::check::throttle::questions;
use crate::check::throttle::throttle;
use crate::jose::Assertions;
use crate::model::caller::Caller;
use crate::model::quota;
use crate::model::quota::Level;
use crate::model::quota::Verdict;
use crate::model::request::Request;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::store::Take;
use crate::store::Taken;

/// What was recorded of a request's credential.
#[derive(Clone, Debug)]
pub enum Known {
    Caller {
        caller: Arc<Caller>,
        key_in_file: bool,
    },
    /// Nobody was recognised, and the request ended so.
    Ended(Reason),
}

/// How a request ends when it is judged again.
#[derive(Debug)]
pub enum Rehearsed<'r> {
    /// It would be let through.
    Admitted(Prepared<'r>, Admission),
    Refused(Exit),
    /// The credential decides, and when the request was recorded nobody read it.
    CredentialUnread,
}

/// Judges a recorded request. `now` is when it was recorded.
pub fn rehearse<'r>(
    request: &'r Request<'r>,
    known: &Known,
    rules: &'r Rules,
    buckets: &mut Buckets,
    assertions: &Assertions,
    seen: &mut Seen<'r>,
    now: Timestamp,
) -> Rehearsed<'r> {
    match walk(request, known, rules, buckets, assertions, seen, now) {
        Ok(Some((prepared, admission))) => Rehearsed::Admitted(prepared, admission),
        Ok(None) => Rehearsed::CredentialUnread,
        Err(exit) => Rehearsed::Refused(exit),
    }
}

fn walk<'r>(
    request: &'r Request<'r>,
    known: &Known,
    rules: &'r Rules,
    buckets: &mut Buckets,
    assertions: &Assertions,
    seen: &mut Seen<'r>,
    now: Timestamp,
) -> Result<Option<(Prepared<'r>, Admission)>, Exit> {
    let found = seen.pass(Room::FindRoute, find_route(request, rules), |found: &Found<'_, '_>| found.route.name.to_string())?;
    seen.route = Some(found.route);
    seen.label = meter::label(&found);
    let client = request.client_address(rules.trusted_hops);
    let shown = seen.pass(Room::TakeCredential, take_credential(request, &found, rules), shown_as_recorded)?;
    let recalled = recall(&shown, known, request.principal, client, rules, now).transpose();
    let Some(recalled) = recalled else { return Ok(None) };
    let caller = seen.pass(Room::Resolve, recalled, |caller| tell::caller(caller, None, None))?;
    seen.caller.clone_from(&caller);
    let permit = seen.pass(Room::Authorise, authorise(caller, &found), |permit| permit.reason().row().label.to_owned())?;
    let pinned = seen.pass(Room::PinVersion, pin_version(request, &found, permit.caller(), rules), tell::pinned)?;
    let questions = questions(&permit, client, rules);
    let prepared = prepare(permit, pinned, &shown, &request.headers, rules, assertions, now);
    let prepared = seen.pass(Room::Prepare, prepared, tell::prepared)?;
    let entered = seen.pass(Room::Throttle, enter(&questions, buckets.asked(&questions.shared(), now), rules), tell::entered)?;
    let admission = throttle(&questions, entered, buckets.asked(&questions.own(), now), rules);
    let admission = seen.pass(Room::Throttle, admission, tell::admission)?;
    Ok(Some((prepared, admission)))
}

/// What stands in a record is a digest, so only that there was something can be told.
fn shown_as_recorded(shown: &Shown<'_>) -> String {
    match &shown.credential {
        Credential::None | Credential::Principal(_) => tell::shown(shown),
        Credential::Own(_) | Credential::Foreign(_) | Credential::Token(_) | Credential::Opaque(_) | Credential::Handle { .. } => {
            "a credential, whose digest was recorded".to_owned()
        }
    }
}

/// Who it was. None: what was shown then was never read.
fn recall(
    shown: &Shown<'_>,
    known: &Known,
    principal: Option<&str>,
    client: Option<IpAddr>,
    rules: &Rules,
    now: Timestamp,
) -> Result<Option<Option<Arc<Caller>>>, Exit> {
    match (&shown.credential, known) {
        (Credential::None, _) => Ok(Some(None)),
        (
            Credential::Own(_)
            | Credential::Foreign(_)
            | Credential::Token(_)
            | Credential::Opaque(_)
            | Credential::Handle { .. }
            | Credential::Principal(_),
            Known::Caller { caller, key_in_file },
        ) => {
            let kept_in = if *key_in_file { KeptIn::File } else { KeptIn::Store };
            from_record(caller, kept_in, principal, client, rules, now).map(|caller| Some(Some(Arc::new(caller))))
        }
        (_, Known::Ended(reason)) if is_of_the_credential(*reason) => Err(match reason.row().kind {
            Kind::Fault => Fault::new(*reason, "as recorded").into(),
            Kind::Denial | Kind::Allow => Denial::new(*reason).because("as recorded").into(),
        }),
        (_, Known::Ended(_)) => Ok(None),
    }
}

/// Whether only somebody who read the credential ends a request so.
fn is_of_the_credential(reason: Reason) -> bool {
    let elsewhere =
        [Reason::TooManyFailures, Reason::WrongNetwork, Reason::CorruptRecord, Reason::StoreUnavailable, Reason::KeysUnavailable];
    // These two are found in the message alone, and so were judged anew.
    let anew = [Reason::MissingCredential, Reason::TokenInQuery];
    elsewhere.contains(&reason) || (reason.row().http == 401 && !anew.contains(&reason))
}

/// Token buckets in memory, on whatever clock they are asked by; full at first.
#[derive(Debug, Default)]
pub struct Buckets(HashMap<(Arc<str>, String), u64>);

impl Buckets {
    /// Buckets beyond this many are looked through for full ones, which need no place.
    const CROWD: usize = 1_000_000;

    fn asked(&mut self, takes: &[Take<'_>], now: Timestamp) -> Answered {
        if takes.is_empty() { Answered::NotAsked } else { Answered::Asked(Ok(self.take(takes, now))) }
    }

    /// All of them, or none.
    fn take(&mut self, takes: &[Take<'_>], now: Timestamp) -> Taken {
        if self.0.len() > Self::CROWD {
            self.0.retain(|_, state| *state > now.as_nanos());
        }
        let name = |take: &Take<'_>| (Arc::clone(&take.policy.name), take.owner.to_owned());
        let verdicts: Vec<Verdict> = takes
            .iter()
            .map(|take| quota::take(self.0.get(&name(take)).copied().unwrap_or_default(), take.policy.limit, take.cost, now))
            .collect();
        let mut retry_after = Some(Duration::ZERO);
        for verdict in &verdicts {
            retry_after = match verdict {
                Verdict::Admitted { .. } => retry_after,
                Verdict::Refused { retry_after: wait, .. } => retry_after.map(|longest| longest.max(*wait)),
                Verdict::Never { .. } => None,
            };
        }
        let admitted = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Admitted { .. }));
        let mut levels: Vec<Level> = verdicts.iter().map(Verdict::level).collect();
        for (position, (take, verdict)) in takes.iter().zip(&verdicts).enumerate() {
            match verdict {
                Verdict::Admitted { state, .. } if admitted => {
                    self.0.insert(name(take), *state);
                }
                Verdict::Admitted { .. } => {
                    let state = self.0.get(&name(take)).copied().unwrap_or_default();
                    if let Some(level) = levels.get_mut(position) {
                        *level = quota::level(state, take.policy.limit, now);
                    }
                }
                Verdict::Refused { .. } | Verdict::Never { .. } => {}
            }
        }
        Taken { admitted, levels, retry_after: if admitted { None } else { retry_after } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::doubles;
    use crate::check::doubles::NOW;
    use crate::check::doubles::scopes;
    use crate::check::samples;
    use crate::model::quota::Limit;
    use crate::model::quota::Per;
    use crate::model::quota::Policy;
    use crate::model::request::Method;
    use crate::model::route::Auth;
    use crate::model::route::Route;
    use crate::model::route::ScopeDemand;
    use crate::model::route::ScopeTemplate;
    use crate::model::route::parse_template;
    use crate::model::route::samples::route;
    use crate::model::rules::Tier;
    use crate::model::rules::TierState;

    fn ended(rules: &Rules, known: &Known, request: &Request<'_>, buckets: &mut Buckets, now: Timestamp) -> &'static str {
        let assertions = Assertions::ephemeral(NOW).unwrap();
        match rehearse(request, known, rules, buckets, &assertions, &mut Seen::default(), now) {
            Rehearsed::Admitted(prepared, _) => prepared.reason().row().label,
            Rehearsed::Refused(Exit::Denied(denial)) => denial.reason.row().label,
            Rehearsed::Refused(Exit::Failed(fault)) => fault.reason.row().label,
            Rehearsed::CredentialUnread => "unread",
        }
    }

    fn known(held: &str, tier: Option<&str>) -> Known {
        let caller = Caller { scopes: scopes(held), tier: tier.map(Arc::from), ..doubles::caller() };
        Known::Caller { caller: Arc::new(caller), key_in_file: false }
    }

    fn wanting(scope: &str) -> Route {
        let scopes = ScopeDemand { all_of: vec![ScopeTemplate(parse_template(scope).unwrap())], any_of: Vec::new() };
        Route { scopes, ..route("r", &[], "/x") }
    }

    #[test]
    fn the_recorded_caller_goes_through_the_rooms_behind_the_credential() {
        let shows = [("authorization", "Bearer hashed-00")];
        let public = Route { auth: Auth::Public, ..route("r", &[], "/x") };
        let optional = Route { auth: Auth::Optional, ..route("r", &[], "/x") };
        let table = [
            (wanting("a:read"), known("a:read", None), &shows[..], "ok"),
            (wanting("a:write"), known("a:read", None), &shows, "insufficient_scope"),
            // Nothing was shown, so there is nobody to remember.
            (wanting("a:read"), known("a:read", None), &[], "missing_credential"),
            (optional.clone(), known("", None), &[], "anonymous"),
            (public.clone(), known("", None), &shows, "public"),
            (wanting("a"), Known::Ended(Reason::Revoked), &shows, "revoked"),
            (wanting("a"), Known::Ended(Reason::StoreUnavailable), &shows, "store_unavailable"),
            (public, Known::Ended(Reason::Revoked), &shows, "public"),
            // Recorded where no credential was read.
            (wanting("a"), Known::Ended(Reason::Public), &shows, "unread"),
            (wanting("a"), Known::Ended(Reason::NoRoute), &shows, "unread"),
            (wanting("a"), Known::Ended(Reason::MissingCredential), &shows, "unread"),
            (optional, Known::Ended(Reason::Expired), &shows, "expired"),
        ];
        for (route, known, headers, expected) in table {
            let rules = samples::rules(vec![route]);
            let request = samples::request(Method::Get, "/x", headers);
            assert_eq!(ended(&rules, &known, &request, &mut Buckets::default(), NOW), expected, "{known:?}");
        }
        let rules = samples::rules(vec![route("r", &[], "/x")]);
        let elsewhere = samples::request(Method::Get, "/y", &shows);
        assert_eq!(ended(&rules, &known("", None), &elsewhere, &mut Buckets::default(), NOW), "no_route");
    }

    #[test]
    fn limits_run_on_the_recorded_clock() {
        let mut rules = samples::rules(vec![route("r", &[], "/x")]);
        let policy = Policy { name: "free".into(), per: Per::Owner, limit: Limit::new(60, Some(2)) };
        let tier = Tier { name: "free".into(), policies: vec![policy], state: TierState::Active, grace: Duration::ZERO };
        rules.tiers.insert("free".into(), tier);
        let request = samples::request(Method::Get, "/x", &[("authorization", "Bearer hashed-00")]);
        let (mut buckets, known) = (Buckets::default(), known("", Some("free")));
        let mut at = |millis| ended(&rules, &known, &request, &mut buckets, NOW.plus(Duration::from_millis(millis)));
        assert_eq!([at(0), at(0), at(0), at(999), at(1000), at(1001)], ["ok", "ok", "rate_limited", "rate_limited", "ok", "rate_limited"]);
    }

    #[test]
    fn what_the_rules_alone_decide_of_a_caller_is_decided_anew() {
        let request = samples::request(Method::Get, "/x", &[("authorization", "Bearer hashed-00")]);
        let mut rules = samples::rules(vec![route("r", &[], "/x")]);
        let token = |issuer: &str| Known::Caller {
            caller: Arc::new(Caller { proven_by: crate::model::caller::ProvenBy::Token, issuer: Some(issuer.into()), ..doubles::caller() }),
            key_in_file: false,
        };
        let in_file = Known::Caller { caller: Arc::new(doubles::caller()), key_in_file: true };
        assert_eq!(ended(&rules, &token("https://gone.example"), &request, &mut Buckets::default(), NOW), "untrusted_issuer");
        let has_key = doubles::caller().key.is_some();
        assert_eq!(ended(&rules, &in_file, &request, &mut Buckets::default(), NOW), if has_key { "unknown_key" } else { "ok" });
        let tier = Tier { name: "old".into(), policies: Vec::new(), state: TierState::Disabled, grace: Duration::ZERO };
        rules.tiers.insert("old".into(), tier);
        assert_eq!(ended(&rules, &known("", Some("old")), &request, &mut Buckets::default(), NOW), "disabled");
    }
}
