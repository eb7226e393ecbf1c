"""`crm ingest --mode snapshot` and `crm approve` as they are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import ANNA, FIXTURES, Run, a_drop, anna

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nothing_around")]

BOB = "0b9f8a52-6c3e-4f0d-9a77-2d4e5c6b7a02"
AS_SNAPSHOT = ("--mode", "snapshot", "--scope", "person")


def bob(change_ts: str = "2024-01-01") -> list[str]:
    return [BOB, "Bob", "PERSON", "[]", change_ts, ""]


@pytest.fixture
def held(run: Run, tmp_path: Path) -> Path:
    """A snapshot that would end one of two, and was held."""
    assert run("ingest", a_drop(tmp_path / "all.csv", anna(), bob())).exit_code == 0
    drop = a_drop(tmp_path / "today.csv", bob("2024-03-01"))
    found = run("ingest", drop, *AS_SNAPSHOT, "--at", "2024-03-01")
    assert found.exit_code == 1
    assert "1 of 2 entities would end (Anna), which is more than 5 % (CRM_SNAPSHOT_LIMIT)" in found.stderr
    assert f"  {ANNA}  Anna" in found.stdout
    return drop


def test_a_held_snapshot_goes_in_when_it_is_approved(run: Run, held: Path) -> None:
    again = json.loads(run("ingest", "--json", held, *AS_SNAPSHOT, "--at", "2024-03-01").stdout)
    assert (again["status"], again["rows_read"], again["entities_ended"]) == ("held", 1, 0)
    assert again["unlisted"] == {
        "would_end": 1,
        "in_scope": 2,
        "first": [{"entity_uid": ANNA, "display_name": "Anna"}],
    }
    held.unlink()
    done = run("approve", "today.csv", "--reason", "she has left")
    assert done.exit_code == 0
    assert "entities that it does not list, and that ended: 1 of 2" in done.stdout
    assert run("approve", "today.csv").exit_code == 1
    assert run("check").exit_code == 0


def test_a_name_means_the_one_drop_of_that_name_that_waits(run: Run, held: Path) -> None:
    assert run("ingest", a_drop(held, anna("Annabel"))).exit_code == 0  # another file under the same name
    held.unlink()  # a file that is there means itself
    assert run("approve", "today.csv", "--decline", "--reason", "half a file").exit_code == 0
    again = run("approve", "today.csv", "--decline", "--reason", "half a file")
    assert (again.exit_code, "2 drops are named 'today.csv'" in again.stderr) == (2, True), "none of them is held"
    done = run("approve", "today.csv")
    assert "ended: 1 of 2" in done.stdout, "the one that was declined"
    assert run("approve", "today.csv").exit_code == 2


def test_a_declined_snapshot_says_so_when_it_comes_again(run: Run, held: Path) -> None:
    assert run("approve", held, "--decline").exit_code == 2
    assert run("approve", held, "--decline", "--reason", "half a file").exit_code == 0
    again = run("ingest", held, *AS_SNAPSHOT, "--at", "2024-03-01")
    assert again.exit_code == 1
    assert "(half a file), so nothing was changed; to let it in after all, approve it: crm approve" in again.stderr
    assert run("approve", held).exit_code == 0


def test_a_limit_of_the_settings_lets_more_end(run: Run, held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_SNAPSHOT_LIMIT", "50")
    found = json.loads(run("ingest", "--json", held, *AS_SNAPSHOT, "--at", "2024-03-01").stdout)
    assert (found["status"], found["entities_ended"]) == ("merged", 1)


def test_a_scope_is_a_source_too(run: Run, tmp_path: Path) -> None:
    assert run("loaddata", *FIXTURES).exit_code == 0
    rows = ["source,source_key,display_name,entity_type,details,change_ts"]
    rows += [f"erp,{key},Erp {key},PERSON,[],2024-01-01" for key in (1, 2)]
    (tmp_path / "all.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "today.csv").write_text("\n".join(rows[:2]) + "\n")
    of = ("--mode", "snapshot", "--at", "2024-03-01", "--scope")
    assert run("ingest", tmp_path / "all.csv").exit_code == 0
    found = run("ingest", tmp_path / "today.csv", *of, "source=ERP")
    assert "held, and nothing was changed: 1 of 2 entities would end (Erp 2)" in found.stderr
    assert "ended: 1 of 2" in run("approve", "today.csv").stdout
    for scope, said in (
        ("source=crm", "'crm' in the scope is not a source"),
        ("source=erp,PERSON", "a source and more"),
    ):
        found = run("ingest", tmp_path / "today.csv", *of, scope)
        assert (found.exit_code, said in " ".join(found.stderr.split())) == (2, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mode", "snapshot"), "needs --scope"),
        (("--scope", "PERSON"), "add --mode snapshot"),
        (("--at", "2024-01-01"), "add --mode snapshot"),
        ((*AS_SNAPSHOT, "--at", "soon"), "is not ISO 8601"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    run: Run, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    found = run("ingest", a_drop(tmp_path / "a.csv", anna()), *options)
    assert found.exit_code == 2
    assert said in " ".join(found.stderr.split())
