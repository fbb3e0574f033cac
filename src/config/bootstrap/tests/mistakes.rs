//! Mistakes planted beside the filter that asks: after it, on the way to Tollgate, and where things are written down.

use super::*;

const IDLE: &str = "                stream_idle_timeout: 300s\n";
const RAW: &str = "encode_raw_headers: true";
const IDENTITY: [&str; 6] = ["user", "x-user-id", "x-org-id", "x-key-id", "x-scopes", "x-tier"];

fn after(kind: &str, config: &str) -> String {
    format!("                  - {}\n{ROUTER}", of_http("late", kind, config))
}

fn before(filters: &str) -> String {
    format!("                  - {filters}\n{GATE}")
}

fn script(code: &str) -> String {
    after("lua.v3.Lua", &format!("default_source_code: {{ inline_string: '{code}' }}"))
}

fn change(name: &str) -> String {
    format!("{{ append: {{ header: {{ key: {name}, value: a }} }} }}")
}

#[test]
fn each_filter_that_writes_an_identity_is_found() {
    let upstream = "    - name: upstream\n";
    let of_cluster = format!(
        "{upstream}      typed_extension_protocol_options: {{ a: {{ http_filters: [{}] }} }}\n",
        of_http("late", "header_mutation.v3.HeaderMutation", &format!("mutations: {{ request_mutations: [{}] }}", change("x-user-id")))
    );
    let inner = of_http("inner", "header_mutation.v3.HeaderMutation", &format!("mutations: {{ request_mutations: [{}] }}", change("user")));
    let of_router = after("router.v3.Router", &format!("upstream_http_filters: [{inner}]"));
    let empty = of_http("late", "header_mutation.v3.HeaderMutation", "mutations: {}");
    let twice = BOOTSTRAP.replace(GATE, &before(&empty)).replace(ROUTER, &format!("                  - {empty}\n{ROUTER}"));
    let per_route = format!(
        "{ROUTE}\n                          typed_per_filter_config: {{ late: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute, mutations: {{ request_mutations: [{}] }} }} }}",
        change("user")
    );
    plant(&twice, RULES, &[(ROUTE, &per_route, "late writes user")]);
    fine(&BOOTSTRAP.replace(GATE, &before(&empty)), RULES, &[(ROUTE, &per_route)]);
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (upstream, &of_cluster, "late writes x-user-id"),
            (ROUTER, &of_router, "late writes user"),
            (ROUTER, &after("api_key_auth.v3.ApiKeyAuth", "forwarding: { header: x-user-id }"), "late writes x-user-id"),
            (ROUTER, &after("ip_tagging.v3.IPTagging", "ip_tag_header: { header: X-Tier }"), "late writes X-Tier"),
            (ROUTER, &after("basic_auth.v3.BasicAuth", "forward_username_header: user"), "late writes user"),
            (
                ROUTER,
                &after(
                    "local_ratelimit.v3.LocalRateLimit",
                    "request_headers_to_add_when_not_enforced: [{ header: { key: x-tier, value: pro } }]",
                ),
                "late writes x-tier",
            ),
            (
                ROUTER,
                &after("geoip.v3.Geoip", "provider: { typed_config: { common_provider_config: { geo_headers_to_add: { city: user } } } }"),
                "late writes user",
            ),
            (
                ROUTER,
                &after("credential_injector.v3.CredentialInjector", "credential: { typed_config: { header: user } }"),
                "late writes user",
            ),
            (
                ROUTER,
                &after("transform.v3.TransformConfig", &format!("request_transformation: {{ headers_mutations: [{}] }}", change("user"))),
                "late writes user",
            ),
            (
                ROUTER,
                &after("header_to_metadata.v3.Config", "request_rules: [{ header: x-user-id, remove: true }]"),
                "late removes x-user-id",
            ),
        ],
    );
}

