//! The manifests of `k8s/` as they are shipped, with what would lead clients around Tollgate planted in them.

use super::*;

/// A file of `k8s/` in a namespace, as an overlay puts it there.
macro_rules! shipped {
    ($file:literal, $namespace:literal) => {
        include_str!(concat!("../../../../k8s/", $file))
            .replace("metadata:\n  name: ", concat!("metadata:\n  namespace: ", $namespace, "\n  name: "))
    };
}

const MESH: &str = include_str!("../../../../k8s/components/istio/mesh-config.yaml");
const SIDECAR: &str = include_str!("../../../../k8s/components/native-sidecar/tollgate.yaml");
const NOWHERE: &str = "metadata:\n  namespace: elsewhere\n  name: tollgate\n";

fn istio() -> String {
    [
        include_str!("../../../../k8s/overlays/istio/shop/namespace.yaml").to_owned(),
        include_str!("../../../../k8s/overlays/istio/check.yaml").to_owned(),
        shipped!("overlays/istio/shop/shop.yaml", "shop"),
        shipped!("components/istio/authorization.yaml", "shop"),
        shipped!("components/istio/envoy-filter.yaml", "shop"),
        MESH.to_owned(),
    ]
    .join("\n---\n")
}

fn gateway() -> String {
    [
        include_str!("../../../../k8s/overlays/envoy-gateway/gateway-class.yaml").to_owned(),
        include_str!("../../../../k8s/overlays/envoy-gateway/proxies/envoy-proxy.yaml").to_owned(),
        shipped!("overlays/envoy-gateway/shop/policies.yaml", "shop"),
        shipped!("overlays/envoy-gateway/shop/gateway.yaml", "shop"),
    ]
    .join("\n---\n")
}

/// Another document before the settings of the mesh.
fn beside(document: &str) -> String {
    format!("---\n{document}\n---\n{MESH}")
}

fn envoy_filter(part: &str, beside_filter: &str, patch: &str) -> String {
    let filter = if part == "NETWORK_FILTER" {
        format!("{{ name: {beside_filter} }}")
    } else {
        format!("{{ name: envoy.filters.network.http_connection_manager, subFilter: {{ name: {beside_filter} }} }}")
    };
    beside(&format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{ name: x, namespace: shop }}\nspec: {{ configPatches: [{{ applyTo: {part}, match: {{ listener: {{ filterChain: {{ filter: {filter} }} }} }}, patch: {{ {patch} }} }}] }}"
    ))
}

