use crate::config::compile_text;
use crate::config::outside::Outside;

use super::*;

const BOOTSTRAP: &str = include_str!("../../../envoy/quickstart/envoy.yaml");

const RULES: &str = "
listen: { check: 'unix:./run/check.sock' }
identity_headers: { user: '{user}', x-user-id: '{user}', x-org-id: '{org}', x-key-id: '{key}', x-scopes: '{scopes}', x-tier: '{tier}' }
routes: [{ path: /a }]
";

fn found(file: &str, rules: &str) -> (Vec<String>, Vec<String>) {
    let (boot, rules, _) = compile_text(rules, &Outside::default()).unwrap_or_else(|complaints| panic!("{complaints:?}"));
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
        assert!(file.contains(from), "{from}");
        let (errors, warnings) = found(&file.replace(from, to), rules);
        assert!(!errors.is_empty() && errors.iter().all(|line| line.contains(expected)), "{from} -> {to}: {errors:#?}");
        assert_eq!(warnings, Vec::<String>::new(), "{from} -> {to}");
    }
}

const GATE: &str = "                  - name: envoy.filters.http.ext_authz\n";
const ROUTER: &str = "                  - name: envoy.filters.http.router\n";

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

#[test]
fn shadow_mode_is_allowed_and_not_forgotten() {
    let (errors, warnings) = found(&BOOTSTRAP.replace("failure_mode_allow: false", "shadow_mode: true"), RULES);
    assert_eq!(errors, Vec::<String>::new());
    assert!(warnings.len() == 1 && warnings[0].contains("nobody is refused"), "{warnings:?}");
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
    let rules = format!("{rules}issuer: {{ url: http://127.0.0.1:10000, resources: [{{ uri: https://api.example }}] }}\n");
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

const ISTIO: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: check }
spec:
  hosts: [check.tollgate.internal]
  ports: [{ number: 9191, name: grpc, protocol: GRPC }]
  endpoints: [{ address: 'unix:///srv/run/check.sock' }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: check }
spec:
  host: check.tollgate.internal
  trafficPolicy: { connectionPool: { http: { http2MaxRequests: 65536 } } }
---
meshConfig:
  extensionProviders:
    - name: tollgate
      envoyExtAuthzGrpc: { service: check.tollgate.internal, port: 9191, timeout: 0.25s, failOpen: false, statusOnError: '503' }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: shop }
spec: { action: CUSTOM, provider: { name: tollgate }, rules: [{}] }
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
spec:
  configPatches:
    - applyTo: NETWORK_FILTER
      patch:
        value:
          typed_config:
            '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            normalize_path: true
            merge_slashes: true
            path_with_escaped_slashes_action: REJECT_REQUEST
            common_http_protocol_options: { headers_with_underscores_action: REJECT_REQUEST }
            early_header_mutation_extensions:
              - typed_config: { mutations: [{ remove: user }, { remove: x-user-id }, { remove: x-org-id }, { remove: x-key-id }, { remove: x-scopes }, { remove: x-tier }] }
    - applyTo: HTTP_FILTER
      patch:
        value:
          typed_config:
            '@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
            encode_raw_headers: true
";

#[test]
fn istio_is_read_as_one() {
    plant(
        ISTIO,
        &RULES.replace("unix:./run", "unix:/srv/run"),
        &[
            ("failOpen: false", "failOpen: true", "failOpen is true"),
            ("timeout: 0.25s, ", "", "Istio's own is ten minutes"),
            (", statusOnError: '503'", "", "statusOnError is absent"),
            ("port: 9191, ", "port: 9001, ", "has no port 9001"),
            ("failOpen: false", "includeRequestBodyInCheck: { maxRequestBytes: 1 }", "bodies are held back"),
            ("failOpen: false", "clearRouteCache: true", "clearRouteCache is true"),
            ("protocol: GRPC", "protocol: HTTP", "would ask in HTTP/1.1"),
            ("/srv/run/check.sock", "/srv/run/other.sock", "leads to unix:/srv/run/other.sock"),
            ("65536", "100", "more than 100 checks at once"),
            ("provider: { name: tollgate }", "provider: { name: gate }", "no extension provider is called `gate`"),
            ("rules: [{}]", "rules: [{ to: [{ operation: { paths: [/api/*] } }] }]", "the rules leave requests out"),
            (", rules: [{}]", "", "without rules the policy is for no request"),
            ("kind: EnvoyFilter", "kind: Other", "no EnvoyFilter in this file"),
            ("{ remove: user }, ", "", "a client's own `user` is not removed"),
            ("encode_raw_headers: true", "failure_mode_allow: true", "failure_mode_allow is true"),
        ],
    );
}

const GATEWAY: &str = "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: { name: tollgate }
spec: { endpoints: [{ unix: { path: /srv/run/check.sock } }] }
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: { name: tollgate }
spec:
  targetRefs: [{ kind: Gateway, name: public }]
  extAuth:
    grpc:
      backendRefs: [{ kind: Backend, name: tollgate }]
      backendSettings: { circuitBreaker: { maxParallelRequests: 65536 } }
    timeout: 250ms
    failOpen: false
    statusOnError: 503
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: { name: tollgate }
spec:
  path: { escapedSlashesAction: RejectRequest }
  headers:
    withUnderscoresAction: RejectRequest
    earlyRequestHeaders: { remove: [user, x-user-id, x-org-id, x-key-id, x-scopes, x-tier] }
";

#[test]
fn envoy_gateway_is_read_as_one() {
    plant(
        GATEWAY,
        &RULES.replace("unix:./run", "unix:/srv/run"),
        &[
            ("failOpen: false", "failOpen: true", "failOpen is true"),
            ("failOpen: false", "recomputeRoute: true", "recomputeRoute is true"),
            ("failOpen: false", "bodyToExtAuth: { maxRequestBytes: 1 }", "bodies are held back"),
            (
                "failOpen: false",
                "headersToExtAuth: [x-api-key, x-authorization, api-version, content-type, x-request-id, x-forwarded-for, upgrade, connection, origin, access-control-request-method]",
                "`authorization` is not among headersToExtAuth",
            ),
            ("timeout: 250ms", "", "Envoy Gateway's own is ten seconds"),
            ("timeout: 250ms", "timeout: 1m", "a check may take 60 s"),
            ("statusOnError: 503", "", "statusOnError is absent"),
            ("65536", "1024", "more than 1024 checks at once"),
            ("/srv/run/check.sock", "/srv/run/other.sock", "leads to unix:/srv/run/other.sock"),
            ("kind: Backend, name: tollgate", "kind: Backend, name: other", "there is no Backend `other`"),
            ("RejectRequest }", "UnescapeAndForward }", "escapedSlashesAction is UnescapeAndForward"),
            ("RejectRequest }", "RejectRequest, disableMergeSlashes: true }", "disableMergeSlashes is true"),
            ("withUnderscoresAction: RejectRequest", "withUnderscoresAction: Allow", "withUnderscoresAction is Allow"),
            ("x-key-id, ", "", "a client's own `x-key-id` is not removed"),
            ("kind: ClientTrafficPolicy", "kind: Other", "no ClientTrafficPolicy in this file"),
        ],
    );
    let other = format!(
        "{GATEWAY}---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {{ name: open }}\nspec: {{ cors: {{}} }}\n"
    );
    let said = said(&other, &RULES.replace("unix:./run", "unix:/srv/run"));
    assert!(said.len() == 1 && said[0].contains("a SecurityPolicy without extAuth"), "{said:?}");
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
