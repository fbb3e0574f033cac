//! Tokens of our own by table: whatever their grant, and its client, user and key, can be at the moment of a request.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use crate::check::decide::Exit;
use crate::check::doubles::NOW;
use crate::check::doubles::client_record;
use crate::check::doubles::corrupt;
use crate::check::doubles::down;
use crate::check::doubles::grant_record;
use crate::check::doubles::key_record;
use crate::check::doubles::key_text;
use crate::check::doubles::peppers;
use crate::check::doubles::scopes;
use crate::check::doubles::seconds_from_now;
use crate::check::doubles::user_record;
use crate::check::prove::Proof;
use crate::check::reasons::Reason;
use crate::check::resolve::Fact;
use crate::check::resolve::FoundFacts;
use crate::check::resolve::KeyFact;
use crate::check::resolve::resolve;
use crate::check::tests::resolve::issuer;
use crate::check::tests::resolve::rules;
use crate::model::caller::Caller;
use crate::model::caller::Environment;
use crate::model::caller::ProvenBy;
use crate::model::caller::Subject;
use crate::model::claims::VerifiedClaims;
use crate::model::client::ClientId;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::grant::AccessState;
use crate::model::grant::AccessToken;
use crate::model::grant::GrantEnd;
use crate::model::grant::GrantId;
use crate::model::grant::GrantOf;
use crate::model::grant::GrantRecord;
use crate::model::grant::GrantState;
use crate::model::grant::PendingCode;
use crate::model::key::KeyExtras;
use crate::model::key::KeyId;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::key::Rights;
use crate::model::key::UserRecord;
use crate::model::key::UserState;
use crate::model::rules::Managed;
use crate::model::rules::Rules;
use crate::model::rules::Source;
use crate::model::rules::TokenId;
use crate::model::scope::Scope;
use crate::model::scope::ScopeSet;
use crate::model::time::Timestamp;

const APP: &str = "app_0123456789abcdefghij";
const ACTING: &str = "app_jihgfedcba9876543210";
const KEY: &str = "AAAAAAAAAAAA";

/// By what the grant came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Consent,
    Client,
    /// The same, of a client that a user registered.
    Owned,
    SignIn,
    Key,
}

/// How the token was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Jwt,
    Opaque,
}

const KINDS: [Kind; 5] = [Kind::Consent, Kind::Client, Kind::Owned, Kind::SignIn, Kind::Key];
const FORMS: [Form; 2] = [Form::Jwt, Form::Opaque];

impl Kind {
    fn of(self) -> GrantOf {
        let (client, user, key) = (ClientId::new(APP), alice_subject(), KeyId::new(KEY));
        match self {
            Self::Consent => GrantOf::Consent { client, user },
            Self::Client | Self::Owned => GrantOf::Client { client },
            Self::SignIn => GrantOf::SignIn { user },
            Self::Key => GrantOf::Key { key, user },
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::Consent | Self::Client | Self::Owned | Self::SignIn => "grant",
            Self::Key => "key-AAAAAAAAAAAA",
        }
    }

    fn has_client(self) -> bool {
        matches!(self, Self::Consent | Self::Client | Self::Owned)
    }

    fn is_its_own(self) -> bool {
        matches!(self, Self::Client | Self::Owned)
    }

    fn has_user(self) -> bool {
        self != Self::Client
    }
}

fn alice_subject() -> Subject {
    Subject::parse("alice").unwrap()
}

/// A token and everything behind it, all of it good until a test changes something.
struct Case {
    kind: Kind,
    form: Form,
    grant: GrantRecord,
    client: ClientRecord,
    /// Looked up where the claims name it.
    acting: ClientRecord,
    user: UserRecord,
    key: KeyRecord,
    /// Looked up where the key names one.
    maker: UserRecord,
    claims: VerifiedClaims,
    generation: u32,
    pepper: &'static str,
    paired: Option<String>,
    address: Option<IpAddr>,
    rules: Rules,
}

impl Case {
    fn new(kind: Kind, form: Form) -> Self {
        let mut grant = grant_record(kind.id(), kind.of());
        let out = |id: &str, expires: i64| AccessToken {
            id: id.into(),
            state: AccessState::Out {
                issued: seconds_from_now(-60),
                scopes: scopes("conversations:* messages:read"),
                audience: vec!["gate".into()],
            },
            expires: seconds_from_now(expires),
        };
        if kind != Kind::Key {
            grant.access = vec![out("6", 0), out("7", 600), AccessToken { state: AccessState::Revoked, ..out("taken-back", 600) }];
        }
        let subject = if kind.is_its_own() { Subject::parse(APP).unwrap() } else { alice_subject() };
        let claims = VerifiedClaims {
            issuer: 1,
            subject,
            scopes: scopes("conversations:* messages:read"),
            organization: None,
            tier: None,
            environment: None,
            client: Some("tollgate".into()),
            grant: Some(kind.id().into()),
            token_id: Some("jti-1".into()),
            issued: Some(seconds_from_now(-60)),
            not_before: None,
            expires: seconds_from_now(600),
        };
        let (mut client, mut user) = (client_record(APP), user_record("local", "alice"));
        if kind == Kind::Owned {
            (client.owner, user.organization) = (Some(alice_subject()), Some("acme".into()));
        }
        let mut rules = rules();
        rules.issuers.push(crate::model::rules::Issuer {
            source: Source { ..rules.local.clone() },
            issuer: "https://own.example".into(),
            tier: None,
            ..issuer(Managed::ByGrant, TokenId::Ignored)
        });
        Self {
            kind,
            form,
            grant,
            client,
            acting: client_record(ACTING),
            user,
            key: key_record(KEY, &key_text(Environment::Live, KEY, 'l')),
            maker: user_record("local", "ann"),
            claims,
            generation: if kind == Kind::Key { 3 } else { 7 },
            pepper: "new",
            paired: None,
            address: None,
            rules,
        }
    }

