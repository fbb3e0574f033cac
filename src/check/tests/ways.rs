//! What each way through the corridor asks of the shelf, the buckets and the ledger, and in which order.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::check::Gate;
use crate::check::Seen;
use crate::check::check;
use crate::check::decide::Exit;
use crate::check::decide::Particulars;
use crate::check::doubles::NOW;
use crate::check::doubles::client_record;
use crate::check::doubles::down;
use crate::check::doubles::grant_record;
use crate::check::doubles::handle_text;
use crate::check::doubles::key_record;
use crate::check::doubles::key_text;
use crate::check::doubles::scopes;
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
use crate::check::tests::WORKER;
use crate::check::tests::issuer;
use crate::check::tests::own_token;
use crate::check::tests::own_token_of;
use crate::check::tests::policy;
use crate::check::tests::reason_of;
use crate::check::tests::token;
use crate::check::tests::token_named;
use crate::check::tests::with_key;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::handle::HandleKind;
use crate::model::key::KeyExtras;
use crate::model::key::KeyId;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::quota::Per;
use crate::model::request::Method;
use crate::model::request::Request;
use crate::model::route::Auth;
use crate::model::rules::Exemption;
use crate::model::rules::Managed;
use crate::model::rules::Rules;
use crate::model::rules::TokenId;

fn live_key() -> String {
    key_text(Environment::Live, LIVE_ID, 'l')
}

// battery: K16
#[test]
fn the_shelf_is_asked_only_for_what_a_verdict_needs() {
    let bearer = |issuer: &str, subject: &str| ("authorization", format!("Bearer {}", token(issuer, subject, 0)));
    let opaque = |kind, grant, number| ("authorization", format!("Bearer {}", handle_text(kind, grant, number)));
    let asked = str::to_owned;
    let table = [
        (Auth::Required, ("x-api-key", live_key()), vec![format!("key {LIVE_ID}"), "user local alice".to_owned()]),
        // What has an impossible form is never looked up.
        (Auth::Required, ("x-api-key", live_key().replace("AAA", "AAB")), vec![]),
        (Auth::Required, ("x-api-key", key_text(Environment::Live, FILE_ID, 'f')), vec![]),
        (Auth::Required, ("x-api-key", IMPORTED.to_owned()), vec!["digest".to_owned(), "user local alice".to_owned()]),
        // Once per pepper.
        (Auth::Required, ("x-api-key", "unknown-key-of-old".to_owned()), vec!["digest".to_owned(), "digest".to_owned()]),
        (Auth::Required, bearer("free", "fred"), vec![]),
        (Auth::Required, bearer("kept", "kim"), vec!["user kept kim".to_owned()]),
        (
            Auth::Required,
            opaque(HandleKind::Access, CONSENT, 7),
            vec![asked("grant consent"), format!("client {APP}"), asked("user local alice")],
        ),
        (Auth::Required, opaque(HandleKind::Access, MACHINE, 7), vec![asked("grant machine"), format!("client {APP}")]),
        (
            Auth::Required,
            opaque(HandleKind::Access, OF_KEY, 3),
            vec![format!("grant {OF_KEY}"), format!("key {LIVE_ID}"), asked("user local alice")],
        ),
        (
            Auth::Required,
            ("authorization", format!("Bearer {}", own_token(CONSENT, "alice"))),
            vec![asked("grant consent"), format!("client {APP}"), asked("user local alice")],
        ),
        // What we did not make is never looked up.
        (Auth::Required, ("authorization", format!("Bearer tg_at_consent.7.{}", "m".repeat(43))), vec![]),
        (Auth::Required, opaque(HandleKind::Refresh, CONSENT, 3), vec![]),
        (Auth::Required, opaque(HandleKind::Access, "nowhere", 7), vec![asked("grant nowhere")]),
        (Auth::Public, ("x-api-key", live_key()), vec![]),
        (Auth::Optional, ("x-unrelated", "1".to_owned()), vec![]),
    ];
    for (auth, (name, value), asked) in table {
        let request = samples::request(Method::Get, "/house", &[(name, &value)]);
        House::new(auth).walk(&request, |_, trace| assert_eq!(trace.asked, asked, "{auth:?} {name} {}", value.len()));
    }
}

