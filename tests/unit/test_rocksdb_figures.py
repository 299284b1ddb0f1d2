"""What the stores hold in memory is told, beside what they may hold."""

from __future__ import annotations

from pathlib import Path

from app.runtime.ports import Progress
from app.runtime.settings import Settings
from tables.budget import RocksDBBudget
from tables.figures import RocksDBCollector
from tables.store import RocksDBStores


def figures(collector: RocksDBCollector) -> dict[tuple[str, str], float]:
    return {(s.name, s.labels["part"]): s.value for metric in collector.collect() for s in metric.samples}


def test_what_all_stores_use_is_told_beside_their_budget(tmp_path: Path) -> None:
    budget = RocksDBBudget.of(Settings(rocksdb_cache_bytes=4 << 20, rocksdb_write_buffer_bytes=8 << 20), stores=2)
    collector, stores = RocksDBCollector(budget), RocksDBStores(tmp_path, budget)
    before = figures(collector)
    assert before["eventfleet_rocksdb_bytes_max", "block_cache"] == 4 << 20
    assert before["eventfleet_rocksdb_bytes_max", "memtables"] == 8 << 20
    both = [stores("agent", number) for number in range(2)]
    for store in both:
        store.write({b"key": bytes(1 << 20)}, Progress(1, "log", 0))
    grown = (
        figures(collector)["eventfleet_rocksdb_bytes", "memtables"] - before["eventfleet_rocksdb_bytes", "memtables"]
    )
    assert 2 << 20 <= grown <= 4 << 20
    for store in both:
        store.close()
