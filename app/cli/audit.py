"""`fleet audit`: the auditor's verdict on a terminal, as JSON, or for ever."""

from __future__ import annotations

import asyncio
import json
import sys

import click
from rich.console import Console
from rich.table import Table

from app.audit.auditor import Audit
from app.audit.reading import NotAudited
from app.audit.running import PATIENCE_S, audit_on, audit_once

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


def follow(brokers: str, prefix: str, *, as_json: bool, every_s: float, patience_s: float = PATIENCE_S) -> int:
    """Audit for ever, and print a line (or a JSON object in one line) after each pass; the exit code at Ctrl-C."""
    last: Audit | None = None

    async def on() -> None:
        nonlocal last
        async for audit in audit_on(brokers, prefix, every_s=every_s, patience_s=patience_s):
            last = audit
            click.echo(json.dumps(audit.as_json()) if as_json else line(audit))
            sys.stdout.flush()

    try:
        asyncio.run(on())
    except NotAudited as error:
        click.echo(f"Not audited: {error}", err=True)
        return NOT_AUDITED
    except KeyboardInterrupt:
        pass
    return KEPT if last is not None and last.ok else BROKEN if last is not None else NOT_AUDITED


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
