//! Ways past the filter that asks: through other listeners, filters, clusters and copies; and answers that become others.

use super::*;

const CLUSTERS: &str = "  clusters:\n";
const UPSTREAM: &str = "pipe: { path: run/upstream.sock }";
const DISABLED: &str = "typed_per_filter_config: { envoy.filters.http.ext_authz: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, disabled: true } }";
const TO_ISSUER: &str = "                          route: { cluster: issuer }\n";
const LUA: &str = "lua.v3.Lua";

fn of_network(name: &str, kind: &str, config: &str) -> String {
    let kind = format!("type.googleapis.com/envoy.extensions.filters.network.{kind}");
    format!("{{ name: {name}, typed_config: {{ \"@type\": {kind}, {config} }} }}")
}

/// A second listener, of some filters of connections.
fn listener(more: &str, filters: &str) -> String {
    format!("    - {{ name: second, {more} filter_chains: [{{ filters: [{filters}] }}] }}\n{CLUSTERS}")
}

fn manager(more: &str, route: &str, filters: &str) -> String {
    let router = of_http("router", "router.v3.Router", "a: 1");
    let hosts =
        format!("route_config: {{ virtual_hosts: [{{ domains: ['*'], {more} routes: [{{ match: {{ prefix: / }}, {route} }}] }}] }}");
    let config = format!("{hosts}, use_remote_address: true, http_filters: [{filters}{router}]");
    of_network("end", "http_connection_manager.v3.HttpConnectionManager", &config)
}

fn script(name: &str, code: &str, more: &str) -> String {
    of_http(name, LUA, &format!("default_source_code: {{ inline_string: '{code}' }}{more}"))
}

fn before(filter: &str) -> String {
    format!("                  - {filter}\n{GATE}")
}

fn after(filter: &str) -> String {
    format!("                  - {filter}\n{ROUTER}")
}

fn cluster(name: &str, host: &str, port: u16) -> String {
    format!(
        "    - name: {name}\n      load_assignment: {{ endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }} }}] }}] }}\n"
    )
}

/// A good file with an issuer behind it, and its rules.
fn issuing() -> (String, String) {
    let rules = RULES.replace("check.sock'", "check.sock', issuer: '127.0.0.1:8080'");
    let issuer = "issuer: { url: http://127.0.0.1:10000, trusted_hops: 1, resources: [{ uri: https://api.example }] }";
    let rest = "                        - match: { prefix: / }\n";
    let file = BOOTSTRAP.replace(rest, &format!("                        - match: {{ path_separated_prefix: /oauth }}\n{TO_ISSUER}{rest}"));
    (file.replace(CLUSTERS, &format!("{CLUSTERS}{}", cluster("issuer", "127.0.0.1", 8080))), format!("{rules}{issuer}\n"))
}

