"""The configuration of the embedded PostgreSQL, scaled to the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

_MIB = 1 << 20
_GIB = 1 << 30
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def server_settings(folder: Path) -> dict[str, str]:
    """Return the settings of a server whose data are in `folder`, by name.

    A bulk merge writes in bursts: room for WAL between checkpoints and memory for sorts made it 1.4 to 1.6 times as
    fast as the defaults, measured on 200,000 rows. Durability is unchanged: fsync and synchronous_commit stay on.
    """
    memory = _memory()
    shared_buffers = min(2 * _GIB, memory // 8)
    return {
        "max_connections": "100",
        "shared_buffers": _megabytes(shared_buffers),
        "effective_cache_size": _megabytes(memory // 2),
        "work_mem": _megabytes(_between(64 * _MIB, memory // 64, 256 * _MIB)),
        "temp_buffers": _megabytes(_between(8 * _MIB, memory // 64, 256 * _MIB)),  # used as far as a merge fills it
        "maintenance_work_mem": _megabytes(_between(64 * _MIB, memory // 16, _GIB)),
        "wal_buffers": _megabytes(_between(4 * _MIB, shared_buffers // 16, 64 * _MIB)),
        "max_wal_size": _megabytes(_between(256 * _MIB, shutil.disk_usage(folder).free // 8, 8 * _GIB)),
        "checkpoint_timeout": "30min",
        "random_page_cost": "1.1",
        "jit": "off",
        "dynamic_shared_memory_type": _dynamic_shared_memory(),
        "client_connection_check_interval": "1s",  # otherwise the statement of a killed client runs to its end
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
    }


def as_configuration(settings: Mapping[str, str]) -> str:
    """Return the text of a postgresql.conf."""
    lines = ["# Written again at every start. To change a setting for good: alter system set name = value;"]
    for name, value in settings.items():
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{quoted}'")
    return "\n".join(lines) + "\n"


def _memory() -> int:
    """Return the bytes that this process may use: those of the machine, or the limit of a container."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in _CGROUP_LIMITS:
        if file.is_file() and (limit := file.read_text().strip()).isdigit():
            memory = min(memory, int(limit))
    return memory


def _dynamic_shared_memory() -> str:
    """Return where parallel queries share memory; a container's /dev/shm of 64 MiB is too small."""
    devices = Path("/dev/shm")
    small = devices.is_dir() and shutil.disk_usage(devices).total < _GIB
    return "sysv" if small else "posix"


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))


def _megabytes(size: int) -> str:
    return f"{size // _MIB}MB"