#[test]
fn what_a_filter_does_unseen_is_not_judged_and_not_forgotten() {
    let fetched = format!("                  - {{ name: late, config_discovery: {{ type_urls: [a] }} }}\n{ROUTER}");
    let composed = after("composite.v3.Composite", "a: { dynamic_config: { name: a } }");
    let processor = of_http("inner", "ext_proc.v3.ExternalProcessor", "grpc_service: {}");
    let matched = format!(
        "                  - {{ name: late, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher, extension_config: {processor} }} }}\n{ROUTER}"
    );
    let unseen = [
        fetched,
        composed,
        matched,
        after("ext_proc.v3.ExternalProcessor", "grpc_service: {}"),
        after("wasm.v3.Wasm", "config: {}"),
        after("golang.v3alpha.Config", "library_id: a"),
        after("unheard_of.v3.Config", "a: 1"),
        after("lua.v3.Lua", "default_source_code: { filename: late.lua }"),
        script("local n = \"x-user\" h:headers():replace(n..\"-id\", \"root\")"),
        script("h:headers():replace(\"x-user\"..\"-id\", \"root\")"),
        script("local f = h:headers().replace f(h:headers(), a, b)"),
        script("h:headers()[\"replace\"](h:headers(), a, b)"),
        script("load(x)()"),
    ];
    let cases: Vec<(&str, &str, &str)> = unseen.iter().map(|to| (ROUTER, to.as_str(), "not judged: what late does")).collect();
    doubt(BOOTSTRAP, RULES, &cases);
    let seen = [
        script("h:headers():replace(\"x-color\", h:headers():get(\"x-paint\"))"),
        script("h:logInfo(\"address\") h:headers():remove( \"x-color\" )"),
        after("rbac.v3.RBAC", "rules: {}"),
        after("header_to_metadata.v3.Config", "request_rules: [{ header: x-color, remove: true }, { header: x-user-id, remove: false }]"),
        after("header_mutation.v3.HeaderMutation", &format!("mutations: {{ response_mutations: [{}] }}", change("user"))),
    ];
    let cases: Vec<(&str, &str)> = seen.iter().map(|to| (ROUTER, to.as_str())).collect();
    fine(BOOTSTRAP, RULES, &cases);
}

#[test]
fn expressions_are_tried_on_the_names_that_matter() {
    let begin = BOOTSTRAP.find("                      decoder_header_mutation_rules:").unwrap();
    let end = BOOTSTRAP.find("                      # For check_us in the access log.").unwrap();
    let rules_of_changes = &BOOTSTRAP[begin..end];
    let changes = |text: &str| format!("                      decoder_header_mutation_rules: {{ {text} }}\n");
    let disallowed = |text: &str| format!("disallowed_headers: {{ patterns: [{{ {text} }}] }}");
    let allowed = |text: &str| format!("allowed_headers: {{ patterns: [{{ {text} }}] }}");
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (rules_of_changes, &changes("disallow_expression: { regex: 'x-.*|user' }"), "forbid Tollgate to set or remove"),
            (rules_of_changes, &changes("disallow_all: true, allow_expression: { regex: 'x-.*' }"), "forbid Tollgate to set or remove"),
            (
                "disallow_all: true",
                "disallow_all: true\n                        disallow_expression: { regex: user }",
                "forbid Tollgate to set or remove `user`",
            ),
            (RAW, &disallowed("prefix: x-"), "is among disallowed_headers"),
            (RAW, &disallowed("contains: auth"), "is among disallowed_headers"),
            (RAW, &disallowed("safe_regex: { regex: '.*' }"), "is among disallowed_headers"),
            (RAW, &disallowed("exact: AUTHORIZATION, ignore_case: true"), "`authorization` is among disallowed_headers"),
            (RAW, &allowed("safe_regex: { regex: nothing }"), "is not among allowed_headers"),
            (RAW, &allowed("safe_regex: { regex: 'x-.*|authorization' }"), "is not among allowed_headers"),
        ],
    );
    doubt(
        BOOTSTRAP,
        RULES,
        &[
            (rules_of_changes, &changes("disallow_expression: { regex: '\\C+' }"), "not judged: whether Tollgate may set or remove"),
            (RAW, &disallowed("custom: {}"), "not judged: whether disallowed_headers keep"),
            (RAW, &allowed("safe_regex: { regex: '(?=a)' }"), "not judged: whether allowed_headers keep"),
        ],
    );
    fine(
        BOOTSTRAP,
        RULES,
        &[
            (rules_of_changes, &changes("disallow_expression: { regex: 'x-color|X-.*' }")),
            (rules_of_changes, &changes("disallow_all: true, allow_expression: { regex: '.+' }")),
            (RAW, &disallowed("exact: AUTHORIZATION")),
            (RAW, &disallowed("safe_regex: { regex: 'auth' }")),
            (RAW, &allowed("safe_regex: { regex: '[a-z-]+' }")),
        ],
    );
}

