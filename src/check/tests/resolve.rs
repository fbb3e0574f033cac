//! Resolving by table: whatever a proof and the facts behind it can be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::check::decide::Exit;
use crate::check::doubles::NOW;
use crate::check::doubles::corrupt;
use crate::check::doubles::down;
use crate::check::doubles::key_record;
use crate::check::doubles::key_text;
use crate::check::doubles::peppers;
use crate::check::doubles::scopes;
use crate::check::doubles::seconds_from_now;
use crate::check::doubles::sha256;
use crate::check::doubles::user_record;
use crate::check::prove::Proof;
use crate::check::reasons::Reason;
use crate::check::resolve::FoundFacts;
use crate::check::resolve::KeyFact;
use crate::check::resolve::UserFact;
use crate::check::resolve::resolve;
use crate::check::samples;
use crate::jose::KeySet;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::Namespace;
use crate::model::caller::ProvenBy;
use crate::model::caller::SourceName;
use crate::model::caller::Subject;
use crate::model::claims::VerifiedClaims;
use crate::model::key::KeyId;
use crate::model::key::KeyRecord;
use crate::model::key::KeySecret;
use crate::model::key::KeyState;
use crate::model::key_text::OwnKey;
use crate::model::rules::Algorithm;
use crate::model::rules::ClaimNames;
use crate::model::rules::Exemption;
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
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;
use crate::store::StoreError;

const ID: &str = "AAAAAAAAAAAA";
const WORKER: &str = "spiffe://example.org/ns/jobs/sa/worker";

pub(super) fn rules() -> Rules {
    let tier = |name: &str, state| (Arc::from(name), Tier { name: name.into(), policies: Vec::new(), state, grace: Duration::ZERO });
    let mut rules = samples::rules(Vec::new());
    rules.tiers = BTreeMap::from([
        tier("free", TierState::Active),
        tier("pro", TierState::Active),
        tier("enterprise", TierState::Active),
        tier("closed", TierState::Disabled),
    ]);
    rules.default_tier = Some("free".into());
    rules.issuers = vec![issuer(Managed::No, TokenId::Ignored)];
    rules
}

pub(super) fn issuer(managed: Managed, token_id: TokenId) -> Issuer {
    Issuer {
        source: Source { name: SourceName::parse("idp").unwrap(), namespace: Namespace::Named },
        issuer: "https://id.example.com".into(),
        audience: vec!["gate".into()],
        algorithms: vec![Algorithm::Hs256],
        keys: IssuerKeys::Fixed(Arc::new(KeySet::from_hmac_secret(&[7; 32], &[Algorithm::Hs256]).unwrap())),
        claims: ClaimNames { user: "sub".into(), scopes: Vec::new(), organization: None, tier: None, environment: None, client: None },
        token_type: None,
        managed,
        max_lifetime: None,
        tier: Some("pro".into()),
        environment: Environment::Live,
        token_id,
    }
}

fn claims() -> VerifiedClaims {
    VerifiedClaims {
        issuer: 0,
        subject: Subject::parse("alice").unwrap(),
        scopes: scopes("conversations:read messages:write"),
        organization: Some("claimed".into()),
        tier: None,
        environment: None,
        client: Some("app".into()),
        grant: None,
        token_id: Some(ID.into()),
        issued: Some(NOW),
        not_before: None,
        expires: seconds_from_now(60),
    }
}

fn text() -> String {
    key_text(Environment::Live, ID, 'l')
}

fn own(text: &str) -> Proof<'_> {
    Proof::OwnKey(OwnKey { text, environment: Environment::Live, id: ID })
}

/// What the store answered about a key and its user.
fn stored(record: KeyRecord, user: UserRecord) -> FoundFacts {
    FoundFacts {
        key: KeyFact::FromStore(Ok(Some(Arc::new(record)))),
        user: UserFact::FromStore(Ok(Some(Arc::new(user)))),
        ..FoundFacts::NONE
    }
}

