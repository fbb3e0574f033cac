use super::*;
use crate::clock::ManualClock;
use crate::model::client::ClientState;
use crate::model::grant::GrantState;
use crate::model::key::KeyState;
use crate::store::codec::shelved::tests::client_id;
use crate::store::codec::shelved::tests::client_record;
use crate::store::codec::shelved::tests::grant_record;
use crate::store::codec::tests::key_record;
use crate::store::shared::entry::Mark;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

fn change(replaced: u64, version: u64, mark: Mark) -> Change {
    Change { key: RecordKey::key("a"), replaced: Some(replaced), version: Some(version), mark }
}

fn read(cache: &Cache, head: u64) -> Moment {
    Moment { era: cache.era(), head }
}

fn keep(cache: &Cache, moment: Moment) -> Option<KeyState> {
    let taken = Taken { record: key_record("a"), expires: None, size: 100, version: 1 };
    cache.take_in_key("a", Some(taken), moment).map(|record| record.state)
}

fn is_held(cache: &Cache) -> bool {
    cache.key("a", &ManualClock::starting_at(NOW)) != Known::Unknown
}

// battery: K17
#[test]
fn a_read_that_a_change_overtook_is_told_and_not_kept() {
    type Between = fn(&Cache);
    let table: [(&str, u64, Between, bool); 9] = [
        ("nothing happened", 5, |_| {}, true),
        ("read after changes that are not applied yet", 7, |_| {}, true),
        ("a change was applied since", 5, |cache| cache.apply(&[Entry::Foreign], 6, monotonic()), false),
        ("a change was applied that the read saw", 6, |cache| cache.apply(&[Entry::Foreign], 6, monotonic()), true),
        ("we committed since", 5, |cache| cache.committed(0, 6, &[change(1, 2, Mark::Open)]), false),
        ("we committed, and the read saw it", 6, |cache| cache.committed(0, 6, &[change(1, 2, Mark::Open)]), true),
        ("everything was dropped", 5, |cache| cache.reset(5, Dropped::Lost), false),
        ("a commit may have happened", 5, |cache| cache.forget([RecordKey::key("a")].iter()), false),
        ("a commit came back from before a loss", 5, |cache| cache.committed(7, 1, &[change(1, 2, Mark::Open)]), false),
    ];
    for (what, head, between, expected) in table {
        let cache = Cache::new(CacheSizes::default());
        cache.begin(5);
        let moment = read(&cache, head);
        between(&cache);
        assert_eq!(keep(&cache, moment), Some(KeyState::Active), "{what}: whoever asked is answered");
        assert_eq!(is_held(&cache), expected, "{what}");
    }
    let cache = Cache::new(CacheSizes::default());
    keep(&cache, read(&cache, 5));
    assert!(!is_held(&cache), "nothing would ever throw it out");
}

#[test]
fn an_applied_change_throws_out_its_record_alone() {
    let cache = Cache::new(CacheSizes::default());
    cache.begin(0);
    keep(&cache, read(&cache, 0));
    cache.take_in_key("b", None, read(&cache, 0));
    let clock = ManualClock::starting_at(NOW);
    cache.apply(&[Entry::Change(change(1, 2, Mark::Open))], 1, monotonic());
    assert_eq!((cache.key("a", &clock), cache.key("b", &clock)), (Known::Unknown, Known::Absent));
    cache.apply(&[Entry::Unreadable], 2, monotonic());
    assert_eq!(cache.key("b", &clock), Known::Unknown, "it may have been about anything");
}

#[test]
fn a_late_poll_does_not_undo_what_we_did_since() {
    let cache = Cache::new(CacheSizes::default());
    cache.begin(0);
    let (disabled, enabled) = (change(1, 2, Mark::Disabled), change(2, 3, Mark::Open));
    cache.committed(0, 1, std::slice::from_ref(&disabled));
    cache.committed(0, 2, std::slice::from_ref(&enabled));
    cache.apply(&[Entry::Change(disabled)], 1, monotonic());
    assert_eq!(keep(&cache, read(&cache, 2)), Some(KeyState::Active));
    cache.apply(&[Entry::Change(enabled)], 2, monotonic());
    assert_eq!(keep(&cache, read(&cache, 2)), Some(KeyState::Active));
    assert_eq!(cache.counts().tombstones, 0);
}

