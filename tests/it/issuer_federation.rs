//! Sign-in elsewhere (seed 003): a certified OpenID provider stands in for Google and for Microsoft, a browser with a cookie jar goes
//! back and forth, and the provider is told to lie in every way that a real one could be made to.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::support::folder::Folder;
use crate::support::http1::Client;
use crate::support::http1::Reply;
use crate::support::http1::message;
use crate::support::node_tool::Provider;
use crate::support::ports::free_port;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;

const SECRET: &str = "a secret of ours at the provider: 0123456789";
const TENANT: &str = "5d8f0e2a-7c1b-4f0a-9a51-0f3c2f6f7e10";

const RULES: &str = r#"
listen:
  check: 127.0.0.1:CHECK
  control: unix:./data/control.sock
  ops: 127.0.0.1:OPS
  issuer: 127.0.0.1:ISSUER
store: { embedded: { path: ./data } }
ledger: { path: ./data/ledger }
lifecycle: { drain_delay: 0s, grace: 1s }
logging: { level: debug }
issuer:
  url: http://127.0.0.1:ISSUER
  resources: [{ uri: "https://api.example.com" }]
  scopes: { "orders:read": "Read your orders" }
  sign_up: open
  phone: required
  first_key: {}
  providers:
    - name: google
      label: Google
      issuer: http://127.0.0.1:GOOGLE
      client_id: us-at-google
      client_secret: { file: ./provider-secret }
      trusts_email: true
    - name: microsoft
      label: Microsoft
      issuer: "http://127.0.0.1:MICROSOFT/{tenantid}/v2.0"
      tenants: [TENANT]
      client_id: us-at-microsoft
      client_secret: { file: ./provider-secret }
routes:
  - { name: orders, path: /orders, scopes: { all_of: [orders:read] } }
"#;

/// Everything that a sign-in elsewhere needs.
struct World {
    tollgate: Tollgate,
    folder: Folder,
    issuer: u16,
    google: Provider,
    microsoft: Provider,
}

