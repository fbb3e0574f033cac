//! What each bootstrap of `envoy/` beside the quickstart is for, through real Envoys.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::StreamOwned;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject as _;

use crate::support::certificates::Authority;
use crate::support::certificates::Leaf;
use crate::support::envoy::Envoy;
use crate::support::envoy::asked;
use crate::support::envoy::asked_since;
use crate::support::envoy::lines;
use crate::support::envoy::validate;
use crate::support::http1::message;
use crate::support::ports::free_port;
use crate::support::process::wait_until;
use crate::support::scenario::NewKey;
use crate::support::scenario::Plan;
use crate::support::scenario::counted;
use crate::support::tollgate;
use crate::support::tollgate::CheckAt;
use crate::support::tollgate::Tollgate;
use crate::support::upstream::Upstream;

/// Tollgate of a bootstrap over TCP, on ports of its own.
fn tollgate_over_tcp(plan: &Plan) -> (Tollgate, u16) {
    let (check_port, ops_port) = (free_port(), free_port());
    let rules = plan.tollgate.replace(":9191", &format!(":{check_port}")).replace("127.0.0.1:9464", &format!("127.0.0.1:{ops_port}"));
    plan.folder.write("tollgate.yaml", &rules);
    let check = CheckAt::Tcp(([127, 0, 0, 1], check_port).into());
    (Tollgate::start(plan.folder.path(), "tollgate.yaml", check, ops_port), check_port)
}

/// An Envoy of a bootstrap over TCP, on ports of its own.
fn envoy_over_tcp(plan: &Plan, file: &str, check_port: u16, upstream: &Upstream) -> Envoy {
    let (port, admin_port) = (free_port(), free_port());
    let ports = [(10000, port), (9901, admin_port), (8080, upstream.port()), (9191, check_port)];
    let text = ports
        .iter()
        .fold(plan.envoy.clone(), |text, (from, to)| text.replace(&format!("port_value: {from}"), &format!("port_value: {to}")));
    plan.folder.write(file, &text);
    Envoy::start(plan.folder.path(), file, port, admin_port)
}

#[test]
fn a_sidecar_that_is_replaced_is_asked_again() {
    let plan = Plan::of("sidecar");
    let upstream = Upstream::tcp();
    let plan = plan.envoy_with("port_value: 8080", &format!("port_value: {}", upstream.port()));
    let mut scenario = plan.start_with(upstream);
    let key = scenario.key("alice", "enterprise", &["conversations:read"]);
    let status = |scenario: &crate::support::scenario::Scenario| scenario.client().bearer("/api/v1/conversations", &key).status;
    wait_until("Envoy has found Tollgate healthy", || status(&scenario) == 200);
    assert_eq!(scenario.client().get("/api/v1/conversations", &[]).status, 401);
    scenario.tollgate.process.kill();
    let reply = scenario.client().bearer("/api/v1/conversations", &key);
    assert_eq!(reply.status, 503, "Tollgate away is our trouble: {}", reply.text());
    scenario.tollgate.restart();
    wait_until("Envoy asks the new one", || status(&scenario) == 200);
    let log = scenario.envoy.access_log();
    let allowed = log.iter().find(|line| line["status"] == 200).expect("a line of an allowed request");
    assert_eq!((allowed["user"].as_str(), allowed["decision"].as_str()), (Some("alice"), Some("allow")), "{allowed}");
    for field in ["key_id", "reason", "check_us", "route"] {
        assert!(allowed[field].is_string() || allowed[field].is_number(), "{field} in {allowed}");
    }
    assert!(log.iter().any(|line| line["status"] == 503 && line["details"].as_str().is_some_and(|text| text.contains("ext_authz_error"))));
}

#[test]
fn several_envoys_share_one_count() {
    let plan = Plan::of("tcp");
    let (_tollgate, check_port) = tollgate_over_tcp(&plan);
    let upstream = Upstream::tcp();
    let envoys = ["a.yaml", "b.yaml"].map(|file| envoy_over_tcp(&plan, file, check_port, &upstream));
    // Ten at once, and one more each second.
    let key = NewKey { tier: "free", scopes: &["things:read"], ..NewKey::default() }.create(plan.folder.path()).text;
    let statuses: Vec<u16> = (0..24).map(|number: usize| envoys[number % 2].client().bearer("/things", &key).status).collect();
    let allowed = statuses.iter().filter(|status| **status == 200).count() as u64;
    assert!(statuses[..10].iter().all(|status| *status == 200), "{statuses:?}");
    assert!(statuses.contains(&429), "each Envoy by itself would have let twelve in: {statuses:?}");
    assert_eq!((upstream.count(), counted(plan.folder.path(), "alice", "allowed")), (allowed, allowed));
    for envoy in &envoys {
        assert_eq!(envoy.client().get("/things", &[]).status, 401);
        assert_eq!(envoy.client().get("/public/ping", &[("x-user-id", "mallory")]).upstream_header("x-user-id"), None);
    }
}

