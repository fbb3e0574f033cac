//! A door with a stub shelf behind it, and the messages that Envoy would send.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use envoy_types::pb::envoy::config::core::v3::Address;
use envoy_types::pb::envoy::config::core::v3::HeaderMap;
use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::config::core::v3::SocketAddress;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Peer;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Request as RequestAttributes;

use crate::check::Gate;
use crate::check::guard::Guard;
use crate::clock::ManualClock;
use crate::grpc::Door;
use crate::jose::Assertions;
use crate::jose::Tokens;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::Subject;
use crate::model::caller::samples;
use crate::model::client::ClientRecord;
use crate::model::grant::GrantRecord;
use crate::model::key::KeyId;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeySecret;
use crate::model::key::KeyState;
use crate::model::look_alikes::LookAlikes;
use crate::model::quota::Limit;
use crate::model::route;
use crate::model::route::Answerer;
use crate::model::route::Auth;
use crate::model::route::Route;
use crate::model::route::RouteIndex;
use crate::model::route::Versioned;
use crate::model::rules;
use crate::model::rules::FaultAnswer;
use crate::model::rules::GuardLimits;
use crate::model::rules::IdentityHeader;
use crate::model::rules::IdentityPart;
use crate::model::rules::IdentityValue;
use crate::model::rules::ImportedKeys;
use crate::model::rules::LimitsFailure;
use crate::model::rules::Place;
use crate::model::rules::Rules;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;
use crate::model::usage::Line;
use crate::model::usage::NotCounted;
use crate::model::usage::Tally;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::secrets::Pepper;
use crate::secrets::Peppers;
use crate::stats::NoStats;
use crate::store::Answer;
use crate::store::Facts;
use crate::store::Limits;
use crate::store::StoreError;
use crate::store::Take;
use crate::store::Taken;
use crate::telemetry::Metrics;
use crate::telemetry::decisions::DecisionLog;

/// A shelf whose answer hangs on the key: `good` opens, `down` fails, `hang` never answers, `panic` panics; others are unknown.
#[derive(Debug)]
pub(crate) struct StubFacts(Arc<Peppers>);

impl Facts for StubFacts {
    fn key(&self, _id: &str) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        Answer::ready(Ok(None))
    }

    fn key_by_digest(&self, digest: &[u8; 32]) -> Answer<'_, Result<Option<Arc<KeyRecord>>, StoreError>> {
        let is_of = |text: &str| self.0.imported_digests(text.as_bytes()).contains(digest);
        if is_of("good") {
            return Answer::ready(Ok(Some(Arc::new(key_record("good", &self.0)))));
        }
        if is_of("down") {
            return Answer::ready(Err(StoreError::Unavailable(String::from("no route to host"))));
        }
        if is_of("hang") {
            return Answer::Pending(Box::pin(std::future::pending()));
        }
        assert!(!is_of("panic"), "a fault point");
        Answer::ready(Ok(None))
    }

    fn user(&self, source: &str, subject: &str) -> Answer<'_, Result<Option<Arc<UserRecord>>, StoreError>> {
        Answer::ready(Ok(Some(Arc::new(UserRecord {
            source: source.into(),
            subject: Subject::parse(subject).unwrap(),
            organization: Some("acme".into()),
            tier: None,
            rights: Rights::Unlimited,
            state: UserState::Active,
            disabled_by: None,
            valid_from: None,
            created: now(),
        }))))
    }

    fn grant(&self, _id: &str) -> Answer<'_, Result<Option<Arc<GrantRecord>>, StoreError>> {
        Answer::ready(Ok(None))
    }

    fn client(&self, _id: &str) -> Answer<'_, Result<Option<Arc<ClientRecord>>, StoreError>> {
        Answer::ready(Ok(None))
    }
}

fn key_record(text: &str, peppers: &Peppers) -> KeyRecord {
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let hash = peppers.hash_imported(sha256.as_ref().try_into().unwrap());
    KeyRecord {
        id: KeyId::new(text),
        name: "test".into(),
        user: Subject::parse("alice").unwrap(),
        organization: None,
        environment: Environment::Live,
        scopes: Arc::new(ScopeSet::new([Scope::parse("tollgate:usage").unwrap()])),
        tier: None,
        rate_limit: None,
        pinned_version: None,
        secrets: vec![KeySecret { hash, retires: None }],
        state: KeyState::Active,
        created: now(),
        not_before: None,
        expires: None,
        display: text.into(),
        notes: KeyNotes::default(),
    }
}

/// Admits everything and says nothing.
#[derive(Debug)]
struct NoLimits;

