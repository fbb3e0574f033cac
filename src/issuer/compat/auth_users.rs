//! Seed 001: `POST /auth/users` makes a user, `POST /auth/token` gives a token for its name and password.

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

use crate::issuer::IssuerState;
use crate::issuer::accounts::sign_in::sign_in;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::callers::client_address;
use crate::issuer::compat::serving;
use crate::issuer::input::Fields;
use crate::issuer::names;
use crate::issuer::problem::Problem;
use crate::issuer::sign_in_tokens::token_for_sign_in;
use crate::model::issuance::Compatibility;

const TEXT: &str = "must be a text";

#[derive(Serialize)]
struct Created {
    username: String,
}

#[derive(Serialize)]
struct Token {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
}

/// A name and a password, as seeds 001 and 004 send them.
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
    /// How one comes where only who is invited can sign up.
    pub(super) invitation: Option<String>,
}

impl Login {
    pub(super) async fn read(parts: &Parts, body: Body) -> Result<Self, Problem> {
        let mut fields = Fields::read(&parts.headers, body).await?;
        let text = |value: &_| names::text(value).map(str::to_owned);
        let login = Self {
            username: fields.required("username", text, TEXT)?,
            password: fields.required("password", text, TEXT)?,
            invitation: fields.optional("invitation", text, TEXT)?,
        };
        fields.finish()?;
        Ok(login)
    }

    /// As the issuer's own sign-up wants it; the documents call a name `username`.
    pub(super) fn account(self) -> NewAccount {
        let Self { username, password, invitation } = self;
        NewAccount { name: username, password: Some(password), invitation, ..NewAccount::default() }
    }
}

pub(super) async fn create(State(state): State<IssuerState>, request: Request) -> Result<Response, Problem> {
    serving(&state, Compatibility::AuthUsers)?;
    let (parts, body) = request.into_parts();
    let login = Login::read(&parts, body).await?;
    let address = client_address(&parts, &state.rules.load());
    let signed_up = sign_up(&state, login.account(), address, state.clock.now()).await.map_err(in_their_words)?;
    Ok((StatusCode::CREATED, Json(Created { username: signed_up.user.as_str().to_owned() })).into_response())
}

pub(super) async fn token(State(state): State<IssuerState>, request: Request) -> Result<Response, Problem> {
    serving(&state, Compatibility::AuthUsers)?;
    let (parts, body) = request.into_parts();
    let login = Login::read(&parts, body).await?;
    let address = client_address(&parts, &state.rules.load());
    let now = state.clock.now();
    let user = sign_in(&state, &login.username, login.password, address, now).await?;
    let (access_token, lives) = token_for_sign_in(&state, &user, address, now).await?;
    Ok((StatusCode::CREATED, Json(Token { access_token, token_type: "Bearer", expires_in: lives.as_secs() })).into_response())
}

/// What is wrong with a `name` is wrong with what the documents call `username`.
pub(super) fn in_their_words(mut problem: Problem) -> Problem {
    if let Some(details) = problem.details.as_mut().filter(|details| details.field == "name") {
        "username".clone_into(&mut details.field);
    }
    problem
}
