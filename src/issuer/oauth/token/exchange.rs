//! Token exchange (RFC 8693), narrow: a client trades an access token of ours that it was shown for one that opens no more, nowhere
//! else and no longer, and that says who acts. It stands on the same grant, so it ends with it. Once: the gate judges one actor at each
//! request, so nobody acts through another.

use std::sync::Arc;

use axum::response::Response;
use serde_json::json;

use crate::issuer::audit::Deed;
use crate::issuer::oauth::answer::Fault;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::checks::Check;
use crate::issuer::oauth::checks::Stop;
use crate::issuer::oauth::checks::run;
use crate::issuer::oauth::families;
use crate::issuer::oauth::form::Form;
use crate::issuer::oauth::inspect;
use crate::issuer::oauth::inspect::Active;
use crate::issuer::oauth::inspect::Kind;
use crate::issuer::oauth::token::Bench;
use crate::issuer::oauth::token::audience;
use crate::issuer::oauth::token::mint;
use crate::issuer::oauth::token::mint::Order;
use crate::model::client::AccessTokenForm;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::scope::ScopeSet;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A token that is to be traded, and by whom.
pub(in crate::issuer) struct Exchange {
    client: Arc<ClientRecord>,
    form: Arc<Form>,
    /// What the subject token is good for; none: for nothing.
    subject: Option<Active>,
    wanted: Option<ScopeSet>,
    /// The resources that the client may name.
    own: Vec<Arc<str>>,
}

pub(in crate::issuer) fn checks() -> Vec<Check<Exchange>> {
    vec![
        Check { name: "only confidential clients exchange tokens", run: is_confidential },
        Check { name: "the types of an exchange", run: types },
        Check { name: "the subject token is good", run: subject_is_good },
        Check { name: "the subject token was meant for the client", run: meant_for_client },
        Check { name: "the scope lies within the subject token's", run: within_subject },
        Check { name: "nobody acts with the subject token yet", run: without_actor },
    ]
}

/// Trades a token.
///
/// # Errors
/// `invalid_request` for a subject token that is good for nothing; `invalid_scope` and `invalid_target` for more than it opens.
pub(in crate::issuer) async fn exchange(bench: &Bench<'_>, form: &Arc<Form>) -> Result<Response, Refusal> {
    let shown = form.required("subject_token")?;
    form.required("subject_token_type")?;
    let exchange = Exchange {
        client: Arc::clone(&bench.client),
        form: Arc::clone(form),
        subject: inspect::active(bench.state, bench.rules, shown, bench.now).await?,
        wanted: audience::read_scopes(form.get("scope"))?,
        own: audience::resources_of(&bench.client, bench.issuance),
    };
    run(&bench.checks.exchange, &exchange).map_err(|stop| stop.refusal)?;
    let Exchange { subject, wanted, own, .. } = exchange;
    let (subject, mut grant) = subject.and_then(|mut subject| subject.grant.take().map(|grant| (subject, grant))).ok_or_else(no_token)?;
    let within: Vec<Arc<str>> = subject.audience.iter().filter(|uri| own.contains(uri)).cloned().collect();
    let named = form.all("resource").chain(form.all("audience"));
    let audience = audience::pick(named, &within, &within)?;
    let held = wanted.unwrap_or_else(|| ScopeSet::clone(&subject.scopes)).intersect(&subject.scopes);
    let scopes = Arc::new(audience::at(&held.intersect(&bench.client.scopes), &audience, bench.issuance));
    // RFC 8693 section 4.1.
    let act = json!({"sub": bench.client.id.as_str()});
    let order = Order {
        subject: &subject.subject,
        // Its actors need a place, which an opaque token does not have.
        form: match bench.client.token_form {
            form @ AccessTokenForm::Jwt(_) => form,
            AccessTokenForm::Opaque => AccessTokenForm::Jwt(bench.issuance.algorithm),
        },
        scopes,
        audience,
        no_later_than: subject.expires.unwrap_or(bench.now),
        act: Some(&act),
    };
    let minted = mint::mint(bench, &mut grant, order).await?;
    families::note(bench.state, &bench.client, Deed::TokenIssued, &grant, bench.address, bench.now).await;
    Ok(mint::success(bench, &minted, None, Some(ACCESS_TOKEN)))
}

fn no_token() -> Refusal {
    Refusal::request("the subject token is no access token of ours, or opens nothing any more")
}

fn is_confidential(exchange: &Exchange) -> Result<(), Stop> {
    match exchange.client.kind {
        ClientKind::Confidential => Ok(()),
        ClientKind::Public | ClientKind::Native => {
            Err(Refusal::new(Fault::UnauthorizedClient, "only a client that can keep a secret exchanges tokens").into())
        }
    }
}

fn types(exchange: &Exchange) -> Result<(), Stop> {
    let form = &exchange.form;
    if form.get("subject_token_type") != Some(ACCESS_TOKEN) {
        return Err(Refusal::request("the subject_token_type must be the URN of an access_token").into());
    }
    if form.get("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN) {
        return Err(Refusal::request("the requested_token_type must be the URN of an access_token, or absent").into());
    }
    if form.get("actor_token").is_some() {
        return Err(Refusal::request("an actor_token is not accepted: the client itself is the actor").into());
    }
    if form.get("actor_token_type").is_some() {
        return Err(Refusal::request("there is an actor_token_type and no actor_token").into());
    }
    Ok(())
}

fn subject_is_good(exchange: &Exchange) -> Result<(), Stop> {
    match exchange.subject.as_ref().map(|subject| &subject.kind) {
        Some(Kind::Access) => Ok(()),
        Some(Kind::Refresh | Kind::Key) | None => Err(no_token().into()),
    }
}

fn meant_for_client(exchange: &Exchange) -> Result<(), Stop> {
    let Some(subject) = &exchange.subject else { return Err(no_token().into()) };
    let is_own = subject.client.as_deref() == Some(exchange.client.id.as_str());
    let is_for_it = exchange.client.resources.iter().any(|uri| subject.audience.contains(uri));
    if is_own || is_for_it { Ok(()) } else { Err(no_token().into()) }
}

fn within_subject(exchange: &Exchange) -> Result<(), Stop> {
    let held = exchange.subject.as_ref().map(|subject| &subject.scopes);
    let lies_within = |wanted: &ScopeSet| held.is_some_and(|held| audience::lies_within(wanted, held));
    if exchange.wanted.as_ref().is_none_or(lies_within) { Ok(()) } else { Err(audience::beyond().into()) }
}

fn without_actor(exchange: &Exchange) -> Result<(), Stop> {
    match exchange.subject.as_ref().and_then(|subject| subject.act.as_ref()) {
        Some(_) => Err(Refusal::request("the subject token was traded for already; trade the one that it came of").into()),
        None => Ok(()),
    }
}
