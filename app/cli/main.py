"""`fleet`: the local fleet and the load tests, from the command line."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.audit.running import PATIENCE_S
from app.catalogue import CATALOGUE
from app.cli import audit as auditing
from app.cli.deadletters import deadletters
from app.cli.projections import projections
from app.cli.schema import FORMATS, JSON_SCHEMA, document, files, pretty
from app.cli.trace import grow, read_correlated, show
from app.cli.where import DIRECTORY, brokers_here
from app.local.errors import TOLD_IN_A_SENTENCE
from app.local.fleet import LocalFleet, Plan, one_at_a_time
from app.local.topics import make_and_check_topics
from app.runtime.settings import describe_settings, load_settings
from app.runtime.topics import Topics

GOLDEN = Path("tests/golden")
PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}


class Group(click.Group):
    """Tells in one sentence what went wrong."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; errors that are nobody's defect end it without a stack trace."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read our output has seen enough: click ends quietly
        except TOLD_IN_A_SENTENCE as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Group)
def cli() -> None:
    """Run Eventfleet on this machine: a real Kafka, real workers, real orders."""


cli.add_command(deadletters)
cli.add_command(projections)


@cli.command()
@click.option("--split", is_flag=True, help="One worker per role, instead of workers that do everything.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 16), help="Workers of the role all.")
@click.option("--port", default=29092, show_default=True, help="Kafka's port; the one after it is taken as well.")
@click.option("--web-port", default=6066, show_default=True, help="The first worker's port; others follow.")
def up(split: bool, workers: int, port: int, web_port: int) -> None:
    """Start Kafka and workers in the background. With FLEET_BROKERS set, that Kafka is used and none started."""
    plan = Plan(split, workers, port, web_port, os.environ.get("FLEET_BROKERS"))
    with one_at_a_time(DIRECTORY, click.echo):
        known = LocalFleet.known(DIRECTORY)
        ran = known is not None and known.running
        if known is not None and ran and known.plan != plan:
            raise click.ClickException("a fleet with other options runs here: stop it with `fleet down` first")
        fleet = LocalFleet(DIRECTORY, plan)
        try:
            fleet.up(say=click.echo)
        except BaseException:
            if not ran:  # what ran before goes on as it is
                fleet.down()
            raise
    _show(fleet)


@cli.command()
def down() -> None:
    """Stop the workers and Kafka. The data stays."""
    fleet = LocalFleet.known(DIRECTORY)
    if fleet is None or not fleet.running:
        click.echo("Nothing runs here.")
        return
    fleet.down()
    click.echo("Stopped. The data stays in .fleet; `fleet up` goes on with it.")


@cli.command()
def status() -> None:
    """Show Kafka and each worker: role, pid, readiness, buckets."""
    fleet = LocalFleet.known(DIRECTORY)
    if fleet is None or not fleet.running:
        click.echo("Nothing runs here: `fleet up` starts a fleet.")
        sys.exit(1)
    _show(fleet)


@cli.command()
def topics() -> None:
    """Make the fleet's topics on the Kafka that FLEET_BROKERS names, and tell what of those there is kept otherwise."""
    s = load_settings()
    made, different = asyncio.run(make_and_check_topics(s))
    click.echo("\n".join(f"made {name}" for name in made) or "every topic is there")
    for difference in different:
        click.echo(str(difference), err=True)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as one JSON object.")
@click.option("--brokers", help="Kafka bootstrap servers; by default the local fleet's, or FLEET_BROKERS.")
@click.option(
    "--patience",
    default=PATIENCE_S,
    show_default=True,
    type=click.FloatRange(0, 3_600),
    help="Seconds that what had begun when the audit did is given to be finished.",
)
@click.option("--follow", "on", is_flag=True, help="Go on for ever: a verdict every few seconds.")
@click.option(
    "--every", default=5.0, show_default=True, type=click.FloatRange(0.1, 3_600), help="How few, with --follow."
)
@click.option("--port", type=click.IntRange(1, 65_535), help="With --follow: serve the verdict there, as metrics.")
def audit(*, as_json: bool, brokers: str | None, patience: float, on: bool, every: float, port: int | None) -> None:
    """Read all topics by an independent path, and say which promise of the fleet is broken, if any.

    The exit code is 0 where none is, 1 where one is, 2 where the topics could not be read.
    """
    if port is not None and not on:
        raise click.BadParameter("it is served for as long as the audit goes on: add --follow", param_hint="--port")
    where, s = brokers or brokers_here(), load_settings()
    if not on:
        sys.exit(auditing.run(where, s.topic_prefix, as_json=as_json, patience_s=patience))
    at = None if port is None else (s.web_host, port)
    sys.exit(auditing.follow(where, s.topic_prefix, as_json=as_json, every_s=every, at=at, patience_s=patience))


@cli.command()
@click.argument("correlation_id")
def trace(correlation_id: str) -> None:
    """Print the tree of commands and events that one command led to, across aggregates.

    CORRELATION_ID is that of any of them; without one of its own, a command's id is its correlation id.
    """
    s, brokers = load_settings(), brokers_here()
    names = Topics(s.topic_prefix)
    topics_ = [topic.name for aggregate in CATALOGUE.aggregates for topic in names.of_category(aggregate.category)]
    roots = grow(asyncio.run(read_correlated(brokers, topics_, correlation_id)))
    if not roots:
        raise click.ClickException(f"nothing is known of {correlation_id}")
    Console().print(show(roots, correlation_id))


@cli.command()
@click.option("--format", "format_", type=click.Choice(FORMATS), default=JSON_SCHEMA, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write files there instead of printing.")
@click.option("--examples", default=GOLDEN, show_default=True, type=click.Path(path_type=Path), help="Golden records.")
def schema(format_: str, out: Path | None, examples: Path) -> None:
    """Print what is on the wire: a JSON Schema of every message, or all topics as AsyncAPI 3."""
    settings_ = load_settings()
    if out is None:
        click.echo(pretty(document(format_, settings_, examples)))
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, told in files(format_, settings_, examples).items():
        (out / name).write_text(pretty(told) + "\n")
        click.echo(f"wrote {out / name}")


@cli.command()
@click.option("--markdown", is_flag=True, help="As a table in Markdown.")
def settings(markdown: bool) -> None:
    """List every setting, its default and its meaning."""
    if markdown:
        click.echo("| Variable | Default | Meaning |\n|---|---|---|")
        for one in describe_settings():
            click.echo(f"| `{one.variable}` | {one.default} | {one.meaning} |")
        return
    table = Table("variable", "default", "meaning")
    for one in describe_settings():
        table.add_row(*one)
    Console().print(table)


@cli.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Start a fleet, drive orders through it, recount. `fleet demo --help` tells its options."""
    _run_instead("loadtest.demo", arguments)


@cli.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def load(arguments: tuple[str, ...]) -> None:
    """Load a running fleet at a fixed rate. `fleet load --help` tells its options."""
    _run_instead("loadtest.load", arguments)


@cli.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def chaos(arguments: tuple[str, ...]) -> None:
    """Break everything around a fleet of its own, and recount. `fleet chaos --help` tells its options."""
    _run_instead("chaos", arguments)


def _run_instead(module: str, arguments: tuple[str, ...]) -> None:
    """Become another program: the product never imports what stands in for the outside world."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def _show(fleet: LocalFleet) -> None:
    table = Table("process", "role", "pid", "ready", "address", "buckets", "MiB")
    if fleet.kafka is not None:
        pid = fleet.kafka.pid
        table.add_row(
            "kafka", "", str(pid or "-"), "yes" if pid else "no", fleet.brokers, "", _mib(fleet.kafka.rss_bytes())
        )
    for worker in fleet.workers:
        told = worker.readiness() or {}
        buckets = ", ".join(f"{n}: {_state(bucket)}" for n, bucket in told.get("buckets", {}).items())
        ready = "yes" if told.get("ready") else "no"
        table.add_row(
            worker.name, worker.role, str(worker.pid or "-"), ready, worker.url, buckets, _mib(worker.rss_bytes())
        )
    Console().print(table)


def _state(bucket: dict[str, Any]) -> str:
    """The pipeline's state; of one that restores, how far it has come."""
    restoring = bucket.get("restoring")
    return f"{bucket['state']}, {restoring}" if restoring else str(bucket["state"])


def _mib(size: int) -> str:
    return str(size >> 20)


if __name__ == "__main__":
    cli()
