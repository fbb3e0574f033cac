//! What a token stands on: it is dead once its grant, client, user or key is.

use std::sync::Arc;

use crate::check::doubles::NOW;
use crate::check::doubles::corrupt;
use crate::check::doubles::down;
use crate::check::doubles::scopes;
use crate::check::doubles::seconds_from_now;
use crate::check::reasons::Reason;
use crate::check::resolve::Fact;
use crate::check::resolve::FoundFacts;
use crate::check::resolve::KeyFact;
use crate::check::tests::grants::APP;
use crate::check::tests::grants::Case;
use crate::check::tests::grants::FORMS;
use crate::check::tests::grants::Form;
use crate::check::tests::grants::KEY;
use crate::check::tests::grants::KINDS;
use crate::check::tests::grants::Kind;
use crate::check::tests::grants::after;
use crate::check::tests::grants::every;
use crate::model::caller::Environment;
use crate::model::caller::ProvenBy;
use crate::model::caller::Subject;
use crate::model::client::ClientId;
use crate::model::client::ClientState;
use crate::model::grant::AccessState;
use crate::model::grant::AccessToken;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantState;
use crate::model::grant::PendingCode;
use crate::model::key::KeyId;
use crate::model::key::KeyState;
use crate::model::time::Timestamp;
use crate::model::user::UserState;

// oauth: I3
#[test]
fn a_good_token_is_its_users_or_its_clients_and_nobody_elses() {
    every(|kind, form| {
        let caller = Case::new(kind, form).judge().unwrap();
        assert_eq!((caller.proven_by, caller.issuer.as_deref()), (ProvenBy::Token, Some("https://own.example")));
        let client = kind.has_client().then_some(APP);
        assert_eq!(caller.client.as_deref(), client, "{kind:?} {form:?}");
        assert_eq!(caller.key.as_ref().map(KeyId::as_str), (kind == Kind::Key).then_some(KEY));
        let who = match kind {
            Kind::Client | Kind::Owned => ("client:app_0123456789abcdefghij", "client", APP),
            Kind::Consent | Kind::SignIn | Kind::Key => ("alice", "local", "alice"),
        };
        assert_eq!((caller.user.as_str(), caller.source.as_str(), caller.subject.as_str()), who);
        let expected = if kind == Kind::Key { "conversations:*" } else { "conversations:* messages:read" };
        assert_eq!(caller.scopes, scopes(expected));
        assert_eq!(caller.tier.as_deref(), Some("free"));
        let expires = if kind == Kind::Key && form == Form::Opaque { 3600 } else { 600 };
        assert_eq!(caller.expires, Some(seconds_from_now(expires)), "{kind:?} {form:?}");
    });
    // A user called as a client is is still another.
    let mut named_so = Case::new(Kind::SignIn, Form::Jwt);
    named_so.grant.of = GrantOf::SignIn { user: Subject::parse(APP).unwrap() };
    named_so.claims.subject = Subject::parse(APP).unwrap();
    named_so.user.subject = Subject::parse(APP).unwrap();
    assert_eq!(named_so.judge().unwrap().user.as_str(), APP);
}

// oauth: O14 H2 J5
#[test]
fn a_token_is_dead_once_its_grant_is() {
    let ended = |why| GrantState::Ended { at: NOW, why };
    let pending = GrantState::Pending(PendingCode {
        redirect_uri: "https://a.example".into(),
        redirect_uri_named: true,
        challenge: "c".into(),
        expires: seconds_from_now(60),
        failures: 0,
    });
    for why in [GrantEnd::Revoked, GrantEnd::SignedOut, GrantEnd::Reused, GrantEnd::Guessed, GrantEnd::PasswordChanged] {
        after(&KINDS, "ended", |case| case.grant.state = ended(why), Some(Reason::Revoked));
    }
    after(&KINDS, "its code was not redeemed", |case| case.grant.state = pending.clone(), Some(Reason::UnknownToken));
    after(&KINDS, "idle for too long", |case| case.grant.idle_until = NOW, Some(Reason::Expired));
    after(&KINDS, "at its absolute end", |case| case.grant.ends = NOW, Some(Reason::Expired));
    after(&KINDS, "a moment before", |case| case.grant.ends = Timestamp::from_nanos(NOW.as_nanos() + 1), None);
    after(&KINDS, "another grant's record", |case| case.grant.id = GrantId::new("other"), Some(Reason::UnknownToken));
    every(|kind, form| {
        let case = Case::new(kind, form);
        for (answer, expected) in
            [(Ok(None), Reason::UnknownToken), (Err(down()), Reason::StoreUnavailable), (Err(corrupt()), Reason::CorruptRecord)]
        {
            let facts = FoundFacts { grant: Fact::FromStore(answer), ..case.facts() };
            assert_eq!(case.judge_with(&facts).err(), Some(expected), "{kind:?} {form:?}");
        }
        let unasked = FoundFacts { grant: Fact::NotAsked, ..case.facts() };
        assert_eq!(case.judge_with(&unasked).err(), Some(Reason::Internal));
    });
}

