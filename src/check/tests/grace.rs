//! The shelf is silent. Who lives by what was known last, and who does not: every combination of what is remembered, how old it is and
//! what the caller's tier grants.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::check::Seen;
use crate::check::check;
use crate::check::decide::Exit;
use crate::check::doubles::Memory;
use crate::check::doubles::NOW;
use crate::check::doubles::Shelf;
use crate::check::doubles::corrupt;
use crate::check::doubles::down;
use crate::check::doubles::handle_text;
use crate::check::doubles::key_record;
use crate::check::doubles::key_text;
use crate::check::doubles::seconds_from_now;
use crate::check::doubles::user_record;
use crate::check::reasons::Reason;
use crate::check::samples;
use crate::check::tests::APP;
use crate::check::tests::CONSENT;
use crate::check::tests::FILE_ID;
use crate::check::tests::House;
use crate::check::tests::IMPORTED;
use crate::check::tests::LIVE_ID;
use crate::check::tests::MACHINE;
use crate::check::tests::OF_KEY;
use crate::check::tests::REVOKED_ID;
use crate::check::tests::UNKNOWN_ID;
use crate::check::tests::WORKER;
use crate::check::tests::own_token;
use crate::check::tests::reason_of;
use crate::check::tests::token;
use crate::check::tests::with_key;
use crate::model::caller::Environment;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::handle::HandleKind;
use crate::model::key::KeyExtras;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::request::Method;
use crate::model::request::Request;
use crate::model::route::Auth;
use crate::model::rules::Tier;
use crate::model::user::UserState;

const SECOND: Duration = Duration::from_secs(1);

/// A house whose shelf is silent, whose tier `free` has this grace, and which remembers all that the shelf held.
fn silent(grace: Duration, lapsed_for: Option<Duration>) -> House {
    let mut house = House::new(Auth::Required);
    let Shelf { keys, imported, users, grants, clients, .. } = std::mem::take(&mut house.shelf);
    house.memory = Some(Memory { of: Shelf { keys, imported, users, grants, clients, ..Shelf::default() }, lapsed_for });
    house.shelf.failure = Some(down());
    let tier = house.rules.tiers.get_mut("free").unwrap();
    tier.grace = grace;
    house
}

fn remembered(house: &mut House) -> &mut Shelf {
    &mut house.memory.as_mut().unwrap().of
}

/// How a walk ends, and whether the caller was seen to live by a grace.
fn ended(house: House, request: &Request<'_>) -> (Reason, Option<Duration>) {
    let (gate, rules, _parts) = house.open();
    let mut seen = Seen::default();
    let ended = check(request, &gate, &rules, &mut seen, NOW).now_or_never().unwrap();
    let reason = reason_of(ended.as_ref());
    drop(ended);
    (reason, seen.lapsed_for)
}

fn opaque(grant: &str, generation: u32) -> String {
    handle_text(HandleKind::Access, grant, generation)
}

fn live() -> String {
    key_text(Environment::Live, LIVE_ID, 'l')
}

#[test]
fn only_a_tier_whose_grace_is_not_over_is_served_from_memory() {
    let over = (Reason::StoreUnavailable, None);
    let within = |lapsed_for| (Reason::Ok, Some(lapsed_for));
    let (none, half, whole) = (Duration::ZERO, 15 * SECOND, 30 * SECOND);
    let table = [
        // (grace, lapsed for, the end)
        (none, None, over),
        (none, Some(none), over),
        (none, Some(half), over),
        (whole, None, over),
        (whole, Some(none), within(none)),
        (whole, Some(half), within(half)),
        (whole, Some(whole), within(whole)),
        (whole, Some(whole + Duration::from_nanos(1)), over),
        (whole, Some(Duration::MAX), over),
    ];
    for (grace, lapsed_for, expected) in table {
        for text in [live(), IMPORTED.to_owned()] {
            assert_eq!(ended(silent(grace, lapsed_for), &with_key(&text)), expected, "{grace:?} {lapsed_for:?} {text}");
        }
        let bearer = format!("Bearer {}", token("kept", "kim", 0));
        let request = samples::request(Method::Get, "/house", &[("authorization", &bearer)]);
        assert_eq!(ended(silent(grace, lapsed_for), &request), expected, "{grace:?} {lapsed_for:?} a managed token");
        for token in [own_token(CONSENT, "alice"), own_token(MACHINE, APP), opaque(CONSENT, 7), opaque(MACHINE, 7), opaque(OF_KEY, 3)] {
            let bearer = format!("Bearer {token}");
            let request = samples::request(Method::Get, "/house", &[("authorization", &bearer)]);
            assert_eq!(ended(silent(grace, lapsed_for), &request), expected, "{grace:?} {lapsed_for:?} {token}");
        }
    }
    // Nothing that could remember: as ever.
    let mut house = silent(whole, Some(none));
    house.memory = None;
    assert_eq!(ended(house, &with_key(&live())), over);
}

