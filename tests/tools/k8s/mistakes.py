"""Mistakes planted into rendered manifests. Each must be complained about in the words that it names; what is overlooked is the result."""

import copy

import documents
from documents import at


def overlooked(given, rendered):
    import policies
    from programs import Programs
    from schemas import Schemas

    judges = {
        "schema": Schemas(given.node, given.tools, given.crds).complaints,
        "types": Schemas(given.node, given.tools, None).complaints,
        "policy": policies.complaints,
        "program": Programs(given.tollgate, given.envoy, given.scratch).complaints,
    }
    by_name = {overlay.name: overlay for overlay in rendered}
    missed = []
    for judge, name, plant, words in ONE:
        if judge == "schema" and given.crds is None:
            continue
        overlay = copy.deepcopy(by_name[name])
        plant(overlay)
        if overlay == by_name[name]:
            missed.append(f"{name}: nothing was planted for: {words}")
            continue
        said = judges[judge](overlay)
        if not any(words in one for one in said):
            missed.append(f"{name}: no complaint says `{words}`; these were: {said}")
    for name, plant, words in ALL:
        overlays = copy.deepcopy(rendered)
        plant(next(overlay for overlay in overlays if overlay.name == name))
        said = list(policies.across(overlays))
        if not any(words in one for one in said):
            missed.append(f"{name}: no complaint says `{words}`; these were: {said}")
    return missed


def put(kind, path, value, name=None):
    """Sets a field of the first document of a kind; an index in the path is a number, and None removes."""

    def plant(overlay):
        tree = next(one for one in overlay.documents if one["kind"] == kind and name in (None, one["metadata"]["name"]))
        steps = [int(step) if step.isdigit() else step for step in path.split("/")]
        for step in steps[:-1]:
            tree = tree[step] if isinstance(step, int) else tree.setdefault(step, {})
        if value is None:
            del tree[steps[-1]]
        else:
            tree[steps[-1]] = value

    return plant


def remove(kind, name=None):
    def plant(overlay):
        overlay.documents = [one for one in overlay.documents if not (one["kind"] == kind and name in (None, one["metadata"]["name"]))]

    return plant


def add(document):
    return lambda overlay: overlay.documents.append(document)


def config(there, here):
    """Changes a text of tollgate.yaml."""

    def plant(overlay):
        for document, text in documents.configs(overlay):
            assert there in text, there
            document["data"]["tollgate.yaml"] = text.replace(there, here)

    return plant


def bootstrap(there, here):
    def plant(overlay):
        for document in overlay.of_kind("ConfigMap"):
            if "envoy.yaml" in document["data"]:
                assert there in document["data"]["envoy.yaml"], there
                document["data"]["envoy.yaml"] = document["data"]["envoy.yaml"].replace(there, here)

    return plant


def container(path, value):
    return put("Deployment", f"spec/template/spec/containers/0/{path}", value)


def sidecar(path, value):
    return put("Deployment", f"spec/template/spec/initContainers/0/{path}", value)


def annotation(name, value):
    """Its name has a slash."""

    def plant(overlay):
        for document in overlay.of_kind("Deployment"):
            at(document, "spec.template.metadata.annotations")[name] = value

    return plant


def volume(name, value):
    def plant(overlay):
        for document in overlay.of_kind("Deployment"):
            volumes = at(document, "spec.template.spec.volumes")
            volumes[:] = [one if one["name"] != name else {"name": name} | value for one in volumes]

    return plant


def patch_value(index, path, value):
    return put("EnvoyFilter", f"spec/configPatches/{index}/patch/value/typed_config/{path}", value)


AUTOSCALER = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "tollgate", "namespace": "tollgate"},
    "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "tollgate"}, "maxReplicas": 3},
}
UNKNOWN = {"apiVersion": "shop.example/v1", "kind": "Gate", "metadata": {"name": "shop"}}
MISSPELT = {"apiVersion": "apps/v1", "kind": "Deploiment", "metadata": {"name": "shop"}}
FORGOTTEN = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntri", "metadata": {"name": "shop"}}

