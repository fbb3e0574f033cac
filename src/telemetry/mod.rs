//! What the program says about itself: every metric and every log field, named once.

pub mod access_log_metrics;
pub mod decisions;
pub mod families;
pub mod logging;
pub mod metrics;
pub mod reference;
pub mod share;
pub mod shared_metrics;
pub mod traces;

pub use metrics::Metrics;
