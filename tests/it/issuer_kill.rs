//! Replies that are lost after their commit, and `kill -9` between commit and reply: the client goes on, and nothing is doubled.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::http1::Connection;
use crate::support::http1::Reply;
use crate::support::issuing::Issuing;
use crate::support::issuing::MadeClient;
use crate::support::issuing::text_of;
use crate::support::issuing::token_request;
use crate::support::process::wait_until;

fn rounds() -> u64 {
    std::env::var("TOLLGATE_TEST_ROUNDS").map_or(10, |rounds| rounds.parse().expect("TOLLGATE_TEST_ROUNDS is a number"))
}

/// The refresh token that the client holds after a request whose reply may have been lost: it asks again with what it has.
fn go_on(issuing: &Issuing, client: &MadeClient, held: String, reply: Option<Reply>) -> String {
    let reply = reply.filter(|reply| reply.status == 200).unwrap_or_else(|| issuing.refresh(client, &held));
    assert_eq!(reply.status, 200, "the client's retry is served: {}", reply.text());
    assert_eq!(issuing.protected(&text_of(&reply, "access_token")).status, 200);
    text_of(&reply, "refresh_token")
}

// oauth: H13
#[test]
fn a_refresh_whose_reply_is_cut_off_is_asked_again() {
    let issuing = Issuing::start("");
    let client = issuing.confidential("the client");
    let mut held = text_of(&issuing.redeem(&client, &issuing.code(&client)), "refresh_token");
    for _round in 0..rounds() {
        let mut connection = TcpStream::connect(("127.0.0.1", issuing.port)).expect("the port is open");
        connection.write_all(&token_request(&client, &[("grant_type", "refresh_token"), ("refresh_token", &held)])).expect("sent");
        // Gone before any reply; whether the commit happened is not known here, as it would not be to a client.
        drop(connection);
        held = go_on(&issuing, &client, held, None);
    }
    assert_one_live_generation(&issuing, &client, &held);
}

// oauth: H13 U4
#[test]
fn a_refresh_that_kill_9_interrupts_is_asked_again() {
    let mut issuing = Issuing::start("");
    let client = issuing.confidential("the client");
    let mut held = text_of(&issuing.redeem(&client, &issuing.code(&client)), "refresh_token");
    let chance = RandomState::new();
    let mut interrupted = 0;
    for round in 0..rounds() {
        let request = token_request(&client, &[("grant_type", "refresh_token"), ("refresh_token", &held)]);
        let port = issuing.port;
        let asking = std::thread::spawn(move || Connection::open(port).ok()?.exchange(&request).ok());
        std::thread::sleep(Duration::from_micros(chance.hash_one(round) % 6_000));
        issuing.scenario.tollgate.process.kill();
        let reply = asking.join().expect("a client");
        interrupted += u64::from(reply.is_none());
        issuing.scenario.tollgate.restart();
        wait_until("the issuer listens again", || TcpStream::connect(("127.0.0.1", issuing.port)).is_ok());
        held = go_on(&issuing, &client, held, reply);
    }
    eprintln!("{interrupted} of {} replies were lost", rounds());
    assert_one_live_generation(&issuing, &client, &held);
}

/// Of a code that `kill -9` interrupts either the redemption did not happen, and succeeds when it is tried again, or it did, and the
/// person is asked once more: never are there two pairs of tokens.
// oauth: U4
#[test]
fn a_code_that_kill_9_interrupts_is_redeemed_at_most_once() {
    let mut issuing = Issuing::start("");
    let client = issuing.confidential("the client");
    let chance = RandomState::new();
    for round in 0..rounds() {
        let code = issuing.code(&client);
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", crate::support::issuing::REDIRECT_URI),
            ("code_verifier", crate::support::issuing::VERIFIER),
        ];
        let request = token_request(&client, &form);
        let port = issuing.port;
        let asking = std::thread::spawn(move || Connection::open(port).ok()?.exchange(&request).ok());
        std::thread::sleep(Duration::from_micros(chance.hash_one(round) % 6_000));
        issuing.scenario.tollgate.process.kill();
        let first = asking.join().expect("a client").filter(|reply| reply.status == 200);
        issuing.scenario.tollgate.restart();
        wait_until("the issuer listens again", || TcpStream::connect(("127.0.0.1", issuing.port)).is_ok());
        let second = issuing.redeem(&client, &code);
        match (&first, second.status) {
            (Some(_), 200) => panic!("round {round}: redeemed twice"),
            (Some(first), _) => assert_eq!(issuing.protected(&text_of(first, "access_token")).status, 200),
            (None, 200) => assert_eq!(issuing.protected(&text_of(&second, "access_token")).status, 200),
            (None, _) => assert_eq!((second.status, second.json()["error"].as_str()), (400, Some("invalid_grant"))),
        }
    }
}

fn assert_one_live_generation(issuing: &Issuing, client: &MadeClient, held: &str) {
    let next = issuing.refresh(client, held);
    assert_eq!(next.status, 200, "{}", next.text());
    let last = issuing.refresh(client, &text_of(&next, "refresh_token"));
    assert_eq!(last.status, 200, "{}", last.text());
    // The grandparent is nobody's any more, and who shows it ends the family.
    assert_eq!(issuing.refresh(client, held).json()["error"], "invalid_grant");
    assert_eq!(issuing.refresh(client, &text_of(&last, "refresh_token")).json()["error"], "invalid_grant");
    assert_eq!(issuing.protected(&text_of(&last, "access_token")).status, 401, "the family's access tokens died with it");
}