#[test]
fn a_listener_that_asks_nobody_reaches_nobody() {
    let answers = "direct_response: { status: 200 }";
    let with = |filter: &str| listener("", &manager("", answers, &format!("{filter}, ")));
    let calling = script("s", "function envoy_on_request(h) h:httpCall(\"upstream\", t, nil, 5000) end", "");
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (CLUSTERS, &with(&of_http("files", "file_server.v3.FileServerConfig", "a: 1")), "files answers or forwards by itself"),
            (CLUSTERS, &with(&of_http("away", "aws_lambda.v3.Config", "a: 1")), "away answers or forwards by itself"),
        ],
    );
    doubt(
        BOOTSTRAP,
        RULES,
        &[
            (CLUSTERS, &with(&calling), "not judged: whom s reaches"),
            (CLUSTERS, &with(&of_http("p", "ext_proc.v3.ExternalProcessor", "grpc_service: {}")), "not judged: whom p reaches"),
        ],
    );
    fine(
        BOOTSTRAP,
        RULES,
        &[
            (CLUSTERS, &listener("", &manager("", answers, ""))),
            (CLUSTERS, &with(&of_http("buffer", "buffer.v3.Buffer", "max_request_bytes: 1"))),
            // Whoever comes in plain text is sent to TLS.
            (CLUSTERS, &listener("", &manager("require_tls: ALL,", "route: { cluster: upstream }", ""))),
        ],
    );
    let told = manager("require_tls: ALL,", "route: { cluster: upstream }", "");
    let proxied = told.replace("use_remote_address: true", "use_remote_address: false");
    let mutation = of_http("m", "header_mutation.v3.HeaderMutation", "mutations: {}");
    let changed = manager("require_tls: ALL,", "route: { cluster: upstream }", &format!("{mutation}, "));
    let encrypted = listener("", &told).replace("[{ filters: [", "[{ transport_socket: { name: tls }, filters: [");
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (CLUSTERS, &listener("", &proxied), "this listener leads to `upstream`"),
            (CLUSTERS, &listener("", &changed), "this listener leads to `upstream`"),
            (CLUSTERS, &encrypted, "this listener leads to `upstream`"),
            (CLUSTERS, &listener("", &told.replace("ALL", "EXTERNAL_ONLY")), "this listener leads to `upstream`"),
        ],
    );
}

#[test]
fn a_way_to_the_issuer_is_a_way_to_nobody_else() {
    let (file, rules) = issuing();
    let exempt = format!("{TO_ISSUER}                          {DISABLED}\n");
    let copied = "{ cluster: issuer, request_mirror_policies: [{ cluster: upstream }] }";
    let raw = of_network("end", "tcp_proxy.v3.TcpProxy", "cluster: issuer");
    let led = |filter: &str| listener("", &format!("{filter}, {raw}"));
    let state = of_network("state", "set_filter_state.v3.Config", "on_new_connection: [{ object_key: envoy.tcp_proxy.cluster }]");
    let name = "type.googleapis.com/envoy.extensions.filters.listener.set_filter_state.v3.Config";
    let early = format!("listener_filters: [{{ name: early, typed_config: {{ \"@type\": {name}, a: 1 }} }}],");
    let wide = file.replace("domains: [\"*\"]", "domains: [\"*\"]\n                      request_mirror_policies: [{ cluster: upstream }]");
    plant(
        &file,
        &rules,
        &[
            (TO_ISSUER, &exempt.replace("{ cluster: issuer }", copied), "ext_authz is disabled on a route"),
            (
                CLUSTERS,
                &listener("", &manager("request_mirror_policies: [{ cluster: upstream }],", "route: { cluster: issuer }", "")),
                "this listener leads to `upstream`",
            ),
            (CLUSTERS, &led(&state), "state may lead to another cluster"),
            (CLUSTERS, &led(&of_network("sni", "sni_cluster.v3.SniCluster", "a: 1")), "sni may lead to another cluster"),
            (CLUSTERS, &listener(&early, &raw), "early may lead to another cluster"),
        ],
    );
    plant(&wide, &rules, &[(TO_ISSUER, &exempt, "ext_authz is disabled on a route")]);
    fine(&file, &rules, &[(TO_ISSUER, &exempt), (CLUSTERS, &led(&of_network("r", "rbac.v3.RBAC", "stat_prefix: a")))]);
    let chain = "        - filters:\n";
    let processor = of_network("p", "ext_proc.v3.NetworkExternalProcessor", "stat_prefix: a");
    doubt(BOOTSTRAP, RULES, &[(chain, &format!("{chain}            - {processor}\n"), "what p does to connections")]);
}

