"""`fleet load --rate R --seconds S`: loads a running fleet at a fixed rate, over Kafka or HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import click
from rich.console import Console

from app.local.errors import TOLD_IN_A_SENTENCE
from app.local.fleet import LocalFleet
from app.runtime.settings import Settings, load_settings
from loadtest.customers import population
from loadtest.drive import LoadRefused, Over, drive, run_name
from loadtest.report import Report, json_file
from loadtest.schedule import ORDERS_MAX, schedule
from loadtest.terminal import Ticker

DIRECTORY = Path(".fleet")


@click.command()
@click.option(
    "--rate", default=50.0, show_default=True, type=click.FloatRange(0.1, 20_000), help="Orders begun a second."
)
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1, 86_400), help="For how long.")
@click.option(
    "--orders",
    type=click.IntRange(1, ORDERS_MAX),
    help="So many orders, however long that takes, instead of --seconds.",
)
@click.option("--over", type=click.Choice(["kafka", "http"]), default="kafka", show_default=True)
@click.option(
    "--url", "urls", multiple=True, help="A worker's address; several may be given. Default: the local fleet's."
)
@click.option(
    "--think", default=0.25, show_default=True, type=click.FloatRange(0, 60), help="Seconds between an order's steps."
)
@click.option("--poisson", is_flag=True, help="Orders come as a Poisson process instead of evenly.")
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--json", "file", type=click.Path(path_type=Path), callback=json_file, help="Write the figures into this file."
)
def main(
    *,
    rate: float,
    seconds: float,
    orders: int | None,
    over: str,
    urls: tuple[str, ...],
    think: float,
    poisson: bool,
    seed: int,
    file: Path | None,
) -> None:
    """Drive whole order lives, about four commands each, at a running fleet.

    Latency counts from the intended moment of sending: a stalled fleet does not slow the clock down.
    """
    console = Console()
    count = round(rate * seconds) if orders is None else orders
    try:
        if not 1 <= count <= ORDERS_MAX:
            raise LoadRefused(f"{count} orders: choose a rate and a time that come to 1 to {ORDERS_MAX:,}")
        settings, workers = _target(urls)
        scripts = list(population(run_name(), count, seed))
        due = schedule(scripts, rate, think_s=think, poisson_seed=seed if poisson else None)
        with Ticker(console) as ticker:
            driven = asyncio.run(drive(due, settings, workers, cast(Over, over), ticker))
    except TOLD_IN_A_SENTENCE as error:
        raise click.ClickException(str(error)) from error
    report = Report(count, driven)
    report.show(console)
    report.write(file)
    if not report.ok:
        raise SystemExit(1)


def _target(urls: tuple[str, ...]) -> tuple[Settings, list[str]]:
    """The settings and workers' addresses of the fleet to be loaded."""
    settings = load_settings()
    if urls:
        return settings, list(urls)
    fleet = LocalFleet.known(DIRECTORY)
    if fleet is None or not fleet.running:
        raise LoadRefused("no fleet runs here: start one with `fleet up`, or name workers with --url http://host:port")
    return settings.model_copy(update={"brokers": fleet.brokers}), [worker.url for worker in fleet.workers]


if __name__ == "__main__":
    main()
