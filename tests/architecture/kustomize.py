"""Renders the few features of kustomize that deploy/k8s uses, for machines without kubectl.

Resources, components, patches by strategic merge, namespace and image tags, in kustomize's own order. What it does not
know it refuses. A test compares it with `kubectl kustomize`, where that is installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "images"}
CLUSTER_WIDE = {"Namespace"}

MERGED_BY = {
    "containers": "name",
    "env": "name",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""The lists whose entries Kubernetes merges, and by which field. Other lists are replaced."""


def render(directory: Path) -> list[Object]:
    """Every object of a kustomization, as it would be applied."""
    return _apply(directory, [])


def _apply(directory: Path, objects: list[Object]) -> list[Object]:
    """The objects so far and the kustomization's own, changed as it says."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    if unknown := kustomization.keys() - KNOWN:
        raise NotImplementedError(f"{directory}: teach {sorted(unknown)} to {__name__}, or do without")
    for resource in kustomization.get("resources", ()):
        path = directory / resource
        objects = objects + (render(path) if path.is_dir() else documents(path))
    for component in kustomization.get("components", ()):
        objects = _apply(directory / component, objects)
    for patch in kustomization.get("patches", ()):
        for change in documents(directory / patch["path"]):
            for one in _targets(objects, change, patch.get("target")):
                _merge(one, {name: value for name, value in change.items() if name != "metadata"})
                _merge(one["metadata"], {n: v for n, v in change["metadata"].items() if n != "name"})
    _set_namespace(objects, kustomization.get("namespace"))
    _set_tags(objects, {image["name"]: image["newTag"] for image in kustomization.get("images", ())})
    return objects


def documents(path: Path) -> list[Object]:
    """The objects in one file, sharing nothing: anchors are written out."""
    return [json.loads(json.dumps(document)) for document in yaml.safe_load_all(path.read_text()) if document]


def containers(objects: list[Object]) -> list[Object]:
    """Every container of every workload."""
    return [container for one in objects for container in pod_of(one).get("containers", ())]


def pod_of(one: Object) -> Object:
    """The pod's spec in a workload; empty for other kinds."""
    pod: Object = one.get("spec", {}).get("template", {}).get("spec", {})
    return pod


def _targets(objects: list[Object], change: Object, target: Object | None) -> list[Object]:
    if target is None:
        name = change["metadata"]["name"]
        found = [o for o in objects if o["kind"] == change["kind"] and o["metadata"]["name"] == name]
    else:
        label, _, value = target["labelSelector"].partition("=")
        found = [
            o for o in objects if o["kind"] == target["kind"] and o["metadata"].get("labels", {}).get(label) == value
        ]
    if not found:
        raise LookupError(f"nothing to patch: {target or change['metadata']}")
    return found


def _merge(into: Object, change: Object) -> None:
    for name, value in json.loads(json.dumps(change)).items():
        if name == "$patch":
            raise NotImplementedError("leave a resource out instead of deleting it: kustomize 5.5 fails on it as well")
        if isinstance(value, dict):
            _merge(into.setdefault(name, {}), value)
        elif name in MERGED_BY and name in into:
            _merge_entries(into[name], value, MERGED_BY[name])
        else:
            into[name] = value


def _merge_entries(into: list[Object], changes: list[Object], key: str) -> None:
    for change in changes:
        same = [entry for entry in into if entry[key] == change[key]]
        if same:
            _merge(same[0], change)
        else:
            into.append(change)


def _set_namespace(objects: list[Object], namespace: str | None) -> None:
    for one in objects:
        if namespace is not None and one["kind"] not in CLUSTER_WIDE:
            one["metadata"]["namespace"] = namespace


def _set_tags(objects: list[Object], tags: dict[str, str]) -> None:
    for container in containers(objects):
        name = container["image"].rpartition(":")[0]
        if name in tags:
            container["image"] = f"{name}:{tags[name]}"
