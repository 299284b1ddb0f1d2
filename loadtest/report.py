"""The end of a run: a table for people, a JSON object for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.audit.auditor import Audit
from app.cli.audit import show
from loadtest.drive import Driven
from loadtest.endings import Endings
from loadtest.recount import Recount

EXAMPLES = 10


def json_file(_: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Check where figures are to be written before anything is measured, not after."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise click.BadParameter(f"{path} is no file in a directory that exists", param=parameter)
    return path


@dataclass(frozen=True)
class Report:
    """One run: what was driven, what the recount found, what it cost. CPU is in percent of one core, by role."""

    orders: int
    driven: Driven
    recount: Recount | None = None
    cpu: dict[str, float] = field(default_factory=dict)
    endings: Endings | None = None
    audit: Audit | None = None

    @property
    def events(self) -> int:
        """Events of this run in the log; where nothing was recounted, one for each accepted command."""
        return sum(self.recount.events.values()) if self.recount else self._accepted

    @property
    def mismatches(self) -> int:
        """Everything that is not as it must be."""
        ended_wrong = len(self.endings.mismatches()) if self.endings else 0
        return len(self.driven.mismatches) + (self.recount.mismatch_count if self.recount else 0) + ended_wrong

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, doubled or wrong."""
        audited = self.audit is None or self.audit.ok
        return self.mismatches == 0 and self.driven.outcomes > 0 and audited

    @property
    def events_per_s(self) -> float:
        """Events of this run by its seconds."""
        return self.events / self.driven.seconds if self.driven.seconds else 0.0

    @property
    def _accepted(self) -> int:
        return self.driven.outcomes - sum(self.driven.rejected.values())

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        recount = self.recount or Recount()
        return {
            "ok": self.ok,
            "orders": self.orders,
            "commands": self.driven.commands,
            "outcomes": self.driven.outcomes,
            "repeats": self.driven.repeats,
            "events": self.events,
            "log_events": recount.log_events,
            "events_by_type": dict(sorted(recount.events.items())),
            "orders_by_status": dict(sorted(recount.statuses.items())),
            "rejected": self.driven.rejected,
            "seconds": round(self.driven.seconds, 3),
            "events_per_s": round(self.events_per_s, 1),
            "outcome_ms": self.driven.outcome_latencies.summary(),
            "latency_ms": self.driven.view_latencies.summary(),
            "cpu": {role: round(percent, 1) for role, percent in self.cpu.items()},
            "sent_late_max_ms": round(self.driven.late_max_s * 1000, 1),
            "mismatches": self.mismatches,
            "examples": [*self.driven.mismatches, *recount.examples, *self._wrong_ends()][:EXAMPLES],
            **self._further(),
        }

    def _wrong_ends(self) -> list[str]:
        return self.endings.mismatches() if self.endings else []

    def _further(self) -> dict[str, Any]:
        further: dict[str, Any] = {}
        if self.endings is not None:
            further["endings"] = self.endings.by_habit()
            further["alerts"] = self.endings.alerts_by_filter()
        if self.audit is not None:
            further["audit"] = self.audit.as_json()
        return further

    def write(self, path: Path | None) -> None:
        """Write the figures into a file, where one is wanted."""
        if path is not None:
            path.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def show(self, console: Console) -> None:
        """For people."""
        table = Table(show_header=False, title="What came of it", title_justify="left")
        table.add_column(style="bold")
        table.add_column()
        for name, value in self._lines():
            table.add_row(name, value)
        console.print(table)
        for example in self.as_json()["examples"]:
            console.print(f"  mismatch: {example}", markup=False)
        if self.audit is not None:
            show(self.audit, console)
        if self.recount is None:
            return
        wrong = "MISMATCHES: see above" if self.mismatches or self.audit is None else "the AUDIT has found violations"
        verdict = "the read model equals the recount of the event log" if self.ok else wrong
        console.print(f"{'OK' if self.ok else 'FAILED'}: {verdict}", style="bold green" if self.ok else "bold red")

    def _lines(self) -> list[tuple[str, str]]:
        driven, recount = self.driven, self.recount
        lines = [
            ("orders", f"{self.orders:,}"),
            ("commands", f"{driven.commands:,} in {driven.seconds:.1f} s, {driven.outcomes:,} outcomes"),
            ("rejected", _counts(driven.rejected)),
            ("repeated", f"{driven.repeats:,}, to be told their first outcome"),
            ("events/s", f"{self.events_per_s:,.1f}"),
            ("command → outcome", _latency(driven.outcome_latencies.summary())),
            ("command → visible in the view", _latency(driven.view_latencies.summary())),
            ("sent late, at most", f"{driven.late_max_s * 1000:.0f} ms"),
        ]
        if self.endings is not None:
            for habit, ends in self.endings.by_habit().items():
                lines.append((f"who {habit}", _counts(ends)))
            lines.append(("alerts", _counts(self.endings.alerts_by_filter())))
        if recount is not None:
            lines.insert(4, ("events", f"{self.events:,}: {_counts(_short(recount.events))}"))
            lines.insert(5, ("orders by status", f"{recount.orders:,}: {_counts(recount.statuses)}"))
            lines.append(("recounted", f"{recount.log_events:,} events, {len(recount.rows):,} orders in the log"))
            lines.append(("mismatches", str(self.mismatches)))
        if self.cpu:
            lines.append(("CPU, % of a core", ", ".join(f"{role} {percent:.0f}" for role, percent in self.cpu.items())))
        return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items())) or "none"


def _short(events: dict[str, int]) -> dict[str, int]:
    """By the words between the category and the version: `order.payment-failed.v1` is `payment-failed`."""
    return {name.partition(".")[2].rpartition(".")[0] or name: number for name, number in events.items()}


def _latency(summary: dict[str, float | None]) -> str:
    if summary["p50"] is None:
        return "not measured"
    return ", ".join(f"{name} {value:.1f} ms" for name, value in summary.items() if value is not None)
