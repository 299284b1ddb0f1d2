"""Building a read model anew beside the old one: begin, wait, compare, change over, clean up.

Each step is a row in `fleet.projections`, which every worker follows. So a command that dies is simply given again, and
workers that die go on where they were; until the change-over the old generation is read, whatever happens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec

from agents.projecting import agents_of_generation, projecting_name
from app.catalogue import CATALOGUE, Catalogue
from app.kernel.errors import FleetError
from app.runtime.directory import Directory
from app.runtime.generations import Generations, Standing, encode_standing
from app.runtime.kafka.admin import delete_topics, ensure_topics
from app.runtime.kafka.cluster import KafkaCluster
from app.runtime.kafka.sender import RecordSender
from app.runtime.ports import TopicPartition
from app.runtime.settings import Settings
from app.runtime.topics import Topics
from app.views.generations import Difference, DifferencesAnswer, ReadModelAnswer

LOOK_EVERY_S = 0.5
STALLED_S = 120.0
"""Without any progress for so long the command gives up waiting; the building goes on."""
NEAR_RECORDS = 200
"""A generation that is no further behind is compared: rows on their way are waited for, one by one."""
WORKERS_TIMEOUT_S = 20.0
HTTP_TIMEOUT_S = 15.0
TRIES_MAX = 20
SHOWN_MAX = 200

Say = Callable[[str], None]


class RebuildRefused(FleetError):
    """The read model was not changed over, or not even built. The text says why, and what to do."""


@dataclass
class Compared:
    """What a comparison came to. `parked` are keys that the new generation could not handle."""

    rows: int = 0
    different: int = 0
    parked: int = 0
    examples: list[Difference] = field(default_factory=list)

    @property
    def agree(self) -> bool:
        """Whether readers would notice nothing."""
        return not self.different and not self.parked


class Fleet:
    """The fleet as a command sees it: its control topic, and its workers over HTTP."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession, catalogue: Catalogue = CATALOGUE) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self._topics = Topics(settings.topic_prefix)
        self._cluster = KafkaCluster(settings.brokers)
        self._session = session

    async def standing(self, name: str) -> Standing:
        """How a read model stands by the topic."""
        generations = Generations(self._topics)
        await generations.load(self._cluster)
        return generations.of(name)

    async def stand(self, name: str, standing: Standing) -> None:
        """Let it stand otherwise from now on."""
        sender = RecordSender(self.settings.brokers)
        try:
            changed = msgspec.structs.replace(standing, since=datetime.now(UTC))
            await sender.send(TopicPartition(self._topics.projections, 0), name.encode(), encode_standing(changed))
        finally:
            await sender.close()

    async def make_topics(self, name: str, generation: int) -> None:
        """Make what a generation has for itself."""
        s, topics = self.settings, self.catalogue.topics_of_generation(self.settings, name, generation)
        await ensure_topics(s.brokers, topics, s.partitions, s.replication)

    async def delete_topics(self, name: str, generation: int) -> None:
        """Delete what a generation has had for itself."""
        topics = self.catalogue.topics_of_generation(self.settings, name, generation)
        await delete_topics(self.settings.brokers, [topic.name for topic in topics])

    async def urls(self) -> list[str]:
        """Every worker that serves something, as the directory knows them."""
        return sorted({entry.url for entry in (await self._directory()).entries()})

    async def workers(self, name: str) -> list[ReadModelAnswer]:
        """What every worker that answers has of a read model."""
        asked = (self._get(f"{url}/projections/{name}") for url in await self.urls())
        answers = await asyncio.gather(*asked)
        return [msgspec.json.decode(body, type=ReadModelAnswer) for status, body in answers if status == 200]

    async def page(self, name: str, partition: int, agent: str, after: str | None) -> DifferencesAnswer:
        """A page of what differs in a partition, from whoever has it."""
        query = f"partition={partition}" + ("" if after is None else f"&after={after}")
        for _ in range(TRIES_MAX):
            owner = (await self._directory()).owner(agent, partition)
            if owner is not None:
                status, body = await self._get(f"{owner.url}/projections/{name}/differences?{query}")
                if status == 200:
                    return msgspec.json.decode(body, type=DifferencesAnswer)
            await asyncio.sleep(LOOK_EVERY_S)
        raise RebuildRefused(f"nobody answers for {agent}/{partition}: see `fleet status`, and give the command again")

    async def _directory(self) -> Directory:
        directory = Directory(self.settings, self._topics)
        await directory.load(self._cluster)
        return directory

    async def _get(self, url: str) -> tuple[int, bytes]:
        try:
            async with self._session.get(url) as got:
                return got.status, await got.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, b""


