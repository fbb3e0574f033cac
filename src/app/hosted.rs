//! The resource API, over the stores of the running process or over those that the command line opens when none runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;

use crate::app::AppError;
use crate::app::counts::CountsOf;
use crate::app::open::Opened;
use crate::app::open::open;
use crate::check::Gate;
use crate::check::guard::Guard;
use crate::clock::Clock;
use crate::config::Loaded;
use crate::issuer;
use crate::issuer::IssuerState;
use crate::issuer::events::KeyObserver;
use crate::issuer::explain;
use crate::issuer::explain::Explainer;
use crate::jose::Assertions;
use crate::jose::Tokens;
use crate::model::rules::Rules;
use crate::secrets::Peppers;
use crate::store::Records;

/// Opens the stores of this config and makes the API over them. Their locks see to it that no second process has them open.
///
/// # Errors
/// [`AppError`], with what to do about it.
pub async fn host(loaded: Loaded, clock: Arc<dyn Clock>) -> Result<Router, AppError> {
    let Opened { peppers, engine, usage } = open(&loaded.boot, &clock)?;
    let records = engine.records();
    let assertions = Arc::new(Assertions::load_or_pretend(&*records, &peppers, clock.now()).await?);
    let rules = Arc::new(ArcSwap::from_pointee(loaded.rules));
    let gate = Gate {
        facts: engine.facts(),
        last_known: engine.last_known(),
        limits: engine.limits(&usage),
        local_share: engine.local_share(),
        ledger: Arc::clone(usage.ledger()) as Arc<_>,
        tokens: Arc::new(Tokens::new(1)),
        assertions,
        peppers: Arc::clone(&peppers),
        guard: Guard::new(),
    };
    let explainer = Arc::new(Explainer::over(&gate, Arc::clone(&rules), Arc::clone(&clock)));
    Ok(resource_api(Shelves { records, peppers, counts: engine.counts(&usage), observer: Arc::new(()) }, explainer, rules, clock))
}

/// What lies open, and who hears of changes to keys.
#[derive(Debug)]
pub(super) struct Shelves {
    pub(super) records: Arc<dyn Records>,
    pub(super) peppers: Arc<Peppers>,
    pub(super) counts: CountsOf,
    pub(super) observer: Arc<dyn KeyObserver>,
}

/// The resource API over stores that are open.
pub(super) fn resource_api(shelves: Shelves, explainer: Arc<Explainer>, rules: Arc<ArcSwap<Rules>>, clock: Arc<dyn Clock>) -> Router {
    let Shelves { records, peppers, counts, observer } = shelves;
    let state = IssuerState { records, peppers, rules, clock, last_used: Arc::new(counts.clone()), usage: Arc::new(counts), observer };
    issuer::router(state).merge(explain::router(explainer))
}
