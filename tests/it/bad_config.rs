//! One file per mistake in `bad_config/`, and beside each what is said about it, whole. In `good_config/` a file that uses every
//! setting and draws not even a warning.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use tollgate::config;
use tollgate::config::boot::Listen;
use tollgate::config::boot::Peppers;
use tollgate::config::boot::RedisMode;
use tollgate::config::boot::RedisServer;
use tollgate::config::outside::Outside;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(name)
}

fn names(folder: &Path, extension: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let matching = files.filter(|path| path.extension().is_some_and(|own| own == extension));
    matching.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
}

/// What is said about a file, without the machine's own folder names.
fn said(path: &Path) -> String {
    let base = format!("{}/", path.parent().expect("a folder").display());
    match config::load(path) {
        Ok(loaded) => format!("good, with {} warnings\n", loaded.warnings.len()),
        Err(complaints) => complaints.iter().map(|complaint| format!("{complaint}\n").replace(&base, "")).collect(),
    }
}

/// `routes[0].path` and the like are in the reports themselves: a change of a text, a place or a field shows here.
// battery: C1 C2 C5 C6 C7 C8 C12 C15
#[test]
fn every_mistake_is_named_with_its_place() {
    let folder = folder("bad_config");
    let mistakes = names(&folder, "yaml");
    assert_eq!(mistakes, names(&folder, "expected"), "each file has its report");
    assert!(mistakes.len() >= 60, "{}", mistakes.len());
    let mut different = String::new();
    for name in &mistakes {
        let said = said(&folder.join(format!("{name}.yaml")));
        let expected = std::fs::read_to_string(folder.join(format!("{name}.expected"))).expect("the report");
        if said != expected {
            different.push_str(&format!("--- {name}.expected\n{expected}+++ said\n{said}"));
        }
        assert!(!said.starts_with("good"), "{name}: {said}");
        // Every secret of these files has this word in it.
        assert!(!said.contains("hunter2"), "{name}: {said}");
    }
    assert!(different.is_empty(), "{different}");
}

/// What YAML would like to read as a boolean or a number is the literal text where text is meant.
// battery: C5
#[test]
fn literal_texts_stay_literal() {
    let texts = ["no", "on", "y", "1e3", "0o10", "1_000", "007", "12", "1.0", "true"];
    for text in texts {
        let yaml = format!("routes: [{{ path: /a, name: {text} }}]\n");
        let (_, rules, _) = config::compile_text(&yaml, &Outside::default()).expect(text);
        assert_eq!(&*rules.routes[0].name, text);
    }
}

/// Small files that unfold, large ones, deep ones: refused before they cost anything.
// battery: C3
#[test]
fn bombs_are_refused_at_once() {
    let laughs = (1..=9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
        let nine = vec![format!("*a{}", level - 1); 9].join(",");
        format!("{text}a{level}: &a{level} [{nine}]\n")
    });
    let quadratic = format!("a: &a [{}]\nb: [{}]\n", vec!["x"; 2_000].join(","), vec!["*a"; 2_000].join(","));
    let bombs = [
        ("nine levels of nine laughs", laughs),
        ("aliases squared", quadratic),
        ("ten megabytes of one text", format!("a: {}", "x".repeat(10_000_000))),
        ("a thousand levels in brackets", format!("a: {}{}", "[".repeat(1_000), "]".repeat(1_000))),
        ("a thousand levels by indentation", (0..1_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect()),
        ("an anchor that holds itself", "a: &a [*a]\n".to_owned()),
        ("a million keys", (0..400_000).map(|key| format!("k{key}: 1\n")).collect()),
    ];
    for (name, text) in bombs {
        let began = Instant::now();
        let complaints = config::compile_text(&text, &Outside::default()).expect_err(name);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{name} took {took:?}, and this is a slow build on a busy machine");
        assert!(complaints.len() <= 65, "{name}");
        let longest = complaints.iter().map(|complaint| complaint.to_string().len()).max();
        assert!(longest < Some(1_000), "{name}: {longest:?}");
    }
}