/// A pair of files as renewals bring them: written elsewhere, then renamed into the folder that is watched.
fn place(plan: &Plan, name: &str, leaf: &Leaf) {
    for (ending, text) in [("crt", &leaf.certificate), ("key", &leaf.key)] {
        let fresh = plan.folder.path().join("fresh");
        plan.folder.write_secret("fresh", text);
        std::fs::rename(fresh, plan.folder.path().join(format!("tls/{name}.{ending}"))).expect("a rename inside the test's folder");
    }
}

#[test]
fn a_certificate_is_renewed_without_a_restart_of_envoy() {
    let plan = Plan::of("mtls")
        .envoy_with("address: tollgate.internal", "address: 127.0.0.1")
        .tollgate_with("client_ca: ./tls/authority.crt", "client_ca: ./tls/clients.crt");
    let (old, new) = (Authority::new(), Authority::new());
    plan.folder.write("tls/authority.crt", &old.pem);
    plan.folder.write("tls/clients.crt", &old.pem);
    place(&plan, "server", &old.sign("tollgate.internal"));
    place(&plan, "client", &old.sign("envoy"));
    let (mut tollgate, check_port) = tollgate_over_tcp(&plan);
    let upstream = Upstream::tcp();
    let envoy = envoy_over_tcp(&plan, "envoy.yaml", check_port, &upstream);
    let key = NewKey { tier: "pro", scopes: &["things:read"], ..NewKey::default() }.create(plan.folder.path()).text;
    let status = || envoy.client().bearer("/things", &key).status;
    wait_until("the connection stands", || status() == 200);
    assert_eq!(envoy.client().get("/things", &[]).status, 401);

    // From now on Tollgate wants certificates of another authority, and what Envoy has is worth nothing.
    tollgate.process.stop();
    plan.folder.write("tls/clients.crt", &new.pem);
    tollgate.restart();
    let failures = || envoy.statistic("cluster.tollgate.health_check.failure");
    let before = failures();
    wait_until("the old certificate is refused", || failures() > before + 1);
    assert_eq!(status(), 503);
    let updates = || envoy.statistic("cluster.tollgate.client_ssl_socket_factory.ssl_context_update_by_sds");
    let before = updates();
    place(&plan, "client", &new.sign("envoy"));
    wait_until("the new certificate is taken", || status() == 200);
    assert!(updates() > before);

    // Signed by whom we believe, and somebody else all the same.
    tollgate.process.stop();
    place(&plan, "server", &old.sign("elsewhere.internal"));
    tollgate.restart();
    let refusals = || envoy.statistic("cluster.tollgate.ssl.fail_verify_san");
    wait_until("another name is refused", || status() == 503 && refusals() > 0);
}

