//! Mistakes planted before the filter that asks: where requests come in, who they are taken for, and where they may be led.

use super::*;

const CLUSTERS: &str = "  clusters:\n";
const UPSTREAM: &str = "pipe: { path: run/upstream.sock }";
const EXEMPT: &str = "
                          typed_per_filter_config: { envoy.filters.http.ext_authz: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, disabled: true } }";

fn of_network(kind: &str, config: &str) -> String {
    format!("typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.network.{kind}, {config} }}")
}

/// A listener beside the good one, whose chain ends with a filter.
fn listener(end: &str) -> String {
    format!("    - filter_chains: [{{ filters: [{{ name: end, {end} }}] }}]\n{CLUSTERS}")
}

fn manager(config: &str) -> String {
    listener(&of_network("http_connection_manager.v3.HttpConnectionManager", config))
}

#[test]
fn a_principal_is_a_verified_one() {
    let rules =
        format!("{RULES}mesh: {{ trust_domain: shop.example, principals: {{ 'spiffe://shop.example/admin': {{ limits: exempt }} }} }}\n");
    let chain = "        - filters:\n";
    let authority = "trusted_ca: { filename: a.crt }";
    let verification = format!("validation_context: {{ {authority} }}");
    let socket = format!(
        "        - transport_socket: {{ typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, require_client_certificate: true, common_tls_context: {{ {verification} }} }} }}\n          filters:\n"
    );
    let good = BOOTSTRAP.replace(chain, &socket);
    let beside = |field: &str| format!("{authority}, {field}");
    let secret = "validation_context_sds_secret_config: { name: a }";
    plant(
        &good,
        &rules,
        &[
            (authority, &beside("trust_chain_verification: ACCEPT_UNTRUSTED"), "trust_chain_verification is ACCEPT_UNTRUSTED"),
            (authority, &beside("trust_chain_verification: 1"), "trust_chain_verification is ACCEPT_UNTRUSTED"),
            (authority, &beside("allow_expired_certificate: true"), "allow_expired_certificate is true"),
            (authority, "match_typed_subject_alt_names: []", "held against no authority"),
            (&verification, "alpn_protocols: [h2]", "asked for and not verified"),
        ],
    );
    let kept = good.replace(&verification, secret).replace(CLUSTERS, &format!("  secrets: [{{ name: a, {verification} }}]\n{CLUSTERS}"));
    plant(&kept, &rules, &[(authority, "trust_chain_verification: ACCEPT_UNTRUSTED, trusted_ca: {}", "trust_chain_verification is")]);
    let over_sds = secret.replace("name: a", "name: a, sds_config: {}");
    let combined = format!("combined_validation_context: {{ default_validation_context: {{}}, {over_sds} }}");
    doubt(&good, &rules, &[(&verification, &over_sds, "comes over SDS"), (&verification, &combined, "comes over SDS")]);
    doubt(BOOTSTRAP, &rules, &[("", "", "no listener here asks for certificates")]);
    fine(&good, &rules, &[("require_client_certificate: true", "require_client_certificate: false")]);
    // Without principals nobody comes as one.
    fine(&good, RULES, &[(authority, &beside("trust_chain_verification: ACCEPT_UNTRUSTED"))]);
}

