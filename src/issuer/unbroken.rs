//! A request that has begun to change something goes on to its end, whether or not anybody waits for the answer: else a connection that
//! is closed at the right moment would leave deeds that the audit log does not know, and halves of what belongs together. Before that,
//! whoever hangs up is worth no work.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use tokio::task::AbortHandle;

use crate::issuer::IssuerState;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
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

tokio::task_local! {
    static STAGE: Arc<Stage>;
}

/// How far a request has come; it moves once.
#[derive(Debug, Default)]
struct Stage(AtomicU8);

const READING: u8 = 0;
const WRITING: u8 = 1;
const LEFT: u8 = 2;

impl Stage {
    /// Whether it is (now) what it is to become.
    fn move_on_to(&self, next: u8) -> bool {
        match self.0.compare_exchange(READING, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_reading) => true,
            Err(stage) => stage == next,
        }
    }
}

/// The same state over records that see when a request begins to write.
pub(in crate::issuer) fn watched(state: IssuerState) -> IssuerState {
    IssuerState { records: Arc::new(Watched(state.records)), ..state }
}

/// Runs the request in a task of its own.
pub(in crate::issuer) async fn run(request: Request, next: Next) -> Response {
    let stage = Arc::new(Stage::default());
    let task = tokio::spawn(STAGE.scope(Arc::clone(&stage), next.run(request)));
    let _waiting = Waiting { stage, task: task.abort_handle() };
    match task.await {
        Ok(response) => response,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_aborted) => Problem::new(Code::Unavailable, "the request was given up; try again").into_response(),
        },
    }
}

/// Somebody who waits for the answer.
struct Waiting {
    stage: Arc<Stage>,
    task: AbortHandle,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.stage.move_on_to(LEFT) {
            self.task.abort();
        }
    }
}

#[derive(Debug)]
struct Watched(Arc<dyn Records>);

impl Records for Watched {
    fn get(&self, key: &RecordKey) -> Answer<'_, Result<Option<Stored>, StoreError>> {
        self.0.get(key)
    }

    fn range(&self, family: Family, after: Option<&str>, limit: usize) -> Answer<'_, Result<Page, StoreError>> {
        self.0.range(family, after, limit)
    }

    fn commit(&self, preconditions: Vec<Precondition>, writes: Vec<Write>, now: Timestamp) -> Answer<'_, Result<Committed, StoreError>> {
        // What no request asked for goes on by itself.
        if STAGE.try_with(|stage| stage.move_on_to(WRITING)).unwrap_or(true) {
            return self.0.commit(preconditions, writes, now);
        }
        Answer::ready(Err(StoreError::Unavailable("nobody waits for it any more".to_owned())))
    }
}