fn alice() -> UserRecord {
    user_record("local", "alice")
}

fn about_user(answer: Result<Option<UserRecord>, StoreError>) -> FoundFacts {
    FoundFacts { user: UserFact::FromStore(answer.map(|user| user.map(Arc::new))), ..FoundFacts::NONE }
}

fn reason(result: Result<Option<Arc<Caller>>, Exit>) -> Result<Arc<Caller>, Reason> {
    match result {
        Ok(caller) => Ok(caller.expect("somebody")),
        Err(Exit::Denied(denial)) => Err(denial.reason),
        Err(Exit::Failed(fault)) => Err(fault.reason),
    }
}

/// Resolves a key after a change to its record, its user and the rules.
fn key_after(change: impl FnOnce(&mut KeyRecord, &mut UserRecord, &mut Rules)) -> Result<Arc<Caller>, Reason> {
    let (text, mut rules, mut user) = (text(), rules(), alice());
    let mut record = key_record(ID, &text);
    change(&mut record, &mut user, &mut rules);
    reason(resolve(&own(&text), None, &stored(record, user), None, &rules, &peppers(), NOW))
}

fn token_after(facts: &FoundFacts, change: impl FnOnce(&mut VerifiedClaims, &mut Rules)) -> Result<Arc<Caller>, Reason> {
    let (mut claims, mut rules) = (claims(), rules());
    change(&mut claims, &mut rules);
    reason(resolve(&Proof::Token(Arc::new(claims)), None, facts, None, &rules, &peppers(), NOW))
}

#[test]
fn a_good_key_is_its_owner() {
    let caller = key_after(|record, _, _| {
        record.organization = Some("acme".into());
        record.rate_limit = Some(60);
        record.pinned_version = Some("2024-01-01".into());
        record.expires = Some(seconds_from_now(60));
    })
    .unwrap();
    assert_eq!(caller.proven_by, ProvenBy::Key);
    assert_eq!((caller.user.as_str(), caller.source.as_str(), caller.subject.as_str()), ("alice", "local", "alice"));
    assert_eq!((caller.organization.as_deref(), caller.tier.as_deref()), (Some("acme"), Some("free")));
    assert_eq!(caller.key.as_ref().map(|key| key.as_str()), Some(ID));
    assert_eq!((caller.key_rate_limit, caller.pinned_version.as_deref()), (Some(60), Some("2024-01-01")));
    assert_eq!((caller.environment, caller.expires), (Environment::Live, Some(seconds_from_now(60))));
    assert_eq!(caller.scopes, scopes("conversations:*"));
    assert_eq!((&caller.issuer, &caller.client), (&None, &None));
}

