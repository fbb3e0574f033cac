//! The corridor as a whole: every way through it, and what each way asks, counts and yields.

mod explain;
mod grace;
mod grants;
mod matrix;
mod patience;
mod resolve;
mod ways;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;

use crate::check::Gate;
use crate::check::Seen;
use crate::check::Step;
use crate::check::check;
use crate::check::decide::Exit;
use crate::check::decide::Grant;
use crate::check::doubles::Book;
use crate::check::doubles::Buckets;
use crate::check::doubles::Memory;
use crate::check::doubles::NOW;
use crate::check::doubles::Shelf;
use crate::check::doubles::client_record;
use crate::check::doubles::grant_record;
use crate::check::doubles::key_record;
use crate::check::doubles::key_text;
use crate::check::doubles::peppers;
use crate::check::doubles::scopes;
use crate::check::doubles::seconds_from_now;
use crate::check::doubles::user_record;
use crate::check::guard::Guard;
use crate::check::reasons::Reason;
use crate::check::samples;
use crate::jose::Assertions;
use crate::jose::KeySet;
use crate::jose::Tokens;
use crate::model::caller::Environment;
use crate::model::caller::Namespace;
use crate::model::caller::SourceName;
use crate::model::caller::Subject;
use crate::model::client::ClientId;
use crate::model::grant::AccessState;
use crate::model::grant::AccessToken;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::key::KeyId;
use crate::model::key::KeyState;
use crate::model::look_alikes::LookAlikes;
use crate::model::quota::Limit;
use crate::model::quota::Per;
use crate::model::quota::Policy;
use crate::model::request::Method;
use crate::model::request::Request;
use crate::model::route::Auth;
use crate::model::route::Cors;
use crate::model::route::Route;
use crate::model::route::samples::route;
use crate::model::rules::Algorithm;
use crate::model::rules::ClaimNames;
use crate::model::rules::Exemption;
use crate::model::rules::IdentityHeader;
use crate::model::rules::IdentityPart;
use crate::model::rules::IdentityValue;
use crate::model::rules::ImportedKeys;
use crate::model::rules::Issuer;
use crate::model::rules::IssuerKeys;
use crate::model::rules::Managed;
use crate::model::rules::Mesh;
use crate::model::rules::PrincipalGrant;
use crate::model::rules::Rules;
use crate::model::rules::Source;
use crate::model::rules::Tier;
use crate::model::rules::TierState;
use crate::model::rules::TokenId;

const LIVE_ID: &str = "AAAAAAAAAAAA";
const REVOKED_ID: &str = "BBBBBBBBBBBB";
const FILE_ID: &str = "CCCCCCCCCCCC";
const UNKNOWN_ID: &str = "DDDDDDDDDDDD";
const IMPORTED: &str = "a6b2d038-4eb1-4ca1-a3b4-2cf783ad55e1";
const APP: &str = "app_0123456789abcdefghij";
/// alice's, to the app.
const CONSENT: &str = "consent";
/// The app's own.
const MACHINE: &str = "machine";
/// alice's, and over.
const ENDED: &str = "ended";
/// Of the live key.
const OF_KEY: &str = "key-AAAAAAAAAAAA";
const WORKER: &str = "spiffe://example.org/ns/jobs/sa/worker";
const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

/// Everything that a walk needs, for tests to change before they walk.
struct House {
    rules: Rules,
    shelf: Shelf,
    /// What is left of the shelf when it falls silent.
    memory: Option<Memory>,
    buckets: Buckets,
    /// What stands in for the buckets when they fail.
    share: Option<Buckets>,
    book: Book,
}

