"""Files that are sent by odd clients: in another encoding, half a file, without room, to a process that dies."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from builders import reference_data
from running import until
from serve_process import serving
from servers import Server
from serving import ENTITIES, V1, a_problem, a_raw_problem, ask_raw, read_raw, served, served_with_types

from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]

DROPS = f"{V1}/drops"
CSV = {"Content-Type": "text/csv"}
HEADER = "display_name,entity_type,details\n"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="crm-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def client(database: Database, home: Path) -> Iterator[httpx.Client]:
    with served_with_types(database, home=home, client_timeout=2) as client:
        yield client
        assert files(home) == [], "nothing that was sent lies about"
    assert list((home / "uploads").iterdir()) == []


def files(home: Path) -> list[Path]:
    """The files below a folder, from which the service may remove folders meanwhile."""
    return [Path(folder, name) for folder, _, names in os.walk(home) for name in names]


def named(client: httpx.Client, name: str) -> int:
    return int(client.get(ENTITIES, params={"q": name}).json()["count"])


def a_drop(*names: str) -> str:
    return HEADER + "".join(f"{name},PERSON,[]\n" for name in names)


def a_form(content: bytes, *headers: str, name: str = "file", end: bytes = b"\r\n--x--\r\n") -> bytes:
    head = ["--x", f'Content-Disposition: form-data; name="{name}"; filename="a.csv"', *headers, "", ""]
    return "\r\n".join(head).encode() + content + end


def sent_form(client: httpx.Client, body: bytes) -> httpx.Response:
    return client.post(DROPS, content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})


def posting(client: httpx.Client, *headers: str) -> socket.socket:
    """Begin to post a drop, and send no body yet."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=20)
    head = [f"POST {DROPS} HTTP/1.1", "Host: localhost", "Content-Type: text/csv", *headers, "", ""]
    connection.sendall("\r\n".join(head).encode())
    return connection


def test_another_encoding_that_is_declared_is_refused_whole(client: httpx.Client) -> None:
    content = a_drop("Anna Charset", "Jürg Charset", "Otto Charset").encode("windows-1252")
    for charset in ("windows-1252", "ISO-8859-1", '"cp1252"', "utf-16", "nonsense"):
        for answer in (
            client.post(DROPS, content=content, headers={"Content-Type": f"text/csv; charset={charset}"}),
            client.post(
                DROPS, content=content, headers={"Content-Type": f"application/octet-stream;charset={charset}"}
            ),
            sent_form(client, a_form(content, f"Content-Type: text/csv; charset={charset}")),
        ):
            a_problem(answer, 400, "Content-Type", charset.strip('"'), "convert the text to UTF-8")
    assert named(client, "Charset") == 0
    for number, charset in enumerate(("utf-8", '"UTF-8"', "us-ascii", "utf8")):
        text = a_drop(f"Jürg Encoded {number}")
        answer = client.post(DROPS, content=text.encode(), headers={"Content-Type": f"text/csv; charset={charset}"})
        assert (answer.status_code, answer.json()["rows_accepted"]) == (201, 1)
    answer = sent_form(client, a_form(a_drop("Jürg Encoded 9").encode(), "Content-Type: text/csv; charset=UTF-8"))
    assert answer.status_code == 201
    assert named(client, "Jürg Encoded") == 5


def test_what_is_packed_is_to_be_unpacked_first(client: httpx.Client) -> None:
    content = a_drop("Packed").encode()
    for name, value in (("Content-Encoding", "gzip"), ("Content-Encoding", "br")):
        a_problem(
            client.post(DROPS, content=content, headers={**CSV, name: value}), 400, value, "decode the body first"
        )
    for header in ("Content-Transfer-Encoding: base64", "Content-Encoding: gzip"):
        a_problem(sent_form(client, a_form(content, header)), 400, "body.file", "decode the body first")
    assert named(client, "Packed") == 0
    assert sent_form(client, a_form(content, "Content-Transfer-Encoding: binary")).status_code == 201


def test_a_form_that_does_not_end_is_refused(client: httpx.Client) -> None:
    content = a_drop("Form Whole", "Form Cut").encode()
    for end in (b"", b"\r\n", b"\r\n--x", b"\r\n--x-", b"\r\n--y--\r\n"):
        a_problem(sent_form(client, a_form(content, end=end)), 400, "body")
    for cut in range(1, len(a_form(content)) - 6, 7):
        assert sent_form(client, a_form(content)[:cut]).status_code == 400, cut
    assert named(client, "Form") == 0
    a_problem(sent_form(client, a_form(content, name="other")), 400, "body.file", "curl -F file=@drop.csv")
    answer = client.post(DROPS, data={"dry_run": "true"}, files={"file": ("a.csv", content)})
    a_problem(answer, 400, "body.dry_run", "?dry_run=true")
    assert named(client, "Form") == 0
    assert sent_form(client, a_form(content)).status_code == 201


