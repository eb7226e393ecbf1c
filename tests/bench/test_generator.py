"""Generated drops have the promised size, mix and faults, and are the same for the same seed."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import polars as pl
import pytest

from crm_core.bench.generator import START, Drops, write_dirty, write_drops, write_wide
from crm_core.model import Reason
from crm_core.rows.reader import read_drop

pytestmark = pytest.mark.unit

ENTITIES = 2_000


@pytest.fixture(scope="module")
def drops(tmp_path_factory: pytest.TempPathFactory) -> Drops:
    return write_drops(tmp_path_factory.mktemp("drops"), ENTITIES)


def read(path: Path) -> pl.DataFrame:
    """Read a drop, with a column of its instants and one of its details by type."""
    frame = pl.read_csv(path, infer_schema=False)
    instants = frame["change_ts"].str.to_datetime("%Y-%m-%dT%H:%M:%S%.6f%#z", time_zone="UTC")
    return frame.with_columns(instant=instants)


def details(frame: pl.DataFrame) -> dict[str, dict[str, str]]:
    """Details by type of each entity."""
    return {
        uid: {item["detail_type"]: item["detail_value"] for item in json.loads(text)}
        for uid, text in frame.select("entity_uid", "details").iter_rows()
    }


def both(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The entities of both drops, with the columns of the later one suffixed."""
    return before.join(after, on="entity_uid", suffix="_after")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(drops: Drops, tmp_path: Path) -> None:
    again = write_drops(tmp_path / "again", ENTITIES)
    other = write_drops(tmp_path / "other", ENTITIES, seed=2)
    for name in Drops.__slots__:
        assert sha256(getattr(again, name)) == sha256(getattr(drops, name))
        assert sha256(getattr(other, name)) != sha256(getattr(drops, name))


def test_every_entity_comes_once_with_two_and_a_half_details_on_average(drops: Drops) -> None:
    initial = read(drops.initial)
    assert initial.height == initial["entity_uid"].n_unique() == ENTITIES
    assert sum(map(len, details(initial).values())) == ENTITIES * 5 // 2
    assert {len(by_type) for by_type in details(initial).values()} == {1, 2, 3, 4}
    assert {code for by_type in details(initial).values() for code in by_type} == {
        "email",
        "phone",
        "address",
        "website",
    }


def test_the_uids_are_canonical_random_uuids(drops: Drops) -> None:
    for text in read(drops.initial)["entity_uid"]:
        assert str(UUID(text)) == text
        assert UUID(text).version == 4


def test_nobody_can_be_reached_by_mistake(drops: Drops) -> None:
    for by_type in details(read(drops.initial)).values():
        assert re.fullmatch(r"[a-z]+\d+@example\.(org|com|net)", by_type.get("email", "x1@example.org"))
        assert re.fullmatch(
            r"https://[a-z]+\d+\.example\.(org|com|net)", by_type.get("website", "https://x1.example.org")
        )
        assert re.fullmatch(r"\+1 \d{3} 555 01\d\d", by_type.get("phone", "+1 200 555 0100"))


def test_the_names_need_quoting_and_unicode(drops: Drops) -> None:
    shown = " ".join(read(drops.initial)["display_name"])
    assert all(letter in shown for letter in ("É", "Ş", "ß", "李", "佐", "'", '"', ","))