impl World {
    fn start() -> Self {
        let (folder, issuer, check, ops) = (Folder::new(), free_port(), free_port(), free_port());
        let settings = |name: &str| {
            json!({
                "client_id": format!("us-at-{name}"),
                "client_secret": SECRET,
                "redirect_uri": format!("http://127.0.0.1:{issuer}/sign-in/{name}/callback"),
            })
        };
        let google = Provider::start(settings("google"));
        let mut settings = settings("microsoft");
        settings["tenant"] = TENANT.into();
        settings["authentication"] = "client_secret_post".into();
        let microsoft = Provider::start(settings);
        folder.write_secret("provider-secret", SECRET);
        let names = [("CHECK", check), ("OPS", ops), ("ISSUER", issuer), ("GOOGLE", google.port), ("MICROSOFT", microsoft.port)];
        let rules = names.into_iter().fold(RULES.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
        folder.write("tollgate.yaml", &rules.replace("TENANT", TENANT));
        let tollgate = Tollgate::start(folder.path(), "tollgate.yaml", CheckAt::Tcp(([127, 0, 0, 1], check).into()), ops);
        Self { tollgate, folder, issuer, google, microsoft }
    }

    /// The resource API, as an operator asks it.
    fn operator(&self, target: &str) -> Value {
        let mut stream = UnixStream::connect(self.folder.short_path().join("data/control.sock")).expect("the control socket");
        let request = message("GET", target, "localhost", &[("connection", "close")], b"");
        stream.write_all(&request).expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_head, body) = answer.split_once("\r\n\r\n").expect("a head");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    fn users(&self) -> usize {
        self.operator("/v1/users")["users"].as_array().or(self.operator("/v1/users")["data"].as_array()).expect("a list").len()
    }

    /// A new browser that signs in somebody who founds an organisation: the page with its first key.
    fn found(&self, provider: &str) -> (Browser, Reply) {
        let mut browser = Browser::default();
        let page = browser.open(self, &format!("/sign-in/{provider}"));
        assert_eq!(page.status, 200, "{}", page.text());
        let text = page.text();
        let ticket = text.split_once("name=\"ticket\" value=\"").expect("the form").1.split_once('"').expect("its value").0.to_owned();
        let done = browser.post(self.issuer, "/sign-up/finish", &[("ticket", &ticket), ("phone", "+49 30 1234567")]);
        (browser, done)
    }
}

/// A browser: a jar of cookies for each server.
#[derive(Clone, Default)]
struct Browser {
    jars: BTreeMap<u16, BTreeMap<String, String>>,
    /// Where it was led last.
    at: String,
}

impl Browser {
    fn send(&mut self, method: &str, port: u16, target: &str, body: &str) -> Reply {
        let jar = self.jars.entry(port).or_default();
        let cookies = jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let mut headers = vec![("connection", "close")];
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        if method == "POST" {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        let reply = Client::new(port).raw(&message(method, target, &format!("127.0.0.1:{port}"), &headers, body.as_bytes()));
        for cookie in reply.headers("set-cookie") {
            let (name, rest) = cookie.split_once('=').expect("a cookie");
            let value = rest.split(';').next().expect("its value");
            let is_gone = value.is_empty() || rest.to_ascii_lowercase().contains("expires=thu, 01 jan 1970");
            if is_gone {
                jar.remove(name)
            } else {
                jar.insert(name.to_owned(), value.to_owned())
            };
        }
        reply
    }

    fn post(&mut self, port: u16, target: &str, fields: &[(&str, &str)]) -> Reply {
        let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let form = fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&");
        self.send("POST", port, target, &form)
    }

    /// Opens a page of ours, and follows wherever it is led until it is shown something, or sent to a page that is not of this test.
    fn open(&mut self, world: &World, target: &str) -> Reply {
        let (mut port, mut target) = (world.issuer, target.to_owned());
        for _ in 0..12 {
            self.at.clone_from(&target);
            let is_ours = port == world.issuer;
            if is_ours && !(target.starts_with("/sign-in/") || target.starts_with("/sign-up/finish")) {
                return Reply { status: 303, headers: Vec::new(), body: Vec::new() };
            }
            let reply = self.send("GET", port, &target, "");
            if !(300..400).contains(&reply.status) {
                return reply;
            }
            assert!(!is_ours || reply.status == 303, "{target}: {}", reply.status);
            let next = reply.need("location").to_owned();
            match next.strip_prefix("http://127.0.0.1:") {
                Some(rest) => {
                    let (host, path) = rest.split_at(rest.find('/').expect("a path"));
                    (port, target) = (host.parse().expect("a port"), path.to_owned());
                }
                None => target = next,
            }
        }
        panic!("led in circles, at last to {target}")
    }

    fn session(&self, world: &World) -> Option<&String> {
        self.jars.get(&world.issuer)?.iter().find(|(name, _)| name.contains("session")).map(|(_, value)| value)
    }
}

/// Seed 003 from its first line: sign up with Google and with Microsoft, the number that a founder gives, the key that is made with the
/// user, signing in again, and the automatic login.
// oauth: S1 S3 S4 S5 S9
#[test]
fn people_sign_up_and_in_at_google_and_microsoft() {
    let world = World::start();
    world.google.tell(&json!({ "account": { "sub": "g-1", "name": "Alice", "email": "alice@example.com", "email_verified": true } }));
    let (mut alice, page) = world.found("google");
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("_live_sk_"), "{}", page.text());
    assert!(alice.session(&world).is_some());
    assert_eq!(world.users(), 1);
    assert_eq!(world.operator("/v1/users")["data"][0]["online"], true);

    // Again: no form, no second account, another session.
    let before = alice.session(&world).cloned();
    assert_eq!((alice.open(&world, "/sign-in/google?return_to=/projects").status, alice.at.as_str()), (303, "/projects"));
    assert_ne!(alice.session(&world).cloned(), before, "an id never survives a sign-in");
    assert_eq!(world.users(), 1);

    // The automatic login: at once for whom the provider knows, and else back to our page, which is told not to try again.
    alice.jars.remove(&world.issuer);
    assert_eq!((alice.open(&world, "/sign-in/google?prompt=none&return_to=/projects").status, alice.at.as_str()), (303, "/projects"));
    assert!(alice.session(&world).is_some());
    let mut stranger = Browser::default();
    stranger.open(&world, "/sign-in/google?prompt=none&return_to=/projects");
    assert_eq!(stranger.at, "/sign-in?return_to=%2Fprojects&automatic=failed");
    assert!(stranger.session(&world).is_none());
    // There it ends: the ordinary page, which leads on by hand alone and still knows where the person wanted to go.
    let page = stranger.send("GET", world.issuer, "/sign-in?return_to=%2Fprojects&automatic=failed", "");
    assert_eq!((page.status, page.header("location"), page.header("refresh")), (200, None, None));
    let text = page.text();
    assert!(text.contains("type=\"password\"") && text.contains("name=\"return_to\" value=\"/projects\""), "{text}");
    assert!(text.contains("href=\"/sign-in/google?return_to=%2Fprojects\"") && !text.contains("prompt=none"), "{text}");

