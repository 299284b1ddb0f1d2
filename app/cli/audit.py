"""`fleet audit`: the auditor's verdict on a terminal, as JSON, or for ever."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import click
from rich.console import Console
from rich.table import Table

from app.audit.auditor import Audit
from app.audit.reading import NotAudited
from app.audit.running import PATIENCE_S, Auditing, audit_once
from app.audit.serving import serve

KEPT, BROKEN, NOT_AUDITED = 0, 1, 2
WIDE = 110
"""Columns of a terminal on which the meaning of each invariant finds its place."""


def run(brokers: str, prefix: str, *, as_json: bool, patience_s: float = PATIENCE_S) -> int:
    """Audit once and print the verdict; the exit code."""
    try:
        audit = asyncio.run(audit_once(brokers, prefix, patience_s=patience_s))
    except NotAudited as error:
        click.echo(f"Not audited: {error}", err=True)
        return NOT_AUDITED
    if as_json:
        click.echo(json.dumps(audit.as_json(), indent=1))
    else:
        show(audit, Console())
    return KEPT if audit.ok else BROKEN


def follow(
    brokers: str, prefix: str, *, as_json: bool, every_s: float, at: tuple[str, int] | None, patience_s: float
) -> int:
    """Audit for ever, a line (or a JSON object in one line) after each pass; the exit code at Ctrl-C or SIGTERM.

    With `at`, a host and a port, the verdict is served there, and an outage is waited through.
    """
    auditing = Auditing(brokers, prefix, patience_s=patience_s)
    last: Audit | None = None

    def say(what: Audit | NotAudited) -> None:
        nonlocal last
        if isinstance(what, NotAudited):
            click.echo(f"Not audited: {what}", err=True)
            return
        last = what
        click.echo(json.dumps(what.as_json()) if as_json else line(what))
        sys.stdout.flush()

    async def on() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is not None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, task.cancel)
        if at is not None:
            await serve(auditing, *at, every_s=every_s, say=say)
        async for audit in auditing.follow(every_s):
            say(audit)

    try:
        asyncio.run(on())
    except NotAudited as error:
        say(error)
        return NOT_AUDITED
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    return NOT_AUDITED if last is None else KEPT if last.ok else BROKEN


def show(audit: Audit, console: Console) -> None:
    """The table of invariants, examples of what is wrong, and the verdict."""
    table = Table("invariant", title="The audit", title_justify="left")
    table.add_column("checked", justify="right")
    table.add_column("violations", justify="right")
    wide = console.width >= WIDE
    if wide:
        table.add_column("what it means")
    for verdict in audit.verdicts:
        cells = [verdict.name, f"{verdict.checked:,}", f"{verdict.violations:,}", verdict.meaning]
        table.add_row(*cells[: 4 if wide else 3], style="red" if verdict.violations else "")
    console.print(table)
    for verdict in audit.verdicts:
        for example in verdict.examples:
            console.print(f"  {verdict.name}: {example}", markup=False, highlight=False)
    for (agent, cause), count in sorted(audit.dead_letters.items()):
        console.print(f"  dead letters of {agent}: {count:,} {cause}", markup=False, highlight=False)
    console.print(line(audit), style="bold green" if audit.ok else "bold red", highlight=False)


def line(audit: Audit) -> str:
    """The verdict in one line."""
    what = f"{audit.checked:,} checks on {audit.records:,} records, {audit.in_flight:,} still in flight"
    return f"OK: every promise was kept; {what}" if audit.ok else f"BROKEN: {audit.violations:,} violations; {what}"
