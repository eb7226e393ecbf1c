"""Normal form and SHA-256 hashdiff: of one value in Python, of columns in Polars, of stored values in SQL.

A hashdiff hashes `enc(field 1) || enc(field 2)`, where enc is `<byte length>:<UTF-8 bytes>`, and `-1:` for null. Each
field begins with its length, so no value can imitate the border to the next one. `sql/routines/10_values.sql` gives the
same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import assert_never
from uuid import UUID

import polars as pl
from polars_hash import CryptographicHashingNameSpace

from crm_core.model import Compares
from crm_core.values.columns import map_where

# The 25 code points of the Unicode property White_Space, spelled out: `\s` of Python has four more (U+001C to U+001F).
_WHITE_SPACE = "[\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
_UNTIDY = r"[^!-~ ]|  |^ | $|^$"  # text that may differ from its normal form; well-spaced printable ASCII cannot
_NEWER_THAN_PYTHON = r"[^\p{age:14.0}]"  # Unicode 14 is Python 3.11's; Polars knows later compositions

# Invisible characters: the Unicode property Default_Ignorable_Code_Point, spelled out; the first two join letters.
_JOINERS = "\u200c\u200d"
_NEVER_SEEN = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSEEN = f"[{_JOINERS}{_NEVER_SEEN}]"
_PICTURES = (  # the blocks that contain emoji but no letters or marks
    "\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u23ff\u24c2\u25a0-\u27bf\u2934\u2935\u2b00-\u2bff\u3030\u303d\u3297\u3299"
    "\U0001f000-\U0001ffff"
)
_NEEDED = re.compile(  # the style of a picture, the keycap of a digit, the tags of a flag; everything else is removed
    f"([{_PICTURES}][\ufe0e\ufe0f]|[#*0-9]\ufe0f(?=\u20e3)|\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f)|[{_NEVER_SEEN}]"
)
_WORD = rf"[\p{{L}}--{_UNSEEN}][\p{{M}}--{_UNSEEN}]*"
_JOINED = rf"^(?:{_WORD}(?:[{_JOINERS}]{_WORD})*|[^\p{{L}}{_JOINERS}{_NEVER_SEEN}])*$"  # nothing of this is removed
_JOINER = re.compile(f"([{_JOINERS}])[{_JOINERS}]*")
_PICTURE = re.compile(f"[{_PICTURES}]")
_END_OF_PICTURE = re.compile(f"[{_PICTURES}\ufe0e\ufe0f\u20e3\U000e007f]")

NAME_CHARACTERS = 500  # the longest name, in normal form
KEY_CHARACTERS = 500  # the longest key of a source, in normal form
VALUE_BYTES = 100_000  # the longest stored detail value, in UTF-8
NOBODY = frozenset({UUID(int=0), UUID(int=2**128 - 1)})  # the nil and the max UUID, which by RFC 9562 identify nothing


def normal_form(value: str) -> str | None:
    """Return the text as it is stored, or None if nothing is left.

    This is NFC without invisible characters, trimmed, with inner white space reduced to one space. Joiners stay between
    letters (Persian and the scripts of India need them), and emoji keep their parts.
    """
    normal = unicodedata.normalize("NFC", value)
    if re.search(_UNSEEN, normal):
        normal = unicodedata.normalize("NFC", _seen(normal))
    return re.sub(_WHITE_SPACE, " ", normal).strip(" ") or None


def _seen(text: str) -> str:
    """Return the text without invisible characters; of several adjacent joiners only the first can stay."""
    text = _JOINER.sub(r"\1", unicodedata.normalize("NFC", _NEEDED.sub(r"\1", text)))
    kept: list[str] = []
    in_word = False  # preceded by a letter with its marks
    for char, after in zip(text, f"{text[1:]} ", strict=False):
        kind = unicodedata.category(char)[0]
        if char not in _JOINERS:
            in_word = kind == "L" or (kind == "M" and in_word)
        elif not (
            (in_word and unicodedata.category(after)[0] in "LM")
            or (char == "\u200d" and kept and _END_OF_PICTURE.match(kept[-1]) and _PICTURE.match(after))
        ):
            continue
        kept.append(char)
    return "".join(kept)


def stored_form(value: str, compares: Compares) -> str | None:
    """Return a detail value as it is stored: unchanged if it compares exactly, else in normal form; None if empty."""
    match compares:
        case "exact":
            return value or None
        case "text" | "casefold":
            return normal_form(value)
        case _:
            assert_never(compares)


def is_name_too_long(name: str) -> bool:
    """Return whether a name in normal form has more characters than allowed."""
    return len(name) > NAME_CHARACTERS


def is_value_too_long(value: str) -> bool:
    """Return whether a stored detail value has more bytes than allowed."""
    return len(value) * 4 > VALUE_BYTES and len(value.encode()) > VALUE_BYTES


def is_storable(value: str) -> bool:
    """Return whether PostgreSQL can store a text: it has no NUL and no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def compared_form(value: str, compares: Compares) -> str:
    """Return the part of a stored value that is compared: all of it, or all but the case."""
    return value.translate(case_folding()) if compares == "casefold" else value


def code_key(code: str) -> str:
    """Return the form of a type's code that is compared, because codes match in upper or lower case."""
    return compared_form(normal_form(code) or "", "casefold")


