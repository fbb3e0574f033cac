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
use crate::model::scope::ScopeSet;
use crate::model::user::UserRecord;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::checks::assert_each_is_needed;
    use crate::issuer::checks::run;
    use crate::issuer::oauth::authorize::testing::client;
    use crate::issuer::oauth::authorize::testing::grant_to;
    use crate::issuer::oauth::authorize::testing::scopes;
    use crate::issuer::oauth::authorize::testing::user;
    use crate::issuer::tests::issuance;
    use crate::model::caller::Subject;

    // oauth: A17
    #[test]
    fn every_check_of_a_stranger_refuses_what_no_other_does() {
        let (ours, bounded) = (client("a"), issuance());
        let owned = ClientRecord { owner: Some(Subject::parse("mallory").unwrap()), ..ours.clone() };
        let open = Issuance { registration: Registration::Open, ..bounded.clone() };
        let silent = Prompt { is_silent: true, ..Prompt::default() };
        let good = Stranger { prompt: silent, client: &ours, issuance: &bounded };
        assert_eq!(run(&stranger_checks(), &good), Ok(()));
        assert_each_is_needed(
            stranger_checks,
            &[
                ("nothing may be shown", Stranger { prompt: Prompt::default(), ..good }),
                ("no user made the client", Stranger { client: &owned, ..good }),
                ("not everybody may register clients", Stranger { issuance: &open, ..good }),
            ],
        );
    }

    // oauth: R6
    #[test]
    fn every_check_of_who_is_not_asked_refuses_what_no_other_does() {
        let secret = client("a");
        let [public, native] = [ClientKind::Public, ClientKind::Native].map(|kind| ClientRecord { kind, ..secret.clone() });
        let good = Unasked { client: &secret, prompt: Prompt::default() };
        assert_eq!(run(&unasked_checks(), &good), Ok(()));
        assert_each_is_needed(
            unasked_checks,
            &[
                ("the client has a secret", Unasked { client: &public, ..good }),
                ("the client has a secret", Unasked { client: &native, ..good }),
                ("it does not ask for the question", Unasked { prompt: Prompt { wants_consent: true, ..Prompt::default() }, ..good }),
            ],
        );
        let (grant, other, wider) = (grant_to(&secret), client("b"), scopes("orders:read orders:write"));
        let signed_in = GrantRecord { of: GrantOf::SignIn { user: Subject::parse("alice").unwrap() }, ..grant.clone() };
        let elsewhere = [Arc::from("https://files.example.com")];
        let good = Allowed { grant: &grant, client: &secret, scopes: &grant.scopes, resources: &grant.resources };
        assert_eq!(run(&allowed_checks(), &good), Ok(()));
        assert_each_is_needed(
            allowed_checks,
            &[
                ("the person allowed it to this client", Allowed { client: &other, ..good }),
                ("the person allowed it to this client", Allowed { grant: &signed_in, ..good }),
                ("it allows these scopes", Allowed { scopes: &wider, ..good }),
                ("it allows these resources", Allowed { resources: &elsewhere, ..good }),
            ],
        );
        let (alice, own) = (user("alice", ""), ClientRecord { owner: Some(Subject::parse("alice").unwrap()), ..secret.clone() });
        let bobs = ClientRecord { owner: Some(Subject::parse("bob").unwrap()), ..secret.clone() };
        let good = Implied { client: &own, user: &alice };
        assert_eq!(run(&implied_checks(), &good), Ok(()));
        let own = "the client is the user's own";
        assert_each_is_needed(implied_checks, &[(own, Implied { client: &bobs, ..good }), (own, Implied { client: &secret, ..good })]);
    }
}
