//! Mistakes planted one by one in the quickstart's bootstrap, plainly and in other words.

use super::*;

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
            ("timeout: 0.250s", "timeout: 1m30s", "a check may take 90 s"),
            ("timeout: 0.250s", "timeout: 250", "the timeout `250` is no length of time"),
            ("timeout: 0.250s", "timeout: nans", "the timeout `nans` is no length of time"),
            ("timeout: 15s", "timeout: 0.2s", "a check alone may take 0.25 s"),
            ("timeout: 15s", "timeout: 15 s", "the timeout `15 s` is no length of time"),
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
