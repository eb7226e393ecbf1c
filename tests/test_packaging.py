"""What `uv build` packs: everything that the product needs, and nothing that merely lies in the folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UV = os.environ.get("UV") or shutil.which("uv")
STRAY = [
    "customers.csv",
    "crm-report.html",
    "crm.dump",
    ".env",
    ".env.production",
    "data/customers.csv",
    "data/private/people.csv",
    "notes/todo.txt",
    ".crm/postgres/PG_VERSION",
    "api/__pycache__/app.pyc",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what was built from a checkout in which other files lie about."""
    if UV is None:
        pytest.skip("no uv: install it, or set UV to its path")
    checkout = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no checkout of git")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, checkout / name)
    for name in STRAY:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("private")
    done = subprocess.run([UV, "build"], cwd=checkout, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return checkout / "dist"


@pytest.fixture(scope="module")
def source(built: Path) -> set[str]:
    """The files of the source distribution."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        return {member.name.partition("/")[2] for member in tar if member.isfile()}


@pytest.fixture(scope="module")
def wheel(built: Path) -> set[str]:
    """The files of the wheel."""
    (archive,) = built.glob("*.whl")
    with zipfile.ZipFile(archive) as zipped:
        return set(zipped.namelist())


@pytest.mark.parametrize("name", STRAY)
def test_what_merely_lies_in_the_folder_is_not_packed(source: set[str], wheel: set[str], name: str) -> None:
    assert name not in source
    assert not [packed for packed in wheel if packed.endswith(name)]


def test_the_source_distribution_has_all_that_it_is_built_and_tested_with(source: set[str]) -> None:
    needed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", ".env.example", "compose.yaml"}
    assert needed <= source
    for folder in ("api", "crm_core", "pipelines", "sql", "tests", "docs", "data/drops", "data/fixtures", "data/peers"):
        assert [name for name in source if name.startswith(f"{folder}/")], folder


def test_the_wheel_has_statements_samples_types_and_licence(wheel: set[str]) -> None:
    assert {"crm_core/py.typed", "api/py.typed", "pipelines/py.typed", "crm_core/report/templates/report.html"} <= wheel
    shipped = "crm_core/_shipped"
    statements = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sql").rglob("*.sql")}
    assert {f"{shipped}/{name}" for name in statements} <= wheel
    assert f"{shipped}/data/sample_ingest.csv" in wheel
    assert [name for name in wheel if name.startswith(f"{shipped}/data/fixtures/")]
    assert [name for name in wheel if name.endswith(".dist-info/licenses/LICENSE")]
