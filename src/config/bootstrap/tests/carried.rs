//! Rules and pods of Tollgate's own within manifests, ways around an istio-proxy, and what other files' workloads have.

use super::deployments::MESH;
use super::deployments::SIDECAR;
use super::deployments::beside;
use super::deployments::central;
use super::deployments::gateway;
use super::deployments::istio;
use super::*;

const CENTRAL: &str = include_str!("../../../../k8s/base/tollgate.yaml");
const EMBEDDED: &str = include_str!("../../../../k8s/components/one-replica/tollgate.yaml");
const NOTE: &str = "traffic.sidecar.istio.io/excludeInboundPorts: \"9464\"";

/// A document before the settings of the mesh that holds a file as a text.
fn carrying(rules: &str) -> String {
    let indented: String = rules.lines().map(|line| format!("    {line}\n")).collect();
    beside(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: tollgate, namespace: tollgate }}\ndata:\n  tollgate.yaml: |\n{indented}"
    ))
}

#[test]
fn the_rules_that_manifests_bring_along_are_judged() {
    let file = central();
    fine(&file, CENTRAL, &[(MESH, &carrying(CENTRAL))]);
    plant(
        &file,
        CENTRAL,
        &[
            (MESH, &carrying(&CENTRAL.replace("default_tier", "defaut_tier")), "tollgate.yaml: "),
            (MESH, &carrying(&CENTRAL.replace(":9191", ":9292")), "listen.check is"),
        ],
    );
    doubt(&file, CENTRAL, &[(MESH, &carrying(&format!("{CENTRAL}# more\n")), "these rules are not those of --config")]);
    let (errors, warnings) = changed(&file, CENTRAL, MESH, &carrying(EMBEDDED), 1);
    assert_each(&errors, "the store is embedded", "embedded");
    assert_each(&warnings, "these rules are not those of --config", "embedded");
    // The line is that of the manifest.
    let (errors, _) = changed(&file, CENTRAL, MESH, &carrying(&CENTRAL.replace("default_tier", "defaut_tier")), 1);
    let changed = file.replacen(MESH, &carrying(&CENTRAL.replace("default_tier", "defaut_tier")), 1);
    let line = changed.lines().position(|line| line.contains("defaut_tier")).unwrap() + 1;
    assert!(errors.iter().any(|error| error.contains(&format!(":{line}:"))), "{line}: {errors:#?}");
}

#[test]
fn tollgate_alone_is_judged_for_what_it_is() {
    let alone = include_str!("../../../../k8s/base/deployment.yaml");
    let (errors, warnings) = found(alone, CENTRAL);
    assert_eq!(errors, Vec::<String>::new());
    assert_each(&warnings, "nobody in this file asks Tollgate, whose pods are here", "central");
    let (boot, rules, _) =
        compile_parts(&Arc::from("tollgate.yaml"), CENTRAL, Path::new(""), |file| Outside::without_files(file, Path::new(""))).unwrap();
    let judged = judge_text(&Arc::from("envoy.yaml"), alone, &boot, &rules).judged;
    assert!(judged.contains(&("needs", "the Secret tollgate-secrets".to_owned())), "{judged:?}");
    let scaled = "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: { name: a }\nspec: { scaleTargetRef: { name: tollgate }, maxReplicas: 3 }\n";
    let single = alone.replace("replicas: 2", "replicas: 1");
    for (file, is_good) in [(alone.to_owned(), false), (format!("{single}{scaled}"), false), (single, true)] {
        let (errors, _) = found(&file, EMBEDDED);
        assert_eq!(errors.is_empty(), is_good, "{errors:#?}");
        assert!(errors.iter().all(|line| line.contains("the store is embedded")), "{errors:#?}");
    }
}

#[test]
fn an_envoy_in_a_secret_is_read_as_it_is_kept() {
    let encoded = |bootstrap: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bootstrap);
    for (kind, field) in [("Secret", "data"), ("ConfigMap", "binaryData")] {
        let file = |bootstrap: &str| {
            format!("apiVersion: v1\nkind: {kind}\nmetadata: {{ name: envoy }}\n{field}: {{ envoy.yaml: {} }}\n", encoded(bootstrap))
        };
        assert_eq!(found(&file(BOOTSTRAP), RULES), (Vec::new(), Vec::new()));
        assert_each(&said(&file(&BOOTSTRAP.replace(CLOSED, "failure_mode_allow: true")), RULES), "failure_mode_allow is true", kind);
    }
}