#[test]
fn a_port_alone_makes_no_issuer() {
    let issuing = |listen: &str| {
        let rules = RULES.replace("check.sock'", &format!("check.sock', issuer: '{listen}'"));
        format!("{rules}issuer: {{ url: http://127.0.0.1:10000, trusted_hops: 1, resources: [{{ uri: https://api.example }}] }}\n")
    };
    let at = |host: &str| format!("socket_address: {{ address: {host}, port_value: 8080 }}");
    let rest = "                        - match: { prefix: / }\n";
    let to_issuer = "                          route: { cluster: issuer }";
    let good = |issuer: &str, upstream: &str| {
        BOOTSTRAP
            .replace(rest, &format!("                        - match: {{ path_separated_prefix: /oauth }}\n{to_issuer}\n{rest}"))
            .replace(UPSTREAM, upstream)
            + &format!(
                "\n    - name: issuer\n      load_assignment: {{ endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ {issuer} }} }} }}] }}] }}\n"
            )
    };
    for (listen, issuer, upstream) in [
        ("0.0.0.0:8080", at("127.0.0.1"), at("10.0.0.7")),
        ("0.0.0.0:8080", at("localhost"), at("shop.shop.svc")),
        ("10.0.0.5:8080", at("10.0.0.5"), at("shop.shop.svc")),
        ("127.0.0.1:8080", at("127.0.0.1"), at("127.0.0.2")),
    ] {
        let mixed = format!("{issuer} }} }} }}, {{ endpoint: {{ address: {{ {UPSTREAM}");
        let unread = format!("{issuer} }} }} }}, {{ endpoint: {{ address: {{ envoy_internal_address: {{ server_listener_name: a }}");
        let exempt = format!("{to_issuer}{EXEMPT}");
        let rules = issuing(listen);
        let file = good(&issuer, &upstream);
        plant(
            &file,
            &rules,
            &[
                (ROUTE, &format!("{ROUTE}{EXEMPT}"), "ext_authz is disabled on a route"),
                (
                    CLUSTERS,
                    &manager("route_config: { virtual_hosts: [{ routes: [{ route: { cluster: upstream } }] }] }"),
                    "leads to `upstream`",
                ),
                (
                    CLUSTERS,
                    &manager(
                        "route_config: { virtual_hosts: [{ routes: [{ route: { cluster: issuer, request_mirror_policies: [{ cluster: upstream }] } }] }] }",
                    ),
                    "leads to `upstream`",
                ),
                (CLUSTERS, &listener(&of_network("tcp_proxy.v3.TcpProxy", "cluster: upstream")), "leads to `upstream`"),
            ],
        );
        for more in [&mixed, &unread] {
            let (errors, _) = found(&file.replace(to_issuer, &exempt).replace(&issuer, more), &rules);
            assert!(errors.iter().any(|line| line.contains("ext_authz is disabled on a route")), "{more}: {errors:?}");
        }
        fine(&file, &rules, &[(to_issuer, &exempt), (CLUSTERS, &listener(&of_network("tcp_proxy.v3.TcpProxy", "cluster: issuer")))]);
    }
    doubt(&good(&at("issuer.auth.svc"), UPSTREAM), &issuing("0.0.0.0:8080"), &[("", "", "to which machine `issuer` leads")]);
}

#[test]
fn a_listener_that_cannot_be_read_is_no_listener_that_asks() {
    let plain = of_http("end", "router.v3.Router", "suppress_envoy_headers: true");
    let forwarding = of_http("end", "mcp_router.v3.McpRouter", "servers: []");
    let datagrams = |kind: &str| {
        format!(
            "    - listener_filters: [{{ name: end, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.udp.{kind}, stat_prefix: a }} }}]\n{CLUSTERS}"
        )
    };
    let elsewhere = "nobody can say where end leads";
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (CLUSTERS, &manager(&format!("rds: {{ route_config_name: r }}, http_filters: [{plain}]")), "its routes come over rds"),
            (CLUSTERS, &manager(&format!("scoped_routes: {{ name: r }}, http_filters: [{plain}]")), "its routes come over scoped_routes"),
            (CLUSTERS, &manager(&format!("route_config: {{}}, http_filters: [{forwarding}]")), "where its last filter leads"),
            (CLUSTERS, &listener("config_discovery: { type_urls: [a] }"), elsewhere),
            (CLUSTERS, &listener(&of_network("generic_proxy.v3.GenericProxy", "stat_prefix: a")), elsewhere),
            (CLUSTERS, &listener(&of_network("redis_proxy.v3.RedisProxy", "stat_prefix: a")), elsewhere),
            (CLUSTERS, &listener(&of_network("http_connection_manager.v3.EnvoyMobileHttpConnectionManager", "config: {}")), elsewhere),
            (CLUSTERS, &datagrams("udp_proxy.v3.UdpProxyConfig"), elsewhere),
            (CLUSTERS, &format!("    - name: empty\n{CLUSTERS}"), "no filters can be read"),
        ],
    );
    doubt(
        BOOTSTRAP,
        RULES,
        &[
            ("\nadmin:\n", "\ndynamic_resources: { lds_config: { ads: {} } }\nadmin:\n", "what comes over lds_config"),
            ("stat_prefix: public\n", "stat_prefix: public\n                rds: { route_config_name: r }\n", "routes that come over rds"),
            ("name: everything\n", "name: everything\n                  vhds: {}\n", "routes that come over vhds"),
            (ROUTE, "{ cluster_header: x-cluster, timeout: 15s }", "to which cluster this leads"),
        ],
    );
    fine(
        BOOTSTRAP,
        RULES,
        &[
            (CLUSTERS, &listener(&of_network("echo.v3.Echo", "{}").replace(", {}", ""))),
            (CLUSTERS, &datagrams("dns_filter.v3.DnsFilterConfig")),
        ],
    );
}