# Which judge, in which overlay, what is planted, and words of the complaint.
ONE = [
    # What the API server would refuse, or take without a word and not do.
    ("types", "central", container("livenesProbe", {}), "livenesProbe"),
    ("types", "central", container("ports/0/containerPort", "9191"), "containerPort"),
    ("types", "central", put("HorizontalPodAutoscaler", "spec/maxReplicas", None), "maxReplicas"),
    ("types", "sidecar", sidecar("restartPolicies", "Always"), "restartPolicies"),
    ("types", "central", add(UNKNOWN), "nobody publishes a type"),
    ("types", "central", add(MISSPELT), "Deploiment"),
    ("types", "istio", add(FORGOTTEN), "knows no"),
    ("types", "istio", put("ServiceEntry", "spec/resolution", "SOCKET"), "resolution"),
    ("types", "istio", put("AuthorizationPolicy", "spec/action", "ASK"), "action"),
    ("types", "central", put("PodMonitor", "spec/selector", None), "selector"),
    ("types", "envoy-gateway", put("SecurityPolicy", "spec/extAuth/failOpen", "no"), "failOpen"),
    ("types", "envoy-gateway", put("Gateway", "spec/listeners/0/port", 70000), "port"),
    ("schema", "envoy-gateway", put("SecurityPolicy", "spec/extAuth/failureModeAllow", False), "failureModeAllow"),
    ("schema", "envoy-gateway", put("EnvoyProxy", "spec/provider/kubernetes/envoyDeployment/sidecars", []), "sidecars"),
    ("schema", "envoy-gateway", put("ClientTrafficPolicy", "spec/path/escapedSlashesAction", "Reject"), "Reject"),
    ("schema", "envoy-gateway", put("HTTPRoute", "spec/rules/0/backendRef", []), "backendRef"),
    ("schema", "istio", put("DestinationRule", "spec/trafficPolicy/tls/mode", "OFF"), "mode"),
    ("schema", "istio", put("EnvoyFilter", "spec/configPatches/0/patch/operation", "MERG"), "MERG"),
    ("schema", "central", put("PodMonitor", "spec/podMetricsEndpoints/0/sampleLimit", 5), "sampleLimit"),
    ("schema", "istio", add(FORGOTTEN), "no CRD"),
    # How careful the pods are.
    ("policy", "central", put("Deployment", "spec/template/spec/securityContext/runAsNonRoot", None), "may run as root"),
    ("policy", "central", put("Deployment", "spec/template/spec/securityContext/runAsUser", 0), "no numeric user"),
    ("policy", "central", put("Deployment", "spec/template/spec/securityContext/runAsUser", 1000), "not run as 65532"),
    ("policy", "central", container("securityContext/readOnlyRootFilesystem", False), "root file system"),
    ("policy", "central", container("securityContext/allowPrivilegeEscalation", None), "gain privileges"),
    ("policy", "central", container("securityContext/privileged", True), "is privileged"),
    ("policy", "sidecar", sidecar("securityContext/capabilities", {"drop": ["NET_RAW"]}), "keeps capabilities"),
    ("policy", "sidecar", container("securityContext/capabilities/add", ["NET_ADMIN"]), "keeps capabilities"),
    ("policy", "central", put("Deployment", "spec/template/spec/securityContext/seccompProfile", None), "seccomp"),
    ("policy", "central", put("Deployment", "spec/template/spec/automountServiceAccountToken", None), "service account's token"),
    ("policy", "central", put("Deployment", "spec/template/spec/hostNetwork", True), "hostNetwork"),
    ("policy", "central", volume("data", {"hostPath": {"path": "/var/lib/tollgate"}}), "restricted level forbids"),
    ("policy", "central", container("resources/limits/cpu", "1"), "limit of CPU"),
    ("policy", "central", container("resources/limits/memory", None), "limits.memory"),
    ("policy", "central", container("volumeMounts/0/subPath", "tollgate.yaml"), "by subPath"),
    ("policy", "central", put("Namespace", "metadata/labels", {}), "restricted pod security level"),
    # Disks and replicas.
    ("policy", "central", volume("data", {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}), "lies in memory"),
    ("policy", "sidecar", volume("tollgate-data", {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}), "lies in memory"),
    ("policy", "central", volume("data", {"emptyDir": {}}), "no sizeLimit"),
    ("policy", "central", container("volumeMounts/2/mountPath", "/data"), "no volume that can be written to"),
    ("policy", "one-replica", put("Deployment", "spec/replicas", 2), "other than one replica"),
    ("policy", "one-replica", put("Deployment", "spec/strategy", {"type": "RollingUpdate"}), "without the strategy Recreate"),
    ("policy", "one-replica", add(AUTOSCALER), "with an autoscaler"),
    ("policy", "one-replica", volume("data", {"emptyDir": {"sizeLimit": "1Gi"}}), "goes with the pod"),
    ("policy", "central", put("Deployment", "spec/replicas", 2), "beside an autoscaler"),
    # What is said twice.
    ("policy", "central", config("0.0.0.0:9191", "0.0.0.0:9192"), "ports [9191, 9464] of the container"),
    ("policy", "central", config("0.0.0.0:9464", "0.0.0.0:9465"), "in tollgate.yaml"),
    ("policy", "issuer", config("0.0.0.0:8080", "0.0.0.0:8001"), "port http-issuer is not a listener"),
    ("policy", "central", container("startupProbe/httpGet/path", "/healthy"), "startupProbe does not ask"),
    ("policy", "central", container("livenessProbe/httpGet/path", "/readyz"), "livenessProbe does not ask /healthz"),
    ("policy", "central", container("livenessProbe/httpGet/port", "check"), "livenessProbe does not ask"),
    ("policy", "sidecar", sidecar("startupProbe", None), "nobody waits for"),
    ("policy", "sidecar", sidecar("restartPolicy", None), "is no sidecar"),
    ("policy", "central", container("readinessProbe", None), "no readinessProbe"),
    ("policy", "central", container("args", ["serve", "--config", "/tmp/tollgate.yaml"]), "arguments"),
    ("policy", "central", container("env/0/value", "/etc/tollgate.yaml"), "TOLLGATE_CONFIG"),
    ("policy", "central", put("Service", "spec/ports/0/port", 9001), "not a listener"),
    ("policy", "central", put("Service", "spec/clusterIP", None), "not headless"),
    ("policy", "central", put("NetworkPolicy", "spec/ingress/0/ports/0/port", 9001), "NetworkPolicies open"),
    ("policy", "central", put("NetworkPolicy", "spec/ingress/0/ports", None), "opens every port"),
    ("policy", "central", put("NetworkPolicy", "spec/ingress/1/from", None), "to everybody"),
    ("policy", "central", put("NetworkPolicy", "spec/egress/1/ports/0/port", 6380), "6380"),
    ("policy", "issuer", remove("NetworkPolicy", "tollgate-issuer"), "NetworkPolicies open"),
    ("policy", "central", put("PodMonitor", "spec/podMetricsEndpoints/0/path", "/metric"), "monitored"),
    ("policy", "central", put("PodMonitor", "spec/podMetricsEndpoints/0/interval", "60s"), "monitored"),
    ("policy", "central", put("PodMonitor", "spec/podMetricsEndpoints/0/port", "check"), "is not listen.ops"),
    ("policy", "central", put("PodMonitor", "spec/sampleLimit", None, "tollgate-usage"), "no sampleLimit"),
    ("policy", "central", put("PodMonitor", "spec/podMetricsEndpoints/0/authorization/credentials/key", "token"), "the token"),
    ("policy", "sidecar", put("Deployment", "spec/template/metadata/labels/tollgate", None), "no label"),
    # Envoy's own metrics.
    ("policy", "sidecar", remove("PodMonitor", "tollgate-envoy"), "0 PodMonitors scrape the Envoys"),
    ("policy", "istio-central", remove("PodMonitor", "tollgate-envoy"), "0 PodMonitors scrape the Envoys"),
    ("policy", "sidecar", put("PodMonitor", "spec/selector/matchLabels", {"app": "shop"}, "tollgate-envoy"), "selects no pod"),
    ("policy", "istio", put("PodMonitor", "spec/podMetricsEndpoints/0/portNumber", 15020, "tollgate-envoy"), "does not ask"),
    ("policy", "envoy-gateway", put("PodMonitor", "spec/podMetricsEndpoints/0/params", None, "tollgate-envoy"), "does not ask for what"),
    ("policy", "sidecar", bootstrap("path: /stats/prometheus", "path: /stats"), "is answered on []"),
    ("policy", "sidecar", bootstrap("port_value: 9902", "port_value: 9903"), "is answered on [9903]"),
    ("program", "sidecar", bootstrap("path: /stats/prometheus", "prefix: /"), "admin interface"),
    # Who may reach what.
    ("policy", "istio", remove("NetworkPolicy"), "no NetworkPolicy says"),
    ("policy", "envoy-gateway", remove("NetworkPolicy", "tollgate-proxies"), "no NetworkPolicy says"),
    ("policy", "sidecar", put("NetworkPolicy", "spec/ingress/1/from", None), "opens [9464, 9902] to everybody"),
    ("policy", "envoy-gateway", put("NetworkPolicy", "spec/ingress/1/from", None, "tollgate-proxies"), "to everybody"),
    ("policy", "central", config("/run/secrets/tollgate/pepper", "/etc/tollgate/pepper"), "no volume of a Secret"),
    ("policy", "central", volume("secrets", {"secret": {"secretName": "tollgate-secrets"}}), "read by every user"),
    ("policy", "central", put("Deployment", "spec/template/spec/terminationGracePeriodSeconds", 20), "leaves less than"),
    ("policy", "sidecar", config("drain_delay: 1s", "drain_delay: 20s"), "leaves less than"),
    ("policy", "sidecar", container("volumeMounts", []), "no Envoy of the pod can reach"),
    ("policy", "sidecar", config("unix:/run/tollgate/check.sock", "unix:/run/gate/check.sock"), "cannot make its socket"),
    ("policy", "istio", annotation("sidecar.istio.io/userVolumeMount", "[]"), "no Envoy of the pod can reach"),
    ("policy", "istio", put("ServiceEntry", "spec/endpoints/0/address", "unix:///run/gate.sock"), "is not listen.check"),
    ("policy", "istio", put("ServiceEntry", "spec/ports/0/protocol", "HTTP"), "not GRPC"),
    ("policy", "istio", put("ServiceEntry", "spec/hosts", ["tollgate.internal"]), "not that of the ServiceEntry"),
    ("policy", "istio", put("AuthorizationPolicy", "spec/provider/name", "gate"), "no such provider"),
    ("policy", "istio", remove("AuthorizationPolicy"), "has anything judged"),
    ("policy", "istio", remove("DestinationRule"), "no DestinationRule"),
    ("policy", "istio-central", put("ServiceEntry", "spec/endpoints/0/address", "gate.tollgate.svc.cluster.local"), "no Service"),
    ("policy", "istio-central", put("ServiceEntry", "spec/ports/0/number", 9001), "not the port of listen.check"),
    ("policy", "envoy-gateway", put("Backend", "spec/endpoints/0/unix/path", "/run/gate.sock"), "socket is not listen.check"),
    ("policy", "envoy-gateway", put("SecurityPolicy", "spec/extAuth/failOpen", True), "everybody enters"),
    ("policy", "envoy-gateway", put("SecurityPolicy", "spec/extAuth/timeout", None), "for too long"),
    ("policy", "envoy-gateway", put("SecurityPolicy", "spec/extAuth/statusOnError", None), "like a bad key"),
    ("policy", "envoy-gateway", put("ClientTrafficPolicy", "spec/headers/earlyRequestHeaders/remove/0", "users"), "own user is not"),
    ("policy", "envoy-gateway", put("ClientTrafficPolicy", "spec/path/escapedSlashesAction", "KeepUnchanged"), "%2F"),
    # What only the programs know.
    ("program", "central", config("default_tier: free", "default_tier: gold"), "gold"),
    ("program", "central", config("drain_delay", "drain_for"), "drain_for"),
    ("program", "sidecar", bootstrap("failure_mode_allow: false", "failure_mode_allow: true"), "failure_mode_allow"),
    ("program", "envoy-gateway", put("SecurityPolicy", "spec/extAuth/failOpen", True), "failOpen"),
    ("program", "sidecar", bootstrap("codec_type: AUTO", "codec_type: ANY"), "envoy --mode validate"),
    ("program", "istio", patch_value(0, "path_with_escaped_slashes_action", "REJECT"), "envoy --mode validate"),
    ("program", "istio", patch_value(0, "early_header_mutation_extensions/0/typed_config/mutations/0", {"remove": "users"}), "`user`"),
    ("program", "istio", patch_value(1, "allowed_headers/patterns/0", {"exact": "authorisation"}), "authorization"),
    ("program", "istio", patch_value(1, "allowed_headers/patterns/7", {"exact": "upgrades"}), "`upgrade`"),
    ("program", "istio", patch_value(1, "encode_raw", True), "envoy --mode validate"),
]

# What is not alike in all overlays.
ALL = [
    ("sidecar", sidecar("image", "tollgate:9.9.9"), "not the same everywhere"),
    ("sidecar", config("things:read, things:write", "things:read, things:write, things:erase"), "not the same everywhere"),
    ("sidecar", sidecar("resources/requests/cpu", "51m"), "the sidecar is not the same everywhere"),
    (
        "envoy-gateway",
        put("EnvoyProxy", "spec/provider/kubernetes/envoyDeployment/initContainers/0/livenessProbe/failureThreshold", 9),
        "the sidecar is not the same everywhere",
    ),
    ("central", put("ConfigMap", "metadata/name", "tollgate-h4sh"), "a hash in its name"),
]