    // Microsoft: another address, another account; its object id is the person, whatever `sub` says.
    let person = |sub: &str, email: &str| json!({ "account": { "sub": sub, "oid": "o-1", "tid": TENANT, "email": email } });
    world.microsoft.tell(&person("m-1", "ALICE@example.com"));
    let mut known = Browser::default();
    let page = known.open(&world, "/sign-in/microsoft");
    assert!(page.status == 403 && page.text().contains("link"), "{}", page.text());
    assert!(known.session(&world).is_none());
    world.microsoft.tell(&person("m-1", "bob@example.com"));
    let (bob, page) = world.found("microsoft");
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(bob.session(&world).is_some());
    world.microsoft.tell(&person("m-2", "bob@example.com"));
    let mut again = Browser::default();
    assert_eq!((again.open(&world, "/sign-in/microsoft").status, again.at.as_str()), (303, "/account"));
    assert_eq!(world.users(), 2);

    // Another tenant is nobody's guest, and cannot claim to be the one that is.
    let other = "9e4b0000-0000-4000-8000-000000000000";
    let foreign = format!("{}/{other}/v2.0", world.microsoft.url());
    let own = format!("{}/{TENANT}/v2.0", world.microsoft.url());
    for token in [
        json!({ "tid": other, "iss": foreign }),
        json!({ "tid": TENANT, "iss": foreign }),
        json!({ "tid": other, "iss": own }),
        json!({ "tid": null }),
    ] {
        world.microsoft.tell(&json!({ "token": token }));
        let mut browser = Browser::default();
        assert_eq!(browser.open(&world, "/sign-in/microsoft").status, 502, "{token}");
        assert!(browser.session(&world).is_none());
    }

    // What the providers gave us is neither on the disk nor in the log.
    let mut texts = vec![("log".to_owned(), world.tollgate.process.errors() + &world.tollgate.process.output())];
    for entry in std::fs::read_dir(world.folder.path().join("data")).expect("the store's folder").flatten() {
        if entry.path().is_file() && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            texts.push((
                entry.path().display().to_string(),
                String::from_utf8_lossy(&std::fs::read(entry.path()).expect("a file")).into_owned(),
            ));
        }
    }
    assert!(texts.len() > 1);
    for provider in [&world.google, &world.microsoft] {
        let asked = provider.asked();
        let issued = asked["issued"].as_array().expect("tokens");
        assert!(issued.len() >= 6);
        for (place, text) in &texts {
            for token in issued {
                assert!(!text.contains(token.as_str().expect("a token")), "{place} holds a token");
            }
            assert!(!text.contains(SECRET), "{place} holds our secret");
        }
    }
}