#[test]
fn a_route_that_the_platform_chooses_is_there_and_not_public() {
    let rules = RULES.replace("[{ path: /a }]", "[{ path: /a, name: shop }, { path: /ping, name: ping, auth: public }]");
    let choosing = |extensions: &str| {
        format!("{ROUTE}{}", EXEMPT.replace("disabled: true", &format!("check_settings: {{ context_extensions: {{ {extensions} }} }}")))
    };
    let all = "match: { prefix: / }\n                          route: { cluster: upstream, timeout: 15s }";
    let (one, public) = ("match: { path: /ping }\n                          route: ", choosing("route: ping"));
    plant(
        BOOTSTRAP,
        &rules,
        &[
            (ROUTE, &choosing("route: nosuch"), "there is no route `nosuch`"),
            (ROUTE, &choosing("route: ping"), "judged as the route `ping`"),
            (ROUTE, &choosing("Route: shop, route: ping"), "judged as the route `ping`"),
        ],
    );
    doubt(BOOTSTRAP, &rules, &[(all, &format!("{one}{public}\n                        - {all}"), "judged as the route `ping`")]);
    doubt(BOOTSTRAP, &rules, &[(ROUTE, &choosing("route: shop"), "judged as the route `shop`")]);
    fine(BOOTSTRAP, &rules, &[(ROUTE, &choosing("color: red"))]);
}

