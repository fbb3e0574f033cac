use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use crate::issuer::IssuerState;
use crate::issuer::accounts::trail::somebody;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Person;
use crate::issuer::audit::Audit;
use crate::issuer::audit::Deed;
use crate::issuer::audit::Entry;
use crate::issuer::audit::chain::BEHIND;
use crate::issuer::audit::finish;
use crate::issuer::audit::forget;
use crate::issuer::audit::note;
use crate::issuer::audit::note_behind;
use crate::issuer::audit::record::AuditRecord;
use crate::issuer::audit::record::KEPT;
use crate::issuer::tests::Issuer;
use crate::issuer::tests::START;
use crate::model::account::SessionRecord;
use crate::model::caller::Subject;
use crate::model::issuance::Registration;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::Stored;
use crate::store::Write;
use crate::store::codec::Shelved;
use crate::store::codec::decode_user;

fn entry<'a>(deed: Deed, actor: &'a Actor, subject: &'a str) -> Entry<'a> {
    let address = Some("203.0.113.7".parse().unwrap());
    let organization = (subject != "k-other").then_some("acme");
    Entry { deed, actor, subject, organization, address, request_id: Some("req_1"), changes: &[] }
}

async fn person(issuer: &Issuer, name: &str) -> Actor {
    let place = RecordKey::user("local", name);
    if issuer.records.get(&place).await.unwrap().is_none() {
        issuer.ok("POST", "/v1/users", json!({"id": name, "organization": "acme"})).await;
    }
    let stored = issuer.records.get(&place).await.unwrap().unwrap();
    let user = Arc::new(decode_user(&place.id, &stored.bytes).unwrap());
    let session = SessionRecord {
        id: "s".into(),
        user: user.subject.clone(),
        method: "password".into(),
        created: START,
        used: START,
        idle_until: START,
        ends: START,
        agent: None,
    };
    Actor::Person(Arc::new(Person { session, user }))
}

async fn noted(issuer: &Issuer, deed: Deed, actor: &Actor, subject: &str) {
    note(&issuer.state, entry(deed, actor, subject), issuer.state.clock.now()).await;
}

/// What the list shows under a query, oldest first; what the resource API itself notes of its users is left out.
async fn listed(issuer: &Issuer, query: &str) -> Vec<Value> {
    let answer = issuer.ok("GET", &format!("/v1/audit?{query}"), Value::Null).await;
    let entries = answer["data"].as_array().unwrap().clone();
    entries.into_iter().filter(|entry| entry["request_id"] == "req_1").collect()
}

async fn entries(issuer: &Issuer) -> Vec<(RecordKey, Stored)> {
    issuer.records.range(Family::Audit, None, 1000).await.unwrap().records
}