/// One request over TLS; the status and the whole answer.
fn over_tls(port: u16, authority: &str, protocol: &[u8], request: &[u8]) -> (u16, String) {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("api.example.com").expect("a name");
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a connection"), stream);
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    // Envoy closes without a goodbye of TLS's own at times; what came is what counts.
    drop(stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
    (status, answer)
}

#[test]
fn the_edge_speaks_tls_and_mends_or_refuses_paths() {
    let routes = "
  - { name: area, path: /area/** }
  - { name: admin, path: /admin/**, scopes: { all_of: [webhooks:write] } }
";
    let plain_port = free_port();
    let plan = Plan::of("edge")
        .envoy_with("0.0.0.0", "127.0.0.1")
        .envoy_with("port_value: 10080", &format!("port_value: {plain_port}"))
        .with_routes(routes)
        .unguarded();
    let authority = Authority::new();
    std::fs::create_dir(plan.folder.path().join("tls")).expect("a folder inside the test's folder");
    place(&plan, "server", &authority.sign("api.example.com"));
    let scenario = plan.start();
    let key = scenario.key("alice", "enterprise", &["analytics:read"]);
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str()), ("connection", "close"), ("x-user-id", "mallory")];
    let ask = |target: &str| {
        over_tls(scenario.envoy.port, &authority.pem, b"http/1.1", &message("GET", target, "api.example.com", &headers, b""))
    };
    let (status, answer) = ask("/area/x");
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("strict-transport-security") && answer.contains("alice") && !answer.contains("mallory"), "{answer}");
    let corpus: [(&str, &[u16]); 14] = [
        ("/admin", &[403]),
        ("//admin", &[403]),
        ("/area/../admin", &[403]),
        ("/area/%2e%2e/admin", &[403]),
        ("/area/%252e%252e/admin", &[400]),
        ("/area/..;/admin", &[400, 403]),
        ("/admin;v=1", &[400]),
        ("/area/x%2fy", &[400]),
        ("/area/x%5Cy", &[400]),
        ("/area\\..\\admin", &[400, 403]),
        ("/ADMIN", &[404]),
        ("/nowhere", &[404]),
        ("/area//x", &[200]),
        ("/area/./x", &[200]),
    ];
    for (target, wanted) in corpus {
        let (status, answer) = ask(target);
        assert!(wanted.contains(&status), "{target}: {answer}");
    }
    for seen in scenario.upstream.seen() {
        assert!(seen.path.starts_with("/area/"), "{} reached the upstream", seen.path);
    }
    let (status, _) = over_tls(
        scenario.envoy.port,
        &authority.pem,
        b"http/1.1",
        &message(
            "GET",
            "/area/x",
            "api.example.com",
            &[("authorization", &authorization), ("connection", "close"), ("x_user_id", "mallory")],
            b"",
        ),
    );
    assert_eq!(status, 400, "a header name with an underscore");
    let reply = crate::support::http1::Client::new(plain_port).get("/area/x?y=1", &[]);
    assert_eq!((reply.status, reply.need("location")), (308, "https://api.example.com/area/x?y=1"));
}

/// The first release whose ext_authz knows `shadow_mode` is 1.38; where the proofs ask for an older one, that is taken.
#[test]
fn in_shadow_mode_a_denial_is_counted_and_let_through() {
    let (port, admin_port, ops_port) = (free_port(), free_port(), free_port());
    let plan = Plan::of("shadow")
        .envoy_with("port_value: 10000", &format!("port_value: {port}"))
        .envoy_with("port_value: 9901", &format!("port_value: {admin_port}"))
        .tollgate_with("127.0.0.1:9464", &format!("127.0.0.1:{ops_port}"));
    plan.folder.write("envoy.yaml", &plan.envoy);
    plan.folder.write("tollgate.yaml", &plan.tollgate);
    let upstream = Upstream::unix(&plan.folder.short_path().join("run/upstream.sock"));
    let check = CheckAt::Unix(plan.folder.short_path().join("run/check.sock"));
    let tollgate = Tollgate::start(plan.folder.path(), "tollgate.yaml", check, ops_port);
    let envoy = Envoy::start_version(asked_since("1.38").as_deref(), plan.folder.path(), "envoy.yaml", port, admin_port);
    let reply = envoy.client().get("/api/v1/conversations", &[("x-user-id", "mallory")]);
    assert_eq!((reply.status, reply.upstream_header("x-user-id")), (200, None), "nobody is refused, and nobody is believed");
    assert_eq!(envoy.statistic("http.public.ext_authz.tollgate.shadow_denied"), 1);
    assert_eq!(tollgate.metric("tollgate_checks_total", &["decision=\"deny\""]), 1.0);
    let key = NewKey { scopes: &["conversations:read"], ..NewKey::default() }.create(plan.folder.path()).text;
    assert_eq!(envoy.client().bearer("/api/v1/conversations", &key).upstream_header("x-user-id").as_deref(), Some("alice"));
    assert_eq!((upstream.count(), envoy.statistic("http.public.ext_authz.tollgate.shadow_denied")), (2, 1));
}

/// `tollgate envoy init` for the rules of each folder here: good for a real Envoy, nothing against it, and it opens and shuts.
#[test]
fn what_init_prints_is_a_gate() {
    let plan = Plan::of("quickstart");
    let (port, admin_port, ops_port) = (free_port(), free_port(), free_port());
    plan.folder.write("tollgate.yaml", &plan.tollgate.replace("127.0.0.1:9464", &format!("127.0.0.1:{ops_port}")));
    let upstream = Upstream::tcp();
    let print = |folder: &std::path::Path, service: &str, ports: &[&str]| {
        let asked = ["envoy", "init", "--config", "tollgate.yaml", "--upstream", service];
        let output = tollgate::run(folder, &[asked.as_slice(), ports].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let ports = ["--port", &port.to_string(), "--admin-port", &admin_port.to_string()];
    let text = print(plan.folder.path(), &format!("127.0.0.1:{}", upstream.port()), &ports);
    plan.folder.write("printed.yaml", &text);
    let judged = tollgate::run(plan.folder.path(), &["check-config", "--config", "tollgate.yaml", "--envoy", "printed.yaml"]);
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    plan.folder.write("envoy.yaml", &text.replace("timeout: 0.250s", "timeout: 5s"));
    let check = CheckAt::Unix(plan.folder.short_path().join("run/check.sock"));
    let _tollgate = Tollgate::start(plan.folder.path(), "tollgate.yaml", check, ops_port);
    let envoy = Envoy::start(plan.folder.path(), "envoy.yaml", port, admin_port);
    let key = NewKey { scopes: &["conversations:read"], ..NewKey::default() }.create(plan.folder.path()).text;
    assert_eq!(envoy.client().get("/api/v1/conversations", &[]).status, 401);
    let reply = envoy.client().get("/api/v1/conversations", &[("x-api-key", &key), ("user", "mallory"), ("cookie", "a=b")]);
    assert_eq!(reply.upstream_header("user").as_deref(), Some("alice"));
    assert_eq!((reply.upstream_header("x-api-key"), reply.upstream_header("cookie").as_deref()), (None, Some("a=b")));
    assert_eq!(envoy.client().get("/public/ping", &[("x-user-id", "mallory")]).upstream_header("x-user-id"), None);
    assert_eq!(envoy.client().get("/api/v1/conversations", &[("authorization", "Bearer a"), ("authorization", "Bearer b")]).status, 401);

    // With an issuer, its routes are there.
    let reva = Plan::of("reva");
    reva.folder.write("tollgate.yaml", &reva.tollgate);
    reva.folder.write("oauth-jwks.json", &crate::support::jwt::Es256::new("k1").jwks());
    let text = print(reva.folder.path(), "shop.internal:8080", &[]);
    assert!(text.contains("/oauth") && text.contains("STRICT_DNS"), "{text}");
    let file = reva.folder.write("envoy.yaml", &text);
    let output = validate(&asked().unwrap_or_else(|| lines()[0].clone()), &file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let judged = tollgate::run(reva.folder.path(), &["check-config", "--config", "tollgate.yaml", "--envoy", "envoy.yaml"]);
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

/// A trial by Tollgate itself, for Envoys that know no shadow mode.
#[test]
fn in_a_dry_run_everything_goes_through_and_is_told() {
    let mut scenario = Plan::of("quickstart").tollgate_with("errors: standard\n", "errors: standard\ndry_run: true\n").start();
    let free = NewKey { user: "fred", tier: "free", scopes: &["conversations:read"], ..NewKey::default() };
    let key = scenario.new_key(&free).text;
    let client = scenario.client();
    let target = "/api/v1/conversations";
    // Nobody, and nobody who claims to be somebody.
    let reply = client.get(target, &[("x-user-id", "mallory"), ("user", "root")]);
    assert_eq!((reply.upstream_header("x-user-id"), reply.upstream_header("user")), (None, None));
    let reply = client.get(target, &[("authorization", "Bearer acme_live_sk_nonsense"), ("x-user-id", "mallory")]);
    assert_eq!(reply.upstream_header("x-user-id"), None);
    assert_eq!(
        reply.upstream_header("authorization").as_deref(),
        Some("Bearer acme_live_sk_nonsense"),
        "who judged before goes on judging"
    );
    // No such route, a path with two meanings.
    assert_eq!(client.get("/nowhere", &[("x-tier", "pro")]).upstream_header("x-tier"), None);
    // Proven, and not allowed: the identity is told, as far as it was proven.
    let authorization = format!("Bearer {key}");
    let reply =
        client.send("POST", "/api/v1/conversations/7/messages", &[("authorization", &authorization), ("x-user-id", "mallory")], "{}");
    assert_eq!(reply.upstream_header("x-user-id").as_deref(), Some("fred"));
    // Beyond the limit, which would-be denials take nothing from: ten of the burst are allowed.
    for _ in 0..14 {
        assert_eq!(client.bearer(target, &key).upstream_header("x-user-id").as_deref(), Some("fred"));
    }
    let would = |would: &str| scenario.tollgate.metric("tollgate_dry_run_checks_total", &[&format!("would=\"{would}\"")]);
    let (allowed, denied) = (would("allow"), would("deny"));
    assert!((10.0..=13.0).contains(&allowed) && allowed + denied == 18.0, "{allowed} and {denied}");
    assert_eq!(scenario.tollgate.metric("tollgate_dry_run", &[]), 1.0);
    assert_eq!(scenario.admitted("fred") as f64, allowed);
    assert_eq!(scenario.upstream.count(), 18);
    let detail = scenario.tollgate.ops("/readyz");
    assert_eq!((detail.status, detail.json()["dry_run"].as_bool()), (200, Some(true)));
    wait_until("the log tells the trial", || scenario.tollgate.process.output().contains("\"dry_run\":true"));
    assert!(scenario.tollgate.process.errors().contains("nobody is refused"), "a loud warning at the start");
    let judged = tollgate::run(scenario.folder.path(), &["check-config", "--config", "tollgate.yaml"]);
    assert!(String::from_utf8_lossy(&judged.stdout).contains("warning: tollgate.yaml"), "{judged:?}");
    // Whoever is not there cannot wave anybody through: then Envoy decides, and the shipped files say no.
    scenario.tollgate.process.kill();
    assert_eq!(client.bearer(target, &key).status, 503);
}