// battery: K17
#[test]
fn a_key_opens_only_while_it_stands() {
    type Change = fn(&mut KeyRecord, &mut UserRecord, &mut Rules);
    let table: [(&str, Change, Option<Reason>); 19] = [
        ("revoked", |key, _, _| key.state = KeyState::Revoked, Some(Reason::Revoked)),
        ("disabled", |key, _, _| key.state = KeyState::Disabled, Some(Reason::Disabled)),
        ("expired at this very instant", |key, _, _| key.expires = Some(NOW), Some(Reason::Expired)),
        ("expired", |key, _, _| key.expires = Some(seconds_from_now(-1)), Some(Reason::Expired)),
        ("about to expire", |key, _, _| key.expires = Some(Timestamp::from_nanos(NOW.as_nanos() + 1)), None),
        ("not yet valid", |key, _, _| key.not_before = Some(Timestamp::from_nanos(NOW.as_nanos() + 1)), Some(Reason::NotYetValid)),
        ("valid from now on", |key, _, _| key.not_before = Some(NOW), None),
        ("revoked and expired", |key, _, _| (key.state, key.expires) = (KeyState::Revoked, Some(NOW)), Some(Reason::Revoked)),
        ("user disabled", |_, user, _| user.state = UserState::Disabled, Some(Reason::Disabled)),
        ("key's tier disabled", |key, _, _| key.tier = Some("closed".into()), Some(Reason::Disabled)),
        ("user's tier disabled", |_, user, _| user.tier = Some("closed".into()), Some(Reason::Disabled)),
        ("default tier disabled", |_, _, rules| rules.default_tier = Some("closed".into()), Some(Reason::Disabled)),
        ("in grace", |key, _, _| key.secrets[0].retires = Some(Timestamp::from_nanos(NOW.as_nanos() + 1)), None),
        ("grace over", |key, _, _| key.secrets[0].retires = Some(NOW), Some(Reason::Expired)),
        ("no secrets", |key, _, _| key.secrets.clear(), Some(Reason::UnknownKey)),
        ("another environment in the record", |key, _, _| key.environment = Environment::Test, Some(Reason::UnknownKey)),
        ("another id in the record", |key, _, _| key.id = KeyId::new("other"), Some(Reason::UnknownKey)),
        ("a pepper nobody has", |key, _, _| key.secrets[0].hash.pepper = "lost".into(), Some(Reason::UnknownKey)),
        (
            "owner moved to another organisation",
            |key, user, _| (key.organization, user.organization) = (Some("acme".into()), Some("umbrella".into())),
            Some(Reason::Revoked),
        ),
    ];
    for (name, change, refused) in table {
        assert_eq!(key_after(change).err(), refused, "{name}");
    }
}

// battery: K2
#[test]
fn any_wrong_character_of_the_secret_is_an_unknown_key() {
    let good = text();
    let facts = stored(key_record(ID, &good), alice());
    for position in [24, 45, good.len() - 1] {
        let mut wrong = good.clone();
        wrong.replace_range(position..=position, "z");
        assert_eq!(
            reason(resolve(&own(&wrong), None, &facts, None, &rules(), &peppers(), NOW)).err(),
            Some(Reason::UnknownKey),
            "{position}"
        );
    }
}

#[test]
fn during_a_rotation_both_secrets_open_and_only_the_old_one_retires() {
    let (old, new) = (key_text(Environment::Live, ID, 'o'), key_text(Environment::Live, ID, 'n'));
    let mut record = key_record(ID, &new);
    record.secrets.push(KeySecret { hash: peppers().hash(old.as_bytes()), retires: Some(seconds_from_now(10)) });
    let facts = stored(record, alice());
    for (text, later, refused) in [(&new, 0, None), (&old, 0, None), (&old, 9, None), (&old, 10, Some(Reason::Expired)), (&new, 10, None)] {
        let result = resolve(&own(text), None, &facts, None, &rules(), &peppers(), seconds_from_now(later));
        assert_eq!(reason(result).err(), refused, "after {later} s");
    }
}

// battery: K1 K21
#[test]
fn what_the_shelf_says_or_fails_to_say_of_a_key() {
    let text = text();
    let record = || Arc::new(key_record(ID, &text));
    let user = || UserFact::FromStore(Ok(Some(Arc::new(alice()))));
    let table = [
        (KeyFact::FromStore(Ok(None)), UserFact::NotAsked, Reason::UnknownKey),
        (KeyFact::FromStore(Err(down())), UserFact::NotAsked, Reason::StoreUnavailable),
        (KeyFact::FromStore(Err(corrupt())), UserFact::NotAsked, Reason::CorruptRecord),
        (KeyFact::NotAsked, user(), Reason::Internal),
        (KeyFact::FromStore(Ok(Some(record()))), UserFact::NotAsked, Reason::Internal),
        (KeyFact::FromStore(Ok(Some(record()))), UserFact::FromStore(Ok(None)), Reason::UnknownUser),
        (KeyFact::FromStore(Ok(Some(record()))), UserFact::FromStore(Err(down())), Reason::StoreUnavailable),
        (KeyFact::FromStore(Ok(Some(record()))), UserFact::FromStore(Err(corrupt())), Reason::CorruptRecord),
    ];
    for (key, user, refused) in table {
        let facts = FoundFacts { key, user, ..FoundFacts::NONE };
        for proof in [own(&text), Proof::ForeignKey(&text)] {
            assert_eq!(reason(resolve(&proof, None, &facts, None, &rules(), &peppers(), NOW)).err(), Some(refused), "{facts:?}");
        }
    }
    // A key of the file needs nobody.
    let facts = FoundFacts { key: KeyFact::InFile(record()), ..FoundFacts::NONE };
    assert_eq!(reason(resolve(&own(&text), None, &facts, None, &rules(), &peppers(), NOW)).unwrap().user.as_str(), "alice");
}

