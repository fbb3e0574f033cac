//! Keys as code: a YAML list of hashed keys, in a file of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::compile::Revision;
use crate::config::compile::api_versions;
use crate::config::compile::issuers;
use crate::config::compile::limits;
use crate::config::compile::names;
use crate::config::compile::scopes;
use crate::config::compile::scopes::Declared;
use crate::config::desk::Desk;
use crate::config::desk::Spot;
use crate::config::file::ConfigFile;
use crate::config::file::identity::KeyFile;
use crate::model::caller::Subject;
use crate::model::hex::read_hex;
use crate::model::key::HashAlgorithm;
use crate::model::key::KeyId;
use crate::model::key::KeyNotes;
use crate::model::key::KeyRecord;
use crate::model::key::KeySecret;
use crate::model::key::KeyState;
use crate::model::key::SecretHash;
use crate::model::time::Timestamp;

type FileKeys = BTreeMap<Arc<str>, Arc<KeyRecord>>;

pub(super) fn file_keys(
    desk: &mut Desk<'_>,
    revision: &mut Revision,
    spot: &Spot,
    file: &ConfigFile,
    brand: &Arc<str>,
    declared: &Declared<'_>,
) -> Option<FileKeys> {
    let Some(path) = &file.keys_file else { return Some(FileKeys::new()) };
    let contents = desk.read(spot, path)?;
    if contents.is_stand_in {
        return Some(FileKeys::new());
    }
    revision.add("keys", &contents.bytes);
    let Ok(text) = std::str::from_utf8(&contents.bytes) else {
        desk.error(spot, "the file is not UTF-8 text");
        return None;
    };
    let name: Arc<str> = Arc::from(desk.path(path).to_string_lossy());
    desk.other_file::<Vec<KeyFile>, KeyFile, FileKeys>(&name, text, |desk, written| records(desk, written, file, brand, declared))
}

fn records(desk: &mut Desk<'_>, written: &[KeyFile], file: &ConfigFile, brand: &Arc<str>, declared: &Declared<'_>) -> FileKeys {
    let mut keys = FileKeys::new();
    let mut lines: BTreeMap<&str, u32> = BTreeMap::new();
    for (index, key) in written.iter().enumerate() {
        let spot = Spot::default().index(index);
        if let Some(first) = lines.insert(&key.id, desk.line(&spot)) {
            desk.error(&spot.key("id"), format!("two keys have this id; the first is in line {first}"));
        }
        if let Some(record) = record(desk, &spot, key, file, brand, declared) {
            keys.insert(Arc::from(key.id.as_str()), Arc::new(record));
        }
    }
    keys
}

fn record(
    desk: &mut Desk<'_>,
    spot: &Spot,
    key: &KeyFile,
    file: &ConfigFile,
    brand: &Arc<str>,
    declared: &Declared<'_>,
) -> Option<KeyRecord> {
    if key.id.len() != 12 || !key.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        desk.error_expecting(&spot.key("id"), "this is no key id", "the 12 letters and digits after `_sk_` in the key's text");
    }
    if key.name.as_deref().is_some_and(|name| name.is_empty() || name.chars().count() > 128 || name.chars().any(char::is_control)) {
        desk.error_expecting(&spot.key("name"), "this is no name", "1 to 128 characters in one line");
    }
    let user = Subject::parse(&key.user).map_err(|error| desk.error(&spot.key("user"), error.to_string()));
    if key.org.as_deref().is_some_and(|organization| !names::is_visible(organization)) {
        desk.error_expecting(&spot.key("org"), "this is no organisation", "1 to 128 visible ASCII characters");
    }
    if let Some(tier) = &key.tier {
        limits::known_tier(desk, &spot.key("tier"), tier, file);
    }
    if let Some(version) = &key.version {
        api_versions::known_version(desk, &spot.key("version"), version, file.api_versions.as_ref());
    }
    if key.expires.zip(key.not_before).is_some_and(|(expires, not_before)| expires.0 <= not_before.0) {
        desk.error(&spot.key("expires"), "the key ends before it begins (`not_before`)");
    }
    let scopes = scopes::held(desk, &spot.key("scopes"), &key.scopes, declared);
    let hash = hash(desk, &spot.key("hash"), &key.hash, file);
    let environment = issuers::environment(key.environment);
    Some(KeyRecord {
        id: KeyId::new(&key.id),
        name: Arc::from(key.name.as_deref().unwrap_or(&key.id)),
        user: user.ok()?,
        organization: key.org.as_deref().map(Arc::from),
        environment,
        scopes,
        tier: key.tier.as_deref().map(Arc::from),
        rate_limit: key.rate_limit.map(|rate| rate.0),
        pinned_version: key.version.as_deref().map(Arc::from),
        secrets: vec![KeySecret { hash: hash?, retires: None }],
        state: if key.disabled == Some(true) { KeyState::Disabled } else { KeyState::Active },
        created: Timestamp::default(),
        not_before: key.not_before.map(|instant| instant.0),
        expires: key.expires.map(|instant| instant.0),
        display: Arc::from(format!("{brand}_{}_sk_{}", environment.as_str(), key.id)),
        notes: KeyNotes::default(),
    })
}

/// Complaints never repeat the text: it may be a key in plain.
fn hash(desk: &mut Desk<'_>, spot: &Spot, text: &str, file: &ConfigFile) -> Option<SecretHash> {
    let expected = "`hmac-sha256:<pepper id>:<64 hexadecimal digits>`";
    let mut parts = text.split(':');
    let (Some("hmac-sha256"), Some(pepper), Some(digits), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        desk.error_expecting(spot, "this is no hash of a key", expected);
        return None;
    };
    let digest = read_hex(digits);
    if digest.is_none() {
        desk.error_expecting(spot, "the digest is not 32 bytes in hexadecimal", expected);
    }
    let known: Vec<&str> = file.peppers.iter().flatten().map(|pepper| pepper.id.as_str()).collect();
    let peppers = Spot::default().key("peppers");
    if known.is_empty() {
        desk.missing_in(&peppers, spot, "keys as code need `peppers` in the config: a generated pepper is known to this node alone");
    } else if !known.contains(&pepper) {
        desk.unknown_in(&peppers, spot, "pepper", pepper, known);
    }
    Some(SecretHash { pepper: Arc::from(pepper), algorithm: HashAlgorithm::HmacSha256, digest: digest? })
}
