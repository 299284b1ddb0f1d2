"""The chaos room's own reckoning: what it counts, what it calls lost, and that a seed plays the same piece again."""

from __future__ import annotations

import asyncio
import random
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from chaos.disks import SmallDisk, unmount
from chaos.faults.disks import truncate_some
from chaos.faults.kinds import FAULTS
from chaos.ledger import Expected, Ledger
from chaos.load import arrivals
from chaos.orders import Obedience, Orders
from chaos.picture import picture
from chaos.probes import Probe, Probes
from chaos.report import Report
from chaos.schedule import APART_S, EVERY_S, QUIET_S, plan
from chaos.stage import BROKERS, nodes_behind_proxies
from chaos.struck import Struck, recovery_by_kind


def test_a_seed_plays_the_same_piece_again_and_another_one_another() -> None:
    assert plan(7, 300, FAULTS) == plan(7, 300, FAULTS)
    assert plan(7, 300, FAULTS) != plan(8, 300, FAULTS)
    assert [*arrivals("r", 7, 30, 20)] == [*arrivals("r", 7, 30, 20)]


@pytest.mark.parametrize("seed", range(20))
def test_faults_come_every_few_seconds_and_never_two_on_the_same(seed: int) -> None:
    strikes = plan(seed, 600, FAULTS)
    gaps = [later.at_s - earlier.at_s for earlier, later in pairwise(strikes)]
    assert min(gaps) >= EVERY_S[0] - 0.1
    assert any(gap >= QUIET_S[0] for gap in gaps)
    for hits, apart_s in APART_S.items():
        same = [strike for strike in strikes if hits in FAULTS[strike.kind].hits]
        for earlier, later in pairwise(same):
            assert later.at_s >= earlier.at_s + earlier.lasts_s + apart_s - 0.2
    assert all(strike.at_s + strike.lasts_s <= 600.1 for strike in strikes)


def test_every_kind_of_fault_comes_before_any_comes_often() -> None:
    kinds = {strike.kind for strike in plan(1, 600, FAULTS)}
    assert kinds == set(FAULTS)