#[test]
fn a_mesh_that_goes_around_tollgate_is_found() {
    let gate = "envoy.filters.http.ext_authz";
    let rbac = "envoy.filters.http.rbac";
    let of_http = |kind: &str| format!("typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.{kind} }}");
    let buffer = format!("operation: REPLACE, value: {{ name: other, {} }}", of_http("buffer.v3.Buffer"));
    let raw = "operation: REPLACE, value: { name: raw, typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: a } }";
    let per_route = format!(
        "operation: MERGE, value: {{ typed_per_filter_config: {{ {rbac}: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute }} }} }}"
    );
    let public = format!(
        "operation: MERGE, value: {{ typed_per_filter_config: {{ {gate}: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, check_settings: {{ context_extensions: {{ route: ping }} }} }} }} }}"
    );
    let user = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: x, namespace: shop }\nspec: { jwtRules: [{ issuer: a, outputClaimToHeaders: [{ header: x-user-id, claim: sub }] }] }";
    let exclude = "traffic.sidecar.istio.io/excludeInboundPorts: \"9464\"";
    let manager = "envoy.filters.network.http_connection_manager";
    let selector = "kind: AuthorizationPolicy\nmetadata:\n  namespace: shop\n  name: tollgate\nspec:\n  selector:\n    matchLabels: { app.kubernetes.io/name: ";
    let bare = "no EnvoyFilter in this file that is for the same pods";
    plant(
        &istio(),
        SIDECAR,
        &[
            (
                MESH,
                &envoy_filter("HTTP_FILTER", gate, &format!("operation: MERGE, value: {{ name: {gate}, disabled: true }}")),
                "the ext_authz filter is removed or becomes something else",
            ),
            (MESH, &envoy_filter("HTTP_FILTER", gate, &buffer), "the ext_authz filter is removed or becomes something else"),
            (
                MESH,
                &envoy_filter("HTTP_FILTER", rbac, "operation: REMOVE"),
                "the rbac filter, which sends requests to ext_authz, is removed",
            ),
            (MESH, &envoy_filter("HTTP_FILTER", "\"\"", "operation: REMOVE"), "each HTTP filter is removed"),
            (MESH, &envoy_filter("NETWORK_FILTER", manager, raw), "the HTTP connection manager is removed"),
            (MESH, &envoy_filter("NETWORK_FILTER", manager, &raw.replace("REPLACE", "INSERT_BEFORE")), "leads clients past"),
            (MESH, &envoy_filter("VIRTUAL_HOST", "\"\"", &per_route), "the rbac filter, which sends requests to ext_authz, is changed"),
            (MESH, &envoy_filter("HTTP_ROUTE", "\"\"", &public), "judged as the route `ping`, which needs no credential"),
            (MESH, &beside(user), "this writes `x-user-id`"),
            (exclude, "traffic.sidecar.istio.io/excludeInboundPorts: \"9464, 8080\"", "what comes in on port 8080 goes past"),
            (exclude, "traffic.sidecar.istio.io/includeInboundPorts: \"9464\"", "what comes in on other ports goes past"),
            (exclude, "sidecar.istio.io/inject: \"false\"", "the pods get no istio-proxy"),
            ("istio-injection: enabled", "istio-injection: disabled", "is not in the mesh"),
            (
                "      automountServiceAccountToken",
                "      hostNetwork: true\n      automountServiceAccountToken",
                "pods on the host's network",
            ),
            ("tls: { mode: DISABLE }", "tls: { mode: ISTIO_MUTUAL, insecureSkipVerify: true }", "whoever answers is believed"),
            (selector, &selector.replace("namespace: shop", "namespace: elsewhere"), "this file"),
            (&format!("{selector}shop"), &format!("{selector}shoop"), "this file"),
            ("kind: EnvoyFilter\nmetadata:\n  namespace: shop\n  name: tollgate\n", &format!("kind: EnvoyFilter\n{NOWHERE}"), bare),
            ("context: SIDECAR_INBOUND", "context: SIDECAR_OUTBOUND", bare),
            ("context: SIDECAR_INBOUND", "context: GATEWAY", bare),
            (
                "context: SIDECAR_INBOUND\n        listener:\n",
                "context: SIDECAR_INBOUND\n        listener:\n          portNumber: 9000\n",
                bare,
            ),
            ("context: SIDECAR_INBOUND", "context: SIDECAR_INBOUND\n        proxy: { proxyVersion: '^1\\.20.*' }", bare),
            (
                "labels: { app.kubernetes.io/name: shop }\n  configPatches",
                "labels: { app.kubernetes.io/name: shoop }\n  configPatches",
                bare,
            ),
            (
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy",
                "apiVersion: security.istio.com/v1\nkind: AuthorizationPolicy",
                "nobody is asked",
            ),
        ],
    );
    let kind = |version: &str, kind: &str, spec: &str| {
        beside(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: x, namespace: shop }}\nspec: {spec}"))
    };
    doubt(
        &istio(),
        SIDECAR,
        &[
            (MESH, &kind("extensions.istio.io/v1alpha1", "WasmPlugin", "{ url: 'oci://x/y' }"), "not judged: code"),
            (MESH, &kind("networking.istio.io/v1", "Sidecar", "{ ingress: [{ port: { number: 8080 } }] }"), "not judged: doors"),
            (
                MESH,
                &kind("apps/v1", "Deployment", "{ template: { spec: { containers: [{ name: a }] } } }"),
                "no AuthorizationPolicy with the action CUSTOM is for these",
            ),
            (
                MESH,
                &envoy_filter("LISTENER", "\"\"", "operation: MERGE, value: { traffic_direction: INBOUND }"),
                "not judged: a patch of this kind",
            ),
            (MESH, &format!("a: 1\n---\n{MESH}"), "neither a manifest nor a bootstrap"),
            (MESH, "", "not judged: what happens when Tollgate does not answer"),
            (exclude, "traffic.sidecar.istio.io/excludeInboundPorts: \"9464,9000\"", "what comes in on port 9000 goes past"),
        ],
    );
}