#[test]
fn a_removal_counts_where_it_happens() {
    let begin = BOOTSTRAP.find("                early_header_mutation_extensions:").unwrap();
    let end = BOOTSTRAP.find("                access_log:").unwrap();
    let early = &BOOTSTRAP[begin..end];
    let removals = IDENTITY.map(|name| format!("{{ remove: {name} }}")).join(", ");
    let strip = |rest: &str| {
        let config = format!("mutations: {{ {rest}: [{removals}] }}");
        before(&of_http("strip", "header_mutation.v3.HeaderMutation", &config))
    };
    let first = "- remove: user\n";
    let back = format!("{first}                        - {}\n", change("User"));
    plant(BOOTSTRAP, RULES, &[(first, &back, "a client's own `user` is not removed")]);
    let bare = BOOTSTRAP.replace(early, "");
    let good = strip("request_mutations");
    plant(
        &bare.replace(GATE, &good),
        RULES,
        &[
            (good.as_str(), &strip("response_mutations"), "is not removed before ext_authz"),
            ("{ name: strip,", "{ name: strip, disabled: true,", "is not removed before ext_authz"),
        ],
    );
}

#[test]
fn who_answers_over_tls_must_show_its_name() {
    let bootstrap = include_str!("../../../../envoy/mtls/envoy.yaml");
    let rules = include_str!("../../../../envoy/mtls/tollgate.yaml");
    let exact = "{ exact: tollgate.internal }";
    let names = "match_typed_subject_alt_names:\n                  - { san_type: DNS, matcher: { exact: tollgate.internal } }";
    let socket = "      transport_socket:\n";
    plant(
        bootstrap,
        rules,
        &[
            (names, &format!("{names}\n                trust_chain_verification: ACCEPT_UNTRUSTED"), "ACCEPT_UNTRUSTED"),
            (exact, "{ safe_regex: { regex: '.*' } }", "its name is not looked at"),
            (exact, "{ prefix: '' }", "its name is not looked at"),
            (exact, "{ custom: {} }", "its name is not looked at"),
            (
                socket,
                &format!("      transport_socket_matches: [{{ name: raw, match: {{}} }}]\n{socket}"),
                "choose how `tollgate` is spoken to",
            ),
        ],
    );
    doubt(bootstrap, rules, &[(names, "match_typed_subject_alt_names: []", "not judged: whether the secret")]);
    let inline = bootstrap.replace("              validation_context_sds_secret_config:\n                name: authority\n                sds_config: { path_config_source: { path: ./sds-authority.yaml } }\n", "");
    plant(
        &inline,
        rules,
        &[
            (names, "match_typed_subject_alt_names: []", "its name is not looked at"),
            (names, "{}\n          auto_sni_san_validation: false", "its name is not looked at"),
        ],
    );
}

#[test]
fn where_a_client_is_nobody_else_may_say() {
    let listener = "      filter_chains:\n";
    let proxied = |config: &str| {
        format!(
            "      listener_filters: [{{ typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol, {config} }} }}]\n{listener}"
        )
    };
    let internal = |range: &str| format!("{IDLE}                internal_address_config: {{ cidr_ranges: [{{ {range} }}] }}\n");
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (listener, &proxied("allow_requests_without_proxy_protocol: true"), "whoever writes the header says where it is"),
            (IDLE, &internal("address_prefix: 0.0.0.0, prefix_len: 0"), "clients of 0.0.0.0/0 count as internal"),
            (IDLE, &internal("address_prefix: 10.0.0.0"), "clients of 10.0.0.0/0 count as internal"),
            (IDLE, &internal("address_prefix: 8.0.0.0, prefix_len: 8"), "clients of 8.0.0.0/8 count as internal"),
        ],
    );
    doubt(BOOTSTRAP, RULES, &[(listener, &proxied("rules: []"), "only the load balancer may reach this listener")]);
    fine(BOOTSTRAP, RULES, &[(IDLE, &internal("address_prefix: 10.2.0.0, prefix_len: 16"))]);
}

