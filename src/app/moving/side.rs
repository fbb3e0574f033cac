//! A store that is open, and what is needed to move things.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::app::engine::Engine;
use crate::app::moving::MovingError;
use crate::app::moving::Named;
use crate::app::open::Opened;
use crate::app::open::load_peppers;
use crate::app::open::open;
use crate::app::shared::settings_of;
use crate::clock::Clock;
use crate::config::boot;
use crate::config::boot::RedisBoot;
use crate::secrets::Peppers;
use crate::store::CountsArchive;
use crate::store::EMBEDDED_FILE_NAME;
use crate::store::Records;
use crate::store::embedded::Embedded;
use crate::store::shared::link::Link;
use crate::store::shared::records::SharedRecords;
use crate::store::shared::usage::SharedCounts;
use crate::usage::Thoroughness;
use crate::usage::Usage;

/// Nobody waits for one call of many; better a slow one than a run that is broken off.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(in crate::app) struct Side {
    /// The config's file.
    pub(in crate::app) name: PathBuf,
    pub(in crate::app) peppers: Arc<Peppers>,
    /// Where the peppers lie, if the config leaves that to us.
    pub(in crate::app) pepper_file: Option<PathBuf>,
    pub(in crate::app) shelf: Shelf,
}

/// Where records and counts lie.
#[derive(Debug)]
pub(in crate::app) enum Shelf {
    Embedded { store: Arc<Embedded>, usage: Arc<Usage> },
    Shared { link: Arc<Link>, records: Arc<SharedRecords>, counts: Arc<SharedCounts> },
}

impl Side {
    /// A store that must be there already.
    pub(in crate::app) fn open_source(named: Named, clock: &Arc<dyn Clock>) -> Result<Self, MovingError> {
        let boot = &named.loaded.boot;
        if boot.redis.is_none() && !boot.store_path.join(EMBEDDED_FILE_NAME).exists() {
            return Err(MovingError::NoStore { folder: boot.store_path.clone() });
        }
        Self::open(named, clock)
    }

    pub(in crate::app) fn open(named: Named, clock: &Arc<dyn Clock>) -> Result<Self, MovingError> {
        let boot = &named.loaded.boot;
        let pepper_file = match &boot.peppers {
            boot::Peppers::Generated => Some(Peppers::file_in(&boot.store_path)),
            boot::Peppers::Given(_) => None,
        };
        let (peppers, shelf) = match &boot.redis {
            Some(redis) => {
                let peppers = load_peppers(boot)?;
                let shelf = Shelf::shared(redis, &peppers, clock);
                (peppers, shelf)
            }
            None => match open(boot, clock)? {
                Opened { peppers, engine: Engine::Embedded(store), usage } => {
                    // What was counted last lies in the ledger still.
                    usage.flush(Thoroughness::Everything, clock.now(), Duration::ZERO)?;
                    (peppers, Shelf::Embedded { store, usage })
                }
                Opened { engine: Engine::Shared(_), .. } => return Err(MovingError::NoStore { folder: boot.store_path.clone() }),
            },
        };
        Ok(Self { name: named.config, peppers, pepper_file, shelf })
    }

    pub(in crate::app) fn records(&self) -> &dyn Records {
        match &self.shelf {
            Shelf::Embedded { store, .. } => &**store,
            Shelf::Shared { records, .. } => &**records,
        }
    }

    pub(in crate::app) fn counts(&self) -> &dyn CountsArchive {
        match &self.shelf {
            Shelf::Embedded { usage, .. } => usage.history(),
            Shelf::Shared { counts, .. } => &**counts,
        }
    }

    pub(in crate::app) fn label(&self) -> String {
        format!("the store of {}", self.name.display())
    }
}

impl Shelf {
    /// Without the folder on this machine: a sidecar may be running on it.
    fn shared(redis: &RedisBoot, peppers: &Arc<Peppers>, clock: &Arc<dyn Clock>) -> Self {
        let mut settings = settings_of(redis);
        settings.timeouts.background = settings.timeouts.background.max(PATIENCE);
        let link = Link::new(settings);
        let records = SharedRecords::new(Arc::clone(&link), Arc::clone(clock), Arc::clone(peppers) as _, None);
        let counts = SharedCounts::new(Arc::clone(&link), Arc::clone(clock));
        Self::Shared { link, records, counts }
    }
}
