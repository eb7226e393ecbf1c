"""The grammar of CSV: what a record is, where it ends, and which bytes are not part of any.

RFC 4180 with LF or CRLF and any separator, and one extension: a quote inside an unquoted field stands for itself. What
the grammar does not accept costs one physical line, and reading goes on normally at the next line. Every pattern is
possessive, so that no input makes it backtrack, and a record has a maximum size, so that an unclosed quote cannot
swallow the file. Groups that repeat are atomic too: early releases of Python 3.11 lose their place when one fails
halfway (CPython gh-106052).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from itertools import chain

import polars as pl

from crm_core.model import Reason, Reject

UTF_8_MARK = b"\xef\xbb\xbf"
COMMA = ","
RAW_BYTES = 64 << 10  # bytes of a rejected record that are kept
CUT = "[cut: "  # the beginning of the text that replaces the rest
RECORD_BYTES = 8 << 20  # a longer record is damaged, most likely by an unclosed quote

_QUOTED = rb'"[^"]*+(?:""[^"]*+)*+"'
_QUOTED_IN_LINE = rb'"[^"\n]*+(?:""[^"\n]*+)*+"'
_MARK = UTF_8_MARK + rb"|\x1a"  # joined files may each begin with a byte order mark or end with a Ctrl-Z
_MARKS = re.compile(rb"(?:(?>" + _MARK + rb"))*+")
_BLANK = re.compile(rb"(?:(?>\r?\n|" + _MARK + rb"))++")
_TEXT = re.compile(  # UTF-8 without NUL, which PostgreSQL cannot store
    rb"(?:(?>[\x01-\x7f]++|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}))*+"
)


@dataclass(frozen=True, slots=True)
class Split:
    """The records and rejects of a block of a file."""

    sound: bytes  # records of the right number of fields in UTF-8, each ended by a newline
    lines: list[int]  # the line on which each of them starts
    rejects: list[Reject]
    end: int  # the block was read up to here; the rest continues in the next block
    next_line: int  # the line at `end`
    in_long_line: bool  # `end` is in the middle of a rejected line


@dataclass(frozen=True, slots=True)
class _Grammar:
    """The patterns of a file with one separator."""

    record: re.Pattern[bytes]
    fields: re.Pattern[bytes]
    begun: re.Pattern[bytes]  # a record that may go on behind the end of the block


@functools.cache
def _grammar(separator: str) -> _Grammar:
    sep = re.escape(separator.encode())
    unquoted = rb'[^"' + sep + rb"\n][^" + sep + rb"\n]*+"
    field = rb"(?:" + _QUOTED + rb"|" + unquoted + rb"|)"
    return _Grammar(
        record=re.compile(field + rb"(?:(?>" + sep + field + rb"))*+\r?\n"),
        fields=re.compile(rb"(?:\A|" + sep + rb")(" + field + rb")"),
        begun=re.compile(rb"(?:(?>" + field + sep + rb'))*+(?:"[^"]*+(?:""[^"]*+)*+"?\r?|' + unquoted + rb"|)"),
    )


class Splitter:
    """Split blocks of a file into records with a given number of fields."""

    def __init__(self, fields: int, record_bytes: int = RECORD_BYTES, separator: str = COMMA) -> None:
        self.fields, self.record_bytes, self.separator = fields, record_bytes, separator
        sep = re.escape(separator.encode())
        bare = rb'[^"' + sep + rb"\n]*+"
        in_line = rb"(?:" + _QUOTED_IN_LINE + rb"|" + bare + rb")"
        anywhere = rb"(?:" + _QUOTED + rb"|" + bare + rb")"
        start = rb"(?!" + _MARK + rb")"
        self._lines = re.compile(rb"(?:(?>" + start + sep.join([in_line] * fields) + rb"\r?\n))*+")
        self._sound = re.compile(start + sep.join([anywhere] * fields) + rb"\r?\n")

    def split(self, block: bytes, line: int, *, is_last: bool, in_long_line: bool = False) -> Split:
        """Split a block that starts on a given line, in a long line or at a record; the last ends with a newline."""
        if in_long_line and b"\n" not in block:
            return Split(b"", [], [], len(block), line, in_long_line)
        grammar = _grammar(self.separator)
        sound: list[bytes] = []
        lines: list[range] = []
        rejects: list[Reject] = []
        size = len(block)
        at = block.find(b"\n") + 1 if in_long_line else 0
        line, in_long_line = line + int(in_long_line), False
        fault = size if _is_text(block) else -1  # the first byte from `at` on that is not text
        while at < size:
            if fault < at:
                fault = end_of_text(block, at)
            limit = min(at + self.record_bytes, fault if fault == size else block.rfind(b"\n", 0, fault) + 1)
            run = self._lines.match(block, at, limit)
            if run and run.end() > at:  # by far the most frequent case: records of one line each
                sound.append(run.group())
                lines.append(range(line, line + sound[-1].count(b"\n")))
                at, line = run.end(), lines[-1].stop
                continue
            if one := self._sound.match(block, at, limit):
                end = one.end()
                sound.append(one.group())
                lines.append(range(line, line + 1))
            elif blank := _BLANK.match(block, at):
                end = blank.end()
            elif odd := grammar.record.match(block, at, at + self.record_bytes):
                end = odd.end()
                fields = fields_of(odd.group(), self.separator)
                if reasons := self._faults(odd.group(), len(fields)):
                    rejects.append(Reject(line, reasons, raw_of(odd.group(), line)))
                else:
                    sound.append(self.separator.encode().join(map(_quoted, fields)) + b"\n")
                    lines.append(range(line, line + 1))
            else:
                is_short = size - at <= self.record_bytes
                end = block.find(b"\n", at) + 1
                if is_short and not is_last and (not end or grammar.begun.fullmatch(block, at)):
                    break
                in_long_line, end = not end, end or size
                damaged = block[at:end][: self.record_bytes]
                rejects.append(Reject(line, self._faults(damaged, 0), raw_of(damaged, line)))
            line += block.count(b"\n", at, end)
            at = end
        return Split(b"".join(sound), list(chain.from_iterable(lines)), rejects, at, line, in_long_line)

    def _faults(self, record: bytes, fields: int) -> tuple[Reason, ...]:
        faults = (
            (Reason.WRONG_FIELD_COUNT, fields != self.fields),
            (Reason.INVALID_ENCODING, end_of_text(record) < len(record)),
        )
        return tuple(reason for reason, is_so in faults if is_so)


def end_of_text(text: bytes, start: int = 0) -> int:
    """Return the position of the first byte that is not UTF-8 or is NUL; the length if there is none."""
    match = _TEXT.match(text, start)
    return match.end() if match else start


def fields_of(record: bytes, separator: str = COMMA) -> list[bytes]:
    """Return the fields of a record, still quoted."""
    return [field.group(1) for field in _grammar(separator).fields.finditer(_without_end(record))]


def record_at(block: bytes, start: int, separator: str = COMMA) -> bytes:
    """Return the record that starts at an offset, after the byte order marks of joined files; empty if none does."""
    marks = _MARKS.match(block, start)
    match = _grammar(separator).record.match(block, marks.end() if marks else start)
    return match.group() if match else b""


def as_text(record: bytes) -> str:
    r"""Return a record as it was, without its line end; bytes that are not UTF-8 are written \xNN."""
    return _without_end(record).decode(errors="backslashreplace").replace("\0", "\\x00")


def raw_of(record: bytes, line: int) -> str:
    """Return a rejected record as it is kept: as it was, or its beginning and where to find the rest."""
    record = _without_end(record)
    if len(record) <= RAW_BYTES:
        return as_text(record)
    end = RAW_BYTES
    while record[end] & 0b1100_0000 == 0b1000_0000 and end > RAW_BYTES - 4:  # in the middle of a character
        end -= 1
    quote = '"' * (record.count(b'"', 0, end) % 2)  # so that no reader takes the next record for a part of this one
    rest = f"{CUT}{len(record) - end:,} bytes or more are left out; see line {line} of the file]"
    return f"{as_text(record[:end])}{rest}{quote}"


def _is_text(block: bytes) -> bool:
    """Check all complete lines at once, which is ten times faster than finding the place of a fault."""
    lines = block[: block.rfind(b"\n") + 1]
    try:
        pl.Series([lines], dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.PolarsError:
        return False
    return b"\0" not in lines


def _without_end(record: bytes) -> bytes:
    return record.removesuffix(b"\n").removesuffix(b"\r")


def _quoted(field: bytes) -> bytes:
    is_bare = b'"' in field and not field.startswith(b'"')
    return b'"' + field.replace(b'"', b'""') + b'"' if is_bare else field
