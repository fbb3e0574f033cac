//! What a start opens before it binds a port.

use std::path::Path;
use std::sync::Arc;

use crate::app::AppError;
use crate::app::HELD_TIME_MAX;
use crate::app::LOOK_AGAIN_AFTER;
use crate::app::engine::Engine;
use crate::app::shared::Shared;
use crate::clock::Clock;
use crate::clock::monotonic;
use crate::config::Boot;
use crate::config::boot;
use crate::config::boot::Listen;
use crate::listen::address::Endpoint;
use crate::listen::tls::Protocol;
use crate::listen::tls::Tls;
use crate::listen::tls::TlsError;
use crate::listen::tls::TlsFiles;
use crate::secrets::Pepper;
use crate::secrets::Peppers;
use crate::store::embedded::Embedded;
use crate::usage::LedgerOptions;
use crate::usage::Usage;

/// The history's file in the store's folder.
pub(super) const HISTORY_FILE: &str = "usage.redb";

/// What lies on the disk, opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) peppers: Arc<Peppers>,
    pub(super) engine: Engine,
    pub(super) usage: Arc<Usage>,
}

/// Opens the stores; the peppers first, because a store without its peppers is an error.
pub(super) fn open(boot: &Boot, clock: &Arc<dyn Clock>) -> Result<Opened, AppError> {
    for folder in [&boot.store_path, &boot.ledger_path] {
        make_folder(folder)?;
    }
    let peppers = load_peppers(boot)?;
    // The store's lock first: a second process is told about the store, not about the ledger.
    let embedded = match &boot.redis {
        None => Ok(Arc::new(Embedded::open(&boot.store_path, Arc::clone(clock))?)),
        Some(redis) => Err(redis),
    };
    let usage = Arc::new(Usage::open(LedgerOptions::new(&boot.ledger_path), boot.store_path.join(HISTORY_FILE), clock.now())?);
    let engine = match embedded {
        Ok(store) => Engine::Embedded(store),
        Err(redis) => Engine::Shared(Shared::open(redis, &boot.store_path, &peppers, &usage, clock)?),
    };
    Ok(Opened { peppers, engine, usage })
}

/// The same, after whoever has the folders for a moment: a command that found no running process and opened them itself, or a
/// process that is about to end.
pub(super) async fn open_in_turn(boot: &Boot, clock: &Arc<dyn Clock>) -> Result<Opened, AppError> {
    let deadline = monotonic() + HELD_TIME_MAX;
    let mut is_told = false;
    loop {
        let error = match open(boot, clock) {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        match error.holder() {
            Some((owner, folder)) if monotonic() < deadline => {
                if !is_told {
                    tracing::info!("waiting for {owner}, which has {}", folder.display());
                    is_told = true;
                }
            }
            Some(_) | None => return Err(error),
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// The peppers that the config gives, or those of the store's folder.
pub(super) fn load_peppers(boot: &Boot) -> Result<Arc<Peppers>, AppError> {
    Ok(Arc::new(match &boot.peppers {
        boot::Peppers::Generated => Peppers::load_or_create(&boot.store_path)?,
        boot::Peppers::Given(given) => peppers_of(given).ok_or(AppError::NoPeppers)?,
    }))
}

/// A listener's place and its TLS.
pub(super) fn door_of(listen: &Listen, protocol: Protocol) -> Result<(Endpoint, Option<Arc<Tls>>), TlsError> {
    match listen {
        Listen::Tcp { addr, tls } => Ok((Endpoint::Tcp(*addr), tls.as_ref().map(|tls| load_tls(tls, protocol)).transpose()?)),
        Listen::Unix { path, mode, group } => Ok((Endpoint::Unix { path: path.clone(), mode: *mode, group: group.clone() }, None)),
    }
}

pub(super) fn load_tls(tls: &boot::Tls, protocol: Protocol) -> Result<Arc<Tls>, TlsError> {
    let files = TlsFiles { certificate: tls.cert.clone(), key: tls.key.clone(), client_authorities: tls.client_ca.clone() };
    Tls::load(files, protocol).map(Arc::new)
}

/// None where none is given: an empty pepper would key every hash with what everybody knows.
fn peppers_of(given: &[boot::PepperSecret]) -> Option<Peppers> {
    let mut all = given.iter().map(|pepper| Pepper { id: Arc::clone(&pepper.id), secret: pepper.secret.expose().to_vec().into() });
    let current = all.next()?;
    Some(Peppers::new(current, all.collect()))
}

/// Only we read what lies there.
fn make_folder(path: &Path) -> Result<(), AppError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| AppError::Folder { path: path.to_owned(), source })
}