#[test]
fn an_imported_key_is_known_by_the_hash_of_its_hash() {
    let mut record = key_record("imported-1", "");
    record.secrets = vec![KeySecret { hash: peppers().hash_imported(&sha256("a-key-of-old")), retires: None }];
    let facts = stored(record, alice());
    let caller = |text: &str| reason(resolve(&Proof::ForeignKey(text), None, &facts, None, &rules(), &peppers(), NOW));
    assert_eq!(caller("a-key-of-old").unwrap().key.as_ref().unwrap().as_str(), "imported-1");
    assert_eq!(caller("another-key").err(), Some(Reason::UnknownKey));
}

#[test]
fn scopes_are_what_was_granted_and_the_owner_still_holds() {
    // (granted, rights, held); no rights: unlimited.
    let table = [
        ("a:read a:write", Some("a:read"), "a:read"),
        ("*", Some("a:* b:read"), "a:* b:read"),
        ("a:read", None, "a:read"),
        ("a:read", Some(""), ""),
        ("tollgate:keys a:read", None, "tollgate:keys a:read"),
        ("tollgate:keys", Some("*"), ""),
        ("tollgate:keys", Some("tollgate:keys"), "tollgate:keys"),
        ("*", Some("tollgate:keys"), ""),
    ];
    for (granted, rights, held) in table {
        let rights = || rights.map_or(Rights::Unlimited, |rights| Rights::Only(scopes(rights)));
        let caller = key_after(|key, user, _| (key.scopes, user.rights) = (scopes(granted), rights())).unwrap();
        assert_eq!(caller.scopes, scopes(held), "{granted} {:?}", rights());
    }
}

#[test]
fn the_first_tier_named_counts_and_one_that_does_not_exist_is_the_default() {
    let table = [
        (None, None, Some("free"), Some("free")),
        (Some("pro"), Some("enterprise"), Some("free"), Some("pro")),
        (None, Some("enterprise"), Some("free"), Some("enterprise")),
        (Some("gone"), Some("enterprise"), Some("free"), Some("free")),
        (None, None, None, None),
        (Some("gone"), None, Some("gone-too"), None),
        (Some("gone"), Some("enterprise"), None, Some("enterprise")),
    ];
    for (of_key, of_user, default, expected) in table {
        let tier = |name: Option<&str>| name.map(Arc::from);
        let caller = key_after(|key, user, rules| (key.tier, user.tier, rules.default_tier) = (tier(of_key), tier(of_user), tier(default)));
        assert_eq!(caller.unwrap().tier.as_deref(), expected, "{of_key:?} {of_user:?} {default:?}");
    }
}

#[test]
fn an_organisation_comes_from_the_key_or_from_its_owner() {
    for (of_key, of_user, expected) in
        [(None, None, None), (Some("a"), None, Some("a")), (None, Some("b"), Some("b")), (Some("a"), Some("a"), Some("a"))]
    {
        let caller = key_after(|key, user, _| (key.organization, user.organization) = (of_key.map(Arc::from), of_user.map(Arc::from)));
        assert_eq!(caller.unwrap().organization.as_deref(), expected);
    }
}