/// A path that is no file is told apart without being opened, so a pipe that nobody writes to holds up nothing.
// battery: C13
#[test]
fn a_secret_in_a_pipe_or_a_folder_is_refused_without_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().expect("mkfifo");
    assert!(made.success());
    std::fs::create_dir(folder.path().join("dir")).expect("a folder");
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).expect("a socket");
    let cases = [("pipe", "no regular file"), ("dir", "a directory"), ("socket", "no regular file"), ("/dev/zero", "no regular file")];
    for (secret, wanted) in cases {
        let path = folder.path().join("tollgate.yaml");
        let text = format!("peppers: [{{ id: p, secret: {{ file: {secret} }} }}]\nroutes: [{{ path: /a }}]\n");
        std::fs::write(&path, text).expect("the config");
        let said = said(&path);
        assert!(said.starts_with("tollgate.yaml:1:36: peppers[0].secret.file: ") && said.contains(wanted), "{secret}: {said}");
    }
    // The config itself no less.
    for (path, wanted) in [("pipe", "no regular file"), ("dir", "a directory")] {
        let said = said(&folder.path().join(path));
        assert!(said.contains(wanted), "{path}: {said}");
    }
}

/// Who may read a secret's file decides between a warning and none; an unreadable one is refused (to whoever is not root).
// battery: C13
#[test]
fn a_secret_that_everybody_may_read_draws_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tollgate.yaml");
    std::fs::write(&path, "peppers: [{ id: p, secret: { file: pepper } }]\nroutes: [{ path: /a }]\n").expect("the config");
    let pepper = folder.path().join("pepper");
    std::fs::write(&pepper, "p".repeat(32)).expect("the secret");
    for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o644, 1), (0o604, 1)] {
        std::fs::set_permissions(&pepper, std::fs::Permissions::from_mode(mode)).expect("a mode");
        let loaded = config::load(&path).expect("a good config");
        assert_eq!(loaded.warnings.len(), warnings, "{mode:o}: {:?}", loaded.warnings);
        assert!(loaded.warnings.iter().all(|warning| warning.field == "peppers[0].secret.file"));
    }
}

/// The good config with the files that it names, made fresh: certificates, keys, secrets that only their owner may read.
fn full() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect(name);
    };
    for name in ["full.yaml", "redis.yaml", "keys.yaml", "partner-jwks.json"] {
        std::fs::copy(self::folder("good_config").join(name), folder.path().join(name)).expect(name);
    }
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    secret("tls.crt", &own.cert.pem());
    secret("ca.crt", &own.cert.pem());
    secret("tls.key", &own.signing_key.serialize_pem());
    secret("batch.pem", &own.signing_key.public_key_pem());
    secret("ops-token", "an-operator-reads-the-metrics\n");
    secret("pepper-2", "the pepper of this year, for the tests\n");
    secret("micro-secret", &"a secret that both sides know, ".repeat(4));
    let path = folder.path().join("full.yaml");
    // Environment variables are the process's, and tests share one: this pepper moves into a file.
    secret("pepper-1", "the pepper of last year, for the tests\n");
    secret("provider-secret", "a provider's secret for the tests\n");
    secret("registration-token", "a-token-for-registering\n");
    secret("redis-password", "a password for the tests\n");
    secret("sentinel-password", "another password for the tests\n");
    let text = std::fs::read_to_string(&path).expect("the config").replace("{ env: TOLLGATE_TEST_PEPPER }", "{ file: pepper-1 }");
    std::fs::write(&path, text).expect("the config");
    (folder, path)
}

#[test]
fn a_config_with_every_setting_is_good_without_a_warning() {
    let (_folder, path) = full();
    let loaded = config::load(&path).unwrap_or_else(|complaints| panic!("{complaints:#?}"));
    assert_eq!(loaded.warnings, []);
    // Spot checks; the rest is in the types.
    let (boot, rules) = (&loaded.boot, &loaded.rules);
    assert!(matches!(&boot.check, Listen::Tcp { tls: Some(tls), .. } if tls.client_ca.is_some()));
    assert!(matches!(&boot.control, Some(Listen::Unix { mode: 0o600, group: Some(group), .. }) if group == "envoy"));
    assert!(matches!(&boot.peppers, Peppers::Given(peppers) if &*peppers[0].id == "p2" && peppers[1].secret.expose().ends_with(b"tests")));
    assert_eq!(
        rules.issuers.iter().map(|issuer| issuer.source.name.as_str()).collect::<Vec<_>>(),
        ["provider", "partner-example-com", "batch", "micro", "local"]
    );
    assert_eq!(
        rules.tiers["pro"].policies.iter().map(|policy| &*policy.name).collect::<Vec<_>>(),
        ["pro", "pro:key", "pro:user", "pro:organization", "pro:owner"]
    );
    assert_eq!(rules.routes[0].limits[0].name.as_ref(), "route:conversations.get:spray");
    assert_eq!(rules.identity_headers.iter().map(|header| &*header.name).collect::<Vec<_>>(), ["user", "x-identity"]);
    assert_eq!(rules.file_keys["0123456789Ab"].display.as_ref(), "acme_test_sk_0123456789Ab");
    assert_eq!(rules.revision.len(), 12);
    assert!(!format!("{loaded:?}").contains("for the tests"), "secrets are never shown");
}