// oauth: O14 P7 K6
#[test]
fn a_token_is_dead_once_its_client_is() {
    let kinds = [Kind::Consent, Kind::Client, Kind::Owned];
    after(&kinds, "disabled", |case| case.client.state = ClientState::Disabled, Some(Reason::Disabled));
    after(&kinds, "another client's record", |case| case.client.id = ClientId::new("app_x"), Some(Reason::UnknownClient));
    after(&kinds, "of a disabled tier", |case| case.client.tier = Some("closed".into()), Some(Reason::Disabled));
    after(&[Kind::SignIn, Kind::Key], "no client's business", |case| case.client.state = ClientState::Disabled, None);
    for kind in kinds {
        for form in FORMS {
            let case = Case::new(kind, form);
            for (client, expected) in [
                (Fact::FromStore(Ok(None)), Reason::UnknownClient),
                (Fact::FromStore(Err(down())), Reason::StoreUnavailable),
                (Fact::FromStore(Err(corrupt())), Reason::CorruptRecord),
                (Fact::NotAsked, Reason::Internal),
            ] {
                let facts = FoundFacts { client, ..case.facts() };
                assert_eq!(case.judge_with(&facts).err(), Some(expected), "{kind:?} {form:?}");
            }
        }
    }
}

// oauth: O14 K6
#[test]
fn a_token_is_dead_once_its_user_is() {
    let kinds = [Kind::Consent, Kind::Owned, Kind::SignIn, Kind::Key];
    after(&kinds, "disabled", |case| case.user.state = UserState::Disabled, Some(Reason::Disabled));
    after(&kinds, "somebody else's record", |case| case.user.subject = Subject::parse("bob").unwrap(), Some(Reason::UnknownUser));
    after(&[Kind::Client], "no user's business", |case| case.user.state = UserState::Disabled, None);
    after(
        &kinds,
        "moved to another organisation",
        |case| {
            (case.grant.organization, case.key.organization) = (Some("acme".into()), Some("acme".into()));
            case.user.organization = Some("other".into());
        },
        Some(Reason::Revoked),
    );
    let left = |case: &mut Case| (case.grant.organization, case.user.organization) = (Some("acme".into()), None);
    after(&[Kind::Consent, Kind::Owned, Kind::SignIn], "of no organisation any more", left, Some(Reason::Revoked));
    let operators = |case: &mut Case| (case.client.organization, case.user.organization) = (None, Some("other".into()));
    after(&[Kind::Owned], "a client of no organisation", operators, None);
    for kind in kinds {
        for form in FORMS {
            let case = Case::new(kind, form);
            for (user, expected) in [
                (Fact::FromStore(Ok(None)), Reason::UnknownUser),
                (Fact::FromStore(Err(down())), Reason::StoreUnavailable),
                (Fact::FromStore(Err(corrupt())), Reason::CorruptRecord),
                (Fact::NotAsked, Reason::Internal),
            ] {
                let facts = FoundFacts { user, ..case.facts() };
                assert_eq!(case.judge_with(&facts).err(), Some(expected), "{kind:?} {form:?}");
            }
        }
    }
}