    fn facts(&self) -> FoundFacts {
        fn found<T>(record: &T) -> Fact<T>
        where
            T: Clone,
        {
            Fact::FromStore(Ok(Some(Arc::new(record.clone()))))
        }
        FoundFacts {
            grant: found(&self.grant),
            client: if self.kind.has_client() { found(&self.client) } else { Fact::NotAsked },
            acting: if self.claims.client.as_deref() == Some(ACTING) { found(&self.acting) } else { Fact::NotAsked },
            maker: if self.key.notes.made_by().is_some() { found(&self.maker) } else { Fact::NotAsked },
            key: if self.kind == Kind::Key { KeyFact::FromStore(Ok(Some(Arc::new(self.key.clone())))) } else { KeyFact::NotAsked },
            user: if self.kind.has_user() { found(&self.user) } else { Fact::NotAsked },
            lapsed_for: None,
            cached: None,
        }
    }

    fn judge(&self) -> Result<Arc<Caller>, Reason> {
        self.judge_with(&self.facts())
    }

    fn judge_with(&self, facts: &FoundFacts) -> Result<Arc<Caller>, Reason> {
        let proof = match self.form {
            Form::Jwt => Proof::Token(Arc::new(self.claims.clone())),
            Form::Opaque => Proof::Grant { id: self.kind.id(), generation: self.generation, pepper: self.pepper },
        };
        match resolve(&proof, self.paired.as_deref(), facts, self.address, &self.rules, &peppers(), NOW) {
            Ok(caller) => Ok(caller.unwrap()),
            Err(Exit::Denied(denial)) => Err(denial.reason),
            Err(Exit::Failed(fault)) => Err(fault.reason),
        }
    }
}

fn every(judge: impl Fn(Kind, Form)) {
    for kind in KINDS {
        for form in FORMS {
            judge(kind, form);
        }
    }
}

/// How each kind and form ends after a change.
fn after(kinds: &[Kind], what: &str, change: impl Fn(&mut Case), expected: Option<Reason>) {
    for kind in kinds {
        for form in FORMS {
            let mut case = Case::new(*kind, form);
            change(&mut case);
            let refused = case.judge().err();
            assert_eq!(refused, expected, "{kind:?} {form:?}: {what}");
            assert!(refused.is_none_or(|reason| reason.row().http != 200));
        }
    }
}

// oauth: I3
#[test]
fn a_good_token_is_its_users_or_its_clients_and_nobody_elses() {
    every(|kind, form| {
        let caller = Case::new(kind, form).judge().unwrap();
        assert_eq!((caller.proven_by, caller.issuer.as_deref()), (ProvenBy::Token, Some("https://own.example")));
        let client = kind.has_client().then_some(APP);
        assert_eq!(caller.client.as_deref(), client, "{kind:?} {form:?}");
        assert_eq!(caller.key.as_ref().map(KeyId::as_str), (kind == Kind::Key).then_some(KEY));
        let who = match kind {
            Kind::Client | Kind::Owned => ("client:app_0123456789abcdefghij", "client", APP),
            Kind::Consent | Kind::SignIn | Kind::Key => ("alice", "local", "alice"),
        };
        assert_eq!((caller.user.as_str(), caller.source.as_str(), caller.subject.as_str()), who);
        let expected = if kind == Kind::Key { "conversations:*" } else { "conversations:* messages:read" };
        assert_eq!(caller.scopes, scopes(expected));
        assert_eq!(caller.tier.as_deref(), Some("free"));
        let expires = if kind == Kind::Key && form == Form::Opaque { 3600 } else { 600 };
        assert_eq!(caller.expires, Some(seconds_from_now(expires)), "{kind:?} {form:?}");
    });
    // A user called as a client is is still another.
    let mut named_so = Case::new(Kind::SignIn, Form::Jwt);
    named_so.grant.of = GrantOf::SignIn { user: Subject::parse(APP).unwrap() };
    named_so.claims.subject = Subject::parse(APP).unwrap();
    named_so.user.subject = Subject::parse(APP).unwrap();
    assert_eq!(named_so.judge().unwrap().user.as_str(), APP);
}