#[test]
fn more_ways_around_an_istio_proxy() {
    let note = |key: &str, value: &str| format!("{NOTE}\n        {key}: '{value}'");
    let twin = "  extensionProviders:\n    - { name: tollgate, envoyExtAuthzGrpc: { service: check.tollgate.internal, port: 9191, timeout: 0.2s, statusOnError: '503' } }\n";
    plant(
        &istio(),
        SIDECAR,
        &[
            (NOTE, &note("traffic.sidecar.istio.io/excludeInterfaces", "eth0"), "goes past istio-proxy"),
            (NOTE, &note("proxy.istio.io/config", "{ interceptionMode: NONE }"), "interceptionMode is `NONE`"),
            ("  defaultConfig:\n", "  defaultConfig:\n    interceptionMode: NONE\n", "interceptionMode is `NONE`"),
            ("  extensionProviders:\n", twin, "more than one provider"),
            ("service: check.tollgate.internal", "service: check.tollgate.intern", "the ServiceEntry that leads to Tollgate has the host"),
        ],
    );
    doubt(
        &istio(),
        SIDECAR,
        &[
            (NOTE, &note("inject.istio.io/templates", "custom"), "what inject.istio.io/templates makes of istio-proxy"),
            (NOTE, &note("proxy.istio.io/config", "{ customConfigFile: /a }"), "of these pods alone: customConfigFile"),
            (NOTE, &note("sidecar.istio.io/proxyImage", "other"), "what sidecar.istio.io/proxyImage makes"),
            (
                MESH,
                &beside(
                    "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec: { values: { global: { proxy: { excludeInboundPorts: '8080' } } } }",
                ),
                "which ports of all pods are led past",
            ),
            (
                MESH,
                &beside(
                    "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: x, namespace: shop }\nspec: { jwtRules: [{ issuer: a }] }",
                ),
                "takes the token out",
            ),
            ("  endpoints:\n    - address: unix:///run/tollgate/check.sock\n", "", "since no address stands here"),
        ],
    );
    fine(
        &istio(),
        SIDECAR,
        &[(NOTE, &note("proxy.istio.io/config", "{ holdApplicationUntilProxyStarts: true }")), ("http2MaxRequests: 65536, ", "")],
    );
}

/// A port is Tollgate's own only where Tollgate is.
#[test]
fn the_number_of_a_door_elsewhere_excuses_no_port() {
    let issuing = SIDECAR.replace("listen:\n", "listen:\n  issuer: 0.0.0.0:8080\n")
        + "issuer: { url: 'https://id.example', trusted_hops: 1, resources: [{ uri: 'https://api.example' }] }\n";
    let (errors, _) = changed(&istio(), &issuing, NOTE, &NOTE.replace("9464", "9464, 8080"), 1);
    assert_each(&errors, "what comes in on port 8080 goes past", "the issuer's number");
}

#[test]
fn the_root_namespace_is_the_one_of_the_mesh() {
    let file = istio().replace("meshConfig:\n", "meshConfig:\n  rootNamespace: istio-config\n");
    let moved = |namespace: &str| {
        ["AuthorizationPolicy", "EnvoyFilter"].into_iter().fold(file.clone(), |file, kind| {
            file.replace(
                &format!("kind: {kind}\nmetadata:\n  namespace: shop"),
                &format!("kind: {kind}\nmetadata:\n  namespace: {namespace}"),
            )
        })
    };
    assert_eq!(found(&moved("istio-config"), SIDECAR), (Vec::new(), Vec::new()));
    assert_each(&said(&moved("istio-system"), SIDECAR), "the policy is for no pod of this file", "istio-system");
}