def test_the_delta_is_70_percent_unchanged_20_percent_changed_10_percent_new(drops: Drops) -> None:
    initial, delta = read(drops.initial), read(drops.delta)
    known = both(initial, delta)
    same = (known["display_name"] == known["display_name_after"]) & (known["details"] == known["details_after"])
    assert (delta.height, known.height) == (ENTITIES, ENTITIES * 9 // 10)
    assert (same.sum(), (~same).sum()) == (ENTITIES * 7 // 10, ENTITIES * 2 // 10)


@pytest.mark.parametrize("name", ["delta", "late"])
def test_a_change_is_of_the_name_or_of_one_detail_or_of_both(drops: Drops, name: str) -> None:
    known = both(read(drops.initial), read(getattr(drops, name)))
    old, new = (details(known.select("entity_uid", details=column)) for column in ("details", "details_after"))
    renamed = dict(zip(known["entity_uid"], known["display_name"] != known["display_name_after"], strict=True))
    assert all(old[uid].keys() == new[uid].keys() for uid in renamed)
    kinds = [(renamed[uid], sum(old[uid][code] != new[uid][code] for code in old[uid])) for uid in renamed]
    assert set(kinds) - {(False, 0)} == {(True, 0), (False, 1), (True, 1)}
    for kind in [(True, 0), (False, 1), (True, 1)]:
        assert kinds.count(kind) == pytest.approx((len(kinds) - kinds.count((False, 0))) / 3, rel=0.5)


def test_the_replay_has_the_rows_of_the_delta_and_other_bytes(drops: Drops) -> None:
    assert sha256(drops.replay) != sha256(drops.delta)
    assert sorted(drops.replay.read_bytes().splitlines()) == sorted(drops.delta.read_bytes().splitlines())


def test_the_late_drop_lies_between_initial_and_delta_and_says_something_else(drops: Drops) -> None:
    initial, delta, late = read(drops.initial), read(drops.delta), read(drops.late)
    assert late.height == late["entity_uid"].n_unique() == ENTITIES // 20
    assert START <= initial["instant"].min() < initial["instant"].max() < late["instant"].min()
    assert (
        late["instant"].max() < delta["instant"].min() == pytest.approx(START + timedelta(31), abs=timedelta(hours=1))
    )
    for other in (initial, delta):
        pair = both(other, late)
        same = (pair["display_name"] == pair["display_name_after"]) & (pair["details"] == pair["details_after"])
        assert pair.height > ENTITIES // 20 * 0.8
        assert not same.any()


@pytest.mark.parametrize("size", [10_000, 3_000_000])
def test_a_wide_drop_has_about_the_size_asked_for(tmp_path: Path, size: int) -> None:
    rows = write_wide(tmp_path / "wide.csv", size)
    frame = read(tmp_path / "wide.csv")
    assert (tmp_path / "wide.csv").stat().st_size == pytest.approx(size, rel=0.1)
    assert rows == frame.height == frame["entity_uid"].n_unique()


def test_a_dirty_drop_has_every_fault_in_turn_and_leaves_the_other_rows_alone(tmp_path: Path) -> None:
    faults = write_dirty(tmp_path / "dirty.csv", 1_000, 0.05)
    clean = write_dirty(tmp_path / "clean.csv", 1_000, 0)
    lines, good = ((tmp_path / name).read_bytes().split(b"\n") for name in ("dirty.csv", "clean.csv"))
    assert set(Reason) - set(faults) == {
        Reason.UNKNOWN_SOURCE,
        Reason.MISSING_SOURCE_KEY,
        Reason.KEY_OF_ANOTHER_ENTITY,
    }
    assert sum(faults.values()) == 50
    assert max(faults.values()) - min(faults.values()) <= 1
    assert sum(clean.values()) == 0
    assert len(lines) == len(good) == 1_002
    assert sum(ours != theirs for ours, theirs in zip(lines, good, strict=True)) == 50


def test_lines_that_are_not_rows_are_as_many_as_promised(tmp_path: Path) -> None:
    faults = write_dirty(tmp_path / "dirty.csv", 2_000, 0.2)
    batches = list(read_drop(tmp_path / "dirty.csv"))
    found = Counter(reason for batch in batches for reject in batch.rejects for reason in reject.reasons)
    assert found == {reason: faults[reason] for reason in (Reason.WRONG_FIELD_COUNT, Reason.INVALID_ENCODING)}
    assert sum(batch.frame.height for batch in batches) == 2_000 - found.total()
