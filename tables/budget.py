"""What all RocksDB stores of a process may use together: memory, files, threads."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, WriteBufferManager

from app.kernel.errors import ConfigurationRefused
from app.runtime.settings import Settings

BLOOM_BITS_PER_KEY = 10
BACKGROUND_JOBS = 2
FILES_BESIDE_STORES = 256
"""Sockets, logs, libraries."""
FILES_PER_STORE_MIN = 16
ROCKSDB_FILES_MIN = 20
"""RocksDB takes a smaller limit for this one."""
ARENA_BLOCK_BYTES_MIN = 16 << 10
ARENA_BLOCK_BYTES_MAX = 1 << 20
LOG_FILES = 2
LOG_FILE_BYTES = 1 << 20


@dataclass(frozen=True)
class RocksDBBudget:
    """One block cache and one budget of memtables, shared by all stores; open files, divided among them."""

    cache: Cache
    cache_bytes: int
    write_buffers: WriteBufferManager
    write_buffer_bytes: int
    arena_block_bytes: int
    open_files_per_store: int

    @classmethod
    def of(cls, settings: Settings, *, stores: int) -> RocksDBBudget:
        """The budget for at most `stores` open stores; refuses limits that they do not fit into."""
        _claim_files(max(settings.open_files_max, stores * ROCKSDB_FILES_MIN) + FILES_BESIDE_STORES)
        per_store = settings.open_files_max // max(stores, 1)
        if per_store < FILES_PER_STORE_MIN:
            raise ConfigurationRefused(
                f"FLEET_OPEN_FILES_MAX={settings.open_files_max} is too low for {stores} stores: "
                f"set it to {stores * FILES_PER_STORE_MIN} or more"
            )
        return cls(
            Cache(settings.rocksdb_cache_bytes),
            settings.rocksdb_cache_bytes,
            WriteBufferManager(settings.rocksdb_write_buffer_bytes, False),
            settings.rocksdb_write_buffer_bytes,
            _arena_block_bytes(settings.rocksdb_write_buffer_bytes, stores),
            per_store,
        )

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """By part: the bytes that are used and those that may be."""
        return {
            "block_cache": (self.cache.get_usage(), self.cache_bytes),
            "memtables": (self.write_buffers.get_usage(), self.write_buffer_bytes),
        }

    def options(self) -> Options:
        """RocksDB options of one store."""
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self.cache)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, False)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_manager(self.write_buffers)
        options.set_write_buffer_size(max(self.write_buffer_bytes // 4, 1 << 20))
        options.set_arena_block_size(self.arena_block_bytes)
        options.set_max_open_files(self.open_files_per_store)
        options.set_max_background_jobs(BACKGROUND_JOBS)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_keep_log_file_num(LOG_FILES)
        options.set_max_log_file_size(LOG_FILE_BYTES)
        options.set_stats_dump_period_sec(0)
        return options


def _arena_block_bytes(write_buffer_bytes: int, stores: int) -> int:
    """What a memtable takes at a time, from its first row on.

    With RocksDB's megabyte, a hundred stores of a few rows each filled the whole budget, so that every store flushed
    tiny files all the time and the memtables still held four times the budget.
    """
    share = write_buffer_bytes // (8 * max(stores, 1))
    return min(max(share // 4096 * 4096, ARENA_BLOCK_BYTES_MIN), ARENA_BLOCK_BYTES_MAX)


def _claim_files(wanted: int) -> None:
    """Raise the soft limit of open files, if need be, up to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise ConfigurationRefused(
                f"the process may open {hard} files and needs {wanted}: raise the limit (ulimit -n), "
                "or lower FLEET_OPEN_FILES_MAX"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