/// Ordinary keys and tokens ask nothing more; what stands on somebody else's word asks for that one.
#[test]
fn whoever_else_a_credential_stands_on_is_asked_for() {
    let subject = |name: &str| Some(Subject::parse(name).unwrap());
    let asked = |name: &'static str, text: String, stand: &dyn Fn(&mut House), expected: &[String]| {
        let value = if name == "authorization" { format!("Bearer {text}") } else { text };
        let request = samples::request(Method::Get, "/house", &[(name, &value)]);
        let mut house = House::new(Auth::Required);
        stand(&mut house);
        house.walk(&request, |_, trace| assert_eq!(trace.asked, expected));
    };
    let made_by_ann = |house: &mut House| {
        let held = KeyExtras { made_by: subject("ann"), ..KeyExtras::default() };
        house.shelf.hold_key(KeyRecord { notes: KeyNotes::new(held), ..key_record(LIVE_ID, &live_key()) });
    };
    let (key, alice, ann) = (format!("key {LIVE_ID}"), "user local alice".to_owned(), "user local ann".to_owned());
    asked("x-api-key", live_key(), &made_by_ann, &[key.clone(), alice.clone(), ann.clone()]);
    asked("authorization", handle_text(HandleKind::Access, OF_KEY, 3), &made_by_ann, &[format!("grant {OF_KEY}"), key, alice.clone(), ann]);
    let owned = |house: &mut House| house.shelf.hold_client(ClientRecord { owner: subject("alice"), ..client_record(APP) });
    let (machine, app) = ("grant machine".to_owned(), format!("client {APP}"));
    asked("authorization", handle_text(HandleKind::Access, MACHINE, 7), &owned, &[machine, app.clone(), alice.clone()]);
    let acting = "app_jihgfedcba9876543210";
    let exchanged = own_token_of(CONSENT, "alice", acting);
    asked("authorization", exchanged, &|_| {}, &["grant consent".to_owned(), app, format!("client {acting}"), alice]);
}

#[test]
fn a_file_keys_token_needs_no_shelf_but_for_its_grant() {
    let of_file = GrantId::of_key(&KeyId::new(FILE_ID));
    let bearer = format!("Agent {}", handle_text(HandleKind::Access, of_file.as_str(), 3));
    let request = samples::request(Method::Get, "/house", &[("x-authorization", &bearer)]);
    let robot = Subject::parse("robot").unwrap();
    let mut house = House::new(Auth::Required);
    house.shelf.hold_grant(grant_record(of_file.as_str(), GrantOf::Key { key: KeyId::new(FILE_ID), user: robot }));
    house.walk(&request, |ended, trace| {
        assert_eq!(ended.unwrap().prepared().caller().unwrap().user.as_str(), "robot");
        assert_eq!(trace.asked, [format!("grant {of_file}")]);
        assert_eq!(trace.lines, [format!("robot {FILE_ID} house allowed 2")]);
    });
}

#[test]
fn the_address_that_a_network_is_judged_by_is_the_one_that_can_be_trusted() {
    let key = live_key();
    let house = |trusted_hops| {
        let mut house = House::new(Auth::Required);
        house.rules.trusted_hops = trusted_hops;
        let held = KeyExtras { allowed_networks: vec!["198.51.100.0/24".parse().unwrap()], ..KeyExtras::default() };
        let record = key_record(LIVE_ID, &key);
        house.shelf.hold_key(KeyRecord { notes: KeyNotes::new(held), ..record });
        house
    };
    let inside = [("x-api-key", &*key), ("x-forwarded-for", "198.51.100.7")];
    let request = samples::request(Method::Get, "/house", &inside);
    house(0).walk(&request, |ended, trace| {
        assert_eq!(reason_of(ended), Reason::WrongNetwork, "anybody can write such a header");
        assert!(trace.takes.is_empty() && trace.lines.is_empty());
    });
    house(1).walk(&request, |ended, _| assert_eq!(reason_of(ended), Reason::Ok));
    // Whoever knocks from elsewhere does not shut out those inside.
    let outside = with_key(&key);
    house(1).walk_several(|walk| {
        walk(&request, Reason::Ok);
        for _ in 0..20 {
            walk(&outside, Reason::WrongNetwork);
        }
        walk(&request, Reason::Ok);
    });
}

