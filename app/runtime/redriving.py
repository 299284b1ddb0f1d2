"""Bringing dead letters back: what a person wants to be done with them is written to `fleet.redrive`, in order.

The shards do it, and only what is due: so nothing happens twice if it is written twice, and nothing is lost if whoever
writes it dies. What became of it is read from the dead letters again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaError, ProducerFenced

from app.kernel.errors import FleetError
from app.runtime.dead_letters import DISCARDED, Kind, Letter, instruction, settlement
from app.runtime.letter_box import LetterBox, LetterSequence, Pending
from app.runtime.outbox import Outbox
from app.runtime.ports import Clock, Cluster, TopicPartition
from app.runtime.topics import Topics
from app.runtime.unit import Emitted

LETTERS_PER_PASS = 1_000
BYTES_PER_PASS = 16 << 20
"""Of one sequence. A longer one takes several passes, each a transaction of its own."""

PASSES_MAX = 100
ASK_EVERY_S = 0.1


class RedriveTakenOver(FleetError):
    """Another redrive has begun meanwhile: what was committed goes on, the rest is the other's."""


@dataclass
class Became:
    """What became of one sequence: how many letters are settled, which one failed again, how many are left."""

    sequence: LetterSequence
    settled: int = 0
    failed: Letter | None = None
    answered: bool = True
    left: int = 0

    @property
    def goes_on(self) -> bool:
        """Whether there is anything more to do now."""
        return self.answered and self.failed is None


@dataclass
class Redriving:
    """Tells the shards what to do with sequences. `logged` says of each agent whether it has a changelog."""

    cluster: Cluster
    clock: Clock
    topics: Topics
    box: LetterBox
    logged: Mapping[str, bool]

    @property
    def transactional_id(self) -> str:
        """One for all: of two redrives at once the later one fences the earlier one."""
        return f"{self.topics.prefix}fleet-redrive"

    async def run(
        self, kind: Kind, chosen: Iterable[LetterSequence], wait_s: float, *, only_first: bool = False
    ) -> list[Became]:
        """Write, wait for the answers, and go on until nothing of the chosen sequences is left, or can be done now.

        Records that a key gained meanwhile have kept their place behind the others: they are taken in the next pass.
        `only_first`: of each sequence nothing but the first letter.
        """
        became = {one.name: Became(one) for one in chosen}
        for _ in range(1 if only_first else PASSES_MAX):
            todo = [one for one in self.box.sequences() if one.name in became and became[one.name].goes_on]
            if not todo:
                break
            told = [_beginning(one, 1 if only_first else LETTERS_PER_PASS) for one in todo]
            for group in _groups(told):
                await self.send(kind, group)
            await self._wait(told, became, wait_s)
        left = {one.name: len(one.letters) for one in self.box.sequences()}
        for name, one in became.items():
            one.left = left.get(name, 0)
        return list(became.values())

    async def send(self, kind: Kind, sequences: Sequence[LetterSequence]) -> None:
        """Write what is to be done with all letters of some sequences, in order, in one transaction."""
        producer = self.cluster.producer(self.transactional_id)
        try:
            await producer.start()
            outbox = Outbox(producer.new_batch, {self.topics.redrive})
            for sequence in sequences:
                outbox.add(await self._emitted(kind, sequence))
            await outbox.produce(producer)
            await producer.commit()
        except ProducerFenced as error:
            raise RedriveTakenOver("another redrive has begun meanwhile: see what is left, and try again") from error
        finally:
            with contextlib.suppress(KafkaError, OSError, TimeoutError, FleetError):
                await producer.abort()
            await producer.close()

    async def _emitted(self, kind: Kind, sequence: LetterSequence) -> list[Emitted]:
        at, letters = sequence.partition, sequence.letters
        if kind is Kind.DISCARD:
            return [self._discarded(at, one) for one in letters]
        originals = await self.box.originals(at, letters)
        topic, number = self.topics.redrive, at.partition
        return [
            Emitted(topic, number, one.key, original.value, instruction(kind, one.letter, original.headers))
            for one in letters
            if (original := originals.get(one.letter.id)) is not None
        ]

    def _discarded(self, at: TopicPartition, one: Pending) -> Emitted:
        if self.logged.get(one.letter.agent, True):
            return Emitted(
                self.topics.redrive, at.partition, one.key, None, instruction(kind=Kind.DISCARD, letter=one.letter)
            )
        # It remembers nothing of its letters, so nobody needs to be asked.
        return Emitted(at.topic, at.partition, one.key, None, settlement(one.letter, DISCARDED))

    async def _wait(
        self, told: Sequence[LetterSequence], became: Mapping[tuple[str, int, str], Became], wait_s: float
    ) -> None:
        """Until every shard has answered, or for as long."""
        deadline = self.clock.monotonic() + wait_s
        waiting = list(told)
        while waiting:
            await self.box.read_on()
            waiting = [one for one in waiting if not self._note_answer(one, became[one.name])]
            if waiting and self.clock.monotonic() > deadline:
                break
            if waiting:
                await self.clock.sleep(ASK_EVERY_S)
        for one in told:
            became[one.name].answered = one not in waiting
            became[one.name].settled += sum(self._is_settled(one.partition, letter) for letter in one.letters)

    def _is_settled(self, at: TopicPartition, one: Pending) -> bool:
        return self.box.get(at, one.letter.id) is None and (at, one.letter.id) not in self.box.moved

    def _note_answer(self, sequence: LetterSequence, became: Became) -> bool:
        """Whether the shard has done what it was told: all letters are settled, or one has failed again."""
        for one in sequence.letters:
            now = self.box.get(sequence.partition, one.letter.id)
            became.failed = self.box.moved.get((sequence.partition, one.letter.id))
            if now is not None and now.letter.attempt > one.letter.attempt:
                became.failed = now.letter
            if became.failed is not None:
                return True
            if now is not None:
                return False
        return True


def _beginning(sequence: LetterSequence, letters_max: int) -> LetterSequence:
    """As much of a sequence as fits into one pass; one letter at least."""
    size, number = 0, 0
    for one in sequence.letters[:letters_max]:
        size += one.size
        if number and size > BYTES_PER_PASS:
            break
        number += 1
    return sequence._replace(letters=sequence.letters[:number])


def _groups(sequences: Iterable[LetterSequence]) -> Iterator[list[LetterSequence]]:
    """Whole sequences, as many together as fit into one transaction."""
    group: list[LetterSequence] = []
    letters = size = 0
    for one in sequences:
        letters += len(one.letters)
        size += sum(letter.size for letter in one.letters)
        if group and (letters > LETTERS_PER_PASS or size > BYTES_PER_PASS):
            yield group
            group, letters, size = [], len(one.letters), sum(letter.size for letter in one.letters)
        group.append(one)
    if group:
        yield group