#[test]
fn a_token_of_an_unmanaged_issuer_speaks_for_itself_but_for_reserved_scopes() {
    let caller = token_after(&FoundFacts::NONE, |claims, _| claims.scopes = scopes("* tollgate:admin tollgate:unlimited")).unwrap();
    assert_eq!(caller.proven_by, ProvenBy::Token);
    assert_eq!((caller.user.as_str(), caller.issuer.as_deref()), ("idp:alice", Some("https://id.example.com")));
    assert_eq!(
        (caller.organization.as_deref(), caller.client.as_deref(), caller.tier.as_deref()),
        (Some("claimed"), Some("app"), Some("pro"))
    );
    assert_eq!(caller.scopes, scopes("*"));
    assert_eq!((&caller.key, caller.expires), (&None, Some(seconds_from_now(60))));
    let tested = token_after(&FoundFacts::NONE, |claims, _| claims.environment = Some(Environment::Test)).unwrap();
    assert_eq!(tested.environment, Environment::Test);
    assert_eq!(token_after(&FoundFacts::NONE, |claims, _| claims.tier = Some("closed".into())).err(), Some(Reason::Disabled));
    let nonsense = token_after(&FoundFacts::NONE, |claims, rules| (claims.tier, rules.default_tier) = (Some("nonsense".into()), None));
    assert_eq!(nonsense.unwrap().tier.as_deref(), Some("pro"), "the issuer's tier still limits");
    assert_eq!(token_after(&FoundFacts::NONE, |claims, _| claims.issuer = 9).err(), Some(Reason::UntrustedIssuer));
}

// battery: J51 J52
#[test]
fn a_token_of_a_managed_issuer_is_good_while_its_user_is() {
    let kept = |change: fn(&mut UserRecord)| {
        let mut user = user_record("idp", "alice");
        change(&mut user);
        about_user(Ok(Some(user)))
    };
    let table = [
        ("active", kept(|_| {}), None),
        ("deleted", about_user(Ok(None)), Some(Reason::UnknownUser)),
        ("disabled", kept(|user| user.state = UserState::Disabled), Some(Reason::Disabled)),
        ("valid from the token's second", kept(|user| user.valid_from = Some(NOW)), None),
        ("signed out since", kept(|user| user.valid_from = Some(Timestamp::from_nanos(NOW.as_nanos() + 1))), Some(Reason::Revoked)),
        ("store down", about_user(Err(down())), Some(Reason::StoreUnavailable)),
        ("record corrupt", about_user(Err(corrupt())), Some(Reason::CorruptRecord)),
        ("not looked up", FoundFacts::NONE, Some(Reason::Internal)),
    ];
    let managed = |rules: &mut Rules| rules.issuers = vec![issuer(Managed::Yes, TokenId::Ignored)];
    for (name, facts, refused) in table {
        assert_eq!(token_after(&facts, |_, rules| managed(rules)).err(), refused, "{name}");
    }
    let signed_out = kept(|user| user.valid_from = Some(seconds_from_now(-3600)));
    let undated = token_after(&signed_out, |claims, rules| {
        claims.issued = None;
        managed(rules);
    });
    assert_eq!(undated.err(), Some(Reason::Revoked), "a token without a date cannot show that it is younger");
    let limited = kept(|user| {
        (user.rights, user.organization, user.tier) = (Rights::Only(scopes("messages:*")), Some("acme".into()), Some("enterprise".into()));
    });
    let caller = token_after(&limited, |_, rules| managed(rules)).unwrap();
    assert_eq!(caller.scopes, scopes("messages:write"));
    assert_eq!(
        (caller.organization.as_deref(), caller.tier.as_deref()),
        (Some("acme"), Some("enterprise")),
        "the record outweighs the claims"
    );
}

