//! What a website does in a person's browser, by the session that the pages opened.

use serde_json::Value;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::issuing::Issuing;
use crate::support::issuing::PASSWORD;
use crate::support::issuing::USER;

#[test]
fn a_page_changes_things_with_the_token_of_its_own_session_and_with_no_other() {
    let issuing = Issuing::start("");
    let signed_in = || {
        let mut browser = Browser::new(issuing.scenario.envoy.port);
        browser.sign_in(USER, PASSWORD);
        browser
    };
    let (mut page, mut other) = (signed_in(), signed_in());
    let own = page.call("GET", "/v1/sessions/self", None, &Value::Null);
    assert_eq!((own.status, own.need("cache-control")), (200, "no-store"), "{}", own.text());
    let own = own.json();
    assert_eq!((&own["user"], &own["current"]), (&json!(USER), &json!(true)));
    let token = own["csrf_token"].as_str().expect("a token");
    let foreign = other.call("GET", "/v1/sessions/self", None, &Value::Null).json();
    let foreign = foreign["csrf_token"].as_str().expect("a token");
    assert_ne!(token, foreign);

    let key = json!({ "name": "of a page" });
    for (token, status) in [(None, 403), (Some(foreign), 403), (Some("AAAA"), 403), (Some(token), 201), (Some(token), 201)] {
        let made = page.call("POST", "/v1/keys", token, &key);
        assert_eq!(made.status, status, "{token:?}: {}", made.text());
        if status == 403 {
            assert!(made.text().contains("/v1/sessions/self"), "it says where to look: {}", made.text());
        } else {
            let shown = issuing.client().get("/v1/keys/self", &[("x-api-key", made.json()["key"].as_str().expect("a key"))]);
            assert_eq!(shown.json()["user"], USER);
        }
    }
    // Signed out, the token opens nothing; and whoever shows no session has none to be shown.
    assert_eq!(page.call("DELETE", &format!("/v1/sessions/{}", own["id"].as_str().expect("an id")), Some(token), &Value::Null).status, 204);
    assert_eq!(page.call("POST", "/v1/keys", Some(token), &key).status, 401);
    assert_eq!(page.call("GET", "/v1/sessions/self", None, &Value::Null).status, 401);
    assert_eq!(issuing.control("GET", "/v1/sessions/self", &Value::Null).0, 404);
}
