//! Turns our signing keys when they are old enough, and notices when another process did.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::jose::Assertions;
use crate::jose::assertions::Rotation;
use crate::jose::ring::RingError;
use crate::secrets::Peppers;
use crate::store::Records;

/// How long one key signs, unless the config says otherwise.
pub const ROTATE_EVERY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often the ring on the shelf is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Everything that the task needs.
pub struct RotateKeys {
    pub assertions: Arc<Assertions>,
    pub records: Arc<dyn Records>,
    pub peppers: Arc<Peppers>,
    pub clock: Arc<dyn Clock>,
    pub rotate_every: Duration,
    pub look_every: Duration,
    /// Told about every look that did something or failed, for metrics.
    pub observer: Arc<dyn RotationObserver>,
}

/// What is told about the ring.
pub trait RotationObserver: Send + Sync + 'static {
    fn rotated(&self, outcome: &Result<Rotation, RingError>);
}

impl RotationObserver for () {
    fn rotated(&self, _outcome: &Result<Rotation, RingError>) {}
}

/// Runs until `shutdown`.
pub async fn run(task: RotateKeys, shutdown: CancellationToken) {
    loop {
        look(&task).await;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(task.look_every) => {}
        }
    }
}

async fn look(task: &RotateKeys) {
    let outcome = task.assertions.rotate_if_due(&*task.records, &task.peppers, task.rotate_every, task.clock.now()).await;
    match &outcome {
        Ok(Rotation::NotDue) => return,
        Ok(Rotation::Rotated) => tracing::info!("signing key rotated"),
        Ok(Rotation::Adopted) => tracing::info!("signing keys of another process taken over"),
        Err(error) => tracing::warn!(error = %error, "signing keys could not be looked at; the old ones stay in use"),
    }
    task.observer.rotated(&outcome);
}
