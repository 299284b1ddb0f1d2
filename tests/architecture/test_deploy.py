"""deploy/k8s is valid, complete and consistent with the product; the image is what it runs."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from kubernetes_validate.utils import validate

from app.catalogue import ROLES, SPLIT
from app.runtime.settings import Settings
from tests.architecture.kustomize import Object, containers, pod_of, render
from tests.conftest import ROOT

BASE, DEV = ROOT / "deploy/k8s/base", ROOT / "deploy/k8s/overlays/dev"
KUBERNETES = "1.33"
CORE = {"v1", "apps/v1", "batch/v1", "policy/v1"}


@pytest.fixture(params=[BASE, DEV], ids=["base", "dev"])
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return render(request.param)


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def workers(objects: list[Object]) -> list[Object]:
    return [one for one in of_kind(objects, "StatefulSet") if one["metadata"]["name"].startswith("eventfleet")]


def settings_of(objects: list[Object]) -> dict[str, str]:
    found: dict[str, str] = of_kind(objects, "ConfigMap")[0]["data"]
    return found


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed: the renderer stands alone")
@pytest.mark.parametrize("directory", [BASE, DEV], ids=["base", "dev"])
def test_kubectl_renders_the_same(directory: Any) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=True)

    def by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
        return {(one["kind"], one["metadata"]["name"]): one for one in objects}

    assert by_name(list(yaml.safe_load_all(done.stdout))) == by_name(render(directory))


def test_every_object_is_valid(objects: list[Object]) -> None:
    for one in objects:
        assert one["apiVersion"] in CORE, "the base uses core APIs only"
        validate(one, KUBERNETES, strict=True)


def test_there_is_a_workload_for_every_split_role(objects: list[Object]) -> None:
    roles = [str(_value(pod_of(one)["containers"][0], "FLEET_ROLE")) for one in workers(objects)]
    assert sorted(roles) == sorted(SPLIT)
    assert set(roles) <= set(ROLES)


def check_containers(objects: list[Object]) -> None:
    for one in objects:
        pod = pod_of(one)
        if not pod:
            continue
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][kind].keys()
            if one["kind"] == "StatefulSet":
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


def test_containers_are_restricted_and_limited(objects: list[Object]) -> None:
    check_containers(objects)
    for one in (*workers(objects), *of_kind(objects, "Job")):
        assert all(c["securityContext"]["readOnlyRootFilesystem"] for c in pod_of(one)["containers"])


def test_probes_ask_what_the_worker_serves(objects: list[Object]) -> None:
    for one in workers(objects):
        worker = pod_of(one)["containers"][0]
        assert worker["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert worker["livenessProbe"]["httpGet"]["path"] == "/healthz", "a worker that waits for brokers must live on"
        assert worker["startupProbe"]["httpGet"]["path"] == "/healthz"


def check_settings(objects: list[Object]) -> None:
    known = {f"FLEET_{name.upper()}" for name in Settings.model_fields}
    shared = settings_of(objects)
    own = {entry["name"]: entry.get("value") for c in containers(objects) for entry in c.get("env", ())}
    used = {name for name in (*shared, *own) if name.startswith("FLEET_")}
    assert used <= known
    Settings.model_validate({name.removeprefix("FLEET_").lower(): value for name, value in shared.items()})


def test_settings_exist_and_parse(objects: list[Object]) -> None:
    check_settings(objects)
    for one in workers(objects):
        worker = pod_of(one)["containers"][0]
        entry = next(e for e in worker["env"] if e["name"] == "FLEET_WORKER")
        assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def check_names(objects: list[Object]) -> None:
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "Service")}
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in of_kind(objects, "StatefulSet")]
    for one in of_kind(objects, "StatefulSet"):
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert services[one["spec"]["serviceName"]]["clusterIP"] == "None"
    for selector in [
        *(service["selector"] for service in services.values()),
        *(one["spec"]["selector"]["matchLabels"] for one in of_kind(objects, "PodDisruptionBudget")),
    ]:
        assert any(selector.items() <= labels.items() for labels in pods), f"nothing is selected by {selector}"
    for container in containers(objects):
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        if container["name"] == "worker":
            assert str(ports["http"]) == settings_of(objects)["FLEET_WEB_PORT"]
            host = re.search(r"\)\.([a-z-]+)\.\$", _value(container, "FLEET_WEB_URL") or "")
            assert host is not None
            assert host[1] in services


def test_names_lead_somewhere(objects: list[Object]) -> None:
    check_names(objects)


def test_volumes_are_there(objects: list[Object]) -> None:
    for one in of_kind(objects, "StatefulSet"):
        claims = {claim["metadata"]["name"] for claim in one["spec"]["volumeClaimTemplates"]}
        there = claims | {volume["name"] for volume in pod_of(one).get("volumes", ())}
        for container in pod_of(one)["containers"]:
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts.keys() <= there
            if container["name"] == "worker":
                assert mounts["data"] == settings_of(objects)["FLEET_DATA_DIR"]


def test_grace_is_longer_than_closing_takes(objects: list[Object]) -> None:
    for one in workers(objects):
        assert pod_of(one)["terminationGracePeriodSeconds"] > Settings().close_timeout * 2


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda o: containers(o)[0]["resources"].pop("limits"), check_containers),
        (lambda o: containers(o)[0].pop("readinessProbe"), check_containers),
        (lambda o: containers(o)[0]["securityContext"].update(allowPrivilegeEscalation=True), check_containers),
        (lambda o: settings_of(o).update(FLEET_PARTITION="4"), check_settings),
        (lambda o: settings_of(o).update(FLEET_BUCKETS="99"), check_settings),
        (lambda o: settings_of(o).update(FLEET_WEB_PORT="1"), check_names),
        (lambda o: of_kind(o, "Service")[0]["spec"]["selector"].update(x="y"), check_names),
        (lambda o: o.remove(of_kind(o, "Service")[0]), check_names),
    ],
)
def test_the_checks_can_fail(spoil: Callable[[list[Object]], Any], check: Callable[[list[Object]], None]) -> None:
    objects = copy.deepcopy(render(BASE))
    check(objects)
    spoil(objects)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(objects)


def test_image_is_locked_and_not_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes -r requirements-runtime.lock" in text
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    copied = {name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for name in line.split()}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_both_locks_agree() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE))

    runtime, everything = pins("requirements-runtime.lock"), pins("requirements.lock")
    assert len(runtime) > 20
    assert runtime.items() <= everything.items()


def _value(container: Object, name: str) -> str | None:
    return next((entry.get("value") for entry in container["env"] if entry["name"] == name), None)
