//! `GET /v1/audit`: the entries within the caller's reach, in the order of the chains' beginnings and within a chain in the order of
//! the deeds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::issuer::IssuerState;
use crate::issuer::actor::Actor;
use crate::issuer::actor::Reach;
use crate::issuer::actor::USERS;
use crate::issuer::audit::Deed;
use crate::issuer::audit::changes::Change;
use crate::issuer::audit::finish;
use crate::issuer::audit::people;
use crate::issuer::audit::people::NameRecord;
use crate::issuer::audit::record::Address;
use crate::issuer::audit::record::AuditRecord;
use crate::issuer::audit::record::Party;
use crate::issuer::audit::record::entry_id;
use crate::issuer::audit::record::read_entry_id;
use crate::issuer::audit::record::unmask_address;
use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::names::read_instant;
use crate::issuer::parameters::Parameters;
use crate::issuer::problem::Problem;
use crate::issuer::views::PageView;
use crate::issuer::views::Row;
use crate::issuer::views::show_time;
use crate::model::time::Timestamp;
use crate::store::Family;
use crate::store::codec::Shelved;

/// Entries that one request looks at; a filter that finds little continues on the next page.
const SCANNED_MAX: usize = 20_000;
const SCANNED_TOGETHER: usize = 500;
const WHEN: &str = "must be a day such as 2027-01-31 or a time such as 2027-01-31T00:00:00Z";

/// An entry as people read it.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AuditEntry, example = json!({
    "id": "0001-000000000042", "time": "2027-01-15T08:00:00Z", "deed": "key.changed", "actor": "ann", "actor_kind": "person",
    "via": "session", "subject": "4Fz0c2Qk1LmN", "subject_kind": "thing", "organization": "acme", "address": "192.0.2.7",
    "request_id": "req_5dQxmJ3kP0aV7tYcW2bN8e",
    "changes": [{"setting": "rate_limit", "before": null, "after": 60}, {"setting": "name"}]
}))]
pub(in crate::issuer) struct EntryView {
    id: Arc<str>,
    #[schema(format = DateTime)]
    time: String,
    deed: Arc<str>,
    /// A name, an id, or of an erased person the pseudonym.
    actor: Option<Arc<str>>,
    /// `operator`, `nobody`, `person`, `erased`, `client` or `principal`.
    actor_kind: &'static str,
    /// By which credential: `key:…`, `client:…` or `session`; of an operator `control socket`, or `opened store` while nothing served.
    via: Option<Arc<str>>,
    subject: Option<Arc<str>>,
    /// `thing` (what the deed's first word says), `person`, `erased` or `unknown`.
    subject_kind: &'static str,
    organization: Option<Arc<str>>,
    /// The client's, as far as `issuer.trusted_hops` counts the proxies before us. None over a Unix socket.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    request_id: Option<Arc<str>>,
    /// What a change changed.
    changes: Vec<ChangeView>,
}

