//! What happened to keys, told to whoever counts it.

use std::future::Future;

use crate::issuer::IssuerState;
use crate::issuer::problem::Problem;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    Created,
    Imported,
    Changed,
    Enabled,
    Disabled,
    Rotated,
    Revoked,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEventResult {
    Success,
    /// Whoever asked was told what is wrong with it.
    Refused,
    /// The store gave no answer, or the record cannot be read.
    Failure,
}

/// Who hears of it.
pub trait KeyObserver: Send + Sync + std::fmt::Debug + 'static {
    fn happened(&self, event: KeyEvent, result: KeyEventResult);

    /// An entry of the audit log was written, or lost.
    fn noted(&self, _is_written: bool) {}
}

impl KeyObserver for () {
    fn happened(&self, _event: KeyEvent, _result: KeyEventResult) {}
}

impl KeyEvent {
    /// Every event.
    pub const ALL: [Self; 7] = [Self::Created, Self::Imported, Self::Changed, Self::Enabled, Self::Disabled, Self::Rotated, Self::Revoked];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Imported => "imported",
            Self::Changed => "changed",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Rotated => "rotated",
            Self::Revoked => "revoked",
        }
    }
}

impl KeyEventResult {
    /// Every result.
    pub const ALL: [Self; 3] = [Self::Success, Self::Refused, Self::Failure];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Failure => "failure",
        }
    }
}

/// Waits for the work and tells what became of it.
pub(in crate::issuer) async fn told<T>(
    state: &IssuerState,
    event: KeyEvent,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let done = work.await;
    tell(state, event, &done);
    done
}

pub(in crate::issuer) fn tell<T>(state: &IssuerState, event: KeyEvent, done: &Result<T, Problem>) {
    let result = match done {
        Ok(_) => KeyEventResult::Success,
        Err(problem) if problem.code.is_failure() => KeyEventResult::Failure,
        Err(_) => KeyEventResult::Refused,
    };
    state.observer.happened(event, result);
}
