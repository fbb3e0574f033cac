"""What must hold for all manifests, whatever the API server would accept.

Two kinds of rules: how careful the pods are, and that what is said twice (a port in the config and in a Service, a container in a patch
and in an EnvoyProxy) is said alike.
"""

import json
import re

import documents
from documents import at
from documents import label
from documents import mesh_config

RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
PROBES = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
MONITORED = {"/metrics": "15s", "/metrics/usage": "60s"}
COUNTERS = "/stats/prometheus"
# Where Istio and Envoy Gateway have their Envoys answer COUNTERS; Envoy Gateway calls the port `metrics`.
STATS_OF_ISTIO = 15090
STATS_OF_GATEWAY = 19001
SECRETS = "/run/secrets/tollgate/"
# What a proxy of the mesh needs besides what Tollgate needs.
PORTS_OF_ISTIO = {15012}
LONGEST_CHECK_SECONDS = 1
STORES = {"tcp": {6379, 443, 53}, "udp": {53}}


def complaints(overlay):
    found = []
    for pod in documents.pods(overlay):
        found += [f"{pod.owner}: {what}" for what in careless(pod)]
        if pod.tollgate() is not None:
            found += [f"{pod.owner}: {what}" for what in tollgate_pod(overlay, pod)]
    found += doors_of_envoy(overlay)
    found += network_policies(overlay)
    found += monitors(overlay)
    found += envoys(overlay)
    for document in overlay.of_kind("Namespace"):
        if at(document, "metadata.labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            found.append(f"{label(document)}: does not enforce the restricted pod security level")
    return found


def careless(pod):
    """The restricted pod security level, and somewhat more."""
    level = (pod.spec or {}).get("securityContext", {})
    if pod.spec is not None and pod.spec.get("automountServiceAccountToken") is not False:
        yield "mounts a service account's token"
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if (pod.spec or {}).get(name):
            yield f"uses {name}"
    for volume in pod.volumes.values():
        if not RESTRICTED_VOLUMES & volume.keys():
            yield f"volume {volume['name']} is of a kind that the restricted level forbids"
    for container in pod.all_containers():
        name = container["name"]
        for mount in container.get("volumeMounts", []):
            if "subPath" in mount or "subPathExpr" in mount:
                yield f"{name} mounts {mount['mountPath']} by subPath, which never changes"
            if mount["name"] not in pod.volumes:
                yield f"{name} mounts {mount['name']}, which is no volume of the pod"
        if "image" not in container:
            continue  # Envoy Gateway's own container.
        own = container.get("securityContext", {})
        if own.get("runAsNonRoot", level.get("runAsNonRoot")) is not True:
            yield f"{name} may run as root"
        user = own.get("runAsUser", level.get("runAsUser"))
        if not user:
            yield f"{name} runs as no numeric user but root"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name} may write to its root file system"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may gain privileges"
        if own.get("privileged"):
            yield f"{name} is privileged"
        if at(own, "capabilities.drop") != ["ALL"] or at(own, "capabilities.add"):
            yield f"{name} keeps capabilities"
        if own.get("seccompProfile", level.get("seccompProfile")) != {"type": "RuntimeDefault"}:
            yield f"{name} has no seccomp profile"
        if "cpu" in at(container, "resources.limits", {}):
            yield f"{name} has a limit of CPU, which shows as checks that time out"
        if "memory" not in at(container, "resources.limits", {}) or "cpu" not in at(container, "resources.requests", {}):
            yield f"{name} says not what it needs: requests.cpu, limits.memory"


def tollgate_pod(overlay, pod):
    container = pod.tollgate()
    config = documents.config_of(overlay, pod)
    if config is None:
        yield "TOLLGATE_CONFIG names no file of a ConfigMap that is there, mounted as a folder"
        return
    yield from ports(overlay, pod, config)
    yield from disks(overlay, pod, config)
    yield from ending(pod, config)
    yield from secrets(pod, config)
    own = container.get("securityContext", {})
    level = (pod.spec or {}).get("securityContext", {})
    if own.get("runAsUser", level.get("runAsUser")) != 65532:
        yield "Tollgate does not run as 65532"
    if container.get("args") != ["serve"]:
        yield "Tollgate's arguments are not `serve`"
    if container in pod.init_containers and (container.get("restartPolicy") != "Always" or "startupProbe" not in container):
        yield "an init container that does not go on, or that nobody waits for, is no sidecar"
    if pod.labels.get("tollgate") not in ("central", "sidecar"):
        yield "no label `tollgate`, so no monitor finds the pod"