// oauth: O14 H2 J5
#[test]
fn a_token_is_dead_once_its_grant_is() {
    let ended = |why| GrantState::Ended { at: NOW, why };
    let pending = GrantState::Pending(PendingCode {
        redirect_uri: "https://a.example".into(),
        redirect_uri_named: true,
        challenge: "c".into(),
        expires: seconds_from_now(60),
        failures: 0,
    });
    for why in [GrantEnd::Revoked, GrantEnd::SignedOut, GrantEnd::Reused, GrantEnd::Guessed, GrantEnd::PasswordChanged] {
        after(&KINDS, "ended", |case| case.grant.state = ended(why), Some(Reason::Revoked));
    }
    after(&KINDS, "its code was not redeemed", |case| case.grant.state = pending.clone(), Some(Reason::UnknownToken));
    after(&KINDS, "idle for too long", |case| case.grant.idle_until = NOW, Some(Reason::Expired));
    after(&KINDS, "at its absolute end", |case| case.grant.ends = NOW, Some(Reason::Expired));
    after(&KINDS, "a moment before", |case| case.grant.ends = Timestamp::from_nanos(NOW.as_nanos() + 1), None);
    after(&KINDS, "another grant's record", |case| case.grant.id = GrantId::new("other"), Some(Reason::UnknownToken));
    every(|kind, form| {
        let case = Case::new(kind, form);
        for (answer, expected) in
            [(Ok(None), Reason::UnknownToken), (Err(down()), Reason::StoreUnavailable), (Err(corrupt()), Reason::CorruptRecord)]
        {
            let facts = FoundFacts { grant: Fact::FromStore(answer), ..case.facts() };
            assert_eq!(case.judge_with(&facts).err(), Some(expected), "{kind:?} {form:?}");
        }
        let unasked = FoundFacts { grant: Fact::NotAsked, ..case.facts() };
        assert_eq!(case.judge_with(&unasked).err(), Some(Reason::Internal));
    });
}

// oauth: O14 P7 K6
#[test]
fn a_token_is_dead_once_its_client_is() {
    let kinds = [Kind::Consent, Kind::Client, Kind::Owned];
    after(&kinds, "disabled", |case| case.client.state = ClientState::Disabled, Some(Reason::Disabled));
    after(&kinds, "another client's record", |case| case.client.id = ClientId::new("app_x"), Some(Reason::UnknownClient));
    after(&kinds, "of a disabled tier", |case| case.client.tier = Some("closed".into()), Some(Reason::Disabled));
    after(&[Kind::SignIn, Kind::Key], "no client's business", |case| case.client.state = ClientState::Disabled, None);
    for kind in kinds {
        for form in FORMS {
            let case = Case::new(kind, form);
            for (client, expected) in [
                (Fact::FromStore(Ok(None)), Reason::UnknownClient),
                (Fact::FromStore(Err(down())), Reason::StoreUnavailable),
                (Fact::FromStore(Err(corrupt())), Reason::CorruptRecord),
                (Fact::NotAsked, Reason::Internal),
            ] {
                let facts = FoundFacts { client, ..case.facts() };
                assert_eq!(case.judge_with(&facts).err(), Some(expected), "{kind:?} {form:?}");
            }
        }
    }
}

// oauth: O14 K6
#[test]
fn a_token_is_dead_once_its_user_is() {
    let kinds = [Kind::Consent, Kind::Owned, Kind::SignIn, Kind::Key];
    after(&kinds, "disabled", |case| case.user.state = UserState::Disabled, Some(Reason::Disabled));
    after(&kinds, "somebody else's record", |case| case.user.subject = Subject::parse("bob").unwrap(), Some(Reason::UnknownUser));
    after(&[Kind::Client], "no user's business", |case| case.user.state = UserState::Disabled, None);
    after(
        &kinds,
        "moved to another organisation",
        |case| {
            (case.grant.organization, case.key.organization) = (Some("acme".into()), Some("acme".into()));
            case.user.organization = Some("other".into());
        },
        Some(Reason::Revoked),
    );
    let left = |case: &mut Case| (case.grant.organization, case.user.organization) = (Some("acme".into()), None);
    after(&[Kind::Consent, Kind::Owned, Kind::SignIn], "of no organisation any more", left, Some(Reason::Revoked));
    let operators = |case: &mut Case| (case.client.organization, case.user.organization) = (None, Some("other".into()));
    after(&[Kind::Owned], "a client of no organisation", operators, None);
    for kind in kinds {
        for form in FORMS {
            let case = Case::new(kind, form);
            for (user, expected) in [
                (Fact::FromStore(Ok(None)), Reason::UnknownUser),
                (Fact::FromStore(Err(down())), Reason::StoreUnavailable),
                (Fact::FromStore(Err(corrupt())), Reason::CorruptRecord),
                (Fact::NotAsked, Reason::Internal),
            ] {
                let facts = FoundFacts { user, ..case.facts() };
                assert_eq!(case.judge_with(&facts).err(), Some(expected), "{kind:?} {form:?}");
            }
        }
    }
}

