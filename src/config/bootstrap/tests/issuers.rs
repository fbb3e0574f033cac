//! What the issuer serves, and how people and programs get there.

use super::*;

const ISSUING: &str = "
listen: { check: 127.0.0.1:9191, issuer: 127.0.0.1:8080 }
issuer: { url: http://127.0.0.1:10000, trusted_hops: 1, resources: [{ uri: https://api.example }] }
routes:
  - { path: /a }
  - { path: /oauth/**, auth: public }
  - { path: /.well-known/**, auth: public }
  - { path: /v1/**, auth: public }
  - { path: /openapi.json, auth: public }
";

#[test]
fn what_is_left_to_the_issuer_is_led_to_it() {
    let (boot, rules, _) = compile_text(ISSUING, &Outside::default()).unwrap();
    let good = init::write("tollgate.yaml", &boot, &rules, &init::front("127.0.0.1:80"));
    let route = |prefix: &str| {
        format!(
            "                        - match: {{ path_separated_prefix: \"{prefix}\" }}\n                          route: {{ cluster: issuer, timeout: 15s }}\n"
        )
    };
    let hosts = "domains: [\"*\"]";
    let own_host = "domains: [\"127.0.0.1:10000\"]
                      routes: [{ match: { prefix: / }, route: { cluster: issuer } }]
                    - name: others
                      domains: [\"*\"]";
    plant(
        &good,
        ISSUING,
        &[
            (&route("/v1"), "", "`/v1` is the issuer's, and Envoy leads it to `upstream`"),
            (&route("/oauth"), &route("/oauth").replace("issuer", "upstream"), "`/oauth` is the issuer's, and Envoy leads it to"),
            (&route("/.well-known/oauth-authorization-server"), "", "`/.well-known/oauth-authorization-server` is the issuer's"),
        ],
    );
    let (errors, warnings) = found(&good.replace(&route("/openapi.json"), ""), ISSUING);
    assert!(errors.is_empty() && warnings.len() == 1 && warnings[0].contains("`/openapi.json` is the issuer's"), "{errors:?} {warnings:?}");
    // A regular expression may lead there, a host of its own does, and what the config does not leave to it is no concern.
    let regex = route("/v1").replace("path_separated_prefix: \"/v1\"", "safe_regex: { regex: \"/v[0-9]/.*\" }");
    for fine in [
        good.replace(&route("/v1"), &regex),
        good.replace(&route("/v1"), "").replace(hosts, own_host),
        good.replace(&route("/sign-in"), ""),
    ] {
        assert_ne!(fine, good);
        assert_eq!(found(&fine, ISSUING), (Vec::new(), Vec::new()), "{fine}");
    }
}

#[test]
fn the_issuer_knows_its_clients_and_they_find_their_account() {
    let first = "  - { path: /oauth/**";
    let with = |routes: &str| ISSUING.replace(first, &format!("{routes}{first}"));
    let (sign_in, sign_up) = ("  - { path: /sign-in/**, auth: public }\n", "  - { path: /sign-up, auth: public }\n");
    let account = |auth: &str| format!("  - {{ path: /account/**, auth: {auth} }}\n");
    let lost = Some("is sent to `/account`");
    let at = |url: &str| ISSUING.replace("http://127.0.0.1:10000", &format!("'{url}'"));
    for (rules, expected) in [
        (ISSUING.replace("trusted_hops: 1, ", ""), Some("issuer.trusted_hops is 0")),
        (with(sign_in), lost),
        (with(sign_up), lost),
        (with(&format!("{sign_up}{}", account("required"))), lost),
        (with(&format!("{sign_in}{sign_up}{}", account("public"))), None),
        // Where it says that it is.
        (at("http://127.0.0.1:8000"), Some("no listener here has the port 8000")),
        (at("http://[::1]:8000"), Some("no listener here has the port 8000")),
        (at("http://localhost:8000/id"), Some("no listener here has the port 8000")),
        (at("https://localhost"), Some("no listener here has the port 443")),
        (at("http://localhost:10000"), None),
        (at("http://127.0.0.1:8080"), None),
        (at("https://id.example.com:8000"), None),
    ] {
        let (boot, compiled, _) = compile_text(&rules, &Outside::default()).unwrap();
        let file = init::write("tollgate.yaml", &boot, &compiled, &init::front("127.0.0.1:80"));
        let (errors, warnings) = found(&file, &rules);
        let is_told = warnings.iter().all(|line| expected.is_some_and(|expected| line.contains(expected)));
        assert!(errors.is_empty() && warnings.len() == usize::from(expected.is_some()) && is_told, "{rules}: {errors:?} {warnings:?}");
    }
}
