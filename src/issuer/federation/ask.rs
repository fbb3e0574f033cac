//! The question to a provider: a ticket on our shelf, and the address that the browser is sent to (OpenID Connect Core section 3.1.2.1).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::accounts::shelf;
use crate::issuer::federation::answer::Stop;
use crate::issuer::federation::upstream::Metadata;
use crate::issuer::pages::visit::Visit;
use crate::issuer::tickets;
use crate::model::account::TicketRecord;
use crate::model::caller::Subject;
use crate::model::issuance::Issuance;
use crate::model::issuance::Provider;
use crate::model::time::Timestamp;
use crate::secrets::SecretError;
use crate::secrets::sha256;

/// What a ticket is for, before the provider's name.
pub(super) const SIGN_IN: &str = "federation:";
pub(super) const LINK: &str = "link:";

/// What the way back needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journey {
    /// A path of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) return_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) invitation: Option<String>,
    /// Without a person's doing: the provider is to answer at once, or not at all.
    #[serde(default)]
    pub(super) automatic: bool,
    /// Whose account the sign-in elsewhere is to be linked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) link_to: Option<Subject>,
}

/// Both are derived from the ticket's id by the pepper: fresh with each ticket, and kept nowhere.
pub(super) struct Proofs {
    pub(super) nonce: String,
    /// RFC 7636 section 4.1.
    pub(super) verifier: Zeroizing<String>,
}

impl Proofs {
    pub(super) fn of(state: &IssuerState, ticket: &str) -> Result<Self, Stop> {
        let derive = |purpose: &str| {
            let bytes = state.peppers.fingerprint(purpose, ticket.as_bytes()).ok_or(SecretError::UnknownPepper)?;
            Ok::<String, Stop>(URL_SAFE_NO_PAD.encode(bytes))
        };
        Ok(Self { nonce: derive("federation nonce")?, verifier: Zeroizing::new(derive("federation verifier")?) })
    }

    fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(sha256(self.verifier.as_bytes()))
    }
}

/// Where the provider sends the browser back to. Each provider has its own, so that none can answer for another.
pub(super) fn redirect_uri(issuance: &Issuance, provider: &Provider) -> String {
    format!("{}/sign-in/{}/callback", issuance.url, provider.name)
}

/// Begins a sign-in: the address at the provider.
pub(super) async fn ask(
    state: &IssuerState,
    provider: &Provider,
    metadata: &Metadata,
    browser: &Arc<str>,
    journey: &Journey,
    visit: &Visit,
) -> Result<String, Stop> {
    let kind = if journey.link_to.is_some() { LINK } else { SIGN_IN };
    let (ticket, handle) = tickets::write(state, &format!("{kind}{}", provider.name), browser, journey, visit.now).await?;
    let proofs = Proofs::of(state, &ticket.id)?;
    let mut scope = "openid".to_owned();
    for beside in provider.scopes.iter().filter(|scope| &***scope != "openid") {
        scope.push(' ');
        scope.push_str(beside);
    }
    let mut url = metadata.authorization_endpoint.clone();
    let mut query = url.query_pairs_mut();
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &provider.client_id)
        .append_pair("redirect_uri", &redirect_uri(&visit.issuance, provider))
        .append_pair("scope", &scope)
        .append_pair("state", &handle)
        .append_pair("nonce", &proofs.nonce)
        .append_pair("code_challenge", &proofs.challenge())
        .append_pair("code_challenge_method", "S256");
    if journey.automatic {
        query.append_pair("prompt", "none");
    }
    drop(query);
    Ok(url.into())
}

/// The ticket behind a handle, and its version. A junk text costs no look at the shelf.
pub(super) async fn find_ticket(state: &IssuerState, text: &str) -> Result<(TicketRecord, u64), Stop> {
    let id = tickets::id_of(state, text).ok_or_else(Stop::over)?;
    shelf::find(state, id).await?.ok_or_else(Stop::over)
}

/// Takes the ticket: of any number who try, one succeeds.
pub(super) async fn take_ticket(state: &IssuerState, ticket: &TicketRecord, version: u64, now: Timestamp) -> Result<(), Stop> {
    if tickets::take(state, ticket, version, now).await? { Ok(()) } else { Err(Stop::over()) }
}
