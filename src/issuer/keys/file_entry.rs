//! `/v1/keys/file-entry`: a new key for the keys file. Nothing is stored.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use crate::issuer::IssuerState;
use crate::issuer::callers::Asker;
use crate::issuer::input::Fields;
use crate::issuer::keys::Draft;
use crate::issuer::keys::draft::mint;
use crate::issuer::problem::Problem;
use crate::issuer::views::show_time;
use crate::model::hex::write_hex;
use crate::model::key::KeyId;

/// A new key for the keys file, with its secret; nothing is stored.
#[derive(Serialize)]
struct FileEntry<'a> {
    key: &'a str,
    id: &'a str,
    hash: String,
    /// The entry as it goes into the file.
    yaml: String,
}

pub(in crate::issuer) async fn file_entry(
    State(state): State<IssuerState>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut fields = Fields::read(&headers, body).await?;
    let rules = state.rules.load_full();
    let draft = Draft::read(&mut fields, &rules, &asker.actor, state.clock.now())?;
    fields.finish()?;
    let (id, text) = mint(&rules, draft.environment)?;
    let hash = state.peppers.hash(text.as_bytes());
    let hash = format!("hmac-sha256:{}:{}", hash.pepper, write_hex(&hash.digest));
    let entry = FileEntry { key: &text, id: id.as_str(), yaml: draft.yaml(&id, &hash), hash };
    Ok(axum::response::IntoResponse::into_response((StatusCode::CREATED, axum::Json(entry))))
}

impl Draft {
    fn yaml(&self, id: &KeyId, hash: &str) -> String {
        // A JSON text is a YAML text too, whatever is in it.
        let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let mut lines =
            vec![format!("- id: {id}"), format!("  name: {}", quoted(&self.name)), format!("  user: {}", quoted(self.user.as_str()))];
        let mut line = |name: &str, value: Option<String>| lines.extend(value.map(|value| format!("  {name}: {value}")));
        line("org", self.organization.as_deref().map(quoted));
        line("tier", self.tier.as_deref().map(quoted));
        let scopes: Vec<String> = self.scopes.iter().map(|scope| quoted(scope.as_str())).collect();
        line("scopes", Some(format!("[{}]", scopes.join(", "))));
        line("environment", Some(self.environment.as_str().to_owned()));
        line("rate_limit", self.rate_limit.map(|limit| limit.to_string()));
        line("version", self.pinned_version.as_deref().map(quoted));
        line("not_before", self.not_before.map(|instant| quoted(&show_time(instant))));
        line("expires", self.expires.map(|instant| quoted(&show_time(instant))));
        line("hash", Some(quoted(hash)));
        lines.join("\n") + "\n"
    }
}
