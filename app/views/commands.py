"""Commands over HTTP: `POST /commands/{type}` waits for the outcome, `GET /commands/{id}` looks it up."""

from __future__ import annotations

import asyncio
import re
import uuid
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from app.kernel import Command, Envelope, Outcome, stream_id_of
from app.kernel.envelope import VERSION_CONFLICT
from app.kernel.errors import BrokerUnavailable, StoreFailed
from app.runtime.codec import COMMAND_ID_CHARS_MAX, NOT_JSON, Codec, utc_now
from app.runtime.kafka.sender import RecordSender
from app.runtime.ports import TopicPartition
from app.runtime.shard import Shard
from app.views.admission import Admission
from app.views.bodies import check_json
from app.views.commits import Commits
from app.views.operations import QUERY_PROBLEMS, Answer, Operation, serve
from app.views.parameters import CommandLine, CommandLookup, id_in, parse
from app.views.places import Places, store_of
from app.views.problems import Problem, answer, not_ready
from app.views.served import ServedAggregate
from tables.outcomes import OUTCOMES

SOURCE = "/eventfleet/http"
COMMAND_ID = re.compile(rf"[!-~]{{1,{COMMAND_ID_CHARS_MAX}}}")
SEND_TIMEOUT_S_MIN = 1.0


class DecidedAnswer(msgspec.Struct):
    """What a command has led to."""

    command_id: str
    stream_id: str
    version: int
    events: tuple[str, ...]


class TakenAnswer(msgspec.Struct):
    """Where to ask for the outcome."""

    command_id: str
    status: str


class CommandViews:
    """The command side. One per worker; used in the web thread."""

    def __init__(
        self, places: Places, commits: Commits, admission: Admission, aggregates: tuple[ServedAggregate, ...]
    ) -> None:
        self._places = places
        self._commits = commits
        self._admission = admission
        self._aggregates = aggregates
        self._by_name = {kind.__name__: (one, kind) for one in aggregates for kind in one.aggregate.commands}
        self._codec = Codec.of_commands(*(one.aggregate for one in aggregates))
        settings = places.app.fleet_settings
        self._wait_s = settings.outcome_wait_ms / 1000
        self._sender: RecordSender | None = None

    def add_to(self, web_app: web.Application) -> None:
        """Add the routes."""
        each = [_operation(kind) for _, kind in self._by_name.values()]
        serve(web_app, Operation("POST", "/commands/{type}", "Send a command", {}), self.post, each)
        told = Operation(
            "GET",
            "/commands/{id}",
            "A command's outcome",
            {200: Answer("What became of the command.", Outcome)},
            tag="commands",
            query=CommandLookup,
            problems=(404, *QUERY_PROBLEMS),
        )
        serve(web_app, told, self.get)
        web_app.on_cleanup.append(self._close)

    async def post(self, request: web.Request) -> web.Response:
        """Send a command and answer with what became of it."""
        served, command = await self._command(request)
        command_id = request.headers.get("Idempotency-Key", str(uuid.uuid4()))
        if COMMAND_ID.fullmatch(command_id) is None:
            raise Problem(
                422,
                "invalid_command_id",
                f"Idempotency-Key has 1 to {COMMAND_ID_CHARS_MAX} characters, ! to ~ in ASCII",
            )
        expected = parse(request, CommandLine).expected_version
        stream_id = stream_id_of(command)
        partition = self._places.partition(stream_id)
        shard = self._places.here(served.deciding, partition)
        if shard is None:
            told = {"Idempotency-Key": command_id}
            return await self._places.forward(request, served.deciding, partition, told)
        envelope = Envelope(command_id, stream_id, utc_now(), command, expected)
        outcome = await self._outcome(served, shard, envelope)
        return _decided(command_id, stream_id, outcome, command)

    async def _command(self, request: web.Request) -> tuple[ServedAggregate, Command]:
        name = request.match_info["type"]
        if name not in self._by_name:
            raise Problem(404, "unknown_command", f"There is no command {name}; there are {', '.join(self._by_name)}")
        served, kind = self._by_name[name]
        try:
            raw = await request.read()
            check_json(raw)
            return served, msgspec.json.decode(raw, type=kind)
        except NOT_JSON as error:
            raise Problem(422, "invalid_command", str(error)) from error

    async def _outcome(self, served: ServedAggregate, shard: Shard, envelope: Envelope[Any]) -> Outcome | None:
        """The outcome, or `None` where it does not come within the limit, or comes elsewhere.

        A repeated id is answered from the table.
        """
        key = OUTCOMES.prefix + envelope.id.encode()
        with self._commits.watch(served.deciding, key) as changed:
            outcome = _read(shard, key)
            if outcome is None:
                await self._send(served, shard, envelope)
                with suppress(TimeoutError, Problem):  # it is sent: where its row has just moved, the status URL tells
                    async with asyncio.timeout(self._wait_s):
                        await changed.wait()
                    outcome = _read(shard, key)
        return outcome

    async def _send(self, served: ServedAggregate, shard: Shard, envelope: Envelope[Any]) -> None:
        settings = self._places.app.fleet_settings
        if self._sender is None:
            self._sender = RecordSender(settings.brokers, timeout_s=max(self._wait_s, SEND_TIMEOUT_S_MIN))
        topic = self._places.app.fleet_topics.commands(served.aggregate.category)
        self._admission.check_backlog(TopicPartition(topic, shard.partition))
        value = self._codec.encode(envelope, SOURCE)
        try:
            await self._sender.send(TopicPartition(topic, shard.partition), envelope.stream_id.encode(), value)
        except BrokerUnavailable as error:
            raise not_ready(
                f"{error}. It may still arrive: try again with the header Idempotency-Key: {envelope.id}"
            ) from error

    async def get(self, request: web.Request) -> web.Response:
        """A command's outcome: 404 while there is none."""
        lookup = parse(request, CommandLookup)
        command_id = id_in(request)
        unreachable = 0
        for served in self._aggregates:
            for partition in self._wanted(lookup):
                try:
                    found = await self._look(request, served, partition, command_id, here=lookup.here)
                except Problem as problem:
                    if problem.status != 503:
                        raise
                    unreachable += 1
                    continue
                if found is not None:
                    return found
        if unreachable:
            raise not_ready("some partitions cannot be asked now, and the others do not know the command")
        raise Problem(404, "unknown_command_id", f"No outcome of {command_id[:COMMAND_ID_CHARS_MAX]} is known (yet)")

    def _wanted(self, lookup: CommandLookup) -> list[int]:
        if lookup.key is not None:
            return [self._places.partition(lookup.key)]
        return list(range(self._places.partitions))

    async def _look(
        self, request: web.Request, served: ServedAggregate, partition: int, command_id: str, *, here: bool
    ) -> web.Response | None:
        shard = self._places.here(served.deciding, partition)
        if shard is not None:
            outcome = _read(shard, OUTCOMES.prefix + command_id.encode())
            return None if outcome is None else answer(outcome)
        if here:
            return None
        entry = self._places.owner(request, served.deciding, partition)
        path = f"/commands/{quote(command_id, safe='')}?here=true"
        status, body, headers = await self._places.ask(entry, "GET", path)
        return web.Response(status=status, body=body, headers=headers) if status == 200 else None

    async def _close(self, _: web.Application) -> None:
        if self._sender is not None:
            await self._sender.close()


