//! Who the client is: exactly the one way that it is registered with (RFC 6749 section 2.3), and no sign of which part was wrong.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::oauth::answer::Refusal;
use crate::issuer::oauth::asked::Asked;
use crate::issuer::oauth::asked::Attempt;
use crate::issuer::oauth::checks::Check;
use crate::issuer::oauth::checks::Checks;
use crate::issuer::oauth::checks::Stop;
use crate::issuer::oauth::checks::run;
use crate::issuer::oauth::clients;
use crate::issuer::oauth::form::Form;
use crate::issuer::parameters::decode;
use crate::model::client::ClientAuth;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;

/// Secrets that a client may have at a time; so many are compared for every client, the unknown one included.
pub(in crate::issuer) const SECRETS_MAX: usize = 2;

/// What a request shows of its client, before anything is looked up.
pub(in crate::issuer) struct Presented {
    /// `Authorization: Basic`.
    basic: Shown,
    /// The parameter `client_id`.
    body_id: Option<String>,
    /// The parameter `client_secret`.
    body_secret: Option<Zeroizing<String>>,
    /// The parameter `client_assertion`, which no client here is registered with.
    has_assertion: bool,
    /// In how many seconds this attempt may be made.
    wait: Option<u32>,
}

/// What stands in `Authorization`.
enum Shown {
    Nothing,
    Pair {
        id: String,
        secret: Zeroizing<String>,
    },
    /// Another scheme, more than one header, or no pair.
    Unreadable,
}

/// A client that was looked up, and how its proof fared.
pub(in crate::issuer) struct ClientProof {
    record: Option<ClientRecord>,
    method: ClientAuth,
    has_secret: bool,
    matched: bool,
}

impl fmt::Debug for Presented {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Presented")
    }
}

pub(in crate::issuer) fn presented_checks() -> Vec<Check<Presented>> {
    vec![Check { name: "one way to prove a client", run: one_way }, Check { name: "guesses at a client are limited", run: may_guess }]
}

pub(in crate::issuer) fn client_checks() -> Vec<Check<ClientProof>> {
    vec![
        Check { name: "the client's registered way", run: registered_way },
        Check { name: "the client's secret", run: secret_matches },
        Check { name: "the client is active", run: is_active },
    ]
}

/// The client behind a request.
///
/// # Errors
/// `invalid_client` for whatever is wrong with the proof, `invalid_request` for two proofs, 429 after too many failed ones.
pub(in crate::issuer) async fn authenticate(
    state: &IssuerState,
    rules: &Rules,
    checks: &Checks,
    asked: &Asked,
    form: &Form,
    now: Timestamp,
) -> Result<Arc<ClientRecord>, Refusal> {
    let mut presented = Presented::read(&asked.headers, form);
    let id = presented.id().to_owned();
    let secret = Zeroizing::new(presented.secret().unwrap_or_default().to_owned());
    let attempt = Attempt::new("client", &id, &secret);
    presented.wait = attempt.wait(state, asked.address, &rules.guard, now);
    run(&checks.presented, &presented).map_err(|stop| stop.refusal)?;
    let record = clients::find(state, &id).await?.map(|(record, _revision)| record);
    let proof = ClientProof {
        method: presented.way(),
        has_secret: presented.secret().is_some(),
        matched: matches_any(&state.peppers, record.as_ref(), &secret, now),
        record,
    };
    match run(&checks.client, &proof) {
        Ok(()) => {}
        Err(stop) => {
            attempt.failed(state, asked.address, &rules.guard, now);
            return Err(stop.refusal);
        }
    }
    attempt.succeeded(state);
    proof.record.map(Arc::new).ok_or_else(Refusal::client)
}

impl Presented {
    fn read(headers: &HeaderMap, form: &Form) -> Self {
        Self {
            basic: Shown::read(headers),
            body_id: form.get("client_id").map(str::to_owned),
            body_secret: form.get("client_secret").map(|secret| Zeroizing::new(secret.to_owned())),
            has_assertion: form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some(),
            wait: None,
        }
    }

