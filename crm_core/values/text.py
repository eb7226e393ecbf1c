"""Text that others chose, as one line that can be shown: no terminal takes any of it for a command."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping


def one_line(text: object) -> str:
    """Return a text that is not ours as one line of printable characters; others become �."""
    return printable(" ".join(str(text).split()))


def json_line(value: Mapping[str, object]) -> str:
    r"""Return a JSON object in one line; a character that cannot be printed is written \uXXXX."""
    return printable(json.dumps(value, ensure_ascii=False, default=str), lambda char: json.dumps(char)[1:-1])


def printable(text: str, instead: Callable[[str], str] = lambda _: "�") -> str:
    """Return a line of text with `instead` of each character that cannot be printed."""
    return text if text.isprintable() else "".join(char if char.isprintable() else instead(char) for char in text)
