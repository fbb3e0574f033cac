//! authorization_code: a code is redeemed once, by the client that it was made for, with the verifier of its challenge.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::issuer::audit::Deed;
use crate::issuer::oauth::answer::Fault;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::checks::Check;
use crate::issuer::oauth::checks::Consequence;
use crate::issuer::oauth::checks::Stop;
use crate::issuer::oauth::checks::run;
use crate::issuer::oauth::families;
use crate::issuer::oauth::form::Form;
use crate::issuer::oauth::token::Bench;
use crate::issuer::oauth::token::audience;
use crate::issuer::oauth::token::mint;
use crate::issuer::oauth::token::mint::Order;
use crate::model::client::ClientRecord;
use crate::model::client::GrantType;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::grant::PendingCode;
use crate::model::handle::HandleKind;
use crate::model::handle::read_handle;
use crate::model::time::Timestamp;
use crate::model::user::UserRecord;
use crate::secrets::sha256;

/// Wrong verifiers that end the grant.
const FAILURES_MAX: u32 = 3;

/// A code, its grant as it stands, and who shows it with what.
pub(in crate::issuer) struct Redemption {
    grant: GrantRecord,
    user: Option<UserRecord>,
    client: Arc<ClientRecord>,
    form: Arc<Form>,
    window: Duration,
    now: Timestamp,
}

impl Redemption {
    fn pending(&self) -> Result<&PendingCode, Stop> {
        match &self.grant.state {
            GrantState::Pending(pending) => Ok(pending),
            GrantState::Live | GrantState::Ended { .. } => Err(Refusal::grant().into()),
        }
    }
}

pub(in crate::issuer) fn checks() -> Vec<Check<Redemption>> {
    vec![
        Check { name: "the code is this client's", run: of_this_client },
        Check { name: "a code is redeemed once", run: once },
        Check { name: "the code has not expired", run: in_time },
        Check { name: "the redirect URI of the code's request", run: same_redirect },
        Check { name: "the form of the verifier", run: verifier_form },
        Check { name: "the verifier of the code's challenge", run: verifier_matches },
        Check { name: "the code's user still stands", run: user_stands },
    ]
}

/// Redeems a code.
///
/// # Errors
/// `invalid_grant` for whatever is wrong with the code, of which the texts tell nothing.
pub(in crate::issuer) async fn redeem(bench: &Bench<'_>, form: &Arc<Form>) -> Result<Response, Refusal> {
    let shown = form.required("code")?;
    let handle = read_handle(&bench.rules.key_brand, shown).filter(|handle| handle.kind == HandleKind::Code && handle.generation == 0);
    let handle = handle.filter(|handle| bench.state.peppers.prove_handle(handle).is_some()).ok_or_else(Refusal::grant)?;
    for _attempt in 0..families::ATTEMPTS {
        let (grant, version) = families::load(bench.state, handle.id).await?.ok_or_else(Refusal::grant)?;
        let user = user_of(bench, &grant).await?;
        let redemption = Redemption {
            grant,
            user,
            client: Arc::clone(&bench.client),
            form: Arc::clone(form),
            window: bench.issuance.lifetimes.refresh_window,
            now: bench.now,
        };
        let done = match run(&bench.checks.code, &redemption) {
            Ok(()) => issue(bench, redemption, version).await?,
            Err(stop) => settle(bench, redemption.grant, version, &stop).await?.map(|()| Err(stop.refusal)),
        };
        if let Some(outcome) = done {
            return outcome;
        }
    }
    Err(families::contended(handle.id).into())
}

/// The local user in whose name a grant stands.
pub(in crate::issuer) async fn user_of(bench: &Bench<'_>, grant: &GrantRecord) -> Result<Option<UserRecord>, Refusal> {
    Ok(match grant.user() {
        Some(subject) => families::user(bench.state, subject).await?,
        None => None,
    })
}

/// Does to the grant what a refusal asks for; none: somebody was faster, and it must be judged anew.
pub(in crate::issuer) async fn settle(bench: &Bench<'_>, mut grant: GrantRecord, version: u64, stop: &Stop) -> Result<Option<()>, Refusal> {
    let why = match stop.consequence {
        Consequence::Nothing => return Ok(Some(())),
        Consequence::End(why) => Some(why),
        Consequence::CountFailure => match &mut grant.state {
            GrantState::Pending(pending) => {
                pending.failures = pending.failures.saturating_add(1);
                (pending.failures >= FAILURES_MAX).then_some(GrantEnd::Guessed)
            }
            GrantState::Live | GrantState::Ended { .. } => return Ok(Some(())),
        },
    };
    if let Some(why) = why {
        families::finish(&mut grant, why, bench.now);
    }
    if !families::replace(bench.state, &grant, version, bench.now).await? {
        return Ok(None);
    }
    if let Some(why) = why {
        tracing::warn!(grant = %grant.id, client = %bench.client.id, ?why, "a grant was ended by what its client showed");
        let deed = if why == GrantEnd::Reused { Deed::ReuseDetected } else { Deed::GrantRevoked };
        families::note(bench.state, &bench.client, deed, &grant, bench.address, bench.now).await;
    }
    Ok(Some(()))
}