#[test]
fn programs_of_this_machine_may_go_out() {
    let at = |host: &str| format!("address: {{ socket_address: {{ address: {host}, port_value: 31003 }} }},");
    let to = |cluster: &str| of_network("out", "tcp_proxy.v3.TcpProxy", &format!("cluster: {cluster}"));
    let with = BOOTSTRAP.replace(CLUSTERS, &format!("{CLUSTERS}{}", cluster("redis", "10.0.0.9", 6379)));
    plant(
        &with,
        RULES,
        &[
            (CLUSTERS, &listener(&at("0.0.0.0"), &to("redis")), "this listener leads to `redis`"),
            (CLUSTERS, &listener(&at("127.0.0.1"), &to("upstream")), "this listener leads to `upstream`"),
        ],
    );
    doubt(&with, RULES, &[(CLUSTERS, &listener(&at("127.0.0.1"), &to("redis")), "this listener leads to `redis`")]);
}

#[test]
fn monitors_may_read_what_is_for_them() {
    let with = BOOTSTRAP.replace(CLUSTERS, &format!("{CLUSTERS}{}", cluster("adm", "127.0.0.1", 9901)));
    let led = |path: &str, more: &str| {
        let reading = manager("", &format!("route: {{ cluster: adm{more} }}"), "");
        listener("", &reading.replace("match: { prefix: / }", &format!("match: {{ {path} }}")))
    };
    fine(&with, RULES, &[(CLUSTERS, &led("path: /stats/prometheus", ""))]);
    for (path, more) in
        [("path: /quitquitquit", ""), ("path: /stats", ""), ("prefix: /stats", ""), ("path: /ready", ", prefix_rewrite: /quitquitquit")]
    {
        let errors = said(&with.replace(CLUSTERS, &led(path, more)), RULES);
        assert!(errors.iter().any(|line| line.contains("leads to Envoy's admin interface")), "{path}: {errors:?}");
    }
}

#[test]
fn a_cluster_is_followed_to_its_end() {
    let gathering = |kind: &str, list: &str| {
        format!(
            "      cluster_type: {{ name: a, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.clusters.{kind}.v3.ClusterConfig, clusters: [{list}] }} }}\n"
        )
    };
    let with = format!("{CLUSTERS}{}    - name: group\n", cluster("adm", "127.0.0.1", 9901));
    let ways = [gathering("aggregate", "adm"), gathering("composite", "{ name: adm }"), gathering("aggregate", "group, adm")];
    for way in ways {
        let (file, to_group) = (BOOTSTRAP.replace(CLUSTERS, &format!("{with}{way}")), ROUTE.replace("upstream", "group"));
        plant(&file, RULES, &[(ROUTE, &to_group, "`group` leads to Envoy's admin interface")]);
    }
    let tollgate = "    - name: tollgate\n      type: STATIC\n";
    plant(
        BOOTSTRAP,
        RULES,
        &[(tollgate, &format!("    - name: tollgate\n{}", gathering("aggregate", "upstream")), "has a cluster_type of its own")],
    );
    let resolved = "{ name: a, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster } }";
    fine(BOOTSTRAP, RULES, &[(tollgate, &format!("    - name: tollgate\n      cluster_type: {resolved}\n"))]);
    let upstream = "    - name: upstream\n      type: STATIC\n";
    for written in ["4", "original_dst", "ORIGINAL_DST"] {
        let file = BOOTSTRAP.replace(upstream, &format!("    - name: upstream\n      type: {written}\n"));
        let (_, warnings) = found(&file.replace(UPSTREAM, ""), RULES);
        assert!(warnings.iter().any(|line| line.contains("where `upstream` leads")), "{written}: {warnings:?}");
    }
}

#[test]
fn another_who_is_asked_too_is_named() {
    let other = of_http("opa", "ext_authz.v3.ExtAuthz", "grpc_service: { envoy_grpc: { cluster_name: opa } }");
    let with = BOOTSTRAP.replace(CLUSTERS, &format!("{CLUSTERS}{}", cluster("opa", "127.0.0.1", 9292)));
    doubt(&with, RULES, &[(ROUTER, &after(&other), "what opa does to requests"), (GATE, &before(&other), "what opa does to requests")]);
    // What stands between the two stands before Tollgate all the same.
    let key = of_http(
        "put",
        "header_mutation.v3.HeaderMutation",
        "mutations: { request_mutations: [{ append: { header: { key: x-api-key, value: k } } }] }",
    );
    let (errors, _) = found(&with.replace(GATE, &before(&format!("{other}\n                  - {key}"))), RULES);
    assert!(errors.len() == 1 && errors[0].contains("`x-api-key` is put in before"), "{errors:?}");
}