/// A setting that was changed. Without `before` and `after`: it may be personal or a secret, and the log does not say what it was.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AuditChange, example = json!({"setting": "scopes", "before": ["orders:read"], "after": ["orders:read", "orders:write"]}))]
struct ChangeView {
    setting: Arc<str>,
    /// As the API shows it. Of a long list the first 20, what differs before what does not, and a last text that says how many more.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

/// What is asked for.
pub(in crate::issuer) struct Filter {
    reach: Reach,
    /// The pseudonym of whom `reach` is restricted to.
    own: Option<Arc<str>>,
    subject: Option<Wanted>,
    actor: Option<Wanted>,
    deed: Option<Deed>,
    organization: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

/// A party that is asked for: by its id or pseudonym, or a person by name.
struct Wanted {
    text: String,
    pseudonym: Option<Arc<str>>,
}

pub(super) async fn list(
    State(state): State<IssuerState>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::read(query.as_deref())?;
    let limit = parameters.limit()?;
    let is_entry = |text: &str| read_entry_id(text).is_some().then(|| text.to_owned());
    let mut after = parameters.parsed("after", is_entry, "must be the `next` of the page before")?;
    let filter = Filter::read(&state, &actor, &mut parameters).await?;
    parameters.finish("subject, actor, deed, organization, from, to, limit, after")?;
    // Whoever asks after a sign-in is to find it.
    finish(&state).await;
    let mut people = People::default();
    let mut data = Vec::new();
    let mut scanned = 0;
    'pages: while data.len() < limit && scanned < SCANNED_MAX {
        let page = state.records.range(Family::Audit, after.as_deref(), SCANNED_TOGETHER).await?;
        let mut last = None;
        for (place, stored) in page.records {
            if data.len() == limit {
                // The next page goes on behind the last that was looked at.
                after = last;
                break 'pages;
            }
            scanned += 1;
            match AuditRecord::decode(&place.id, &stored.bytes) {
                Ok(record) if filter.to.is_some_and(|to| record.at >= to) => {
                    // Within a chain time only moves on: the rest of this one lies behind the end.
                    after = read_entry_id(&place.id).map(|(instance, _sequence)| entry_id(instance, u64::MAX));
                    continue 'pages;
                }
                Ok(record) if filter.admits(&record) => data.push(Row::Record(people.view(&state, record).await?)),
                Ok(_) => {}
                Err(_) if filter.reach.is_operators() => data.push(Row::unreadable(&place.id)),
                // Whose it is cannot be read either.
                Err(_) => {}
            }
            last = Some(place.id);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(Json(PageView { data, next: after }).into_response())
}

impl Filter {
    async fn read(state: &IssuerState, actor: &Actor, parameters: &mut Parameters) -> Result<Self, Problem> {
        let reach = actor.reach(USERS)?;
        let own = match &reach {
            Reach::Own(user) => people::find(&*state.records, people::LOCAL, user.as_str()).await?.map(|name| name.pseudonym),
            Reach::Everything | Reach::Organization(_) => None,
        };
        let deeds = Deed::ALL.map(Deed::as_str).join(", ");
        let known = |text: &str| Deed::ALL.into_iter().find(|deed| deed.as_str() == text);
        Ok(Self {
            reach,
            own,
            subject: Wanted::read(state, parameters.text("subject")).await?,
            actor: Wanted::read(state, parameters.text("actor")).await?,
            deed: parameters.parsed("deed", known, format!("must be one of: {deeds}"))?,
            organization: parameters.text("organization"),
            from: parameters.parsed("from", read_when, WHEN)?,
            to: parameters.parsed("to", read_when, WHEN)?,
        })
    }

    fn admits(&self, record: &AuditRecord) -> bool {
        run(&Entry::CHECKS, &Entry { filter: self, record }).is_ok()
            && self.subject.as_ref().is_none_or(|wanted| wanted.is(&record.subject))
            && self.actor.as_ref().is_none_or(|wanted| wanted.is(&record.actor))
            && self.deed.is_none_or(|deed| *record.deed == *deed.as_str())
            && self.organization.as_deref().is_none_or(|organization| record.organization.as_deref() == Some(organization))
            && self.from.is_none_or(|from| record.at >= from)
    }
}

/// An entry, and who would read it.
pub(in crate::issuer) struct Entry<'a> {
    filter: &'a Filter,
    record: &'a AuditRecord,
}

impl Entry<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 2] = [
        Check {
            name: "who manages an organisation reads its entries",
            run: |entry| match &entry.filter.reach {
                Reach::Organization(own) => hold(entry.record.organization.as_ref() == Some(own)),
                Reach::Everything | Reach::Own(_) => Ok(()),
            },
        },
        Check {
            name: "everybody else reads the entries that name them",
            run: |entry| match &entry.filter.reach {
                Reach::Own(_) => hold(entry.filter.own.as_ref().is_some_and(|own| entry.names(own))),
                Reach::Everything | Reach::Organization(_) => Ok(()),
            },
        },
    ];

    fn names(&self, pseudonym: &str) -> bool {
        [&self.record.actor, &self.record.subject].into_iter().any(|party| party.is_person(pseudonym))
    }
}