// oauth: O14 H12
#[test]
fn what_was_issued_before_a_users_tokens_became_valid_is_refused() {
    let kinds = [Kind::Consent, Kind::Owned, Kind::SignIn, Kind::Key];
    after(&kinds, "valid from the token's instant", |case| case.user.valid_from = Some(seconds_from_now(-60)), None);
    after(&kinds, "signed out since", |case| case.user.valid_from = Some(seconds_from_now(-59)), Some(Reason::Revoked));
    // `iat` has whole seconds. Whoever signs in again within the second of a change gets a token that works.
    let within = |nanos: u64| Timestamp::from_nanos(seconds_from_now(-60).as_nanos() + nanos);
    let mut case = Case::new(Kind::SignIn, Form::Jwt);
    (case.user.valid_from, case.grant.created) = (Some(within(500)), within(700));
    assert_eq!(case.judge().err(), None);
    case.grant.created = within(499);
    assert_eq!(case.judge().err(), Some(Reason::Revoked));
    case.claims.issued = None;
    assert_eq!(case.judge().err(), Some(Reason::Revoked), "a token without a date cannot show that it is younger");
}

// oauth: T5 T6 T10
#[test]
fn a_keys_token_is_no_better_than_the_key() {
    type Change = fn(&mut Case);
    let table: [(&str, Change, Option<Reason>); 12] = [
        ("good", |_| {}, None),
        ("revoked", |case| case.key.state = KeyState::Revoked, Some(Reason::Revoked)),
        ("disabled", |case| case.key.state = KeyState::Disabled, Some(Reason::Disabled)),
        ("expired", |case| case.key.expires = Some(NOW), Some(Reason::Expired)),
        ("not yet valid", |case| case.key.not_before = Some(seconds_from_now(1)), Some(Reason::NotYetValid)),
        ("another's", |case| case.key.user = Subject::parse("bob").unwrap(), Some(Reason::UnknownKey)),
        ("another record", |case| case.key.id = KeyId::new("other"), Some(Reason::UnknownKey)),
        ("of a disabled tier", |case| case.key.tier = Some("closed".into()), Some(Reason::Disabled)),
        ("rotated", |case| case.key.secrets.clear(), None),
        ("past its absolute end", |case| case.grant.ends = NOW, Some(Reason::Expired)),
        ("not slid any further", |case| case.grant.idle_until = NOW, Some(Reason::Expired)),
        ("slid on", |case| case.grant.idle_until = seconds_from_now(1), None),
    ];
    for (what, change, expected) in table {
        after(&[Kind::Key], what, change, expected);
    }
    for form in FORMS {
        let case = Case::new(Kind::Key, form);
        for (key, expected) in [
            (KeyFact::FromStore(Ok(None)), Reason::UnknownKey),
            (KeyFact::FromStore(Err(down())), Reason::StoreUnavailable),
            (KeyFact::FromStore(Err(corrupt())), Reason::CorruptRecord),
            (KeyFact::NotAsked, Reason::Internal),
        ] {
            let facts = FoundFacts { key, ..case.facts() };
            assert_eq!(case.judge_with(&facts).err(), Some(expected), "{form:?}");
        }
        let in_file = FoundFacts { key: KeyFact::InFile(Arc::new(case.key.clone())), user: Fact::NotAsked, ..case.facts() };
        assert_eq!(case.judge_with(&in_file).unwrap().user.as_str(), "alice", "the file alone rules");

        let mut case = Case::new(Kind::Key, form);
        (case.key.tier, case.key.rate_limit, case.key.environment) = (Some("enterprise".into()), Some(7), Environment::Test);
        (case.key.pinned_version, case.key.expires) = (Some("2024-01-01".into()), Some(seconds_from_now(5)));
        case.key.organization = Some("acme".into());
        let caller = case.judge().unwrap();
        assert_eq!((caller.tier.as_deref(), caller.key_rate_limit, caller.environment), (Some("enterprise"), Some(7), Environment::Test));
        assert_eq!((caller.pinned_version.as_deref(), caller.expires), (Some("2024-01-01"), Some(seconds_from_now(5))));
        assert_eq!(caller.organization.as_deref(), Some("acme"));
    }
}