#[test]
fn a_shared_store_is_read_with_every_setting_and_differs_where_it_differs() {
    let (folder, _) = full();
    let path = folder.path().join("redis.yaml");
    let loaded = config::load(&path).unwrap_or_else(|complaints| panic!("{complaints:#?}"));
    assert_eq!(loaded.warnings, []);
    let boot = &loaded.boot;
    let redis = boot.redis.as_ref().expect("the shared store");
    let tcp = |host: &str, port| RedisServer::Tcp { host: host.into(), port };
    assert_eq!(redis.mode, RedisMode::Sentinel { master_name: "main".into() });
    assert_eq!(redis.servers, [tcp("sentinel-1.example.com", 26379), tcp("2001:db8::2", 26380)]);
    assert_eq!((redis.database, &*redis.prefix, redis.replicas), (2, "gate.one", 2));
    assert_eq!(redis.login.username.as_deref(), Some("gate"));
    assert_eq!(redis.sentinel_login.username.as_deref(), Some("watcher"));
    assert!(redis.tls.as_ref().is_some_and(|tls| tls.authorities.is_some() && tls.client.is_some()));
    assert_eq!(redis.timeouts.check, Duration::from_millis(40));
    assert!(boot.store_path.ends_with("gate-data") && boot.ledger_path.ends_with("gate-data/ledger"));
    assert_eq!(boot.ledger_flush_interval, Duration::from_secs(1), "sidecars see each other's counts soon");
    assert_eq!(loaded.rules.tiers["pro"].grace, Duration::from_secs(30));
    assert_eq!(loaded.rules.tiers["free"].grace, Duration::ZERO);
    assert!(!format!("{loaded:?}").contains("for the tests"), "secrets are never shown");

    // A password is asked for again at each connection, so a rotated one needs no restart, and no other config.
    let password = redis.login.password.as_ref().expect("a password");
    assert_eq!(password.read().expect("the file").as_slice(), b"a password for the tests");
    std::fs::write(folder.path().join("redis-password"), "a new one\r\n").expect("the file");
    assert_eq!(password.read().expect("the file").as_slice(), b"a new one");
    std::fs::write(folder.path().join("redis-password"), "\n").expect("the file");
    assert!(password.read().expect_err("empty").ends_with("redis-password: it is empty"));
    std::fs::write(folder.path().join("redis-password"), "a new one").expect("the file");
    assert_eq!(config::load(&path).expect("a good config").boot.differences(boot), [""; 0]);

    let text = std::fs::read_to_string(&path).expect("the config");
    for (from, to, names) in [
        ("sentinel-1.example.com", "sentinel-3.example.com", &["store.redis.url"][..]),
        ("/2\"", "/3\"", &["store.redis.url"]),
        ("master_name: main", "master_name: other", &["store.redis.mode"]),
        ("username: gate", "username: fence", &["store.redis.password"]),
        ("sentinel_username: watcher", "sentinel_username: looker", &["store.redis.sentinel_password"]),
        ("cert: tls.crt, key: tls.key", "", &["store.redis.tls"]),
        ("prefix: gate.one", "prefix: gate.two", &["store.redis.prefix"]),
        ("check: 40ms", "check: 41ms", &["store.redis.timeouts"]),
        ("replicas: 2", "replicas: 3", &["store.redis.replicas"]),
        ("path: gate-data", "path: data", &["listen.control", "store", "ledger.path"]),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).expect("the config");
        let changed = config::load(&path).unwrap_or_else(|complaints| panic!("{to}: {complaints:#?}"));
        assert_eq!(changed.boot.differences(boot), names, "{to}");
    }
}