// battery: J50
#[test]
fn a_token_that_names_a_key_is_no_better_than_the_key() {
    let names_key = |_: &mut VerifiedClaims, rules: &mut Rules| rules.issuers = vec![issuer(Managed::No, TokenId::NamesKey)];
    let facts = |change: fn(&mut KeyRecord)| {
        let mut record = key_record(ID, "");
        change(&mut record);
        stored(record, alice())
    };
    type Change = fn(&mut KeyRecord);
    let table: [(&str, Change, Option<Reason>); 8] = [
        ("active", |_| {}, None),
        ("revoked", |key| key.state = KeyState::Revoked, Some(Reason::Revoked)),
        ("disabled", |key| key.state = KeyState::Disabled, Some(Reason::Disabled)),
        ("expired", |key| key.expires = Some(NOW), Some(Reason::Expired)),
        ("not yet valid", |key| key.not_before = Some(seconds_from_now(1)), Some(Reason::NotYetValid)),
        ("of somebody else", |key| key.user = Subject::parse("bob").unwrap(), Some(Reason::UnknownKey)),
        ("another record", |key| key.id = KeyId::new("other"), Some(Reason::UnknownKey)),
        ("of a disabled tier", |key| key.tier = Some("closed".into()), Some(Reason::Disabled)),
    ];
    for (name, change, refused) in table {
        assert_eq!(token_after(&facts(change), names_key).err(), refused, "{name}");
    }
    let owned_by = |change: fn(&mut UserRecord)| {
        let mut owner = alice();
        change(&mut owner);
        stored(key_record(ID, ""), owner)
    };
    let disabled = owned_by(|owner| owner.state = UserState::Disabled);
    assert_eq!(token_after(&disabled, names_key).err(), Some(Reason::Disabled), "the key's owner");
    let moved = owned_by(|owner| owner.valid_from = Some(seconds_from_now(1)));
    assert_eq!(token_after(&moved, names_key).err(), Some(Reason::Revoked), "issued before the owner's tokens became valid");
    let narrowed = owned_by(|owner| owner.rights = Rights::Only(scopes("billing:write")));
    assert_eq!(token_after(&narrowed, names_key).unwrap().scopes, scopes(""));
    let ownerless = FoundFacts { user: UserFact::FromStore(Ok(None)), ..owned_by(|_| {}) };
    assert_eq!(token_after(&ownerless, names_key).err(), Some(Reason::UnknownUser));
    let in_file = FoundFacts { key: KeyFact::InFile(Arc::new(key_record(ID, ""))), ..FoundFacts::NONE };
    assert_eq!(token_after(&in_file, names_key).err(), None, "the file alone rules");

    let absent = FoundFacts { key: KeyFact::FromStore(Ok(None)), ..FoundFacts::NONE };
    assert_eq!(token_after(&absent, names_key).err(), Some(Reason::UnknownKey));
    let unreachable = FoundFacts { key: KeyFact::FromStore(Err(down())), ..FoundFacts::NONE };
    assert_eq!(token_after(&unreachable, names_key).err(), Some(Reason::StoreUnavailable));
    let nameless = token_after(&facts(|_| {}), |claims, rules| {
        claims.token_id = None;
        names_key(claims, rules);
    });
    assert_eq!(nameless.err(), Some(Reason::BadClaims));

    let ruled = facts(|key| {
        (key.scopes, key.tier, key.rate_limit) = (scopes("conversations:* tollgate:admin"), Some("enterprise".into()), Some(7));
        (key.environment, key.expires) = (Environment::Test, Some(seconds_from_now(5)));
    });
    let caller = token_after(&ruled, |claims, rules| {
        claims.scopes = scopes("conversations:read billing:write tollgate:admin");
        names_key(claims, rules);
    })
    .unwrap();
    assert_eq!(caller.scopes, scopes("conversations:read"));
    assert_eq!((caller.tier.as_deref(), caller.key_rate_limit, caller.environment), (Some("enterprise"), Some(7), Environment::Test));
    assert_eq!(caller.expires, Some(seconds_from_now(5)));
    assert_eq!(caller.key.as_ref().map(|key| key.as_str()), Some(ID));
}

