"""Manifests as data: how they are rendered, and the ways through them that several checks take."""

import dataclasses
import json
import pathlib
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
K8S = ROOT / "k8s"


@dataclasses.dataclass
class Overlay:
    """One overlay as the API server would get it."""

    name: str
    documents: list

    def of_kind(self, *kinds):
        return [document for document in self.documents if document["kind"] in kinds]


@dataclasses.dataclass
class Pod:
    """Something that makes pods: a Deployment, or what Envoy Gateway makes one of."""

    owner: str
    namespace: str
    labels: dict
    # Without those of Envoy Gateway itself, which are not ours.
    containers: list
    init_containers: list
    volumes: dict
    # None where the rest of the pod is not ours.
    spec: dict | None
    deployment: dict | None

    def tollgate(self):
        return next((one for one in self.init_containers + self.containers if one["name"] == "tollgate"), None)

    def all_containers(self):
        return self.init_containers + self.containers


class TextLoader(yaml.CSafeLoader):
    """Reads dates as texts, as JSON has them."""


TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def load_all(text):
    return [document for document in yaml.load_all(text, Loader=TextLoader) if document is not None]


def overlay_folders():
    """Whatever somebody would apply: the overlays, and the rules for Prometheus."""
    return sorted(path.parent for pattern in ("overlays/*", "prometheus") for path in K8S.glob(f"{pattern}/kustomization.yaml"))


def render(kubectl, folder):
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return Overlay(folder.name, load_all(done.stdout))


def mesh_config():
    """What belongs into the mesh's own settings; no manifest."""
    return load_all((K8S / "components/istio/mesh-config.yaml").read_text())[0]["meshConfig"]


def label(document):
    metadata = document.get("metadata", {})
    return f"{document.get('kind')} {metadata.get('namespace', '-')}/{metadata.get('name')}"


def at(tree, path, default=None):
    """`at(document, "spec.template.spec")`; what is missing on the way is the default."""
    for name in path.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return default
        tree = tree[name]
    return tree


def pods(overlay):
    for document in overlay.of_kind("Deployment", "StatefulSet", "DaemonSet"):
        spec = at(document, "spec.template.spec", {})
        yield Pod(
            label(document),
            at(document, "metadata.namespace"),
            at(document, "spec.template.metadata.labels", {}),
            spec.get("containers", []),
            spec.get("initContainers", []),
            {volume["name"]: volume for volume in spec.get("volumes", [])},
            spec,
            document["spec"],
        )
    for document in overlay.of_kind("EnvoyProxy"):
        made = at(document, "spec.provider.kubernetes.envoyDeployment", {})
        envoy = {"name": "envoy", "volumeMounts": at(made, "container.volumeMounts", [])}
        yield Pod(
            label(document),
            at(document, "metadata.namespace"),
            at(made, "pod.labels", {}),
            [envoy],
            made.get("initContainers", []),
            {volume["name"]: volume for volume in at(made, "pod.volumes", [])},
            None,
            None,
        )


def configs(overlay):
    """Every tollgate.yaml: its ConfigMap and its text."""
    for document in overlay.of_kind("ConfigMap"):
        for name, text in document.get("data", {}).items():
            if name == "tollgate.yaml":
                yield document, text


def config_of(overlay, pod):
    """The tollgate.yaml that a pod reads, as data: through its volume, from its namespace."""
    container = pod.tollgate()
    path = next((one["value"] for one in container.get("env", []) if one["name"] == "TOLLGATE_CONFIG"), "")
    for mount in container.get("volumeMounts", []):
        volume = pod.volumes.get(mount["name"], {})
        if "configMap" not in volume or path != f"{mount['mountPath']}/tollgate.yaml":
            continue
        for document, text in configs(overlay):
            metadata = document["metadata"]
            if metadata["name"] == volume["configMap"]["name"] and metadata.get("namespace") == pod.namespace:
                return yaml.load(text, Loader=TextLoader)
    return None


def address_of(door):
    return door["address"] if isinstance(door, dict) else door


def tcp_port(door):
    """The port of a listener, or None where it is a socket or missing."""
    address = address_of(door) if door is not None else "unix:"
    return None if address.startswith("unix:") else int(address.rsplit(":", 1)[1])


def seconds(text):
    for unit, factor in (("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)):
        if text.endswith(unit):
            return float(text[: -len(unit)]) * factor
    raise ValueError(text)


def mount_of(container, path):
    """The mount below which a path lies; the deepest."""
    mounts = [mount for mount in container.get("volumeMounts", []) if (path + "/").startswith(mount["mountPath"] + "/")]
    return max(mounts, key=lambda mount: len(mount["mountPath"]), default=None)


def as_json(documents):
    return json.dumps(documents)
