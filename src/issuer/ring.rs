//! `/v1/ring`: the issuer's signing keys, for operators. What is shown is public; no private half leaves the shelf.

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::issuer::IssuerState;
use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::checks::Check;
use crate::issuer::checks::run;
use crate::issuer::input::Fields;
use crate::issuer::names;
use crate::issuer::problem::Code;
use crate::issuer::problem::Problem;
use crate::issuer::views::show_time;
use crate::jose::ring::RingError;
use crate::jose::ring::RingKeyState;
use crate::jose::ring::Rotation;
use crate::jose::signer::PUBLISHED_BEFORE_USE;
use crate::jose::signer::RingKey;
use crate::model::time::Timestamp;

/// The ring without its private half.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Ring, example = json!({"since": "2027-01-15T08:00:00Z", "data": [
    {"kid": "q1Zt0w6m", "alg": "EdDSA", "state": "current", "published_until": null}
]}))]
pub(in crate::issuer) struct RingView {
    /// When the current keys began to sign, and the next ones were published.
    #[schema(format = DateTime)]
    since: String,
    data: Vec<RingKeyView>,
}

/// One of its keys.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RingKey)]
struct RingKeyView {
    kid: String,
    alg: &'static str,
    /// `current` signs, `next` will, `retired` did.
    state: &'static str,
    /// Until when a key that signed is published.
    #[schema(format = DateTime)]
    published_until: Option<String>,
}

pub(in crate::issuer) async fn show(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<RingView>, Problem> {
    admit(&state, &actor)?;
    let now = state.clock.now();
    view(&state, now)
}

/// A turn in order, or (`emergency`) one after which nothing that was signed before verifies.
pub(in crate::issuer) async fn rotate(
    State(state): State<IssuerState>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RingView>, Problem> {
    admit(&state, &asker.actor)?;
    let mut fields = Fields::read(&headers, body).await?;
    let emergency = fields.required("emergency", names::truth, "must be true (every token ends now) or false")?;
    fields.finish()?;
    let now = state.clock.now();
    if emergency {
        state.signer.emergency_rotate(&*state.records, &state.peppers, now).await.map_err(failed)?;
        tracing::warn!("the issuer's signing keys were thrown away; what they signed verifies no more");
    } else {
        turn(&state, now).await?;
        tracing::info!("the issuer's signing keys were turned");
    }
    let subject = if emergency { "issuer (emergency)" } else { "issuer" };
    asker.note(&state, Deed::RingRotated, subject, None, now).await;
    view(&state, now)
}

async fn turn(state: &IssuerState, now: Timestamp) -> Result<(), Problem> {
    match state.signer.rotate(&*state.records, &state.peppers, now).await.map_err(failed)? {
        Rotation::Rotated => Ok(()),
        Rotation::Adopted => Err(Problem::new(Code::Conflict, "another process had turned the ring; look at it before it is turned again")),
        Rotation::NotDue => {
            let minutes = PUBLISHED_BEFORE_USE.as_secs() / 60;
            let why = format!(
                "the next keys have been published for less than {minutes} minutes, and whoever verifies may not know them; try later, or after a leak as an emergency, which ends every JWT of ours"
            );
            Err(Problem::new(Code::Conflict, why))
        }
    }
}

/// Operators and admins, where something is issued at all.
fn admit(state: &IssuerState, actor: &Actor) -> Result<(), Problem> {
    run(&Keeper::CHECKS, &Keeper { actor, is_issuing: state.rules.load().issuance.is_some() })
}

/// Who would look after the ring.
pub(in crate::issuer) struct Keeper<'a> {
    actor: &'a Actor,
    is_issuing: bool,
}

impl Keeper<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Problem>; 2] = [
        Check {
            name: "the ring is operators' and admins'",
            run: |keeper| {
                let missing = || Problem::new(Code::Forbidden, format!("this needs the scope {ADMIN}"));
                keeper.actor.holds(ADMIN).then_some(()).ok_or_else(missing)
            },
        },
        Check {
            name: "there is a ring where something is issued",
            run: |keeper| {
                let missing = || Problem::new(Code::NotFound, "nothing is issued here: the config has no `issuer`");
                keeper.is_issuing.then_some(()).ok_or_else(missing)
            },
        },
    ];
}

fn view(state: &IssuerState, now: Timestamp) -> Result<Json<RingView>, Problem> {
    let missing = || Problem::new(Code::Unavailable, "there are no signing keys yet, or the store did not give them");
    let report = state.signer.report(now).ok_or_else(missing)?;
    Ok(Json(RingView { since: show_time(report.since), data: report.keys.into_iter().map(key_view).collect() }))
}

fn key_view(key: RingKey) -> RingKeyView {
    let (state, published_until) = match key.state {
        RingKeyState::Current => ("current", None),
        RingKeyState::Next => ("next", None),
        RingKeyState::Retired(until) => ("retired", Some(show_time(until))),
    };
    RingKeyView { kid: key.id.to_string(), alg: key.algorithm.name(), state, published_until }
}

fn failed(error: RingError) -> Problem {
    match error {
        RingError::Store(error) => error.into(),
        error @ (RingError::Wrapping(_) | RingError::Unreadable(_) | RingError::NoRandomness | RingError::Contended) => {
            tracing::error!(%error, "the issuer's signing keys could not be turned");
            Problem::new(Code::Unavailable, "the signing keys could not be read or changed; the log says why")
        }
    }
}