def ports(overlay, pod, config):
    """Ports and paths of probes and Services are those of the config."""
    container = pod.tollgate()
    listen = config.get("listen", {})
    named = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    wanted = {documents.tcp_port(listen.get(door)) for door in ("check", "ops", "issuer")} - {None}
    if set(named.values()) != wanted:
        yield f"ports {sorted(named.values())} of the container, {sorted(wanted)} in tollgate.yaml"
    for probe, path in PROBES.items():
        if probe not in container:
            continue
        get = at(container, f"{probe}.httpGet", {})
        if get.get("path") != path or named.get(get.get("port"), get.get("port")) != documents.tcp_port(listen.get("ops")):
            yield f"{probe} does not ask {path} of listen.ops"
    for probe in ("startupProbe", "livenessProbe"):
        if probe not in container:
            yield f"no {probe}"
    if container in pod.containers and "readinessProbe" not in container:
        yield "no readinessProbe"
    doors = {"grpc-check": "check", "http-issuer": "issuer"}
    for service in overlay.of_kind("Service"):
        selector = at(service, "spec.selector", {})
        if at(service, "metadata.namespace") != pod.namespace or not selector.items() <= pod.labels.items():
            continue
        for port in at(service, "spec.ports", []):
            if container not in pod.containers:
                continue  # A sidecar serves its own pod.
            door = doors.get(port["name"])
            expected = documents.tcp_port(listen.get(door)) if door else None
            if expected is None or port["port"] != expected or named.get(port.get("targetPort")) != expected:
                yield f"{label(service)}: port {port['name']} is not a listener of tollgate.yaml"
            if door == "check" and at(service, "spec.clusterIP") != "None":
                yield f"{label(service)}: not headless, so all checks of an Envoy end at one pod"
    if documents.tcp_port(listen.get("check")) is None:
        yield from socket(pod, documents.address_of(listen.get("check", "")))


def socket(pod, address):
    """Tollgate and one other container share the folder of the socket."""
    path = address.removeprefix("unix:")
    own = documents.mount_of(pod.tollgate(), path)
    if own is None or own.get("readOnly"):
        yield f"Tollgate cannot make its socket {path}"
        return
    others = [one for one in pod.all_containers() if one["name"] != "tollgate" and documents.mount_of(one, path)]
    annotation = at(pod.deployment or {}, "template.metadata.annotations", {}).get("sidecar.istio.io/userVolumeMount")
    mounts = [mount for one in others for mount in one["volumeMounts"]] + (json.loads(annotation) if annotation else [])
    if not any(mount["name"] == own["name"] and (path + "/").startswith(mount["mountPath"] + "/") for mount in mounts):
        yield f"no Envoy of the pod can reach {path}"


def disks(overlay, pod, config):
    """Counts lie on a disk; and the embedded store belongs to one pod alone."""
    store = config.get("store", {})
    folders = {
        "store": at(store, "embedded.path") or at(store, "redis.path"),
        "ledger": at(config, "ledger.path"),
    }
    claims = set()
    for what, folder in folders.items():
        mount = documents.mount_of(pod.tollgate(), folder or "")
        if mount is None or mount.get("readOnly"):
            yield f"the folder of the {what} ({folder}) is no volume that can be written to"
            continue
        volume = pod.volumes.get(mount["name"], {})
        if at(volume, "emptyDir.medium") == "Memory":
            yield f"the folder of the {what} ({folder}) lies in memory"
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"the volume of the {what} has no sizeLimit"
        if "persistentVolumeClaim" in volume:
            claims.add(volume["persistentVolumeClaim"]["claimName"])
    scaled = [
        one for one in overlay.of_kind("HorizontalPodAutoscaler")
        if f"{at(one, 'spec.scaleTargetRef.kind')} {at(one, 'metadata.namespace')}/{at(one, 'spec.scaleTargetRef.name')}" == pod.owner
    ]
    if "redis" not in store:
        deployment = pod.deployment or {}
        if deployment.get("replicas") != 1:
            yield "the embedded store with other than one replica"
        if at(deployment, "strategy.type") != "Recreate":
            yield "the embedded store without the strategy Recreate"
        if scaled:
            yield "the embedded store with an autoscaler"
        if not claims:
            yield "the embedded store on a volume that goes with the pod"
    elif scaled and "replicas" in pod.deployment:
        yield "replicas beside an autoscaler: each `kubectl apply` would undo what it did"


