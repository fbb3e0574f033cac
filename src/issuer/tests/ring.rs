use axum::Extension;
use axum::extract::State;

use super::*;
use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::callers::Asker;
use crate::issuer::problem::Code;
use crate::issuer::ring::rotate;
use crate::issuer::ring::show;
use crate::jose::battery::rotation::caller;
use crate::jose::signer::PUBLISHED_BEFORE_USE;

/// The kids in this state.
fn in_state(ring: &Value, state: &str) -> Vec<String> {
    let keys = ring["data"].as_array().unwrap().iter().filter(|key| key["state"] == state);
    keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

// oauth: M3 M8
#[tokio::test]
async fn operators_see_the_ring_turn_it_and_throw_it_away() {
    let issuer = Issuer::issuing(|_issuance| {});
    let before = issuer.ok("GET", "/v1/ring", Value::Null).await;
    assert_eq!((in_state(&before, "current").len(), in_state(&before, "next").len()), (2, 2));
    let text = before.to_string();
    assert!(issuer.state.signer.private_texts().iter().all(|private| !text.contains(private)), "{text}");

    let thrown = issuer.ok("POST", "/v1/ring/rotate", json!({"emergency": true})).await;
    assert_eq!(thrown["data"].as_array().unwrap().len(), 4, "nothing of before is shown: {thrown}");
    assert!(in_state(&before, "current").iter().all(|kid| !thrown.to_string().contains(kid)));
    let (status, error) = issuer.refused("POST", "/v1/ring/rotate", json!({"emergency": false})).await;
    assert_eq!((status, &error["code"]), (409, &json!("CONFLICT")), "nobody knows the next keys yet");
    issuer.clock.advance(PUBLISHED_BEFORE_USE);
    let turned = issuer.ok("POST", "/v1/ring/rotate", json!({"emergency": false})).await;
    assert_eq!(in_state(&turned, "current"), in_state(&thrown, "next"));
    assert_eq!(in_state(&turned, "retired"), in_state(&thrown, "current"));
    assert_eq!(issuer.ok("GET", "/v1/ring", Value::Null).await, turned);

    for body in [json!({}), json!({"emergency": "yes"}), json!({"emergency": true, "x": 1}), json!([])] {
        assert_eq!(issuer.refused("POST", "/v1/ring/rotate", body).await.0, 400);
    }
    let gate = Issuer::new();
    assert_eq!(gate.refused("GET", "/v1/ring", Value::Null).await.0, 404, "nothing is issued there");
    assert_eq!(gate.refused("POST", "/v1/ring/rotate", json!({"emergency": true})).await.0, 404);
}

#[tokio::test]
async fn whoever_is_no_admin_neither_sees_nor_turns_it() {
    let issuer = Issuer::issuing(|_issuance| {});
    for (scope, is_admitted) in [("orders:read", false), ("tollgate:keys", false), ("tollgate:users", false), (ADMIN, true)] {
        let scopes = Arc::new(ScopeSet::new([Scope::parse(scope).unwrap()]));
        let actor = || Extension(Actor::Caller(Arc::new(Caller { scopes: Arc::clone(&scopes), ..caller() })));
        let shown = show(State(issuer.state.clone()), actor()).await.err().map(|problem| problem.code);
        // Without a body, so that an admin changes nothing here.
        let asker = Asker { actor: actor().0, address: None, request_id: None };
        let turned = rotate(State(issuer.state.clone()), asker, http::HeaderMap::new(), Body::empty()).await;
        let expected = if is_admitted { (None, Code::InvalidRequest) } else { (Some(Code::Forbidden), Code::Forbidden) };
        assert_eq!((shown, turned.err().unwrap().code), expected, "{scope}");
    }
}