#[test]
fn nobody_puts_in_a_credential() {
    let change = |name: &str, value: &str| format!("append: {{ header: {{ key: {name}, value: \"{value}\" }} }}");
    let early = |name: &str, value: &str| format!("- remove: user\n                        - {}\n", change(name, value));
    let before = |filter: &str| format!("                  - {filter}\n{GATE}");
    let mutation =
        |kind: &str, name: &str| of_http("put", kind, &format!("mutations: {{ request_mutations: [{{ {} }}] }}", change(name, "k")));
    let entry = "header_mutation.v3.HeaderMutation";
    let per_route = format!(
        "{ROUTE}\n                          typed_per_filter_config: {{ put: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute, mutations: {{ request_mutations: [{{ {} }}] }} }} }}",
        change("authorization", "k")
    );
    let script = |code: &str| of_http("put", "lua.v3.Lua", &format!("default_source_code: {{ inline_string: '{code}' }}"));
    let wrapped = |kind: &str| {
        let config = of_http("inner", kind, "a: 1");
        format!(
            "{{ name: put, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher, extension_config: {config} }} }}"
        )
    };
    let added = change("x-api-key", "k");
    let transform =
        of_http("put", "transform.v3.TransformConfig", &format!("request_transformation: {{ headers_mutations: [{{ {added} }}] }}"));
    let limit = of_http(
        "put",
        "local_ratelimit.v3.LocalRateLimit",
        "request_headers_to_add_when_not_enforced: [{ header: { key: x-api-key, value: k } }]",
    );
    let first = "- remove: user\n";
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (first, &early("X-API-Key", "k"), "`X-API-Key` is put in before Tollgate is asked"),
            (GATE, &before(&mutation(entry, "authorization")), "`authorization` is put in before Tollgate is asked"),
            (GATE, &before(&of_http("put", "credential_injector.v3.CredentialInjector", "overwrite: true")), "put puts in a credential"),
            (GATE, &before(&wrapped("credential_injector.v3.CredentialInjector")), "put puts in a credential"),
            (GATE, &before(&script("h:headers():add(\"x-api-key\", \"k\")")), "`x-api-key` is put in before Tollgate is asked"),
            (GATE, &before(&script("h:headers():replace( \"Authorization\" , \"Bearer k\" )")), "`Authorization` is put in before"),
            (GATE, &before(&transform), "`x-api-key` is put in before Tollgate is asked"),
            (GATE, &before(&limit), "`x-api-key` is put in before Tollgate is asked"),
            (GATE, &before(&of_http("put", "api_key_auth.v3.ApiKeyAuth", "forwarding: { header: X-Api-Key }")), "`X-Api-Key` is put in"),
            // What answers by itself may be wrapped as well.
            (GATE, &before(&wrapped("aws_lambda.v3.Config")), "put stands before ext_authz and answers"),
        ],
    );
    plant(&BOOTSTRAP.replace(GATE, &before(&mutation(entry, "x-color"))), RULES, &[(ROUTE, &per_route, "`authorization` is put in")]);
    let scripted = BOOTSTRAP.replace(GATE, &before(&script("h:headers():remove(\"authorization\")")));
    let script_per_route = format!(
        "{ROUTE}\n                          typed_per_filter_config: {{ put: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute, source_code: {{ inline_string: 'h:headers():add(\"x-api-key\", \"k\")' }} }} }}"
    );
    plant(&scripted, RULES, &[(ROUTE, &script_per_route, "`x-api-key` is put in before Tollgate is asked")]);
    doubt(
        BOOTSTRAP,
        RULES,
        &[
            (first, &early("authorization", "Bearer %REQ(x-token)%"), "from something that a client sent"),
            (GATE, &before(&script("h:headers():add(\"x-api-key\", h:headers():get(\"x-key\"))")), "from something that a client sent"),
            (GATE, &before(&script("h:headers():add(\"x-api-key\", \"a\"..b)")), "from something that a client sent"),
            (GATE, &before(&of_http("put", "ext_proc.v3.ExternalProcessor", "observability_mode: true")), "what put does to"),
        ],
    );
    fine(BOOTSTRAP, RULES, &[(first, &early("x-color", "red"))]);
}