def ending(pod, config):
    """The kubelet waits as long as Tollgate takes to end."""
    if pod.spec is None:
        return
    lifecycle = config.get("lifecycle", {})
    needed = documents.seconds(lifecycle.get("drain_delay", "5s")) + documents.seconds(lifecycle.get("grace", "20s"))
    # Main containers end before the sidecars do.
    sleeps = [at(one, "lifecycle.preStop.sleep.seconds", 0) for one in pod.containers]
    if pod.tollgate() in pod.init_containers:
        needed += max(sleeps, default=0)
    if pod.spec.get("terminationGracePeriodSeconds", 30) < needed + 5:
        yield f"terminationGracePeriodSeconds leaves less than 5 s beyond the {needed:g} s that ending takes"


def secrets(pod, config):
    """Secrets are files of a Secret, for its group alone."""
    for path in secret_files(config):
        mount = documents.mount_of(pod.tollgate(), path)
        volume = pod.volumes.get(mount["name"], {}) if mount else {}
        if "secret" not in volume:
            yield f"{path} lies in no volume of a Secret"
        elif volume["secret"].get("defaultMode", 0o644) & 0o007:
            yield f"{path} may be read by every user of the container"


def secret_files(tree):
    if isinstance(tree, dict):
        if set(tree) == {"file"}:
            yield tree["file"]
        for value in tree.values():
            yield from secret_files(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from secret_files(value)


def doors_of_envoy(overlay):
    """Where meshes and gateways look for Tollgate, and what they do when it does not answer."""
    pairs = [(pod, documents.config_of(overlay, pod)) for pod in documents.pods(overlay) if pod.tollgate()]
    checks = {documents.address_of(at(config, "listen.check", "")) for _, config in pairs if config}
    tcp = {documents.tcp_port(check) for check in checks} - {None}
    for document in overlay.of_kind("ServiceEntry"):
        numbers = {port["number"] for port in at(document, "spec.ports", [])}
        for endpoint in at(document, "spec.endpoints", []):
            address = endpoint["address"]
            if address.startswith("unix:"):
                if "unix:" + address.removeprefix("unix://") not in checks:
                    yield f"{label(document)}: {address} is not listen.check"
            else:
                if not numbers <= tcp:
                    yield f"{label(document)}: {sorted(numbers)} is not the port of listen.check"
                known = {
                    f"{at(one, 'metadata.name')}.{at(one, 'metadata.namespace')}.svc.cluster.local" for one in overlay.of_kind("Service")
                }
                if address not in known:
                    yield f"{label(document)}: there is no Service {address}"
        if any(port["protocol"] != "GRPC" for port in at(document, "spec.ports", [])):
            yield f"{label(document)}: the port is not GRPC, so checks would be HTTP/1.1"
        hosts = set(at(document, "spec.hosts", []))
        if not any(at(one, "spec.host") in hosts for one in overlay.of_kind("DestinationRule")):
            yield f"{label(document)}: no DestinationRule says how to speak to it"
        yield from provider(overlay, hosts, numbers)
    for document in overlay.of_kind("Backend"):
        for endpoint in at(document, "spec.endpoints", []):
            if "unix:" + at(endpoint, "unix.path", "") not in checks:
                yield f"{label(document)}: the socket is not listen.check"
    for document in overlay.of_kind("SecurityPolicy"):
        ext_auth = at(document, "spec.extAuth", {})
        if ext_auth.get("failOpen") is not False:
            yield f"{label(document)}: everybody enters whenever Tollgate does not answer"
        if ext_auth.get("statusOnError") != 503:
            yield f"{label(document)}: an outage reads like a bad key"
        if documents.seconds(ext_auth.get("timeout", "10s")) > LONGEST_CHECK_SECONDS:
            yield f"{label(document)}: a check may hold a request up for too long"
        backends = {at(one, "metadata.name") for one in overlay.of_kind("Backend")}
        for reference in at(ext_auth, "grpc.backendRefs", []):
            if reference["kind"] == "Backend" and reference["name"] not in backends:
                yield f"{label(document)}: there is no Backend {reference['name']}"
    for document in overlay.of_kind("ClientTrafficPolicy"):
        removed = set(at(document, "spec.headers.earlyRequestHeaders.remove", []))
        for name in sorted(identity_headers() - removed):
            yield f"{label(document)}: a client's own {name} is not removed"
        if at(document, "spec.path.escapedSlashesAction") not in ("RejectRequest", "UnescapeAndRedirect"):
            yield f"{label(document)}: %2F could be read as a slash behind the gate"
        if at(document, "spec.headers.withUnderscoresAction") not in ("RejectRequest", "DropHeader"):
            yield f"{label(document)}: x_user_id would pass"


def identity_headers():
    """The names that the quickstart's config gives, which are the default's."""
    config = documents.load_all((documents.ROOT / "envoy/quickstart/tollgate.yaml").read_text())[0]
    return set(config["identity_headers"])


def provider(overlay, hosts, numbers):
    providers = {one["name"]: one["envoyExtAuthzGrpc"] for one in mesh_config()["extensionProviders"]}
    custom = [one for one in overlay.of_kind("AuthorizationPolicy") if at(one, "spec.action") == "CUSTOM"]
    if not custom:
        yield "no AuthorizationPolicy has anything judged"
    for document in custom:
        found = providers.get(at(document, "spec.provider.name"))
        if found is None:
            yield f"{label(document)}: mesh-config.yaml has no such provider, and the mesh would deny everything"
            continue
        if found["service"].rpartition("/")[2] not in hosts or found["port"] not in numbers:
            yield "mesh-config.yaml: the provider's service is not that of the ServiceEntry"
        if found["failOpen"] is not False or found["statusOnError"] != "503":
            yield "mesh-config.yaml: an outage lets everybody in, or reads like a bad key"
        if documents.seconds(found["timeout"]) > LONGEST_CHECK_SECONDS:
            yield "mesh-config.yaml: a check may hold a request up for too long"


def network_policies(overlay):
    """Policies open the ports of the config, and no others."""
    for pod in documents.pods(overlay):
        config = documents.config_of(overlay, pod) if pod.tollgate() else None
        if config is None:
            continue
        listen = config.get("listen", {})
        own = {documents.tcp_port(listen.get(door)) for door in ("check", "ops", "issuer")} - {None}
        others = {port["containerPort"] for one in pod.containers if one["name"] != "tollgate" for port in one.get("ports", [])}
        if pod.deployment is None:
            listeners = [one["port"] for document in overlay.of_kind("Gateway") for one in at(document, "spec.listeners", [])]
            others |= {port + 10000 if port < 1024 else port for port in listeners}
        counters = stats_ports(overlay, pod)
        opened, seen = set(), False
        for document in overlay.of_kind("NetworkPolicy"):
            selector = at(document, "spec.podSelector.matchLabels", {})
            if at(document, "metadata.namespace") != pod.namespace or not selector.items() <= pod.labels.items():
                continue
            seen = seen or "Ingress" in at(document, "spec.policyTypes", [])
            for rule in at(document, "spec.ingress", []):
                numbers = {port["port"] for port in rule.get("ports", [])}
                opened |= numbers
                if not rule.get("ports"):
                    yield f"{label(document)}: opens every port"
                if not rule.get("from") and numbers & (own | counters):
                    yield f"{label(document)}: opens {sorted(numbers & (own | counters))} to everybody"
            for rule in at(document, "spec.egress", []):
                for port in rule.get("ports", []):
                    known = STORES[port["protocol"].lower()] | PORTS_OF_ISTIO | redis_ports(config)
                    if port["port"] not in known:
                        yield f"{label(document)}: lets out to {port['port']}, which tollgate.yaml does not name"
            allowed = {port["port"] for rule in at(document, "spec.egress", []) for port in rule.get("ports", [])}
            if "Egress" in at(document, "spec.policyTypes", []) and allowed - PORTS_OF_ISTIO:
                for port in redis_ports(config) - allowed:
                    yield f"{label(document)}: does not let out to Redis ({port})"
        if not seen:
            yield f"{pod.owner}: no NetworkPolicy says who may reach {sorted(own | counters)}"
        elif opened != own | others | counters:
            yield f"{pod.owner}: NetworkPolicies open {sorted(opened)}, listeners are {sorted(own | others | counters)}"


def stats_ports(overlay, pod):
    """Where the Envoy of a pod tells what it counts."""
    if pod.deployment is None:
        return {STATS_OF_GATEWAY}
    if "sidecar.istio.io/userVolumeMount" in at(pod.deployment, "template.metadata.annotations", {}):
        return {STATS_OF_ISTIO}
    return {port["containerPort"] for one in pod.containers for port in one.get("ports", []) if port["name"] == "envoy-stats"}


def envoys(overlay):
    """Whatever Envoy asks Tollgate is scraped, or the alerts about it could never fire."""
    asking = {at(document, "metadata.namespace"): {"portNumber": STATS_OF_ISTIO} for document in overlay.of_kind("EnvoyFilter")}
    asking |= {at(document, "metadata.namespace"): {"port": "metrics"} for document in overlay.of_kind("EnvoyProxy")}
    for document in overlay.of_kind("ConfigMap"):
        if "envoy.yaml" in document["data"]:
            asking[at(document, "metadata.namespace")] = {"port": "envoy-stats"}
            yield from counters_listener(overlay, document)
    wanted = next(job for job in plain_prometheus()["scrape_configs"] if job["job_name"] == "envoy")
    for namespace, port in asking.items():
        scraped = [
            (document, endpoint)
            for document in overlay.of_kind("PodMonitor") if at(document, "metadata.namespace") == namespace
            for endpoint in at(document, "spec.podMetricsEndpoints", []) if endpoint["path"] == COUNTERS
        ]
        if len(scraped) != 1:
            yield f"{namespace}: {len(scraped)} PodMonitors scrape the Envoys there"
        for document, endpoint in scraped:
            if {name: endpoint.get(name) for name in port} != port:
                yield f"{label(document)}: does not ask {port}"
            if endpoint.get("params") != wanted["params"] or not at(document, "spec.sampleLimit"):
                yield f"{label(document)}: does not ask for what k8s/prometheus/prometheus.yaml asks for, or without a limit"
            selector = at(document, "spec.selector.matchLabels", {})
            pods = [pod for pod in documents.pods(overlay) if pod.namespace == namespace]
            workloads = [at(one, "spec.workloadSelector.labels", {}) for one in overlay.of_kind("EnvoyFilter")] or [pod.labels for pod in pods]
            if not selector or not any(selector.items() <= labels.items() for labels in workloads):
                yield f"{label(document)}: selects no pod with an Envoy"
    if overlay.of_kind("EnvoyFilter"):
        patterns = at(mesh_config(), "defaultConfig.proxyStatsMatcher.inclusionRegexps", [])
        for name in ISTIO_COUNTERS:
            if not any(re.fullmatch(pattern, name) for pattern in patterns):
                yield f"mesh-config.yaml: proxyStatsMatcher leaves {name} out"


# As Istio's Envoys call what the rules read.
ISTIO_COUNTERS = [
    *(f"http.inbound_0.0.0.0_8080;.ext_authz.tollgate.{name}" for name in ("ok", "denied", "error", "disabled", "failure_mode_allowed")),
    *(f"cluster.outbound|9191||check.tollgate.internal;.upstream_{name}" for name in ("rq_time", "rq_timeout", "cx_connect_fail")),
]


def plain_prometheus():
    return documents.load_all((documents.K8S / "prometheus/prometheus.yaml").read_text())[0]


def counters_listener(overlay, document):
    """A bootstrap of ours has a listener for COUNTERS, on the port that the container names."""
    bootstrap = documents.load_all(document["data"]["envoy.yaml"])[0]
    listeners = [one for one in at(bootstrap, "static_resources.listeners", []) if COUNTERS in json.dumps(one)]
    listening = {at(one, "address.socket_address.port_value") for one in listeners}
    named = {port for pod in documents.pods(overlay) for port in stats_ports(overlay, pod)}
    if not listening or listening != named:
        yield f"{label(document)}: {COUNTERS} is answered on {sorted(listening)}, the container names {sorted(named)}"


def redis_ports(config):
    redis = at(config, "store.redis", {})
    urls = redis.get("urls") or [redis["url"]] if redis else []
    return {int(found.group(1)) for url in urls if (found := re.search(r":(\d+)(/|$)", url))}


def monitors(overlay):
    """Two monitors find each Tollgate, with a limit each, and bring the token."""
    found = overlay.of_kind("PodMonitor")
    for pod in documents.pods(overlay):
        config = documents.config_of(overlay, pod) if pod.tollgate() else None
        if config is None:
            continue
        named = {port["name"]: port["containerPort"] for port in pod.tollgate().get("ports", [])}
        token = at(config, "listen.ops.token.file", "")
        seen = {}
        for document in found:
            asked = {endpoint["path"] for endpoint in at(document, "spec.podMetricsEndpoints", [])}
            if at(document, "metadata.namespace") != pod.namespace or asked == {COUNTERS}:
                continue
            keys = [one["key"] for one in at(document, "spec.selector.matchExpressions", []) if one["operator"] == "Exists"]
            if not keys or any(key not in pod.labels for key in keys) or at(document, "spec.selector.matchLabels"):
                yield f"{label(document)}: does not select {pod.owner}"
            if not at(document, "spec.sampleLimit"):
                yield f"{label(document)}: no sampleLimit"
            for endpoint in at(document, "spec.podMetricsEndpoints", []):
                seen[endpoint["path"]] = endpoint["interval"]
                if named.get(endpoint["port"]) != documents.tcp_port(at(config, "listen.ops")):
                    yield f"{label(document)}: port {endpoint['port']} is not listen.ops"
                shown = at(endpoint, "authorization.credentials", {})
                volumes = {volume["secret"]["secretName"] for volume in pod.volumes.values() if "secret" in volume}
                if SECRETS + shown.get("key", "") != token or shown.get("name") not in volumes:
                    yield f"{label(document)}: does not bring the token of listen.ops"
        if seen != MONITORED:
            yield f"{pod.owner}: monitored {seen}, not {MONITORED}"


def across(overlays):
    """What must be alike in all overlays."""
    images, routes = {}, {}
    for overlay in overlays:
        for pod in documents.pods(overlay):
            if pod.tollgate() is not None:
                images.setdefault(pod.tollgate()["image"], overlay.name)
        for document, text in documents.configs(overlay):
            config = documents.load_all(text)[0]
            api = {name: config.get(name) for name in ("tiers", "default_tier", "scopes", "routes", "identity_headers", "credentials")}
            routes.setdefault(json.dumps(api, sort_keys=True), f"{overlay.name} {label(document)}")
            if at(document, "metadata.name") != "tollgate":
                yield f"{overlay.name} {label(document)}: a hash in its name makes each change of a route a restart"
    if len(images) != 1:
        yield f"Tollgate's image is not the same everywhere: {images}"
    version = re.search(r'^version = "(.*)"$', (documents.ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    for image in images:
        if not image.endswith(f":{version}"):
            yield f"the image {image} is not that of version {version}; change components/image"
    if len(routes) != 1:
        yield f"tiers, scopes and routes are not the same everywhere: {sorted(routes.values())}"
    yield from one_sidecar(overlays)


def one_sidecar(overlays):
    """The sidecar of an EnvoyProxy is that of the component."""
    found = {}
    for overlay in overlays:
        for pod in documents.pods(overlay):
            if pod.tollgate() in pod.init_containers:
                own = {mount["name"] for mount in pod.tollgate()["volumeMounts"]}
                volumes = [volume for name, volume in sorted(pod.volumes.items()) if name in own]
                text = json.dumps([pod.tollgate(), volumes, pod.labels.get("tollgate")], sort_keys=True)
                found.setdefault(text, f"{overlay.name} {pod.owner}")
    if len(found) != 1:
        yield f"the sidecar is not the same everywhere: {sorted(found.values())}"
