"""A seed that fails is shrunk to a schedule that fails alike, and its command replays it."""

from __future__ import annotations

from click.testing import CliRunner

from simulation.__main__ import main, only
from simulation.fleet import play
from simulation.mutants import MUTANTS
from simulation.scene import scene_of
from simulation.shrinking import indices, shrink

NO_COMMAND_IDS = next(mutant for mutant in MUTANTS if mutant.name == "no command ids")


def test_a_repeated_command_is_all_that_is_left() -> None:
    with NO_COMMAND_IDS.applied():
        played = next(p for seed in range(20) if (p := play(scene_of(seed))).violations)
        shortest = shrink(played)
        assert len(shortest.sent) + len(shortest.faults) <= 4 < len(played.scene.sent)
        sent, faults = indices(played.scene, shortest)
        kept = only(scene_of(played.scene.seed), ",".join(map(str, sent)), ",".join(map(str, faults)))
        assert kept == shortest
        assert play(kept).violations[0].invariant == played.violations[0].invariant


def test_the_last_line_and_the_exit_code_tell_how_it_went() -> None:
    good = CliRunner().invoke(main, ["--seeds", "3", "--first", "7", "--processes", "1"])
    assert (good.exit_code, good.stdout.splitlines()[-1].split(",")[0]) == (0, "seeds 3")
    assert good.stdout.splitlines()[-1].endswith("violations 0")
    with NO_COMMAND_IDS.applied():
        bad = CliRunner().invoke(main, ["--seeds", "20", "--processes", "1"])
    assert bad.exit_code == 1
    assert "replay it:  make simulate FIRST=" in bad.stdout
    assert "the shortest schedule found" in bad.stdout
