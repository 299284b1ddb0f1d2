"""`python -m simulation`: play seeds; where one breaks a promise, show it, replay it, and shrink it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from simulation.fleet import Played, play
from simulation.running import Tally, simulate
from simulation.scene import Scene, scene_of
from simulation.shrinking import indices, shrink

STORY_LINES_MAX = 200


@click.command()
@click.option("--seeds", default=1_000, show_default=True, help="How many seeds to play.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--processes", default=None, type=int, help="How many processes play; by default one per core.")
@click.option("--sent", default=None, help="Replay: only these records, by number, separated by commas.")
@click.option("--faults", default=None, help="Replay: only these faults, by number, separated by commas.")
@click.option("--tell", is_flag=True, help="Tell every step of the first seed.")
@click.option("--shrink/--no-shrink", "shrinks", default=True, help="Look for the shortest schedule that still fails.")
def main(  # noqa: PLR0917 - click names them all
    seeds: int, first: int, processes: int | None, sent: str | None, faults: str | None, tell: bool, shrinks: bool
) -> None:
    """Simulate the fleet under faults, one scene per seed. The last line tells how it went; exit code 1 if not well."""
    if tell or sent is not None or faults is not None:
        tally = replay(only(scene_of(first), sent, faults), tell=tell)
        seeds = 1
    else:
        tally = simulate(first, seeds, processes=processes)
        for played in tally.failed[:1]:
            show(played, shrinks=shrinks)
        for played in tally.failed[1:]:
            print(f"\nseed {played.scene.seed} breaks promises, too: {played.violations[0]}")
        if tally.failed and tally.seeds < seeds:
            print(f"\n{len(tally.failed)} seeds are enough to look at: the rest was not played")
    print(tally.last_line())
    sys.exit(1 if tally.violations else 0)


def only(scene: Scene, sent: str | None, faults: str | None) -> Scene:
    """The scene with a part of its records and faults."""
    kept = scene.sent if sent is None else tuple(scene.sent[n] for n in _numbers(sent))
    struck = scene.faults if faults is None else tuple(scene.faults[n] for n in _numbers(faults))
    return scene.only(kept, struck)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number.strip()]


def replay(scene: Scene, *, tell: bool) -> Tally:
    """Play one scene again."""
    played = play(scene, tell=tell)
    show_scene(scene)
    for line in played.story:
        print(line)
    show_violations(played)
    print(f"trace {played.trace:08x} after {played.steps} steps")
    return Tally(1, played.crashes, played.steps, failed=[played] if played.violations else [])


def show(played: Played, *, shrinks: bool) -> None:
    """A seed that breaks a promise: what, how to see it again, and the shortest schedule found."""
    seed = played.scene.seed
    print(f"\nseed {seed} breaks a promise")
    show_violations(played)
    print(f"\nreplay it:  {command(seed)}")
    if shrinks:
        print("\nshrinking …", flush=True)
        shortest = shrink(played)
        sent, faults = indices(played.scene, shortest)
        print("the shortest schedule found:")
        show_scene(shortest)
        again = play(shortest, tell=True)
        show_violations(again)
        print(f"\nits last steps (of {again.steps}):")
        for line in again.story[-STORY_LINES_MAX:]:
            print(f"    {line}")
        print(f"\nreplay it:  {command(seed, sent, faults)}")


def command(seed: int, sent: Sequence[int] | None = None, faults: Sequence[int] | None = None) -> str:
    """What plays exactly this again, step by step."""
    arguments = ["--tell"]
    if sent is not None and faults is not None:
        arguments += [f"--sent '{','.join(map(str, sent))}'", f"--faults '{','.join(map(str, faults))}'"]
    return f'make simulate FIRST={seed} ARGS="{" ".join(arguments)}"'


def show_scene(scene: Scene) -> None:
    """What is sent and what happens."""
    print(f"seed {scene.seed}: {scene.describe()}")
    for _, line in sorted(
        [(s.at_s, f"sent  {s}") for s in scene.sent] + [(f.at_s, f"FAULT {f}") for f in scene.faults]
    ):
        print(f"    {line}")


def show_violations(played: Played) -> None:
    """Which promises were broken."""
    for violation in played.violations:
        print(f"  ✗ {violation}")


if __name__ == "__main__":
    main()
