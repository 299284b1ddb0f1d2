"""`fleet chaos`: three brokers and many workers under load, while everything around them breaks; then the reckoning."""

from __future__ import annotations

import logging
import random
import sys
from pathlib import Path
from subprocess import SubprocessError

import click
from rich.console import Console

from app.kernel.errors import FleetError
from chaos.faults import Fault
from chaos.faults.kinds import FAULTS
from chaos.load import Load
from chaos.probes import Probes
from chaos.reckoning import reckon
from chaos.report import Report
from chaos.run import Run
from chaos.scenes import KIND as TOPIC_MADE_AGAIN
from chaos.scenes import topic_made_again
from chaos.schedule import plan
from chaos.stage import PARTITIONS, Stage, alone_in
from loadtest.children import end_children
from loadtest.drive import run_name
from loadtest.interrupts import Interrupts
from loadtest.report import json_file

DIRECTORY, LIB = Path(".fleet/chaos"), Path(".fleet/lib")
PICTURE = DIRECTORY / "chaos.svg"
INTERRUPTED = 130
RATE = 30.0


@click.command()
@click.option("--seed", default=1, show_default=True, help="The same seed plays the same faults and the same load.")
@click.option(
    "--seconds", default=300.0, show_default=True, type=click.FloatRange(20, 86_400), help="Of load and faults."
)
@click.option(
    "--rate", default=RATE, show_default=True, type=click.FloatRange(1, 1_000), help="Orders begun a second; bursts."
)
@click.option("--only", default="", help="Only these kinds of faults, separated by commas.")
@click.option("--list", "list_", is_flag=True, help="List the kinds of faults, and the schedule of this seed.")
@click.option(
    "--json", "file", type=click.Path(path_type=Path), callback=json_file, help="Write the figures into this file."
)
@click.option(
    "--picture",
    "image",
    default=PICTURE,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the picture of throughput and latency goes, an SVG.",
)
def main(*, seed: int, seconds: float, rate: float, only: str, list_: bool, file: Path | None, image: Path) -> None:
    """Break everything around a fleet of three brokers and many workers, and see whether it keeps its promises.

    Nothing but the loopback is used, and no process but its own is touched. Exit code 1 where a promise was broken.
    """
    console, faults = Console(), _chosen(only)
    if list_:
        _list(console, seed, seconds, faults)
        return
    interrupts = Interrupts()
    interrupts.catch()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that brokers die is no news here
    try:
        with alone_in(DIRECTORY):
            report = interrupts.run(_run(console, faults, seed=seed, seconds=seconds, rate=rate, only=only))
        interrupts.check()
    except (FleetError, OSError, SubprocessError, KeyboardInterrupt) as error:
        if interrupts.came:
            console.print("Interrupted: everything that was started is stopped.")
            sys.exit(INTERRUPTED)
        raise click.ClickException(str(error)) from error
    finally:
        interrupts.ignore()
        end_children()
    report.show(console)
    report.write(file, image)
    console.print(f"The picture is in {image}, what the processes had to say in {DIRECTORY}.", highlight=False)
    sys.exit(0 if report.ok else 1)


def _chosen(only: str) -> dict[str, Fault]:
    wanted = [kind.strip() for kind in only.split(",") if kind.strip()]
    if unknown := [kind for kind in wanted if kind not in FAULTS and kind != TOPIC_MADE_AGAIN]:
        raise click.UsageError(f"there is no fault {', '.join(unknown)}: see fleet chaos --list")
    return {kind: fault for kind, fault in FAULTS.items() if not wanted or kind in wanted}


def _list(console: Console, seed: int, seconds: float, faults: dict[str, Fault]) -> None:
    for kind, fault in faults.items():
        told = " ".join((fault.make.__doc__ or "").split())
        console.print(f"{kind:26} {told}", highlight=False, soft_wrap=True)
    console.print(f"\nSeed {seed}, {seconds:.0f} s:")
    for strike in plan(seed, seconds, faults):
        console.print(f"{strike.at_s:7.1f} s  {strike.kind}, {strike.lasts_s} s", highlight=False)


async def _run(
    console: Console, faults: dict[str, Fault], *, seed: int, seconds: float, rate: float, only: str
) -> Report:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    stage = Stage(DIRECTORY.resolve(), LIB, random.Random(f"stage {seed}"))
    load: Load | None = None
    try:
        await stage.up(say)
        run_id = run_name()
        load = Load(stage.settings, run_id, seed, rate, seconds)
        await load.start()
        probes = Probes(run_id, stage.urls, PARTITIONS, load.ledger.now)
        run = Run(stage, load, probes, say)
        say(f"{rate:.0f} orders/s for {seconds:.0f} s, with bursts; the role under fire is {stage.role_under_fire} …")
        await run.play(plan(seed, seconds, faults))
        say("Recounting …")
        reckoned = await reckon(stage.settings, stage.urls, run_id, load.poison)
        await load.stop_following()
        if not only or TOPIC_MADE_AGAIN in only:
            run.struck.append(await topic_made_again(stage, load.ledger.now, say, run.violations))
        ledger = load.ledger
        report = Report(seed, seconds, stage.role_under_fire, run.struck)
        report.violations = [
            *stage.violations,
            *run.violations,
            *ledger.violations,
            *probes.violations,
            *reckoned.violations,
        ]
        report.records_checked = reckoned.records + ledger.outcomes
        report.series = ledger.series(int(seconds + (run.drained_s or 0.0)) + 1)
        report.checks = reckoned.checks
        report.load = {
            "commands": ledger.sent,
            "repeated": ledger.repeated,
            "outcomes": ledger.outcomes,
            "in_doubt": ledger.in_doubt,
            "fulfilments": len(load.shop),
            "probes": len(probes.all),
            "latency_ms": ledger.latency_ms(),
            "sent_late_max_ms": round(load.late_max_s * 1000),
            "drained_s": run.drained_s and round(run.drained_s, 1),
        }
        return report
    finally:
        say("Stopping …")
        if load is not None:
            await load.close()
        await stage.close()


if __name__ == "__main__":
    main()