// oauth: O14 H12
#[test]
fn what_was_issued_before_a_users_tokens_became_valid_is_refused() {
    let kinds = [Kind::Consent, Kind::Owned, Kind::SignIn, Kind::Key];
    after(&kinds, "valid from the token's instant", |case| case.user.valid_from = Some(seconds_from_now(-60)), None);
    after(&kinds, "signed out since", |case| case.user.valid_from = Some(seconds_from_now(-59)), Some(Reason::Revoked));
    // `iat` has whole seconds. Whoever signs in again within the second of a change gets a token that works.
    let within = |nanos: u64| Timestamp::from_nanos(seconds_from_now(-60).as_nanos() + nanos);
    let mut case = Case::new(Kind::SignIn, Form::Jwt);
    (case.user.valid_from, case.grant.created) = (Some(within(500)), within(700));
    assert_eq!(case.judge().err(), None);
    case.grant.created = within(499);
    assert_eq!(case.judge().err(), Some(Reason::Revoked));
    case.claims.issued = None;
    assert_eq!(case.judge().err(), Some(Reason::Revoked), "a token without a date cannot show that it is younger");
}

// oauth: T5 T6 T10
#[test]
fn a_keys_token_is_no_better_than_the_key() {
    type Change = fn(&mut Case);
    let table: [(&str, Change, Option<Reason>); 12] = [
        ("good", |_| {}, None),
        ("revoked", |case| case.key.state = KeyState::Revoked, Some(Reason::Revoked)),
        ("disabled", |case| case.key.state = KeyState::Disabled, Some(Reason::Disabled)),
        ("expired", |case| case.key.expires = Some(NOW), Some(Reason::Expired)),
        ("not yet valid", |case| case.key.not_before = Some(seconds_from_now(1)), Some(Reason::NotYetValid)),
        ("another's", |case| case.key.user = Subject::parse("bob").unwrap(), Some(Reason::UnknownKey)),
        ("another record", |case| case.key.id = KeyId::new("other"), Some(Reason::UnknownKey)),
        ("of a disabled tier", |case| case.key.tier = Some("closed".into()), Some(Reason::Disabled)),
        ("rotated", |case| case.key.secrets.clear(), None),
        ("past its absolute end", |case| case.grant.ends = NOW, Some(Reason::Expired)),
        ("not slid any further", |case| case.grant.idle_until = NOW, Some(Reason::Expired)),
        ("slid on", |case| case.grant.idle_until = seconds_from_now(1), None),
    ];
    for (what, change, expected) in table {
        after(&[Kind::Key], what, change, expected);
    }
    for form in FORMS {
        let case = Case::new(Kind::Key, form);
        for (key, expected) in [
            (KeyFact::FromStore(Ok(None)), Reason::UnknownKey),
            (KeyFact::FromStore(Err(down())), Reason::StoreUnavailable),
            (KeyFact::FromStore(Err(corrupt())), Reason::CorruptRecord),
            (KeyFact::NotAsked, Reason::Internal),
        ] {
            let facts = FoundFacts { key, ..case.facts() };
            assert_eq!(case.judge_with(&facts).err(), Some(expected), "{form:?}");
        }
        let in_file = FoundFacts { key: KeyFact::InFile(Arc::new(case.key.clone())), user: Fact::NotAsked, ..case.facts() };
        assert_eq!(case.judge_with(&in_file).unwrap().user.as_str(), "alice", "the file alone rules");

        let mut case = Case::new(Kind::Key, form);
        (case.key.tier, case.key.rate_limit, case.key.environment) = (Some("enterprise".into()), Some(7), Environment::Test);
        (case.key.pinned_version, case.key.expires) = (Some("2024-01-01".into()), Some(seconds_from_now(5)));
        case.key.organization = Some("acme".into());
        let caller = case.judge().unwrap();
        assert_eq!((caller.tier.as_deref(), caller.key_rate_limit, caller.environment), (Some("enterprise"), Some(7), Environment::Test));
        assert_eq!((caller.pinned_version.as_deref(), caller.expires), (Some("2024-01-01"), Some(seconds_from_now(5))));
        assert_eq!(caller.organization.as_deref(), Some("acme"));
    }
}

// oauth: T10
#[test]
fn a_key_has_one_token_at_a_time_and_it_is_made_under_one_pepper() {
    let shown = |generation, pepper| {
        let mut case = Case::new(Kind::Key, Form::Opaque);
        (case.generation, case.pepper) = (generation, pepper);
        case
    };
    let unknown = Some(Reason::UnknownToken);
    for (generation, pepper, expected) in [(3, "new", None), (2, "new", unknown), (4, "new", unknown), (3, "old", unknown)] {
        assert_eq!(shown(generation, pepper).judge().err(), expected, "{generation} {pepper}");
    }
    let mut revoked = shown(3, "new");
    revoked.grant.access = vec![AccessToken { id: "3".into(), state: AccessState::Revoked, expires: seconds_from_now(60) }];
    assert_eq!(revoked.judge().err(), Some(Reason::Revoked));
    let mut elsewhere = shown(3, "new");
    elsewhere.grant.resources = vec!["https://other.example".into()];
    assert_eq!(elsewhere.judge().err(), Some(Reason::BadClaims));
}

