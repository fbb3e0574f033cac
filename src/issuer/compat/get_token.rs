//! Seed 003: `POST /get-token` trades a key for a short-lived token; asked again, it gives the same one with its life reset.
//!
//! Its envelope has a code of its own: 411 for a request that is refused, whatever the HTTP status says.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::issuer::IssuerState;
use crate::issuer::callers::client_address;
use crate::issuer::compat::serving;
use crate::issuer::input::Fields;
use crate::issuer::key_tokens::KeyToken;
use crate::issuer::key_tokens::token_for_key;
use crate::issuer::names;
use crate::issuer::problem::Problem;
use crate::model::issuance::Compatibility;
use crate::model::route::ErrorFormat;

/// The document's code of a refusal, in the body alone.
const REFUSED: u16 = 411;

#[derive(Serialize)]
struct Envelope<'a, T> {
    data: T,
    status: &'static str,
    code: u16,
    message: &'a str,
}

#[derive(Serialize)]
struct Given<'a> {
    auth_token: &'a str,
}

pub(super) async fn get_token(State(state): State<IssuerState>, request: Request) -> Response {
    if let Err(absent) = serving(&state, Compatibility::GetToken) {
        return absent.into_response();
    }
    match trade(&state, request).await {
        Ok(token) => {
            let data = Given { auth_token: &token.text };
            Json(Envelope { data, status: "success", code: 200, message: "token successfully created" }).into_response()
        }
        Err(problem) => refusal(&problem),
    }
}

async fn trade(state: &IssuerState, request: Request) -> Result<KeyToken, Problem> {
    let (parts, body) = request.into_parts();
    let mut fields = Fields::read(&parts.headers, body).await?;
    let text = |value: &_| names::text(value).map(|text| Zeroizing::new(text.to_owned()));
    let key = fields.required("api_key", text, "must be a text")?;
    fields.finish()?;
    let address = client_address(&parts, &state.rules.load());
    token_for_key(state, &key, address, state.clock.now()).await
}

/// Status and headers as everywhere; the body is the document's.
fn refusal(problem: &Problem) -> Response {
    let (mut head, _standard) = problem.render(ErrorFormat::Envelope, "").into_parts();
    let code = if head.status.is_server_error() { head.status.as_u16() } else { REFUSED };
    let reason = match &problem.details {
        Some(details) => format!("{}: {}", details.field, details.issue),
        None => problem.message.to_string(),
    };
    let body = Envelope { data: BTreeMap::<&str, &str>::new(), status: "failed", code, message: &reason };
    head.headers.remove(header::CONTENT_LENGTH);
    match serde_json::to_vec(&body) {
        Ok(bytes) => Response::from_parts(head, Body::from(bytes)),
        Err(_never) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
