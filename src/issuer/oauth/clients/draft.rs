//! What is said of a new client, or of one that changes, and whether it fits together.

use std::sync::Arc;

use crate::issuer::actor::ADMIN;
use crate::issuer::actor::Actor;
use crate::issuer::checks::Check;
use crate::issuer::checks::hold;
use crate::issuer::checks::run;
use crate::issuer::input::Fields;
use crate::issuer::input::Value;
use crate::issuer::names;
use crate::issuer::oauth::clients::redirects::REDIRECTS;
use crate::issuer::oauth::clients::redirects::URIS_MAX;
use crate::issuer::oauth::clients::redirects::may_register;
use crate::issuer::problem::Problem;
use crate::model::caller::Environment;
use crate::model::client::AccessTokenForm;
use crate::model::client::ClientAuth;
use crate::model::client::ClientKind;
use crate::model::client::ClientRecord;
use crate::model::client::GrantType;
use crate::model::issuance::Issuance;
use crate::model::rules::Algorithm;
use crate::model::rules::Rules;
use crate::model::scope::ScopeSet;

const KIND: &str = "must be \"confidential\", \"public\" or \"native\"";
const AUTH: &str = "must be \"client_secret_basic\" or \"client_secret_post\" for a confidential client, \"none\" for every other";
const GRANT_TYPES: &str = "must be a list of authorization_code, refresh_token, client_credentials and \
     urn:ietf:params:oauth:grant-type:token-exchange, at least one";
const SCOPES: &str = "must be a list of scopes that the issuer's config names";
const RESOURCES: &str = "must be a list of resources that the issuer's config names";
const TOKEN_FORM: &str = "must be \"RS256\" or \"EdDSA\" for signed tokens, or \"opaque\"";
const WEBSITE: &str = "must be an https URL of up to 255 characters";
const WEBSITE_BYTES_MAX: usize = 255;

/// What a client is told to be.
#[derive(Clone, Debug)]
pub(in crate::issuer) struct Draft {
    pub(in crate::issuer) name: Arc<str>,
    pub(in crate::issuer) kind: ClientKind,
    pub(in crate::issuer) auth: ClientAuth,
    pub(in crate::issuer) redirect_uris: Vec<Arc<str>>,
    pub(in crate::issuer) grant_types: Vec<GrantType>,
    pub(in crate::issuer) scopes: Arc<ScopeSet>,
    pub(in crate::issuer) resources: Vec<Arc<str>>,
    pub(in crate::issuer) token_form: AccessTokenForm,
    pub(in crate::issuer) environment: Environment,
    pub(in crate::issuer) tier: Option<Arc<str>>,
    pub(in crate::issuer) website: Option<Arc<str>>,
}

impl Draft {
    pub(in crate::issuer) fn read(fields: &mut Fields, rules: &Rules, issuance: &Issuance) -> Result<Self, Problem> {
        let kind = fields.optional("kind", kind, KIND)?.unwrap_or(ClientKind::Confidential);
        let default_auth = if kind == ClientKind::Confidential { ClientAuth::Basic } else { ClientAuth::None };
        let uris = |value: &Value| redirect_uris(kind, value);
        let known_scopes = |value: &Value| scopes(issuance, value);
        let known_resources = |value: &Value| resources(issuance, value);
        Ok(Self {
            name: fields.required("name", names::name, names::NAME)?,
            kind,
            auth: fields.optional("token_endpoint_auth_method", auth, AUTH)?.unwrap_or(default_auth),
            redirect_uris: fields.optional("redirect_uris", uris, REDIRECTS)?.unwrap_or_default(),
            grant_types: fields
                .optional("grant_types", grant_types, GRANT_TYPES)?
                .unwrap_or_else(|| vec![GrantType::AuthorizationCode, GrantType::RefreshToken]),
            scopes: fields.optional("scopes", known_scopes, SCOPES)?.unwrap_or_default(),
            resources: fields.optional("resources", known_resources, RESOURCES)?.unwrap_or_default(),
            token_form: fields.optional("access_tokens", token_form, TOKEN_FORM)?.unwrap_or(AccessTokenForm::Jwt(issuance.algorithm)),
            environment: fields.optional("environment", names::environment, names::ENVIRONMENT)?.unwrap_or(Environment::Live),
            tier: names::tier(fields, rules)?.set(),
            website: fields.change("website", website, WEBSITE)?.set(),
        })
    }

