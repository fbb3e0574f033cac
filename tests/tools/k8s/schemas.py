"""Every document against its published type; a kind that nobody knows is a complaint.

Kubernetes' own kinds: the strict schemas of kubernetes-validate, for the oldest and the newest Kubernetes that we name. Custom kinds:
@kubernetes-models, and the CRDs themselves where a folder with them is given. Rules in CEL are the API server's alone.
"""

import copy
import json
import pathlib
import subprocess

import documents

KUBERNETES = ("1.33", "1.37")
OWN_GROUPS = {"", "apps", "autoscaling", "networking.k8s.io", "policy"}


def group_of(document):
    return document["apiVersion"].rpartition("/")[0]


class Schemas:
    def __init__(self, node, tools, crds):
        self.node, self.tools = node, tools
        self.crds = read_crds(crds) if crds else None

    def complaints(self, overlay):
        custom = [document for document in overlay.documents if group_of(document) not in OWN_GROUPS]
        found = []
        for document in overlay.documents:
            if group_of(document) in OWN_GROUPS:
                found += [f"{documents.label(document)}: {what}" for what in judge_own(document)]
        for document, complaint in zip(custom, self.judge_types(custom)):
            if complaint:
                found.append(f"{documents.label(document)}: {complaint}")
        if self.crds is not None:
            for document in custom:
                found += [f"{documents.label(document)}: {what}" for what in self.judge_crd(document)]
        return found

    def judge_types(self, custom):
        script = pathlib.Path(self.tools) / "types.mjs"
        done = subprocess.run([self.node, script], input=documents.as_json(custom), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"types.mjs: {done.stderr}")
        return json.loads(done.stdout)

    def judge_crd(self, document):
        import jsonschema

        key = (document["apiVersion"], document["kind"])
        if key not in self.crds:
            return [f"no CRD of {key[0]} {key[1]}"]
        errors = jsonschema.Draft7Validator(self.crds[key]).iter_errors(document)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in errors]


def judge_own(document):
    import kubernetes_validate

    found = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(error.message)
        except kubernetes_validate.ValidationError as error:
            found.append(f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message[:300]}")
    return found


def read_crds(folder):
    """By (apiVersion, kind) the schema, closed: what it does not name is a mistake, as with `kubectl apply --validate=strict`."""
    known = {}
    for file in sorted(pathlib.Path(folder).glob("*.yaml")):
        for document in documents.load_all(file.read_text()):
            if document.get("kind") != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                schema = close(copy.deepcopy(version["schema"]["openAPIV3Schema"]))
                schema["properties"]["metadata"] = {"type": "object"}
                for name in ("apiVersion", "kind"):
                    schema["properties"].setdefault(name, {"type": "string"})
                known[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return known


def close(schema):
    """An OpenAPI schema of a CRD as JSON Schema."""
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
        schema["type"] = ["integer", "string"]
    if schema.pop("nullable", False) and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    properties = schema.get("properties", {})
    for value in properties.values():
        close(value)
    if isinstance(schema.get("items"), dict):
        close(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        close(schema["additionalProperties"])
    elif schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema["additionalProperties"] = False
    # Defaults are filled in before the API server validates.
    required = [name for name in schema.get("required", []) if "default" not in properties.get(name, {})]
    schema.pop("required", None)
    if required:
        schema["required"] = required
    return schema