#[test]
fn a_grace_is_the_callers_own_tiers() {
    let (whole, lapsed) = (30 * SECOND, 10 * SECOND);
    // (the key's tier, the default tier, served)
    let table = [
        (None, Some("free"), true),
        (Some("free"), Some("strict"), true),
        (Some("strict"), Some("free"), false),
        (Some("short"), Some("free"), false),
        (None, Some("strict"), false),
        (None, None, false),
        (Some("gone"), None, false),
    ];
    for (of_key, default, served) in table {
        let mut house = silent(whole, Some(lapsed));
        let free = house.rules.tiers["free"].clone();
        for (name, grace) in [("strict", Duration::ZERO), ("short", 9 * SECOND)] {
            house.rules.tiers.insert(name.into(), Tier { name: name.into(), grace, ..free.clone() });
        }
        house.rules.default_tier = default.map(Arc::from);
        let mut record = key_record(LIVE_ID, &live());
        record.tier = of_key.map(Arc::from);
        remembered(&mut house).hold_key(record);
        let expected = if served { (Reason::Ok, Some(lapsed)) } else { (Reason::StoreUnavailable, None) };
        assert_eq!(ended(house, &with_key(&live())), expected, "{of_key:?} {default:?}");
    }
}

#[test]
fn memory_lets_in_and_never_calls_a_credential_bad() {
    type Change = fn(&mut KeyRecord);
    let lapsed = SECOND;
    let table: [(&str, Change); 5] = [
        ("revoked", |key| key.state = KeyState::Revoked),
        ("disabled, perhaps enabled since", |key| key.state = KeyState::Disabled),
        ("expired, perhaps prolonged since", |key| key.expires = Some(seconds_from_now(-1))),
        ("rotated, perhaps to this secret", |key| key.secrets.clear()),
        ("not valid yet", |key| key.not_before = Some(seconds_from_now(1))),
    ];
    let refused = (Reason::StoreUnavailable, None);
    for (name, change) in table {
        let mut house = silent(30 * SECOND, Some(lapsed));
        let mut record = key_record(LIVE_ID, &live());
        change(&mut record);
        remembered(&mut house).hold_key(record);
        assert_eq!(ended(house, &with_key(&live())), refused, "{name}");
    }
    for text in [key_text(Environment::Live, LIVE_ID, 'x'), key_text(Environment::Live, UNKNOWN_ID, 'u'), "never-imported".to_owned()] {
        assert_eq!(ended(silent(30 * SECOND, Some(lapsed)), &with_key(&text)), refused, "{text}");
    }
    let revoked = key_text(Environment::Live, REVOKED_ID, 'r');
    assert_eq!(ended(silent(30 * SECOND, Some(lapsed)), &with_key(&revoked)), refused);
    let mut house = silent(30 * SECOND, Some(lapsed));
    remembered(&mut house).users.clear();
    assert_eq!(ended(house, &with_key(&live())), refused, "a key without its user");
    let mut house = silent(30 * SECOND, Some(lapsed));
    let mut alice = user_record("local", "alice");
    alice.state = UserState::Disabled;
    remembered(&mut house).hold_user(alice);
    assert_eq!(ended(house, &with_key(&live())), refused, "a disabled user");
}

