//! What a token that stands is worth: no more than what everybody behind it holds now.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use crate::check::decide::Exit;
use crate::check::doubles::NOW;
use crate::check::doubles::corrupt;
use crate::check::doubles::down;
use crate::check::doubles::key_record;
use crate::check::doubles::key_text;
use crate::check::doubles::peppers;
use crate::check::doubles::scopes;
use crate::check::prove::Proof;
use crate::check::reasons::Reason;
use crate::check::resolve::Fact;
use crate::check::resolve::FoundFacts;
use crate::check::resolve::resolve;
use crate::check::tests::grants::ACTING;
use crate::check::tests::grants::Case;
use crate::check::tests::grants::FORMS;
use crate::check::tests::grants::Form;
use crate::check::tests::grants::KEY;
use crate::check::tests::grants::KINDS;
use crate::check::tests::grants::Kind;
use crate::check::tests::grants::after;
use crate::check::tests::grants::alice_subject;
use crate::check::tests::resolve::issuer;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::claims::VerifiedClaims;
use crate::model::client::ClientId;
use crate::model::client::ClientState;
use crate::model::grant::AccessState;
use crate::model::key::KeyExtras;
use crate::model::key::KeyNotes;
use crate::model::rules::Managed;
use crate::model::rules::TokenId;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;

