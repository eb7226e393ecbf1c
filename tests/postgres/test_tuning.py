from __future__ import annotations

from pathlib import Path

import pytest

from crm_core.postgres.embedded import tuning
from crm_core.postgres.embedded.tuning import as_configuration, server_settings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("536870912", ("64MB", "64MB", "64MB", "4MB")),
        ("8589934592", ("1024MB", "128MB", "512MB", "64MB")),
    ],
    ids=["512 MiB", "8 GiB"],
)
def test_memory_is_scaled_to_the_limit_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: tuple[str, ...]
) -> None:
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(tuning, "_CGROUP_LIMITS", (tmp_path / "memory.max",))
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 1 << 24, "SC_PAGE_SIZE": 4096}.__getitem__)
    found = server_settings(tmp_path)
    names = ("shared_buffers", "work_mem", "maintenance_work_mem", "wal_buffers")
    assert tuple(found[name] for name in names) == expected


def test_a_container_without_a_limit_has_the_memory_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(tuning, "_CGROUP_LIMITS", (tmp_path / "memory.max", tmp_path / "none"))
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 1 << 24, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert server_settings(tmp_path)["shared_buffers"] == "2048MB"


def test_durability_is_never_turned_off(tmp_path: Path) -> None:
    assert not {"fsync", "synchronous_commit", "full_page_writes"} & set(server_settings(tmp_path))


def test_a_configuration_quotes_its_values() -> None:
    assert as_configuration({"unix_socket_directories": "/it's"}).splitlines()[1:] == [
        "unix_socket_directories = '/it''s'"
    ]
