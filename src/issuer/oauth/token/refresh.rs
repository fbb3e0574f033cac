//! refresh_token: every use makes the next generation. The one before is answered with the same successor for a moment, because
//! replies get lost; anything older is a stolen copy, and ends the family.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;

use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::checks::Check;
use crate::issuer::oauth::checks::Consequence;
use crate::issuer::oauth::checks::Stop;
use crate::issuer::oauth::checks::run;
use crate::issuer::oauth::families;
use crate::issuer::oauth::form::Form;
use crate::issuer::oauth::token::Bench;
use crate::issuer::oauth::token::audience;
use crate::issuer::oauth::token::code::granted_resources;
use crate::issuer::oauth::token::code::settle;
use crate::issuer::oauth::token::code::user_of;
use crate::issuer::oauth::token::mint;
use crate::issuer::oauth::token::mint::Order;
use crate::model::client::AccessTokenForm;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;

/// A refresh token, its family as it stands, and who shows it.
pub(in crate::issuer) struct Refreshing {
    grant: GrantRecord,
    /// Of the token shown.
    generation: u32,
    user: Option<UserRecord>,
    client: Arc<ClientRecord>,
    wanted: Option<ScopeSet>,
    window: Duration,
    now: Timestamp,
}

impl Refreshing {
    /// The token before the newest, shown again while that is forgiven.
    fn is_repeat(&self) -> bool {
        self.generation.checked_add(1) == Some(self.grant.generation) && self.now < self.grant.repeatable_until(self.window)
    }
}

pub(in crate::issuer) fn checks() -> Vec<Check<Refreshing>> {
    vec![
        Check { name: "the refresh token is this client's", run: of_this_client },
        Check { name: "the family lives", run: lives },
        Check { name: "the newest generation, or its repeat", run: newest },
        Check { name: "the family's user still stands", run: user_stands },
        Check { name: "the scope only narrows", run: narrows },
    ]
}

/// Answers a refresh token with the next one.
///
/// # Errors
/// `invalid_grant` for whatever is wrong with the token; `invalid_scope` and `invalid_target` for more than was granted.
pub(in crate::issuer) async fn refresh(bench: &Bench<'_>, form: &Arc<Form>) -> Result<Response, Refusal> {
    let shown = form.required("refresh_token")?;
    let wanted = audience::read_scopes(form.get("scope"))?;
    let handle = read_handle(&bench.rules.key_brand, shown).filter(|handle| handle.kind == HandleKind::Refresh);
    let handle = handle.filter(|handle| bench.state.peppers.prove_handle(handle).is_some()).ok_or_else(Refusal::grant)?;
    for _attempt in 0..families::ATTEMPTS {
        let (grant, version) = families::load(bench.state, handle.id).await?.ok_or_else(Refusal::grant)?;
        let user = user_of(bench, &grant).await?;
        let refreshing = Refreshing {
            grant,
            generation: handle.generation,
            user,
            client: Arc::clone(&bench.client),
            wanted: wanted.clone(),
            window: bench.issuance.lifetimes.refresh_window,
            now: bench.now,
        };
        let done = match run(&bench.checks.refresh, &refreshing) {
            Ok(()) => issue(bench, form, refreshing, version).await?,
            Err(stop) => settle(bench, refreshing.grant, version, &stop).await?.map(|()| Err(stop.refusal)),
        };
        if let Some(outcome) = done {
            return outcome;
        }
    }
    Err(families::contended(handle.id).into())
}

/// None: somebody was faster.
async fn issue(bench: &Bench<'_>, form: &Form, refreshing: Refreshing, version: u64) -> Result<Option<Result<Response, Refusal>>, Refusal> {
    let is_repeat = refreshing.is_repeat();
    let Refreshing { mut grant, user, wanted, .. } = refreshing;
    let granted = granted_resources(bench, &grant);
    let audience = audience::pick(form.all("resource"), &granted, &granted)?;
    let asked = wanted.unwrap_or_else(|| ScopeSet::clone(&grant.scopes));
    let held = families::within(&asked.intersect(&grant.scopes).intersect(&bench.client.scopes), user.as_ref()).without_reserved();
    let scopes = Arc::new(audience::at(&held, &audience, bench.issuance));
    let subject = user.as_ref().map(|user| user.subject.clone()).ok_or_else(Refusal::grant)?;
    if is_repeat && let Some(minted) = mint::remint(bench, &grant, &scopes, &audience)? {
        let refresh_token = mint::refresh_token(bench, &grant)?;
        return Ok(Some(Ok(mint::success(bench, &minted, Some(&refresh_token), None))));
    }
    if !is_repeat {
        let Some(generation) = grant.generation.checked_add(1) else {
            return Err(Refusal::grant());
        };
        grant.generation = generation;
        grant.advanced = bench.now;
        grant.pepper = Arc::from(bench.state.peppers.current_id());
        grant.idle_until = bench.now.plus(bench.issuance.lifetimes.refresh_idle).min(grant.ends);
    }
    let order = Order { subject: subject.as_str(), form: bench.client.token_form, scopes, audience, no_later_than: grant.ends, act: None };
    let minted = mint::mint(bench, &mut grant, order).await?;
    grant.idle_until = grant.idle_until.max(minted.expires).min(grant.ends);
    let refresh_token = mint::refresh_token(bench, &grant)?;
    // A repeat that is answered with a signed token changes nothing.
    let is_written = !is_repeat || matches!(bench.client.token_form, AccessTokenForm::Opaque);
    if is_written && !families::replace(bench.state, &grant, version, bench.now).await? {
        return Ok(None);
    }
    Ok(Some(Ok(mint::success(bench, &minted, Some(&refresh_token), None))))
}

fn of_this_client(refreshing: &Refreshing) -> Result<(), Stop> {
    match &refreshing.grant.of {
        GrantOf::Consent { client, .. } if *client == refreshing.client.id => Ok(()),
        GrantOf::Consent { .. } | GrantOf::Client { .. } | GrantOf::SignIn { .. } | GrantOf::Key { .. } => Err(Refusal::grant().into()),
    }
}

fn lives(refreshing: &Refreshing) -> Result<(), Stop> {
    if refreshing.grant.is_live(refreshing.now) { Ok(()) } else { Err(Refusal::grant().into()) }
}

fn newest(refreshing: &Refreshing) -> Result<(), Stop> {
    if refreshing.generation == refreshing.grant.generation || refreshing.is_repeat() {
        return Ok(());
    }
    Err(Stop { refusal: Refusal::grant(), consequence: Consequence::End(GrantEnd::Reused) })
}

fn user_stands(refreshing: &Refreshing) -> Result<(), Stop> {
    if families::stands_for(refreshing.user.as_ref(), &refreshing.grant) {
        return Ok(());
    }
    Err(Stop { refusal: Refusal::grant(), consequence: Consequence::End(GrantEnd::Revoked) })
}

fn narrows(refreshing: &Refreshing) -> Result<(), Stop> {
    let lies_within = refreshing.wanted.as_ref().is_none_or(|wanted| audience::lies_within(wanted, &refreshing.grant.scopes));
    if lies_within { Ok(()) } else { Err(audience::beyond().into()) }
}