#[test]
fn memory_never_calls_a_token_of_ours_bad_either() {
    type Change = fn(&mut Shelf);
    let table: [(&str, &str, Change); 8] = [
        (CONSENT, "ended", |shelf| {
            let ended = GrantState::Ended { at: NOW, why: GrantEnd::Revoked };
            shelf.hold_grant(GrantRecord { state: ended, ..(*shelf.grants[CONSENT]).clone() });
        }),
        (CONSENT, "another token is out by now, perhaps", |shelf| {
            shelf.hold_grant(GrantRecord { access: Vec::new(), ..(*shelf.grants[CONSENT]).clone() });
        }),
        (CONSENT, "its client is disabled", |shelf| {
            shelf.hold_client(ClientRecord { state: ClientState::Disabled, ..(*shelf.clients[APP]).clone() });
        }),
        (CONSENT, "its grant is not remembered", |shelf| shelf.grants.clear()),
        (CONSENT, "its client is not remembered", |shelf| shelf.clients.clear()),
        (CONSENT, "its user is not remembered", |shelf| shelf.users.clear()),
        (OF_KEY, "its key is not remembered", |shelf| shelf.keys.clear()),
        (OF_KEY, "its key is held to a network", |shelf| {
            let held = KeyExtras { allowed_networks: vec!["198.51.100.0/24".parse().unwrap()], ..KeyExtras::default() };
            shelf.hold_key(KeyRecord { notes: KeyNotes::new(held), ..(*shelf.keys[LIVE_ID]).clone() });
        }),
    ];
    for (grant, what, change) in table {
        let bearer = format!("Bearer {}", opaque(grant, if grant == OF_KEY { 3 } else { 7 }));
        let request = samples::request(Method::Get, "/house", &[("authorization", &bearer)]);
        assert_eq!(ended(silent(30 * SECOND, Some(SECOND)), &request).0, Reason::Ok, "{what}");
        let mut house = silent(30 * SECOND, Some(SECOND));
        change(remembered(&mut house));
        assert_eq!(ended(house, &request), (Reason::StoreUnavailable, None), "{what}");
    }
    // The shelf still speaks of grants, and falls silent about users.
    for (what, state, expected) in [
        ("live", GrantState::Live, (Reason::Ok, Some(SECOND))),
        ("ended", GrantState::Ended { at: NOW, why: GrantEnd::Reused }, (Reason::StoreUnavailable, None)),
    ] {
        let mut house = silent(30 * SECOND, Some(SECOND));
        house.shelf.failure = None;
        house.shelf.user_failure = Some(down());
        let (grant, client) = ((*remembered(&mut house).grants[CONSENT]).clone(), (*remembered(&mut house).clients[APP]).clone());
        house.shelf.hold_grant(GrantRecord { state, ..grant });
        house.shelf.hold_client(client);
        let bearer = format!("Bearer {}", opaque(CONSENT, 7));
        let request = samples::request(Method::Get, "/house", &[("authorization", &bearer)]);
        assert_eq!(ended(house, &request), expected, "{what}");
    }
}

#[test]
fn failed_guesses_while_the_shelf_is_silent_are_nobodys() {
    let (gate, rules, _parts) = silent(30 * SECOND, Some(SECOND)).open();
    let wrong = key_text(Environment::Live, LIVE_ID, 'x');
    for _ in 0..200 {
        let ended = check(&with_key(&wrong), &gate, &rules, &mut Seen::default(), NOW).now_or_never().unwrap().map(|_| ());
        assert!(matches!(ended, Err(Exit::Failed(fault)) if fault.reason == Reason::StoreUnavailable));
    }
}

#[test]
fn what_the_shelf_did_say_outweighs_memory() {
    // The key was read, and is revoked since; only its user is not answered.
    let mut house = silent(30 * SECOND, Some(SECOND));
    house.shelf.failure = None;
    house.shelf.user_failure = Some(down());
    let mut record = key_record(LIVE_ID, &live());
    record.state = KeyState::Revoked;
    house.shelf.hold_key(record);
    assert_eq!(ended(house, &with_key(&live())), (Reason::StoreUnavailable, None), "refused, if not for good");
    // The key was read and stands; its user is remembered.
    let mut house = silent(30 * SECOND, Some(SECOND));
    house.shelf.failure = None;
    house.shelf.user_failure = Some(down());
    house.shelf.hold_key(key_record(LIVE_ID, &live()));
    assert_eq!(ended(house, &with_key(&live())), (Reason::Ok, Some(SECOND)));
    // A record that cannot be read was an answer.
    let mut house = silent(30 * SECOND, Some(SECOND));
    house.shelf.failure = Some(corrupt());
    assert_eq!(ended(house, &with_key(&live())), (Reason::CorruptRecord, None));
    // The shelf answers that there is no such key, whatever is remembered.
    let mut house = silent(30 * SECOND, Some(SECOND));
    house.shelf.failure = None;
    assert_eq!(ended(house, &with_key(&live())), (Reason::UnknownKey, None));
}

#[test]
fn whoever_needs_no_shelf_needs_no_grace() {
    let file_key = key_text(Environment::Live, FILE_ID, 'f');
    let bearer = format!("Bearer {}", token("free", "fred", 0));
    for grace in [Duration::ZERO, 30 * SECOND] {
        for lapsed_for in [None, Some(SECOND)] {
            assert_eq!(ended(silent(grace, lapsed_for), &with_key(&file_key)), (Reason::Ok, None));
            let request = samples::request(Method::Get, "/house", &[("authorization", &bearer)]);
            assert_eq!(ended(silent(grace, lapsed_for), &request), (Reason::Ok, None));
            let mut request = samples::request(Method::Get, "/house", &[]);
            request.principal = Some(WORKER);
            assert_eq!(ended(silent(grace, lapsed_for), &request), (Reason::Ok, None));
        }
    }
}