#[test]
fn what_expires_is_absent_when_its_time_comes() {
    let cache = Cache::new(CacheSizes::default());
    cache.begin(0);
    let taken = Taken { record: key_record("a"), expires: Some(NOW), size: 100, version: 1 };
    cache.take_in_key("a", Some(taken), read(&cache, 0));
    let before = ManualClock::starting_at(Timestamp::from_nanos(NOW.as_nanos() - 1));
    assert!(matches!(cache.key("a", &before), Known::Here(_)));
    assert_eq!(cache.key("a", &ManualClock::starting_at(NOW)), Known::Absent);
}

#[test]
fn grants_and_clients_are_held_forgotten_and_remembered_as_keys_are() {
    let (cache, app) = (Cache::new(CacheSizes::default()), client_id(1));
    let clock = ManualClock::starting_at(NOW);
    cache.begin(0);
    let take_in = |head| {
        let moment = read(&cache, head);
        let grant = Taken { record: grant_record("g"), expires: None, size: 100, version: 1 };
        let client = Taken { record: client_record(&app), expires: None, size: 100, version: 1 };
        let grant = cache.take_in_grant("g", Some(grant), moment).map(|record| record.state.clone());
        let client = cache.take_in_client(&app, Some(client), moment).map(|record| record.state);
        (grant, client)
    };
    let held = || {
        let counts = cache.counts();
        (counts.grants, counts.clients)
    };
    assert_eq!(take_in(0), (Some(GrantState::Live), Some(ClientState::Active)));
    cache.take_in_grant("absent", None, read(&cache, 0));
    cache.take_in_client("absent", None, read(&cache, 0));
    assert_eq!((cache.grant("absent", &clock), cache.client("absent", &clock)), (Known::Absent, Known::Absent));
    assert!(matches!((cache.grant("g", &clock), cache.client(&app, &clock)), (Known::Here(_), Known::Here(_))));
    // After a takeover they are only what was known last, and absence is not even that.
    cache.reset(0, Dropped::TakenOver);
    assert_eq!((cache.grant("g", &clock), cache.client(&app, &clock)), (Known::Unknown, Known::Unknown));
    assert!(matches!((cache.last_grant("g", &clock), cache.last_client(&app, &clock)), (Known::Here(_), Known::Here(_))));
    assert_eq!((cache.last_grant("absent", &clock), cache.last_client("absent", &clock)), (Known::Unknown, Known::Unknown));
    take_in(0);
    let closing = |key: RecordKey, mark| Entry::Change(Change { key, replaced: Some(1), version: Some(2), mark });
    let entries = [closing(GrantRecord::place("g"), Mark::Revoked), closing(ClientRecord::place(&app), Mark::Disabled)];
    cache.apply(&entries, 2, monotonic());
    assert_eq!(held(), (0, 0));
    // The store was thrown back to before; what was seen closed stays so.
    let (grant, client) = take_in(2);
    assert!(matches!(grant, Some(GrantState::Ended { .. })), "{grant:?}");
    assert_eq!(client, Some(ClientState::Disabled));
    assert_eq!(held(), (1, 1));
    cache.forget([GrantRecord::place("g"), ClientRecord::place(&app)].iter());
    assert_eq!(held(), (0, 0));
    take_in(2);
    cache.reset(2, Dropped::Lost);
    assert_eq!(held(), (0, 0));
    assert_eq!(cache.last_grant("g", &clock), Known::Unknown);
}

#[test]
fn ids_that_are_not_there_push_out_none_that_are() {
    let cache = Cache::new(CacheSizes { absent: 100_000, ..CacheSizes::default() });
    cache.begin(0);
    keep(&cache, read(&cache, 0));
    for number in 0..50_000 {
        cache.take_in_key(&number.to_string(), None, read(&cache, 0));
    }
    assert!(is_held(&cache));
    assert!(cache.counts().absent <= 1000, "{:?}", cache.counts());
}
