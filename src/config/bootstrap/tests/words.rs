//! Words and numbers as Envoy's readers of YAML and JSON take them, and files that are hard to read.

use super::*;

const SLASHES: &str = "path_with_escaped_slashes_action: REJECT_REQUEST";
const UNDERSCORES: &str = "headers_with_underscores_action: REJECT_REQUEST";
const OPENED: &str = "typed_per_filter_config: { envoy.filters.http.ext_authz: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, disabled: true } }";

fn below_route(more: &str) -> String {
    format!("{ROUTE}\n                          {more}")
}

#[test]
fn what_is_not_surely_false_is_true() {
    let words = ["t", "T", "\"t\"", "\"1\"", "1", "tRue", "yEs", "on", "tru", "[]", "{}"];
    for word in words {
        let allowing = format!("failure_mode_allow: {word}");
        let disabled = format!("{GATE}                    disabled: {word}\n");
        let exempt = below_route(&OPENED.replace("disabled: true", &format!("disabled: {word}")));
        plant(
            BOOTSTRAP,
            RULES,
            &[
                (CLOSED, &allowing, "failure_mode_allow is true"),
                (GATE, &disabled, "the ext_authz filter is disabled"),
                (ROUTE, &exempt, "ext_authz is disabled on a route"),
            ],
        );
    }
    for word in ["false", "f", "F", "\"0\"", "0", "No", "n", "off", "~", ""] {
        fine(BOOTSTRAP, RULES, &[(CLOSED, &format!("failure_mode_allow: {word}"))]);
    }
    for word in ["t", "Y", "\"1\"", "ON"] {
        fine(BOOTSTRAP, RULES, &[("normalize_path: true", &format!("normalize_path: {word}"))]);
    }
    plant(BOOTSTRAP, RULES, &[("normalize_path: true", "normalize_path: tru", "normalize_path is not true")]);
}

#[test]
fn a_field_without_a_value_is_not_there() {
    let beside = |field: &str| below_route(&format!("{field}\n                          {OPENED}"));
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (ROUTE, &beside("direct_response:"), "ext_authz is disabled on a route"),
            (ROUTE, &beside("redirect: ~"), "ext_authz is disabled on a route"),
            ("normalize_path: true", "normalize_path:", "normalize_path is not true"),
        ],
    );
    let empty = "filter_enabled_metadata: ~\n                      filter_enabled:\n                      allowed_headers: null";
    fine(BOOTSTRAP, RULES, &[(CLOSED, empty)]);
}

#[test]
fn a_number_is_the_same_to_everybody() {
    let share = |written: &str| format!("filter_enabled: {{ default_value: {{ numerator: {written} }} }}");
    for written in ["0100", "0x64", "0o144"] {
        let (errors, _) = found(&BOOTSTRAP.replace(CLOSED, &share(written)), RULES);
        assert!(errors.iter().any(|line| line.contains(&format!("`{written}` is not the same number"))), "{written}: {errors:?}");
    }
    fine(BOOTSTRAP, RULES, &[(CLOSED, &share("100")), ("pipe: { path: run/check.sock }", "pipe: { path: run/check.sock, mode: 0600 }")]);
}

#[test]
fn an_enum_is_read_in_any_case_and_by_its_number() {
    fine(
        BOOTSTRAP,
        RULES,
        &[
            (SLASHES, "path_with_escaped_slashes_action: 2"),
            (SLASHES, "path_with_escaped_slashes_action: 3"),
            (SLASHES, "path_with_escaped_slashes_action: unescape-and-redirect"),
            (UNDERSCORES, "headers_with_underscores_action: 1"),
            (UNDERSCORES, "headers_with_underscores_action: drop_header"),
            ("priority: DEFAULT", "priority: 0"),
        ],
    );
    let processor = |action: &str| {
        let config = format!("route_cache_action: {action}");
        format!("                  - {}\n{ROUTER}", of_http("late", "ext_proc.v3.ExternalProcessor", &config))
    };
    plant(
        BOOTSTRAP,
        RULES,
        &[
            (SLASHES, "path_with_escaped_slashes_action: 4", "path_with_escaped_slashes_action is UNESCAPE_AND_FORWARD"),
            (UNDERSCORES, "headers_with_underscores_action: 0", "headers_with_underscores_action is ALLOW"),
            (ROUTER, &processor("1"), "late stands after ext_authz and clears the route cache"),
            (ROUTER, &processor("clear"), "late stands after ext_authz and clears the route cache"),
        ],
    );
}

#[test]
fn a_name_like_the_mark_of_a_passed_over_key_is_a_name() {
    for name in ["_ignore_gate", "\u{e000}ignore\u{e000}gate", "\"\\uE000ignore\\uE000gate\""] {
        let named = BOOTSTRAP.replace("envoy.filters.http.ext_authz:\n", &format!("{name}:\n"));
        let named = named.replace("- name: envoy.filters.http.ext_authz\n", &format!("- name: {name}\n"));
        let exempt = format!(
            "{ROUTE}\n                          typed_per_filter_config: {{ {name}: {{ \"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true }} }}"
        );
        plant(&named, RULES, &[(ROUTE, &exempt, "ext_authz is disabled on a route")]);
    }
}

#[test]
fn places_stay_below_many_empty_documents() {
    let above = "a: 1\n".to_owned() + &"\n".repeat(300_000) + &"---\n".repeat(MOST_DOCUMENTS - 3);
    let (errors, _) = found(&format!("{above}--- \n{}", BOOTSTRAP.replace(CLOSED, "failure_mode_allow: true")), RULES);
    let line = BOOTSTRAP.lines().take_while(|line| !line.contains(CLOSED)).count() + above.lines().count() + 2;
    assert!(errors.iter().any(|error| error.starts_with(&format!("envoy.yaml:{line}:43: failure_mode_allow"))), "{line}: {errors:?}");
    let (errors, _) = found("a: 1\n---\na: 2\nb: 3\na: 4\n", RULES);
    assert!(errors.len() == 1 && errors[0].contains("envoy.yaml:5:1") && errors[0].contains("first in line 3"), "{errors:?}");
}

#[test]
fn a_name_steers_no_terminal() {
    let named = BOOTSTRAP.replace("cluster_name: tollgate }", "cluster_name: \"\\e]0;evil\\a\" }");
    let said = said(&named, RULES).join("\n");
    assert!(said.contains("\\u{1b}]0;evil\\u{7}") && !said.contains('\u{1b}'), "{said}");
}
