//! The judge of what stands in front, on good files with mistakes planted in them.

mod carried;
mod deployments;
mod entrances;
mod issuers;
mod manifests;
mod mistakes;
mod planted;
mod ways;
mod words;

use crate::config::compile_parts;
use crate::config::compile_text;
use crate::config::file::ConfigFile;
use crate::config::outside::Outside;

use super::*;

const BOOTSTRAP: &str = include_str!("../../../../envoy/quickstart/envoy.yaml");

const RULES: &str = "
listen: { check: 'unix:./run/check.sock' }
identity_headers: { user: '{user}', x-user-id: '{user}', x-org-id: '{org}', x-key-id: '{key}', x-scopes: '{scopes}', x-tier: '{tier}' }
routes: [{ path: /a }]
";

const GATE: &str = "                  - name: envoy.filters.http.ext_authz\n";
const ROUTER: &str = "                  - name: envoy.filters.http.router\n";
const ROUTE: &str = "{ cluster: upstream, timeout: 15s }";
const CLOSED: &str = "failure_mode_allow: false";

fn found(file: &str, rules: &str) -> (Vec<String>, Vec<String>) {
    let away = |file: &ConfigFile| Outside::without_files(file, Path::new(""));
    let compiled = compile_parts(&Arc::from("tollgate.yaml"), rules, Path::new(""), away);
    let (boot, rules, _) = compiled.unwrap_or_else(|complaints| panic!("{complaints:?}"));
    let findings = judge_text(&Arc::from("envoy.yaml"), file, &boot, &rules);
    let shown = |complaints: Vec<Complaint>| complaints.iter().map(ToString::to_string).collect();
    (shown(findings.errors), shown(findings.warnings))
}

fn said(bootstrap: &str, rules: &str) -> Vec<String> {
    found(bootstrap, rules).0
}

/// A mistake is planted in a good file, and every complaint must be about it.
fn plant(file: &str, rules: &str, cases: &[(&str, &str, &str)]) {
    assert_eq!(found(file, rules), (Vec::new(), Vec::new()), "the good file");
    for (from, to, expected) in cases {
        let (errors, warnings) = changed(file, rules, from, to, usize::MAX);
        assert_each(&errors, expected, &format!("{from} -> {to}"));
        assert_eq!(warnings, Vec::<String>::new(), "{from} -> {to}");
    }
}

/// What cannot be judged, or is perhaps meant, is said to be so, and is no error.
fn doubt(file: &str, rules: &str, cases: &[(&str, &str, &str)]) {
    for (from, to, expected) in cases {
        let (errors, warnings) = changed(file, rules, from, to, 1);
        assert_eq!(errors, Vec::<String>::new(), "{from} -> {to}");
        assert_each(&warnings, expected, &format!("{from} -> {to}"));
    }
}

fn fine(file: &str, rules: &str, cases: &[(&str, &str)]) {
    for (from, to) in cases {
        assert_eq!(changed(file, rules, from, to, 1), (Vec::new(), Vec::new()), "{from} -> {to}");
    }
}

fn changed(file: &str, rules: &str, from: &str, to: &str, most: usize) -> (Vec<String>, Vec<String>) {
    assert!(file.contains(from), "{from}");
    found(&file.replacen(from, to, most), rules)
}

fn assert_each(lines: &[String], expected: &str, case: &str) {
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(expected)), "{case}: {lines:#?}");
}

/// A filter of HTTP, as an item of a list.
fn of_http(name: &str, kind: &str, config: &str) -> String {
    format!("{{ name: {name}, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.{kind}, {config} }} }}")
}

/// A share that stands at run time is the share that counts, and may change.
#[test]
fn a_runtime_key_is_looked_up_and_not_forgotten() {
    let keyed = BOOTSTRAP.replace(CLOSED, "filter_enabled: { runtime_key: gate.on, default_value: { numerator: 100 } }");
    let layered = |layers: &str| found(&format!("{keyed}\nlayered_runtime: {{ layers: [{layers}] }}\n"), RULES);
    for layers in [
        "{ static_layer: { gate.on: 0 } }",
        "{ static_layer: { gate: { on: 99 } } }",
        "{ static_layer: { gate.on: { numerator: 5 } } }",
        // Keys are exact, and of two ways to say one nobody knows which wins.
        "{ static_layer: { GATE.ON: 100, gate.on: 0 } }",
        "{ static_layer: { Gate: { on: 100 }, gate: { on: 0 } } }",
        "{ static_layer: { gate.on: 100, gate: { on: 0 } } }",
        "{ static_layer: { gate.on: 100 } }, { static_layer: { gate.on: 1 } }",
    ] {
        let (errors, warnings) = layered(layers);
        assert!(errors.len() == 1 && errors[0].contains("only a part") && warnings.is_empty(), "{layers}: {errors:?} {warnings:?}");
    }
    for layers in ["", "{ static_layer: { gate.on: 100 } }", "{ static_layer: { gate.on: 0 } }, { static_layer: { gate.on: 100 } }"] {
        let (errors, warnings) = layered(layers);
        assert!(errors.is_empty() && warnings.len() == 1 && warnings[0].contains("`gate.on`"), "{layers}: {errors:?} {warnings:?}");
    }
}

