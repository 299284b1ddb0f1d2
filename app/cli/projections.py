"""`fleet projections`: which generation of each read model is read, and building one anew."""

from __future__ import annotations

import asyncio

import click
from rich.console import Console
from rich.table import Column, Table

from agents.projecting import agents_of_generation
from app.cli.rebuilding import Fleet, Rebuild, fleet_of
from app.cli.where import settings_here
from app.kernel.errors import BrokerUnavailable
from app.runtime.generations import Standing

SAY_TIMEOUT_S = 30.0


@click.group()
def projections() -> None:
    """The read models: which generation of each is read, and building one anew beside it."""


@projections.command("list")
def list_projections() -> None:
    """Show which generation of each read model is read, and which is being built."""
    table = Table(Column("read model", no_wrap=True), "read", "being built", "to go", "since")
    for row in asyncio.run(_rows()):
        table.add_row(*row)
    Console().print(table)


@projections.command()
@click.argument("name")
@click.option("--diff", is_flag=True, help="Print the rows that differ, field by field.")
@click.option("--force", is_flag=True, help="Change over though rows differ: after a mended project function, say.")
@click.option("--abort", is_flag=True, help="Give up what is being built.")
def rebuild(name: str, *, diff: bool, force: bool, abort: bool) -> None:
    """Build a read model anew from the log, compare it with the one that is read, and change over if both agree.

    Reads go on meanwhile, of the old one until the new one is read everywhere. The building survives restarts of
    workers and of this command: give it again to go on. Exits with 1 where nothing was changed over.
    """

    async def run() -> None:
        async with fleet_of(settings_here()) as fleet:
            one = Rebuild(fleet, name, click.echo)
            await (one.abort() if abort else one.run(force=force, show=diff))

    try:
        asyncio.run(run())
    except BrokerUnavailable as error:
        raise click.ClickException(f"{error}. What was begun stays; give the command again") from error
    except KeyboardInterrupt:
        raise click.ClickException("it goes on without you; give the command again to see, or add --abort") from None


async def _rows() -> list[tuple[str, ...]]:
    async with fleet_of(settings_here()) as fleet, asyncio.timeout(SAY_TIMEOUT_S):
        return [await _row(fleet, projection.name) for projection in fleet.catalogue.projections]


async def _row(fleet: Fleet, name: str) -> tuple[str, ...]:
    standing = await fleet.standing(name)
    since = f"{standing.since:%Y-%m-%d %H:%M:%S}" if standing.since else "-"
    building = str(standing.building or "-") if standing.retiring is None else f"{standing.retiring} is let go"
    return name, str(standing.live), building, await _to_go(fleet, name, standing), since


async def _to_go(fleet: Fleet, name: str, standing: Standing) -> str:
    if standing.building is None:
        return "-"
    agents = agents_of_generation(fleet.catalogue.projection(name), standing.building)
    shards = [shard for told in await fleet.workers(name) for shard in told.shards if shard.agent in agents]
    return f"{sum(shard.lag or 0 for shard in shards):,}" if shards else "?"