    /// Reads the changes of a client that is there. What it is (kind, way of proof, environment) stays: its secrets and redirects rest
    /// on that.
    pub(in crate::issuer) fn change(
        record: &ClientRecord,
        fields: &mut Fields,
        rules: &Rules,
        issuance: &Issuance,
    ) -> Result<Self, Problem> {
        let mut draft = Self::of(record);
        let kind = draft.kind;
        set(&mut draft.name, fields.optional("name", names::name, names::NAME)?);
        set(&mut draft.redirect_uris, fields.optional("redirect_uris", |value| redirect_uris(kind, value), REDIRECTS)?);
        set(&mut draft.grant_types, fields.optional("grant_types", grant_types, GRANT_TYPES)?);
        set(&mut draft.scopes, fields.optional("scopes", |value| scopes(issuance, value), SCOPES)?);
        set(&mut draft.resources, fields.optional("resources", |value| resources(issuance, value), RESOURCES)?);
        set(&mut draft.token_form, fields.optional("access_tokens", token_form, TOKEN_FORM)?);
        names::tier(fields, rules)?.apply(&mut draft.tier);
        fields.change("website", website, WEBSITE)?.apply(&mut draft.website);
        Ok(draft)
    }

    pub(in crate::issuer) fn of(record: &ClientRecord) -> Self {
        Self {
            name: Arc::clone(&record.name),
            kind: record.kind,
            auth: record.auth,
            redirect_uris: record.redirect_uris.clone(),
            grant_types: record.grant_types.clone(),
            scopes: Arc::clone(&record.scopes),
            resources: record.resources.clone(),
            token_form: record.token_form,
            environment: record.environment,
            tier: record.tier.clone(),
            website: record.website.clone(),
        }
    }

    pub(in crate::issuer) fn apply(self, record: &mut ClientRecord) {
        let Self { name, kind, auth, redirect_uris, grant_types, scopes, resources, token_form, environment, tier, website } = self;
        record.name = name;
        record.kind = kind;
        record.auth = auth;
        record.redirect_uris = redirect_uris;
        record.grant_types = grant_types;
        record.scopes = scopes;
        record.resources = resources;
        record.token_form = token_form;
        record.environment = environment;
        record.tier = tier;
        record.website = website;
    }

    /// Whether its parts fit together, and it asks for nothing that its maker does not hold.
    pub(in crate::issuer) fn check(&self, actor: &Actor) -> Result<(), Problem> {
        self.consistent()
            .and_then(|()| run(&Proposal::CHECKS, &Proposal { draft: self, actor }))
            .map_err(|(field, issue)| Problem::field(field, issue))
    }

    /// Whether its parts fit together.
    pub(in crate::issuer) fn consistent(&self) -> Result<(), Misfit> {
        run(&Self::CHECKS, self)
    }

    fn asks(&self, grant_type: GrantType) -> bool {
        self.grant_types.contains(&grant_type)
    }

    pub(in crate::issuer) const CHECKS: [Check<Self, Misfit>; 6] = [
        Check {
            name: "a client proves itself as its kind can",
            run: |draft| {
                let is_confidential = draft.kind == ClientKind::Confidential;
                fits(is_confidential == (draft.auth != ClientAuth::None), "token_endpoint_auth_method", AUTH)
            },
        },
        Check {
            name: "a client is registered for something",
            run: |draft| fits(!draft.grant_types.is_empty(), "grant_types", GRANT_TYPES),
        },
        Check {
            name: "a client without a secret acts for users alone",
            run: |draft| {
                let needs_secret = draft.asks(GrantType::ClientCredentials) || draft.asks(GrantType::TokenExchange);
                let issue = "may name client_credentials and token-exchange for a confidential client alone";
                fits(!needs_secret || draft.kind == ClientKind::Confidential, "grant_types", issue)
            },
        },
        Check {
            name: "refresh tokens come with codes",
            run: |draft| {
                let has_codes = draft.asks(GrantType::AuthorizationCode) || !draft.asks(GrantType::RefreshToken);
                fits(has_codes, "grant_types", "may name refresh_token beside authorization_code alone")
            },
        },
        Check {
            name: "a code is sent to a registered place",
            run: |draft| {
                let has_place = !draft.asks(GrantType::AuthorizationCode) || !draft.redirect_uris.is_empty();
                fits(has_place, "redirect_uris", "must name at least one URI for authorization_code")
            },
        },
        Check {
            name: "nobody is sent where no code goes",
            run: |draft| {
                let is_used = draft.asks(GrantType::AuthorizationCode) || draft.redirect_uris.is_empty();
                fits(is_used, "redirect_uris", "must be absent: without authorization_code nobody is sent there")
            },
        },
    ];
}

/// The field that does not fit, and what is expected of it.
pub(in crate::issuer) type Misfit = (&'static str, &'static str);

fn fits(holds: bool, field: &'static str, issue: &'static str) -> Result<(), Misfit> {
    if holds { Ok(()) } else { Err((field, issue)) }
}

