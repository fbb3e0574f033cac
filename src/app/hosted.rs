//! The resource API, over the stores of the running process or over those that the command line opens when none runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;

use crate::app::AppError;
use crate::app::counts::CountsOf;
use crate::app::open::Opened;
use crate::app::open::open;
use crate::app::wording::DoorsWording;
use crate::check::Gate;
use crate::check::guard::Guard;
use crate::clock::Clock;
use crate::config::Boot;
use crate::issuer;
use crate::issuer::IssuerState;
use crate::issuer::audit::Audit;
use crate::issuer::events::KeyObserver;
use crate::issuer::explain;
use crate::issuer::explain::Explainer;
use crate::issuer::federation::Federation;
use crate::issuer::passwords::Passwords;
use crate::jose::Assertions;
use crate::jose::Tokens;
use crate::jose::signer::Signer;
use crate::model::rules::Rules;
use crate::secrets::Peppers;
use crate::store::Records;

/// Opens the stores of this config and makes the API over them. Their locks see to it that no second process has them open.
///
/// # Errors
/// [`AppError`], with what to do about it.
pub async fn host(boot: &Boot, rules: Arc<Rules>, clock: Arc<dyn Clock>) -> Result<Router, AppError> {
    let Opened { peppers, engine, usage } = open(boot, &clock)?;
    let records = engine.records();
    let assertions = Arc::new(Assertions::load_or_pretend(&*records, &peppers, clock.now()).await?);
    let signer = Arc::new(Signer::load(&*records, &peppers, clock.now()).await?);
    let rules = Arc::new(ArcSwap::new(rules));
    let tokens = Arc::new(Tokens::new(1));
    signer.tell(&tokens);
    let gate = Arc::new(Gate {
        facts: engine.facts(),
        last_known: engine.last_known(),
        limits: engine.limits(&usage),
        local_share: engine.local_share(),
        ledger: Arc::clone(usage.ledger()) as Arc<_>,
        tokens,
        assertions,
        peppers: Arc::clone(&peppers),
        guard: Guard::new(),
    });
    let explainer = Arc::new(Explainer::over(&gate, Arc::clone(&rules), Arc::clone(&clock), Arc::new(DoorsWording)));
    let counts = engine.counts(&usage);
    let shelves = Shelves { records, peppers, counts, observer: Arc::new(()), gate, signer };
    let state = IssuerState { audit: Arc::new(Audit::of_command()), ..issuer_state(shelves, rules, clock) };
    Ok(issuer::router(state).merge(explain::router(explainer)))
}

/// What lies open, and who hears of changes to keys.
#[derive(Debug)]
pub(super) struct Shelves {
    pub(super) records: Arc<dyn Records>,
    pub(super) peppers: Arc<Peppers>,
    pub(super) counts: CountsOf,
    pub(super) observer: Arc<dyn KeyObserver>,
    pub(super) gate: Arc<Gate>,
    pub(super) signer: Arc<Signer>,
}

/// What the issuer works on, over stores that are open.
pub(super) fn issuer_state(shelves: Shelves, rules: Arc<ArcSwap<Rules>>, clock: Arc<dyn Clock>) -> IssuerState {
    let Shelves { records, peppers, counts, observer, gate, signer } = shelves;
    IssuerState {
        records,
        peppers,
        rules,
        clock,
        last_used: Arc::new(counts.clone()),
        usage: Arc::new(counts),
        observer,
        gate,
        signer,
        passwords: Arc::new(Passwords::default()),
        audit: Arc::default(),
        federation: Arc::new(Federation::default()),
    }
}
