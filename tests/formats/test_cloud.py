"""Files in the cloud: what a folder has, private copies of a bounded size in memory, and what is said when it fails."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from buckets import Bucket, a_bucket

from crm_core.errors import DropUnreadable
from crm_core.formats import cloud
from crm_core.formats.cloud import copied, list_folder
from crm_core.model import CloudPath

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with a_bucket() as bucket:
        yield bucket


def refusal(path: CloudPath, home: Path | None = None) -> str:
    with pytest.raises(DropUnreadable) as refused, copied(path, home) if home else nullcontext():
        list_folder(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said.removeprefix(f"{path}: ")


def test_an_address_names_a_bucket_and_a_way_in_it() -> None:
    path = CloudPath.parse("s3://crm/in/drops/")
    assert path is not None
    assert (str(path / "a.csv"), (path / "a.csv").name) == ("s3://crm/in/drops/a.csv", "a.csv")
    assert CloudPath.parse("gs://crm") == CloudPath("gs://crm")
    for text in ("drops", "/srv/s3", "./s3:x", "C:/s3"):
        assert CloudPath.parse(text) is None
    for text in ("s3:", "s3:/crm/a.csv", "s3:///a.csv", "s3://", "gs://a b/c", "s3://crm/a?x"):
        with pytest.raises(ValueError, match=r".*"):
            CloudPath.parse(text)


def test_a_folder_has_files_and_folders_in_order_of_their_names(bucket: Bucket) -> None:
    names = ["b.csv", "a 1%.csv", "Zürich, 2.csv", "erp/c.csv", "shop/d/e.csv"]
    for name in names:
        bucket.put(f"listed/{name}", name.encode())
    bucket.put("listed.csv", b"beside it")
    folders, files = list_folder(CloudPath(f"{bucket.address}/listed"))
    assert folders == ["erp", "shop"]
    assert [(file.path.name, file.bytes) for file in files] == [("Zürich, 2.csv", 14), ("a 1%.csv", 8), ("b.csv", 5)]
    assert list_folder(CloudPath(f"{bucket.address}/listed/erp"))[1][0].path.address == "s3://crm/listed/erp/c.csv"
    assert list_folder(CloudPath(f"{bucket.address}/nothing")) == ([], [])
    before = {file.path.name: file.tag for file in files}
    bucket.put("listed/b.csv", b"B.CSV")
    after = {file.path.name: file.tag for file in list_folder(CloudPath("s3://crm/listed"))[1]}
    assert after["b.csv"] != before["b.csv"], "as long and as old as before, but another content"
    assert after["a 1%.csv"] == before["a 1%.csv"]


def test_a_file_is_copied_block_by_block_for_this_user_alone(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "BLOCK_BYTES", 1000)
    content, told = os.urandom(2500), list[tuple[int, int]]()
    bucket.put("copied/Ünï 1%.bin", content)
    path, home = CloudPath("s3://crm/copied/Ünï 1%.bin"), tmp_path / "home"
    with copied(path, home, on_bytes=lambda done, of: told.append((done, of))) as copy:
        assert copy.is_file()
        assert (copy.read_bytes(), copy.read_bytes()) == (content, content)
        assert (stat.S_IMODE(copy.stat().st_mode), stat.S_IMODE(home.stat().st_mode)) == (0o600, 0o700)
        assert list(home.iterdir()) == [], "nothing is left if the process dies now"
    assert told == [(0, 2500), (1000, 2500), (2000, 2500)]
    bucket.put("copied/empty.csv", b"")
    with copied(CloudPath("s3://crm/copied/empty.csv"), home) as copy:
        assert copy.read_bytes() == b""


def test_a_file_that_changed_since_it_was_listed_or_while_it_is_read_is_refused(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("changing/a.csv", b"1" * 100)
    _, (file,) = list_folder(CloudPath("s3://crm/changing"))
    bucket.put("changing/a.csv", b"2" * 100)
    with pytest.raises(DropUnreadable, match="changed while it was read"), copied(file.path, tmp_path, file.tag):
        pass
    monkeypatch.setattr(cloud, "BLOCK_BYTES", 60)
    with (
        pytest.raises(DropUnreadable, match="changed while it was read"),
        copied(file.path, tmp_path, on_bytes=lambda _done, _of: bucket.put("changing/a.csv", b"3" * 100)),
    ):
        pass


def test_what_goes_wrong_is_said_with_what_to_do(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, missing = CloudPath("s3://crm/a.csv"), CloudPath("s3://nobody/a.csv")
    bucket.put("a.csv", b"x")
    assert refusal(missing) == "there is no such bucket; check its name, or make it"
    assert refusal(missing, tmp_path) == "there is no such bucket; check its name, or make it"
    assert refusal(CloudPath("s3://crm/b.csv"), tmp_path) == "does not exist; check how its name is spelled"
    with bucket.locked():
        for said in (refusal(CloudPath("s3://crm")), refusal(there, tmp_path)):
            assert said.startswith("the credentials do not allow it; check them")
    (tmp_path / "file").write_text("no folder")
    assert refusal(there, tmp_path / "file").startswith("cannot be copied to this machine (File exists); make room")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert refusal(there, tmp_path).startswith("the storage does not answer; check the network")
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    said = "what reads the cloud is not installed; install it: pip install 'crm-core[s3]'"
    assert refusal(there, tmp_path) == said


def test_credentials_may_be_in_the_env_file(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    (tmp_path / ".env").write_text("".join(f"{name}={os.environ[name]}\n" for name in names))
    bucket.put("env/a.csv", b"x")
    for name in names:
        monkeypatch.delenv(name)
    assert [file.path.name for file in list_folder(CloudPath("s3://crm/env"))[1]] == ["a.csv"]
