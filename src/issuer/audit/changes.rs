//! What a change changed: the one place where a record is held against what it was before.
//!
//! An entry outlives whom it is about, and what it says is never taken out again. So it tells the values that a grammar or the config
//! closes (scopes, tiers, times, limits); of what people word themselves, of what may be a person's, and of secrets, that they changed.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::issuer::audit::short;
use crate::issuer::oauth::clients::resource::token_form_name;
use crate::issuer::views::show_time;
use crate::model::account::AccountRecord;
use crate::model::account::OrganizationRecord;
use crate::model::client::ClientRecord;
use crate::model::client::ClientState;
use crate::model::key::KeyExtras;
use crate::model::key::KeyRecord;
use crate::model::key::KeyState;
use crate::model::time::Timestamp;
use crate::model::user::Rights;
use crate::model::user::UserRecord;
use crate::model::user::UserState;

/// Items of a list that are told; of those left out their number is.
const LISTED_MAX: usize = 20;

/// A setting that a change changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// As the API calls it.
    pub(super) setting: Arc<str>,
    /// Before and after; none: that it changed is all that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) values: Option<(Value, Value)>,
}

/// What a record says in one setting.
#[derive(Debug)]
pub(in crate::issuer) struct Setting {
    name: &'static str,
    value: Value,
    telling: Telling,
}

/// How much of it the log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    Values,
    /// But for those of one household: an address is a person's.
    Networks,
    Nothing,
}

/// A record whose changes are told.
pub(in crate::issuer) trait Audited {
    fn id(&self) -> &str;

    fn organization(&self) -> Option<&str>;

    /// Whatever of it may change. Takes the record apart whole, so that nothing new is forgotten here.
    fn settings(&self) -> Vec<Setting>;
}

/// A user, and its account where it has one.
pub(in crate::issuer) type Member<'a> = (&'a UserRecord, Option<&'a AccountRecord>);

/// What became another.
pub(in crate::issuer) fn compare(before: &impl Audited, after: &impl Audited) -> Vec<Change> {
    let before = before.settings();
    let changed = |is: Setting| {
        let was = before.iter().find(|was| was.name == is.name).map_or(&Value::Null, |was| &was.value);
        (*was != is.value).then(|| Change { setting: Arc::from(is.name), values: told(was, &is.value, is.telling) })
    };
    after.settings().into_iter().filter_map(changed).collect()
}

fn told(was: &Value, is: &Value, telling: Telling) -> Option<(Value, Value)> {
    match telling {
        Telling::Nothing => None,
        Telling::Values | Telling::Networks => Some((shortened(was, is, telling), shortened(is, was, telling))),
    }
}

