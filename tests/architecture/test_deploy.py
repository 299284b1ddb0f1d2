"""deploy/k8s is valid, complete, and agrees with itself and with the product."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate.utils import ValidationError

from app.catalogue import ROLES, SPLIT
from app.main import make_app
from app.runtime.settings import Settings
from tests.architecture import manifests
from tests.architecture.kustomize import Object, containers, documents, pod_of, render
from tests.architecture.manifests import container_of, of_kind, role_of, shared_settings, workers
from tests.conftest import ROOT

BASE, DEV = ROOT / "deploy/k8s/base", ROOT / "deploy/k8s/overlays/dev"

Check = Callable[[list[Object]], None]


def paths_served() -> set[str]:
    """What a worker's web server answers, asked of the worker itself."""
    app: Any = make_app(Settings())
    return {route.resource.canonical for route in app.web.web_app.router.routes()}


SERVED = paths_served()
check_probes = partial(manifests.check_probes, served=SERVED)
check_scraping = partial(manifests.check_scraping, served=SERVED)

CHECKS: list[Check] = [
    manifests.check_schemas,
    manifests.check_security,
    manifests.check_resources,
    check_probes,
    check_scraping,
    manifests.check_settings,
    manifests.check_selectors,
    manifests.check_services,
    manifests.check_volumes,
    manifests.check_stopping,
    manifests.check_topics_job,
]


def name_of(check: Any) -> str:
    return str(getattr(check, "func", check).__name__)


@pytest.mark.parametrize("directory", [BASE, DEV], ids=["base", "dev"])
@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_it_holds(directory: Path, check: Check) -> None:
    check(render(directory))


def test_base_has_a_workload_for_every_split_role() -> None:
    assert sorted(map(role_of, workers(render(BASE)))) == sorted(SPLIT)


def test_base_has_an_auditor() -> None:
    manifests.check_auditor(render(BASE))


def test_dev_runs_every_agent_in_one_workload_and_brings_its_kafka() -> None:
    objects = render(DEV)
    assert [role_of(worker) for worker in workers(objects)] == ["all"]
    assert set(ROLES["all"]) == {kind for role in SPLIT for kind in ROLES[role]}
    manifests.check_brokers(objects)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed: the renderer stands alone")
@pytest.mark.parametrize("directory", [BASE, DEV], ids=["base", "dev"])
def test_kubectl_renders_the_same(directory: Path) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=True)

    def by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
        return {(one["kind"], one["metadata"]["name"]): one for one in objects}

    assert by_name(list(yaml.safe_load_all(done.stdout))) == by_name(render(directory))


def first(objects: list[Object]) -> Object:
    """The pod template of a worker, to spoil."""
    template: Object = workers(objects)[0]["spec"]["template"]
    return template


def service(objects: list[Object], name: str) -> Object:
    """A Service, to spoil."""
    return next(one for one in of_kind(objects, "Service") if one["metadata"]["name"] == name)


