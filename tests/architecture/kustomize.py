"""Renders the few features of kustomize that deploy/k8s uses, where kubectl is not installed.

Resources, namespace, image tags, and patches by merging maps. A test compares it with `kubectl kustomize`, if there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
KNOWN = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}
CLUSTER_WIDE = {"Namespace"}


def render(directory: Path) -> list[Object]:
    """Every object of a kustomization."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    if unknown := set(kustomization) - KNOWN:
        raise NotImplementedError(f"{directory}: {sorted(unknown)}; teach it here, or do without")
    objects: list[Object] = []
    for resource in kustomization["resources"]:
        path = directory / resource
        objects += render(path) if path.is_dir() else documents(path)
    for patch in kustomization.get("patches", ()):
        for change in documents(directory / patch["path"]):
            _merge(_find(objects, change), change)
    for image in kustomization.get("images", ()):
        for container in containers(objects):
            if container["image"].rpartition(":")[0] == image["name"]:
                container["image"] = f"{image['name']}:{image['newTag']}"
    for one in objects:
        if one["kind"] not in CLUSTER_WIDE and "namespace" in kustomization:
            one["metadata"]["namespace"] = kustomization["namespace"]
    return objects


def documents(path: Path) -> list[Object]:
    """The objects in one file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def containers(objects: list[Object]) -> list[Object]:
    """Every container of every workload."""
    return [container for one in objects for container in pod_of(one).get("containers", ())]


def pod_of(one: Object) -> Object:
    """The pod's spec in a workload; empty for other kinds."""
    pod: Object = one.get("spec", {}).get("template", {}).get("spec", {})
    return pod


def _find(objects: list[Object], wanted: Object) -> Object:
    for one in objects:
        if one["kind"] == wanted["kind"] and one["metadata"]["name"] == wanted["metadata"]["name"]:
            return one
    raise LookupError(f"nothing to patch: {wanted['kind']} {wanted['metadata']['name']}")


def _merge(into: Object, change: Object) -> None:
    for name, value in change.items():
        if isinstance(value, list):
            raise NotImplementedError("patches of lists are not rendered here")
        if isinstance(value, dict):
            _merge(into.setdefault(name, {}), value)
        else:
            into[name] = value