def _operation(kind: type[Command]) -> Operation:
    """How one command is described."""
    told = ["ETag", "Location"]
    return Operation(
        "POST",
        f"/commands/{kind.__name__}",
        " ".join((kind.__doc__ or kind.__name__).split()),
        {
            200: Answer("It is done, or was done before: the version after it, and the events.", DecidedAnswer, told),
            201: Answer("It is done, and has begun the stream.", DecidedAnswer, told),
            202: Answer("Taken, but not decided within the wait: ask the status URL.", TakenAnswer, ["Location"]),
        },
        tag="commands",
        query=CommandLine,
        headers=["Idempotency-Key"],
        body=kind,
        problems=(409, 413, 422, 503),
    )


def _read(shard: Shard, key: bytes) -> Outcome | None:
    """The outcome, if it is there; 503 where the row moves, or has just been let go of."""
    try:
        raw = store_of(shard).get(key)
    except StoreFailed as error:
        raise not_ready(f"rows are moving: {error}") from error
    return None if raw is None else OUTCOMES.decode(raw)


def _decided(command_id: str, stream_id: str, outcome: Outcome | None, command: Command) -> web.Response:
    status_url = f"/commands/{quote(command_id, safe='')}?key={quote(stream_id, safe='')}"
    if outcome is None:
        return answer(TakenAnswer(command_id, status_url), status=202, headers={"Location": status_url})
    if outcome.stream_id != stream_id or outcome.command != type(command).wire_name:
        raise Problem(
            422, "command_id_reused", f"{command_id} was the id of {outcome.command} for {outcome.stream_id} before"
        )
    if outcome.rejected is not None:
        type_ = VERSION_CONFLICT if outcome.rejected.reason == VERSION_CONFLICT else "rejected"
        raise Problem(
            409,
            type_,
            outcome.rejected.message,
            reason=outcome.rejected.reason,
            command_id=command_id,
            version=outcome.version,
        )
    created = outcome.version == len(outcome.events) and bool(outcome.events)
    body = DecidedAnswer(command_id, stream_id, outcome.version, outcome.events)
    return answer(
        body, status=201 if created else 200, headers={"Location": status_url, "ETag": f'"{outcome.version}"'}
    )