impl Limits for NoLimits {
    fn take<'a>(&'a self, _takes: &'a [Take<'a>], _now: Timestamp) -> Answer<'a, Result<Taken, StoreError>> {
        Answer::ready(Ok(Taken { admitted: true, levels: Vec::new(), retry_after: None }))
    }
}

/// Counts how often it was asked.
#[derive(Debug, Default)]
pub(crate) struct StubTally(pub(crate) AtomicU64);

impl Tally for StubTally {
    fn add(&self, _line: &Line<'_>, _cost: u32) -> Result<(), NotCounted> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_700_000_000)
}

pub(crate) fn route(name: &str, auth: Auth) -> Route {
    Route { auth, versioned: Versioned::No, ..route::samples::route(name, &[], &format!("/{name}")) }
}

pub(crate) fn caller() -> Arc<Caller> {
    let scopes = Arc::new(ScopeSet::new([Scope::parse("tollgate:usage").unwrap()]));
    Arc::new(Caller { scopes, tier: Some("pro".into()), ..samples::caller() })
}

pub(crate) fn rules(fault_answer: FaultAnswer) -> Rules {
    let limit = Limit { per_minute: 600, depth: 600 };
    let mut stats = route("stats", Auth::Required);
    stats.answer = Answerer::Stats;
    let routes = vec![Arc::new(route("open", Auth::Public)), Arc::new(route("closed", Auth::Required)), Arc::new(stats)];
    let mut rules = Rules {
        route_index: RouteIndex::build(&routes).unwrap(),
        routes,
        places: vec![Place { header: "x-api-key".into(), scheme: None }],
        imported_keys: ImportedKeys::Accepted,
        identity_headers: vec![IdentityHeader { name: "x-user-id".into(), value: vec![IdentityPart::Of(IdentityValue::User)] }],
        guard: GuardLimits { per_address: limit, per_key_prefix: limit },
        limits_failure: LimitsFailure::Deny,
        fault_answer,
        log_allows: 0.0,
        usage_series_limit: 10,
        ..rules::samples::nothing()
    };
    rules.look_alikes = LookAlikes::of(&rules);
    rules
}

pub(crate) fn gate() -> Gate {
    let peppers = Arc::new(Peppers::new(Pepper { id: "p1".into(), secret: vec![7; 32].into() }, Vec::new()));
    Gate {
        facts: Arc::new(StubFacts(Arc::clone(&peppers))),
        last_known: None,
        limits: Arc::new(NoLimits),
        local_share: None,
        ledger: Arc::new(StubTally::default()),
        tokens: Arc::new(Tokens::new(8)),
        assertions: Arc::new(Assertions::ephemeral(now()).unwrap()),
        peppers,
        guard: Guard::new(),
    }
}

pub(crate) fn door(fault_answer: FaultAnswer, in_flight_max: usize) -> Arc<Door> {
    let metrics = Arc::new(Metrics::new().unwrap());
    let (decisions, _writer) = DecisionLog::start(std::io::sink(), 1024, &metrics).unwrap();
    Arc::new(Door {
        gate: Arc::new(gate()),
        rules: Arc::new(ArcSwap::from_pointee(rules(fault_answer))),
        clock: Arc::new(ManualClock::starting_at(now())),
        metrics,
        decisions,
        stats: Arc::new(NoStats),
        recorder: None,
        traces: None,
        in_flight_max,
        in_flight: AtomicUsize::new(0),
    })
}

/// What Envoy sends with its default settings.
pub(crate) fn message(path: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let headers: HashMap<String, String> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    wrap(HttpRequest {
        method: String::from("GET"),
        path: path.to_owned(),
        host: String::from("api.example.com"),
        headers,
        ..HttpRequest::default()
    })
}

/// What Envoy sends with `encode_raw_headers: true`.
pub(crate) fn raw_message(path: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let headers = headers.iter().map(|(name, value)| HeaderValue {
        key: (*name).to_owned(),
        value: String::new(),
        raw_value: value.as_bytes().to_vec(),
    });
    let mut message = message(path, &[]);
    http_of(&mut message).header_map = Some(HeaderMap { headers: headers.collect() });
    message
}

pub(crate) fn wrap(http: HttpRequest) -> CheckRequest {
    let address = AddressKind::SocketAddress(SocketAddress { address: String::from("192.0.2.7"), ..SocketAddress::default() });
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer { address: Some(Address { address: Some(address) }), ..Peer::default() }),
            request: Some(RequestAttributes { http: Some(http), ..RequestAttributes::default() }),
            ..AttributeContext::default()
        }),
    }
}

pub(crate) fn http_of(message: &mut CheckRequest) -> &mut HttpRequest {
    message.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap()
}

pub(crate) const SHORT: Duration = Duration::from_millis(50);
