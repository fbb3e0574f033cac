//! What somebody says of a new key, and the key that is made of it.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::issuer::actor::Actor;
use crate::issuer::input::Fields;
use crate::issuer::names;
use crate::issuer::problem::Problem;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::key::KeyExtras;
use crate::model::key::KeyId;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeySecret;
use crate::model::key::KeyState;
use crate::model::key::SecretHash;
use crate::model::key_text::key_prefix;
use crate::model::key_text::write_key;
use crate::model::rules::Rules;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::secrets::Peppers;
use crate::secrets::SecretError;
use crate::secrets::random_bytes;
use crate::store::Precondition;
use crate::store::RecordKey;
use crate::store::Write;
use crate::store::codec::encode_key;

/// What somebody says of a new key.
#[derive(Clone, Debug)]
pub(in crate::issuer) struct Draft {
    pub name: Arc<str>,
    pub user: Subject,
    pub organization: Option<Arc<str>>,
    pub environment: Environment,
    pub scopes: Arc<ScopeSet>,
    pub tier: Option<Arc<str>>,
    pub rate_limit: Option<u32>,
    pub pinned_version: Option<Arc<str>>,
    pub not_before: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    /// But for `made_by`, and the networks where none are named, which [`owner_of_new_key`](super::owner_of_new_key) finds.
    pub extras: KeyExtras,
}

impl Draft {
    /// A live key of this user that says nothing else.
    pub(in crate::issuer) fn new(name: Arc<str>, user: Subject, scopes: Arc<ScopeSet>) -> Self {
        Self {
            name,
            user,
            organization: None,
            environment: Environment::Live,
            scopes,
            tier: None,
            rate_limit: None,
            pinned_version: None,
            not_before: None,
            expires: None,
            extras: KeyExtras::default(),
        }
    }

    /// Whoever has a user and names none means its own.
    pub(in crate::issuer) fn read(fields: &mut Fields, rules: &Rules, maker: &Actor, now: Timestamp) -> Result<Self, Problem> {
        let name = fields.required("name", names::name, names::NAME)?;
        let user = match (fields.optional("user", names::subject, names::SUBJECT)?, maker.user()) {
            (Some(user), _) => user,
            (None, Some(own)) => own.clone(),
            (None, None) => return Err(fields.complaint("user", format!("is required and {}", names::SUBJECT))),
        };
        let draft = Self {
            name,
            user,
            organization: fields.change("organization", names::organization, names::SUBJECT)?.set(),
            environment: fields.optional("environment", names::environment, names::ENVIRONMENT)?.unwrap_or(Environment::Live),
            scopes: fields.optional("scopes", names::scopes, names::SCOPES)?.unwrap_or_default(),
            tier: names::tier(fields, rules)?.set(),
            rate_limit: fields.change("rate_limit", names::rate_limit, names::RATE_LIMIT)?.set(),
            pinned_version: names::version(fields, rules)?.set(),
            not_before: fields.change("not_before", names::instant, names::INSTANT)?.set(),
            expires: names::expiry(fields, now)?.set(),
            extras: KeyExtras {
                allowed_networks: fields.change("allowed_networks", names::networks, names::NETWORKS)?.set().unwrap_or_default(),
                metadata: fields.change("metadata", names::metadata, names::METADATA)?.set().unwrap_or_default(),
                tags: fields.change("tags", names::tags, names::TAGS)?.set().unwrap_or_default(),
                ..KeyExtras::default()
            },
        };
        if draft.not_before.zip(draft.expires).is_some_and(|(begin, end)| end <= begin) {
            return Err(fields.complaint("not_before", "must lie before the expiry"));
        }
        Ok(draft)
    }

    pub(in crate::issuer) fn record(
        &self,
        id: &KeyId,
        hash: SecretHash,
        organization: Option<Arc<str>>,
        display: Arc<str>,
        now: Timestamp,
    ) -> KeyRecord {
        KeyRecord {
            id: id.clone(),
            name: Arc::clone(&self.name),
            user: self.user.clone(),
            organization,
            environment: self.environment,
            scopes: Arc::clone(&self.scopes),
            tier: self.tier.clone(),
            rate_limit: self.rate_limit,
            pinned_version: self.pinned_version.clone(),
            secrets: vec![KeySecret { hash, retires: None }],
            state: KeyState::Active,
            created: now,
            not_before: self.not_before,
            expires: self.expires,
            display,
            notes: KeyNotes::new(self.extras.clone()),
        }
    }
}

/// A key that is about to be stored, and its text, which is nowhere else.
#[derive(Debug)]
pub(in crate::issuer) struct NewKey {
    pub record: KeyRecord,
    pub text: Zeroizing<String>,
}

impl NewKey {
    /// A fresh key as drafted.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(in crate::issuer) fn make(draft: &Draft, rules: &Rules, peppers: &Peppers, now: Timestamp) -> Result<Self, SecretError> {
        let (id, text) = mint(rules, draft.environment)?;
        let display = own_display(rules, draft.environment, &id);
        let record = draft.record(&id, peppers.hash(text.as_bytes()), draft.organization.clone(), display, now);
        Ok(Self { record, text })
    }

    /// What its commit asks for and does.
    pub(in crate::issuer) fn commit(&self) -> (Precondition, Write) {
        let place = RecordKey::key(self.record.id.as_str());
        let write = Write::Put { key: place.clone(), bytes: encode_key(&self.record), expires: None };
        (Precondition::Absent(place), write)
    }
}

pub(in crate::issuer) fn own_display(rules: &Rules, environment: Environment, id: &KeyId) -> Arc<str> {
    Arc::from(format!("{}{id}", key_prefix(&rules.key_brand, environment)))
}

pub(in crate::issuer) fn mint(rules: &Rules, environment: Environment) -> Result<(KeyId, Zeroizing<String>), SecretError> {
    let secret = Zeroizing::new(random_bytes::<32>()?);
    Ok(write_key(&rules.key_brand, environment, &random_bytes::<16>()?, &secret))
}