@asynccontextmanager
async def fleet_of(settings: Settings, catalogue: Catalogue = CATALOGUE) -> AsyncIterator[Fleet]:
    """The fleet on the brokers of the settings."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)) as session:
        yield Fleet(settings, session, catalogue)


class Rebuild:
    """Builds one read model anew. Every step may be the first that this command does of it."""

    def __init__(self, fleet: Fleet, name: str, say: Say) -> None:
        self._fleet = fleet
        self._projection = fleet.catalogue.projection(name)
        self._name = name
        self._say = say

    async def run(self, *, force: bool, show: bool) -> None:
        """All of it. Raises `RebuildRefused` where it was not changed over."""
        await self._finish_earlier()
        building = await self._begin()
        await self._built(building)
        compared = await self._compare(building, show=show)
        if not compared.agree and not force:
            raise RebuildRefused(
                f"{_told(compared)}. Nothing was changed over: generation {building} of {self._name} is kept up to "
                "date beside the one that is read. See what differs with --diff, change over with --force, give it up "
                "with --abort"
            )
        await self._change_over(building)

    async def abort(self) -> None:
        """Give up what is being built."""
        standing = await self._fleet.standing(self._name)
        if standing.building is None:
            self._say(f"No generation of {self._name} is being built.")
            return
        await self._fleet.stand(self._name, Standing(live=standing.live, last=standing.last))
        await self._remove(standing.building)
        self._say(f"Generation {standing.building} of {self._name} is given up; {standing.live} is read as before.")

    # The steps

    async def _finish_earlier(self) -> None:
        standing = await self._fleet.standing(self._name)
        if standing.retiring is not None:
            await self._retire(standing)

    async def _begin(self) -> int:
        standing = await self._fleet.standing(self._name)
        if standing.building is not None:
            self._say(f"Generation {standing.building} of {self._name} is being built since {standing.since}.")
            await self._fleet.make_topics(self._name, standing.building)
            return standing.building
        building = standing.last + 1
        await self._fleet.make_topics(self._name, building)
        await self._fleet.stand(self._name, Standing(live=standing.live, building=building, last=building))
        self._say(f"Building generation {building} of {self._name} from the log; {standing.live} is read meanwhile.")
        return building

    async def _built(self, building: int) -> None:
        """Wait until it is near everywhere, and say how far it has come."""
        agents = agents_of_generation(self._projection, building)
        wanted = {(agent, number) for agent in agents for number in range(self._fleet.settings.partitions)}
        best, since, said = float("inf"), time.monotonic(), ""
        while True:
            workers = await self._fleet.workers(self._name)
            shards = {(s.agent, s.partition): s for told in workers for s in told.shards if s.agent in agents}
            there = [shard for key, shard in shards.items() if key in wanted and shard.lag is not None]
            left = sum(shard.lag or 0 for shard in there)
            if len(there) == len(wanted) and all(s.joined and (s.lag or 0) <= NEAR_RECORDS for s in there):
                self._say(f"  {len(wanted)} of {len(wanted)} parts are near")
                return
            told = f"  {len(there)} of {len(wanted)} parts run, {left:,} records to go"
            if told != said:
                self._say(told)
                said = told
            if (score := left - len(there) * 1e9) < best:
                best, since = score, time.monotonic()
            elif time.monotonic() - since > STALLED_S:
                raise RebuildRefused(
                    f"generation {building} of {self._name} does not come forward: {_why(workers)}. It goes on when it "
                    "can; give the command again, or give it up with --abort"
                )
            await asyncio.sleep(LOOK_EVERY_S)

    async def _compare(self, building: int, *, show: bool) -> Compared:
        found, agent = Compared(), projecting_name(self._projection, building)
        for partition in range(self._fleet.settings.partitions):
            after: str | None = None
            while True:
                page = await self._fleet.page(self._name, partition, agent, after)
                found.rows += page.compared
                found.different += len(page.differences)
                found.examples += page.differences[: SHOWN_MAX - len(found.examples)]
                if (after := page.next) is None:
                    break
        agents = agents_of_generation(self._projection, building)
        workers = await self._fleet.workers(self._name)
        found.parked = sum(s.parked for told in workers for s in told.shards if s.agent in agents)
        self._say(f"  {_told(found)}")
        if show:
            for one in found.examples:
                self._say("\n".join(described(one)))
            if found.different > len(found.examples):
                self._say(f"  … and {found.different - len(found.examples):,} more")
        return found

    async def _change_over(self, building: int) -> None:
        standing = await self._fleet.standing(self._name)
        if standing.building != building:
            raise RebuildRefused(f"another command has changed {self._name} meanwhile: see `fleet projections list`")
        changed = Standing(live=building, retiring=standing.live, last=building)
        await self._fleet.stand(self._name, changed)
        await self._retire(changed)
        self._say(f"Generation {building} of {self._name} is read now.")

    async def _retire(self, standing: Standing) -> None:
        """When every worker reads the new one, let go of the old one."""
        retiring = standing.retiring
        if retiring is None:
            return
        await self._until(lambda told: told.standing.live == standing.live)
        await self._fleet.stand(self._name, Standing(live=standing.live, last=standing.last))
        await self._remove(retiring)

    async def _remove(self, generation: int) -> None:
        gone = set(agents_of_generation(self._projection, generation))
        await self._until(lambda told: gone.isdisjoint(shard.agent for shard in told.shards))
        await self._fleet.delete_topics(self._name, generation)

    async def _until(self, condition: Callable[[ReadModelAnswer], bool]) -> None:
        """Wait for every worker that answers; one that does not will read the topic before it serves anything."""
        deadline = time.monotonic() + WORKERS_TIMEOUT_S
        while not all(map(condition, await self._fleet.workers(self._name))):
            if time.monotonic() > deadline:
                self._say("  some workers do not follow yet; they will")
                return
            await asyncio.sleep(LOOK_EVERY_S)


def described(difference: Difference) -> Iterable[str]:
    """A difference, field by field."""
    live, building = difference.live, difference.building
    if live is None or building is None:
        yield f"  {difference.key}: only in the {'new' if live is None else 'old'} one: {_short(live or building)}"
        return
    for name in sorted({*live, *building}):
        if live.get(name) != building.get(name):
            yield f"  {difference.key}: {name} {_short(live.get(name))} → {_short(building.get(name))}"


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:79]}…"


def _told(compared: Compared) -> str:
    parked = f", {compared.parked:,} keys are parked in the new one" if compared.parked else ""
    return f"{compared.rows:,} rows compared, {compared.different:,} differ{parked}"


def _why(workers: Iterable[ReadModelAnswer]) -> str:
    left_out = next((told.left_out for told in workers if told.left_out), None)
    return left_out or "see `fleet status` and the workers' logs"
