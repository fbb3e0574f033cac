use proptest::prelude::*;

use super::*;
use crate::model::client::ClientRecord;

pub(crate) fn key_record(id: &str) -> KeyRecord {
    KeyRecord {
        id: KeyId::new(id),
        name: Arc::from("ci"),
        user: Subject::parse("alice").unwrap(),
        organization: Some(Arc::from("acme")),
        environment: Environment::Test,
        scopes: Arc::new(ScopeSet::new([Scope::parse("conversations:read").unwrap(), Scope::parse("a:*").unwrap()])),
        tier: Some(Arc::from("pro")),
        rate_limit: Some(60),
        pinned_version: None,
        secrets: vec![
            secret(HashAlgorithm::HmacSha256, 7, None),
            secret(HashAlgorithm::HmacOfSha256, 8, Some(Timestamp::from_unix_seconds(99))),
        ],
        state: KeyState::Active,
        created: Timestamp::from_unix_seconds(12),
        not_before: None,
        expires: Some(Timestamp::from_nanos(u64::MAX)),
        display: Arc::from(format!("tg_test_sk_{id}")),
        notes: KeyNotes::default(),
    }
}

pub(crate) fn user_record(source: &str, subject: &str) -> UserRecord {
    UserRecord {
        source: Arc::from(source),
        subject: Subject::parse(subject).unwrap(),
        organization: None,
        tier: None,
        rights: Rights::Only(Arc::new(ScopeSet::new([Scope::parse("*").unwrap()]))),
        state: UserState::Disabled,
        disabled_by: None,
        valid_from: Some(Timestamp::from_unix_seconds(5)),
        created: Timestamp::from_unix_seconds(1),
    }
}

fn secret(algorithm: HashAlgorithm, byte: u8, retires: Option<Timestamp>) -> KeySecret {
    KeySecret { hash: SecretHash { pepper: Arc::from("p1"), algorithm, digest: [byte; 32] }, retires }
}

#[test]
fn records_come_back_as_they_were() {
    let key = key_record("abc");
    assert_eq!(decode_key("abc", &encode_key(&key)).unwrap(), key);
    for user in [user_record("local", "alice"), user_record("micro", "a:b"), {
        let mut user = user_record("local", "bob");
        user.rights = Rights::Unlimited;
        user.state = UserState::Active;
        user
    }] {
        let place = RecordKey::user(&user.source, user.subject.as_str());
        assert_eq!(decode_user(&place.id, &encode_user(&user)).unwrap(), user);
    }
    let owner = KeyId::new("abc");
    assert_eq!(decode_digest_owner("00", &encode_digest_owner(&owner)).unwrap(), owner);
}

/// Byte for byte: a member that is not there is not written either, so that what another version writes beside us stays readable to it.
#[test]
fn records_of_before_it_was_noted_who_disabled_them_are_read_and_written_as_they_were() {
    let digest = "07".repeat(32);
    let secret = format!(r#""secrets":[{{"pepper":"p1","algorithm":"hmac_sha256","digest":"{digest}"}}]"#);
    let notes = r#""notes":{"allowed_networks":["192.0.2.0/24"],"tags":["ci"],"made_by":"ann"}"#;
    for (state, disabled) in [("active", None), ("disabled", Some(DisabledBy::Operator)), ("revoked", None)] {
        let rest = format!(r#""scopes":["a:b"],{secret},"state":"{state}","created":12,"display":"tg_test_sk_abc""#);
        for notes in [String::new(), format!(",{notes}")] {
            let stored = format!("\x01k{{\"id\":\"abc\",\"name\":\"ci\",\"user\":\"alice\",\"environment\":\"test\",{rest}{notes}}}");
            let key = decode_key("abc", stored.as_bytes()).unwrap();
            assert_eq!((key.disabled(), String::from_utf8(encode_key(&key)).unwrap()), (disabled, stored));
        }
    }
    for (state, disabled) in [("active", None), ("disabled", Some(DisabledBy::Operator))] {
        let stored =
            format!("\x01u{{\"source\":\"local\",\"subject\":\"bob\",\"rights\":\"unlimited\",\"state\":\"{state}\",\"created\":1}}");
        let user = decode_user("local:bob", stored.as_bytes()).unwrap();
        assert_eq!((user.disabled(), String::from_utf8(encode_user(&user)).unwrap()), (disabled, stored));
        let secret = r#"{"hash":{"pepper":"p1","algorithm":"hmac_sha256","digest":[DIGEST]},"created":5}"#;
        let secret = secret.replace("DIGEST", &["7"; 32].join(","));
        let form = r#""kind":"confidential","auth":"client_secret_basic","grant_types":["client_credentials"],"scopes":["a:b"]"#;
        let id = shelved::tests::client_id(1);
        let stored = format!(
            "\x01c{{\"id\":\"{id}\",\"name\":\"app\",{form},\"token_form\":\"opaque\",\"environment\":\"live\",\"secrets\":[{secret}],\"state\":\"{state}\",\"created\":1}}"
        );
        let client = ClientRecord::decode(&id, stored.as_bytes()).unwrap();
        assert_eq!((client.disabled(), String::from_utf8(client.encode()).unwrap()), (disabled, stored));
    }
}

#[test]
fn who_disabled_something_comes_back() {
    let by = Some(DisabledBy::Organization);
    let user = UserRecord { disabled_by: by, ..user_record("local", "alice") };
    assert_eq!(decode_user("local:alice", &encode_user(&user)).unwrap(), user);
    let notes = KeyNotes::new(KeyExtras { disabled_by: by, ..KeyExtras::default() });
    let key = KeyRecord { state: KeyState::Disabled, notes, ..key_record("abc") };
    assert_eq!(decode_key("abc", &encode_key(&key)).unwrap().disabled(), by);
}

// battery: K21
#[test]
fn what_is_not_a_record_of_this_version_is_corrupt() {
    let good = encode_key(&key_record("abc"));
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let json = String::from_utf8(good[2..].to_vec()).unwrap();
    let with_json = |json: String| [&good[..2], json.as_bytes()].concat();
    for (what, bytes, expected) in [
        ("empty", Vec::new(), "checksum"),
        ("future format", changed(0, 2), "newer version"),
        ("no format", changed(0, 0), "no known format"),
        ("a user", encode_user(&user_record("local", "alice")), "kind 'u'"),
        ("cut", good[..good.len() - 1].to_vec(), "JSON"),
        ("unknown member", with_json(json.replacen('{', r#"{"only_from":"10.0.0.0/8","#, 1)), "JSON"),
        ("unknown state", with_json(json.replace(r#""active""#, r#""paused""#)), "JSON"),
        ("bad scope", with_json(json.replace("a:*", "a *")), "scope"),
        ("another key", encode_key(&key_record("abd")), "another key"),
    ] {
        let StoreError::Corrupt { key, why } = decode_key("abc", &bytes).unwrap_err() else { panic!("{what}") };
        assert_eq!(key, "key/abc", "{what}");
        assert!(why.contains(expected), "{what}: {why}");
    }
    assert!(decode_user("local:bob", &encode_user(&user_record("local", "alice"))).is_err());
    assert!(decode_digest_owner("00", &good).is_err());
}

proptest! {
    // battery: K21
    #[test]
    fn decoding_anything_never_panics(mut bytes: Vec<u8>, kind in prop_oneof![Just(KEY), Just(USER), Just(DIGEST)]) {
        bytes.splice(0..0, [FORMAT, kind]);
        prop_assert!(decode_key("abc", &bytes).is_err());
        prop_assert!(decode_user("local:abc", &bytes).is_err());
    }
}
