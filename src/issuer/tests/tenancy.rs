//! Two organisations at one issuer. Whoever holds every right of one of them walks through the whole document with the other's ids, and
//! finds, changes, counts and learns nothing.

use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::issuer::accounts::sign_up::NewAccount;
use crate::issuer::accounts::sign_up::sign_up;
use crate::issuer::callers;
use crate::issuer::openapi::document;
use crate::issuer::sessions;
use crate::model::caller::Subject;

/// In everything that the one organisation calls by a name.
const MARK: &str = "alpha";

/// What the operations of the document are to a stranger.
enum Class {
    /// It names something in its path, and takes this body.
    OfOne(Value),
    /// It lists or sums what its caller reaches.
    OfAll,
    /// It names something in its body: each of these names the other organisation's where `mine` stands for one's own.
    Naming(fn(&Tenant) -> Vec<Value>),
    /// Operators alone.
    Operators(Value),
    /// It shows what everybody may know, or asks for a proof that a stranger does not have: other tests are about that.
    Everybodys,
}

/// A new operation must be classed here before it is served.
fn class(operation: &str) -> Class {
    match operation {
        "show_key"
        | "revoke_key"
        | "show_user"
        | "erase_user"
        | "show_organization"
        | "revoke_invitation"
        | "end_session"
        | "show_client"
        | "delete_client"
        | "remove_client_secret" => Class::OfOne(Value::Null),
        "change_key" | "change_client" | "change_organization" => Class::OfOne(json!({"name": "mine"})),
        "change_user" => Class::OfOne(json!({"display_name": "mine"})),
        "rotate_key" | "rotate_client" => Class::OfOne(json!({"grace": "0s"})),
        "list_keys" | "show_own_key" | "show_own_session" | "list_users" | "list_organizations" | "list_invitations" | "list_sessions"
        | "end_sessions" | "list_clients" | "list_audit" | "read_usage" | "stats" => Class::OfAll,
        "create_key" => Class::Naming(|of| {
            vec![json!({"name": "n", "user": of.user, "scopes": []}), json!({"name": "n", "organization": of.organization, "scopes": []})]
        }),
        "import_keys" => Class::Naming(|of| {
            let entry = |name: &str, value: &str| json!({"keys": [{"sha256": "5e".repeat(32), "name": "n", name: value, "scopes": []}]});
            vec![entry("user", &of.user), entry("organization", &of.organization)]
        }),
        "create_user" => Class::Naming(|of| vec![json!({"id": "somebody", "organization": of.organization})]),
        "create_invitation" => Class::Naming(|of| vec![json!({"organization": of.organization})]),
        "create_client" => Class::Naming(|of| {
            let client = |name: &str, value: &str| json!({"name": "n", "redirect_uris": ["https://b.example/cb"], name: value});
            vec![client("owner", &of.user), client("organization", &of.organization)]
        }),
        "verify_audit" | "show_ring" => Class::Operators(Value::Null),
        "rotate_ring" => Class::Operators(json!({"emergency": true})),
        "openapi" | "jwks" | "metadata" | "authorize" | "authorize_by_form" | "token" | "revoke_token" | "introspect_token"
        | "trade_key" | "revoke_own_key" => Class::Everybodys,
        unknown => panic!("{unknown} is not classed: say what a stranger may do with it"),
    }
}

/// One organisation: its admin, and one of everything.
#[derive(Clone)]
struct Tenant {
    user: String,
    member: String,
    organization: String,
    key: String,
    client: String,
    client_secret: String,
    invitation: String,
    session: String,
    /// The admin's key with every right that an admin has.
    text: String,
    /// The headers of the admin's browser.
    browser: HeaderMap,
}