@pytest.mark.parametrize("how", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_an_upload_that_is_cut_or_stalls_takes_nothing_in(client: httpx.Client, home: Path, how: str) -> None:
    body = a_drop("Stalled", "Stal").encode()[:-10]
    before = client.get(DROPS).json()["count"]
    part = b"%x\r\n%s\r\n" % (len(body), body) if "chunked" in how else body
    with posting(client, how) as connection:
        connection.sendall(part)
        until(lambda: files(home), 5)
    until(lambda: not files(home), 5)
    with posting(client, how) as connection:
        connection.sendall(part)
        a_raw_problem(read_raw(connection), 408, "nothing was changed", "send it again")
        assert connection.recv(1) == b"", "who stalls is left"
    until(lambda: not files(home), 5)
    assert named(client, "Stal") == 0
    assert client.get(DROPS).json()["count"] == before


def test_a_body_that_comes_byte_by_byte_is_not_waited_for(client: httpx.Client) -> None:
    with posting(client, "Content-Length: 1000000") as connection:
        for _ in range(100):
            try:
                connection.sendall(b"x")
                connection.settimeout(0.1)
                received = connection.recv(100)
            except TimeoutError:
                continue
            break
        assert received.startswith(b"HTTP/1.1 408 ")


def test_an_invalid_length_is_refused(client: httpx.Client) -> None:
    for lengths in (
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: 99999999999999999999999999",
        b"Transfer-Encoding: gzip, chunked, identity",
    ):
        request = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n%s\r\n\r\n" % (
            DROPS.encode(),
            lengths,
        )
        assert ask_raw(client, request + b"0\r\n\r\n")[0] == 400, lengths


def test_nobody_else_may_look_at_what_is_sent(client: httpx.Client, home: Path) -> None:
    before = os.umask(0)
    try:
        with posting(client, "Content-Length: 1000") as connection:
            connection.sendall(HEADER.encode())
            until(lambda: files(home), 5)
            modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (home / "uploads").rglob("*")}
            assert stat.S_IMODE((home / "uploads").stat().st_mode) == 0o700
            assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
            assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    finally:
        os.umask(before)
    until(lambda: not files(home), 5)


def test_without_room_it_is_said_and_nothing_is_left(client: httpx.Client, database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with served(database, home=folder) as own:
        folder.mkdir()
        (folder / "uploads").write_text("a file stands where the folder should be")
        found = own.post(DROPS, content=a_drop("No Room"), headers=CSV)
        a_problem(found, 503, "cannot store the file now", "make room", "send it again")
        assert str(folder) not in found.text
        assert found.headers["retry-after"]
        (folder / "uploads").unlink()
        assert own.post(DROPS, content=a_drop("No Room"), headers=CSV).status_code == 201


def test_what_a_killed_process_has_left_goes_and_what_others_write_stays(server: Server, tmp_path: Path) -> None:
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        home = tmp_path / "home"
        with (
            serving(tmp_path, database, CRM_HOME=str(home)) as serve,
            posting(serve.client, "Content-Length: 1000") as one,
        ):
            one.sendall(HEADER.encode())
            until(lambda: files(home / "uploads"), 5)
            serve.process.send_signal(signal.SIGKILL)
            serve.process.wait(10)
        assert files(home / "uploads"), "nobody could clean up"
        (tmp_path / "two").mkdir()
        with serving(tmp_path / "two", database, "--workers", "2", CRM_HOME=str(home)) as serve:
            assert files(home / "uploads") == []
            answers = []
            with posting(serve.client, "Content-Length: 1000") as kept:
                kept.sendall(HEADER.encode())
                until(lambda: files(home / "uploads"), 5)
                (living,) = files(home / "uploads")
                for number in range(4):
                    answers.append(
                        serve.client.post(DROPS, content=a_drop(f"Living {number}"), headers=CSV).status_code
                    )
                assert (answers, living.exists()) == ([201] * 4, True)
                for worker in psutil.Process(serve.process.pid).children():
                    if "spawn_main" in " ".join(worker.cmdline()):
                        worker.kill()
            until(lambda: _status(serve.client) == 200, 30)
            assert serve.client.post(DROPS, content=a_drop("Afterwards"), headers=CSV).status_code == 201
            assert files(home / "uploads") == []
            assert serve.stop(signal.SIGTERM) == 0
        assert list((home / "uploads").iterdir()) == []


def _status(client: httpx.Client) -> int:
    try:
        return client.get("/healthz").status_code
    except httpx.HTTPError:
        return 0