/// A provider whose answers are not what was asked for signs nobody in.
// oauth: S1 S2 S7
#[test]
fn answers_that_are_not_ours_sign_nobody_in() {
    let world = World::start();
    world.google.tell(&json!({ "account": { "sub": "g-1" } }));
    let (_alice, page) = world.found("google");
    assert_eq!(page.status, 200, "{}", page.text());
    for (lie, status) in [
        (json!({ "token": { "nonce": "another" } }), 502),
        (json!({ "token": { "nonce": null } }), 502),
        (json!({ "token": { "aud": "them" } }), 502),
        (json!({ "token": { "aud": ["us-at-google", "them"] } }), 502),
        (json!({ "token": { "azp": "them" } }), 502),
        (json!({ "token": { "iss": "https://evil.example" } }), 502),
        (json!({ "token": { "exp": 1 } }), 502),
        (json!({ "token": { "iat": 9_000_000_000_u64 } }), 502),
        (json!({ "token": { "sub": null } }), 502),
        (json!({ "algorithm": "none" }), 502),
        (json!({ "algorithm": "HS256" }), 502),
        (json!({ "redirect": { "iss": "https://evil.example" } }), 400),
        (json!({ "redirect": { "iss": null } }), 400),
        (json!({ "redirect": { "state": null } }), 400),
        (json!({ "redirect": { "state": "another" } }), 400),
        (json!({ "redirect": { "code": "another" } }), 502),
        (json!({ "redirect": { "code": null } }), 403),
    ] {
        world.google.be_honest();
        world.google.tell(&lie);
        let mut browser = Browser::default();
        let page = browser.open(&world, "/sign-in/google");
        assert_eq!(page.status, status, "{lie}: {}", page.text());
        assert!(browser.session(&world).is_none(), "{lie}");
    }
    world.google.be_honest();

    // Honest again, but what came back is shown a second time, or in another browser.
    let mut browser = Browser::default();
    assert_eq!(browser.open(&world, "/sign-in/google").status, 303);
    let callback = |browser: &mut Browser| {
        let mut target = "/sign-in/google".to_owned();
        let mut port = world.issuer;
        while !target.starts_with("/sign-in/google/callback") {
            let next = browser.send("GET", port, &target, "").need("location").to_owned();
            let rest = next.strip_prefix("http://127.0.0.1:").unwrap_or_else(|| panic!("led to {next}"));
            let (host, path) = rest.split_at(rest.find('/').expect("a path"));
            (port, target) = (host.parse().expect("a port"), path.to_owned());
        }
        target
    };
    let back = callback(&mut browser);
    let mut other = Browser::default();
    assert_eq!(other.send("GET", world.issuer, &back, "").status, 400);
    other.send("GET", world.issuer, "/sign-in/google", "");
    assert_eq!(other.send("GET", world.issuer, &back, "").status, 400);
    assert_eq!(browser.send("GET", world.issuer, &back.replace("/google/", "/microsoft/"), "").status, 400);
    assert_eq!(browser.send("GET", world.issuer, &back, "").status, 303, "none of these burnt it");
    assert_eq!(browser.send("GET", world.issuer, &back, "").status, 400, "it is used up");
    assert_eq!(world.users(), 1);
}

/// A provider that is slow or down costs who waits for it a bounded time, and nobody else anything.
// oauth: S8
#[test]
fn a_provider_in_trouble_holds_nobody_up() {
    let mut world = World::start();
    world.google.tell(&json!({ "delay": 700 }));
    let (issuer, asked) = (world.issuer, world.google.asked()["metadata"].clone());
    let waiting: Vec<_> =
        (0..20).map(|_| std::thread::spawn(move || Browser::default().send("GET", issuer, "/sign-in/google", "").status)).collect();
    for one in waiting {
        assert_eq!(one.join().expect("an answer"), 303);
    }
    assert_eq!(asked, 0);
    assert_eq!(world.google.asked()["metadata"], 1, "twenty waited for one answer");

    // Slower than we wait: told so in time, and meanwhile everything else goes on.
    world.microsoft.tell(&json!({ "delay": 60_000 }));
    let began = Instant::now();
    let waiting = std::thread::spawn(move || Browser::default().send("GET", issuer, "/sign-in/microsoft", "").status);
    while !waiting.is_finished() {
        let asked = Instant::now();
        assert_eq!(Browser::default().send("GET", issuer, "/sign-in/google", "").status, 303);
        assert_eq!(world.tollgate.ops("/readyz").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(waiting.join().expect("an answer"), 502);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    // Documents that are known serve while the provider does not give them out; without a provider nobody signs in, and it is said.
    world.google.tell(&json!({ "delay": 0, "account": { "sub": "g-1" } }));
    let (mut alice, page) = world.found("google");
    assert_eq!(page.status, 200, "{}", page.text());
    world.google.tell(&json!({ "down": true }));
    assert_eq!((alice.open(&world, "/sign-in/google").status, alice.at.as_str()), (303, "/account"));
    let mut browser = Browser::default();
    let target = browser.send("GET", issuer, "/sign-in/google", "").need("location").to_owned();
    let state = target.split_once("&state=").expect("a state").1.split('&').next().expect("its value").to_owned();
    let at = world.google.url();
    world.google.stop();
    let back = format!("/sign-in/google/callback?code=c&state={state}&iss={at}");
    let page = browser.send("GET", issuer, &back, "");
    assert!(page.status == 502 && page.header("location").is_none(), "{}", page.text());
    assert_eq!(alice.send("GET", issuer, "/sign-in/google", "").status, 303, "what is known is kept");
}