SPOILT: list[tuple[str, Check, Callable[[list[Object]], object]]] = [
    ("audits once", manifests.check_auditor, lambda o: container_of(of_kind(o, "Deployment")[0])["command"].pop(2)),
    ("two auditors", manifests.check_auditor, lambda o: of_kind(o, "Deployment")[0]["spec"].update(replicas=2)),
    (
        "auditor on another port",
        manifests.check_auditor,
        lambda o: container_of(of_kind(o, "Deployment")[0])["ports"][0].update(containerPort=6067),
    ),
    ("misspelt field", manifests.check_schemas, lambda o: workers(o)[0]["spec"].update(replica=2)),
    ("wrong type", manifests.check_schemas, lambda o: workers(o)[0]["spec"].update(replicas="2")),
    ("not core", manifests.check_schemas, lambda o: o[0].update(apiVersion="x.example/v1")),
    ("may be root", manifests.check_security, lambda o: pod_of(workers(o)[0])["securityContext"].pop("runAsNonRoot")),
    ("no seccomp", manifests.check_security, lambda o: pod_of(workers(o)[0])["securityContext"].pop("seccompProfile")),
    ("escalates", manifests.check_security, lambda o: containers(o)[0]["securityContext"].clear()),
    (
        "writable",
        manifests.check_security,
        lambda o: containers(o)[0]["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    ("token", manifests.check_security, lambda o: pod_of(of_kind(o, "Job")[0]).pop("automountServiceAccountToken")),
    ("open namespace", manifests.check_security, lambda o: of_kind(o, "Namespace")[0]["metadata"]["labels"].clear()),
    ("no limits", manifests.check_resources, lambda o: containers(o)[0]["resources"].pop("limits")),
    ("no cpu", manifests.check_resources, lambda o: containers(o)[-1]["resources"]["requests"].pop("cpu")),
    (
        "cache too large",
        manifests.check_resources,
        lambda o: shared_settings(o).update(FLEET_ROCKSDB_CACHE_BYTES="1073741824"),
    ),
    ("no readiness", check_probes, lambda o: container_of(workers(o)[0])["readinessProbe"].clear()),
    (
        "killed without brokers",
        check_probes,
        lambda o: container_of(workers(o)[0])["livenessProbe"]["httpGet"].update(path="/readyz"),
    ),
    ("hurried start", check_probes, lambda o: container_of(workers(o)[0])["startupProbe"].update(failureThreshold=3)),
    ("probe port", check_probes, lambda o: container_of(workers(o)[0])["ports"][0].update(name="web")),
    (
        "unserved metrics",
        check_scraping,
        lambda o: first(o)["metadata"]["annotations"].update({"prometheus.io/path": "/m"}),
    ),
    ("scraped elsewhere", check_scraping, lambda o: shared_settings(o).update(FLEET_WEB_PORT="6067")),
    ("misspelt setting", manifests.check_settings, lambda o: shared_settings(o).update(FLEET_PARTITION="4")),
    ("too many buckets", manifests.check_settings, lambda o: shared_settings(o).update(FLEET_BUCKETS="99")),
    ("idle replicas", manifests.check_settings, lambda o: workers(o)[0]["spec"].update(replicas=99)),
    ("other role", manifests.check_settings, lambda o: first(o)["metadata"]["labels"].update({"eventfleet/role": "x"})),
    ("worker unnamed", manifests.check_settings, lambda o: first(o)["spec"]["containers"][0]["env"].pop(1)),
    ("expanded too late", manifests.check_settings, lambda o: first(o)["spec"]["containers"][0]["env"].reverse()),
    (
        "selects nothing",
        manifests.check_selectors,
        lambda o: service(o, "eventfleet-api")["spec"]["selector"].update(x="y"),
    ),
    ("unguarded", manifests.check_selectors, lambda o: o.remove(of_kind(o, "PodDisruptionBudget")[0])),
    (
        "selects others' pods",
        manifests.check_selectors,
        lambda o: workers(o)[0]["spec"]["selector"]["matchLabels"].pop("eventfleet/role"),
    ),
    ("no headless", manifests.check_services, lambda o: o.remove(service(o, "eventfleet-workers"))),
    (
        "only ready peers",
        manifests.check_services,
        lambda o: service(o, "eventfleet-workers")["spec"].pop("publishNotReadyAddresses"),
    ),
    (
        "target port",
        manifests.check_services,
        lambda o: service(o, "eventfleet-workers")["spec"]["ports"][0].update(targetPort="web"),
    ),
    ("other port", manifests.check_services, lambda o: shared_settings(o).update(FLEET_WEB_PORT="6067")),
    ("data elsewhere", manifests.check_volumes, lambda o: shared_settings(o).update(FLEET_DATA_DIR="/var/data")),
    ("no volume", manifests.check_volumes, lambda o: pod_of(workers(o)[0])["volumes"].clear()),
    ("no claim", manifests.check_volumes, lambda o: workers(o)[0]["spec"]["volumeClaimTemplates"].clear()),
    ("slow close", manifests.check_stopping, lambda o: shared_settings(o).update(FLEET_CLOSE_TIMEOUT="30")),
    (
        "other image",
        manifests.check_topics_job,
        lambda o: pod_of(of_kind(o, "Job")[0])["containers"][0].update(image="eventfleet:0"),
    ),
    ("other brokers", manifests.check_brokers, lambda o: shared_settings(o).update(FLEET_BROKERS="kafka:9999")),
]


@pytest.mark.parametrize(("check", "spoil"), [case[1:] for case in SPOILT], ids=[case[0] for case in SPOILT])
def test_the_check_can_fail(check: Check, spoil: Callable[[list[Object]], object]) -> None:
    directory = DEV if check is manifests.check_brokers else BASE
    objects = render(directory)
    check(objects)
    spoil(objects)
    with pytest.raises((AssertionError, LookupError, ValueError, ValidationError)):
        check(objects)


def test_every_check_is_seen_to_fail() -> None:
    assert {name_of(check) for _, check, _ in SPOILT} >= set(map(name_of, CHECKS))


def test_the_renderer_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("namePrefix: x-\n")
    with pytest.raises(NotImplementedError, match="namePrefix"):
        render(tmp_path)


def test_the_renderer_refuses_a_patch_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [a.yaml]\npatches: [{path: b.yaml}]\n")
    (tmp_path / "a.yaml").write_text("{kind: Service, metadata: {name: a}}")
    (tmp_path / "b.yaml").write_text("{kind: Service, metadata: {name: b}}")
    with pytest.raises(LookupError, match="nothing to patch"):
        render(tmp_path)


def test_anchors_are_written_out(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{a: &x {b: 1}, c: *x}")
    (one,) = documents(tmp_path / "a.yaml")
    one["a"]["b"] = 2
    assert one["c"] == {"b": 1}