#[test]
fn a_users_record_that_cannot_be_had_is_a_fault_and_a_missing_one_a_denial() {
    let key = live_key();
    let mut house = House::new(Auth::Required);
    house.shelf.user_failure = Some(down());
    house.walk(&with_key(&key), |ended, _| assert_eq!(reason_of(ended), Reason::StoreUnavailable));
    let mut house = House::new(Auth::Required);
    house.shelf.users.clear();
    house.walk(&with_key(&key), |ended, _| assert_eq!(reason_of(ended), Reason::UnknownUser));
}

// battery: J50 K22
#[test]
fn a_token_that_names_a_key_is_ruled_by_its_record() {
    let bearer = format!("Bearer {}", token("micro", "alice", 0));
    let request = samples::request(Method::Get, "/house", &[("authorization", &bearer)]);
    let house = |record: Option<KeyRecord>| {
        let mut house = House::new(Auth::Required);
        house.rules.issuers.push(issuer("micro", Managed::No, TokenId::NamesKey));
        house.shelf.keys.clear();
        if let Some(record) = record {
            house.shelf.hold_key(record);
        }
        house
    };
    let good = || key_record(LIVE_ID, "");
    house(Some(good())).walk(&request, |ended, trace| {
        let caller = ended.unwrap().prepared().caller().unwrap();
        assert_eq!(caller.key.as_ref().unwrap().as_str(), LIVE_ID);
        assert_eq!(caller.scopes, scopes("conversations:read"));
        assert_eq!(trace.asked, [format!("key {LIVE_ID}"), "user local alice".to_owned()]);
        assert_eq!(trace.lines, [format!("micro:alice {LIVE_ID} house allowed 2")]);
    });
    house(None).walk(&request, |ended, _| assert_eq!(reason_of(ended), Reason::UnknownKey));
    let mut revoked = good();
    revoked.state = KeyState::Revoked;
    house(Some(revoked)).walk(&request, |ended, _| assert_eq!(reason_of(ended), Reason::Revoked));
    let mut house_with_file = house(None);
    house_with_file.rules.file_keys.insert(LIVE_ID.into(), Arc::new(good()));
    house_with_file.walk(&request, |ended, trace| {
        assert_eq!(reason_of(ended), Reason::Ok);
        assert!(trace.asked.is_empty(), "the file's keys come first");
    });
    // What cannot be a key's id is never looked up.
    for id in ["key:*", "{tag}", "a b", "", "../x", &"i".repeat(65)] {
        let bearer = format!("Bearer {}", token_named("micro", "alice", 0, id));
        let request = samples::request(Method::Get, "/house", &[("authorization", &bearer)]);
        house(Some(good())).walk(&request, |ended, trace| {
            assert_eq!(reason_of(ended).row().http, 401, "{id:?}");
            assert!(trace.asked.is_empty(), "{id:?}: {:?}", trace.asked);
        });
    }
}

#[test]
fn limits_are_asked_in_two_questions_and_last_before_the_count() {
    let key = live_key();
    House::new(Auth::Required).walk(&with_key(&key), |ended, trace| {
        assert_eq!(trace.takes, [vec!["house route:house 2".to_owned()], vec!["free user:alice 2".to_owned()]]);
        let tightest = ended.unwrap().admission().tightest().unwrap();
        assert_eq!((&*tightest.policy, tightest.level.remaining), ("free", 8));
    });
    let wrong = key_text(Environment::Live, LIVE_ID, 'x');
    House::new(Auth::Required).walk(&with_key(&wrong), |_, trace| assert!(trace.takes.is_empty()));
}

#[test]
fn the_free_tier_admits_its_burst_and_then_says_when_to_come_back() {
    let key = live_key();
    let request = samples::request(Method::Get, "/garden", &[("x-api-key", &key)]);
    House::new(Auth::Required).walk_times(10, &request, |ended, _| assert_eq!(reason_of(ended), Reason::Ok));
    House::new(Auth::Required).walk_times(11, &request, |ended, trace| {
        let Err(Exit::Denied(denial)) = ended else { panic!("the eleventh is refused") };
        let Particulars::Limits(limits) = &denial.particulars else { panic!("with the levels") };
        assert_eq!(limits.retry_after(), Some(Duration::from_secs(1)));
        assert_eq!(limits.tightest().unwrap().level.remaining, 0);
        assert_eq!(trace.lines.last().unwrap(), &format!("alice {LIVE_ID} garden limited 1"));
        assert_eq!(trace.lines.len(), 11);
    });
}