#[test]
fn a_shared_store_has_the_documented_defaults() {
    let peppers = "peppers: [{ id: p, secret: { env: PEPPER } }]\nroutes: [{ path: /a }]\n";
    let outside = || Outside::of([], [("PEPPER".to_owned(), vec![b'p'; 32])]);
    let table = [
        ("url: redis://localhost", RedisMode::Standalone, 6_379, 0),
        ("url: rediss://localhost", RedisMode::Standalone, 6_379, 0),
        ("{ url: redis://localhost, mode: cluster }", RedisMode::Cluster, 6_379, 1),
        ("{ url: redis://localhost, mode: sentinel, master_name: m }", RedisMode::Sentinel { master_name: "m".into() }, 26_379, 1),
    ];
    for (written, mode, port, replicas) in table {
        let written = if written.starts_with('{') { written.to_owned() } else { format!("{{ {written} }}") };
        let text = format!("store: {{ redis: {written} }}\n{peppers}");
        let (boot, _, warnings) = config::compile_text(&text, &outside()).unwrap_or_else(|complaints| panic!("{text}: {complaints:#?}"));
        assert_eq!(warnings, []);
        let redis = boot.redis.expect("the shared store");
        assert_eq!(redis.servers, [RedisServer::Tcp { host: "localhost".into(), port }]);
        assert_eq!((redis.mode, redis.replicas, &*redis.prefix, redis.database), (mode, replicas, "tollgate", 0));
        assert_eq!((redis.login.username, redis.login.password), (None, None));
        let timeouts = redis.timeouts;
        assert_eq!([timeouts.connect, timeouts.check, timeouts.background].map(|length| length.as_millis()), [1_000, 50, 250]);
        assert_eq!(redis.tls.is_some(), written.contains("rediss"));
        assert_eq!(boot.store_path, Path::new("data"));
    }
}