#[test]
fn a_pair_must_belong_together() {
    let (good, other) = (text(), key_text(Environment::Live, "BBBBBBBBBBBB", 'b'));
    let facts = stored(key_record(ID, &good), alice());
    let mut named = rules();
    named.issuers = vec![issuer(Managed::No, TokenId::NamesKey)];
    let token = || Proof::Token(Arc::new(claims()));
    let table = [
        ("the token's own key", token(), &named, &*good, None),
        ("another key", token(), &named, &*other, Some(Reason::UnknownKey)),
        ("no key at all", token(), &named, "", Some(Reason::UnknownKey)),
        ("a key beside itself", own(&good), &named, &*good, None),
        ("another key beside a key", own(&good), &named, &*other, Some(Reason::UnknownKey)),
    ];
    for (name, proof, rules, paired, refused) in table {
        assert_eq!(reason(resolve(&proof, Some(paired), &facts, None, rules, &peppers(), NOW)).err(), refused, "{name}");
    }
    let unruled = resolve(&token(), Some(&good), &FoundFacts::NONE, None, &rules(), &peppers(), NOW);
    assert_eq!(reason(unruled).err(), Some(Reason::UnknownKey), "a token that no key rules has no partner");
    let mut retired = key_record(ID, &good);
    retired.secrets[0].retires = Some(NOW);
    let result = resolve(&token(), Some(&good), &stored(retired, alice()), None, &named, &peppers(), NOW);
    assert_eq!(reason(result).err(), Some(Reason::Expired));
}

#[test]
fn a_principal_is_whom_the_rules_name() {
    let mut rules = rules();
    let grant = |limits| PrincipalGrant { scopes: scopes("jobs:run"), tier: Some("pro".into()), organization: Some("acme".into()), limits };
    let principal = |principal: &str, rules: &Rules| {
        reason(resolve(&Proof::Principal(principal), None, &FoundFacts::NONE, None, rules, &peppers(), NOW))
    };
    assert_eq!(principal(WORKER, &rules).err(), Some(Reason::UntrustedPrincipal), "no mesh");
    let long = format!("spiffe://example.org/{}", "x".repeat(129));
    let names = [WORKER, "spiffe://example.org.evil/x", "spiffe://other.org/x", &long];
    rules.mesh = Some(Mesh {
        source: Source { name: SourceName::parse("mesh").unwrap(), namespace: Namespace::Named },
        trust_domain: "example.org".into(),
        principals: names.iter().map(|name| (Arc::from(*name), grant(Exemption::Limited))).collect(),
    });
    let caller = principal(WORKER, &rules).unwrap();
    assert_eq!((caller.user.as_str(), caller.proven_by), ("mesh:ns/jobs/sa/worker", ProvenBy::Principal));
    assert_eq!((caller.organization.as_deref(), caller.tier.as_deref()), (Some("acme"), Some("pro")));
    assert_eq!(caller.scopes, scopes("jobs:run"));
    for stranger in
        [names[1], names[2], &long, "spiffe://example.org/unlisted", "", "spiffe://example.org", "example.org/ns/jobs/sa/worker"]
    {
        assert_eq!(principal(stranger, &rules).err(), Some(Reason::UntrustedPrincipal), "{stranger}");
    }
    rules.mesh.as_mut().unwrap().principals.insert(WORKER.into(), grant(Exemption::Exempt));
    assert_eq!(principal(WORKER, &rules).unwrap().scopes, scopes("jobs:run tollgate:unlimited"));
}

#[test]
fn nobody_is_nobody() {
    assert!(resolve(&Proof::Nobody, None, &FoundFacts::NONE, None, &rules(), &peppers(), NOW).unwrap().is_none());
}