impl House {
    fn new(auth: Auth) -> Self {
        let open = |name: &str, path: &str| Route { auth, ..route(name, &[], path) };
        let house_route =
            Route { limits: vec![policy("house", Per::Route, 600, 100)], cost: 2, cors: Cors::Preflight, ..open("house", "/house") };
        let mut rules = samples::rules(vec![house_route, open("garden", "/garden")]);
        rules.imported_keys = ImportedKeys::Accepted;
        rules.issuers = vec![issuer("free", Managed::No, TokenId::Ignored), issuer("kept", Managed::Yes, TokenId::Ignored)];
        let mut own = Issuer { source: rules.local.clone(), ..issuer("own", Managed::ByGrant, TokenId::Ignored) };
        own.claims.client = Some("client_id".into());
        rules.issuers.push(own);
        rules.mesh = Some(Mesh {
            source: source("mesh"),
            trust_domain: "example.org".into(),
            principals: BTreeMap::from([(
                WORKER.into(),
                PrincipalGrant { scopes: scopes("jobs:run"), tier: None, organization: None, limits: Exemption::Limited },
            )]),
        });
        let tier = Tier {
            name: "free".into(),
            policies: vec![policy("free", Per::Owner, 60, 10)],
            state: TierState::Active,
            grace: Duration::ZERO,
        };
        rules.tiers = BTreeMap::from([(Arc::from("free"), tier)]);
        rules.default_tier = Some("free".into());
        rules.identity_headers = vec![IdentityHeader { name: "x-user-id".into(), value: vec![IdentityPart::Of(IdentityValue::User)] }];
        rules.look_alikes = LookAlikes::of(&rules);
        let mut file_key = key_record(FILE_ID, &key_text(Environment::Live, FILE_ID, 'f'));
        file_key.user = Subject::parse("robot").unwrap();
        rules.file_keys = BTreeMap::from([(Arc::from(FILE_ID), Arc::new(file_key))]);

        let mut shelf = Shelf::default();
        shelf.hold_key(key_record(LIVE_ID, &key_text(Environment::Live, LIVE_ID, 'l')));
        let mut revoked = key_record(REVOKED_ID, &key_text(Environment::Live, REVOKED_ID, 'r'));
        revoked.state = KeyState::Revoked;
        shelf.hold_key(revoked);
        shelf.hold_imported(IMPORTED, key_record("imported-1", ""));
        shelf.hold_user(user_record("local", "alice"));
        shelf.hold_user(user_record("kept", "kim"));
        shelf.hold_client(client_record(APP));
        let (app, alice) = (ClientId::new(APP), Subject::parse("alice").unwrap());
        shelf.hold_grant(with_opaque(grant_record(CONSENT, GrantOf::Consent { client: app.clone(), user: alice.clone() })));
        shelf.hold_grant(with_opaque(grant_record(MACHINE, GrantOf::Client { client: app })));
        let ended = GrantState::Ended { at: NOW, why: GrantEnd::Revoked };
        shelf.hold_grant(GrantRecord { state: ended, ..with_opaque(grant_record(ENDED, GrantOf::SignIn { user: alice.clone() })) });
        let of_key = GrantId::of_key(&KeyId::new(LIVE_ID));
        shelf.hold_grant(grant_record(of_key.as_str(), GrantOf::Key { key: KeyId::new(LIVE_ID), user: alice }));
        Self { rules, shelf, memory: None, buckets: Buckets::default(), share: None, book: Book::default() }
    }

    /// Walks once, with everything that was left behind.
    fn walk<R>(self, request: &Request<'_>, judge: impl FnOnce(Result<&Grant<'_>, &Exit>, &Trace) -> R) -> R {
        self.walk_times(1, request, judge)
    }

    /// Walks several times with the same request; the last walk is judged.
    fn walk_times<R>(self, times: usize, request: &Request<'_>, judge: impl FnOnce(Result<&Grant<'_>, &Exit>, &Trace) -> R) -> R {
        let (gate, rules, parts) = self.open();
        for _ in 1..times {
            step_through(request, &gate, &rules, &mut Seen::default());
        }
        let mut seen = Seen::explaining();
        let ended = check(request, &gate, &rules, &mut seen, NOW).now_or_never().expect("nothing here makes anybody wait");
        let steps = seen.steps.unwrap_or_default();
        let trace = Trace { steps, asked: parts.0.asked(), takes: parts.1.asked(), lines: parts.2.lines() };
        judge(ended.as_ref(), &trace)
    }

    /// Walks with one request after another, each of which must end for its reason.
    fn walk_several(self, walks: impl FnOnce(&Walk<'_>)) {
        let (gate, rules, _) = self.open();
        walks(&|request, expected| assert_eq!(step_through(request, &gate, &rules, &mut Seen::default()), expected));
    }

    fn open(self) -> (Gate, Rules, Parts) {
        let parts = (Arc::new(self.shelf), Arc::new(self.buckets), Arc::new(self.book));
        let gate = Gate {
            facts: Arc::clone(&parts.0) as _,
            last_known: self.memory.map(|memory| Arc::new(memory) as _),
            limits: Arc::clone(&parts.1) as _,
            local_share: self.share.map(|share| Arc::new(share) as _),
            ledger: Arc::clone(&parts.2) as _,
            tokens: Arc::new(Tokens::new(16)),
            assertions: Arc::new(Assertions::ephemeral(NOW).unwrap()),
            peppers: Arc::new(peppers()),
            guard: Guard::default(),
        };
        (gate, self.rules, parts)
    }
}

