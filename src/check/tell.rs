//! What `explain` says of each room. No credential's text is ever part of it, only public ids.

use std::sync::Arc;
use std::time::Duration;

use crate::check::pin_version::Pinned;
use crate::check::prepare::Prepared;
use crate::check::prove::Proof;
use crate::check::take_credential::Credential;
use crate::check::take_credential::Shown;
use crate::check::throttle::Admission;
use crate::check::throttle::Entered;
use crate::check::throttle::JudgedBy;
use crate::model::caller::Caller;
use crate::model::caller::ProvenBy;
use crate::model::rules::Rules;

pub(in crate::check) fn shown(shown: &Shown<'_>) -> String {
    match &shown.credential {
        Credential::None => "no credential".to_owned(),
        Credential::Own(own) => format!("a key of ours, id {}", own.id),
        Credential::Foreign(_) => "a key that is not of our making".to_owned(),
        Credential::Token(_) => "a signed token".to_owned(),
        Credential::Opaque(_) => "an opaque token".to_owned(),
        Credential::Handle { handle, .. } => format!("an opaque token of ours, grant {}", handle.id),
        Credential::Principal(principal) => format!("the mTLS principal {principal}"),
    }
}

pub(in crate::check) fn proof(proof: &Proof<'_>) -> String {
    match proof {
        Proof::Nobody => "nobody to prove".to_owned(),
        Proof::OwnKey(own) => format!("the form of key {} holds; its record decides", own.id),
        Proof::ForeignKey(_) => "an imported key's record decides".to_owned(),
        Proof::Token(claims) => match &claims.grant {
            None => format!("signature and claims hold, subject {}", claims.subject.as_str()),
            Some(grant) => format!("signature and claims hold, subject {}; grant {grant} decides", claims.subject.as_str()),
        },
        Proof::Grant { id, .. } => format!("the token was made here; grant {id} decides"),
        Proof::Principal(principal) => format!("Envoy verified {principal}"),
    }
}

/// A tier that a token names and the rules lack: it counts for nothing, and nobody would notice.
pub(in crate::check) fn unknown_tier<'p>(proof: &'p Proof<'_>, rules: &Rules) -> Option<&'p str> {
    match proof {
        Proof::Token(claims) => claims.tier.as_deref().filter(|tier| claims.grant.is_none() && !rules.tiers.contains_key(*tier)),
        Proof::Nobody | Proof::OwnKey(_) | Proof::ForeignKey(_) | Proof::Grant { .. } | Proof::Principal(_) => None,
    }
}

pub(in crate::check) fn caller(caller: &Option<Arc<Caller>>, unknown_tier: Option<&str>, lapsed_for: Option<Duration>) -> String {
    let told = match caller {
        None => "nobody".to_owned(),
        Some(caller) => {
            let organization = caller.organization.as_deref().unwrap_or("none");
            let tier = caller.tier.as_deref().unwrap_or("none");
            let by = match (&caller.client, &caller.key) {
                (Some(client), _) => format!(", by client {client}"),
                (None, Some(key)) if caller.proven_by == ProvenBy::Token => format!(", by key {key}"),
                (None, Some(_) | None) => String::new(),
            };
            let instead = unknown_tier.map(|named| format!(" (token says {named}: no such tier)")).unwrap_or_default();
            format!("user {}{by}, organisation {organization}, tier {tier}{instead}, scopes [{}]", caller.user, caller.scopes)
        }
    };
    match lapsed_for {
        None => told,
        Some(lapsed_for) => format!("{told}; by what was known before the store fell silent, {} s ago", lapsed_for.as_secs()),
    }
}

pub(in crate::check) fn pinned(pinned: &Pinned) -> String {
    match pinned.version() {
        Some(version) => format!("API version {version}"),
        None => "no API version".to_owned(),
    }
}

pub(in crate::check) fn prepared(prepared: &Prepared<'_>) -> String {
    let set: Vec<&str> = prepared.set().iter().map(|(name, _)| &**name).collect();
    let removed: Vec<&str> = prepared.remove().iter().map(|name| &**name).collect();
    format!("sets [{}], removes [{}]", set.join(" "), removed.join(" "))
}

pub(in crate::check) fn entered(entered: &Entered) -> String {
    with_substitute("route and address admit".to_owned(), entered.judged_by())
}

pub(in crate::check) fn admission(admission: &Admission) -> String {
    let admitted = match admission.tightest() {
        None => "nothing limits this request".to_owned(),
        Some(asked) => format!("admitted; {} requests left in {}", asked.level.remaining, asked.policy),
    };
    with_substitute(admitted, admission.judged_by())
}

fn with_substitute(told: String, judged_by: JudgedBy) -> String {
    match judged_by.note() {
        None => told,
        Some(note) => format!("{told}; {note}"),
    }
}