#[test]
fn filters_of_other_workloads_and_parts_of_settings_are_no_mistakes() {
    let filter = |namespace: &str, name: &str, context: &str, patch: &str| {
        beside(&format!(
            "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{ name: x, namespace: {namespace} }}\nspec: {{ workloadSelector: {{ labels: {{ {name} }} }}, configPatches: [{{ match: {{ context: {context} }}, {patch} }}] }}"
        ))
    };
    let part = "applyTo: NETWORK_FILTER, patch: { operation: MERGE, value: { typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, max_request_headers_kb: 96 } } }";
    let (shop, gateway) = ("app.kubernetes.io/name: shop", "istio: ingressgateway");
    let removal = "applyTo: HTTP_FILTER, patch: { operation: REMOVE }";
    fine(
        &istio(),
        SIDECAR,
        &[
            (MESH, &filter("shop", shop, "SIDECAR_INBOUND", part)),
            (MESH, &filter("other", shop, "SIDECAR_INBOUND", removal)),
            (MESH, &filter("shop", "app.kubernetes.io/name: another", "SIDECAR_INBOUND", removal)),
        ],
    );
    doubt(&istio(), SIDECAR, &[(MESH, &filter("istio-system", gateway, "GATEWAY", part), "for pods that are not in this file")]);
    plant(
        &istio(),
        SIDECAR,
        &[
            (
                MESH,
                &filter("shop", shop, "SIDECAR_INBOUND", &part.replace("max_request_headers_kb: 96", "normalize_path: false")),
                "normalize_path",
            ),
            (MESH, &filter("istio-system", shop, "SIDECAR_INBOUND", removal), "is removed"),
        ],
    );
}

#[test]
fn patches_of_a_gateway_and_endpoints_that_cannot_be_read() {
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass";
    let patch = |operation: &str| {
        format!(
            "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: EnvoyPatchPolicy\nmetadata: {{ name: x, namespace: shop }}\nspec: {{ jsonPatches: [{{ operation: {{ {operation} }} }}] }}\n---\n{class}"
        )
    };
    let manager = "/default_filter_chain/filters/0";
    let reaches = "this patch reaches into the filters";
    plant(
        &gateway(),
        SIDECAR,
        &[
            (class, &patch("op: replace, path: /failure_mode_allow, value: true"), reaches),
            (class, &patch(&format!("op: remove, path: {manager}/typedConfig/httpFilters/0")), reaches),
            (class, &patch(&format!("op: replace, path: {manager}, value: {{ name: a }}")), reaches),
            (
                class,
                &patch("op: add, path: /virtual_hosts/0/request_headers_to_add, value: [{ header: { key: X-User-Id, value: root } }]"),
                "this patch is about `X-User-Id`",
            ),
        ],
    );
    doubt(
        &gateway(),
        SIDECAR,
        &[(class, &patch("op: remove, jsonPath: \"..[?(@.name=='a'+'b')]\""), "not judged: what this patch makes of the Envoy")],
    );
    let endpoint = "unix: { path: /run/tollgate/check.sock }";
    let (errors, _) = changed(&gateway(), SIDECAR, endpoint, "hostname: { address: elsewhere.example, port: 9191 }", 1);
    assert_each(&errors, "leads to an address that cannot be read", "a wrong word");
}

/// Who guards one Gateway in another way does not thereby open the one that Tollgate guards.
#[test]
fn a_gateway_of_its_own_may_be_guarded_otherwise() {
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass";
    let inside = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{ name: inside, namespace: shop }}\nspec: {{ gatewayClassName: tollgate }}\n---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {{ name: x, namespace: shop }}\nspec: {{ targetRefs: [{{ kind: Gateway, name: inside }}], basicAuth: {{ users: {{ name: u }} }} }}\n---\n{class}"
    );
    doubt(&gateway(), SIDECAR, &[(class, &inside, "nobody asks Tollgate there")]);
    let taken = inside.replace("kind: Gateway, name: inside", "kind: Gateway, name: public");
    let (errors, _) = changed(&gateway(), SIDECAR, class, &taken, 1);
    assert!(errors.iter().any(|line| line.contains("takes the place of the one that asks Tollgate")), "{errors:#?}");
}
