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
    assert_eq!((asked.outcome, asked.limit, asked.after.as_deref()), (Some(Outcome::Allowed), 5, Some("x")));
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