/// Before ext_authz nobody may answer or put in a credential, behind it nobody may forge; and where it stands says the filter beside it.
#[test]
fn a_filter_of_a_patch_is_judged_where_it_comes_to_stand() {
    let patch = |operation: &str, about: &str, filter: &str| {
        envoy_filter("HTTP_FILTER", about, &format!("operation: {operation}, value: {filter}"))
    };
    let (gate, rbac) = ("envoy.filters.http.ext_authz", "envoy.filters.http.rbac");
    let (cors, router) = ("envoy.filters.http.cors", "envoy.filters.http.router");
    let change = |name: &str| {
        let header = format!("{{ append: {{ header: {{ key: {name}, value: a }} }} }}");
        of_http("late", "header_mutation.v3.HeaderMutation", &format!("mutations: {{ request_mutations: [{header}] }}"))
    };
    let (forging, coloring) = (change("x-user-id"), change("x-color"));
    let answering = of_http("early", "router.v3.Router", "start_child_span: false");
    let forged = "late writes x-user-id";
    let answers = "early stands before ext_authz and answers";
    let put_in = "`x-api-key` is put in before Tollgate is asked";
    plant(
        &istio(),
        SIDECAR,
        &[
            (MESH, &patch("INSERT_BEFORE", router, &forging), forged),
            (MESH, &patch("INSERT_AFTER", cors, &forging), forged),
            (MESH, &patch("INSERT_AFTER", gate, &forging), forged),
            (MESH, &patch("INSERT_AFTER", "ours", &forging), forged),
            (MESH, &patch("REPLACE", cors, &forging), forged),
            (MESH, &patch("INSERT_FIRST", router, &answering), answers),
            (MESH, &patch("INSERT_BEFORE", gate, &answering), answers),
            (MESH, &patch("INSERT_AFTER", rbac, &answering), answers),
            (MESH, &patch("INSERT_AFTER", rbac, &change("x-api-key")), put_in),
            (MESH, &patch("INSERT_BEFORE", "\"\"", &change("x-api-key")), put_in),
        ],
    );
    let (before, unknown) =
        ("what late does to a request before Tollgate is asked", "on which side of ext_authz late stands, beside `ours`");
    doubt(
        &istio(),
        SIDECAR,
        &[
            (MESH, &patch("INSERT_FIRST", "\"\"", &coloring), before),
            (MESH, &patch("INSERT_AFTER", rbac, &coloring), before),
            (MESH, &patch("INSERT_BEFORE", "ours", &coloring), unknown),
            (MESH, &patch("INSERT_AFTER", "ours", &coloring), unknown),
            (MESH, &patch("REPLACE", "ours", &coloring), unknown),
        ],
    );
    let behind = [("INSERT_BEFORE", router), ("INSERT_AFTER", gate), ("INSERT_AFTER", "\"\""), ("REPLACE", cors)];
    for (operation, about) in behind {
        fine(&istio(), SIDECAR, &[(MESH, &patch(operation, about, &coloring))]);
    }
}

fn central() -> String {
    [
        include_str!("../../../../k8s/overlays/central/namespace.yaml").to_owned(),
        include_str!("../../../../k8s/overlays/istio-central/check.yaml").to_owned(),
        shipped!("base/deployment.yaml", "tollgate"),
        shipped!("components/istio/authorization.yaml", "shop"),
        shipped!("components/istio/envoy-filter.yaml", "shop"),
        MESH.to_owned(),
    ]
    .join("\n---\n")
}

/// Whether the pods of a policy are elsewhere cannot be told, and pods with more than Tollgate's doors are not Tollgate's alone.
#[test]
fn pods_of_another_file_are_asked_for_and_no_others_pass_for_tollgate() {
    const CENTRAL: &str = include_str!("../../../../k8s/base/tollgate.yaml");
    let door = "            - { name: check, containerPort: 9191 }\n";
    let containers = "      containers:\n        - name: tollgate\n";
    let helper =
        |policy: &str| format!("      initContainers: [{{ name: helper, {policy}ports: [{{ containerPort: 8080 }}] }}]\n{containers}");
    let other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: redis, namespace: tollgate }\nspec: { template: { spec: { containers: [{ name: redis }] } } }";
    let file = central();
    fine(&file, CENTRAL, &[("", ""), (containers, &helper(""))]);
    for (from, to) in [
        (door, format!("{door}            - {{ name: http, containerPort: 8080 }}\n")),
        (containers, helper("restartPolicy: Always, ")),
        (MESH, beside(other)),
    ] {
        assert!(file.contains(from), "{from}");
        let (errors, warnings) = found(&file.replacen(from, &to, 1), CENTRAL);
        assert_eq!(errors, Vec::<String>::new(), "{to}");
        for expected in ["for these pods: nobody is asked there", "judge it in one file with the Deployments of `shop`"] {
            assert_eq!(warnings.iter().filter(|line| line.contains(expected)).count(), 1, "{to}: {warnings:#?}");
        }
        assert_eq!(warnings.len(), 2, "{to}: {warnings:#?}");
    }
}