@functools.cache
def case_folding() -> dict[int, str]:
    """Return Unicode simple case folding, code point → one character, for the code points of Unicode 3.2.

    It depends on no context and no language, so `str.translate`, SQL `translate` and Polars agree on it, and Unicode
    guarantees that the folding of an assigned code point does not change. ß is not ss, and Turkish İ equals only
    itself: full folding would make two characters of them. The folded text is compared, never stored, and not
    normalized again: H̱ (two code points) and ẖ (one) stay different, which shows one change too many but hides none.
    """
    folding: dict[int, str] = {}
    for code in range(0x10426):  # the last code point of Unicode 3.2 that has a case is U+10425
        char = chr(code)
        if char.casefold() == char == char.lower():  # by far the most frequent case
            continue
        folded = next((form for form in (char.casefold(), char.lower()) if len(form) == 1), char)
        if folded != char and unicodedata.ucd_3_2_0.category(char) != "Cn":
            folding[code] = folded
    return folding


def entity_hashdiff(display_name: str, entity_type: str) -> bytes:
    """Hash the compared fields of an entity: the name in normal form and the canonical type code; 32 bytes."""
    return hashlib.sha256(_encoded(display_name) + _encoded(entity_type)).digest()


def detail_hashdiff(detail_type: str, detail_value: str, compares: Compares) -> bytes:
    """Hash the compared fields of a detail: the canonical type code and the stored value; 32 bytes."""
    return hashlib.sha256(_encoded(detail_type) + _encoded(compared_form(detail_value, compares))).digest()


def derived_uid(entity: bytes, details: Sequence[bytes]) -> UUID:
    """Derive the uid of an entity that came without one from its hashdiffs: a UUID of version 8 (RFC 9562).

    It holds the first 16 bytes of the SHA-256 of the entity's hashdiff and those of its details, in the order of the
    codes, all written as hexadecimal digits; the 6 bits of version and variant are set.
    """
    return _uid(hashlib.sha256(b"".join(hashdiff.hex().encode() for hashdiff in (entity, *details))).digest())


def key_uid(source: str, source_key: str) -> UUID:
    """Derive the uid of the entity that a source names by a key, in normal form: a UUID of version 8 (RFC 9562).

    It holds the first 16 bytes of the SHA-256 of two fields, encoded as those of a hashdiff: the code of the source in
    lower case, and the key. Like all uids it stands for the entity for ever; a key can be linked to another entity.
    """
    return _uid(hashlib.sha256(_encoded(source.lower()) + _encoded(source_key)).digest())


def _uid(digest: bytes) -> UUID:
    return UUID(bytes=digest[:6] + bytes([digest[6] & 0x0F | 0x80, digest[7], digest[8] & 0x3F | 0x80]) + digest[9:16])


def normal_forms(values: pl.Series) -> pl.Series:
    """Return `normal_form` of each value of a String column, null for null."""
    return map_where(values, values.str.contains(_UNTIDY), _tidied)


def folded_forms(values: pl.Series) -> pl.Series:
    """Return the values of a String column as `compared_form(value, "casefold")` does."""
    return values.str.replace_many({chr(code): char for code, char in case_folding().items()})


def hashdiff(*fields: pl.Expr) -> pl.Expr:
    """Hash the fields of each row; the result is a String of 64 hexadecimal digits, never null."""
    parts = [
        part
        for field in fields
        for part in (field.str.len_bytes().cast(pl.String).fill_null("-1"), pl.lit(":"), field.fill_null(""))
    ]
    return _sha256(pl.concat_str(parts))


def derived_uids(hashdiffs: pl.Expr) -> pl.Expr:
    """Return `derived_uid` of each row, given the hexadecimal hashdiffs of the entity and its details in one String."""
    return _uids(_sha256(hashdiffs))


def key_uids(sources: pl.Expr, source_keys: pl.Expr) -> pl.Expr:
    """Return `key_uid` of each row, given codes of sources and keys in normal form; null where one of them is."""
    is_named = sources.is_not_null() & source_keys.is_not_null()
    return pl.when(is_named).then(_uids(hashdiff(sources.str.to_lowercase(), source_keys)))


def _uids(digits: pl.Expr) -> pl.Expr:
    variant = digits.str.slice(16, 1).str.replace_many([*"0123456789abcdef"], [*"89ab" * 4])
    parts = (digits.str.slice(0, 8), "-", digits.str.slice(8, 4), "-8", digits.str.slice(13, 3), "-", variant)
    rest = (digits.str.slice(17, 3), "-", digits.str.slice(20, 12))
    return pl.concat_str(part if isinstance(part, pl.Expr) else pl.lit(part) for part in (*parts, *rest))


def _sha256(texts: pl.Expr) -> pl.Expr:
    """Hash each text.

    `texts.chash` would do, but it keeps itself in the expression: a cycle that holds a whole column until the garbage
    collector runs, which made the memory for a 1.4 GB drop grow to twice that for a small one.
    """
    hashed: pl.Expr = CryptographicHashingNameSpace(texts).sha2_256()
    return hashed


def _encoded(field: str) -> bytes:
    utf8 = field.encode()
    return b"%d:%b" % (len(utf8), utf8)


def _tidied(values: pl.Series) -> pl.Series:
    tidy = values.str.normalize("NFC").str.replace_all(_WHITE_SPACE, " ").str.strip_chars(" ").replace({"": None})
    special = values.str.contains(_UNSEEN) & ~values.str.contains(_JOINED) | values.str.contains(_NEWER_THAN_PYTHON)
    return map_where(tidy, special, lambda _: values.filter(special).map_elements(normal_form, return_dtype=pl.String))
