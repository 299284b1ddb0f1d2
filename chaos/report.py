"""What a run came to: JSON for programs, lines for people, a picture."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from chaos.picture import picture
from chaos.struck import Struck, recovery_by_kind

EXAMPLES_MAX = 50


@dataclass
class Report:
    """The figures of one run."""

    seed: int
    seconds: float
    role_under_fire: str
    struck: list[Struck] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    records_checked: int = 0
    load: dict[str, Any] = field(default_factory=dict)
    series: dict[str, list[Any]] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)

    @property
    def made(self) -> list[Struck]:
        """Those faults that could be made."""
        return [one for one in self.struck if one.why_not is None]

    @property
    def ok(self) -> bool:
        """Whether every promise was kept, and enough was looked at to say so."""
        return not self.violations and self.records_checked > 0

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "ok": self.ok,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "role_under_fire": self.role_under_fire,
            "faults": dict(sorted(Counter(one.kind for one in self.made).items())),
            "violations": len(self.violations),
            "examples": self.violations[:EXAMPLES_MAX],
            "records_checked": self.records_checked,
            "recovery_ms": recovery_by_kind(self.made),
            "skipped": {one.kind: one.why_not for one in self.struck if one.why_not is not None},
            "strikes": [one.as_json() for one in self.made],
            "load": self.load,
            "checks": self.checks,
            "series": self.series,
        }

    def write(self, file: Path | None, image: Path) -> None:
        """Write the figures where they are wanted, and the picture."""
        if file is not None:
            file.write_text(json.dumps(self.as_json(), indent=1) + "\n")
        if self.series:
            verdict = "no violation" if self.ok else f"{len(self.violations)} VIOLATIONS"
            title = f"fleet chaos --seed {self.seed}: {len(self.made)} faults in {self.seconds:.0f} s, {verdict}"
            image.write_text(picture(title, self.series, self.made))

    def show(self, console: Console) -> None:
        """For people."""
        table = Table("fault", "times", "recovery p50", "max", title=f"Seed {self.seed}", title_justify="left")
        times = recovery_by_kind(self.made)
        for kind, number in sorted(Counter(one.kind for one in self.made).items()):
            told = times.get(kind)
            table.add_row(
                kind, str(number), *(f"{told[name] / 1000:.1f} s" if told else "—" for name in ("p50", "max"))
            )
        console.print(table)
        for one in self.struck:
            if one.why_not is not None:
                console.print(f"  skipped: {one.kind}: {one.why_not}", markup=False, highlight=False)
        for text in self.violations[:EXAMPLES_MAX]:
            console.print(f"  violation: {text}", markup=False, highlight=False)
        load = ", ".join(f"{name} {value}" for name, value in self.load.items())
        console.print(f"Load: {load}", highlight=False)
        console.print(
            f"{'OK' if self.ok else 'FAILED'}: {len(self.made)} faults, {self.records_checked:,} records checked, "
            f"{len(self.violations)} violations",
            style="bold green" if self.ok else "bold red",
        )