def test_the_load_is_what_was_asked_for_and_has_bursts() -> None:
    found = [*arrivals("r", 1, 30, 60)]
    assert len(found) > 30 * 60
    by_second = [sum(second <= one.at_s < second + 1 for one in found) for second in range(60)]
    assert max(by_second) > 70
    assert sorted(by_second)[len(by_second) // 3] > 15
    assert {one.kind for one in found} == {"scripted", "shop", "disordered"}


def test_the_ledger_tells_what_is_lost_doubled_or_wrong_and_nothing_else() -> None:
    ledger = Ledger()
    for command_id in ("good", "wrong", "lost", "in doubt"):
        ledger.sending(command_id, Expected(None, 1), 0.0)
    ledger.sending("good", Expected(None, 1), 0.0)
    for command_id in ("good", "wrong", "lost"):
        ledger.acknowledged(command_id)
    ledger.answered("good", None, 1)
    ledger.answered("wrong", "order_not_paid", 1)
    ledger.answered("a chain's own", None, 7)
    assert ledger.unanswered() == ["lost"]
    assert (ledger.violations, ledger.repeated) == (
        ["wrong: order_not_paid at version 1, not accepted at 1"],
        1,
    )
    ledger.answered("good", None, 1)
    ledger.close()
    assert ledger.violations[1:] == ["good has a second outcome", "lost was acknowledged, and has no outcome"]
    assert ledger.in_doubt == 1
    assert ledger.series(1)["outcomes"] == [2]


def test_recovery_is_when_every_partition_has_answered_what_was_sent_after_the_fault() -> None:
    probes = Probes("r", ["http://nowhere"], 2, lambda: 20.0)
    probes.all = [Probe(0, 1.0, 1.1), Probe(1, 1.0, 12.0), Probe(0, 10.5, 11.0), Probe(1, 10.5)]
    assert probes.recovered_s(10.0) is None
    assert probes.worst_s(10.0, 11.0) == 9.5
    probes.all.append(Probe(1, 13.0, 14.5))
    assert probes.recovered_s(10.0) == 14.5


def test_a_report_is_only_good_where_something_was_checked_and_nothing_was_wrong() -> None:
    assert not Report(1, 60, "reads").ok
    assert Report(1, 60, "reads", records_checked=1).ok
    assert not Report(1, 60, "reads", records_checked=1, violations=["lost"]).ok


def test_recoveries_are_told_by_kind() -> None:
    struck = [Struck("kill", "w", 1, 2, 1, recovered_s=at) for at in (2.0, 4.0, 3.0)] + [Struck("cut", "w", 5, 6, 6)]
    assert recovery_by_kind(struck) == {"kill": {"p50": 2000, "max": 3000, "n": 3}}
    report = Report(1, 60, "reads", struck, records_checked=5).as_json()
    assert report["faults"] == {"cut": 1, "kill": 3}
    assert report["violations"] == 0


def test_the_picture_marks_every_fault_and_breaks_its_lines_where_nothing_came() -> None:
    series: dict[str, list[Any]] = {
        "sent": [3, 0, 5],
        "outcomes": [3, 0, 5],
        "p50_ms": [20.0, None, 900.0],
        "p99_ms": [50.0, None, 2e6],
    }
    struck = [Struck("kill", "<worker>", 0.5, 1.5, 0.5, recovered_s=2.0), Struck("cut", "", 1, 2, 2)]
    root = ElementTree.fromstring(picture("a & b", series, struck))
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "1. 0 s kill: <worker> — recovered in 1.5 s" in texts
    assert "2. 1 s cut:  — not recovered" in texts
    lines = [element.get("d", "") for element in root.iter("{http://www.w3.org/2000/svg}path")]
    assert sum(line.count("M") == 2 and "L" not in line for line in lines) == 2


def test_orders_are_followed_while_they_stand(tmp_path: Path) -> None:
    obedience = Obedience(tmp_path / "orders" / "w.json")
    obedience.effect("committed")
    assert obedience.look() == Orders()
    Orders(clock_offset_ms=-300_000).write(tmp_path / "orders" / "w.json")
    assert obedience.__class__(tmp_path / "orders" / "w.json").look().clock_offset_ms == -300_000


async def test_a_worker_that_is_ordered_to_dies_at_the_effect(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    Orders(kill_at="store-write", kill_after=1).write(file)
    script = (
        "import sys; from pathlib import Path; from chaos.orders import Obedience; o = Obedience(Path(sys.argv[1]))\n"
        "for name in ('committed', 'store-write:a', 'store-write:b', 'committed'):\n"
        "    print(name, flush=True); o.effect(name)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(file), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    told, _ = await process.communicate()
    assert told.split() == [b"committed", b"store-write:a", b"store-write:b"]
    assert process.returncode == -9


def test_every_worker_and_every_peer_goes_through_the_proxy() -> None:
    nodes, routes = nodes_behind_proxies(22_000)
    listens = [port for node in nodes for port in node.ports]
    assert len({*listens, *(route.port for route in routes)}) == 7 * BROKERS
    assert {route.target for route in routes} == {
        listener.port for node in nodes for listener in node.listeners if listener.name != "DIRECT"
    }
    for node in nodes:
        told = str(node.settings(Path("/data"))["controller.quorum.voters"])
        assert not any(f":{port}" in told for port in listens)


def test_files_are_cut_short(tmp_path: Path) -> None:
    for name in ("000012.sst", "MANIFEST-000004", "LOCK", "LOG"):
        (tmp_path / name).write_bytes(b"x" * 100)
    cut = truncate_some(tmp_path, random.Random(1))
    assert sorted(cut) == ["000012.sst", "MANIFEST-000004"]
    assert all((tmp_path / name).stat().st_size < 100 for name in cut)


def test_a_small_disk_fills_up_and_has_room_again(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk")
    try:
        if disk.why_not is not None:
            pytest.skip(f"a tmpfs cannot be mounted here: {disk.why_not}")
        assert disk.fill() > 1 << 20
        with pytest.raises(OSError, match="space"):
            (tmp_path / "disk" / "more").write_bytes(b"x" * 10_000)
        disk.empty()
        assert (tmp_path / "disk" / "more").write_bytes(b"x" * 10_000)
    finally:
        unmount(tmp_path / "disk")