#[test]
fn a_key_with_a_rate_limit_passes_its_minute_at_once_and_the_next_call_waits() {
    let key = live_key();
    let house = || {
        let mut house = House::new(Auth::Required);
        let mut record = key_record(LIVE_ID, &key);
        record.rate_limit = Some(60);
        house.shelf.hold_key(record);
        let enterprise = policy("enterprise", Per::Owner, 1000, 100);
        house.rules.tiers.get_mut("free").unwrap().policies = vec![enterprise];
        house
    };
    let request = samples::request(Method::Get, "/garden", &[("x-api-key", &key)]);
    house().walk_times(60, &request, |ended, _| {
        let tightest = ended.unwrap().admission().tightest().unwrap();
        assert_eq!((&*tightest.policy, tightest.limit.per_minute, tightest.level.remaining), ("key_rate_limit", 60, 0));
    });
    house().walk_times(61, &request, |ended, _| assert_eq!(reason_of(ended), Reason::RateLimited));
}

// battery: M3
#[test]
fn head_is_judged_and_counted_as_get() {
    let key = live_key();
    let head = samples::request(Method::Head, "/house", &[("x-api-key", &key)]);
    House::new(Auth::Required).walk(&head, |_, trace| assert_eq!(trace.lines, [format!("alice {LIVE_ID} house allowed 2")]));
}

#[test]
fn a_preflight_passes_uncounted_and_unlimited_and_asks_nobody() {
    let headers = [("origin", "https://app.example.com"), ("access-control-request-method", "GET")];
    let request = samples::request(Method::Options, "/house", &headers);
    let mut house = House::new(Auth::Required);
    house.shelf.failure = Some(down());
    house.buckets.failure = Some(down());
    house.book.full = true;
    house.walk(&request, |ended, trace| {
        let grant = ended.unwrap();
        assert_eq!(grant.reason(), Reason::Preflight);
        assert!(grant.prepared().set().is_empty());
        assert_eq!(grant.prepared().remove(), ["x-user-id", "x_user_id", "x-user_id", "x_user-id"].map(Arc::from));
        assert!(trace.asked.is_empty() && trace.takes.is_empty() && trace.lines.is_empty());
    });
}

#[test]
fn only_configured_principals_and_holders_of_the_reserved_scope_are_exempt() {
    let key = live_key();
    let exempt_key = || {
        let mut house = House::new(Auth::Required);
        let mut record = key_record(LIVE_ID, &key);
        record.scopes = scopes("tollgate:unlimited");
        house.shelf.hold_key(record);
        house
    };
    exempt_key().walk(&with_key(&key), |ended, trace| {
        assert!(ended.unwrap().admission().levels().is_empty() && trace.takes.is_empty());
        assert_eq!(trace.lines.len(), 1, "what is not limited is counted all the same");
    });
    let mut star = House::new(Auth::Required);
    let mut record = key_record(LIVE_ID, &key);
    record.scopes = scopes("* tollgate:*");
    star.shelf.hold_key(record);
    star.walk(&with_key(&key), |_, trace| assert_eq!(trace.takes.len(), 2, "no wildcard exempts"));

    let request = Request { principal: Some(WORKER), ..samples::request(Method::Get, "/house", &[]) };
    let mut house = House::new(Auth::Required);
    house.rules.mesh.as_mut().unwrap().principals.get_mut(WORKER).unwrap().limits = Exemption::Exempt;
    house.walk(&request, |ended, trace| assert!(ended.unwrap().admission().levels().is_empty() && trace.takes.is_empty()));
    House::new(Auth::Required).walk(&request, |_, trace| assert_eq!(trace.takes.len(), 2));
}

