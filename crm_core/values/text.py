"""Text from outside as one line that is safe to show on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping


def one_line(text: object) -> str:
    """Return a text from outside as one line of printable characters; all others become �."""
    return printable(" ".join(str(text).split()))


def json_line(value: Mapping[str, object]) -> str:
    r"""Return a JSON object in one line; characters that cannot be printed are written \uXXXX."""
    return printable(json.dumps(value, ensure_ascii=False, default=str), lambda char: json.dumps(char)[1:-1])


def printable(text: str, instead: Callable[[str], str] = lambda _: "�") -> str:
    """Return a line of text with `instead` in place of each character that cannot be printed."""
    return text if text.isprintable() else "".join(char if char.isprintable() else instead(char) for char in text)


def storable(text: str) -> str:
    """Return the text that names a file in a form that PostgreSQL can store."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
