//! Manifests of Istio and Envoy Gateway.

use super::*;

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
    let patch = |place: &str, operation: &str, value: &str| {
        format!("  configPatches:\n    - {{ applyTo: {place}, patch: {{ operation: {operation}, value: {value} }} }}\n")
    };
    let exempt = "{ typed_per_filter_config: { envoy.filters.http.ext_authz: { '@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, disabled: true } } }";
    let mutation = "{ name: late, typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation, mutations: { request_mutations: [{ append: { header: { key: X-User-Id, value: a } } }] } } }";
    let removal = "  configPatches:\n    - { applyTo: HTTP_FILTER, match: { listener: { filterChain: { filter: { subFilter: { name: envoy.filters.http.ext_authz } } } } }, patch: { operation: REMOVE } }\n";
    let virtual_service = |change: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nspec: {{ http: [{{ headers: {{ request: {{ {change} }} }} }}] }}\n---\nmeshConfig"
        )
    };
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
            ("failOpen: false", "failOpen: yes", "failOpen is true"),
            ("statusOnError: '503'", "statusOnError: '200'", "statusOnError is 200"),
            ("action: CUSTOM", "action: DENY", "no AuthorizationPolicy in this file has the action CUSTOM"),
            ("metadata: { name: shop }", "metadata: { name: shop, annotations: { istio.io/dry-run: 'true' } }", "the policy is a dry run"),
            ("  configPatches:\n", &patch("HTTP_ROUTE", "MERGE", exempt), "ext_authz is disabled on a route"),
            ("  configPatches:\n", &patch("HTTP_FILTER", "INSERT_AFTER", mutation), "late writes X-User-Id"),
            ("  configPatches:\n", &patch("HTTP_ROUTE", "MERGE", "{ request_headers_to_remove: [x-tier] }"), "takes away `x-tier`"),
            ("  configPatches:\n", removal, "the ext_authz filter is removed or"),
            ("---\nmeshConfig", &virtual_service("set: { X-User-Id: a }"), "this route changes `X-User-Id`"),
            ("---\nmeshConfig", &virtual_service("remove: [x-tier]"), "this route changes `x-tier`"),
        ],
    );
}

#[test]
fn a_document_may_begin_on_the_line_of_its_mark() {
    let rules = RULES.replace("unix:./run", "unix:/srv/run");
    let removal = "{ apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, spec: { configPatches: [{ applyTo: HTTP_FILTER, match: { listener: { filterChain: { filter: { subFilter: { name: envoy.filters.http.ext_authz } } } } }, patch: { operation: REMOVE } }] } }";
    for mark in ["---", "--- ", "---\t"] {
        let (errors, _) = found(&format!("{ISTIO}{mark} {removal}\n"), &rules);
        assert!(errors.len() == 1 && errors[0].contains("the ext_authz filter is removed or"), "{mark}: {errors:?}");
        let column = mark.len() + 1 + removal.find("{ operation").unwrap() + 1;
        assert!(errors[0].contains(&format!(":{}:{column}: ", ISTIO.lines().count() + 1)), "{mark}: {errors:?}");
    }
    plant(&ISTIO.replace("---\n", "--- # next\n"), &rules, &[]);
    let many = |marks: usize| found(&format!("{ISTIO}{}", "---\n".repeat(marks)), &rules).0;
    assert_eq!(many(100), Vec::<String>::new());
    assert!(many(512).iter().any(|line| line.contains("more than 512 documents")), "{:?}", many(512));
}

/// The settings of a mesh as they stand in a cluster.
#[test]
fn a_mesh_in_a_config_map_is_read_too() {
    let mesh = "---\nmeshConfig:\n  extensionProviders:\n    - name: tollgate\n      envoyExtAuthzGrpc:";
    let kept =
        "---\napiVersion: v1\nkind: ConfigMap\ndata:\n  mesh: |\n    extensionProviders:\n    - name: tollgate\n      envoyExtAuthzGrpc:";
    assert!(ISTIO.contains(mesh));
    let rules = RULES.replace("unix:./run", "unix:/srv/run");
    plant(&ISTIO.replace(mesh, kept), &rules, &[("failOpen: false", "failOpen: true", "failOpen is true")]);
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
  targetRefs: [{ kind: Gateway, name: public }]
  path: { escapedSlashesAction: RejectRequest }
  headers:
    withUnderscoresAction: RejectRequest
    earlyRequestHeaders: { remove: [user, x-user-id, x-org-id, x-key-id, x-scopes, x-tier] }
";

const PUBLIC: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: public }
spec: { gatewayClassName: tollgate }
---
";