fn step_through<'r>(request: &'r Request<'r>, gate: &'r Gate, rules: &'r Rules, seen: &mut Seen<'r>) -> Reason {
    let ended = check(request, gate, rules, seen, NOW).now_or_never().expect("nothing here makes anybody wait");
    reason_of(ended.as_ref())
}

fn reason_of(ended: Result<&Grant<'_>, &Exit>) -> Reason {
    match ended {
        Ok(grant) => grant.reason(),
        Err(Exit::Denied(denial)) => denial.reason,
        Err(Exit::Failed(fault)) => fault.reason,
    }
}

/// The doubles behind a gate.
type Parts = (Arc<Shelf>, Arc<Buckets>, Arc<Book>);

/// Walks with a request, which must end for this reason.
type Walk<'w> = dyn Fn(&Request<'_>, Reason) + 'w;

/// What a walk left behind.
struct Trace {
    steps: Vec<Step>,
    asked: Vec<String>,
    takes: Vec<Vec<String>>,
    lines: Vec<String>,
}

fn policy(name: &str, per: Per, per_minute: u32, depth: u32) -> Policy {
    Policy { name: name.into(), per, limit: Limit { per_minute, depth } }
}

fn source(name: &str) -> Source {
    Source { name: SourceName::parse(name).unwrap(), namespace: Namespace::Named }
}

fn issuer(name: &str, managed: Managed, token_id: TokenId) -> Issuer {
    Issuer {
        source: source(name),
        issuer: name.into(),
        audience: vec!["gate".into()],
        algorithms: vec![Algorithm::Hs256],
        keys: IssuerKeys::Fixed(Arc::new(KeySet::from_hmac_secret(SECRET, &[Algorithm::Hs256]).unwrap())),
        claims: ClaimNames {
            user: "sub".into(),
            scopes: vec!["scope".into()],
            organization: Some("org".into()),
            tier: None,
            environment: None,
            client: None,
        },
        token_type: None,
        managed,
        max_lifetime: None,
        tier: None,
        environment: Environment::Live,
        token_id,
    }
}

/// A token of one of the house's issuers, good for a minute from `age_seconds` ago.
fn token(issuer: &str, subject: &str, age_seconds: i64) -> String {
    token_named(issuer, subject, age_seconds, LIVE_ID)
}

fn token_named(issuer: &str, subject: &str, age_seconds: i64, id: &str) -> String {
    let issued = i64::try_from(NOW.unix_seconds()).unwrap() - age_seconds;
    let claims = serde_json::json!({
        "iss": issuer, "aud": "gate", "sub": subject, "scope": "conversations:read", "iat": issued, "exp": issued + 60, "jti": id,
    });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

/// A token of our own that stands on this grant.
fn own_token(grant: &str, subject: &str) -> String {
    own_token_of(grant, subject, APP)
}

fn own_token_of(grant: &str, subject: &str, client: &str) -> String {
    let issued = NOW.unix_seconds();
    let claims = serde_json::json!({
        "iss": "own", "aud": "gate", "sub": subject, "scope": "conversations:read", "iat": issued, "exp": issued + 60, "jti": "jti-1",
        "gid": grant, "client_id": client,
    });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

/// The grant with one opaque token out, number 7.
fn with_opaque(grant: GrantRecord) -> GrantRecord {
    let state = AccessState::Out { issued: NOW, scopes: scopes("conversations:read"), audience: vec!["gate".into()] };
    GrantRecord { access: vec![AccessToken { id: "7".into(), state, expires: seconds_from_now(60) }], ..grant }
}

/// A request to the house with one credential.
fn with_key<'m>(key: &'m str) -> Request<'m> {
    samples::request(Method::Get, "/house", &[("x-api-key", key)])
}