#[test]
fn a_port_beside_the_envoy_of_a_pod_is_a_way_around_it() {
    let bootstrap = include_str!("../../../../k8s/overlays/sidecar/envoy.yaml");
    let indented: String = bootstrap.lines().map(|line| format!("    {line}\n")).collect();
    let file = [
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: shop\n  name: shop-envoy\ndata:\n  envoy.yaml: |\n{indented}"),
        shipped!("overlays/sidecar/shop.yaml", "shop"),
    ]
    .join("\n---\n");
    let (door, service) = ("            - { name: http, containerPort: 8080 }\n", "        - name: shop\n");
    let with = |port: u16| format!("{service}          ports: [{{ containerPort: {port} }}]\n");
    doubt(
        &file,
        SIDECAR,
        &[
            (service, &with(8081), "port 8081 is none of the listeners"),
            (door, &format!("{door}            - {{ containerPort: 9901 }}\n"), "port 9901 is none of the listeners"),
        ],
    );
    fine(&file, SIDECAR, &[("", ""), (service, &with(9464)), ("configMap: { name: shop-envoy }", "configMap: { name: another }")]);
}

#[test]
fn a_gateway_that_goes_around_tollgate_is_found() {
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass";
    let other = |version: &str, kind: &str, rest: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: x, namespace: shop }}\nspec: {rest}\n---\n{class}")
    };
    let route = |kind: &str| other("gateway.networking.k8s.io/v1", kind, "{ parentRefs: [{ name: public }] }");
    let away = other("gateway.networking.k8s.io/v1", "HTTPRoute", "{ parentRefs: [{ name: public }] }")
        .replace("namespace: shop", "namespace: away");
    let policy = |kind: &str, spec: &str| other("gateway.envoyproxy.io/v1alpha1", kind, spec);
    let extension = |code: &str| policy("EnvoyExtensionPolicy", &format!("{{ lua: [{{ type: Inline, inline: '{code}' }}] }}"));
    let spec = "spec:\n  # The whole Gateway";
    let traffic = "kind: ClientTrafficPolicy\nmetadata:\n  namespace: shop\n  name: tollgate\nspec:\n  targetRefs:\n    - { group: gateway.networking.k8s.io, kind: Gateway, name: public }\n";
    let early = "    earlyRequestHeaders:\n";
    let ask = "    recomputeRoute: false\n";
    let says = |route: &str| format!("{ask}    contextExtensions: [{{ name: route, type: Value, value: {route} }}]\n");
    let file = gateway();
    assert!(file.contains(spec));
    plant(
        &file,
        SIDECAR,
        &[
            (class, &route("TCPRoute"), "a TCPRoute leads connections on"),
            (class, &route("TLSRoute"), "a TLSRoute leads connections on"),
            (class, &route("UDPRoute"), "a UDPRoute leads connections on"),
            (class, &away, "no SecurityPolicy with extAuth has this HTTPRoute"),
            (
                class,
                &other("gateway.networking.k8s.io/v1", "Gateway", "{ gatewayClassName: tollgate }")
                    .replace("{ name: x, namespace: shop }", "{ name: public, namespace: away }"),
                "no SecurityPolicy with extAuth has this Gateway",
            ),
            (
                "kind: SecurityPolicy\nmetadata:\n  namespace: shop\n  name: tollgate\n",
                &format!("kind: SecurityPolicy\n{}", NOWHERE),
                "no ",
            ),
            (
                traffic,
                &traffic.replace("namespace: shop", "namespace: away"),
                "no ClientTrafficPolicy in this file that is for the Gateway",
            ),
            (traffic, &traffic.replace("name: public", "name: other"), "no ClientTrafficPolicy in this file that is for the Gateway"),
            (ask, &says("ping"), "judged as the route `ping`, which needs no credential"),
            (ask, &says("nowhere"), "there is no route `nowhere`"),
            (early, &format!("{early}      set: [{{ name: x-user-id, value: root }}]\n"), "before Tollgate is asked"),
            (early, &format!("{early}      add: [{{ name: X-Api-Key, value: a }}]\n"), "before Tollgate is asked"),
            ("  connection:\n", "  proxyProtocol: { optional: true }\n  connection:\n", "an address of its choice"),
            (
                spec,
                &format!("spec:\n  jwt: {{ providers: [{{ claimToHeaders: [{{ claim: sub, header: x-user-id }}] }}] }}\n{}", &spec[6..]),
                "this writes `x-user-id`",
            ),
            (
                class,
                &policy("BackendTrafficPolicy", "{ responseOverride: [{ response: { statusCode: 200 } }] }"),
                "a refusal of Tollgate's could become",
            ),
        ],
    );
    doubt(
        &file,
        SIDECAR,
        &[
            (class, &policy("EnvoyExtensionPolicy", "{ extProc: [{ backendRefs: [{ name: a }] }] }"), "not judged: code"),
            (class, &policy("EnvoyProxy", "{ bootstrap: { type: Merge, value: 'admin: {}' } }"), "not judged: a bootstrap"),
            (class, &policy("EnvoyProxy", "{ filterOrder: [{ name: a, after: b }] }"), "not judged: an order"),
            (
                "  connection:\n",
                "  clientIPDetection: { customHeader: { name: x-real-ip } }\n  connection:\n",
                "a client's address is what `x-real-ip` says",
            ),
            (ask, &format!("{ask}    contextExtensions: [{{ name: route, type: ValueRef, valueRef: {{}} }}]\n"), "not judged: the route"),
            (
                "kind: Backend, name: tollgate }\n      backendSettings",
                "kind: Service, name: tollgate }\n      backendSettings",
                "whether the Service `tollgate`",
            ),
        ],
    );
    for (document, expected) in [
        (policy("EnvoyProxy", "{ filterOrder: [{ name: envoy.filters.http.ext_authz, after: b }] }"), "filterOrder moves ext_authz"),
        (extension("h:headers():replace(\"x-user-id\", \"a\")"), "the code of this policy"),
        (extension("h:clearRouteCache()"), "its code clears the route cache"),
    ] {
        let (errors, _) = found(&file.replace(class, &document), SIDECAR);
        assert!(errors.len() == 1 && errors[0].contains(expected), "{errors:#?}");
    }
}