// oauth: T5 H9 I4
#[test]
fn scopes_are_what_the_token_the_grant_and_everybody_behind_it_hold_now() {
    let rights = |text: &str| Rights::Only(scopes(text));
    type Change<'c> = &'c dyn Fn(&mut Case);
    let table: [(&str, &[Kind], Change<'_>, &str); 10] = [
        ("a narrower token", &KINDS, &|case| give(case, "conversations:read"), "conversations:read"),
        (
            "a token wider than its grant",
            &KINDS,
            &|case| {
                give(case, "*");
                case.grant.scopes = scopes("conversations:read");
            },
            "conversations:read",
        ),
        (
            "a narrower client",
            &[Kind::Consent, Kind::Client, Kind::Owned],
            &|case| case.client.scopes = scopes("messages:*"),
            "messages:read",
        ),
        ("a client that lost all", &[Kind::Consent, Kind::Client, Kind::Owned], &|case| case.client.scopes = scopes(""), ""),
        (
            "a narrower user",
            &[Kind::Consent, Kind::Owned, Kind::SignIn, Kind::Key],
            &|case| case.user.rights = rights("conversations:read"),
            "conversations:read",
        ),
        ("a user that lost all", &[Kind::Consent, Kind::Owned, Kind::SignIn, Kind::Key], &|case| case.user.rights = rights(""), ""),
        ("no user's rights", &[Kind::Client], &|case| case.user.rights = rights(""), "conversations:* messages:read"),
        ("a narrower key", &[Kind::Key], &|case| case.key.scopes = scopes("messages:* billing:*"), "messages:read"),
        ("a key that lost all", &[Kind::Key], &|case| case.key.scopes = scopes(""), ""),
        (
            "reserved scopes everywhere",
            &KINDS,
            &|case| {
                let all = "* tollgate:admin tollgate:unlimited";
                give(case, all);
                (case.grant.scopes, case.client.scopes, case.key.scopes) = (scopes(all), scopes(all), scopes(all));
                case.user.rights = rights(all);
            },
            "*",
        ),
    ];
    for (what, kinds, change, expected) in table {
        for kind in kinds {
            for form in FORMS {
                let mut case = Case::new(*kind, form);
                change(&mut case);
                assert_eq!(case.judge().unwrap().scopes, scopes(expected), "{what}: {kind:?} {form:?}");
            }
        }
    }
}

// oauth: Q4 O14 P7
#[test]
fn an_exchanged_token_is_worth_no_more_than_the_client_that_acts_with_it() {
    type Change<'c> = &'c dyn Fn(&mut Case);
    let table: [(&str, Change<'_>, Result<&str, Reason>); 6] = [
        ("as it was traded", &|_| {}, Ok("conversations:* messages:read")),
        ("an acting client that holds less now", &|case| case.acting.scopes = scopes("messages:*"), Ok("messages:read")),
        ("one that lost all", &|case| case.acting.scopes = scopes(""), Ok("")),
        ("a disabled one", &|case| case.acting.state = ClientState::Disabled, Err(Reason::Disabled)),
        ("another client's record", &|case| case.acting.id = ClientId::new("app_x"), Err(Reason::UnknownClient)),
        ("the grant's own client gone bad", &|case| case.client.state = ClientState::Disabled, Err(Reason::Disabled)),
    ];
    for kind in KINDS {
        let exchanged = || {
            let mut case = Case::new(kind, Form::Jwt);
            case.claims.client = Some(ACTING.into());
            case.key.scopes = scopes("*");
            case
        };
        for (what, change, expected) in table {
            let mut case = exchanged();
            change(&mut case);
            if what.starts_with("the grant's") && !kind.has_client() {
                continue;
            }
            let judged = case.judge();
            assert_eq!(
                judged.as_ref().map(|caller| Arc::clone(&caller.scopes)).map_err(|reason| *reason),
                expected.map(scopes),
                "{kind:?}: {what}"
            );
            if let Ok(caller) = judged {
                assert_eq!(caller.client.as_deref(), Some(ACTING), "whoever acts is an application, whatever was traded: {kind:?}");
            }
        }
        let case = exchanged();
        for (acting, expected) in [
            (Fact::FromStore(Ok(None)), Reason::UnknownClient),
            (Fact::FromStore(Err(down())), Reason::StoreUnavailable),
            (Fact::FromStore(Err(corrupt())), Reason::CorruptRecord),
            (Fact::NotAsked, Reason::Internal),
        ] {
            let facts = FoundFacts { acting, ..case.facts() };
            assert_eq!(facts.lack_an_answer(), expected == Reason::StoreUnavailable);
            assert_eq!(case.judge_with(&facts).err(), Some(expected), "{kind:?}");
        }
        let mut case = exchanged();
        case.acting.environment = Environment::Test;
        assert_eq!(case.judge().unwrap().environment, Environment::Test);
    }
}

// oauth: T5
#[test]
fn a_key_that_was_made_for_another_stands_on_its_makers_word_too() {
    type Change<'c> = &'c dyn Fn(&mut UserRecord);
    let only = |text: &str| Rights::Only(scopes(text));
    let in_acme = |user: &mut UserRecord, rights| (user.organization, user.rights) = (Some("acme".into()), rights);
    let table: [(&str, Change<'_>, Result<&str, Reason>); 9] = [
        ("a maker of unlimited rights", &|_| {}, Ok("conversations:* messages:read")),
        (
            "an admin that holds it all",
            &|maker| in_acme(maker, only("conversations:* messages:* tollgate:keys")),
            Ok("conversations:* messages:read"),
        ),
        ("an admin that was demoted", &|maker| in_acme(maker, only("messages:read")), Ok("messages:read")),
        ("one that lost all", &|maker| in_acme(maker, only("")), Ok("")),
        (
            "one of another organisation",
            &|maker| (maker.organization, maker.rights) = (Some("other".into()), only("*")),
            Err(Reason::Revoked),
        ),
        ("one of none any more", &|maker| maker.rights = only("*"), Err(Reason::Revoked)),
        ("one that reaches everything, from anywhere", &|maker| maker.rights = only("tollgate:admin"), Ok("conversations:* messages:read")),
        ("a disabled one", &|maker| maker.state = UserState::Disabled, Err(Reason::Disabled)),
        ("somebody else's record", &|maker| maker.subject = alice_subject(), Err(Reason::UnknownUser)),
    ];
    let made = || {
        let made_by = Some(Subject::parse("ann").unwrap());
        let mut key = key_record(KEY, &key_text(Environment::Live, KEY, 'l'));
        (key.organization, key.scopes) = (Some("acme".into()), scopes("conversations:* messages:read"));
        key.notes = KeyNotes::new(KeyExtras { made_by, ..KeyExtras::default() });
        key
    };
    for (what, change, expected) in table {
        for form in FORMS {
            let mut case = Case::new(Kind::Key, form);
            case.key = made();
            change(&mut case.maker);
            let scopes_found = |judged: Result<Arc<Caller>, Reason>| judged.map(|caller| Arc::clone(&caller.scopes));
            assert_eq!(scopes_found(case.judge()), expected.map(scopes), "its token, {form:?}: {what}");
            let text = key_text(Environment::Live, KEY, 'l');
            let own = crate::model::key_text::OwnKey { text: &text, environment: Environment::Live, id: KEY };
            assert_eq!(scopes_found(judge_proof(&Proof::OwnKey(own), &case)), expected.map(scopes), "the key itself: {what}");
            // A foreign issuer's token that names it.
            case.rules.issuers.push(issuer(Managed::No, TokenId::NamesKey));
            let named = VerifiedClaims { issuer: 2, grant: None, token_id: Some(KEY.into()), ..case.claims.clone() };
            assert_eq!(
                scopes_found(judge_proof(&Proof::Token(Arc::new(named)), &case)),
                expected.map(scopes),
                "a token in its name: {what}"
            );
        }
    }
    let mut case = Case::new(Kind::Key, Form::Opaque);
    case.key = made();
    for (maker, expected) in [
        (Fact::FromStore(Ok(None)), Reason::UnknownUser),
        (Fact::FromStore(Err(down())), Reason::StoreUnavailable),
        (Fact::FromStore(Err(corrupt())), Reason::CorruptRecord),
        (Fact::NotAsked, Reason::Internal),
    ] {
        let facts = FoundFacts { maker, ..case.facts() };
        assert_eq!(facts.lack_an_answer(), expected == Reason::StoreUnavailable);
        assert_eq!(case.judge_with(&facts).err(), Some(expected));
    }
}

/// What another credential in the same house is worth.
fn judge_proof(proof: &Proof<'_>, case: &Case) -> Result<Arc<Caller>, Reason> {
    let facts = FoundFacts { grant: Fact::NotAsked, ..case.facts() };
    match resolve(proof, None, &facts, None, &case.rules, &peppers(), NOW) {
        Ok(caller) => Ok(caller.unwrap()),
        Err(Exit::Denied(denial)) => Err(denial.reason),
        Err(Exit::Failed(fault)) => Err(fault.reason),
    }
}

/// Gives the token itself these scopes, in whichever form it is.
fn give(case: &mut Case, text: &str) {
    case.claims.scopes = scopes(text);
    for entry in &mut case.grant.access {
        if let AccessState::Out { scopes: held, .. } = &mut entry.state {
            *held = scopes(text);
        }
    }
    if case.kind == Kind::Key && case.form == Form::Opaque {
        // A key's own token holds what was granted.
        case.grant.scopes = scopes(text);
    }
}

#[test]
fn tier_organisation_and_environment_come_from_those_behind_it() {
    for form in FORMS {
        let mut case = Case::new(Kind::Consent, form);
        (case.user.tier, case.user.organization) = (Some("enterprise".into()), Some("umbrella".into()));
        let caller = case.judge().unwrap();
        assert_eq!(
            (caller.tier.as_deref(), caller.organization.as_deref()),
            (Some("enterprise"), Some("umbrella")),
            "the user's, not the client's"
        );
        case.client.tier = Some("pro".into());
        assert_eq!(case.judge().unwrap().tier.as_deref(), Some("pro"));
        let mut case = Case::new(Kind::Client, form);
        case.client.tier = Some("pro".into());
        let caller = case.judge().unwrap();
        assert_eq!((caller.tier.as_deref(), caller.organization.as_deref()), (Some("pro"), Some("acme")));
        case.grant.organization = Some("other".into());
        assert_eq!(case.judge().err(), Some(Reason::Revoked));
        for (of_client, of_grant, expected) in [
            (Environment::Live, Environment::Live, Environment::Live),
            (Environment::Test, Environment::Live, Environment::Test),
            (Environment::Live, Environment::Test, Environment::Test),
        ] {
            for kind in [Kind::Consent, Kind::Client, Kind::Owned] {
                let mut case = Case::new(kind, form);
                (case.client.environment, case.grant.environment) = (of_client, of_grant);
                assert_eq!(case.judge().unwrap().environment, expected, "{kind:?} {form:?}");
            }
        }
        let mut case = Case::new(Kind::SignIn, form);
        case.grant.environment = Environment::Test;
        assert_eq!(case.judge().unwrap().environment, Environment::Test);
    }
}

#[test]
fn a_key_beside_a_token_must_be_the_tokens_own() {
    let (own, other) = (key_text(Environment::Live, KEY, 'l'), key_text(Environment::Live, "BBBBBBBBBBBB", 'b'));
    let paired = |text: &str| {
        let text = text.to_owned();
        move |case: &mut Case| case.paired = Some(text.clone())
    };
    after(&[Kind::Key], "its own key", paired(&own), None);
    after(&[Kind::Key], "another key", paired(&other), Some(Reason::UnknownKey));
    after(&[Kind::Key], "no key", paired(""), Some(Reason::UnknownKey));
    let others = [Kind::Consent, Kind::Client, Kind::Owned, Kind::SignIn];
    after(&others, "a key beside a token that none rules", paired(&own), Some(Reason::UnknownKey));
}

#[test]
fn a_key_that_is_held_to_some_networks_opens_nothing_from_elsewhere() {
    let table: [(&[&str], Option<&str>, Option<Reason>); 12] = [
        (&[], None, None),
        (&[], Some("192.0.2.1"), None),
        (&["192.0.2.0/24"], Some("192.0.2.1"), None),
        (&["192.0.2.0/24"], Some("::ffff:192.0.2.1"), None),
        (&["192.0.2.0/24"], Some("192.0.3.1"), Some(Reason::WrongNetwork)),
        (&["192.0.2.0/24"], Some("2001:db8::1"), Some(Reason::WrongNetwork)),
        (&["192.0.2.0/24"], None, Some(Reason::WrongNetwork)),
        (&["10.0.0.0/8", "2001:db8::/32"], Some("2001:db8::1"), None),
        (&["10.0.0.0/8", "2001:db8::/32"], Some("10.255.255.255"), None),
        (&["10.0.0.0/8", "2001:db8::/32"], Some("11.0.0.0"), Some(Reason::WrongNetwork)),
        (&["192.0.2.1/32"], Some("192.0.2.1"), None),
        (&["192.0.2.1/32"], Some("192.0.2.2"), Some(Reason::WrongNetwork)),
    ];
    for (networks, address, expected) in table {
        let held = KeyNotes::new(KeyExtras {
            allowed_networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            ..KeyExtras::default()
        });
        let address: Option<IpAddr> = address.map(|address| address.parse().unwrap());
        for form in FORMS {
            let mut case = Case::new(Kind::Key, form);
            (case.key.notes, case.address) = (held.clone(), address);
            assert_eq!(case.judge().err(), expected, "{networks:?} {address:?} {form:?}");
        }
        // The key itself, and never before its secret was right.
        let text = key_text(Environment::Live, KEY, 'l');
        let mut case = Case::new(Kind::Key, Form::Jwt);
        case.key.notes = held;
        let judge = |text: &str| {
            let own = crate::model::key_text::OwnKey { text, environment: Environment::Live, id: KEY };
            match resolve(&Proof::OwnKey(own), None, &case.facts(), address, &case.rules, &peppers(), NOW) {
                Ok(_) => None,
                Err(Exit::Denied(denial)) => Some(denial.reason),
                Err(Exit::Failed(fault)) => Some(fault.reason),
            }
        };
        assert_eq!(judge(&text), expected, "{networks:?} {address:?}");
        assert_eq!(judge(&key_text(Environment::Live, KEY, 'x')), Some(Reason::UnknownKey));
    }
}

fn few_scopes() -> impl Strategy<Value = Arc<ScopeSet>> {
    let scope = prop_oneof!["(\\*|[ab]:[rw]|[ab]:\\*)", Just("tollgate:admin".to_owned()), Just("tollgate:unlimited".to_owned())];
    prop::collection::vec(scope, 0..4).prop_map(|texts| Arc::new(ScopeSet::new(texts.iter().map(|text| Scope::parse(text).unwrap()))))
}

proptest! {
    // oauth: T5 U2
    #[test]
    fn no_token_ever_opens_more_than_each_of_those_behind_it(
        kind in prop::sample::select(&KINDS), form in prop::sample::select(&FORMS),
        of_token in few_scopes(), of_grant in few_scopes(), of_client in few_scopes(), of_key in few_scopes(), of_user in few_scopes(),
        wanted in prop_oneof!["[ab]:[rw]", Just("tollgate:admin".to_owned())],
    ) {
        let mut case = Case::new(kind, form);
        give(&mut case, &of_token.to_string());
        if !(kind == Kind::Key && form == Form::Opaque) {
            case.grant.scopes = Arc::clone(&of_grant);
        }
        (case.client.scopes, case.key.scopes) = (Arc::clone(&of_client), Arc::clone(&of_key));
        case.user.rights = Rights::Only(Arc::clone(&of_user));
        let mut ceilings = vec![&of_token, &case.grant.scopes];
        if kind.has_client() {
            ceilings.push(&of_client);
        }
        if kind == Kind::Key {
            ceilings.push(&of_key);
        }
        if kind.has_user() {
            ceilings.push(&of_user);
        }
        let expected = !wanted.starts_with("tollgate:") && ceilings.iter().all(|ceiling| ceiling.covers(&wanted));
        prop_assert_eq!(case.judge().unwrap().scopes.covers(&wanted), expected);
    }
}