/// A client, and who would have it.
pub(in crate::issuer) struct Proposal<'a> {
    draft: &'a Draft,
    actor: &'a Actor,
}

impl Proposal<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self, Misfit>; 3] = [
        Check {
            name: "a client that acts for itself holds no more than its maker",
            run: |Proposal { draft, actor }| {
                let is_within = !draft.asks(GrantType::ClientCredentials) || actor.may_grant_all(&draft.scopes);
                fits(is_within, "scopes", "must be within what you hold, because the client would hold them itself")
            },
        },
        Check {
            name: "what is kept from live routes makes no live client",
            run: |Proposal { draft, actor }| {
                fits(actor.may_use(draft.environment), "environment", "must be \"test\": a test key makes nothing live")
            },
        },
        Check {
            name: "a client's tier is an operator's to give",
            run: |Proposal { draft, actor }| fits(draft.tier.is_none() || actor.holds(ADMIN), "tier", "is set by operators alone"),
        },
    ];
}

/// What a client names of the issuer's config.
pub(in crate::issuer) struct Named<'a> {
    issuance: &'a Issuance,
    scopes: &'a ScopeSet,
    resource: Option<&'a str>,
}

impl Named<'_> {
    pub(in crate::issuer) const CHECKS: [Check<Self>; 2] = [
        Check {
            // It holds no `tollgate:` scope and no wildcard.
            name: "a client's scopes stand in the catalogue",
            run: |named| hold(named.scopes.iter().all(|scope| named.issuance.scopes.contains_key(scope.as_str()))),
        },
        Check {
            name: "a client's resources are the issuer's",
            run: |named| hold(named.resource.is_none_or(|uri| named.issuance.resource(uri).is_some())),
        },
    ];
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn kind(value: &Value) -> Option<ClientKind> {
    match names::text(value)? {
        "confidential" => Some(ClientKind::Confidential),
        "public" => Some(ClientKind::Public),
        "native" => Some(ClientKind::Native),
        _ => None,
    }
}

pub(in crate::issuer) fn auth(value: &Value) -> Option<ClientAuth> {
    match names::text(value)? {
        "client_secret_basic" => Some(ClientAuth::Basic),
        "client_secret_post" => Some(ClientAuth::Body),
        "none" => Some(ClientAuth::None),
        _ => None,
    }
}

pub(in crate::issuer) fn grant_types(value: &Value) -> Option<Vec<GrantType>> {
    let mut found = distinct(value, GrantType::ALL.len(), |text| GrantType::ALL.into_iter().find(|known| known.as_str() == text))?;
    found.sort_unstable();
    Some(found)
}

pub(in crate::issuer) fn redirect_uris(kind: ClientKind, value: &Value) -> Option<Vec<Arc<str>>> {
    distinct(value, URIS_MAX, |text| may_register(kind, text).then(|| Arc::from(text)))
}

fn scopes(issuance: &Issuance, value: &Value) -> Option<Arc<ScopeSet>> {
    names::scopes(value).filter(|scopes| are_known(issuance, scopes))
}

/// Whether a client may have them at all.
pub(in crate::issuer) fn are_known(issuance: &Issuance, scopes: &ScopeSet) -> bool {
    run(&Named::CHECKS, &Named { issuance, scopes, resource: None }).is_ok()
}

fn resources(issuance: &Issuance, value: &Value) -> Option<Vec<Arc<str>>> {
    let none = ScopeSet::default();
    let is_known = |uri: &str| run(&Named::CHECKS, &Named { issuance, scopes: &none, resource: Some(uri) }).is_ok();
    distinct(value, issuance.resources.len(), |text| is_known(text).then(|| Arc::from(text)))
}

fn token_form(value: &Value) -> Option<AccessTokenForm> {
    match names::text(value)? {
        "RS256" => Some(AccessTokenForm::Jwt(Algorithm::Rs256)),
        "EdDSA" => Some(AccessTokenForm::Jwt(Algorithm::EdDsa)),
        "opaque" => Some(AccessTokenForm::Opaque),
        _ => None,
    }
}

pub(in crate::issuer) fn website(value: &Value) -> Option<Arc<str>> {
    let text = names::text(value)?;
    let is_web = text.starts_with("https://") && may_register(ClientKind::Confidential, text);
    (is_web && text.len() <= WEBSITE_BYTES_MAX).then(|| Arc::from(text))
}

/// A list of at most `most` different texts.
fn distinct<T: PartialEq>(value: &Value, most: usize, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let Value::List(items) = value else { return None };
    if items.len() > most {
        return None;
    }
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        let read = read(names::text(item)?)?;
        if found.contains(&read) {
            return None;
        }
        found.push(read);
    }
    Some(found)
}