/// None: somebody was faster.
async fn issue(bench: &Bench<'_>, redemption: Redemption, version: u64) -> Result<Option<Result<Response, Refusal>>, Refusal> {
    let Redemption { mut grant, user, form, .. } = redemption;
    let granted = granted_resources(bench, &grant);
    let audience = audience::pick(form.all("resource"), &granted, &granted)?;
    let held = families::within(&grant.scopes.intersect(&bench.client.scopes), user.as_ref()).without_reserved();
    let scopes = Arc::new(audience::at(&held, &audience, bench.issuance));
    let subject = user.as_ref().map(|user| user.subject.clone()).ok_or_else(Refusal::grant)?;
    grant.state = GrantState::Live;
    grant.generation = 1;
    grant.advanced = bench.now;
    grant.pepper = Arc::from(bench.state.peppers.current_id());
    let order = Order { subject: subject.as_str(), form: bench.client.token_form, scopes, audience, no_later_than: grant.ends, act: None };
    let minted = mint::mint(bench, &mut grant, order).await?;
    let refresh_token = if bench.client.grant_types.contains(&GrantType::RefreshToken) {
        grant.idle_until = bench.now.plus(bench.issuance.lifetimes.refresh_idle).max(minted.expires).min(grant.ends);
        Some(mint::refresh_token(bench, &grant)?)
    } else {
        grant.idle_until = minted.expires;
        grant.ends = minted.expires;
        None
    };
    if !families::replace(bench.state, &grant, version, bench.now).await? {
        return Ok(None);
    }
    tracing::info!(grant = %grant.id, client = %bench.client.id, "code redeemed");
    families::note(bench.state, &bench.client, Deed::TokenIssued, &grant, bench.address, bench.now).await;
    Ok(Some(Ok(mint::success(bench, &minted, refresh_token.as_ref().map(|text| text.as_str()), None))))
}

/// The resources of a grant that there still are.
pub(in crate::issuer) fn granted_resources(bench: &Bench<'_>, grant: &GrantRecord) -> Vec<Arc<str>> {
    grant.resources.iter().filter(|uri| bench.issuance.resource(uri).is_some()).cloned().collect()
}

fn of_this_client(redemption: &Redemption) -> Result<(), Stop> {
    match &redemption.grant.of {
        GrantOf::Consent { client, .. } if *client == redemption.client.id => Ok(()),
        GrantOf::Consent { .. } | GrantOf::Client { .. } | GrantOf::SignIn { .. } | GrantOf::Key { .. } => Err(Refusal::grant().into()),
    }
}

fn once(redemption: &Redemption) -> Result<(), Stop> {
    let grant = &redemption.grant;
    match &grant.state {
        GrantState::Pending(_) => Ok(()),
        // A double click, or a reply that was lost: the tokens of the first redemption live on.
        GrantState::Live if grant.generation == 1 && redemption.now < grant.repeatable_until(redemption.window) => {
            Err(Refusal::grant().into())
        }
        GrantState::Live => Err(Stop { refusal: Refusal::grant(), consequence: Consequence::End(GrantEnd::Reused) }),
        GrantState::Ended { .. } => Err(Refusal::grant().into()),
    }
}

fn in_time(redemption: &Redemption) -> Result<(), Stop> {
    let in_time = redemption.now < redemption.pending()?.expires && redemption.now < redemption.grant.ends;
    if in_time { Ok(()) } else { Err(Refusal::grant().into()) }
}

fn same_redirect(redemption: &Redemption) -> Result<(), Stop> {
    let pending = redemption.pending()?;
    match redemption.form.get("redirect_uri") {
        Some(shown) if *pending.redirect_uri == *shown => Ok(()),
        None if !pending.redirect_uri_named => Ok(()),
        Some(_) | None => Err(Refusal::grant().into()),
    }
}

fn verifier_form(redemption: &Redemption) -> Result<(), Stop> {
    let verifier = redemption.form.required("code_verifier")?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if (43..=128).contains(&verifier.len()) && verifier.bytes().all(allowed) {
        return Ok(());
    }
    Err(Refusal::new(Fault::InvalidGrant, "a code_verifier has 43 to 128 characters of A-Z a-z 0-9 - . _ ~").into())
}

fn verifier_matches(redemption: &Redemption) -> Result<(), Stop> {
    let verifier = redemption.form.get("code_verifier").unwrap_or_default();
    let challenge = &redemption.pending()?.challenge;
    if challenge_of(verifier, challenge) {
        return Ok(());
    }
    Err(Stop { refusal: Refusal::grant(), consequence: Consequence::CountFailure })
}

/// RFC 7636 section 4.6, in constant time. A challenge that is not there is nobody's.
fn challenge_of(verifier: &str, challenge: &str) -> bool {
    let computed = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()));
    constant_time::verify_slices_are_equal(computed.as_bytes(), challenge.as_bytes()).is_ok()
}

fn user_stands(redemption: &Redemption) -> Result<(), Stop> {
    if families::stands_for(redemption.user.as_ref(), &redemption.grant) { Ok(()) } else { Err(Refusal::grant().into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // oauth: C3 C11
    #[test]
    fn the_pair_of_the_rfc_passes() {
        let (verifier, challenge) = ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(challenge_of(verifier, challenge));
        for (verifier, challenge) in [(challenge, challenge), (verifier, ""), (verifier, verifier), ("", challenge), ("", "")] {
            assert!(!challenge_of(verifier, challenge));
        }
    }
}
