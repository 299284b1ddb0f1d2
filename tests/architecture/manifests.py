"""What must hold among the objects of deploy/k8s. Every check raises when it does not, and a test spoils each once."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from kubernetes_validate.utils import validate

from app.runtime.settings import Settings
from tests.architecture.kustomize import Object, containers, pod_of

KUBERNETES = "1.33"
CORE_APIS = {"v1", "apps/v1", "batch/v1", "policy/v1"}
INTERPRETER_BYTES = 256 << 20
"""What a worker takes besides RocksDB's budgets: less than 200 MB at a backlog's full speed, and room."""

SERVING = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """The objects of some kinds."""
    return [one for one in objects if one["kind"] in kinds]


def workers(objects: list[Object]) -> list[Object]:
    """The workloads that run a role."""
    return [one for one in of_kind(objects, "StatefulSet") if "eventfleet/role" in one["metadata"]["labels"]]


def role_of(worker: Object) -> str:
    """The role that a workload runs."""
    return str(worker["metadata"]["labels"]["eventfleet/role"])


def container_of(worker: Object) -> Object:
    """The one container of a worker's pod."""
    (container,) = pod_of(worker)["containers"]
    return dict(container)


def shared_settings(objects: list[Object]) -> dict[str, str]:
    """The ConfigMap that every worker reads."""
    (found,) = of_kind(objects, "ConfigMap")
    data: dict[str, str] = found["data"]
    return data


def environment(objects: list[Object], workload: Object) -> dict[str, str]:
    """The variables of a workload's first pod, as Kubernetes makes them: shared, own, of the pod, and expanded."""
    template = workload["spec"]["template"]
    pod = {"metadata.name": f"{workload['metadata']['name']}-0"}
    pod |= {f"metadata.labels['{name}']": value for name, value in template["metadata"]["labels"].items()}
    (container,) = template["spec"]["containers"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        (config,) = [
            o for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"] == source["configMapRef"]["name"]
        ]
        found |= config["data"]
    for entry in container.get("env", ()):
        value = entry["value"] if "value" in entry else pod[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        # Only variables that stand before are expanded: a later one stays as it is written.
        found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found.get(name[1], name[0]), value)
    return found


def settings_of(objects: list[Object], workload: Object) -> Settings:
    """The settings that a workload's first pod starts with."""
    ours = {n: v for n, v in environment(objects, workload).items() if n.startswith("FLEET_")}
    unknown = ours.keys() - {f"FLEET_{name.upper()}" for name in Settings.model_fields}
    assert not unknown, f"no such settings: {sorted(unknown)}"
    return Settings.model_validate({name.removeprefix("FLEET_").lower(): value for name, value in ours.items()})


def check_schemas(objects: list[Object]) -> None:
    """Every object is one that Kubernetes takes, without a field that it would drop."""
    for one in objects:
        assert one["apiVersion"] in CORE_APIS, f"{one['kind']} is no core API"
        validate(one, KUBERNETES, strict=True)


def check_security(objects: list[Object]) -> None:
    """Every pod keeps the restricted standard that its namespace enforces, and ours is read-only besides."""
    (namespace,) = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for one in filter(pod_of, objects):
        pod = pod_of(one)
        assert one["metadata"]["namespace"] == namespace["metadata"]["name"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            if container["image"].startswith("eventfleet:"):
                assert context["readOnlyRootFilesystem"] is True


def check_resources(objects: list[Object]) -> None:
    """Every container asks for and is limited in what it needs; a worker has memory for RocksDB's budgets."""
    for container in containers(objects):
        asked, limit = container["resources"]["requests"], container["resources"]["limits"]
        assert {"cpu", "memory"} <= asked.keys() & limit.keys()
        assert size_of(asked["memory"]) <= size_of(limit["memory"])
    for worker in workers(objects):
        settings = settings_of(objects, worker)
        needed = settings.rocksdb_cache_bytes + settings.rocksdb_write_buffer_bytes + INTERPRETER_BYTES
        assert size_of(container_of(worker)["resources"]["requests"]["memory"]) >= needed


def check_probes(objects: list[Object], served: Collection[str]) -> None:
    """Probes ask paths that workers serve, and only readiness asks one that fails without brokers."""
    for container in (c for one in of_kind(objects, "StatefulSet") for c in pod_of(one)["containers"]):
        assert SERVING.keys() <= container.keys()
    for worker in workers(objects):
        container = container_of(worker)
        assert set(SERVING.values()) <= set(served)
        assert {name: container[name]["httpGet"]["path"] for name in SERVING} == SERVING
        ports = {port["name"] for port in container["ports"]}
        assert {container[name]["httpGet"]["port"] for name in SERVING} <= ports
        start = container["startupProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] >= 60, "importing takes seconds on a busy node"


def check_scraping(objects: list[Object], served: Collection[str]) -> None:
    """Prometheus is told a path and a port that workers serve."""
    for worker in workers(objects):
        told = worker["spec"]["template"]["metadata"]["annotations"]
        assert told["prometheus.io/scrape"] == "true"
        assert told["prometheus.io/path"] in served
        assert int(told["prometheus.io/port"]) == settings_of(objects, worker).web_port


def check_settings(objects: list[Object]) -> None:
    """The settings exist, parse, and say who and where the pod is."""
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "Service")}
    for worker in workers(objects):
        settings, pod = settings_of(objects, worker), f"{worker['metadata']['name']}-0"
        assert settings.role == role_of(worker)
        assert settings.worker == pod, "the membership must be as stable as the volume"
        assert settings.web_host == "0.0.0.0"
        url = urlsplit(settings.url)
        service = (url.hostname or "").removeprefix(f"{pod}.")
        assert service == worker["spec"]["serviceName"]
        assert url.port in {port["port"] for port in services[service]["ports"]}
        assert worker["spec"]["replicas"] <= settings.buckets, "further workers would only stand by"


def check_selectors(objects: list[Object]) -> None:
    """Whatever selects pods selects some, and a workload its own alone."""
    pods = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in of_kind(objects, "StatefulSet")
    }
    for one in of_kind(objects, "StatefulSet"):
        selector = one["spec"]["selector"]["matchLabels"]
        assert [name for name, labels in pods.items() if selector.items() <= labels.items()] == [
            one["metadata"]["name"]
        ]
    for one in of_kind(objects, "Service", "PodDisruptionBudget"):
        selector = one["spec"]["selector"].get("matchLabels", one["spec"]["selector"])
        assert any(selector.items() <= labels.items() for labels in pods.values()), f"nothing is selected by {selector}"
    guarded = [o["spec"]["selector"]["matchLabels"]["eventfleet/role"] for o in of_kind(objects, "PodDisruptionBudget")]
    assert sorted(guarded) == sorted(map(role_of, workers(objects)))


