"""Normal form, then SHA-256 hashdiff: of one value in Python, of whole columns in Polars, of stored values in SQL.

A hashdiff hashes `enc(field 1) || enc(field 2)`, where enc is `<byte length>:<UTF-8 bytes>`, and `-1:` of null. A field
says how long it is, so no value can imitate the border to the next. `sql/ddl/0002_hashing.up.sql` gives the same bytes.
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

from crm_core.columns import reworked
from crm_core.model import Compares

# The 25 code points of the Unicode property White_Space, spelled out: `\s` of Python has four more (U+001C to U+001F).
_WHITE_SPACE = "[\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
_UNTIDY = r"[^!-~ ]|  |^ | $|^$"  # what may differ from its normal form; printable ASCII, well spaced, cannot
_NEWER_THAN_PYTHON = r"[^\p{age:14.0}]"  # Unicode 14 is Python 3.11's; Polars knows later compositions


def normal_form(value: str) -> str | None:
    """Answer the text as it is stored: NFC, trimmed, inner runs of white space one space; None when nothing is left."""
    return re.sub(_WHITE_SPACE, " ", unicodedata.normalize("NFC", value)).strip(" ") or None


def stored_form(value: str, compares: Compares) -> str | None:
    """Answer a detail value as it is stored: untouched when it compares exactly, else in normal form; None if empty."""
    match compares:
        case "exact":
            return value or None
        case "text" | "casefold":
            return normal_form(value)
        case _:
            assert_never(compares)


def compared_form(value: str, compares: Compares) -> str:
    """Answer what of a stored value is compared: all of it, or all but the case."""
    return value.translate(case_folding()) if compares == "casefold" else value


def code_key(code: str) -> str:
    """Answer what of a type's code is compared: types are matched whatever their case."""
    return compared_form(normal_form(code) or "", "casefold")


@functools.cache
def case_folding() -> dict[int, str]:
    """Answer Unicode simple case folding, code point → one character, of the code points of Unicode 3.2.

    It knows no context and no language, so `str.translate`, SQL `translate` and Polars agree on it; Unicode guarantees
    that the folding of an assigned code point stays. ß is not ss, and Turkish İ equals itself alone: full folding would
    make two characters of them. The folded text is compared, never stored, and is not normalised again: H̱ (two code
    points) and ẖ (one) stay different, which shows a change too many and hides none.
    """
    folding: dict[int, str] = {}
    for code in range(0x10426):  # the last code point of Unicode 3.2 that has a case is U+10425
        char = chr(code)
        if char.casefold() == char == char.lower():  # by far the most
            continue
        folded = next((form for form in (char.casefold(), char.lower()) if len(form) == 1), char)
        if folded != char and unicodedata.ucd_3_2_0.category(char) != "Cn":
            folding[code] = folded
    return folding


def entity_hashdiff(display_name: str, entity_type: str) -> bytes:
    """Hash what is compared of an entity: the name in normal form and the canonical type code; 32 bytes."""
    return hashlib.sha256(_encoded(display_name) + _encoded(entity_type)).digest()


def detail_hashdiff(detail_type: str, detail_value: str, compares: Compares) -> bytes:
    """Hash what is compared of a detail: the canonical type code and the stored value as it compares; 32 bytes."""
    return hashlib.sha256(_encoded(detail_type) + _encoded(compared_form(detail_value, compares))).digest()


def derived_uid(entity: bytes, details: Sequence[bytes]) -> UUID:
    """Derive the uid of an entity that came without one: a UUID of version 8 (RFC 9562) out of its hashdiffs.

    It holds the first 16 bytes of the SHA-256 of the entity's hashdiff and those of its details, in the order of the
    codes, all written as hexadecimal digits; the 6 bits of version and variant are set.
    """
    digest = hashlib.sha256(b"".join(hashdiff.hex().encode() for hashdiff in (entity, *details))).digest()
    return UUID(bytes=digest[:6] + bytes([digest[6] & 0x0F | 0x80, digest[7], digest[8] & 0x3F | 0x80]) + digest[9:16])


def normal_forms(values: pl.Series) -> pl.Series:
    """Answer `normal_form` of each value of a String column, null for null."""
    return reworked(values, values.str.contains(_UNTIDY), _tidied)


def folded_forms(values: pl.Series) -> pl.Series:
    """Answer the values of a String column as `compared_form(value, "casefold")` does."""
    return values.str.replace_many({chr(code): char for code, char in case_folding().items()})


def hashdiff(*fields: pl.Expr) -> pl.Expr:
    """Hash the fields of each row; a String of 64 hexadecimal digits, never null."""
    parts = [
        part
        for field in fields
        for part in (field.str.len_bytes().cast(pl.String).fill_null("-1"), pl.lit(":"), field.fill_null(""))
    ]
    return _sha256(pl.concat_str(parts))


def derived_uids(hashdiffs: pl.Expr) -> pl.Expr:
    """Answer `derived_uid` of each row, given the hexadecimal hashdiffs of the entity and its details in one String."""
    digits = _sha256(hashdiffs)
    variant = digits.str.slice(16, 1).str.replace_many([*"0123456789abcdef"], [*"89ab" * 4])
    parts = (digits.str.slice(0, 8), "-", digits.str.slice(8, 4), "-8", digits.str.slice(13, 3), "-", variant)
    rest = (digits.str.slice(17, 3), "-", digits.str.slice(20, 12))
    return pl.concat_str(part if isinstance(part, pl.Expr) else pl.lit(part) for part in (*parts, *rest))


def _sha256(texts: pl.Expr) -> pl.Expr:
    """Hash each text.

    `texts.chash` would do, but it keeps itself in the expression: a cycle that holds a whole column until the garbage
    collector comes by, which made the memory of a 1.4 GB drop grow to twice that of a small one.
    """
    hashed: pl.Expr = CryptographicHashingNameSpace(texts).sha2_256()
    return hashed


def _encoded(field: str) -> bytes:
    utf8 = field.encode()
    return b"%d:%b" % (len(utf8), utf8)


def _tidied(values: pl.Series) -> pl.Series:
    tidy = values.str.normalize("NFC").str.replace_all(_WHITE_SPACE, " ").str.strip_chars(" ").replace({"": None})
    newer = values.str.contains(_NEWER_THAN_PYTHON)
    return reworked(tidy, newer, lambda _: values.filter(newer).map_elements(normal_form, return_dtype=pl.String))