impl Tenant {
    async fn found(issuer: &Issuer, name: &str) -> Self {
        let now = issuer.clock.now();
        let new = NewAccount {
            name: format!("{name}-ann"),
            password: Some("correct horse".to_owned()),
            display_name: Some(format!("Ann of {name}")),
            email: Some(format!("ann@{name}.example")),
            phone: Some("+49301234567".to_owned()),
            invitation: None,
        };
        let made = sign_up(&issuer.state, new, None, now).await.unwrap();
        let (user, organization) = (made.user.as_str().to_owned(), made.organization.to_string());
        let rights: Vec<String> = issuance().admin_rights.iter().map(|scope| scope.as_str().to_owned()).collect();
        let body = json!({"name": format!("{name} key"), "user": user, "scopes": rights, "tags": [name], "metadata": {"of": name}});
        let made = issuer.ok("POST", "/v1/keys", body).await;
        let text = made["key"].as_str().unwrap().to_owned();
        let as_admin = async |path: &str, body: Value| {
            let (status, made) = issuer.call_with(&text, "POST", path, body).await;
            assert_eq!(status, 201, "{path}: {made}");
            made
        };
        let member = format!("{name}-abe");
        as_admin("/v1/users", json!({"id": member, "email": format!("abe@{name}.example"), "password": "correct horse"})).await;
        let client = json!({
            "name": format!("{name} app"),
            "redirect_uris": [format!("https://{name}.example/cb")],
            "grant_types": ["authorization_code", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
            "scopes": ["orders:read"],
            "resources": ["https://api.example.com"],
        });
        let client = as_admin("/v1/clients", client).await;
        let invitation = as_admin("/v1/invitations", json!({})).await;
        let mut browser = HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_str(&format!("{name} browser")).unwrap())]);
        let opened =
            sessions::open(&issuer.state, &browser, &Subject::parse(&user).unwrap(), sessions::BY_PASSWORD, None, now).await.unwrap();
        browser.insert(header::COOKIE, HeaderValue::from_str(opened.cookie.split(';').next().unwrap()).unwrap());
        let (csrf, _cookie) = sessions::form_token(&issuer.state, &browser, callers::FORM_PURPOSE).unwrap();
        browser.insert(callers::FORM_HEADER, HeaderValue::from_str(&csrf).unwrap());
        let own = |made: &Value, member: &str| made[member].as_str().unwrap().to_owned();
        Self {
            key: own(&made, "id"),
            client: own(&client, "id"),
            client_secret: own(&client, "client_secret"),
            invitation: own(&invitation, "id"),
            session: opened.person.session.id.to_string(),
            user,
            member,
            organization,
            text,
            browser,
        }
    }

    /// Ids of the same form, and nobody's.
    fn nobodys(&self) -> Self {
        let reversed = |id: &str| id.chars().rev().collect::<String>();
        let behind = |prefix: &str, id: &str| format!("{prefix}{}", reversed(id.strip_prefix(prefix).unwrap()));
        Self {
            user: "omega-ann".to_owned(),
            member: "omega-abe".to_owned(),
            organization: behind("org_", &self.organization),
            key: reversed(&self.key),
            client: behind("app_", &self.client),
            invitation: reversed(&self.invitation),
            session: reversed(&self.session),
            ..self.clone()
        }
    }

    /// What a path or a query names by this word; none: it is about nobody in particular.
    fn named(&self, word: &str) -> Vec<&str> {
        match word {
            "keys" | "key" => vec![&self.key],
            "users" | "user" => vec![&self.user, &self.member],
            "organizations" | "organization" => vec![&self.organization],
            "invitations" => vec![&self.invitation],
            "sessions" => vec![&self.session],
            "clients" => vec![&self.client],
            "subject" | "actor" => {
                vec![&self.user, &self.member, &self.key, &self.client, &self.organization, &self.invitation, &self.session]
            }
            "after" => vec![&self.key, &self.user, &self.client, &self.organization, &self.invitation],
            "tag" => vec![self.user.split('-').next().unwrap()],
            "state" | "deed" | "from" | "to" | "limit" | "source" | "route" | "outcome" | "period" | "format" => Vec::new(),
            unknown => panic!("{unknown} is not classed: say whether it names somebody's thing"),
        }
    }

    /// Everything of it, as an operator sees it.
    async fn everything(&self, issuer: &Issuer) -> Vec<Value> {
        let mut found = Vec::new();
        for path in [
            format!("/v1/keys?organization={}", self.organization),
            format!("/v1/users?organization={}", self.organization),
            format!("/v1/organizations/{}", self.organization),
            format!("/v1/clients/{}", self.client),
            format!("/v1/sessions?user={}", self.user),
            "/v1/invitations".to_owned(),
        ] {
            let mut seen = issuer.ok("GET", &path, Value::Null).await;
            if path == "/v1/invitations" {
                seen["data"].as_array_mut().unwrap().retain(|one| one["id"] == *self.invitation);
            }
            assert_ne!(seen["data"], json!([]), "{path}");
            found.push(seen);
        }
        found
    }

    /// Whether an answer says anything of it.
    fn shows_in(&self, answer: &str) -> bool {
        let ids = [&self.organization, &self.key, &self.client, &self.invitation, &self.session];
        answer.to_lowercase().contains(MARK) || ids.into_iter().any(|id| answer.contains(id.as_str()))
    }
}