    fn id(&self) -> &str {
        match &self.basic {
            Shown::Pair { id, .. } => id,
            Shown::Nothing | Shown::Unreadable => self.body_id.as_deref().unwrap_or_default(),
        }
    }

    fn secret(&self) -> Option<&str> {
        match &self.basic {
            Shown::Pair { secret, .. } => Some(secret),
            Shown::Nothing | Shown::Unreadable => self.body_secret.as_ref().map(|secret| secret.as_str()),
        }
    }

    fn way(&self) -> ClientAuth {
        match (&self.basic, &self.body_secret) {
            (Shown::Pair { .. } | Shown::Unreadable, _) => ClientAuth::Basic,
            (Shown::Nothing, Some(_)) => ClientAuth::Body,
            (Shown::Nothing, None) => ClientAuth::None,
        }
    }
}

impl Shown {
    /// RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
    fn read(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Self::Nothing };
        if values.next().is_some() {
            return Self::Unreadable;
        }
        let pair = || {
            let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
            if !scheme.eq_ignore_ascii_case("basic") {
                return None;
            }
            let text = Zeroizing::new(String::from_utf8(STANDARD.decode(encoded.trim_start_matches(' ')).ok()?).ok()?);
            let (id, secret) = text.split_once(':')?;
            Some(Self::Pair { id: decode(id)?, secret: Zeroizing::new(decode(secret)?) })
        };
        pair().unwrap_or(Self::Unreadable)
    }
}

fn one_way(presented: &Presented) -> Result<(), Stop> {
    let ways = [!matches!(presented.basic, Shown::Nothing), presented.body_secret.is_some(), presented.has_assertion];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        return Err(Refusal::request("the client proves itself in more than one way").into());
    }
    let differs = presented.body_id.as_deref().is_some_and(|id| id != presented.id());
    if differs {
        return Err(Refusal::request("the request names two clients").into());
    }
    if presented.has_assertion || matches!(presented.basic, Shown::Unreadable) {
        return Err(Refusal::client().into());
    }
    Ok(())
}

fn may_guess(presented: &Presented) -> Result<(), Stop> {
    presented.wait.map_or(Ok(()), |seconds| Err(Refusal::too_many(seconds).into()))
}

fn registered_way(proof: &ClientProof) -> Result<(), Stop> {
    let registered = proof.record.as_ref().map(|record| record.auth);
    if registered == Some(proof.method) { Ok(()) } else { Err(Refusal::client().into()) }
}

fn secret_matches(proof: &ClientProof) -> Result<(), Stop> {
    let needs_none = proof.record.as_ref().is_some_and(|record| record.auth == ClientAuth::None) && !proof.has_secret;
    if needs_none || proof.matched { Ok(()) } else { Err(Refusal::client().into()) }
}

fn is_active(proof: &ClientProof) -> Result<(), Stop> {
    let is_active = proof.record.as_ref().is_some_and(|record| record.state == ClientState::Active);
    if is_active { Ok(()) } else { Err(Refusal::client().into()) }
}

/// Whether this is one of the client's live secrets. As much work whoever the client is, and whether there is one.
fn matches_any(peppers: &Peppers, record: Option<&ClientRecord>, secret: &str, now: Timestamp) -> bool {
    let mut secrets = record.map(|record| record.secrets.as_slice()).unwrap_or_default().iter();
    let mut matched = false;
    for _slot in 0..SECRETS_MAX {
        match secrets.next() {
            Some(known) => {
                let is_live = known.retires.is_none_or(|retires| now < retires);
                matched |= peppers.matches(secret.as_bytes(), &known.hash) && is_live;
            }
            None => {
                black_box(peppers.hash(secret.as_bytes()));
            }
        }
    }
    matched
}
