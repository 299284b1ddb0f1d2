"""One run: load, probes and faults side by side; then calm, the drain, and the reckoning."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence

from aiokafka.errors import KafkaError

from app.kernel.errors import FleetError
from chaos.faults import Fault, Mark, NotHere, Scene
from chaos.faults.kinds import FAULTS
from chaos.load import Load
from chaos.probes import Probes
from chaos.schedule import APART_S, Strike
from chaos.stage import Stage
from chaos.struck import Struck

RECOVER_TIMEOUT_S = 120.0
"""From the moment at which nothing is wrong any more."""
DRAIN_TIMEOUT_S = 120.0
LOOK_EVERY_S = 0.25
HEAL_TIMEOUT_S = 180.0
"""Of making and of healing a fault, each: the test bed itself must not hang."""

Say = Callable[[str], None]


class Run:
    """Plays a schedule on a stage under load."""

    def __init__(self, stage: Stage, load: Load, probes: Probes, say: Say) -> None:
        self.stage, self.load, self.probes = stage, load, probes
        self.struck: list[Struck] = []
        self.violations: list[str] = []
        self.drained_s: float | None = None
        self._say = say
        self._active, self._healed_s = 0, 0.0
        self._one_of_each = {hits: asyncio.Lock() for hits in APART_S}

    async def play(self, strikes: Sequence[Strike]) -> None:
        """Let everything happen, then wait until nothing is under way any more."""
        probing = asyncio.create_task(self.probes.run())
        try:
            loading = asyncio.create_task(self.load.run())
            try:
                await asyncio.gather(*(self._strike(strike) for strike in strikes))
                await loading
            finally:
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
            await self._drain()
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
        self.load.ledger.close()
        self.load.check_shop()

    async def _strike(self, strike: Strike) -> None:
        now, fault = self.load.ledger.now, FAULTS[strike.kind]
        await asyncio.sleep(max(0.0, strike.at_s - now()))
        async with contextlib.AsyncExitStack() as alone:
            for hit in sorted(fault.hits):  # always in the same order, or two could wait for one another
                await alone.enter_async_context(self._one_of_each[hit])
            mark = Mark(now)
            struck = Struck(fault.kind, "", now(), now(), now())
            self._say(f"{now():6.1f} s  {fault.kind} …")
            self._active += 1
            try:
                await self._happen(fault, strike, mark)
            except NotHere as error:
                struck.why_not = str(error)
            except (FleetError, KafkaError, OSError, TimeoutError) as error:
                struck.why_not = repr(error)
                self.violations.append(f"the fault {fault.kind} could not be made or healed: {error!r}")
            finally:
                self._active -= 1
                self._healed_s = now()
            struck.what, struck.healed_s = mark.what, now()
            struck.since_s = mark.since_s if mark.since_s is not None else struck.healed_s
            self.struck.append(struck)
        if struck.why_not is None:
            await self._recover(struck)

    async def _happen(self, fault: Fault, strike: Strike, mark: Mark) -> None:
        context = fault.make(Scene(self.stage, self.load, random.Random(strike.seed), mark))
        async with asyncio.timeout(HEAL_TIMEOUT_S):
            await context.__aenter__()
        try:
            await asyncio.sleep(strike.lasts_s)
        finally:
            async with asyncio.timeout(HEAL_TIMEOUT_S):
                await context.__aexit__(None, None, None)

    async def _recover(self, struck: Struck) -> None:
        now = self.load.ledger.now
        while (recovered_s := self.probes.recovered_s(struck.since_s)) is None:
            if not self._active and now() - self._healed_s > RECOVER_TIMEOUT_S:
                waiting = self.probes.waiting()
                self.violations.append(
                    f"not recovered in {RECOVER_TIMEOUT_S:.0f} s: {struck.kind}, {struck.what}; probes wait: {waiting}"
                )
                return
            await asyncio.sleep(LOOK_EVERY_S)
        struck.recovered_s = recovered_s
        struck.worst_probe_s = self.probes.worst_s(struck.at_s, recovered_s)
        self._say(f"{now():6.1f} s  {struck.kind}: {struck.what}, recovered in {struck.recovery_ms} ms")

    async def _drain(self) -> None:
        """Nothing goes wrong any more: now everything must come to its end."""
        now = self.load.ledger.now
        started_s = now()
        self._say(f"{started_s:6.1f} s  draining …")
        while (pending := await self._pending()) is not None:
            if now() - started_s > DRAIN_TIMEOUT_S:
                self.violations.append(f"not drained after {DRAIN_TIMEOUT_S:.0f} s: {pending}")
                return
            await asyncio.sleep(LOOK_EVERY_S)
        self.drained_s = now() - started_s

    async def _pending(self) -> str | None:
        if pending := self.load.pending():
            return pending
        return await self.stage.late()