#[test]
fn every_path_has_a_route_however_it_is_said() {
    let routes = BOOTSTRAP.find("                      routes:\n").unwrap();
    let end = BOOTSTRAP.find("                http_filters:\n").unwrap();
    let input = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput";
    let tree = |prefix: &str| {
        let route = "\"@type\": type.googleapis.com/envoy.config.route.v3.Route, match: { prefix: / }, route: { cluster: upstream }";
        format!(
            "                      matcher: {{ matcher_tree: {{ input: {{ typed_config: {{ \"@type\": {input}, header_name: ':path' }} }}, prefix_match_map: {{ map: {{ \"{prefix}\": {{ action: {{ typed_config: {{ {route} }} }} }} }} }} }} }}\n"
        )
    };
    let list = &BOOTSTRAP[routes..end];
    fine(BOOTSTRAP, RULES, &[("match: { prefix: / }", "match: { prefix: '' }"), (list, &tree("/"))]);
    doubt(BOOTSTRAP, RULES, &[(list, &tree("/api"), "whether this tree of routes takes every path")]);
}

#[test]
fn code_before_or_after_leaves_answers_and_routes_alone() {
    let calling = "function envoy_on_request(h) local a, b = h:httpCall(\"upstream\", t, nil, 5000) end";
    let answering = "function envoy_on_request(h) h:respond(t, \"no\") end";
    doubt(
        BOOTSTRAP,
        RULES,
        &[
            (GATE, &before(&script("s", calling, "")), "what s does to a request before"),
            (GATE, &before(&script("s", answering, "")), "what s does to a request before"),
        ],
    );
    let status = "function envoy_on_response(h) h:headers():replace(\":status\", \"200\") end";
    let color = "function envoy_on_request(h) h:headers():replace(\"x-color\", \"blue\") end";
    let per_route = format!(
        "{ROUTE}\n                          typed_per_filter_config: {{ s: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute, source_code: {{ inline_string: '{color}' }} }} }}"
    );
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (GATE, &before(&script("s", status, "")), "the code of s changes :status"),
            (ROUTER, &after(&script("s", status, "")), "the code of s changes :status"),
            (ROUTER, &after(&script("s", color, "")), "clears the route cache"),
        ],
    );
    let idle = "function envoy_on_request(h) end";
    plant(&BOOTSTRAP.replace(ROUTER, &after(&script("s", idle, ""))), RULES, &[(ROUTE, &per_route, "clears the route cache")]);
    let told = ", clear_route_cache: false";
    fine(&BOOTSTRAP.replace(ROUTER, &after(&script("s", idle, told))), RULES, &[(ROUTE, &per_route)]);
    fine(
        BOOTSTRAP,
        RULES,
        &[
            (ROUTER, &after(&script("s", color, told))),
            (GATE, &before(&script("s", color, ""))),
            (ROUTER, &after(&script("s", "function envoy_on_response(h) h:headers():add(\"x-color\", \"blue\") end", ""))),
        ],
    );
    let custom = |kind: &str, status: u16| {
        let policy = format!("\"@type\": type.googleapis.com/envoy.extensions.http.custom_response.{kind}, status_code: {status}");
        of_http(
            "custom",
            "custom_response.v3.CustomResponse",
            &format!("custom_response_matcher: {{ on_no_match: {{ action: {{ typed_config: {{ {policy} }} }} }} }}"),
        )
    };
    let (local, redirect) = ("local_response_policy.v3.LocalResponsePolicy", "redirect_policy.v3.RedirectPolicy");
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (GATE, &before(&custom(local, 200)), "may reach the client as 200"),
            (ROUTER, &after(&custom(local, 200)), "may reach the client as 200"),
            (ROUTER, &after(&custom(redirect, 302)), "may reach the client as 302"),
        ],
    );
    fine(BOOTSTRAP, RULES, &[(ROUTER, &after(&custom(local, 429)))]);
}

