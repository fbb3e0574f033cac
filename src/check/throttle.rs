//! The limiter's answer, or its failure, judged.

use std::sync::Arc;
use std::time::Duration;

use crate::model::quota::Level;
use crate::model::quota::Limit;

/// What the limits said. On an allow it is the proof of admission; inside a denial it feeds the headers.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    pub(in crate::check) levels: Vec<PolicyLevel>,
    pub(in crate::check) retry_after: Option<Duration>,
}

/// One bucket after the question.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyLevel {
    pub policy: Arc<str>,
    pub limit: Limit,
    pub level: Level,
}

impl Admission {
    /// Every bucket that was asked; empty when nothing limits the caller.
    pub fn levels(&self) -> &[PolicyLevel] {
        &self.levels
    }

    /// Until the same request could pass; none on an allow, or when no waiting helps.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