#[test]
fn shadow_mode_is_allowed_and_not_forgotten() {
    for word in ["true", "yes"] {
        let (errors, warnings) = found(&BOOTSTRAP.replace(CLOSED, &format!("shadow_mode: {word}")), RULES);
        assert_eq!(errors, Vec::<String>::new());
        assert!(warnings.len() == 1 && warnings[0].contains("nobody is refused"), "{warnings:?}");
    }
}

#[test]
fn an_access_log_goes_where_it_is_taken() {
    let sending = BOOTSTRAP.replace("#> ", "");
    let taking = format!("{RULES}access_log: accepted\n");
    plant(&sending, &taking, &[]);
    let (errors, warnings) = found(&sending, RULES);
    assert!(errors.len() == 1 && errors[0].contains("which does not take it") && warnings.is_empty(), "{errors:?} {warnings:?}");
    let elsewhere = sending.replace("log_name: tollgate", "log_name: other").replace(
        "grpc_service: { envoy_grpc: { cluster_name: tollgate } }\n\n",
        "grpc_service: { envoy_grpc: { cluster_name: upstream } }\n\n",
    );
    assert_ne!(elsewhere, sending.replace("log_name: tollgate", "log_name: other"));
    plant(&elsewhere, RULES, &[]);
    for file in [&elsewhere, BOOTSTRAP] {
        let (errors, warnings) = found(file, &taking);
        assert!(warnings.len() == 1 && warnings[0].contains("sends it none") && errors.is_empty(), "{errors:?} {warnings:?}");
    }
}

#[test]
fn a_way_over_tcp_fits_the_listener() {
    let rules = RULES.replace("'unix:./run/check.sock'", "127.0.0.1:9191, issuer: 127.0.0.1:8080");
    let rules = rules.as_str();
    let rules = format!("{rules}issuer: {{ url: http://127.0.0.1:10000, trusted_hops: 1, resources: [{{ uri: https://api.example }}] }}\n");
    let issuer = "
    - name: issuer
      load_assignment: { endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 8080 } } } }] }] }
";
    let issuer_route = "                        - match: { path_separated_prefix: /oauth }
                          route: { cluster: issuer }
                        - match: { prefix: / }
";
    let good = BOOTSTRAP
        .replace("pipe: { path: run/check.sock }", "socket_address: { address: 127.0.0.1, port_value: 9191 }")
        .replace("                        - match: { prefix: / }\n", issuer_route)
        + issuer;
    plant(
        &good,
        &rules,
        &[
            ("port_value: 9191", "port_value: 9001", "leads to 127.0.0.1:9001, and listen.check is 127.0.0.1:9191"),
            ("route: { cluster: issuer }", "route: { cluster: upstream }", "listen.issuer is 127.0.0.1:8080, and no route leads there"),
        ],
    );
    let away =
        said(&good.replace("127.0.0.1, port_value: 9191", "10.0.0.9, port_value: 9191"), &rules.replace("127.0.0.1:9191", "0.0.0.0:9191"));
    assert!(away.len() == 1 && away[0].contains("credentials travel in plain text"), "{away:?}");
}

#[test]
fn the_rules_say_which_headers_are_meant() {
    let more = "
identity_headers: { user: '{user}', x-account: '{org}' }
upstream_assertion: { header: x-proof, issuer: https://gate.example, audience: inside }
routes: [{ path: /a }]
";
    let said = said(BOOTSTRAP, more).join("\n");
    for name in ["x-account", "x-proof"] {
        assert!(said.contains(&format!("`{name}` is not removed")) && said.contains(&format!("set or remove `{name}`")), "{said}");
    }
}

#[test]
fn field_names_may_be_in_camel_case_and_a_filter_may_remove_instead() {
    let camel =
        BOOTSTRAP.replace("normalize_path: true", "normalizePath: true").replace("failure_mode_allow: false", "failureModeAllow: true");
    let said_of = said(&camel, RULES);
    assert!(said_of.len() == 1 && said_of.iter().all(|line| line.contains("failure_mode_allow")), "{said_of:?}");
    let filter = "                http_filters:
                  - name: envoy.filters.http.header_mutation
                    typed_config:
                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
                      mutations: { request_mutations: [{ remove: x-tier }] }
";
    let moved = BOOTSTRAP.replace("                        - remove: x-tier\n", "").replace("                http_filters:\n", filter);
    assert_eq!(said(&moved, RULES), Vec::<String>::new());
}

#[test]
fn what_is_no_bootstrap_is_said_to_be_none() {
    for text in ["", "[]", "a: 1", "static_resources: { listeners: [] }", "{{{", "\"@type\": [1]"] {
        assert!(!said(text, RULES).is_empty(), "{text}");
    }
}