#[test]
fn more_ways_to_write_what_is_not_ones_own_are_found() {
    let token = |name: &str| of_http("gcp", "gcp_authn.v3.GcpAuthnFilterConfig", &format!("timeout: 2s{name}"));
    let geo = of_http(
        "geo",
        "geoip.v3.Geoip",
        "provider: { typed_config: { common_provider_config: { geo_field_keys: { country: x-user-id } } } }",
    );
    let copied = "{ cluster: upstream, request_mirror_policies: [{ cluster: upstream, request_headers_mutations: [{ append: { header: { key: x-user-id, value: root } } }] }] }";
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (GATE, &before(&token("")), "gcp puts in a credential before Tollgate is asked"),
            (GATE, &before(&token(", token_header: { name: x-api-key }")), "`x-api-key` is put in before Tollgate is asked"),
            (ROUTER, &after(&token(", token_header: { name: x-user-id }")), "gcp writes x-user-id"),
            (ROUTER, &after(&geo), "geo writes x-user-id"),
            (ROUTE, copied, "request_headers_mutations writes `x-user-id`"),
        ],
    );
    let removing = of_http(
        "late",
        "header_mutation.v3.HeaderMutation",
        "mutations: { request_mutations: [{ remove_on_match: { key_matcher: { safe_regex: { regex: '\\Qx-user-id\\E|user' } } } }] }",
    );
    doubt(BOOTSTRAP, RULES, &[(ROUTER, &after(&removing), "whether late removes")]);
    fine(BOOTSTRAP, RULES, &[(ROUTER, &after(&token(""))), (GATE, &before(&token(", token_header: { name: x-google }")))]);
}

#[test]
fn a_chosen_route_is_for_what_comes_there() {
    let rules = RULES.replace("[{ path: /a }]", "[{ path: /a, name: a }, { path: '/b/{c}/**', name: b }, { path: '/**', name: all }]");
    let first = "                        - match: { prefix: / }\n";
    let choosing = |matched: &str, name: &str| {
        let chosen = DISABLED.replace("disabled: true", &format!("check_settings: {{ context_extensions: {{ route: {name} }} }}"));
        format!(
            "                        - match: {{ {matched} }}\n                          route: {ROUTE}\n                          {chosen}\n{first}"
        )
    };
    for (matched, name) in
        [("prefix: /", "a"), ("prefix: /b/", "b"), ("prefix: /b", "b"), ("prefix: /b/c", "b"), ("path_separated_prefix: /a", "a")]
    {
        doubt(BOOTSTRAP, &rules, &[(first, &choosing(matched, name), "also what its path is not for")]);
    }
    let fits =
        [("path: /x", "a"), ("prefix: /b/1/", "b"), ("path_separated_prefix: /b/1", "b"), ("prefix: /", "all"), ("prefix: /api", "all")];
    for (matched, name) in fits {
        fine(BOOTSTRAP, &rules, &[(first, &choosing(matched, name))]);
    }
}

/// Names are looked up, not searched for in the whole file.
#[test]
fn many_clusters_are_judged_in_one_go() {
    let many: String = (0..3_000).map(|number| cluster(&format!("c{number}"), "10.0.0.1", 80)).collect();
    let routes: String = (0..3_000)
        .map(|number| {
            format!("                        - match: {{ path: /r{number} }}\n                          route: {{ cluster: c{number} }}\n")
        })
        .collect();
    let first = "                        - match: { prefix: / }\n";
    let file = BOOTSTRAP.replace(CLUSTERS, &format!("{CLUSTERS}{many}")).replace(first, &format!("{routes}{first}"));
    assert_eq!(found(&file, RULES), (Vec::new(), Vec::new()));
}
