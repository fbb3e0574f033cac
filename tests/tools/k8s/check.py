#!/usr/bin/env python3
"""Judges the manifests of k8s/. Called by the tests in tests/it/k8s.rs; the arguments say where the tools are.

    check.py schemas …      every overlay builds, and every document fits its published type
    check.py policies …     pods are careful, what is said twice is said alike, Tollgate and Envoy accept what is for them
    check.py mistakes …     every planted mistake is found, which shows that the above look

Each complaint is a line; exit 1 when there is one.
"""

import argparse
import pathlib
import sys


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["schemas", "policies", "mistakes"])
    for name in ("tools", "kubectl", "node", "tollgate", "envoy", "scratch", "crds"):
        parser.add_argument(f"--{name}")
    given = parser.parse_args()
    sys.path.insert(0, f"{given.tools}/lib")
    sys.dont_write_bytecode = True
    complaints = {"schemas": schemas, "policies": policies, "mistakes": mistakes}[given.what](given)
    for complaint in complaints:
        print(complaint)
    sys.exit(1 if complaints else 0)


def overlays(given):
    import documents

    folders = documents.overlay_folders()
    assert len(folders) >= 7, folders
    return [documents.render(given.kubectl, folder) for folder in folders]


def schemas(given):
    from schemas import Schemas

    judge = Schemas(given.node, given.tools, given.crds)
    rendered = overlays(given)
    count = sum(len(overlay.documents) for overlay in rendered)
    types = "CRDs and published types" if given.crds else "published types alone: there is no folder of CRDs"
    print(f"{len(rendered)} overlays, {count} documents; custom kinds by {types}", file=sys.stderr)
    return [f"{overlay.name}: {what}" for overlay in rendered for what in judge.complaints(overlay)]


def policies(given):
    import policies as rules
    from programs import Programs
    from programs import same_bootstrap

    programs = Programs(given.tollgate, given.envoy, given.scratch)
    rendered = overlays(given)
    found = [f"{overlay.name}: {what}" for overlay in rendered for what in rules.complaints(overlay) + programs.complaints(overlay)]
    return found + list(rules.across(rendered)) + same_bootstrap()


def mistakes(given):
    from mistakes import overlooked

    return overlooked(given, overlays(given))


if __name__ == "__main__":
    main()