// oauth: T10
#[test]
fn a_key_has_one_token_at_a_time_and_it_is_made_under_one_pepper() {
    let shown = |generation, pepper| {
        let mut case = Case::new(Kind::Key, Form::Opaque);
        (case.generation, case.pepper) = (generation, pepper);
        case
    };
    let unknown = Some(Reason::UnknownToken);
    for (generation, pepper, expected) in [(3, "new", None), (2, "new", unknown), (4, "new", unknown), (3, "old", unknown)] {
        assert_eq!(shown(generation, pepper).judge().err(), expected, "{generation} {pepper}");
    }
    let mut revoked = shown(3, "new");
    revoked.grant.access = vec![AccessToken { id: "3".into(), state: AccessState::Revoked, expires: seconds_from_now(60) }];
    assert_eq!(revoked.judge().err(), Some(Reason::Revoked));
    let mut elsewhere = shown(3, "new");
    elsewhere.grant.resources = vec!["https://other.example".into()];
    assert_eq!(elsewhere.judge().err(), Some(Reason::BadClaims));
}

// oauth: J5 O4 H14
#[test]
fn a_token_opens_only_what_the_grant_still_knows_of_it() {
    let opaque = |change: &dyn Fn(&mut Case)| {
        let outcomes = [Kind::Consent, Kind::Client, Kind::Owned, Kind::SignIn].map(|kind| {
            let mut case = Case::new(kind, Form::Opaque);
            change(&mut case);
            case.judge().err()
        });
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
        outcomes[0]
    };
    assert_eq!(opaque(&|_| {}), None);
    for unlisted in [0, 1, 8, 70, u32::MAX] {
        assert_eq!(opaque(&|case| case.generation = unlisted), Some(Reason::UnknownToken), "{unlisted}");
    }
    assert_eq!(opaque(&|case| case.generation = 6), Some(Reason::Expired));
    assert_eq!(opaque(&|case| case.pepper = "old"), None, "a pepper that is still accepted");
    assert_eq!(opaque(&|case| case.grant.access.clear()), Some(Reason::UnknownToken));
    assert_eq!(opaque(&|case| case.grant.access[1].state = AccessState::Revoked), Some(Reason::Revoked));
    // However often it is listed, taken back is taken back.
    let twice = |case: &mut Case| {
        let entry = AccessToken { state: AccessState::Revoked, ..case.grant.access[1].clone() };
        case.grant.access.push(entry);
    };
    assert_eq!(opaque(&twice), Some(Reason::Revoked));
    for other in ["07", "+7", " 7", "7.0", "seven", ""] {
        assert_eq!(opaque(&|case| case.grant.access[1].id = other.into()), Some(Reason::UnknownToken), "{other:?}");
    }
    let to = |audience: &'static [&'static str]| {
        move |case: &mut Case| {
            let AccessState::Out { audience: named, .. } = &mut case.grant.access[1].state else { panic!("listed") };
            *named = audience.iter().map(|named| Arc::from(*named)).collect();
        }
    };
    for (audience, expected) in [
        (&["gate"][..], None),
        (&["https://other.example", "gate"], None),
        (&["https://other.example"], Some(Reason::BadClaims)),
        (&["Gate"], Some(Reason::BadClaims)),
        (&[], Some(Reason::BadClaims)),
    ] {
        assert_eq!(opaque(&to(audience)), expected, "{audience:?}");
    }
    assert_eq!(opaque(&|case| case.rules.issuers.truncate(1)), Some(Reason::UntrustedIssuer), "rules that issue nothing");

    let jwt = |change: &dyn Fn(&mut Case)| {
        let outcomes = KINDS.map(|kind| {
            let mut case = Case::new(kind, Form::Jwt);
            case.grant.access = Case::new(Kind::SignIn, Form::Jwt).grant.access;
            change(&mut case);
            case.judge().err()
        });
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
        outcomes[0]
    };
    assert_eq!(jwt(&|_| {}), None);
    assert_eq!(jwt(&|case| case.claims.token_id = Some("taken-back".into())), Some(Reason::Revoked));
    assert_eq!(jwt(&|case| case.claims.token_id = None), Some(Reason::BadClaims), "what cannot be taken back is not let in");
    assert_eq!(jwt(&|case| case.claims.grant = None), Some(Reason::BadClaims));
    assert_eq!(jwt(&|case| case.claims.grant = Some("other".into())), Some(Reason::UnknownToken));
    assert_eq!(jwt(&|case| case.claims.subject = Subject::parse("mallory").unwrap()), Some(Reason::UnknownToken));
}
