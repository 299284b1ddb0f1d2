"""`fleet demo`: starts a fleet, drives orders through it, recounts, and says whether everything is as it must be."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import SubprocessError

import click
from rich.console import Console

from app.local.errors import TOLD_IN_A_SENTENCE, LocalFleetError
from app.local.fleet import LocalFleet, Plan
from app.local.workers import LocalWorker
from app.runtime.settings import load_settings
from loadtest.children import end_children
from loadtest.interrupts import Interrupts
from loadtest.report import json_file
from loadtest.runs import Stage, Wish, run
from loadtest.schedule import ORDERS_MAX

DIRECTORY = Path(".fleet")
INTERRUPTED = 130


@click.command()
@click.option("--orders", default=500, show_default=True, type=click.IntRange(1, ORDERS_MAX))
@click.option(
    "--rate", default=50.0, show_default=True, type=click.FloatRange(0.1, 20_000), help="Orders begun a second."
)
@click.option(
    "--warm-up",
    default=60,
    show_default=True,
    type=click.IntRange(0, 1_000),
    help="Orders that go before, recounted but not timed: a Java broker that has just started compiles itself.",
)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 16), help="Workers of the role all.")
@click.option("--split", is_flag=True, help="One worker per role, instead of workers that do everything.")
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--failures",
    is_flag=True,
    help="Orders that the fleet fulfils, with declined payments, short stock, time-outs, cancellations; and commands "
    "that are doubled and shuffled.",
)
@click.option("--audit", is_flag=True, help="Let the auditor read all topics afterwards, as `fleet audit` does.")
@click.option("--port", default=29092, show_default=True, help="Kafka's port; the one after it is taken as well.")
@click.option("--web-port", default=6066, show_default=True, help="The first worker's port; others follow.")
@click.option("--keep", is_flag=True, help="Leave the fleet running afterwards: `fleet status`, `fleet down`.")
@click.option(
    "--json", "file", type=click.Path(path_type=Path), callback=json_file, help="Write the figures into this file."
)
def main(
    *,
    orders: int,
    rate: float,
    warm_up: int,
    workers: int,
    split: bool,
    seed: int,
    failures: bool,
    audit: bool,
    port: int,
    web_port: int,
    keep: bool,
    file: Path | None,
) -> None:
    """Start Kafka and workers, send whole order lives through them, recount the log, compare it with the view.

    With FLEET_BROKERS set, that Kafka is used and none started.
    """
    console, interrupts = Console(), Interrupts()
    interrupts.catch()
    plan = Plan(split, workers, port, web_port, os.environ.get("FLEET_BROKERS"))
    wish = Wish(orders, rate, warm_up, seed, failures, audit)
    try:
        settings = load_settings()
        with _fleet(plan, console, interrupts, keep=keep) as fleet:
            settings = settings.model_copy(update={"brokers": fleet.brokers})
            report = run(Stage(fleet, settings, console, interrupts), wish)
            interrupts.check()
    except (*TOLD_IN_A_SENTENCE, SubprocessError, KeyboardInterrupt) as error:
        if interrupts.came:  # whatever it broke
            console.print("Interrupted: everything that was started is stopped.")
            sys.exit(INTERRUPTED)
        raise click.ClickException(str(error)) from error
    report.show(console)
    if not report.ok:
        console.print(f"What the workers had to say is in {DIRECTORY / 'logs'}.", highlight=False)
    report.write(file)
    sys.exit(0 if report.ok else 1)


@contextmanager
def _fleet(plan: Plan, console: Console, interrupts: Interrupts, *, keep: bool) -> Iterator[LocalFleet]:
    """A running fleet, stopped at the end: unless it ran before, then it is used as it is."""
    known = LocalFleet.known(DIRECTORY)
    if known is not None and known.running:
        _check_ready(known)
        console.print("A fleet runs here already: using it, with its own options.")
        yield known
        return
    fleet, kept = LocalFleet(DIRECTORY, plan), False
    try:
        fleet.up(with_parent=not keep, say=lambda text: console.print(text, highlight=False))
        interrupts.check()
        yield fleet
        kept = keep
    finally:
        if kept:
            console.print("The fleet goes on: `fleet status` shows it, `fleet down` stops it.")
        else:
            interrupts.ignore()
            _stop(fleet, console)


def _check_ready(fleet: LocalFleet) -> None:
    late = [worker.name for worker in fleet.workers if not (worker.readiness() or {}).get("ready")]
    if late:
        raise LocalFleetError(
            f"a fleet runs here already, but {', '.join(late)} cannot serve: wait until `fleet status` shows it ready, "
            "or stop it with `fleet down`"
        )


def _stop(fleet: LocalFleet, console: Console) -> None:
    console.print("Stopping …")
    # All at once: one after the other, each would take over what the one before had served.
    with ThreadPoolExecutor() as at_once:
        list(at_once.map(LocalWorker.stop, fleet.workers))
    fleet.down()
    end_children()


if __name__ == "__main__":
    main()