#[test]
fn envoy_gateway_is_read_as_one() {
    let route = |gateway: &str, change: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: shop }}\nspec: {{ parentRefs: [{{ name: {gateway} }}], rules: [{{ filters: [{{ requestHeaderModifier: {change} }}] }}] }}\n---\n"
        )
    };
    let patch = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: EnvoyPatchPolicy\nspec: { jsonPatches: [{ operation: { op: remove, path: /default_filter_chain/filters/0/typed_config/http_filters/0 } }] }\n---\n";
    plant(
        &format!("{PUBLIC}{}{GATEWAY}", route("public", "{ set: [{ name: x-color, value: red }] }")),
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
            ("timeout: 250ms", "timeout: 1m0.5s", "a check may take 60.5 s"),
            ("timeout: 250ms", "timeout: 1d", "the timeout `1d` is no length of time"),
            ("statusOnError: 503", "", "statusOnError is absent"),
            ("65536", "1024", "more than 1024 checks at once"),
            ("/srv/run/check.sock", "/srv/run/other.sock", "leads to unix:/srv/run/other.sock"),
            ("kind: Backend, name: tollgate", "kind: Backend, name: other", "there is no Backend `other`"),
            ("RejectRequest }", "UnescapeAndForward }", "escapedSlashesAction is UnescapeAndForward"),
            ("RejectRequest }", "RejectRequest, disableMergeSlashes: true }", "disableMergeSlashes is true"),
            ("withUnderscoresAction: RejectRequest", "withUnderscoresAction: Allow", "withUnderscoresAction is Allow"),
            ("x-key-id, ", "", "a client's own `x-key-id` is not removed"),
            ("statusOnError: 503", "statusOnError: 200", "statusOnError is 200"),
            (PUBLIC, &format!("{PUBLIC}{}", route("other", "")), "no SecurityPolicy with extAuth has this HTTPRoute"),
            (
                PUBLIC,
                &PUBLIC.replace("metadata: { name: public }", "metadata: { name: private }"),
                "no SecurityPolicy with extAuth has this Gateway",
            ),
            (PUBLIC, &format!("{PUBLIC}{}", route("public", "{ set: [{ name: X-User-Id, value: a }] }")), "this route changes `X-User-Id`"),
            (PUBLIC, &format!("{PUBLIC}{patch}"), "this patch reaches into the filters"),
            ("kind: ClientTrafficPolicy", "kind: Other", "no ClientTrafficPolicy in this file"),
        ],
    );
    // Header names have no case.
    let rules = RULES.replace("unix:./run", "unix:/srv/run");
    for cased in [
        GATEWAY.replace("x-user-id, x-org-id", "X-User-Id, X-ORG-ID"),
        GATEWAY.replace("failOpen: false", "headersToExtAuth: [Authorization, X-Api-Key, x-authorization, API-Version, Content-Type, x-request-id, x-forwarded-for, upgrade, connection, origin, access-control-request-method]"),
    ] {
        assert_eq!(found(&format!("{PUBLIC}{cased}"), &rules), (Vec::new(), Vec::new()), "{cased}");
    }
    // Selectors choose, do not, or cannot be told.
    let named = "targetRefs: [{ kind: Gateway, name: public }]\n  extAuth";
    for (selector, expected) in [
        ("", None),
        ("matchLabels: { app: shop }", Some("nobody is asked there")),
        ("matchExpressions: [{ key: app, operator: Exists }]", Some("not judged: whether the targetSelectors")),
        ("matchLabels: { app: shop }, matchExpressions: [{ key: app, operator: Exists }]", Some("nobody is asked there")),
        ("namespaces: { from: Selector, selector: {} }", Some("not judged: whether the targetSelectors")),
        ("namespaces: { from: All }", None),
    ] {
        let chosen = GATEWAY.replace(named, &format!("targetSelectors: [{{ kind: Gateway, {selector} }}]\n  extAuth"));
        let (errors, warnings) = found(&format!("{PUBLIC}{chosen}"), &rules);
        let told: Vec<&String> = errors.iter().chain(&warnings).collect();
        assert_eq!(told.len(), usize::from(expected.is_some()), "{selector}: {told:?}");
        assert!(told.iter().all(|line| expected.is_some_and(|expected| line.contains(expected))), "{selector}: {told:?}");
        assert_eq!(warnings.is_empty(), expected.is_none_or(|expected| !expected.starts_with("not judged")), "{selector}");
    }
    let other = format!(
        "{GATEWAY}---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {{ name: open }}\nspec: {{ cors: {{}} }}\n"
    );
    let said = said(&other, &RULES.replace("unix:./run", "unix:/srv/run"));
    assert!(said.len() == 1 && said[0].contains("a SecurityPolicy without extAuth"), "{said:?}");
}
