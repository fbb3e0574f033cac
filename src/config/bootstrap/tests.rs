use crate::config::compile_text;
use crate::config::outside::Outside;

use super::*;

const BOOTSTRAP: &str = include_str!("../../../envoy/quickstart/envoy.yaml");

const RULES: &str = "
identity_headers: { user: '{user}', x-user-id: '{user}', x-org-id: '{org}', x-key-id: '{key}', x-scopes: '{scopes}', x-tier: '{tier}' }
routes: [{ path: /a }]
";

fn said(bootstrap: &str, rules: &str) -> Vec<String> {
    let (_, rules, _) = compile_text(rules, &Outside::default()).unwrap_or_else(|complaints| panic!("{complaints:?}"));
    judge_text(&Arc::from("envoy.yaml"), bootstrap, &rules).iter().map(ToString::to_string).collect()
}

#[test]
fn the_quickstart_has_nothing_against_it() {
    assert_eq!(said(BOOTSTRAP, RULES), Vec::<String>::new());
}

#[test]
fn each_weakening_is_found_and_nothing_else_with_it() {
    let cases = [
        ("normalize_path: true", "normalize_path: false", "normalize_path"),
        ("merge_slashes: true", "", "merge_slashes"),
        ("use_remote_address: true", "use_remote_address: false", "use_remote_address"),
        (
            "path_with_escaped_slashes_action: REJECT_REQUEST",
            "path_with_escaped_slashes_action: KEEP_UNCHANGED",
            "path_with_escaped_slashes_action",
        ),
        ("headers_with_underscores_action: REJECT_REQUEST", "", "common_http_protocol_options"),
        ("- remove: x-org-id\n", "- remove: x-organization-id\n", "early_header_mutation_extensions"),
        ("failure_mode_allow: false", "failure_mode_allow: true", "failure_mode_allow"),
        ("failure_mode_allow: false", "clear_route_cache: true", "clear_route_cache"),
        ("status_on_error: { code: ServiceUnavailable }", "", "status_on_error"),
        ("timeout: 0.250s", "", "grpc_service"),
        ("timeout: 0.250s", "timeout: 0s", "grpc_service"),
        ("timeout: 0.250s", "timeout: 600s", "grpc_service"),
        ("cluster_name: tollgate }", "cluster_name: elsewhere }", "grpc_service"),
        ("http2_protocol_options: {}", "http_protocol_options: {}", "HTTP/2"),
        ("max_requests: 65536", "max_requests: 1000", "circuit_breakers"),
        ("user|x[-_]user[-_]id|", "user|", "decoder_header_mutation_rules"),
        // Tollgate removes x_user_id too, and a removal that is refused is an error.
        ("user|x[-_]user[-_]id|", "user|x-user-id|", "decoder_header_mutation_rules"),
        ("encode_raw_headers: true", "allowed_headers: { patterns: [{ exact: authorization }, { prefix: x- }] }", "allowed_headers"),
        ("encode_raw_headers: true", "disallowed_headers: { patterns: [{ exact: authorization }] }", "disallowed_headers"),
        ("direct_response: { status: 200, body: { inline_string: \"ok\\n\" } }", "route: { cluster: upstream }", "typed_per_filter_config"),
    ];
    for (from, to, field) in cases {
        assert!(BOOTSTRAP.contains(from), "{from}");
        let said = said(&BOOTSTRAP.replace(from, to), RULES);
        assert!(!said.is_empty() && said.iter().all(|line| line.contains(field)), "{from} -> {to}: {said:?}");
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