#[test]
fn credentials_are_written_down_nowhere() {
    let method = "method: \"%REQ(:METHOD)%\"";
    let logged = |format: &str| format!("{method}\n                          more: \"{format}\"");
    let tap = "type.googleapis.com/envoy.extensions.filters.http.tap.v3.Tap";
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (method, &logged("%REQ(X-API-KEY)%"), "carries credentials"),
            (method, &logged("%REQUEST_HEADER(X-API-KEY)%"), "carries credentials"),
            (method, &logged("a %REQ(X-COLOR?AUTHORIZATION):9% b"), "`AUTHORIZATION` carries credentials"),
            (
                IDLE,
                &format!("{IDLE}                tracing: {{ custom_tags: [{{ tag: key, request_header: {{ name: x-api-key }} }}] }}\n"),
                "`x-api-key` carries credentials",
            ),
            (GATE, &before(&format!("{{ name: tap, typed_config: {{ \"@type\": {tap}, a: 1 }} }}")), "a tap writes whole requests down"),
        ],
    );
    fine(BOOTSTRAP, RULES, &[(method, &logged("%REQ(:PATH)% %REQ(X-COLOR)%"))]);
    let issuing = format!("{RULES}issuer: {{ url: http://127.0.0.1:10000, resources: [{{ uri: https://api.example }}] }}\n")
        .replace("run/check.sock' }", "run/check.sock', issuer: 127.0.0.1:8080 }");
    let (_, warnings) = found(&BOOTSTRAP.replace(method, &logged("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%")), &issuing);
    assert!(warnings.iter().any(|line| line.contains("%PATH(NQ)%")), "{warnings:?}");
}

#[test]
fn tollgates_answers_arrive_as_they_are() {
    let cluster = "    - name: tollgate\n      type: STATIC\n";
    let begin = BOOTSTRAP.find("      load_assignment:\n        cluster_name: tollgate").unwrap();
    let end = BOOTSTRAP.find("    # Your service.").unwrap();
    let homeless = BOOTSTRAP.replace(&BOOTSTRAP[begin..end], "");
    let (errors, _) = found(&homeless, RULES);
    assert!(errors.len() == 1 && errors[0].contains("has no endpoint here"), "{errors:?}");
    doubt(&homeless, RULES, &[(cluster, "    - name: tollgate\n      type: EDS\n", "not judged: where `tollgate` leads")]);
    let reply = |change: &str| format!("{IDLE}                local_reply_config: {{ mappers: [{{ {change} }}] }}\n");
    let body = format!(
        "{ROUTE}\n                          typed_per_filter_config: {{ envoy.filters.http.ext_authz: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, check_settings: {{ with_request_body: {{ max_request_bytes: 1 }} }} }} }}"
    );
    let short = "envoy_grpc: { cluster_name: tollgate, max_receive_message_length: 10 }";
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (IDLE, &reply("status_code: 200, filter: { response_flag_filter: { flags: [UAEX] } }"), "may reach the client as 200"),
            (ROUTE, &body, "bodies are held back"),
            ("transport_api_version: V3", "transport_api_version: V2", "Tollgate speaks version 3 alone"),
            ("transport_api_version: V3", "transport_api_version: 1", "Tollgate speaks version 3 alone"),
            (
                "                        envoy_grpc: { cluster_name: tollgate }",
                &format!("                        {short}"),
                "answers of more than 10 bytes",
            ),
        ],
    );
    // What Envoy takes for version 3 too.
    let version = "                      transport_api_version: V3\n";
    fine(BOOTSTRAP, RULES, &[(version, ""), ("transport_api_version: V3", "transport_api_version: AUTO")]);
    let timeout = "timeout: 0.250s\n                      # No";
    let retried = |on: &str| timeout.replace("0.250s", &format!("0.250s\n                        retry_policy: {{ num_retries: 1{on} }}"));
    doubt(
        BOOTSTRAP,
        RULES,
        &[
            (timeout, &retried(", retry_on: 'connect-failure, deadline-exceeded'"), "one request may count twice"),
            ("validate_mutations: true", "validate_mutations: false", "is missing in silence"),
            (CLOSED, "enable_dynamic_metadata_ingestion: false", "learn nothing of Tollgate's decisions"),
        ],
    );
    fine(
        BOOTSTRAP,
        RULES,
        &[
            (timeout, &retried("")),
            (timeout, &retried(", retry_on: 'connect-failure,refused-stream'")),
            (IDLE, &reply("body: { inline_string: a }")),
            (CLOSED, "enable_dynamic_metadata_ingestion: true"),
        ],
    );
}

#[test]
fn a_key_that_envoy_passes_over_is_passed_over() {
    let anchored = format!("!ignore anchors:\n  closed: &closed false\n  open: &open true\n\n{BOOTSTRAP}")
        .replace(CLOSED, "failure_mode_allow: *closed");
    plant(
        &anchored,
        RULES,
        &[
            ("*closed", "*open", "failure_mode_allow is true"),
            (
                "                early_header_mutation_extensions:",
                "                !ignore early_header_mutation_extensions:",
                "is not removed",
            ),
            ("                normalize_path: true", "                !ignore normalize_path: true", "normalize_path is not true"),
            ("normalize_path: true", "normalize_path: !ignore true", "not readable as YAML"),
        ],
    );
}