async fn findings(issuer: &Issuer) -> Vec<String> {
    let answer = issuer.ok("GET", "/v1/audit/verify", Value::Null).await;
    let found: Vec<String> =
        answer["findings"].as_array().unwrap().iter().map(|found| found["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!(answer["whole"], found.is_empty());
    found
}

#[tokio::test]
async fn a_deed_is_told_with_who_and_from_where_and_no_name_lies_in_the_chain() {
    let issuer = Issuer::issuing(|_| ());
    let alice = person(&issuer, "alice").await;
    noted(&issuer, Deed::KeyCreated, &alice, "k1").await;
    noted(&issuer, Deed::SignInFailed, &somebody(START).unwrap(), "alice").await;
    noted(&issuer, Deed::SignInFailed, &somebody(START).unwrap(), "hunter2").await;
    let shown = listed(&issuer, "").await;
    assert_eq!(
        [&shown[0]["actor"], &shown[0]["actor_kind"], &shown[0]["subject"], &shown[0]["address"], &shown[0]["via"], &shown[0]["deed"]],
        ["alice", "person", "k1", "203.0.113.7", "session", "key.created"]
    );
    assert_eq!([&shown[1]["actor_kind"], &shown[1]["subject"], &shown[1]["subject_kind"]], ["nobody", "alice", "person"]);
    assert_eq!((&shown[2]["subject"], &shown[2]["subject_kind"]), (&Value::Null, &json!("unknown")));
    for (_, stored) in entries(&issuer).await {
        let text = String::from_utf8_lossy(&stored.bytes).into_owned();
        for hidden in ["alice", "hunter2"] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}

#[tokio::test]
async fn what_a_person_did_outlives_its_name() {
    let issuer = Issuer::issuing(|_| ());
    let alice = person(&issuer, "alice").await;
    noted(&issuer, Deed::KeyCreated, &alice, "k1").await;
    issuer.ok("DELETE", "/v1/users/alice", Value::Null).await;
    noted(&issuer, Deed::UserChanged, &alice, "alice").await;
    forget(&issuer.state, "local", &Subject::parse("alice").unwrap()).await.unwrap();
    let shown = listed(&issuer, "").await;
    assert_eq!(shown.len(), 2);
    // What is noted after its end says nothing of it at all.
    for (entry, kind) in shown.iter().zip(["erased", "unknown"]) {
        assert_eq!((&entry["actor_kind"], &entry["address"]), (&json!(kind), &Value::Null), "{entry}");
    }
    let all = issuer.ok("GET", "/v1/audit", Value::Null).await;
    assert!(!all.to_string().contains("alice"), "{all}");
    assert_eq!(listed(&issuer, "actor=alice").await, Vec::<Value>::new());
    assert_eq!(findings(&issuer).await, Vec::<String>::new());
    // One of the same name later is somebody else, and nothing gives the first one its name back.
    let second = person(&issuer, "alice").await;
    noted(&issuer, Deed::KeyCreated, &second, "k2").await;
    assert_eq!(listed(&issuer, "actor=alice").await.len(), 1);
    assert_eq!(issuer.records.range(Family::AuditName, None, 10).await.unwrap().records.len(), 2);
}

#[tokio::test]
async fn entries_are_found_by_what_is_asked_for_page_by_page() {
    let issuer = Issuer::issuing(|_| ());
    let (alice, bob) = (person(&issuer, "alice").await, person(&issuer, "bob").await);
    noted(&issuer, Deed::KeyCreated, &alice, "k1").await;
    issuer.clock.advance(std::time::Duration::from_secs(60));
    noted(&issuer, Deed::KeyCreated, &bob, "k2").await;
    noted(&issuer, Deed::KeyRevoked, &bob, "k1").await;
    noted(&issuer, Deed::KeyRevoked, &bob, "k-other").await;
    let table = [
        ("", 4),
        ("actor=bob", 3),
        ("subject=k1", 2),
        ("subject=k1&actor=bob", 1),
        ("deed=key.revoked", 2),
        ("organization=acme", 3),
        ("actor=carol", 0),
        ("from=2027-01-15T08:00:30Z", 3),
        ("to=2027-01-15T08:00:30Z", 1),
        ("from=2027-01-16", 0),
    ];
    for (query, count) in table {
        assert_eq!(listed(&issuer, query).await.len(), count, "{query}");
    }
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let answer = issuer.ok("GET", &format!("/v1/audit?limit=1{after}"), Value::Null).await;
        seen.extend(answer["data"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()));
        let Some(next) = answer["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, entries(&issuer).await.into_iter().map(|(place, _)| place.id).collect::<Vec<_>>());
    for bad in ["deed=key.eaten", "after=x", "from=now", "color=red"] {
        assert_eq!(issuer.refused("GET", &format!("/v1/audit?{bad}"), Value::Null).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn many_deeds_at_once_stand_in_one_chain() {
    let issuer = Issuer::issuing(|_| ());
    let alice = person(&issuer, "alice").await;
    let before = entries(&issuer).await.len();
    let names: Vec<String> = (0..200).map(|number| format!("k{number}")).collect();
    futures_util::future::join_all(names.iter().map(|name| noted(&issuer, Deed::KeyCreated, &alice, name))).await;
    let found = entries(&issuer).await;
    assert_eq!(found.len(), before + 200);
    let ids: Vec<u64> = found.iter().map(|(place, _)| super::record::read_entry_id(&place.id).unwrap().1).collect();
    assert_eq!(ids, (0..ids.len() as u64).collect::<Vec<_>>());
    assert_eq!(findings(&issuer).await, Vec::<String>::new());
}

#[tokio::test]
async fn whatever_is_changed_in_the_store_is_found() {
    type Attack = fn(Vec<(RecordKey, Stored)>) -> Vec<Write>;
    let table: [(&str, Attack, &str); 5] = [
        ("an entry taken out", |found| vec![Write::Remove(found[1].0.clone())], "entries before it are missing"),
        ("the beginning taken out", |found| vec![Write::Remove(found[0].0.clone())], "entries before it are missing"),
        ("the end taken out", |found| vec![Write::Remove(found[3].0.clone())], "it is missing, and all after it"),
        (
            "an entry changed",
            |found| vec![changed(&found[1], |record| record.deed = "key.revoked".into())],
            "it was changed, or made by somebody else",
        ),
        (
            "two entries exchanged",
            |found| {
                let swapped = |to: usize, from: usize| changed(&found[from], |record| record.id = found[to].0.id.as_str().into());
                let renamed = |write: Write, to: usize| match write {
                    Write::Put { bytes, expires, .. } => Write::Put { key: found[to].0.clone(), bytes, expires },
                    other @ Write::Remove(_) => other,
                };
                vec![renamed(swapped(1, 2), 1), renamed(swapped(2, 1), 2)]
            },
            "it was changed, or made by somebody else",
        ),
    ];
    for (what, attack, expected) in table {
        let issuer = Issuer::issuing(|_| ());
        for name in ["k1", "k2", "k3", "k4"] {
            noted(&issuer, Deed::KeyCreated, &Actor::Operator, name).await;
        }
        assert_eq!(findings(&issuer).await, Vec::<String>::new());
        issuer.records.commit(Vec::new(), attack(entries(&issuer).await), START).await.unwrap();
        assert!(findings(&issuer).await.iter().any(|found| found == expected), "{what}: {:?}", findings(&issuer).await);
    }
}

fn changed((place, stored): &(RecordKey, Stored), change: impl FnOnce(&mut AuditRecord)) -> Write {
    let mut record = AuditRecord::decode(&place.id, &stored.bytes).unwrap();
    change(&mut record);
    Write::Put { key: place.clone(), bytes: record.encode(), expires: stored.expires }
}

#[tokio::test]
async fn only_what_is_old_enough_may_be_gone() {
    let issuer = Issuer::issuing(|_| ());
    noted(&issuer, Deed::KeyCreated, &Actor::Operator, "k1").await;
    issuer.clock.advance(std::time::Duration::from_secs(86_400));
    noted(&issuer, Deed::KeyCreated, &Actor::Operator, "k2").await;
    issuer.clock.advance(KEPT - std::time::Duration::from_secs(3600));
    assert_eq!(entries(&issuer).await.len(), 1, "the first has gone by itself");
    assert_eq!(findings(&issuer).await, Vec::<String>::new());
}

/// A commit whose reply was lost wrote the entry: the chain goes on behind it.
#[tokio::test]
async fn a_place_that_is_taken_by_our_own_entry_is_gone_on_from_and_by_anothers_a_new_chain_is_begun() {
    let issuer = Issuer::issuing(|_| ());
    noted(&issuer, Deed::KeyCreated, &Actor::Operator, "k1").await;
    let before = issuer.state.audit.head().await;
    noted(&issuer, Deed::KeyCreated, &Actor::Operator, "k2").await;
    issuer.state.audit.set_head(before.clone()).await;
    noted(&issuer, Deed::KeyCreated, &Actor::Operator, "k3").await;
    let found = entries(&issuer).await;
    assert_eq!((found.len(), findings(&issuer).await.len()), (3, 0));

    let forged = changed(&found[1], |record| record.deed = "key.revoked".into());
    issuer.records.commit(Vec::new(), vec![forged], START).await.unwrap();
    issuer.state.audit.set_head(before).await;
    noted(&issuer, Deed::KeyCreated, &Actor::Operator, "k4").await;
    let chains: std::collections::BTreeSet<String> =
        entries(&issuer).await.into_iter().map(|(place, _)| place.id[..22].to_owned()).collect();
    assert_eq!(chains.len(), 2);
    assert_ne!(findings(&issuer).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_written_a_while_later_and_what_is_left_at_the_end() {
    let issuer = Issuer::issuing(|_| ());
    let refused = || note_behind(&issuer.state, entry(Deed::SignInFailed, &somebody(START).unwrap(), ""), issuer.state.clock.now());
    for round in 1..=2 {
        refused();
        refused();
        tokio::task::yield_now().await;
        assert_eq!(entries(&issuer).await.len(), (round - 1) * 2, "nothing is written at once");
        while entries(&issuer).await.len() < round * 2 {
            tokio::time::sleep(BEHIND).await;
        }
    }
    refused();
    finish(&issuer.state).await;
    assert_eq!((entries(&issuer).await.len(), findings(&issuer).await.len()), (5, 0));
    // Whoever waits brings along what lay there before.
    refused();
    noted(&issuer, Deed::KeyCreated, &Actor::Operator, "k1").await;
    assert_eq!(entries(&issuer).await.len(), 7);
}

#[tokio::test]
async fn no_address_is_kept_of_a_failed_sign_in_whose_user_is_erased_before_it_is_written() {
    let issuer = Issuer::issuing(|_| ());
    person(&issuer, "alice").await;
    // Who was never there keeps nothing back: attacks on names that nobody has are to be seen.
    for (subject, address) in [("alice", Value::Null), ("", json!("203.0.113.7"))] {
        note_behind(&issuer.state, entry(Deed::SignInFailed, &somebody(START).unwrap(), subject), issuer.state.clock.now());
        issuer.call("DELETE", "/v1/users/alice", Value::Null).await;
        finish(&issuer.state).await;
        let shown = listed(&issuer, "deed=session.refused").await;
        assert_eq!(shown.last().unwrap()["address"], address, "{subject:?}: {shown:?}");
    }
}

#[tokio::test]
async fn a_reader_who_hangs_up_takes_nothing_along() {
    let issuer = Issuer::issuing(|_| ());
    for round in 1..=3 {
        note_behind(&issuer.state, entry(Deed::SignInFailed, &somebody(START).unwrap(), ""), issuer.state.clock.now());
        // The writer has taken the entry and cannot go on when the reader goes.
        let held = issuer.state.audit.hold().await;
        let state = issuer.state.clone();
        let reader = tokio::spawn(async move { finish(&state).await });
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        reader.abort();
        let _aborted = reader.await;
        drop(held);
        finish(&issuer.state).await;
        assert_eq!((entries(&issuer).await.len(), findings(&issuer).await.len()), (round, 0));
    }
}

/// An entry in which nothing changed a record is what it was before entries told of changes, byte for byte: its MAC and the digest that
/// the next one names still hold.
#[tokio::test]
async fn entries_of_before_changes_were_told_are_read_and_proven() {
    let issuer = Issuer::issuing(|_| ());
    let id = format!("{:022}-{:020}", 7, 0);
    let text = |mac: &str| {
        format!(
            r#"{{"id":"{id}","at":5000000000,"deed":"key.changed","actor":"operator","subject":{{"thing":"k1"}},"organization":"acme","#,
        ) + &format!(r#""previous":"{}","previous_at":0,"pepper":"p1","mac":"{mac}"}}"#, "0".repeat(64))
    };
    let mac = issuer.state.peppers.fingerprint("audit entry", text("").as_bytes()).unwrap();
    let old = text(&crate::model::hex::write_hex(&mac));
    let record: AuditRecord = serde_json::from_str(&old).unwrap();
    assert_eq!(serde_json::to_string(&record).unwrap(), old);
    assert_eq!(record.prove(&issuer.state.peppers), super::record::Proven::Ours);
    let write = Write::Put { key: AuditRecord::place(&id), bytes: record.encode(), expires: None };
    issuer.records.commit(Vec::new(), vec![write], START).await.unwrap();
    let shown = issuer.ok("GET", "/v1/audit", Value::Null).await;
    assert_eq!((&shown["data"][0]["subject"], &shown["data"][0]["changes"]), (&json!("k1"), &json!([])));
    // What was changed is under the MAC too.
    assert_eq!(findings(&issuer).await, Vec::<String>::new());
    let found = entries(&issuer).await;
    let forged = changed(&found[0], |record| {
        let rights = (json!(["orders:read"]), json!(["orders:read", "orders:write"]));
        record.changes = vec![super::changes::Change { setting: "rights".into(), values: Some(rights) }];
    });
    issuer.records.commit(Vec::new(), vec![forged], START).await.unwrap();
    assert_eq!(findings(&issuer).await, ["it was changed, or made by somebody else"]);
}

#[tokio::test]
async fn an_operators_way_is_told_and_whoever_registers_a_client_is_no_operator() {
    let issuer = Issuer::issuing(|issuance| issuance.registration = Registration::Open);
    noted(&issuer, Deed::KeyCreated, &Actor::Operator, "k1").await;
    let state = IssuerState { audit: Arc::new(Audit::of_command()), ..issuer.state.clone() };
    note(&state, entry(Deed::KeyCreated, &Actor::Operator, "k2"), START).await;
    let mut ways: Vec<Value> = listed(&issuer, "actor=operator").await.iter().map(|entry| entry["via"].clone()).collect();
    ways.sort_by_key(Value::to_string);
    assert_eq!(ways, ["control socket", "opened store"]);
    // Over a Unix socket nobody has an address.
    let client = json!({"redirect_uris": ["https://app.example.com/callback"]});
    assert_eq!(issuer.call_with("", "POST", "/oauth/register", client).await.0, 201);
    let made = issuer.ok("GET", "/v1/audit?deed=client.created", Value::Null).await["data"][0].clone();
    assert_eq!((&made["actor_kind"], &made["via"], &made["address"]), (&json!("nobody"), &Value::Null, &Value::Null));
}
