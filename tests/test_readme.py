"""README and docs are true: their commands run or exist, their links lead somewhere, and they leave no code out."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from running import clean_environment, new_home

from crm_core.cli.main import crm
from crm_core.model import Reason

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
UV_RUN_CRM = f'uv() {{ shift 2; {shlex.quote(sys.executable)} -m crm_core "$@"; }}\n'


def blocks(page: str, title: str) -> list[str]:
    """The shell commands of a section."""
    section = (ROOT / page).read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def code(text: str) -> Iterator[str]:
    """The lines of the shell blocks of a page, without remarks, and its code in running text."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from (line.partition(" #")[0] for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.unit
def test_the_readme_is_short_and_begins_with_one_command() -> None:
    assert len(README.splitlines()) <= 200
    assert "\npip install uv && uv run crm demo\n" in README
    assert "\npip install uv && uv run pytest\n" in README


@pytest.mark.unit
def test_every_command_of_the_readme_is_run_by_a_test() -> None:
    """Besides this module: tests/server/test_up.py (Every day), tests/api/test_readme.py and tests/cli/test_demo.py."""
    beginning, *sections = README.split("\n## ")
    assert [section.partition("\n")[0] for section in sections if "```sh" in section] == [
        "Your first drop",
        "Every day",
        "REST",
    ]
    assert [line for line in code(beginning) if " " in line] == [
        "pip install uv && uv run crm demo",
        "pip install uv && uv run pytest",
        "pip install --target .uv uv && .uv/bin/uv run crm demo",
        'export PATH="$PWD/.uv/bin:$PATH"',
    ], "installing needs a network, and the rest of these lines is the demo and this suite"


@pytest.mark.integration
def test_a_first_drop_is_merged_and_a_backup_is_restored() -> None:
    """The blocks as a reader copies them, one after the other, in a folder of its own."""
    first_drop, backup = blocks("README.md", "Your first drop"), blocks("docs/operations.md", "Back up and restore")
    assert (len(first_drop), len(backup)) == (1, 2)
    with new_home() as folder:
        folder.chmod(0o755)
        (folder / "data").symlink_to(ROOT / "data")
        for command in (
            "".join([UV_RUN_CRM, *first_drop, *backup]),
            UV_RUN_CRM + "CRM_HOME=.crm-restored uv run crm types",
        ):
            ran = subprocess.run(
                ["bash", "-ec", command],
                cwd=folder,
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=180,
            )
            assert ran.returncode == 0, ran.stderr
        assert "PERSON" in ran.stdout
        assert {path.name for path in folder.iterdir()} == {"data", ".crm", ".crm-restored", "crm.backup"}


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_written_exists_with_its_options(page: Path) -> None:
    for line in code(page.read_text()):
        if line.startswith(("helm ", "kubectl ")):  # there crm is a name
            continue
        for words in (found.split() for found in re.findall(r"(?<![\w/.=-])crm ((?:[a-z-]\S* ?)+)", line)):
            command: click.Command = crm
            while words and isinstance(command, click.Group) and not words[0].startswith("-"):
                name = words.pop(0).strip("$()'")
                assert name in command.commands, f"{page.name}: {line}"
                command = command.commands[name]
            options = {name for option in command.get_params(click.Context(command)) for name in option.opts}
            options |= {name for option in command.params for name in option.secondary_opts} | {"--help", "-h"}
            if command.name != "exec":
                assert {word for word in words if re.match(r"--[a-z]", word)} <= options, f"{page.name}: {line}"


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]


@pytest.mark.unit
def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[^)]+)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("0*.md"))


@pytest.mark.unit
@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_for_a_reject_is_explained(reason: Reason) -> None:
    assert f"`{reason}`" in (ROOT / "docs" / "drops.md").read_text()