/// An admin of one organisation, by key or by browser.
struct Stranger<'i> {
    issuer: &'i Issuer,
    credential: HeaderMap,
    victim: &'i Tenant,
}

impl Stranger<'_> {
    /// Status, headers and body as they are, but for the request's id. Whatever is asked, nothing of the victim's is in them.
    async fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(target);
        request.headers_mut().unwrap().extend(self.credential.clone());
        let sent = if body.is_null() {
            Body::empty()
        } else {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        };
        let response = self.issuer.public.clone().oneshot(request.body(sent).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let id = head.headers["x-request-id"].to_str().unwrap().to_owned();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = format!("{:?}\n{}", head.headers, str::from_utf8(&body).unwrap()).replace(&id, "");
        assert!(!self.victim.shows_in(&text), "{method} {target}: {text}");
        if let Some(asked) = self.issuer.counts.asked.lock().unwrap().take() {
            let users = asked.users.expect("somebody's counts alone");
            assert!(users.iter().all(|user| !user.contains(MARK)), "{method} {target}: {users:?}");
        }
        (head.status.as_u16(), text)
    }

    /// Asks of the victim and of nobody, which must be the same to it.
    async fn compare(&self, method: &str, foreign: (&str, &Value), unknown: (&str, &Value)) -> u16 {
        let (status, answer) = self.ask(method, foreign.0, foreign.1).await;
        let (_, expected) = self.ask(method, unknown.0, unknown.1).await;
        assert_eq!(answer, expected, "{method} {} {}: as though it had never been", foreign.0, foreign.1);
        status
    }
}