// oauth: J5 O4 H14
#[test]
fn a_token_opens_only_what_the_grant_still_knows_of_it() {
    let opaque = |change: &dyn Fn(&mut Case)| {
        let outcomes = [Kind::Consent, Kind::Client, Kind::Owned, Kind::SignIn].map(|kind| {
            let mut case = Case::new(kind, Form::Opaque);
            change(&mut case);
            case.judge().err()
        });
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
        outcomes[0]
    };
    assert_eq!(opaque(&|_| {}), None);
    for unlisted in [0, 1, 8, 70, u32::MAX] {
        assert_eq!(opaque(&|case| case.generation = unlisted), Some(Reason::UnknownToken), "{unlisted}");
    }
    assert_eq!(opaque(&|case| case.generation = 6), Some(Reason::Expired));
    assert_eq!(opaque(&|case| case.pepper = "old"), None, "a pepper that is still accepted");
    assert_eq!(opaque(&|case| case.grant.access.clear()), Some(Reason::UnknownToken));
    assert_eq!(opaque(&|case| case.grant.access[1].state = AccessState::Revoked), Some(Reason::Revoked));
    // However often it is listed, taken back is taken back.
    let twice = |case: &mut Case| {
        let entry = AccessToken { state: AccessState::Revoked, ..case.grant.access[1].clone() };
        case.grant.access.push(entry);
    };
    assert_eq!(opaque(&twice), Some(Reason::Revoked));
    for other in ["07", "+7", " 7", "7.0", "seven", ""] {
        assert_eq!(opaque(&|case| case.grant.access[1].id = other.into()), Some(Reason::UnknownToken), "{other:?}");
    }
    let to = |audience: &'static [&'static str]| {
        move |case: &mut Case| {
            let AccessState::Out { audience: named, .. } = &mut case.grant.access[1].state else { panic!("listed") };
            *named = audience.iter().map(|named| Arc::from(*named)).collect();
        }
    };
    for (audience, expected) in [
        (&["gate"][..], None),
        (&["https://other.example", "gate"], None),
        (&["https://other.example"], Some(Reason::BadClaims)),
        (&["Gate"], Some(Reason::BadClaims)),
        (&[], Some(Reason::BadClaims)),
    ] {
        assert_eq!(opaque(&to(audience)), expected, "{audience:?}");
    }
    assert_eq!(opaque(&|case| case.rules.issuers.truncate(1)), Some(Reason::UntrustedIssuer), "rules that issue nothing");

    let jwt = |change: &dyn Fn(&mut Case)| {
        let outcomes = KINDS.map(|kind| {
            let mut case = Case::new(kind, Form::Jwt);
            case.grant.access = Case::new(Kind::SignIn, Form::Jwt).grant.access;
            change(&mut case);
            case.judge().err()
        });
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
        outcomes[0]
    };
    assert_eq!(jwt(&|_| {}), None);
    assert_eq!(jwt(&|case| case.claims.token_id = Some("taken-back".into())), Some(Reason::Revoked));
    assert_eq!(jwt(&|case| case.claims.token_id = None), Some(Reason::BadClaims), "what cannot be taken back is not let in");
    assert_eq!(jwt(&|case| case.claims.grant = None), Some(Reason::BadClaims));
    assert_eq!(jwt(&|case| case.claims.grant = Some("other".into())), Some(Reason::UnknownToken));
    assert_eq!(jwt(&|case| case.claims.subject = Subject::parse("mallory").unwrap()), Some(Reason::UnknownToken));
}