#[test]
fn what_is_refused_to_a_known_caller_is_counted_apart() {
    let key = live_key();
    let mut house = House::new(Auth::Required);
    let mut routes: Vec<_> = house.rules.routes.iter().map(|route| (**route).clone()).collect();
    routes[0].environments = vec![Environment::Test];
    let changed = samples::rules(routes);
    (house.rules.routes, house.rules.route_index) = (changed.routes, changed.route_index);
    house.walk(&with_key(&key), |ended, trace| {
        assert_eq!(reason_of(ended), Reason::WrongEnvironment);
        assert_eq!(trace.lines, [format!("alice {LIVE_ID} house refused 1")]);
        assert!(trace.takes.is_empty());
    });
    let nowhere = samples::request(Method::Get, "/nowhere", &[("x-api-key", &key)]);
    House::new(Auth::Required).walk(&nowhere, |ended, trace| {
        assert_eq!(reason_of(ended), Reason::NoRoute);
        assert!(trace.lines.is_empty(), "nobody was known yet");
    });
}

// battery: H14
#[test]
fn identity_headers_are_overwritten_or_removed_on_every_allow() {
    let key = live_key();
    let spoofed = [("x-user-id", "admin"), ("x-api-key", &*key)];
    let request = samples::request(Method::Get, "/house", &spoofed);
    House::new(Auth::Required).walk(&request, |ended, _| {
        let prepared = ended.unwrap().prepared();
        assert_eq!(prepared.set(), [(Arc::from("x-user-id"), Cow::Borrowed("alice"))]);
        assert_eq!(prepared.remove(), ["x-api-key", "x_user_id", "x-user_id", "x_user-id"].map(Arc::from));
    });
    House::new(Auth::Public).walk(&request, |ended, _| {
        let prepared = ended.unwrap().prepared();
        assert!(prepared.set().is_empty());
        assert_eq!(prepared.remove(), ["x-user-id", "x_user_id", "x-user_id", "x_user-id"].map(Arc::from));
    });
    let anonymous = samples::request(Method::Get, "/house", &[("x-user-id", "admin")]);
    let removed = ["x-user-id", "x_user_id", "x-user_id", "x_user-id"].map(Arc::from);
    House::new(Auth::Optional).walk(&anonymous, |ended, _| assert_eq!(ended.unwrap().prepared().remove(), removed));
}

#[test]
fn a_walk_can_move_between_threads() {
    fn moves(_: &impl Send) {}
    fn walk<'r>(request: &'r Request<'r>, gate: &'r Gate, rules: &'r Rules, seen: &mut Seen<'r>) {
        moves(&check(request, gate, rules, seen, NOW));
    }
    let _ = walk;
}

// battery: K19
#[test]
fn failed_guesses_use_up_an_addresss_patience_but_not_that_of_proven_keys() {
    let (good, wrong) = (live_key(), key_text(Environment::Live, LIVE_ID, 'x'));
    let house = House::new(Auth::Required);
    let patience = house.rules.guard.per_address.depth;
    house.walk_several(|walk| {
        walk(&with_key(&good), Reason::Ok);
        for _ in 0..patience {
            walk(&with_key(&wrong), Reason::UnknownKey);
        }
        walk(&with_key(&wrong), Reason::TooManyFailures);
        walk(&with_key(&good), Reason::Ok);
    });
    // What is ours to mend is nobody's failed guess.
    let mut house = House::new(Auth::Required);
    house.shelf.failure = Some(down());
    house.walk_times(patience as usize + 2, &with_key(&wrong), |ended, _| assert_eq!(reason_of(ended), Reason::StoreUnavailable));
}

#[test]
fn the_use_of_an_older_secret_is_noted_and_that_of_the_newest_is_not() {
    let (old, new) = (key_text(Environment::Live, LIVE_ID, 'o'), key_text(Environment::Live, LIVE_ID, 'n'));
    for (text, is_noted) in [(&old, true), (&new, false)] {
        let mut house = House::new(Auth::Required);
        let mut record = key_record(LIVE_ID, &new);
        let mut older = key_record(LIVE_ID, &old).secrets.remove(0);
        older.retires = Some(NOW.plus(Duration::from_secs(60)));
        let name = older.use_name(&record.id);
        record.secrets.push(older);
        house.shelf.hold_key(record);
        house.walk(&with_key(text), |ended, trace| {
            assert_eq!(reason_of(ended), Reason::Ok);
            assert_eq!(trace.lines.contains(&format!("used {name} house")), is_noted, "{:?}", trace.lines);
        });
    }
}
