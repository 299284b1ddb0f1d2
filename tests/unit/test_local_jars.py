"""What can be missing before Kafka is on the machine, and what is said then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.local import jars
from app.local.errors import LocalFleetError
from app.local.jars import check_space, class_path, java
from app.local.ports import free_ports


def test_jars_that_are_there_are_not_fetched_again(tmp_path: Path) -> None:
    there = [tmp_path / "kafka-4.1.0", tmp_path / "slf4j-simple-1.7.36"]
    for directory in there:
        directory.mkdir()
    assert class_path(tmp_path).split(os.pathsep) == [f"{directory}/*" for directory in there]


def test_without_a_network_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, nobody)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # else what was fetched before would do
    lib = tmp_path / "lib"
    with pytest.raises(
        LocalFleetError, match=r"could not be fetched \(.*\): check the network .* FLEET_BROKERS=host"
    ) as e:
        class_path(lib)
    assert len(str(e.value)) < 350
    assert [path.name for path in lib.iterdir()] == [".lock"], "half a Kafka would be taken for a whole one"


def test_a_disk_about_to_be_full_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "FREE_BYTES_MIN", 1 << 60)
    with pytest.raises(LocalFleetError, match=r"MiB are free on the disk of .*: make room"):
        check_space(tmp_path)
    with pytest.raises(LocalFleetError, match="make room"):
        class_path(tmp_path / "lib")


def test_java_comes_with_the_packages() -> None:
    assert java().is_file()