/// A value within its bound. Of a list that is too long what differs from the other one goes first.
fn shortened(value: &Value, other: &Value, telling: Telling) -> Value {
    let tell = |value: &Value| match value {
        Value::String(text) if telling == Telling::Networks => Value::from(network(text)),
        Value::String(text) => Value::from(&*short(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.clone(),
    };
    let Value::Array(items) = value else { return tell(value) };
    let left_out = items.len().saturating_sub(LISTED_MAX);
    if left_out == 0 {
        return items.iter().map(tell).collect();
    }
    let (news, stayed): (Vec<&Value>, Vec<&Value>) =
        items.iter().partition(|item| !other.as_array().is_some_and(|other| other.contains(item)));
    let listed = news.into_iter().chain(stayed).take(LISTED_MAX).map(tell);
    listed.chain([Value::from(format!("… {left_out} more"))]).collect()
}

/// A single address, or what one household has of IPv6, is not told.
fn network(text: &str) -> &str {
    match text.parse() {
        Ok(IpNet::V4(four)) if four.prefix_len() < 32 => text,
        Ok(IpNet::V6(six)) if six.prefix_len() < 48 => text,
        Ok(IpNet::V4(_) | IpNet::V6(_)) | Err(_) => "an address",
    }
}

fn setting(name: &'static str, value: impl Serialize, telling: Telling) -> Setting {
    Setting { name, value: serde_json::to_value(value).unwrap_or_default(), telling }
}

fn open(name: &'static str, value: impl Serialize) -> Setting {
    setting(name, value, Telling::Values)
}

fn hidden(name: &'static str, value: impl Serialize) -> Setting {
    setting(name, value, Telling::Nothing)
}

fn time(name: &'static str, instant: Option<Timestamp>) -> Setting {
    open(name, instant.map(show_time))
}

impl Audited for KeyRecord {
    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    fn settings(&self) -> Vec<Setting> {
        let Self {
            // What it is and whose it is never changes.
            id: _,
            user: _,
            organization: _,
            environment: _,
            created: _,
            display: _,
            name,
            scopes,
            tier,
            rate_limit,
            pinned_version,
            secrets,
            state,
            not_before,
            expires,
            notes,
        } = self;
        let KeyExtras { allowed_networks, metadata, tags, made_by, disabled_by } = notes.extras().cloned().unwrap_or_default();
        let secrets: Vec<_> = secrets.iter().map(|secret| (&secret.hash, secret.retires)).collect();
        vec![
            hidden("name", name),
            open("scopes", scopes),
            open("tier", tier),
            open("rate_limit", rate_limit),
            open("version", pinned_version),
            hidden("secrets", secrets),
            open("active", *state == KeyState::Active),
            open("disabled_by", disabled_by),
            time("not_before", *not_before),
            time("expires_at", *expires),
            setting("allowed_networks", allowed_networks, Telling::Networks),
            hidden("metadata", metadata),
            hidden("tags", tags),
            hidden("made_by", made_by),
        ]
    }
}

impl Audited for Member<'_> {
    fn id(&self) -> &str {
        self.0.subject.as_str()
    }

    fn organization(&self) -> Option<&str> {
        self.0.organization.as_deref()
    }

    fn settings(&self) -> Vec<Setting> {
        let (user, account) = *self;
        let UserRecord { source: _, subject: _, organization, tier, rights, state, disabled_by, valid_from, created: _ } = user;
        let rights = match rights {
            Rights::Unlimited => None,
            Rights::Only(scopes) => Some(scopes),
        };
        let of_user = [
            open("organization", organization),
            open("tier", tier),
            open("rights", rights),
            open("active", *state == UserState::Active),
            open("disabled_by", disabled_by),
            time("valid_from", *valid_from),
        ];
        of_user.into_iter().chain(account.into_iter().flat_map(of_account)).collect()
    }
}

fn of_account(account: &AccountRecord) -> [Setting; 6] {
    let AccountRecord {
        user: _,
        created: _,
        made_by: _,
        invitation: _,
        // Signing in changes these, and a sign-in elsewhere is linked by a deed of its own.
        online: _,
        last_operation: _,
        identities: _,
        role,
        password,
        display_name,
        email,
        email_verified,
        phone,
    } = account;
    [
        open("role", role),
        hidden("password", password),
        hidden("display_name", display_name),
        hidden("email", email),
        open("email_verified", email_verified),
        hidden("phone", phone),
    ]
}

impl Audited for OrganizationRecord {
    fn id(&self) -> &str {
        &self.id
    }

    fn organization(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn settings(&self) -> Vec<Setting> {
        let Self { id: _, name, tier, founder, created: _ } = self;
        vec![hidden("name", name), open("tier", tier), hidden("founder", founder)]
    }
}

impl Audited for ClientRecord {
    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    fn settings(&self) -> Vec<Setting> {
        let Self {
            // What it is and whose it is never changes.
            id: _,
            owner: _,
            organization: _,
            kind: _,
            auth: _,
            environment: _,
            created: _,
            name,
            redirect_uris,
            grant_types,
            scopes,
            resources,
            token_form,
            tier,
            secrets,
            state,
            disabled_by,
            website,
        } = self;
        vec![
            hidden("name", name),
            hidden("redirect_uris", redirect_uris),
            open("grant_types", grant_types),
            open("scopes", scopes),
            open("resources", resources),
            open("access_tokens", token_form_name(*token_form)),
            open("tier", tier),
            hidden("secrets", secrets),
            open("active", *state == ClientState::Active),
            open("disabled_by", disabled_by),
            hidden("website", website),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::issuer::accounts::shelf;
    use crate::issuer::accounts::tests::Browser;
    use crate::issuer::accounts::tests::founder;
    use crate::issuer::tests::Issuer;
    use crate::issuer::tests::START;
    use crate::store::Family;

    /// What the newest entry of this deed and subject says that was changed.
    async fn newest(issuer: &Issuer, deed: &str, subject: &str) -> Value {
        let answer = issuer.ok("GET", &format!("/v1/audit?deed={deed}&subject={subject}"), Value::Null).await;
        answer["data"].as_array().unwrap().last().unwrap()["changes"].clone()
    }

    #[tokio::test]
    async fn every_kind_of_change_says_which_settings_and_nothing_personal_or_secret() {
        let issuer = Issuer::issuing(|_| ());
        let password = "planted horse battery";
        issuer.ok("POST", "/v1/users", json!({"id": "ann", "organization": "acme", "rights": ["orders:*"], "password": password})).await;
        let acme = OrganizationRecord { id: "acme".into(), name: "Acme".into(), tier: None, founder: None, created: START };
        issuer.records.commit(Vec::new(), vec![shelf::put(&acme, None)], START).await.unwrap();
        let (key, text) = issuer.key_of("ann", "acme", &["orders:read"]).await;
        let client = json!({"name": "app", "kind": "confidential", "grant_types": ["client_credentials"], "scopes": ["orders:read"]});
        let client = issuer.ok("POST", "/v1/clients", client).await;
        let (client, client_secret) = (client["id"].as_str().unwrap(), client["client_secret"].as_str().unwrap());
        let open = |setting: &str, before: Value, after: Value| json!({"setting": setting, "before": before, "after": after});
        let hidden = |setting: &str| json!({"setting": setting});
        let table = [
            (
                ("PATCH", format!("/v1/keys/{key}"), ("key.changed", &*key)),
                json!({
                    "name": "planted name", "scopes": ["orders:write"], "tier": "pro", "rate_limit": 60, "active": false,
                    "not_before": "2027-06-01T00:00:00Z", "expires_at": "2027-07-01T00:00:00Z",
                    "allowed_networks": ["192.0.2.0/24", "203.0.113.77", "2001:db8::/32", "2001:db8:7:7::/64"],
                    "metadata": {"of": "planted value"}, "tags": ["planted tag"]
                }),
                vec![
                    hidden("name"),
                    open("scopes", json!(["orders:read"]), json!(["orders:write"])),
                    open("tier", Value::Null, json!("pro")),
                    open("rate_limit", Value::Null, json!(60)),
                    open("active", json!(true), json!(false)),
                    open("disabled_by", Value::Null, json!("operator")),
                    open("not_before", Value::Null, json!("2027-06-01T00:00:00Z")),
                    open("expires_at", Value::Null, json!("2027-07-01T00:00:00Z")),
                    open("allowed_networks", json!([]), json!(["192.0.2.0/24", "an address", "2001:db8::/32", "an address"])),
                    hidden("metadata"),
                    hidden("tags"),
                ],
            ),
            (
                ("PATCH", format!("/v1/keys/{key}"), ("key.changed", &*key)),
                json!({"allowed_networks": ["203.0.113.78", "192.0.2.0/24"]}),
                vec![open(
                    "allowed_networks",
                    json!(["192.0.2.0/24", "an address", "2001:db8::/32", "an address"]),
                    json!(["an address", "192.0.2.0/24"]),
                )],
            ),
            (
                ("POST", format!("/v1/keys/{key}/rotate"), ("key.rotated", &*key)),
                json!({"grace": "1h", "expires_at": "2027-08-01T00:00:00Z"}),
                vec![hidden("secrets"), open("expires_at", json!("2027-07-01T00:00:00Z"), json!("2027-08-01T00:00:00Z"))],
            ),
            (
                ("PATCH", "/v1/users/ann".to_owned(), ("user.changed", "ann")),
                json!({
                    "tier": "pro", "rights": ["orders:read"], "active": false, "valid_from": "2027-01-01T00:00:00Z", "role": "admin",
                    "display_name": "planted person", "email": "planted@example.com", "phone": "+49309990001"
                }),
                vec![
                    open("tier", Value::Null, json!("pro")),
                    open("rights", json!(["orders:*"]), json!(["orders:read"])),
                    open("active", json!(true), json!(false)),
                    open("disabled_by", Value::Null, json!("operator")),
                    open("valid_from", Value::Null, json!("2027-01-01T00:00:00Z")),
                    open("role", json!("member"), json!("admin")),
                    hidden("display_name"),
                    hidden("email"),
                    hidden("phone"),
                ],
            ),
            (
                ("PATCH", "/v1/users/ann".to_owned(), ("password.changed", "ann")),
                json!({"password": "another planted horse", "rights": null}),
                vec![
                    open("rights", json!(["orders:read"]), Value::Null),
                    open("valid_from", json!("2027-01-01T00:00:00Z"), json!("2027-01-15T08:00:00Z")),
                    hidden("password"),
                ],
            ),
            (
                ("PATCH", "/v1/organizations/acme".to_owned(), ("organization.changed", "acme")),
                json!({"name": "planted house", "tier": "free"}),
                vec![hidden("name"), open("tier", Value::Null, json!("free"))],
            ),
            (
                ("PATCH", format!("/v1/clients/{client}"), ("client.changed", client)),
                json!({
                    "name": "planted app", "redirect_uris": ["https://planted.example.com/cb"], "scopes": ["orders:read", "orders:write"],
                    "grant_types": ["authorization_code", "refresh_token", "client_credentials"], "access_tokens": "opaque", "tier": "pro",
                    "resources": ["https://files.example.com"], "website": "https://planted.example.com/", "active": false
                }),
                vec![
                    hidden("name"),
                    hidden("redirect_uris"),
                    open(
                        "grant_types",
                        json!(["client_credentials"]),
                        json!(["authorization_code", "refresh_token", "client_credentials"]),
                    ),
                    open("scopes", json!(["orders:read"]), json!(["orders:read", "orders:write"])),
                    open("resources", json!([]), json!(["https://files.example.com"])),
                    open("access_tokens", json!("EdDSA"), json!("opaque")),
                    open("tier", Value::Null, json!("pro")),
                    open("active", json!(true), json!(false)),
                    open("disabled_by", Value::Null, json!("operator")),
                    hidden("website"),
                ],
            ),
        ];
        for ((method, path, (deed, subject)), body, expected) in table {
            issuer.ok(method, &path, body).await;
            assert_eq!(newest(&issuer, deed, subject).await, Value::from(expected), "{path}");
        }
        assert_eq!(newest(&issuer, "key.created", &key).await, json!([]));
        let shown = issuer.ok("GET", "/v1/audit?limit=500", Value::Null).await.to_string();
        let stored = issuer.records.range(Family::Audit, None, 500).await.unwrap().records;
        let stored: Vec<String> = stored.iter().map(|(_, stored)| String::from_utf8_lossy(&stored.bytes).into_owned()).collect();
        for planted in ["planted", "+4930", "203.0.113", "2001:db8:7", text.rsplit('_').next().unwrap(), client_secret, "argon2"] {
            assert!(!shown.contains(planted) && stored.iter().all(|entry| !entry.contains(planted)), "{planted}");
        }
        assert_eq!(issuer.ok("GET", "/v1/audit/verify", Value::Null).await["whole"], true);
    }

    #[tokio::test]
    async fn whoever_is_reduced_with_its_maker_has_an_entry_too() {
        let issuer = Issuer::issuing(|_| ());
        founder(&issuer, "ann").await;
        Browser::of(&issuer, "ann").await.ok("POST", "/v1/users", json!({"id": "bob", "rights": ["orders:read", "files:read"]})).await;
        issuer.ok("PATCH", "/v1/users/ann", json!({"rights": ["orders:*"]})).await;
        let reduced = json!([{"setting": "rights", "before": ["files:read", "orders:read"], "after": ["orders:read"]}]);
        assert_eq!(newest(&issuer, "user.changed", "bob").await, reduced);
    }

    struct Listed(Vec<String>);

    impl Audited for Listed {
        fn id(&self) -> &'static str {
            "listed"
        }

        fn organization(&self) -> Option<&str> {
            None
        }

        fn settings(&self) -> Vec<Setting> {
            vec![open("list", &self.0), open("longest", self.0.concat())]
        }
    }

    #[test]
    fn a_long_list_is_cut_with_a_count_and_what_differs_is_what_is_told() {
        let scope = |number: u32| format!("{number:0128}");
        let before = Listed((0..128).map(scope).collect());
        let after = Listed((1..=128).map(scope).collect());
        let changes = compare(&before, &after);
        let (was, is) = changes[0].values.clone().unwrap();
        for (list, differs, stayed) in [(was, scope(0), scope(1)), (is, scope(128), scope(1))] {
            let list: Vec<&str> = list.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect();
            assert_eq!((list.len(), list[0], list[1], list[LISTED_MAX]), (LISTED_MAX + 1, &*differs, &*stayed, "… 108 more"));
        }
        assert!(serde_json::to_vec(&changes).unwrap().len() < 8 * 1024);
        assert_eq!(compare(&before, &before), Vec::new());
        let short = Listed((0..20).map(scope).collect());
        let (was, is) = compare(&short, &Listed(Vec::new()))[0].values.clone().unwrap();
        assert_eq!((was.as_array().unwrap().len(), is), (20, json!([])), "what fits is whole");
    }
}
