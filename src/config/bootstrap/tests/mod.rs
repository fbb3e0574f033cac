//! The judge of Envoy bootstraps, on good files with mistakes planted in them.

mod deployments;
mod entrances;
mod manifests;
mod mistakes;

use crate::config::compile_parts;
use crate::config::compile_text;
use crate::config::file::ConfigFile;
use crate::config::outside::Outside;

use super::*;

pub(super) const BOOTSTRAP: &str = include_str!("../../../../envoy/quickstart/envoy.yaml");

pub(super) const RULES: &str = "
listen: { check: 'unix:./run/check.sock' }
identity_headers: { user: '{user}', x-user-id: '{user}', x-org-id: '{org}', x-key-id: '{key}', x-scopes: '{scopes}', x-tier: '{tier}' }
routes: [{ path: /a }]
";

pub(super) fn found(file: &str, rules: &str) -> (Vec<String>, Vec<String>) {
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
pub(super) fn plant(file: &str, rules: &str, cases: &[(&str, &str, &str)]) {
    assert_eq!(found(file, rules), (Vec::new(), Vec::new()), "the good file");
    for (from, to, expected) in cases {
        assert!(file.contains(from), "{from}");
        let (errors, warnings) = found(&file.replace(from, to), rules);
        assert!(!errors.is_empty() && errors.iter().all(|line| line.contains(expected)), "{from} -> {to}: {errors:#?}");
        assert_eq!(warnings, Vec::<String>::new(), "{from} -> {to}");
    }
}

pub(super) const GATE: &str = "                  - name: envoy.filters.http.ext_authz\n";
pub(super) const ROUTER: &str = "                  - name: envoy.filters.http.router\n";

#[test]
fn each_planted_mistake_is_found_and_nothing_else_with_it() {
    let filter =
        |name: &str, config: &str, next: &str| format!("                  - {{ name: {name}, typed_config: {{ {config} }} }}\n{next}");
    let cors = filter("cors", "\"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors", ROUTER);
    let cache = filter("cache", "\"@type\": type.googleapis.com/envoy.extensions.filters.http.cache.v3.CacheConfig", GATE);
    let router = filter("early", "\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", GATE);
    let lua = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, default_source_code: { inline_string: \"function envoy_on_request(h) h:clearRouteCache() end\" }";
    let lua = filter("script", lua, ROUTER);
    let proc = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor, route_cache_action: CLEAR";
    let proc = filter("processor", proc, ROUTER);
    let wrapped = |name: &str, kind: &str| {
        let inner = format!("{{ name: inner, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.{kind} }} }}");
        let matcher = "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher";
        filter(name, &format!("\"@type\": {matcher}, extension_config: {inner}"), ROUTER)
    };
    let wrapped_transcoder = wrapped("transcoder", "grpc_json_transcoder.v3.GrpcJsonTranscoder");
    let wrapped_cors = wrapped("cors", "cors.v3.Cors");
    let strip = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation, mutations: { request_mutations: [{ remove: x-tier }] }";
    let strip = filter("strip", strip, ROUTER);
    let second = "    - name: second
      filter_chains:
        - filters:
            - typed_config:
                \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                route_config: { virtual_hosts: [{ domains: [\"*\"], routes: [{ match: { prefix: / }, route: { cluster: upstream } }] }] }
  clusters:
";
    let exempt_by_wrapper = "{ cluster: upstream, timeout: 15s }
                          typed_per_filter_config: { envoy.filters.http.ext_authz: { \"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true } }";
    let encoded = "encode_raw_headers: true";
    let http2 = "            http2_protocol_options: {}\n";
    let health = |check: &str| format!("{http2}      health_checks: [{{ timeout: 1s, interval: 1s, {check} }}]\n");
    let tls = format!(
        "{http2}      transport_socket: {{ typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {{ validation_context: {{ match_typed_subject_alt_names: [] }} }} }} }}\n"
    );
    plant(
        BOOTSTRAP,
        RULES,
        &[
            // Who is asked, and when.
            ("failure_mode_allow: false", "failure_mode_allow: true", "failure_mode_allow is true"),
            ("failure_mode_allow: false", "filter_enabled: { default_value: { numerator: 50 } }", "only a part of the requests"),
            ("status_on_error: { code: ServiceUnavailable }", "", "status_on_error is absent"),
            ("timeout: 0.250s", "", "a check has no timeout"),
            ("timeout: 0.250s", "timeout: 0s", "0 is for ever"),
            ("timeout: 0.250s", "timeout: 600s", "clients wait as long"),
            ("timeout: 15s", "timeout: 0.2s", "a check alone may take 0.25 s"),
            ("envoy_grpc: { cluster_name: tollgate }", "envoy_grpc: { cluster_name: elsewhere }", "there is no cluster `elsewhere`"),
            (
                "direct_response: { status: 200, body: { inline_string: \"ok\\n\" } }",
                "route: { cluster: upstream }",
                "ext_authz is disabled on a route",
            ),
            ("{ cluster: upstream, timeout: 15s }", exempt_by_wrapper, "ext_authz is disabled on a route"),
            ("match: { prefix: / }", "match: { prefix: /api }", "no route takes what is left over"),
            ("match: { prefix: / }", "match: { prefix: /, headers: [{ name: a }] }", "no route takes what is left over"),
            ("        - filters:\n", "        - filterz:\n", "no filters can be read in this filter chain"),
            ("domains: [\"*\"]", "domains: [api.example.com]", "no virtual host has the domain `*`"),
            (GATE, &format!("{GATE}                    disabled: true\n"), "the ext_authz filter is disabled"),
            ("  clusters:\n", second, "this listener leads to `upstream`"),
            // What is shown to Tollgate, and what it may change.
            (encoded, "with_request_body: { max_request_bytes: 8192 }", "bodies are held back"),
            (encoded, "clear_route_cache: true", "clear_route_cache is true"),
            (encoded, "disallowed_headers: { patterns: [{ exact: authorization }] }", "`authorization` is among disallowed_headers"),
            (
                encoded,
                "allowed_headers: { patterns: [{ prefix: x- }, { exact: api-version }, { prefix: content- }, { exact: upgrade }, { exact: connection }, { exact: origin }, { prefix: access- }] }",
                "`authorization` is not among allowed_headers",
            ),
            ("user|x[-_]user[-_]id|", "user|", "forbid Tollgate to set or remove"),
            // Tollgate removes x_user_id too, and a removal that is refused is an error.
            ("user|x[-_]user[-_]id|", "user|x-user-id|x-user_id|x_user-id|", "forbid Tollgate to set or remove `x_user_id`"),
            (
                "domains: [\"*\"]",
                "domains: [\"*\"]\n                      request_headers_to_remove: [x-user-id]",
                "takes away `x-user-id`",
            ),
            (
                "domains: [\"*\"]",
                "domains: [\"*\"]\n                      request_headers_to_add: [{ header: { key: x-tier, value: pro } }]",
                "writes `x-tier`",
            ),
            // The order of the filters.
            (GATE, &cache, "cache stands before ext_authz"),
            (GATE, &router, "early stands before ext_authz"),
            (ROUTER, &cors, "the CORS filter stands after ext_authz"),
            (ROUTER, &lua, "script stands after ext_authz and clears the route cache"),
            (ROUTER, &wrapped_transcoder, "transcoder stands after ext_authz and clears the route cache"),
            (ROUTER, &wrapped_cors, "the CORS filter stands after ext_authz"),
            (ROUTER, &proc, "processor stands after ext_authz and clears the route cache"),
            (ROUTER, &strip, "strip removes x-tier after Tollgate has set it"),
            // What is mended before.
            ("normalize_path: true", "normalize_path: false", "normalize_path is not true"),
            ("merge_slashes: true", "", "merge_slashes is not true"),
            (
                "path_with_escaped_slashes_action: REJECT_REQUEST",
                "path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD",
                "`%2F` could be read",
            ),
            ("path_with_escaped_slashes_action: REJECT_REQUEST", "", "path_with_escaped_slashes_action is IMPLEMENTATION_SPECIFIC_DEFAULT"),
            ("headers_with_underscores_action: REJECT_REQUEST", "", "headers_with_underscores_action is ALLOW"),
            ("- remove: x-org-id\n", "- remove: x-organization-id\n", "a client's own `x-org-id` is not removed"),
            ("use_remote_address: true", "use_remote_address: false", "use_remote_address is not true"),
            (
                "use_remote_address: true",
                "use_remote_address: true\n                xff_num_trusted_hops: 1",
                "the two mean different clients",
            ),
            // The way to Tollgate.
            ("http2_protocol_options: {}", "http_protocol_options: {}", "does not speak HTTP/2"),
            ("max_requests: 65536", "max_requests: 1000", "more than 1000 checks at once"),
            ("pipe: { path: run/check.sock }", "pipe: { path: run/other.sock }", "leads to unix:run/other.sock, and listen.check is unix:"),
            ("pipe: { path: run/check.sock }", "socket_address: { address: 127.0.0.1, port_value: 9191 }", "leads to 127.0.0.1:9191"),
            (http2, &health("http_health_check: { path: / }"), "gRPC health checks alone"),
            (http2, &health("grpc_health_check: { service_name: gate }"), "knows no service `gate`"),
            (http2, &tls, "speaks TLS, and listen.check does not"),
            (
                "socket_address: { address: 127.0.0.1, port_value: 9901 }",
                "socket_address: { address: 0.0.0.0, port_value: 9901 }",
                "the admin interface is open",
            ),
        ],
    );
    // What the good file has nothing against.
    let fine = [
        (http2, health("grpc_health_check: {}")),
        ("pipe: { path: run/check.sock }", "pipe: { path: /srv/run/check.sock }".to_owned()),
        (GATE, filter("cors", "\"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors", GATE)),
    ];
    for (from, to) in fine {
        let rules = RULES.replace("unix:./run", "unix:/srv/run");
        assert_eq!(said(&BOOTSTRAP.replacen(from, &to, 1), &rules), Vec::<String>::new(), "{to}");
    }
}

pub(super) const ROUTE: &str = "{ cluster: upstream, timeout: 15s }";
pub(super) const CLOSED: &str = "failure_mode_allow: false";

/// The same in the words, places and wrappings that Envoy reads as well.
#[test]
fn a_mistake_is_found_however_it_is_written() {
    let filter = |name: &str, kind: &str, config: &str| {
        let kind = format!("type.googleapis.com/envoy.extensions.filters.http.{kind}");
        format!("                  - {{ name: {name}, typed_config: {{ \"@type\": {kind}, {config} }} }}\n{ROUTER}")
    };
    let mutation =
        |change: &str| filter("late", "header_mutation.v3.HeaderMutation", &format!("mutations: {{ request_mutations: [{change}] }}"));
    let script = |code: &str| filter("script", "lua.v3.Lua", &format!("default_source_code: {{ inline_string: '{code}' }}"));
    let claims =
        filter("jwt", "jwt_authn.v3.JwtAuthentication", "providers: { a: { claim_to_headers: [{ header_name: X-Tier, claim_name: t }] } }");
    let per_route = |config: &str| {
        format!("{ROUTE}\n                          typed_per_filter_config: {{ envoy.filters.http.ext_authz: {{ {config} }} }}")
    };
    let of_kind =
        |kind: &str, rest: &str| per_route(&format!("\"@type\": type.googleapis.com/envoy.extensions.filters.http.{kind}, {rest}"));
    let wrapped = |wrapper: &str| {
        per_route(&format!(
            "\"@type\": type.googleapis.com/{wrapper}, type_url: type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, value: {{ disabled: true }}"
        ))
    };
    let settings = |service: &str| of_kind("ext_authz.v3.ExtAuthzPerRoute", &format!("check_settings: {{ {service} }}"));
    let upgrade = |filters: &str| {
        format!("stream_idle_timeout: 300s\n                upgrade_configs: [{{ upgrade_type: websocket, filters: [{filters}] }}]")
    };
    let gate = "{ name: gate, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, grpc_service: { envoy_grpc: { cluster_name: tollgate }, timeout: 0.25s }, status_on_error: { code: 503 }";
    let router = "{ name: router, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }";
    let second_gate = format!("                  - {gate}, failure_mode_allow: true }} }}\n{ROUTER}");
    let listener = |kind: &str, config: &str| {
        format!(
            "    - filter_chains: [{{ filters: [{{ typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.network.{kind}, {config} }} }}] }}]\n  clusters:\n"
        )
    };
    let http = |route: &str| {
        listener(
            "http_connection_manager.v3.HttpConnectionManager",
            &format!("route_config: {{ virtual_hosts: [{{ routes: [{{ route: {route} }}] }}] }}"),
        )
    };
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (CLOSED, "failure_mode_allow: yes", "failure_mode_allow is true"),
            (CLOSED, "failure_mode_allow: on", "failure_mode_allow is true"),
            (CLOSED, "failure_mode_allow: y", "failure_mode_allow is true"),
            (CLOSED, "failure_mode_allow: True", "failure_mode_allow is true"),
            (CLOSED, "failure_mode_allow: \"true\"", "failure_mode_allow is true"),
            (CLOSED, "clear_route_cache: YES", "clear_route_cache is true"),
            (GATE, &format!("{GATE}                    disabled: on\n"), "the ext_authz filter is disabled"),
            (ROUTE, &of_kind("ext_authz.v3.ExtAuthzPerRoute", "disabled: yes"), "ext_authz is disabled on a route"),
            (ROUTE, &wrapped("xds.type.v3.TypedStruct"), "ext_authz is disabled on a route"),
            (ROUTE, &wrapped("udpa.type.v1.TypedStruct"), "ext_authz is disabled on a route"),
            (ROUTE, &settings("grpc_service: { envoy_grpc: { cluster_name: upstream } }"), "somebody else than Tollgate"),
            (ROUTE, &settings("http_service: { server_uri: { cluster: upstream } }"), "somebody else than Tollgate"),
            // Upgrades that go their own way.
            ("stream_idle_timeout: 300s", &upgrade(router), "this upgrade has filters of its own"),
            (
                "stream_idle_timeout: 300s",
                &upgrade(&format!("{gate}, failure_mode_allow: true }} }}, {router}")),
                "failure_mode_allow is true",
            ),
            ("stream_idle_timeout: 300s", &upgrade(&format!("{router}, {gate} }} }}")), "router stands before ext_authz"),
            // Other ways to the service.
            (
                "  clusters:\n",
                &http("{ weighted_clusters: { clusters: [{ name: upstream, weight: 1 }] } }"),
                "this listener leads to `upstream`",
            ),
            ("  clusters:\n", &http("{ cluster_header: x-cluster }"), "this listener leads to `cluster_header`"),
            ("  clusters:\n", &http("{ cluster_specifier_plugin: a }"), "this listener leads to `cluster_specifier_plugin`"),
            ("  clusters:\n", &listener("tcp_proxy.v3.TcpProxy", "cluster: upstream"), "this listener leads to `upstream`"),
            (
                "  clusters:\n",
                &listener("tcp_proxy.v3.TcpProxy", "weighted_clusters: { clusters: [{ name: upstream, weight: 1 }] }"),
                "this listener leads to `upstream`",
            ),
            // What is done to identity headers afterwards.
            (ROUTER, &mutation("{ append: { header: { key: X-User-Id, value: a } } }"), "late writes X-User-Id"),
            (ROUTER, &mutation("{ append: { header: { key: x_user_id, value: a } } }"), "late writes x_user_id"),
            (ROUTER, &mutation("{ remove: X-Tier }"), "late removes x-tier"),
            (ROUTER, &mutation("{ remove_on_match: { key_matcher: { prefix: x-t } } }"), "late removes x-tier"),
            (ROUTER, &claims, "jwt writes X-Tier"),
            (ROUTER, &script("h:headers():replace(\"X-User-Id\", \"a\")"), "the code of script"),
            (
                ROUTE,
                &of_kind(
                    "header_mutation.v3.HeaderMutationPerRoute",
                    "mutations: { request_mutations: [{ append: { header: { key: user, value: a } } }] }",
                ),
                "writes user",
            ),
            (
                "domains: [\"*\"]",
                "domains: [\"*\"]\n                      request_headers_to_remove: [X-User-Id]",
                "takes away `X-User-Id`",
            ),
            (
                "domains: [\"*\"]",
                "domains: [\"*\"]\n                      request_headers_to_add: [{ header: { key: X-Tier, value: pro } }]",
                "writes `X-Tier`",
            ),
            // Who is asked, and what is said for it.
            ("{ code: ServiceUnavailable }", "{ code: OK }", "status_on_error is OK"),
            ("{ code: ServiceUnavailable }", "{ code: 403 }", "status_on_error is 403"),
            ("envoy_grpc: { cluster_name: tollgate }", "google_grpc: { target_uri: '10.9.9.9:9191' }", "grpc_service names no cluster"),
            (ROUTER, &second_gate, "failure_mode_allow is true"),
            (CLOSED, "filter_enabled: { default_value: { numerator: 100, denominator: 2 } }", "only a part of the requests"),
        ],
    );
    let fine = [
        (CLOSED, "failure_mode_allow: no".to_owned()),
        ("normalize_path: true", "normalize_path: yes".to_owned()),
        ("stream_idle_timeout: 300s", upgrade("")),
        ("stream_idle_timeout: 300s", upgrade(&format!("{gate} }} }}, {router}"))),
        (ROUTER, script("print(h:headers():get(\"x-user-id\"))")),
        (ROUTER, mutation("{ append: { header: { key: x-color, value: red } } }")),
        (ROUTE, settings("grpc_service: { envoy_grpc: { cluster_name: tollgate } }")),
        ("{ code: ServiceUnavailable }", "{ code: 500 }".to_owned()),
    ];
    for (from, to) in fine {
        assert_eq!(found(&BOOTSTRAP.replacen(from, &to, 1), RULES), (Vec::new(), Vec::new()), "{to}");
    }
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
    let good = init::write("tollgate.yaml", &boot, &rules, &"127.0.0.1:80".parse().unwrap());
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
    for (rules, expected) in [
        (ISSUING.replace("trusted_hops: 1, ", ""), Some("issuer.trusted_hops is 0")),
        (with(sign_in), lost),
        (with(sign_up), lost),
        (with(&format!("{sign_up}{}", account("required"))), lost),
        (with(&format!("{sign_in}{sign_up}{}", account("public"))), None),
    ] {
        let (boot, compiled, _) = compile_text(&rules, &Outside::default()).unwrap();
        let file = init::write("tollgate.yaml", &boot, &compiled, &"127.0.0.1:80".parse().unwrap());
        let (errors, warnings) = found(&file, &rules);
        let is_told = warnings.iter().all(|line| expected.is_some_and(|expected| line.contains(expected)));
        assert!(errors.is_empty() && warnings.len() == usize::from(expected.is_some()) && is_told, "{rules}: {errors:?} {warnings:?}");
    }
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
