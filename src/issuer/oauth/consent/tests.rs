//! Each guard of a question and its answer, and what gets through without it.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::HeaderMap;

use super::*;
use crate::clock::Clock as _;
use crate::issuer::checks::assert_each_is_needed;
use crate::issuer::oauth::authorize::testing::CHALLENGE;
use crate::issuer::oauth::authorize::testing::REDIRECT;
use crate::issuer::oauth::authorize::testing::client;
use crate::issuer::oauth::authorize::testing::grant_to;
use crate::issuer::oauth::authorize::testing::scopes;
use crate::issuer::oauth::authorize::testing::user;
use crate::issuer::tests::Issuer;
use crate::model::grant::GrantEnd;
use crate::model::grant::PendingCode;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::Family;
use crate::store::RecordKey;
use crate::store::codec::encode_user;

/// Alice, who is asked by a client and answers.
struct Stage {
    issuer: Issuer,
    visit: Visit,
    person: Person,
    ticket: TicketRecord,
    version: u64,
}

impl Stage {
    async fn new() -> Self {
        let issuer = Issuer::issuing(|_| ());
        issuer.put_client(&client("a")).await;
        issuer.put_user("alice", "orders:read").await;
        let (visit, _) = Visit::begin(&issuer.state, Request::new(Body::empty())).unwrap();
        let alice = Subject::parse("alice").unwrap();
        let opened = sessions::open(&issuer.state, &HeaderMap::new(), &alice, "password", None, visit.now).await.unwrap();
        let (ticket, _) = tickets::write(&issuer.state, PURPOSE, &bound_to(&opened.person), &question(), visit.now).await.unwrap();
        let (ticket, version) = shelf::find(&issuer.state, &ticket.id).await.unwrap().unwrap();
        Self { issuer, visit, person: opened.person, ticket, version }
    }

    async fn allow(&self) -> Settled {
        let read = (self.ticket.clone(), self.version);
        settle(&self.issuer.state, &self.visit, &self.person, &question(), read, true).await.unwrap().unwrap()
    }

    async fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>) -> bool {
        self.issuer.records.commit(preconditions, writes, self.issuer.clock.now()).await.unwrap().is_done()
    }
}

fn question() -> Question {
    Question {
        client: client("a").id,
        user: Subject::parse("alice").unwrap(),
        back: ReturnAddress { uri: REDIRECT.into(), named: true, state: None },
        challenge: CHALLENGE.into(),
        scopes: scopes("orders:read"),
        resources: vec!["https://api.example.com".into()],
        answer: None,
    }
}

fn place(precondition: &Precondition) -> &RecordKey {
    match precondition {
        Precondition::Absent(place) | Precondition::Present(place) | Precondition::AtVersion(place, _) => place,
    }
}

// oauth: R4
#[tokio::test]
async fn every_check_of_an_answer_refuses_what_no_other_does() {
    let stage = Stage::new().await;
    let (asked, given) = (question(), Answer::Given(GrantId::new("g")));
    assert_eq!(open(&stage.ticket, &stage.person, stage.visit.now), Some(asked.clone()));
    let bob = Person { user: Arc::new(user("bob", "")), ..stage.person.clone() };
    let answered = Question { answer: Some(given.clone()), ..asked.clone() };
    assert_eq!(run(&reply_checks(), &Reply { question: &asked, person: &stage.person }), Ok(()));
    assert_each_is_needed(
        reply_checks,
        &[
            ("it was put to this user", Reply { question: &asked, person: &bob }),
            ("it is unanswered", Reply { question: &answered, person: &stage.person }),
        ],
    );
    let redeemed = grant_to(&client("a"));
    let ended = GrantRecord { state: GrantState::Ended { at: stage.visit.now, why: GrantEnd::Revoked }, ..redeemed.clone() };
    let code = PendingCode {
        redirect_uri: REDIRECT.into(),
        redirect_uri_named: true,
        challenge: CHALLENGE.into(),
        expires: stage.visit.now,
        failures: 0,
    };
    let pending = GrantRecord { state: GrantState::Pending(code), ..redeemed.clone() };
    let again = |first, allows, grant| Again { first, allows, grant };
    for good in [again(&given, true, Some(&pending)), again(&Answer::Denied, false, None)] {
        assert_eq!(run(&again_checks(), &good), Ok(()));
    }
    assert_each_is_needed(
        again_checks,
        &[
            ("it says what the first one said", again(&given, false, Some(&pending))),
            ("it says what the first one said", again(&Answer::Denied, true, None)),
            ("nobody has redeemed the code", again(&given, true, Some(&redeemed))),
            ("nobody has redeemed the code", again(&given, true, Some(&ended))),
        ],
    );
}

// oauth: A2 A3
#[test]
fn every_check_of_a_client_that_was_asked_for_refuses_what_no_other_does() {
    let good = client("a");
    let disabled = ClientRecord { state: ClientState::Disabled, ..good.clone() };
    let moved = ClientRecord { redirect_uris: vec!["https://new.example/cb".into()], ..good.clone() };
    assert_eq!(run(&still_checks(), &Still { client: &good, uri: REDIRECT }), Ok(()));
    assert_each_is_needed(
        still_checks,
        &[
            ("the application is in use", Still { client: &disabled, uri: REDIRECT }),
            ("the address is its own", Still { client: &moved, uri: REDIRECT }),
        ],
    );
}

/// What happens between an answer's judging and its commit, and the one precondition that notices.
// oauth: R4
#[tokio::test]
async fn every_precondition_of_an_answer_notices_what_no_other_does() {
    let mut shown = BTreeSet::new();
    for family in [Family::Ticket, Family::User, Family::Grant] {
        for is_left_out in [false, true] {
            let stage = Stage::new().await;
            let Settled { given, mut preconditions, writes, .. } = stage.allow().await;
            let given = given.unwrap();
            if family == Family::Ticket {
                let first = stage.allow().await;
                assert!(stage.commit(first.preconditions, first.writes).await);
            } else if family == Family::User {
                let disabled = UserRecord { state: UserState::Disabled, ..(*stage.person.user).clone() };
                let key = RecordKey::user("local", "alice");
                stage.issuer.put(Write::Put { key, bytes: encode_user(&disabled), expires: None }).await;
            } else {
                let other = GrantRecord { id: given.id.clone(), ..grant_to(&client("b")) };
                stage.issuer.put(shelf::put(&other, None)).await;
            }
            let all = preconditions.len();
            preconditions.retain(|precondition| !is_left_out || place(precondition).family != family);
            assert_eq!(preconditions.len(), all - usize::from(is_left_out));
            shown.extend(preconditions.iter().map(|precondition| place(precondition).family));
            assert_eq!(stage.commit(preconditions, writes).await, is_left_out, "{family:?}");
            // Of one question two grants; a grant of nobody's; somebody else's grant, overwritten.
            let is_given = stage.issuer.grants().await.contains(&given);
            assert_eq!(is_given, is_left_out, "{family:?}");
        }
    }
    assert_eq!(shown, BTreeSet::from([Family::Ticket, Family::User, Family::Grant]), "there is one more to be shown");
}