#[test]
fn no_route_leads_to_a_door_of_our_own() {
    let rules = RULES.replace("check.sock'", "check.sock', control: 'unix:./data/control.sock', ops: '127.0.0.1:9464'");
    let socket = |host: &str, port: u16| format!("socket_address: {{ address: {host}, port_value: {port} }}");
    plant(
        BOOTSTRAP,
        &rules,
        &[
            (ROUTE, "{ cluster: tollgate, timeout: 15s }", "`tollgate` leads to listen.check"),
            (ROUTE, "{ weighted_clusters: { clusters: [{ name: tollgate, weight: 1 }] } }", "`tollgate` leads to listen.check"),
            (ROUTE, "{ cluster: upstream, request_mirror_policies: [{ cluster: tollgate }] }", "`tollgate` leads to listen.check"),
            (UPSTREAM, "pipe: { path: data/control.sock }", "`upstream` leads to listen.control"),
            (UPSTREAM, "pipe: { path: run/../data/./control.sock }", "`upstream` leads to listen.control"),
            (UPSTREAM, &socket("127.0.0.1", 9464), "`upstream` leads to listen.ops"),
            (UPSTREAM, &socket("localhost", 9464), "`upstream` leads to listen.ops"),
            (UPSTREAM, &socket("127.0.0.1", 9901), "`upstream` leads to Envoy's admin interface"),
        ],
    );
    let anywhere = "      type: STATIC\n      connect_timeout: 1s\n";
    doubt(BOOTSTRAP, &rules, &[(anywhere, &anywhere.replace("STATIC", "ORIGINAL_DST"), "where `upstream` leads, which a request decides")]);
    let central = BOOTSTRAP.replace("pipe: { path: run/check.sock }", &socket("127.0.0.1", 9191));
    let open = RULES.replace("'unix:./run/check.sock'", "'0.0.0.0:9191'");
    doubt(
        &central,
        &open,
        &[(UPSTREAM, &socket("shop.internal", 9191), "to which machine `upstream` leads, on a port that listen.check has")],
    );
    fine(BOOTSTRAP, &rules, &[(UPSTREAM, &socket("shop.internal", 9464)), (UPSTREAM, &socket("127.0.0.1", 9465))]);
    // What Envoy fetches for itself is no route.
    let keys = of_http(
        "jwt",
        "jwt_authn.v3.JwtAuthentication",
        "providers: { a: { remote_jwks: { http_uri: { uri: 'http://127.0.0.1:9464/jwks', cluster: ops, timeout: 1s } } } }",
    );
    let ops = format!(
        "{CLUSTERS}    - name: ops\n      load_assignment: {{ endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ {} }} }} }}] }}] }}\n",
        socket("127.0.0.1", 9464)
    );
    let with_keys = BOOTSTRAP.replace(ROUTER, &format!("                  - {keys}\n{ROUTER}"));
    fine(&with_keys, &rules, &[(CLUSTERS, &ops)]);
    plant(&with_keys.replace(CLUSTERS, &ops), &rules, &[(ROUTE, "{ cluster: ops, timeout: 15s }", "`ops` leads to listen.ops")]);
}

/// Prometheus comes from outside, and the admin interface is on loopback: one page of it may have a listener of its own.
#[test]
fn the_counters_of_the_admin_interface_may_be_led_to_and_nothing_else_of_it() {
    let stats = include_str!("../../../../envoy/quickstart/compose/stats.yaml");
    let (listener, cluster) = stats.split_once("  listeners:\n").expect("listeners").1.split_once(CLUSTERS).expect("clusters");
    let with_stats = BOOTSTRAP.replace(CLUSTERS, &format!("{listener}{CLUSTERS}{cluster}"));
    let (path, action) = ("path: /stats/prometheus", "{ cluster: admin, timeout: 10s }");
    fine(&with_stats, RULES, &[(action, "{ cluster: admin }"), (action, action)]);
    // The door, and the listener that asks nobody.
    let open = "`admin`";
    plant(
        &with_stats,
        RULES,
        &[
            (path, "path: /stats", open),
            (path, "prefix: /stats/prometheus", open),
            (path, "safe_regex: { regex: /stats/prometheus }", open),
            (action, "{ cluster: admin, prefix_rewrite: /quitquitquit }", open),
            (action, "{ cluster: upstream }", "this listener leads to `upstream` and has no ext_authz filter"),
            (ROUTE, "{ cluster: admin, timeout: 15s }", open),
        ],
    );
}

#[test]
fn what_is_written_twice_or_takes_another_path_is_found() {
    let script = |code: &str| {
        format!(
            "                  - {}\n{ROUTER}",
            of_http("late", "lua.v3.Lua", &format!("clear_route_cache: false, default_source_code: {{ inline_string: '{code}' }}"))
        )
    };
    let twice = |fields: &str| fields.replace("; ", "\n                      ");
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (CLOSED, &twice("failure_mode_allow: false; failureModeAllow: true"), "failureModeAllow stands here twice"),
            (CLOSED, &twice("shadowMode: false; shadow_mode: false"), "shadow_mode stands here twice"),
            (ROUTER, &script("function envoy_on_request(h) h:headers():replace(\":path\", h:headers():get(\"x-p\")) end"), "changes :path"),
            (ROUTER, &script("function envoy_on_request(h) h:headers():add( \":method\", \"PUT\") end"), "changes :method"),
        ],
    );
    fine(BOOTSTRAP, RULES, &[(ROUTER, &script("h:headers():replace(\"x-color\", h:headers():get(\":path\"))"))]);
}