/// An Envoy's own file is read wherever it stands, and a file in which nobody asks is no good one.
#[test]
fn nothing_is_good_because_nothing_was_looked_at() {
    let open = BOOTSTRAP.replace("failure_mode_allow: false", "failure_mode_allow: true");
    let inside = |kind: &str, field: &str, text: &str| {
        let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
        format!("apiVersion: v1\nkind: {kind}\nmetadata: {{ name: envoy }}\n{field}:\n  envoy.yaml: |\n{indented}")
    };
    for (kind, field) in [("ConfigMap", "data"), ("Secret", "stringData")] {
        plant(
            &inside(kind, field, BOOTSTRAP),
            RULES,
            &[("failure_mode_allow: false", "failure_mode_allow: true", "failure_mode_allow is true")],
        );
    }
    let listed = |document: &str| {
        let indented: String = document.lines().map(|line| format!("    {line}\n")).collect();
        format!("apiVersion: v1\nkind: List\nitems:\n  -\n{indented}")
    };
    let (errors, _) = found(&listed(&inside("ConfigMap", "data", &open)), RULES);
    assert!(errors.len() == 1 && errors[0].contains("failure_mode_allow is true"), "{errors:#?}");
    let policy = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nspec: { extAuth: { failOpen: true, grpc: {} } }";
    assert!(said(&listed(policy), RULES).iter().any(|line| line.contains("failOpen is true")));
    for nothing in [
        "apiVersion: v1\nkind: Service\nmetadata: { name: a }",
        "apiVersion: v1\nkind: List\nitems: []",
        "apiVersion: v1\nkind: ConfigMap\ndata: { a: b }",
    ] {
        let errors = said(nothing, RULES);
        assert!(errors.len() == 1 && errors[0].contains("there is no bootstrap: nobody is asked"), "{nothing}: {errors:#?}");
    }
}
