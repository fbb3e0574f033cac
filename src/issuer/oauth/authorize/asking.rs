//! Who is sent on without being asked: without a sign-in, without a question.

use std::sync::Arc;

use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::oauth::authorize::checks::Prompt;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::issuance::Issuance;
use crate::model::issuance::Registration;
use crate::model::key::UserRecord;
use crate::model::scope::ScopeSet;

/// A request of somebody who is not signed in.
#[derive(Clone, Copy)]
pub(super) struct Stranger<'a> {
    pub prompt: Prompt,
    pub client: &'a ClientRecord,
    pub issuance: &'a Issuance,
}

/// What it gets instead of being sent on to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    SignIn,
    Page,
}

/// Only where nothing may be shown, and where an operator vouches for where this client's redirects lead.
pub(super) fn stranger_checks<'a>() -> [Check<Stranger<'a>, Instead>; 3] {
    [
        Check { name: "nothing may be shown", run: |stranger| if stranger.prompt.is_silent { Ok(()) } else { Err(Instead::SignIn) } },
        Check {
            name: "no user made the client",
            run: |stranger| stranger.client.owner.as_ref().map_or(Ok(()), |_owner| Err(Instead::Page)),
        },
        Check { name: "not everybody may register clients", run: registration_is_bounded },
    ]
}

fn registration_is_bounded(stranger: &Stranger<'_>) -> Result<(), Instead> {
    match stranger.issuance.registration {
        Registration::Off | Registration::WithToken(_) => Ok(()),
        Registration::Open => Err(Instead::Page),
    }
}

/// A request of somebody who may have allowed it before. One's own client asks too: whoever found a key of the user's may have made it.
#[derive(Clone, Copy)]
pub(super) struct Unasked<'a> {
    pub client: &'a ClientRecord,
    pub prompt: Prompt,
}

pub(super) fn unasked_checks<'a>() -> [Check<Unasked<'a>>; 2] {
    [
        // Of others nobody can say that it is the same program that was allowed before (RFC 8252 section 8.6).
        Check { name: "the client has a secret", run: |unasked| hold(unasked.client.kind == ClientKind::Confidential) },
        Check { name: "it does not ask for the question", run: |unasked| hold(!unasked.prompt.wants_consent) },
    ]
}

/// A standing grant of the user's, and what is asked for now.
#[derive(Clone, Copy)]
pub(super) struct Allowed<'a> {
    pub grant: &'a GrantRecord,
    pub client: &'a ClientRecord,
    pub scopes: &'a ScopeSet,
    pub resources: &'a [Arc<str>],
}

pub(super) fn allowed_checks<'a>() -> [Check<Allowed<'a>>; 3] {
    [
        Check {
            name: "the person allowed it to this client",
            run: |allowed| hold(matches!(&allowed.grant.of, GrantOf::Consent { client, .. } if *client == allowed.client.id)),
        },
        Check {
            name: "it allows these scopes",
            run: |allowed| hold(allowed.scopes.iter().all(|scope| allowed.grant.scopes.covers(scope.as_str()))),
        },
        Check {
            name: "it allows these resources",
            run: |allowed| hold(allowed.resources.iter().all(|resource| allowed.grant.resources.contains(resource))),
        },
    ]
}

/// A client and a user who has proven itself where no page can be shown.
#[derive(Clone, Copy)]
pub(super) struct Implied<'a> {
    pub client: &'a ClientRecord,
    pub user: &'a UserRecord,
}

pub(super) fn implied_checks<'a>() -> [Check<Implied<'a>>; 1] {
    [Check { name: "the client is the user's own", run: |implied| hold(implied.client.owner.as_ref() == Some(&implied.user.subject)) }]
}
