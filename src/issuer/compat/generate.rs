//! Seed 000: `POST /generate` makes an API key with scopes, never more than its maker holds.
//!
//! The key is an opaque text, or with `"type": "jwt"` a token that our own ring signs and whose `jti` is the key's id: rotation,
//! revocation and last use are the key's. A JWT ends by itself, within a day at the latest.

use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::callers::Asker;
use crate::issuer::callers::client_address;
use crate::issuer::callers::identify;
use crate::issuer::compat::serving;
use crate::issuer::events::KeyEvent;
use crate::issuer::events::told;
use crate::issuer::input::Fields;
use crate::issuer::input::Value;
use crate::issuer::keys::Draft;
use crate::issuer::keys::issue;
use crate::issuer::names;
use crate::issuer::once::Once;
use crate::issuer::problem::Problem;
use crate::issuer::sign_in_tokens::OwnToken;
use crate::issuer::sign_in_tokens::catalogue;
use crate::issuer::sign_in_tokens::sign_own;
use crate::issuer::views::show_time;
use crate::jose::signer::LIFETIME_MAX;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::issuance::Compatibility;
use crate::model::issuance::Issuance;
use crate::model::key::KeyRecord;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::store::Precondition;
use crate::store::RecordKey;

/// The name of a key that is given none.
const NAME: &str = "generated";

/// In which form the key is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Opaque,
    Jwt,
}

#[derive(Serialize)]
struct Generated<'a> {
    api_key: &'a str,
    /// Also the `jti` of a JWT.
    api_key_id: &'a str,
    #[serde(rename = "type")]
    form: &'static str,
    scopes: Vec<&'a str>,
    expires_at: Option<String>,
}

pub(super) async fn generate(State(state): State<IssuerState>, request: Request) -> Result<Response, Problem> {
    let issuance = serving(&state, Compatibility::Generate)?;
    let (parts, body) = request.into_parts();
    let actor = identify(&state, &parts).await?.ok_or_else(Problem::unauthenticated)?;
    let address = client_address(&parts, &state.rules.load());
    let asker = Asker { actor, address, request_id: parts.extensions.get().cloned() };
    let now = state.clock.now();
    let mut fields = Fields::read(&parts.headers, body).await?;
    let name = fields.optional("name", names::name, names::NAME)?.unwrap_or_else(|| Arc::from(NAME));
    let scopes = fields.optional("scopes", names::scopes, names::SCOPES)?.unwrap_or_else(|| all_of(&asker.actor, &issuance));
    let form = fields.optional("type", read_form, "must be \"key\" or \"jwt\"")?.unwrap_or(Form::Opaque);
    let expires = names::expiry(&mut fields, now)?.set();
    let user = asker.actor.user().cloned();
    let Some(user) = user else {
        return Err(fields.complaint("", "only a user's key or token makes keys here"));
    };
    fields.finish()?;
    let longest = now.plus(issuance.lifetimes.key_token_absolute.min(LIFETIME_MAX));
    let expires = match form {
        Form::Opaque => expires,
        Form::Jwt => Some(expires.map_or(longest, |expires| expires.min(longest))),
    };
    let draft = Draft { expires, ..Draft::new(name, user, scopes) };
    let (new, _revision) = told(&state, KeyEvent::Created, issue(&state, &asker, draft, &Once::default())).await?;
    let text = match form {
        Form::Opaque => new.text,
        // The key's own text goes unused: nobody ever holds it.
        Form::Jwt => sign(&state, &issuance, &new.record, longest, now).await?,
    };
    let record = &new.record;
    let view = Generated {
        api_key: &text,
        api_key_id: record.id.as_str(),
        form: match form {
            Form::Opaque => "key",
            Form::Jwt => "jwt",
        },
        scopes: record.scopes.iter().map(|scope| scope.as_str()).collect(),
        expires_at: record.expires.map(show_time),
    };
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

fn read_form(value: &Value) -> Option<Form> {
    match names::text(value)? {
        "key" => Some(Form::Opaque),
        "jwt" => Some(Form::Jwt),
        _ => None,
    }
}

/// What a key may do whose maker does not say: all that the maker holds, but for `tollgate:` rights.
fn all_of(actor: &Actor, issuance: &Issuance) -> Arc<ScopeSet> {
    Arc::new(match actor {
        Actor::Operator => catalogue(issuance),
        Actor::Caller(caller) => caller.scopes.without_reserved(),
        Actor::Person(person) => match &person.user.rights {
            Rights::Unlimited => catalogue(issuance),
            Rights::Only(held) => held.without_reserved(),
        },
    })
}

/// The JWT in the key's name. It stands on the key's grant, so it dies with the key, its user, or the grant.
async fn sign(
    state: &IssuerState,
    issuance: &Issuance,
    record: &KeyRecord,
    longest: Timestamp,
    now: Timestamp,
) -> Result<Zeroizing<String>, Problem> {
    let own = OwnToken {
        id: GrantId::of_key(&record.id),
        of: GrantOf::Key { key: record.id.clone(), user: record.user.clone() },
        organization: record.organization.clone(),
        environment: record.environment,
        scopes: record.scopes.without_reserved(),
        subject: &record.user,
        jti: record.id.as_str(),
        ends: record.expires.unwrap_or(longest),
        stands_on: Precondition::Present(RecordKey::key(record.id.as_str())),
    };
    Ok(Zeroizing::new(sign_own(state, issuance, own, now).await?))
}
