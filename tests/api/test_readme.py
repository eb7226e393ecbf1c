"""The README's section on REST: every command of it runs as it stands and answers what its reader expects."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from running import clean_environment, new_home, until

pytestmark = [pytest.mark.integration, pytest.mark.api]

ROOT = Path(__file__).parents[2]
SECTION = re.search(r"^## REST\n(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
UV_RUN_CRM = f'uv() {{ shift 2; {shlex.quote(sys.executable)} -m crm_core "$@"; }}\n'
DROP = ROOT / "data/drops/2022-06-01_dirty.csv"
HEADER = f"reject_line,reject_reasons,{DROP.read_text(errors='replace').splitlines()[0]}"
COMMAND = re.compile(
    r"(?:\\\n|'[^']*'|\"[^\"]*\"|[^'\"\n])+"
)  # a line, or several if a quote or a \ holds them together


@dataclass(frozen=True, slots=True)
class Told:
    """A command of the README and what it wrote."""

    command: str
    text: str

    @property
    def document(self) -> Any:
        return json.loads(self.text)

    @property
    def results(self) -> list[dict[str, Any]]:
        return list(self.document["results"])

    @property
    def names(self) -> list[str]:
        return [entity["display_name"] for entity in self.results]

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.text.splitlines()]


def commands() -> list[str]:
    assert SECTION is not None
    blocks = re.findall(r"^```sh\n(.*?)^```", SECTION[1], re.MULTILINE | re.DOTALL)
    return [found.strip() for block in blocks for found in COMMAND.findall(block) if found.strip()]


@pytest.fixture(scope="module")
def told() -> Iterator[list[Told]]:
    """What each command wrote, in order, on a fresh machine."""
    assert SECTION is not None
    *prepare, serve = (command for command in commands() if command.startswith("uv run crm"))
    asks = [command for command in commands() if not command.startswith("uv run crm")]
    with new_home() as home:
        environment = clean_environment(CRM_HOME=str(home / "crm"), PYTHONUNBUFFERED="1")
        for command in prepare:
            subprocess.run(["bash", "-ec", UV_RUN_CRM + command], cwd=ROOT, env=environment, check=True, timeout=60)
        with (home / "said").open("w") as said:
            arguments = [sys.executable, "-m", *shlex.split(serve.partition("#")[0].replace("uv run crm", "crm_core"))]
            server = subprocess.Popen([*arguments, "--port", "0"], cwd=ROOT, env=environment, stdout=said, stderr=said)
        try:
            until(lambda: "The API is at" in (home / "said").read_text() or server.poll() is not None, 60)
            (port,) = re.findall(r"API is at http://127\.0\.0\.1:(\d+)/docs", (home / "said").read_text())
            script = UV_RUN_CRM + "".join(f"{ask}\nprintf '\\036'\n" for ask in asks)
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script.replace("localhost:8000", f"localhost:{port}")],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert ran.returncode == 0, ran.stderr
            yield [Told(ask, text) for ask, text in zip(asks, ran.stdout.split("\036")[:-1], strict=True)]
        finally:
            server.terminate()
            server.wait(30)


EXPECTED: list[tuple[str, Callable[[Told], object]]] = [  # a part of the command, in the order of the README
    ("/entities'", lambda told: told.document["count"] == 9 and "Apple Inc." in told.names),
    ("q=john'", lambda told: told.names == ["John Appleton"]),
    ("entity_type=PERSON", lambda told: told.names == ["Inês Ferreira", "John Appleton", "Oskar Lindgren"]),
    ("email=john", lambda told: told.names == ["John Appleton"]),
    ('/entities/$ID"', lambda told: told.document["display_name"] == "John Doe" and len(told.document["details"]) == 2),
    ("John Smith", lambda told: (told.document["display_name"], told.document["details"][0]["detail_value"]) == (
        "John Smith", "john.smith@newcompany.com",
    )),
    ("$ID?as_of=", lambda told: told.document["display_name"] == "John Doe"),
    ("entities-asof?as_of=2024-06-30'", lambda told: "John Doe" in told.names and told.document["count"] == 10),
    ("as_of=2024-07-01T12:00:00Z&q=smith", lambda told: told.names == ["John Smith"]),
    ("/history", lambda told: [v.get("display_name", v.get("detail_value")) for v in told.results] == [
        "John Doe", "john.doe@example.com", "+1-555-0123", "John Smith", "john.smith@newcompany.com",
    ]),
    ("/audit", lambda told: [entry["op"] for entry in told.results] == ["upsert", "patch"]),
    ("to=2024-12-31'", lambda told: [d["action"] for d in told.results] == ["created"]),
    ("mode=changes", lambda told: [d["at"] for d in told.results] == ["2024-07-01T00:00:00Z"]),
    ("cursor=", lambda told: len(told.results) == 5 and told.document["next"]),
    ("entities-asof?as_of=2024-06-30' -H", lambda told: len(told.lines) == 10),
    ("from=2000-01-01", lambda told: len(told.lines) > 5),
    ("If-Match", lambda told: told.document["display_name"] == "Jon Smith"),
    ("Jane Roe", lambda told: told.document["display_name"] == "Jane Roe"),
    ("file_name=dirty.csv", lambda told: told.document["status"] == "merged" and told.document["rows_rejected"] > 0),
    ("/drops/$DROP\"", lambda told: told.document["file"] == "dirty.csv"),
    ("format=csv", lambda told: told.text.splitlines()[0] == HEADER and len(told.text.splitlines()) > 1),
    ("Authorization", lambda told: told.names == ["Jon Smith"]),
]  # fmt: skip


def test_every_command_of_the_section_is_looked_at() -> None:
    curls = [command for command in commands() if command.startswith("curl")]
    looked_at = [next((part for part, _ in EXPECTED if part in command), None) for command in curls]
    assert None not in looked_at, [c for c, part in zip(curls, looked_at, strict=True) if part is None]
    assert len(commands()) == len(curls) + 4 + 3, "the others: three of crm, and four variables"


@pytest.mark.parametrize(("part", "holds"), EXPECTED, ids=[part for part, _ in EXPECTED])
def test_a_command_answers_what_its_reader_expects(
    told: list[Told], part: str, holds: Callable[[Told], object]
) -> None:
    answer, *again = [found for found in told if part in found.command and found.command.startswith("curl")]
    assert holds(answer), answer
    if part == "Jane Roe":
        assert [found.text for found in again] == [answer.text], "what was sent twice is made once"