// oauth: U5
#[tokio::test]
async fn no_endpoint_tells_or_does_anything_across_organisations() {
    let issuer = Issuer::issuing(|_| {});
    let (victim, own) = (Tenant::found(&issuer, MARK).await, Tenant::found(&issuer, "beta").await);
    let nobody = victim.nobodys();
    let before = victim.everything(&issuer).await;
    let by_key = HeaderMap::from_iter([("x-api-key".parse().unwrap(), HeaderValue::from_str(&own.text).unwrap())]);
    for credential in [by_key, own.browser.clone()] {
        let stranger = Stranger { issuer: &issuer, credential, victim: &victim };
        let paths = document(ErrorFormat::Standard).unwrap()["paths"].as_object().unwrap().clone();
        for (path, item) in &paths {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                let class = class(name);
                assert_eq!(path.contains('{'), matches!(class, Class::OfOne(_)), "{name} names something in its path, or does not");
                let method = method.to_uppercase();
                match class {
                    Class::OfOne(body) => {
                        let of = path.split('/').nth(2).unwrap();
                        let target = |id: &str| path.replacen("{id}", id, 1).replace("{which}", "current");
                        for (foreign, unknown) in victim.named(of).into_iter().zip(nobody.named(of)) {
                            let asked = ((target(foreign), &body), (target(unknown), &body));
                            let status = stranger.compare(&method, (&asked.0.0, asked.0.1), (&asked.1.0, asked.1.1)).await;
                            assert_eq!(status, 404, "{name} {foreign}");
                        }
                    }
                    Class::OfAll => {
                        let plain = method == "GET";
                        if plain {
                            stranger.ask(&method, path, &Value::Null).await;
                        }
                        let parameters = operation["parameters"].as_array().into_iter().flatten();
                        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
                            let word = parameter["name"].as_str().unwrap();
                            for (foreign, unknown) in victim.named(word).into_iter().zip(nobody.named(word)) {
                                let target = |value: &str| format!("{path}?{word}={value}");
                                if word == "after" {
                                    // Where a page begins says nothing of what is there, and its own may follow.
                                    stranger.ask(&method, &target(foreign), &Value::Null).await;
                                    continue;
                                }
                                let pair = (target(foreign), target(unknown));
                                stranger.compare(&method, (&pair.0, &Value::Null), (&pair.1, &Value::Null)).await;
                            }
                        }
                    }
                    Class::Naming(bodies) => {
                        for (foreign, unknown) in bodies(&victim).into_iter().zip(bodies(&nobody)) {
                            let status = stranger.compare(&method, (path, &foreign), (path, &unknown)).await;
                            assert!(status >= 400 || name == "import_keys", "{name} {foreign}: {status}");
                        }
                    }
                    Class::Operators(body) => assert_eq!(stranger.ask(&method, path, &body).await.0, 403, "{name}"),
                    Class::Everybodys => {}
                }
            }
        }
        assert_eq!(victim.everything(&issuer).await, before, "and nothing was done");
    }
    assert_eq!(issuer.judge(&victim.text).await.unwrap().key.as_ref().map(|key| key.as_str()), Some(victim.key.as_str()));
}

async fn by_client(issuer: &Issuer, of: &Tenant, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let basic = STANDARD.encode(format!("{}:{}", of.client, of.client_secret));
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    let request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Basic {basic}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let response = issuer.public.clone().oneshot(request.body(Body::from(body.finish())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

// oauth: U5 J3 K3
#[tokio::test]
async fn a_client_of_another_organisation_learns_and_ends_nothing() {
    let issuer = Issuer::issuing(|_| {});
    let (victim, own) = (Tenant::found(&issuer, MARK).await, Tenant::found(&issuer, "beta").await);
    let (_, token) = by_client(&issuer, &victim, "/oauth/token", &[("grant_type", "client_credentials")]).await;
    let token = token["access_token"].as_str().unwrap().to_owned();
    let (_, login) = issuer.call_with("", "POST", "/auth/token", json!({"username": victim.user, "password": "correct horse"})).await;
    let login = login["access_token"].as_str().unwrap().to_owned();
    for shown in [&token, &login, &victim.text] {
        let (_, seen) = by_client(&issuer, &victim, "/oauth/introspect", &[("token", shown)]).await;
        assert_eq!(seen["active"], true, "its own organisation's: {seen}");
        for (path, name) in [("/oauth/introspect", "token"), ("/oauth/revoke", "token"), ("/oauth/token", "subject_token")] {
            let exchange = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ];
            let rest = if name == "token" { &[][..] } else { &exchange };
            // Of an access token a service that it was meant for may ask for another one, whosever it is.
            if name != "token" && *shown != victim.text {
                continue;
            }
            let found = by_client(&issuer, &own, path, &[rest, &[(name, shown)]].concat()).await;
            assert_eq!(found, by_client(&issuer, &own, path, &[rest, &[(name, "nothing")]].concat()).await, "{path}");
        }
        let (_, seen) = by_client(&issuer, &victim, "/oauth/introspect", &[("token", shown)]).await;
        assert_eq!(seen["active"], true, "{seen}");
    }
}
