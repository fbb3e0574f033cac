//! `/v1/keys/import`: keys made elsewhere, known here only by the SHA-256 of their texts. Each entry stands or falls alone.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::issuer::IssuerState;
use crate::issuer::audit::Deed;
use crate::issuer::callers::Asker;
use crate::issuer::events::KeyEvent;
use crate::issuer::events::told;
use crate::issuer::input::Fields;
use crate::issuer::keys::ATTEMPTS;
use crate::issuer::keys::Draft;
use crate::issuer::keys::owner_of_new_key;
use crate::issuer::names;
use crate::issuer::openapi::answers::Judged;
use crate::issuer::openapi::answers::WithBody;
use crate::issuer::openapi::bodies::ImportBody;
use crate::issuer::openapi::schemas::RefusalDetails;
use crate::issuer::problem::Code;
use crate::issuer::problem::Details;
use crate::issuer::problem::Problem;
use crate::model::hex::read_hex;
use crate::model::key::KeyId;
use crate::model::key_text::key_id;
use crate::model::rules::ImportedKeys;
use crate::model::rules::Rules;
use crate::model::time::Timestamp;
use crate::secrets::random_bytes;
use crate::store::Committed;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::encode_digest_owner;
use crate::store::codec::encode_key;

/// Keys of one request.
const ENTRIES_MAX: usize = 100;

#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ImportReport)]
struct Report {
    imported: Vec<Imported>,
    failed: Vec<Failed>,
    /// Whether the gate looks at foreign keys at all (`imported_keys` in the config).
    accepted_at_the_gate: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ImportedEntry)]
struct Imported {
    index: usize,
    id: String,
}

#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FailedEntry)]
struct Failed {
    index: usize,
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RefusalDetails>)]
    details: Option<Details>,
}

/// Takes in keys made elsewhere. Each entry stands or falls alone.
#[utoipa::path(post, path = "/v1/keys/import", operation_id = "import_keys", tag = "keys", request_body = ImportBody,
    responses((status = 200, description = "What became of each.", body = Report), Judged, WithBody))]
pub(in crate::issuer) async fn import(
    State(state): State<IssuerState>,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut fields = Fields::read(&headers, body).await?;
    let now = state.clock.now();
    let rules = state.rules.load_full();
    let entries = fields.objects("keys", ENTRIES_MAX)?;
    fields.finish()?;
    let accepted_at_the_gate = rules.imported_keys == ImportedKeys::Accepted;
    let mut report = Report { imported: Vec::new(), failed: Vec::new(), accepted_at_the_gate };
    for (index, entry) in entries.into_iter().enumerate() {
        match told(&state, KeyEvent::Imported, import_one(&state, &asker, entry, &rules, now)).await {
            Ok(id) => report.imported.push(Imported { index, id: id.to_string() }),
            // Without a store the rest fails too; what was done before is said.
            Err(problem) => report.failed.push(Failed {
                index,
                code: problem.code.as_str(),
                message: problem.message.into_owned(),
                details: problem.details,
            }),
        }
    }
    Ok(Json(report).into_response())
}

async fn import_one(state: &IssuerState, asker: &Asker, mut entry: Fields, rules: &Rules, now: Timestamp) -> Result<KeyId, Problem> {
    let sha256 = entry.required("sha256", |value| read_hex(names::text(value)?), names::SHA256)?;
    let mut draft = Draft::read(&mut entry, rules, &asker.actor, now)?;
    entry.finish()?;
    for _attempt in 0..ATTEMPTS {
        let owner = owner_of_new_key(state, &asker.actor, &draft, now).await?;
        (draft.extras.made_by, draft.extras.allowed_networks) = (owner.made_by, owner.allowed_networks);
        let id = key_id(&random_bytes::<16>()?);
        let hash = state.peppers.hash_imported(&sha256);
        let (place, digest) = (RecordKey::key(id.as_str()), RecordKey::digest(&hash.digest));
        let record = draft.record(&id, hash, owner.organization, Arc::from(format!("imported {id}")), now);
        let mut preconditions = vec![Precondition::Absent(digest.clone()), Precondition::Absent(place.clone())];
        preconditions.extend(owner.preconditions);
        let mut writes = owner.writes;
        writes.push(Write::Put { key: place, bytes: encode_key(&record), expires: None });
        writes.push(Write::Put { key: digest, bytes: encode_digest_owner(&id), expires: None });
        match state.records.commit(preconditions, writes, now).await? {
            Committed::Done | Committed::Unconfirmed => {
                tracing::info!(key = %id, user = record.user.as_str(), "key imported");
                asker.note(state, Deed::KeyImported, id.as_str(), record.organization.as_deref(), now).await;
                return Ok(id);
            }
            Committed::Refused(0) => return Err(Problem::new(Code::Conflict, "a key of this hash is there already")),
            Committed::Refused(_) => {}
        }
    }
    Err(Problem::changed_meanwhile())
}