impl Party {
    fn is_person(&self, pseudonym: &str) -> bool {
        match self {
            Self::Person(known) => **known == *pseudonym,
            Self::Operator | Self::Nobody | Self::Client(_) | Self::Principal(_) | Self::Thing(_) | Self::Unknown => false,
        }
    }
}

impl Wanted {
    async fn read(state: &IssuerState, text: Option<String>) -> Result<Option<Self>, Problem> {
        let Some(text) = text else { return Ok(None) };
        // A person of our own by its name, another one with its source before it.
        let local = people::find(&*state.records, people::LOCAL, &text).await?;
        let found = match (local, text.split_once(':')) {
            (None, Some((source, subject))) => people::find(&*state.records, source, subject).await?,
            (local, _) => local,
        };
        Ok(Some(Self { pseudonym: found.map(|name| name.pseudonym), text }))
    }

    fn is(&self, party: &Party) -> bool {
        match party {
            Party::Operator => self.text == "operator",
            Party::Nobody => self.text == "nobody",
            Party::Unknown => self.text == "unknown",
            Party::Client(id) | Party::Principal(id) | Party::Thing(id) => **id == *self.text,
            Party::Person(pseudonym) => **pseudonym == *self.text || self.pseudonym.as_ref() == Some(pseudonym),
        }
    }
}

/// The names that one answer needs, each read once.
#[derive(Default)]
struct People(BTreeMap<Arc<str>, Option<NameRecord>>);

impl People {
    async fn name(&mut self, state: &IssuerState, pseudonym: &Arc<str>) -> Result<Option<&NameRecord>, Problem> {
        if !self.0.contains_key(pseudonym) {
            let found = people::behind(&*state.records, pseudonym).await?;
            self.0.insert(Arc::clone(pseudonym), found);
        }
        Ok(self.0.get(pseudonym).and_then(Option::as_ref))
    }

    async fn party(&mut self, state: &IssuerState, party: &Party) -> Result<(Option<Arc<str>>, &'static str), Problem> {
        Ok(match party {
            Party::Operator => (None, "operator"),
            Party::Nobody => (None, "nobody"),
            Party::Unknown => (None, "unknown"),
            Party::Client(id) => (Some(Arc::clone(id)), "client"),
            Party::Principal(id) => (Some(Arc::clone(id)), "principal"),
            Party::Thing(id) => (Some(Arc::clone(id)), "thing"),
            Party::Person(pseudonym) => match self.name(state, pseudonym).await? {
                Some(name) if *name.source == *people::LOCAL => (Some(Arc::clone(&name.subject)), "person"),
                Some(name) => (Some(Arc::from(format!("{}:{}", name.source, name.subject))), "person"),
                None => (Some(Arc::clone(pseudonym)), "erased"),
            },
        })
    }

    async fn view(&mut self, state: &IssuerState, record: AuditRecord) -> Result<EntryView, Problem> {
        let (actor, actor_kind) = self.party(state, &record.actor).await?;
        let (subject, subject_kind) = self.party(state, &record.subject).await?;
        let address = match &record.address {
            None => None,
            Some(Address::Plain(address)) => Some(*address),
            Some(Address::Masked { by, text }) => {
                let seal = self.name(state, by).await?.and_then(NameRecord::seal_bytes);
                seal.and_then(|seal| unmask_address(&seal, &record.id, text))
            }
        };
        Ok(EntryView {
            time: show_time(record.at),
            id: record.id,
            deed: record.deed,
            actor,
            actor_kind,
            via: record.via,
            subject,
            subject_kind,
            organization: record.organization,
            address,
            request_id: record.request_id,
            changes: record.changes.into_iter().map(ChangeView::new).collect(),
        })
    }
}

impl ChangeView {
    fn new(change: Change) -> Self {
        let (before, after) = change.values.unzip();
        Self { setting: change.setting, before, after }
    }
}

fn read_when(text: &str) -> Option<Timestamp> {
    if text.len() == 10 { read_instant(&format!("{text}T00:00:00Z")) } else { read_instant(text) }
}