/// A setting that nobody wrote down here would be a setting that nobody tried.
#[test]
fn the_full_config_uses_every_setting_of_the_schema() {
    let schema: serde_json::Value = serde_json::from_str(&config::schema::config_schema()).expect("JSON");
    let texts = ["full.yaml", "redis.yaml", "keys.yaml"]
        .map(|name| std::fs::read_to_string(folder("good_config").join(name)).expect(name))
        .concat();
    let mut properties = BTreeSet::new();
    collect_properties(&schema, &mut properties);
    assert!(properties.len() > 90, "{}", properties.len());
    let missing: Vec<&String> = properties.iter().filter(|property| !texts.contains(&format!("{property}:"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn collect_properties(schema: &serde_json::Value, properties: &mut BTreeSet<String>) {
    if let Some(own) = schema["properties"].as_object() {
        properties.extend(own.keys().cloned());
    }
    let members = schema.as_object().into_iter().flat_map(|members| members.values());
    members.chain(schema.as_array().into_iter().flatten()).for_each(|inner| collect_properties(inner, properties));
}

/// The bounds that the schema tells editors, and the reference people, are those that are kept, and told to whoever goes beyond,
/// however far.
#[test]
fn numbers_beyond_the_bounds_of_the_schema_are_refused() {
    let schema: serde_json::Value = serde_json::from_str(&config::schema::config_schema()).expect("JSON");
    let (_folder, path) = full();
    let text = std::fs::read_to_string(&path).expect("the config");
    let whole: serde_json::Value = serde_yaml::from_str(&text).expect("YAML");
    let told = |config: &serde_json::Value| {
        std::fs::write(&path, config.to_string()).expect("the config");
        said(&path)
    };
    assert!(told(&whole).starts_with("good"), "the config itself");
    let mut numbers = Vec::new();
    collect_numbers(&whole, &schema, &schema, "", &mut numbers);
    assert!(numbers.len() > 20, "{numbers:?}");
    for (place, beyond, bounds) in numbers {
        let mut config = whole.clone();
        *config.pointer_mut(&place).expect("a number of the config") = beyond.clone();
        let told = told(&config);
        assert!(told.contains(&format!("found {beyond};")) && told.contains(&bounds), "{place}: {beyond}: {bounds}: {told}");
    }
}

/// Each number of a config, what is out of its bounds, and the bounds.
fn collect_numbers(
    value: &serde_json::Value,
    shape: &serde_json::Value,
    schema: &serde_json::Value,
    place: &str,
    found: &mut Vec<(String, serde_json::Value, String)>,
) {
    let parts = ["allOf", "anyOf"].iter().filter_map(|keyword| shape[*keyword].as_array()).flatten();
    let named = shape["$ref"].as_str().and_then(|name| schema.pointer(name.strip_prefix('#')?));
    parts.chain(named).for_each(|part| collect_numbers(value, part, schema, place, found));
    if value.is_number() {
        let (least, most) = (shape["minimum"].as_i64().into_iter(), shape["maximum"].as_i64().into_iter());
        let bounds = if let Some(most) = most.clone().next() { format!("{} to {most}", shape["minimum"]) } else { "or more".to_owned() };
        let beyond = least.map(|least| least - 1).chain(most.flat_map(|most| [most + 1, i64::MAX]));
        found.extend(beyond.map(|number| (place.to_owned(), number.into(), bounds.clone())));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        collect_numbers(item, &shape["items"], schema, &format!("{place}/{index}"), found);
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let property = shape["properties"].get(name).unwrap_or(&shape["additionalProperties"]);
        collect_numbers(member, property, schema, &format!("{place}/{name}"), found);
    }
}

/// The copy that editors read is the schema of this build; `tollgate schema > envoy/tollgate.schema.json` makes it anew.
#[test]
fn the_committed_schema_is_the_generated_one() {
    let committed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy/tollgate.schema.json")).expect("the schema");
    assert!(committed == config::schema::config_schema(), "run `tollgate schema > envoy/tollgate.schema.json`");
    let schema: serde_json::Value = serde_json::from_str(&committed).expect("JSON");
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], serde_json::json!(["routes"]));
    assert!(!committed.contains("\"null\""), "a key without a value is refused");
}

/// Everything that reloads with the config moves its revision; what needs a restart, and blanks elsewhere, do not.
#[test]
fn the_revision_covers_what_reloads() {
    let revision = |path: &Path| config::load(path).expect("a good config").rules.revision.to_string();
    let (folder, path) = full();
    let first = revision(&path);
    assert_eq!(first, revision(&path));
    let append = |name: &str, text: &str| {
        let path = folder.path().join(name);
        let whole = format!("{}{text}", std::fs::read_to_string(&path).expect(name).trim_end());
        std::fs::write(path, whole).expect(name);
    };
    let mut seen = BTreeSet::from([first]);
    for (name, text) in [
        ("full.yaml", "\n# more\n"),
        ("keys.yaml", "\n# more\n"),
        ("partner-jwks.json", " \n"),
        ("micro-secret", "more"),
        ("batch.pem", "\n\n"),
    ] {
        append(name, text);
        assert!(seen.insert(revision(&path)), "{name}");
    }
    for (name, text) in [("pepper-2", "more"), ("tls.crt", "\n\n"), ("ops-token", "more")] {
        append(name, text);
        assert!(!seen.insert(revision(&path)), "{name}");
    }
}

#[test]
fn the_issuer_of_the_readme_is_good() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    let (_, section) = readme.split_once("### An issuer in ten minutes").expect("the section");
    let (_, text) = section.split_once("```yaml\n").expect("a config");
    let (text, _) = text.split_once("```").expect("its end");
    let (_, _, warnings) = config::compile_text(text, &Outside::default()).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(warnings, []);
}

/// What is good and still worth a word.
// battery: C7
#[test]
fn warnings_name_what_is_probably_not_meant() {
    let cases = [
        ("routes:\n  - { path: '/a/**' }\n  - { path: /a, methods: [GET] }\n  - { path: '/a/{b}/**', name: below }\n", ""),
        (
            "routes:\n  - { path: /a, methods: [CONNECT, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT], upgrades: allowed }\n  - { path: /a }\n",
            "tollgate.yaml:3:5: routes[1]: this route never matches: more specific ones take all of its requests\n",
        ),
        (
            "routes:\n  - { path: /a, auth: optional, scopes: { all_of: [a] } }\n  - { path: /b, acknowledge_open: true }\n",
            "tollgate.yaml:2:41: routes[0].scopes: callers without a credential pass without these scopes (`auth: optional`)\n\
             tollgate.yaml:3:35: routes[1].acknowledge_open: the route is not open; there is nothing to acknowledge\n",
        ),
        (
            "listen: { issuer: '127.0.0.1:8001' }\nissuer: { url: 'http://127.0.0.1:10000', trusted_hops: 1, \
             resources: [{ uri: 'https://a' }], scopes: { 'a:read': x } }\nroutes:\n  - { path: /a, scopes: { all_of: ['a:raed', 'a:read'] } }\n",
            "tollgate.yaml:4:36: routes[0].scopes.all_of[0]: `issuer.scopes` has no `a:raed` (did you mean `a:read`?): no application can be \
             given it; right for keys alone, if `scopes` lists it\n",
        ),
        (
            "listen:\n  check: { address: 'unix:a.sock', mode: '0666' }\n  ops: 0.0.0.0:9464\nroutes: [{ path: /a }]\n",
            "tollgate.yaml:2:42: listen.check.mode: every user of this machine may use the socket\n\
             tollgate.yaml:3:8: listen.ops: only health answers beyond loopback; metrics need a `token`, or `tls` with `client_ca`\n",
        ),
        (
            "listen: { check: '0.0.0.0:9191' }\naccess_log: accepted\nroutes: [{ path: /a }]\n",
            "tollgate.yaml:1:18: listen.check: whoever reaches this address may ask for verdicts; use loopback, a unix socket, or `tls` with \
             `client_ca`\n\
             tollgate.yaml:2:13: access_log: whoever reaches `listen.check` may have answers counted for any user; use loopback, a unix \
             socket, or `tls` with `client_ca`\n",
        ),
        (
            "identity_headers: { x-user: user, x-by: tollgate }\nroutes: [{ path: '/users/:id/orders' }]\n",
            "tollgate.yaml:1:29: identity_headers.x-user: the same text `user` at each request; the caller's own is `{user}`\n\
             tollgate.yaml:2:18: routes[0].path: `:id` is matched as it stands; a variable is written `{id}`\n",
        ),
    ];
    for (text, expected) in cases {
        let (_, _, warnings) = config::compile_text(text, &Outside::default()).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        let said: String = warnings.iter().map(|warning| format!("{warning}\n")).collect();
        assert_eq!(said, expected, "{text}");
    }
}

#[test]
fn the_smallest_config_has_the_documented_defaults() {
    let (boot, rules, warnings) = config::compile_text("routes: [{ path: /a }]\n", &Outside::default()).expect("a good config");
    assert!(warnings.is_empty());
    assert!(matches!(&boot.check, Listen::Tcp { addr, tls: None } if addr.to_string() == "127.0.0.1:9191"));
    assert!(matches!(&boot.control, Some(Listen::Unix { path, mode: 0o600, group: None }) if path == Path::new("data/control.sock")));
    assert_eq!(boot.ops.addr.to_string(), "127.0.0.1:9464");
    assert_eq!((boot.store_path.as_path(), boot.ledger_path.as_path()), (Path::new("data"), Path::new("data/ledger")));
    assert_eq!(boot.peppers, Peppers::Generated);
    let places: Vec<String> =
        rules.places.iter().map(|place| format!("{}: {}", place.header, place.scheme.as_deref().unwrap_or("-"))).collect();
    assert_eq!(places, ["authorization: Bearer", "x-api-key: -", "x-authorization: Agent"]);
    let headers: Vec<&str> = rules.identity_headers.iter().map(|header| &*header.name).collect();
    assert_eq!(headers, ["user", "x-key-id", "x-org-id", "x-scopes", "x-tier", "x-user-id"]);
    let strangers: Vec<&str> = rules.look_alikes.strangers.iter().map(|name| &**name).collect();
    let three_and_two = ["x_key_id", "x-key_id", "x_key-id", "x_org_id", "x-org_id", "x_org-id", "x_scopes", "x_tier"];
    assert_eq!(strangers, [&three_and_two[..], &["x_user_id", "x-user_id", "x_user-id"]].concat());
    assert!(rules.look_alikes.contested.is_empty() && rules.look_alikes.long.is_empty());
    assert_eq!(rules.routes[0].auth, tollgate::model::route::Auth::Required);
    assert_eq!(rules.routes[0].name.as_ref(), "/a");
}

proptest::proptest! {
    /// However the text is cut and stirred, there is an answer, and it points into the text.
    // battery: C1
    #[test]
    fn no_text_is_too_odd_to_be_judged(cut in 0_usize..7_000, at in 0_usize..7_000, splice in "[\\PC\n\t{}\\[\\]:,&*!|>'\"%@` -]{0,12}") {
        let whole = std::fs::read_to_string(folder("good_config").join("full.yaml")).expect("the config");
        let boundary = |wanted: usize| (0..=wanted.min(whole.len())).rev().find(|at| whole.is_char_boundary(*at)).unwrap_or(0);
        let (at, cut) = (boundary(at), boundary(cut));
        let text = format!("{}{splice}{}", &whole[..at], &whole[at.max(cut)..]);
        if let Err(complaints) = config::compile_text(&text, &Outside::default()) {
            proptest::prop_assert!(!complaints.is_empty());
            let lines = u32::try_from(text.split('\n').count()).unwrap_or(u32::MAX) + 1;
            proptest::prop_assert!(complaints.iter().all(|complaint| complaint.line <= lines), "{:?}", complaints);
        }
    }
}
