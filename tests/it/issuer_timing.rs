//! What an answer's time tells: nothing. Interleaved samples, judged by Welch's t.

use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::browser::forms;
use crate::support::http1::Connection;
use crate::support::http1::message;
use crate::support::issuing::Issuing;
use crate::support::issuing::PASSWORD;
use crate::support::issuing::USER;

/// Each of the two answers is asked for so often; `TOLLGATE_TEST_SAMPLES` for a judgement.
fn samples() -> Option<usize> {
    std::env::var("TOLLGATE_TEST_SAMPLES").ok().map(|samples| samples.parse().expect("TOLLGATE_TEST_SAMPLES is a number"))
}

/// Mean and variance of the mean.
fn moments(sample: &[f64]) -> (f64, f64) {
    let count = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / count;
    let variance = sample.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}

fn welch(one: &[f64], other: &[f64]) -> f64 {
    let ((mean, error), (other_mean, other_error)) = (moments(one), moments(other));
    (mean - other_mean) / (error + other_error).sqrt()
}

/// So many zeros and ones each. What one request leaves to be done behind it falls on the next one, so who comes before whom must follow
/// no pattern at all.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..2 * count).map(|place| place % 2).collect();
    let mut random = 1_u32;
    for place in (1..order.len()).rev() {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        order.swap(place, random as usize % (place + 1));
    }
    order
}

/// Asks for both (each made from how often it was asked before) in an order without a pattern, and judges.
fn compare(what: &str, port: u16, pair: [&dyn Fn(usize) -> Vec<u8>; 2], expected: u16) {
    let asked = samples();
    let count = asked.unwrap_or(50);
    let mut connection = Connection::open(port).expect("the port is open");
    let mut times = [Vec::with_capacity(count), Vec::with_capacity(count)];
    let mut bodies = [Value::Null, Value::Null];
    for which in shuffled(count) {
        let request = pair[which](times[which].len());
        let began = Instant::now();
        let reply = connection.exchange(&request).expect("an answer");
        times[which].push(began.elapsed().as_secs_f64() * 1e6);
        assert_eq!(reply.status, expected, "{what}: {}", reply.text());
        let mut body = reply.json();
        body["error"]["request_id"] = Value::Null;
        bodies[which] = body;
    }
    assert_eq!(bodies[0], bodies[1], "{what}: the same words");
    let t = welch(&times[0], &times[1]);
    eprintln!("{what}: {count} each, means {:.1} and {:.1} us, t = {t:.2}", moments(&times[0]).0, moments(&times[1]).0);
    assert!(asked.is_none() || t.abs() < 4.5, "{what}: t = {t:.2}");
}

// oauth: R7
#[test]
fn a_wrong_user_and_a_wrong_password_take_the_same_time() {
    let limits = "per_address: 1000000, per_account_and_address: 1000000, memory_kib: 8192, iterations: 1";
    let issuing = Issuing::start(&format!("  compatibility: [tinyoauth]\n  passwords: {{ {limits} }}\n"));
    // A hash's way through the memory depends on salt and password, so one password alone would compare two such ways.
    let request = |user: &str, guess: usize| {
        let body = json!({ "username": user, "password": format!("a wrong one, and long enough: {guess:06}") }).to_string();
        message("POST", "/login", "issuer", &[("content-type", "application/json")], body.as_bytes())
    };
    for (what, nobody) in [("a free name", "bobby"), ("a reserved name", "nobody"), ("what is no name", "no one")] {
        let what = format!("sign-in: wrong password, {what}");
        compare(&what, issuing.port, [&|guess| request(USER, guess), &|guess| request(nobody, guess)], 401);
    }
}

// oauth: U5
#[test]
fn what_is_another_organizations_and_what_is_nobodys_take_the_same_time() {
    let issuing = Issuing::start_empty("");
    let control = |path: &str, body: Value| {
        let (status, made) = issuing.control("POST", path, &body);
        assert_eq!(status, 201, "{made}");
        made
    };
    let key = |user: &str, organization: &str, scopes: &[&str]| {
        control("/v1/keys", json!({ "name": "test", "user": user, "organization": organization, "scopes": scopes }))
    };
    let text = |made: &Value, member: &str| made[member].as_str().expect("a text").to_owned();
    let admin = text(&key("ann", "acme", &["tollgate:keys", "tollgate:users"]), "key");
    let foreign = key("bob", "globex", &[]);
    let client = json!({ "name": "app", "redirect_uris": ["https://app.example.com/callback"], "owner": "bob", "organization": "globex" });
    let client = control("/v1/clients", client);
    control("/v1/users", json!({ "id": "carol", "organization": "globex", "password": PASSWORD }));
    let mut browser = Browser::new(issuing.scenario.envoy.port);
    let form = forms(&browser.get("/sign-in").text()).remove(0);
    let signed_in = browser.submit(&form, &[("name", "carol"), ("password", PASSWORD)], form.buttons.first());
    assert_eq!(signed_in.status, 303, "{}", signed_in.text());
    let (_, sessions) = issuing.control("GET", "/v1/sessions?user=carol", &Value::Null);
    let session = text(&sessions["data"][0], "id");
    // Of the same form, and nobody's.
    let nobodys = |id: &str, prefix: usize| format!("{}{}", &id[..prefix], id[prefix..].chars().rev().collect::<String>());
    let authorization = format!("Bearer {admin}");
    let headers = [("authorization", authorization.as_str())];
    for (what, method, path, id, prefix) in [
        ("a key", "GET", "keys", text(&foreign, "id"), 0),
        ("a user", "GET", "users", "carol".to_owned(), 0),
        ("a client", "GET", "clients", text(&client, "id"), 4),
        ("a session", "DELETE", "sessions", session, 0),
    ] {
        let request = |id: &str| message(method, &format!("/v1/{path}/{id}"), "issuer", &headers, b"");
        let pair = [request(&id), request(&nobodys(&id, prefix))];
        compare(&format!("{what}: another organisation's, nobody's"), issuing.port, [&|_| pair[0].clone(), &|_| pair[1].clone()], 404);
    }
}
