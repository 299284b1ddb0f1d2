"""The fleet's settings, from the environment: every name begins with FLEET_."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.kernel.errors import ConfigurationRefused

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Settings(BaseSettings):
    """One worker's settings. Times are in seconds where the name does not say milliseconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="FLEET_", extra="ignore", frozen=True, use_attribute_docstrings=True)

    brokers: str = "127.0.0.1:29092"
    """Kafka bootstrap servers, host:port, separated by commas."""
    role: Name = "all"
    """Which agents this worker runs together: a role of the catalogue."""
    worker: str = Field(default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    """The worker's stable name: its static membership in the group and the owner of its data directory."""
    topic_prefix: str = Field(default="", pattern=r"^[a-z0-9._-]{0,32}$")
    """Put before every topic, group and transactional id: lets several fleets share one Kafka."""
    partitions: int = Field(default=4, ge=1, le=1024)
    """Partitions of every topic that is keyed by aggregate. Fixed for the life of the data."""
    replication: int = Field(default=1, ge=1, le=7)
    """Replication factor of the topics that the fleet makes; from three on, a majority must have each record."""
    buckets: int = Field(default=2, ge=1, le=1024)
    """Pipelines a role is divided into, and so the most workers it can use. Change it only with the role stopped."""
    standbys: int = Field(default=1, ge=0, le=8)
    """How many other workers of the role keep each bucket's rows warm, to take over at once and to answer meanwhile."""
    data_dir: Path = Path(".fleet/data")
    """Where this worker keeps its RocksDB stores: its own directory, shared with no other process."""

    adopt: str = Field(default="", max_length=4_096)
    """Transactional ids, separated by commas, whose state this worker takes over: after regrouping roles only."""
    accept_loss: str = Field(default="", max_length=4_096)
    """Topics, separated by commas: go on without records that were deleted unhandled, or as a refusal says."""

    web_host: str = "127.0.0.1"
    """Address that the views listen on."""
    web_port: int = Field(default=6066, ge=0, le=65535)
    """Port that the views listen on."""
    web_url: str = ""
    """How other workers reach this one; by default made of web_host and web_port."""
    outcome_wait_ms: int = Field(default=5_000, ge=0, le=60_000)
    """How long a command over HTTP waits for its outcome before 202 is answered."""

    bus: Literal["memory", "redis", "kafka"] = "kafka"
    """What carries notifications between workers: memory is for a single worker, redis needs a Redis."""
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", pattern=r"^(rediss?|unix)://")
    """The Redis of FLEET_BUS=redis."""
    requests_max: int = Field(default=256, ge=1, le=100_000)
    """Most requests that a worker has under way at a time; it answers 503 to what is more."""
    live_clients_max: int = Field(default=100, ge=0, le=10_000)
    """Most clients of a worker's live feed at a time; then 503."""

    session_timeout: float = Field(default=6.0, ge=1.0, le=300.0)
    """A worker that is not heard of for so long loses its buckets to others."""
    heartbeat_interval: float = Field(default=1.0, ge=0.1, le=60.0)
    """How often a worker tells the group that it lives: at most a third of the session time-out."""
    request_timeout: float = Field(default=0.0, ge=0.0, le=300.0)
    """Deadline of the consumer's requests, not below the session time-out; by default half a second above it."""
    static_membership: bool = True
    """Whether a restart within the session time-out keeps its buckets without a rebalance."""
    leave_on_stop: bool = True
    """Whether a worker that stops hands its buckets over at once, or keeps them for its restart until the time-out."""
    transaction_timeout_ms: int = Field(default=15_000, ge=1_000, le=900_000)
    """The broker aborts a transaction that is open for longer, so that a hung worker does not hold up readers."""
    open_timeout: float = Field(default=300.0, ge=1.0)
    """Deadline of opening a pipeline, restore included; then it is tried again."""
    round_timeout: float = Field(default=30.0, ge=1.0)
    """Deadline of one round; then the pipeline starts over."""
    close_timeout: float = Field(default=8.0, ge=0.5)
    """Deadline of closing all pipelines when the worker stops."""
    backoff_max: float = Field(default=3.0, ge=0.1)
    """Longest pause before a failed pipeline opens again."""

    poll_records_max: int = Field(default=16_000, ge=1, le=1_000_000)
    """Most records that one fetch hands over, of all partitions together."""
    fetch_partition_bytes_max: int = Field(default=1 << 20, ge=1 << 10)
    """Most bytes that one fetch takes from one partition."""
    buffered_batches_max: int = Field(default=4, ge=1, le=64)
    """Fetched batches that wait per partition; a full buffer pauses the partition."""
    rounds_per_s_max: float = Field(default=50.0, gt=0)
    """Most transactions a second and pipeline: rounds, not events, are the cost at a low load."""
    settle_ms: float = Field(default=1.5, ge=0, le=100)
    """How long a round waits for the other partitions of the same fetch, so that they share its transaction."""
    round_records_enough: int = Field(default=4_000, ge=1)
    """A round starts at once when this many records wait."""
    pace_ms: int = Field(default=20, ge=0, le=1_000)
    """How long the broker may hold a fetch back while records flow; 0 switches the pacing off."""
    pace_records_per_s_min: float = Field(default=75.0, ge=0)
    """Below this rate fetches are answered at once."""
    catch_up_records: int = Field(default=10_000, ge=1)
    """An agent further behind than this reads with a consumer of its own until it is near."""
    gap_patience: float = Field(default=2.0, gt=0)
    """An event that waits for a predecessor for so long gets it from the event store, if that has it."""
    group_offsets_interval: float = Field(default=5.0, gt=0)
    """How often source positions are committed to the consumer group, for lag tools only."""

    rocksdb_cache_bytes: int = Field(default=32 << 20, ge=1 << 20)
    """One block cache for all stores of the process."""
    rocksdb_write_buffer_bytes: int = Field(default=64 << 20, ge=1 << 20)
    """One budget of memtables for all stores of the process."""
    open_files_max: int = Field(default=4_096, ge=64)
    """Files that all stores of the process may hold open together."""

    outcome_retention: float = Field(default=7 * 86_400.0, ge=60.0)
    """How long a command's id and outcome are remembered."""

    chain_stuck_after: float = Field(default=3_600.0, gt=0)
    """A chain's instance that has waited for the same for longer counts as stuck."""

    @field_validator("brokers")
    @classmethod
    def _brokers_are_host_and_port(cls, brokers: str) -> str:
        for broker in brokers.split(","):
            host, _, port = broker.strip().rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(
                    f"{broker!r} is no host:port; write for example FLEET_BROKERS=kafka-1:9092,kafka-2:9092"
                )
        return brokers

    @model_validator(mode="after")
    def _buckets_fit_partitions(self) -> Settings:
        if self.buckets > self.partitions:
            raise ValueError(f"FLEET_BUCKETS={self.buckets} is more than FLEET_PARTITIONS={self.partitions}")
        if self.heartbeat_interval * 3 > self.session_timeout:
            raise ValueError("FLEET_SESSION_TIMEOUT must be at least three times FLEET_HEARTBEAT_INTERVAL")
        if self.request_timeout and self.request_timeout < self.session_timeout:
            raise ValueError("FLEET_REQUEST_TIMEOUT must not be below FLEET_SESSION_TIMEOUT")
        return self

    @property
    def adopted_ids(self) -> frozenset[str]:
        """`adopt`, taken apart."""
        return frozenset(filter(None, self.adopt.split(",")))

    @property
    def loss_accepted(self) -> frozenset[str]:
        """`accept_loss`, taken apart."""
        return frozenset(filter(None, self.accept_loss.split(",")))

    @property
    def request_timeout_s(self) -> float:
        """`request_timeout`, or what it is by default: a hung broker holds requests up for no longer than it must."""
        return self.request_timeout or self.session_timeout + 0.5

    @property
    def url(self) -> str:
        """Where other workers reach this one's views."""
        return self.web_url or f"http://{self.web_host}:{self.web_port}"

    @property
    def group(self) -> str:
        """The role's consumer group."""
        return f"{self.topic_prefix}eventfleet-{self.role}"

    def transactional_id(self, bucket: int) -> str:
        """The transactional id of one bucket of the role: what fences its older owners."""
        return f"{self.group}-{bucket}"


class Described(NamedTuple):
    """One setting, for people."""

    variable: str
    default: str
    meaning: str


def describe_settings() -> list[Described]:
    """Every setting, in the order in which they are declared."""
    described = []
    for name, field in Settings.model_fields.items():
        default = "the host name" if field.default_factory else "" if field.default == "" else str(field.default)
        described.append(Described(f"FLEET_{name.upper()}", default, " ".join((field.description or "").split())))
    return described


def load_settings() -> Settings:
    """The settings of this process, or `ConfigurationRefused` that names each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"FLEET_{'_'.join(map(str, e['loc'])).upper() or '*'}: {e['msg']}" for e in error.errors()]
        raise ConfigurationRefused("; ".join(lines)) from error