def check_services(objects: list[Object]) -> None:
    """Peers find each other before they are ready, customers only whom is ready, and each Service a port."""
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "Service")}
    for one in of_kind(objects, "StatefulSet"):
        headless = services[one["spec"]["serviceName"]]
        assert headless["clusterIP"] == "None"
        assert headless["publishNotReadyAddresses"] is True
        named = {port["name"] for container in pod_of(one)["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in headless["ports"]} <= named
    for worker in workers(objects):
        (port,) = container_of(worker)["ports"]
        assert port["containerPort"] == settings_of(objects, worker).web_port
        labels = worker["spec"]["template"]["metadata"]["labels"]
        assert services["eventfleet-api"]["selector"].items() <= labels.items(), "any worker answers any key"
    assert not services["eventfleet-api"].get("publishNotReadyAddresses", False)


def check_volumes(objects: list[Object]) -> None:
    """What is mounted is there, and the data directory outlives the pod."""
    for one in filter(pod_of, objects):
        claims = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())}
        there = claims | {volume["name"] for volume in pod_of(one).get("volumes", ())}
        for container in pod_of(one)["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= there
    for worker in workers(objects):
        mounts = {mount["mountPath"]: mount["name"] for mount in container_of(worker)["volumeMounts"]}
        claims = {claim["metadata"]["name"] for claim in worker["spec"]["volumeClaimTemplates"]}
        assert mounts[str(settings_of(objects, worker).data_dir)] in claims
        assert "/tmp" in mounts


def check_stopping(objects: list[Object]) -> None:
    """A worker has time to close its pipelines, and then some to leave the group."""
    for worker in workers(objects):
        pause_s = int(container_of(worker)["lifecycle"]["preStop"]["exec"]["command"][-1])
        needed_s = pause_s + 2 * settings_of(objects, worker).close_timeout
        assert pod_of(worker)["terminationGracePeriodSeconds"] >= needed_s


def check_topics_job(objects: list[Object]) -> None:
    """One Job makes the topics, with the workers' own settings and image, and tries again while brokers are away."""
    (job,) = of_kind(objects, "Job")
    container = container_of(job)
    assert container["command"] == ["fleet", "topics"]
    assert {container["image"]} == {container_of(worker)["image"] for worker in workers(objects)}
    assert pod_of(job)["restartPolicy"] == "OnFailure"
    for worker in workers(objects):
        mine, theirs = settings_of(objects, job), settings_of(objects, worker)
        for name in ("brokers", "partitions", "replication", "topic_prefix"):
            assert getattr(mine, name) == getattr(theirs, name)


def check_auditor(objects: list[Object]) -> None:
    """One process audits, with the workers' image and settings; it is probed and scraped where it serves."""
    (auditor,) = of_kind(objects, "Deployment")
    container, (worker, *_) = container_of(auditor), workers(objects)
    assert container["command"][:3] == ["fleet", "audit", "--follow"]
    options = dict(zip(container["command"][3::2], container["command"][4::2], strict=True))
    (port,) = container["ports"]
    told = auditor["spec"]["template"]["metadata"]["annotations"]
    assert options["--port"] == str(port["containerPort"]) == told["prometheus.io/port"]
    assert (told["prometheus.io/scrape"], told["prometheus.io/path"]) == ("true", "/metrics")
    assert {name: container[name]["httpGet"]["path"] for name in SERVING} == SERVING
    assert container["image"] == container_of(worker)["image"]
    mine, theirs = settings_of(objects, auditor), settings_of(objects, worker)
    assert (mine.brokers, mine.topic_prefix, mine.web_host) == (theirs.brokers, theirs.topic_prefix, "0.0.0.0")
    assert auditor["spec"]["replicas"] == 1
    labels = auditor["spec"]["template"]["metadata"]["labels"]
    for service in of_kind(objects, "Service"):
        assert not service["spec"]["selector"].items() <= labels.items(), "it answers no customers"


def check_brokers(objects: list[Object]) -> None:
    """The brokers that the settings name are Services of these objects: so only where Kafka comes with them."""
    ports = {one["metadata"]["name"]: {p["port"] for p in one["spec"]["ports"]} for one in of_kind(objects, "Service")}
    for broker in shared_settings(objects)["FLEET_BROKERS"].split(","):
        host, _, port = broker.partition(":")
        assert int(port) in ports[host]


def size_of(quantity: str) -> int:
    """Bytes of a Kubernetes quantity such as 384Mi."""
    return int(quantity[:-2]) * UNITS[quantity[-2:]]
