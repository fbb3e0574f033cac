use super::*;
use crate::model::usage::Outcome;
use crate::model::usage::Span;
use crate::model::usage::UsagePage;
use crate::model::usage::UsageRow;

#[tokio::test]
async fn counts_are_asked_for_by_filter_and_shown() {
    let issuer = Issuer::new();
    let row =
        UsageRow { start: START, user: "alice".into(), key: Some("k1".into()), route: "list".into(), outcome: Outcome::Allowed, count: 7 };
    *issuer.counts.says.lock().unwrap() = Some(Ok(UsagePage { rows: vec![row], next: Some("cursor".to_owned()) }));
    let path = "/v1/usage?user=alice&key=k1&route=list&outcome=allowed&period=hour&from=2027-01-15&to=2027-01-16T00:00:00Z&limit=5&after=x";
    let shown = issuer.ok("GET", path, Value::Null).await;
    let expected =
        json!({"start": "2027-01-15T08:00:00Z", "user": "alice", "key": "k1", "route": "list", "outcome": "allowed", "count": 7});
    assert_eq!(shown, json!({"data": [expected], "next": "cursor"}));
    let asked = issuer.counts.asked.lock().unwrap().clone().unwrap();
    assert_eq!(asked.span, Span::Hour);
    assert_eq!(asked.users, Some(BTreeSet::from(["alice".into()])));
    assert_eq!((asked.from, asked.to), (Timestamp::from_unix_seconds(1_799_971_200), Timestamp::from_unix_seconds(1_800_057_600)));
    assert_eq!((asked.outcomes, asked.limit, asked.after.as_deref()), (Outcome::Allowed.alone(), 5, Some("x")));
}

#[tokio::test]
async fn an_organisation_sees_its_own_users() {
    let issuer = Issuer::new();
    for (user, organization) in [("alice", "acme"), ("a:b", "acme"), ("eve", "evil")] {
        issuer.ok("POST", "/v1/users", json!({"id": user, "organization": organization})).await;
    }
    issuer.ok("GET", "/v1/usage?organization=acme", Value::Null).await;
    let asked = issuer.counts.asked.lock().unwrap().clone().unwrap();
    assert_eq!(asked.users, Some(BTreeSet::from(["alice".into(), "a%3Ab".into()])), "as the counts name them");
    issuer.ok("GET", "/v1/usage?organization=nobody", Value::Null).await;
    assert_eq!(issuer.counts.asked.lock().unwrap().clone().unwrap().users, Some(BTreeSet::new()), "nobody, not everybody");
}

#[tokio::test]
async fn bad_questions_and_missing_counts_are_told() {
    let issuer = Issuer::new();
    for query in [
        "period=week",
        "from=yesterday",
        "outcome=all",
        "limit=0",
        "limit=10001",
        "usr=x",
        "user=a&organization=b",
        "from=2027-02-01&to=2027-01-01",
    ] {
        assert_eq!(issuer.refused("GET", &format!("/v1/usage?{query}"), Value::Null).await.0, 400, "{query}");
    }
    *issuer.counts.says.lock().unwrap() = Some(Err(UsageError::Cursor));
    assert_eq!(issuer.refused("GET", "/v1/usage?after=x", Value::Null).await.1["details"]["field"], "after");
    *issuer.counts.says.lock().unwrap() = Some(Err(UsageError::Unavailable("disk".to_owned())));
    let (status, error) = issuer.refused("GET", "/v1/usage", Value::Null).await;
    assert_eq!((status, error["code"].as_str().unwrap()), (503, "UNAVAILABLE"));
    assert!(!error.to_string().contains("disk"));
}

#[tokio::test]
async fn counts_are_shown_as_a_table_too() {
    let issuer = Issuer::new();
    let row = |user: &str, key: Option<&str>, route: &str, count| UsageRow {
        start: START,
        user: user.into(),
        key: key.map(Arc::from),
        route: route.into(),
        outcome: Outcome::Limited,
        count,
    };
    let rows = vec![row("alice", Some("k1"), "a \"b\", c", 7), row("=cmd|1", None, "@x", 9)];
    let page = UsagePage { rows, next: Some("0a".to_owned()) };
    for (path, accept) in [("/v1/usage?format=csv", "application/json"), ("/v1/usage", "text/csv, application/json")] {
        *issuer.counts.says.lock().unwrap() = Some(Ok(page.clone()));
        let request = Request::builder().uri(path).header("accept", accept).body(Body::empty()).unwrap();
        let response = issuer.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["x-next"], "0a");
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/csv"));
        let text = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let expected = "start,user,key,route,outcome,count\r\n\
            \"2027-01-15T08:00:00Z\",\"alice\",\"k1\",\"a \"\"b\"\", c\",\"limited\",7\r\n\
            \"2027-01-15T08:00:00Z\",\"'=cmd|1\",\"\",\"'@x\",\"limited\",9\r\n";
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
    }
    assert_eq!(issuer.refused("GET", "/v1/usage?format=xml", Value::Null).await.0, 400);
}

#[tokio::test]
async fn sums_are_over_all_months_and_keys() {
    let issuer = Issuer::new();
    let row = |key: &str, count| UsageRow {
        start: START,
        user: "alice".into(),
        key: Some(key.into()),
        route: "list".into(),
        outcome: Outcome::Allowed,
        count,
    };
    *issuer.counts.says.lock().unwrap() = Some(Ok(UsagePage { rows: vec![row("k1", 7), row("k2", 4)], next: None }));
    let shown = issuer.ok("GET", "/stats", Value::Null).await;
    assert_eq!(shown, json!({"stats": [{"user": "alice", "route": "list", "outcome": "allowed", "count": 11}]}));
    let asked = issuer.counts.asked.lock().unwrap().clone().unwrap();
    assert_eq!((asked.span, asked.users, asked.from), (Span::Month, None, Timestamp::default()));
}
