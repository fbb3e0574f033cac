//! Changes that no replica has confirmed yet.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use serde_json::Value;
use serde_json::json;

use crate::issuer::router;
use crate::issuer::tests::Issuer;
use crate::model::time::Timestamp;
use crate::store::Answer;
use crate::store::Committed;
use crate::store::Family;
use crate::store::Page;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Records;
use crate::store::StoreError;
use crate::store::Stored;
use crate::store::Write;

/// A store whose replicas are late.
#[derive(Debug)]
struct Late {
    records: Arc<dyn Records>,
    is_late: AtomicBool,
}

impl Records for Late {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
        self.records.get(key)
    }

    fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>> {
        self.records.range(family, after, limit)
    }

    fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, now: Timestamp) -> Answer<'_, Result<Committed, StoreError>> {
        Answer::Pending(Box::pin(async move {
            match self.records.commit(preconditions, writes, now).await? {
                Committed::Done if self.is_late.load(Ordering::SeqCst) => Ok(Committed::Unconfirmed),
                outcome @ (Committed::Done | Committed::Unconfirmed | Committed::Refused(_)) => Ok(outcome),
            }
        }))
    }
}

#[tokio::test]
async fn a_change_without_a_replica_is_accepted_and_says_so() {
    let mut issuer = Issuer::new();
    let late = Arc::new(Late { records: Arc::clone(&issuer.records), is_late: AtomicBool::new(true) });
    issuer.state.records = Arc::clone(&late) as Arc<dyn Records>;
    issuer.router = router(issuer.state.clone());
    let (id, _text) = issuer.key(&["a:b"]).await;
    let key = format!("/v1/keys/{id}");
    let table = [
        ("PATCH", key.as_str(), json!({"active": false}), ("state", json!("disabled"))),
        ("POST", &format!("{key}/rotate"), json!({"grace": "0s"}), ("state", json!("disabled"))),
        ("DELETE", &key, Value::Null, ("state", json!("revoked"))),
        ("DELETE", &key, Value::Null, ("state", json!("revoked"))),
        ("PATCH", "/v1/users/alice", json!({"active": false}), ("state", json!("disabled"))),
    ];
    for is_late in [true, false] {
        late.is_late.store(is_late, Ordering::SeqCst);
        for (method, path, body, (member, expected)) in &table {
            if !is_late && (method, *path) != (&"DELETE", key.as_str()) && *path != "/v1/users/alice" {
                // What is revoked cannot be changed any more.
                continue;
            }
            let (status, answer) = issuer.call(method, path, body.clone()).await;
            assert_eq!(status, if is_late { 202 } else { 200 }, "{method} {path}: {answer}");
            assert_eq!(answer.get("replicated"), is_late.then_some(&json!(false)), "{method} {path}");
            assert_eq!(&answer[*member], expected, "{method} {path}");
        }
    }
    late.is_late.store(true, Ordering::SeqCst);
    assert_eq!(issuer.call("DELETE", "/v1/users/alice", Value::Null).await, (202, json!({"replicated": false})));
    let (status, made) = issuer.call("POST", "/v1/users", json!({"id": "bob"})).await;
    assert_eq!((status, made.get("replicated")), (201, None), "what is lost of a creation opens nothing");
    late.is_late.store(false, Ordering::SeqCst);
    assert_eq!(issuer.call("DELETE", "/v1/users/bob", Value::Null).await, (204, Value::Null));
}
