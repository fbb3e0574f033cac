"""What the programs themselves say: `tollgate check-config` about every config, and Envoy about every piece of its configuration."""

import json
import os
import pathlib
import re
import subprocess

import documents
import yaml
from documents import at
from documents import label
from documents import mesh_config

# The one thing that check-config warns of and that these manifests mean so: policies and meshes stand before the port.
MEANT = "whoever reaches this address may ask for verdicts"
QUICKSTART = documents.ROOT / "envoy/quickstart/envoy.yaml"
STATS = documents.ROOT / "envoy/quickstart/compose/stats.yaml"
SIDECAR = documents.K8S / "overlays/sidecar/envoy.yaml"
MESH = documents.K8S / "components/istio/mesh-config.yaml"
# What a pod's addresses are for the quickstart's.
ADDRESSES = (
    ("socket_address: { address: 127.0.0.1, port_value: 10000 }", "socket_address: { address: 0.0.0.0, port_value: 8080 }"),
    ("pipe: { path: run/check.sock }", "pipe: { path: /run/tollgate/check.sock }"),
    ("pipe: { path: run/upstream.sock }", "socket_address: { address: 127.0.0.1, port_value: 8081 }"),
)


class Programs:
    def __init__(self, tollgate, envoy, scratch):
        self.tollgate, self.envoy = tollgate, envoy
        self.scratch = pathlib.Path(scratch).resolve()
        self.folders = 0

    def complaints(self, overlay):
        found = []
        for document, text in documents.configs(overlay):
            found += [f"{label(document)}: {what}" for what in self.judge_config(text)]
        for document in overlay.of_kind("ConfigMap"):
            if "envoy.yaml" in document["data"]:
                config = self.config_in(overlay, at(document, "metadata.namespace"))
                found += [f"{label(document)}: {what}" for what in self.judge_bootstrap(document["data"]["envoy.yaml"], config)]
        for document in overlay.of_kind("EnvoyFilter"):
            config = self.config_in(overlay, at(document, "metadata.namespace")) or next(text for _, text in documents.configs(overlay))
            hops = yaml.safe_load(config).get("trusted_hops", 0)
            listens = yaml.safe_load(config)["listen"]["check"]
            bootstrap = yaml.safe_dump(bootstrap_of(document, mesh_access_log(), hops, listens), sort_keys=False)
            found += [f"{label(document)}: {what}" for what in self.judge_bootstrap(bootstrap, config)]
        return found + self.judge_front(overlay)

    def judge_front(self, overlay):
        """The whole of what is applied, as somebody would hand it to check-config."""
        front = [at(document, "data", {}).get("envoy.yaml") for document in overlay.of_kind("ConfigMap")]
        if not any(front) and not overlay.of_kind("EnvoyFilter", "SecurityPolicy"):
            return []
        folder = self.folder(next(text for _, text in documents.configs(overlay)))
        texts = [yaml.safe_dump(document, sort_keys=False) for document in overlay.documents]
        if overlay.of_kind("EnvoyFilter"):
            texts.append(MESH.read_text())
        (folder / "front.yaml").write_text(moved("\n---\n".join(texts), folder))
        arguments = ["check-config", "--config", folder / "tollgate.yaml", "--envoy", folder / "front.yaml"]
        done = subprocess.run([self.tollgate, *arguments], capture_output=True, text=True, check=False)
        said = [line for line in (done.stdout + done.stderr).splitlines() if "front.yaml:" in line and "fits these rules" not in line]
        return [f"check-config --envoy, all of it: {line}" for line in said]

    def config_in(self, overlay, namespace):
        return next((text for document, text in documents.configs(overlay) if at(document, "metadata.namespace") == namespace), None)

    def folder(self, config):
        """A config; its secrets are made up."""
        self.folders += 1
        folder = self.scratch / str(self.folders)
        for name in ("secrets", "data", "run"):
            (folder / name).mkdir(parents=True)
        for name in set(re.findall(r"/run/secrets/tollgate/([a-z0-9.-]+)", config)):
            path = folder / "secrets" / name
            path.write_text("0123456789abcdef0123456789abcdef\n")
            os.chmod(path, 0o600)
        (folder / "tollgate.yaml").write_text(moved(config, folder))
        return folder

    def judge_config(self, config):
        folder = self.folder(config)
        done = subprocess.run(
            [self.tollgate, "check-config", "--json", "--config", folder / "tollgate.yaml"], capture_output=True, text=True, check=False
        )
        try:
            report = json.loads(done.stdout)
        except ValueError:
            return [f"check-config: {done.stdout}{done.stderr}"]
        said = report["errors"] + [one for one in report["warnings"] if MEANT not in json.dumps(one)]
        return [f"check-config: {json.dumps(one)}" for one in said]

    def judge_bootstrap(self, bootstrap, config):
        folder = self.folder(config)
        file = folder / "envoy.yaml"
        file.write_text(moved(bootstrap, folder))
        found = []
        command = [self.envoy, "--mode", "validate", "--disable-hot-restart", "--log-level", "error", "-c", file]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            found.append(f"envoy --mode validate: {done.stderr.strip()[-600:]}")
        arguments = ["check-config", "--config", folder / "tollgate.yaml", "--envoy", file]
        done = subprocess.run([self.tollgate, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            found.append(f"check-config --envoy: {(done.stdout + done.stderr).strip()[:1500]}")
        return found


def moved(text, folder):
    """A pod's folders are folders here."""
    for there, name in (("/run/secrets/tollgate", "secrets"), ("/var/lib/tollgate", "data"), ("/run/tollgate", "run")):
        text = text.replace(there, str(folder / name))
    return text


def mesh_access_log():
    return json.loads(mesh_config()["accessLogFormat"])


def bootstrap_of(envoy_filter, access_log, hops, listens):
    """The patches of an EnvoyFilter where Istio would put them: merged into the parts that it generates for an inbound listener."""
    provider = mesh_config()["extensionProviders"][0]["envoyExtAuthzGrpc"]
    cluster = f"outbound|{provider['port']}||{provider['service']}"
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inbound_0.0.0.0_8080",
        # Istio's is false inbound, because the gateway before it has done this.
        "use_remote_address": True,
        "xff_num_trusted_hops": hops,
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": "/dev/stdout",
                    "log_format": {"json_format": access_log},
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "inbound", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "inbound"}}]}
            ]
        },
    }
    ext_authz = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {
            "envoy_grpc": {"cluster_name": cluster, "authority": cluster.replace("|", "_.")},
            "timeout": provider["timeout"],
        },
        "failure_mode_allow": provider["failOpen"],
        "status_on_error": {"code": int(provider["statusOnError"])},
    }
    if listens.startswith("unix:"):
        address = {"pipe": {"path": listens.removeprefix("unix:")}}
    else:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": int(listens.rpartition(":")[2])}}
    parts = {"NETWORK_FILTER": manager, "HTTP_FILTER": ext_authz}
    for patch in at(envoy_filter, "spec.configPatches"):
        merge(parts[patch["applyTo"]], at(patch, "patch.value.typed_config"))
    manager["http_filters"] = [
        {"name": "envoy.filters.http.ext_authz", "typed_config": ext_authz},
        {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        },
    ]
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "virtualInbound",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 15006}},
                    "filter_chains": [
                        {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
                    ],
                }
            ],
            "clusters": [
                {"name": "inbound", "type": "STATIC"},
                {
                    "name": cluster,
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": cluster,
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                    },
                    "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
                    "circuit_breakers": {"thresholds": [{"max_requests": 65536}]},
                },
            ],
        }
    }


def merge(into, patch):
    """As protocol buffers merge: lists grow, messages merge, the rest is replaced."""
    for name, value in patch.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        elif isinstance(value, list):
            into[name] = into.get(name, []) + value
        else:
            into[name] = value


def same_bootstrap():
    """The sidecar's bootstrap is the quickstart's with a pod's addresses, and with the door for Prometheus."""
    wanted = QUICKSTART.read_text()
    for there, here in ADDRESSES:
        if there not in wanted:
            return [f"{QUICKSTART.name} has no `{there}` any more; change ADDRESSES in tests/tools/k8s/programs.py"]
        wanted = wanted.replace(there, here)
    wanted = settings(wanted)
    merge(wanted, settings(STATS.read_text()))
    if wanted != settings(SIDECAR.read_text()):
        return [f"k8s/overlays/sidecar/envoy.yaml is not {QUICKSTART.name} and {STATS.name} any more; bring over what was changed there"]
    return []


def settings(text):
    return yaml.load(text, Loader=documents.TextLoader)
