//! `GET /v1/keys`: the keys within somebody's reach. Nothing outside of it is listed, counted, or named by a cursor.

use axum::Json;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::issuer::IssuerState;
use crate::issuer::actor::KEYS;
use crate::issuer::actor::Reach;
use crate::issuer::callers::Asker;
use crate::issuer::keys::owner::is_within;
use crate::issuer::openapi::answers::Judged;
use crate::issuer::openapi::schemas::KeyStateName;
use crate::issuer::parameters::Parameters;
use crate::issuer::problem::Problem;
use crate::issuer::views::KeyView;
use crate::issuer::views::PageView;
use crate::issuer::views::Row;
use crate::model::key::KEY_STATES;
use crate::model::key::KeyRecord;
use crate::model::key::is_key_id;
use crate::store::Family;
use crate::store::codec::decode_key;

/// Records that one list request looks at; a filter that finds little continues on the next page.
const SCANNED_MAX: usize = 20_000;
const SCANNED_TOGETHER: usize = 500;
/// What sealed cursors are sealed for.
const CURSOR: &[u8] = b"cursor keys";
const NEXT: &str = "must be the `next` of the page before";

/// The keys within the caller's reach.
#[utoipa::path(get, path = "/v1/keys", operation_id = "list_keys", tag = "keys",
    params(
        ("user" = Option<String>, Query, description = "Only this user's."),
        ("organization" = Option<String>, Query, description = "Only this organisation's."),
        ("state" = Option<KeyStateName>, Query, description = "Only those that are so now."),
        ("tag" = Option<String>, Query, description = "Only those with this tag."),
        ("limit" = Option<u16>, Query, description = "How many at the most.", minimum = 1, maximum = 500),
        ("after" = Option<String>, Query, description = "The `next` of the page before."),
    ),
    responses((status = 200, description = "A page of keys.", body = PageView<Row<KeyView>>), Judged))]
pub(in crate::issuer) async fn list(
    State(state): State<IssuerState>,
    asker: Asker,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let reach = asker.actor.reach(KEYS)?;
    let mut parameters = Parameters::read(query.as_deref())?;
    let limit = parameters.limit()?;
    let mut after = parameters.parsed("after", |text| read_cursor(&state, &reach, text), NEXT)?;
    let user = parameters.text("user");
    let organization = parameters.text("organization");
    let tag = parameters.text("tag");
    let known = |text: &str| KEY_STATES.into_iter().find(|state| *state == text);
    let wanted_state = parameters.parsed("state", known, format!("must be one of: {}", KEY_STATES.join(", ")))?;
    parameters.finish("user, organization, state, tag, limit, after")?;
    let now = state.clock.now();
    let is_wanted = |record: &KeyRecord| {
        user.as_deref().is_none_or(|user| record.user.as_str() == user)
            && organization.as_deref().is_none_or(|organization| record.organization.as_deref() == Some(organization))
            && wanted_state.is_none_or(|wanted| record.state_at(now) == wanted)
            && tag.as_ref().is_none_or(|tag| record.notes.extras().is_some_and(|extras| extras.tags.contains(tag)))
    };
    let is_filtered = !reach.is_operators() || user.is_some() || organization.is_some() || wanted_state.is_some() || tag.is_some();
    let mut data = Vec::new();
    let mut scanned = 0;
    while data.len() < limit && scanned < SCANNED_MAX {
        let together = if is_filtered { SCANNED_TOGETHER } else { limit - data.len() };
        let page = state.records.range(Family::Key, after.as_deref(), together).await?;
        after = page.next;
        let mut last = None;
        for (place, stored) in page.records {
            if data.len() == limit {
                // The next page goes on behind the last that was looked at.
                after = last;
                break;
            }
            scanned += 1;
            match decode_key(&place.id, &stored.bytes) {
                Ok(record) if is_wanted(&record) && is_within(&state, &reach, &record).await? => {
                    data.push(Row::Record(KeyView::new(&record, stored.version, &state, now).await));
                }
                Ok(_) => {}
                Err(_) if is_filtered => {}
                Err(_) => data.push(Row::unreadable(&place.id)),
            }
            last = Some(place.id);
        }
        if after.is_none() {
            break;
        }
    }
    let next = after.map(|after| write_cursor(&state, &reach, after)).transpose()?;
    Ok(Json(PageView { data, next }).into_response())
}

/// The scan may have stopped at somebody else's key, whose id is nobody's business: then the cursor is sealed.
fn write_cursor(state: &IssuerState, reach: &Reach, after: String) -> Result<String, Problem> {
    if reach.is_operators() { Ok(after) } else { Ok(URL_SAFE_NO_PAD.encode(state.peppers.wrap(after.as_bytes(), CURSOR)?)) }
}

fn read_cursor(state: &IssuerState, reach: &Reach, text: &str) -> Option<String> {
    if reach.is_operators() {
        return is_key_id(text).then(|| text.to_owned());
    }
    let sealed = URL_SAFE_NO_PAD.decode(text.get(..512).unwrap_or(text)).ok()?;
    let id = String::from_utf8(state.peppers.unwrap(&sealed, CURSOR).ok()?.to_vec()).ok()?;
    is_key_id(&id).then_some(id)
}
