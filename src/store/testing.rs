//! A store for other rooms' tests, by its contract alone.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::store::Facts;
use crate::store::Records;
use crate::store::embedded::Embedded;

/// The embedded store of a folder.
pub(crate) fn open(folder: &Path, clock: Arc<dyn Clock>) -> Arc<impl Records + Facts> {
    Arc::new(Embedded::open(folder, clock).unwrap())
}
