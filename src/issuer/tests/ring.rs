use super::*;
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