// oauth: T5 H9 I4
#[test]
fn scopes_are_what_the_token_the_grant_and_everybody_behind_it_hold_now() {
    let rights = |text: &str| Rights::Only(scopes(text));
    type Change<'c> = &'c dyn Fn(&mut Case);
    let table: [(&str, &[Kind], Change<'_>, &str); 10] = [
        ("a narrower token", &KINDS, &|case| give(case, "conversations:read"), "conversations:read"),
        (
            "a token wider than its grant",
            &KINDS,
            &|case| {
                give(case, "*");
                case.grant.scopes = scopes("conversations:read");
            },
            "conversations:read",
        ),
        (
            "a narrower client",
            &[Kind::Consent, Kind::Client, Kind::Owned],
            &|case| case.client.scopes = scopes("messages:*"),
            "messages:read",
        ),
        ("a client that lost all", &[Kind::Consent, Kind::Client, Kind::Owned], &|case| case.client.scopes = scopes(""), ""),
        (
            "a narrower user",
            &[Kind::Consent, Kind::Owned, Kind::SignIn, Kind::Key],
            &|case| case.user.rights = rights("conversations:read"),
            "conversations:read",
        ),
        ("a user that lost all", &[Kind::Consent, Kind::Owned, Kind::SignIn, Kind::Key], &|case| case.user.rights = rights(""), ""),
        ("no user's rights", &[Kind::Client], &|case| case.user.rights = rights(""), "conversations:* messages:read"),
        ("a narrower key", &[Kind::Key], &|case| case.key.scopes = scopes("messages:* billing:*"), "messages:read"),
        ("a key that lost all", &[Kind::Key], &|case| case.key.scopes = scopes(""), ""),
        (
            "reserved scopes everywhere",
            &KINDS,
            &|case| {
                let all = "* tollgate:admin tollgate:unlimited";
                give(case, all);
                (case.grant.scopes, case.client.scopes, case.key.scopes) = (scopes(all), scopes(all), scopes(all));
                case.user.rights = rights(all);
            },
            "*",
        ),
    ];
    for (what, kinds, change, expected) in table {
        for kind in kinds {
            for form in FORMS {
                let mut case = Case::new(*kind, form);
                change(&mut case);
                assert_eq!(case.judge().unwrap().scopes, scopes(expected), "{what}: {kind:?} {form:?}");
            }
        }
    }
}

// oauth: Q4 O14 P7
#[test]
fn an_exchanged_token_is_worth_no_more_than_the_client_that_acts_with_it() {
    type Change<'c> = &'c dyn Fn(&mut Case);
    let table: [(&str, Change<'_>, Result<&str, Reason>); 6] = [
        ("as it was traded", &|_| {}, Ok("conversations:* messages:read")),
        ("an acting client that holds less now", &|case| case.acting.scopes = scopes("messages:*"), Ok("messages:read")),
        ("one that lost all", &|case| case.acting.scopes = scopes(""), Ok("")),
        ("a disabled one", &|case| case.acting.state = ClientState::Disabled, Err(Reason::Disabled)),
        ("another client's record", &|case| case.acting.id = ClientId::new("app_x"), Err(Reason::UnknownClient)),
        ("the grant's own client gone bad", &|case| case.client.state = ClientState::Disabled, Err(Reason::Disabled)),
    ];
    for kind in KINDS {
        let exchanged = || {
            let mut case = Case::new(kind, Form::Jwt);
            case.claims.client = Some(ACTING.into());
            case.key.scopes = scopes("*");
            case
        };
        for (what, change, expected) in table {
            let mut case = exchanged();
            change(&mut case);
            if what.starts_with("the grant's") && !kind.has_client() {
                continue;
            }
            let judged = case.judge();
            assert_eq!(
                judged.as_ref().map(|caller| Arc::clone(&caller.scopes)).map_err(|reason| *reason),
                expected.map(scopes),
                "{kind:?}: {what}"
            );
            if let Ok(caller) = judged {
                assert_eq!(caller.client.as_deref(), Some(ACTING), "whoever acts is an application, whatever was traded: {kind:?}");
            }
        }
        let case = exchanged();
        for (acting, expected) in [
            (Fact::FromStore(Ok(None)), Reason::UnknownClient),
            (Fact::FromStore(Err(down())), Reason::StoreUnavailable),
            (Fact::FromStore(Err(corrupt())), Reason::CorruptRecord),
            (Fact::NotAsked, Reason::Internal),
        ] {
            let facts = FoundFacts { acting, ..case.facts() };
            assert_eq!(facts.lack_an_answer(), expected == Reason::StoreUnavailable);
            assert_eq!(case.judge_with(&facts).err(), Some(expected), "{kind:?}");
        }
        let mut case = exchanged();
        case.acting.environment = Environment::Test;
        assert_eq!(case.judge().unwrap().environment, Environment::Test);
    }
}

// oauth: T5
#[test]
fn a_key_that_was_made_for_another_stands_on_its_makers_word_too() {
    type Change<'c> = &'c dyn Fn(&mut UserRecord);
    let only = |text: &str| Rights::Only(scopes(text));
    let in_acme = |user: &mut UserRecord, rights| (user.organization, user.rights) = (Some("acme".into()), rights);
    let table: [(&str, Change<'_>, Result<&str, Reason>); 9] = [
        ("a maker of unlimited rights", &|_| {}, Ok("conversations:* messages:read")),
        (
            "an admin that holds it all",
            &|maker| in_acme(maker, only("conversations:* messages:* tollgate:keys")),
            Ok("conversations:* messages:read"),
        ),
        ("an admin that was demoted", &|maker| in_acme(maker, only("messages:read")), Ok("messages:read")),
        ("one that lost all", &|maker| in_acme(maker, only("")), Ok("")),
        (
            "one of another organisation",
            &|maker| (maker.organization, maker.rights) = (Some("other".into()), only("*")),
            Err(Reason::Revoked),
        ),
        ("one of none any more", &|maker| maker.rights = only("*"), Err(Reason::Revoked)),
        ("one that reaches everything, from anywhere", &|maker| maker.rights = only("tollgate:admin"), Ok("conversations:* messages:read")),
        ("a disabled one", &|maker| maker.state = UserState::Disabled, Err(Reason::Disabled)),
        ("somebody else's record", &|maker| maker.subject = alice_subject(), Err(Reason::UnknownUser)),
    ];
    let made = || {
        let made_by = Some(Subject::parse("ann").unwrap());
        let mut key = key_record(KEY, &key_text(Environment::Live, KEY, 'l'));
        (key.organization, key.scopes) = (Some("acme".into()), scopes("conversations:* messages:read"));
        key.notes = KeyNotes::new(KeyExtras { made_by, ..KeyExtras::default() });
        key
    };
    for (what, change, expected) in table {
        for form in FORMS {
            let mut case = Case::new(Kind::Key, form);
            case.key = made();
            change(&mut case.maker);
            let scopes_found = |judged: Result<Arc<Caller>, Reason>| judged.map(|caller| Arc::clone(&caller.scopes));
            assert_eq!(scopes_found(case.judge()), expected.map(scopes), "its token, {form:?}: {what}");
            let text = key_text(Environment::Live, KEY, 'l');
            let own = crate::model::key::OwnKey { text: &text, environment: Environment::Live, id: KEY };
            assert_eq!(scopes_found(judge_proof(&Proof::OwnKey(own), &case)), expected.map(scopes), "the key itself: {what}");
            // A foreign issuer's token that names it.
            case.rules.issuers.push(issuer(Managed::No, TokenId::NamesKey));
            let named = VerifiedClaims { issuer: 2, grant: None, token_id: Some(KEY.into()), ..case.claims.clone() };
            assert_eq!(
                scopes_found(judge_proof(&Proof::Token(Arc::new(named)), &case)),
                expected.map(scopes),
                "a token in its name: {what}"
            );
        }
    }
    let mut case = Case::new(Kind::Key, Form::Opaque);
    case.key = made();
    for (maker, expected) in [
        (Fact::FromStore(Ok(None)), Reason::UnknownUser),
        (Fact::FromStore(Err(down())), Reason::StoreUnavailable),
        (Fact::FromStore(Err(corrupt())), Reason::CorruptRecord),
        (Fact::NotAsked, Reason::Internal),
    ] {
        let facts = FoundFacts { maker, ..case.facts() };
        assert_eq!(facts.lack_an_answer(), expected == Reason::StoreUnavailable);
        assert_eq!(case.judge_with(&facts).err(), Some(expected));
    }
}

/// What another credential in the same house is worth.
fn judge_proof(proof: &Proof<'_>, case: &Case) -> Result<Arc<Caller>, Reason> {
    let facts = FoundFacts { grant: Fact::NotAsked, ..case.facts() };
    match resolve(proof, None, &facts, None, &case.rules, &peppers(), NOW) {
        Ok(caller) => Ok(caller.unwrap()),
        Err(Exit::Denied(denial)) => Err(denial.reason),
        Err(Exit::Failed(fault)) => Err(fault.reason),
    }
}

/// Gives the token itself these scopes, in whichever form it is.
fn give(case: &mut Case, text: &str) {
    case.claims.scopes = scopes(text);
    for entry in &mut case.grant.access {
        if let AccessState::Out { scopes: held, .. } = &mut entry.state {
            *held = scopes(text);
        }
    }
    if case.kind == Kind::Key && case.form == Form::Opaque {
        // A key's own token holds what was granted.
        case.grant.scopes = scopes(text);
    }
}

#[test]
fn tier_organisation_and_environment_come_from_those_behind_it() {
    for form in FORMS {
        let mut case = Case::new(Kind::Consent, form);
        (case.user.tier, case.user.organization) = (Some("enterprise".into()), Some("umbrella".into()));
        let caller = case.judge().unwrap();
        assert_eq!(
            (caller.tier.as_deref(), caller.organization.as_deref()),
            (Some("enterprise"), Some("umbrella")),
            "the user's, not the client's"
        );
        case.client.tier = Some("pro".into());
        assert_eq!(case.judge().unwrap().tier.as_deref(), Some("pro"));
        let mut case = Case::new(Kind::Client, form);
        case.client.tier = Some("pro".into());
        let caller = case.judge().unwrap();
        assert_eq!((caller.tier.as_deref(), caller.organization.as_deref()), (Some("pro"), Some("acme")));
        case.grant.organization = Some("other".into());
        assert_eq!(case.judge().err(), Some(Reason::Revoked));
        for (of_client, of_grant, expected) in [
            (Environment::Live, Environment::Live, Environment::Live),
            (Environment::Test, Environment::Live, Environment::Test),
            (Environment::Live, Environment::Test, Environment::Test),
        ] {
            for kind in [Kind::Consent, Kind::Client, Kind::Owned] {
                let mut case = Case::new(kind, form);
                (case.client.environment, case.grant.environment) = (of_client, of_grant);
                assert_eq!(case.judge().unwrap().environment, expected, "{kind:?} {form:?}");
            }
        }
        let mut case = Case::new(Kind::SignIn, form);
        case.grant.environment = Environment::Test;
        assert_eq!(case.judge().unwrap().environment, Environment::Test);
    }
}

#[test]
fn a_key_beside_a_token_must_be_the_tokens_own() {
    let (own, other) = (key_text(Environment::Live, KEY, 'l'), key_text(Environment::Live, "BBBBBBBBBBBB", 'b'));
    let paired = |text: &str| {
        let text = text.to_owned();
        move |case: &mut Case| case.paired = Some(text.clone())
    };
    after(&[Kind::Key], "its own key", paired(&own), None);
    after(&[Kind::Key], "another key", paired(&other), Some(Reason::UnknownKey));
    after(&[Kind::Key], "no key", paired(""), Some(Reason::UnknownKey));
    let others = [Kind::Consent, Kind::Client, Kind::Owned, Kind::SignIn];
    after(&others, "a key beside a token that none rules", paired(&own), Some(Reason::UnknownKey));
}

#[test]
fn a_key_that_is_held_to_some_networks_opens_nothing_from_elsewhere() {
    let table: [(&[&str], Option<&str>, Option<Reason>); 12] = [
        (&[], None, None),
        (&[], Some("192.0.2.1"), None),
        (&["192.0.2.0/24"], Some("192.0.2.1"), None),
        (&["192.0.2.0/24"], Some("::ffff:192.0.2.1"), None),
        (&["192.0.2.0/24"], Some("192.0.3.1"), Some(Reason::WrongNetwork)),
        (&["192.0.2.0/24"], Some("2001:db8::1"), Some(Reason::WrongNetwork)),
        (&["192.0.2.0/24"], None, Some(Reason::WrongNetwork)),
        (&["10.0.0.0/8", "2001:db8::/32"], Some("2001:db8::1"), None),
        (&["10.0.0.0/8", "2001:db8::/32"], Some("10.255.255.255"), None),
        (&["10.0.0.0/8", "2001:db8::/32"], Some("11.0.0.0"), Some(Reason::WrongNetwork)),
        (&["192.0.2.1/32"], Some("192.0.2.1"), None),
        (&["192.0.2.1/32"], Some("192.0.2.2"), Some(Reason::WrongNetwork)),
    ];
    for (networks, address, expected) in table {
        let held = KeyNotes::new(KeyExtras {
            allowed_networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            ..KeyExtras::default()
        });
        let address: Option<IpAddr> = address.map(|address| address.parse().unwrap());
        for form in FORMS {
            let mut case = Case::new(Kind::Key, form);
            (case.key.notes, case.address) = (held.clone(), address);
            assert_eq!(case.judge().err(), expected, "{networks:?} {address:?} {form:?}");
        }
        // The key itself, and never before its secret was right.
        let text = key_text(Environment::Live, KEY, 'l');
        let mut case = Case::new(Kind::Key, Form::Jwt);
        case.key.notes = held;
        let judge = |text: &str| {
            let own = crate::model::key::OwnKey { text, environment: Environment::Live, id: KEY };
            match resolve(&Proof::OwnKey(own), None, &case.facts(), address, &case.rules, &peppers(), NOW) {
                Ok(_) => None,
                Err(Exit::Denied(denial)) => Some(denial.reason),
                Err(Exit::Failed(fault)) => Some(fault.reason),
            }
        };
        assert_eq!(judge(&text), expected, "{networks:?} {address:?}");
        assert_eq!(judge(&key_text(Environment::Live, KEY, 'x')), Some(Reason::UnknownKey));
    }
}

fn few_scopes() -> impl Strategy<Value = Arc<ScopeSet>> {
    let scope = prop_oneof!["(\\*|[ab]:[rw]|[ab]:\\*)", Just("tollgate:admin".to_owned()), Just("tollgate:unlimited".to_owned())];
    prop::collection::vec(scope, 0..4).prop_map(|texts| Arc::new(ScopeSet::new(texts.iter().map(|text| Scope::parse(text).unwrap()))))
}

proptest! {
    // oauth: T5 U2
    #[test]
    fn no_token_ever_opens_more_than_each_of_those_behind_it(
        kind in prop::sample::select(&KINDS), form in prop::sample::select(&FORMS),
        of_token in few_scopes(), of_grant in few_scopes(), of_client in few_scopes(), of_key in few_scopes(), of_user in few_scopes(),
        wanted in prop_oneof!["[ab]:[rw]", Just("tollgate:admin".to_owned())],
    ) {
        let mut case = Case::new(kind, form);
        give(&mut case, &of_token.to_string());
        if !(kind == Kind::Key && form == Form::Opaque) {
            case.grant.scopes = Arc::clone(&of_grant);
        }
        (case.client.scopes, case.key.scopes) = (Arc::clone(&of_client), Arc::clone(&of_key));
        case.user.rights = Rights::Only(Arc::clone(&of_user));
        let mut ceilings = vec![&of_token, &case.grant.scopes];
        if kind.has_client() {
            ceilings.push(&of_client);
        }
        if kind == Kind::Key {
            ceilings.push(&of_key);
        }
        if kind.has_user() {
            ceilings.push(&of_user);
        }
        let expected = !wanted.starts_with("tollgate:") && ceilings.iter().all(|ceiling| ceiling.covers(&wanted));
        prop_assert_eq!(case.judge().unwrap().scopes.covers(&wanted), expected);
    }
}
