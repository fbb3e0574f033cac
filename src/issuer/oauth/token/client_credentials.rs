//! client_credentials: a client acts for itself. Each token is a grant of its own, and there is nothing to refresh.

use std::sync::Arc;

use axum::response::Response;

use crate::issuer::audit::Deed;
use crate::issuer::oauth::answer::Fault;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::checks::Check;
use crate::issuer::oauth::checks::Stop;
use crate::issuer::oauth::checks::run;
use crate::issuer::oauth::families;
use crate::issuer::oauth::form::Form;
use crate::issuer::oauth::token::Bench;
use crate::issuer::oauth::token::audience;
use crate::issuer::oauth::token::mint;
use crate::issuer::oauth::token::mint::Order;
use crate::issuer::oauth::token::mint::whole;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::secrets::random_id;

/// A client that asks for itself.
pub(in crate::issuer) struct OwnRequest {
    client: Arc<ClientRecord>,
    owner: Option<UserRecord>,
    wanted: Option<ScopeSet>,
    now: Timestamp,
}

pub(in crate::issuer) fn checks() -> Vec<Check<OwnRequest>> {
    vec![
        Check { name: "only confidential clients act for themselves", run: is_confidential },
        Check { name: "the client's owner still stands", run: owner_stands },
        Check { name: "the scope lies within the registration", run: within_registration },
    ]
}

/// Gives a client a token of its own.
///
/// # Errors
/// `unauthorized_client` for one that cannot keep a secret; `invalid_scope` and `invalid_target` for more than it is registered with.
pub(in crate::issuer) async fn grant(bench: &Bench<'_>, form: &Arc<Form>) -> Result<Response, Refusal> {
    let client = &bench.client;
    let owner = match &client.owner {
        Some(owner) => families::user(bench.state, owner).await?,
        None => None,
    };
    let wanted = audience::read_scopes(form.get("scope"))?;
    let request = OwnRequest { client: Arc::clone(client), owner, wanted, now: bench.now };
    run(&bench.checks.client_credentials, &request).map_err(|stop| stop.refusal)?;
    let OwnRequest { owner, wanted, .. } = request;
    let allowed = audience::resources_of(client, bench.issuance);
    let default = allowed.get(..1).unwrap_or_default();
    let audience = audience::pick(form.all("resource"), &allowed, default)?;
    // Never more than whoever registered it holds now.
    let held = families::within(&wanted.unwrap_or_else(|| ScopeSet::clone(&client.scopes)), owner.as_ref()).without_reserved();
    let scopes = Arc::new(audience::at(&held, &audience, bench.issuance));
    let ends = whole(bench.now).plus(bench.issuance.lifetimes.access_token);
    let (id, of) = (GrantId::new(&random_id()?), GrantOf::Client { client: client.id.clone() });
    let mut record = GrantRecord {
        organization: client.organization.clone(),
        scopes: Arc::clone(&scopes),
        resources: audience.clone(),
        ..GrantRecord::new(id, of, client.environment, bench.state.peppers.current_id(), bench.now, ends)
    };
    let order = Order { subject: client.id.as_str(), form: client.token_form, scopes, audience, no_later_than: ends, act: None };
    let minted = mint::mint(bench, &mut record, order).await?;
    if !families::create(bench.state, &record, bench.now).await? {
        return Err(families::contended(record.id.as_str()).into());
    }
    families::note(bench.state, client, Deed::TokenIssued, &record, bench.address, bench.now).await;
    Ok(mint::success(bench, &minted, None, None))
}

fn is_confidential(request: &OwnRequest) -> Result<(), Stop> {
    match request.client.kind {
        ClientKind::Confidential => Ok(()),
        ClientKind::Public | ClientKind::Native => {
            Err(Refusal::new(Fault::UnauthorizedClient, "only a client that can keep a secret acts for itself").into())
        }
    }
}

fn owner_stands(request: &OwnRequest) -> Result<(), Stop> {
    if families::owner_stands(&request.client, request.owner.as_ref(), request.now) {
        return Ok(());
    }
    Err(Refusal::new(Fault::UnauthorizedClient, "whoever registered the client is gone, disabled or of another organisation").into())
}

fn within_registration(request: &OwnRequest) -> Result<(), Stop> {
    let lies_within = request.wanted.as_ref().is_none_or(|wanted| audience::lies_within(wanted, &request.client.scopes));
    if lies_within { Ok(()) } else { Err(audience::beyond().into()) }
}
