# ruff: noqa: RUF001  # the names are of many languages, and so are their letters
"""Generated drops of any size, the same for the same seed, for the benchmark and the tests.

Every text is computed from the number of an entity and the revisions of its name and details, whole columns at a time:
a frame of a few small integers becomes rows when it is written. Mail and web addresses are in the reserved example
domains and telephone numbers in the fictional 555-01xx range, so that nobody is contacted by mistake.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path

import numpy as np
import polars as pl

from crm_core.model import Reason

GIVEN = (
    "Ada", "Aylin", "Bjørn", "Chiara", "Dmitri", "Élodie", "Fatoumata", "Grzegorz", "Hanako", "Inês", "José", "Kwame",
    "Łucja", "Mairéad", "Ngozi", "Øyvind", "Priya", 'Robert "Bob"', "Siobhán", "Şebnem", "Tomáš", "Uğur", "Věra",
    "William", "Xiomara", "Yusuf", "Zoë", "明", "花子", "Ольга",
)  # fmt: skip
FAMILY = (
    "Andersson", "Brontë", "Çelik", "D'Angelo", "Eriksen", "Ferreira", "Groß", "Horváth", "Ibáñez", "Jovanović",
    "Kowalski", "Löwe", "McDonald", "Nuñez", "O'Connor", "Petrov", "Quispe", "Rossi", "Strauß", "Tremblay", "Ünal",
    "Van der Berg", "Weiß", "Xu", "Yıldız", "Żółkiewski", "李", "佐藤", "Коваль", "Martinez, Jr.",
)  # fmt: skip
TRADE = (
    "Bakery", "Boats", "Books", "Chemicals", "Energy", "Farms", "Foods", "Freight", "Glass", "Hotels",
    "Instruments", "Logistics", "Paper", "Pharma", "Press", "Steel", "Textiles", "Timber", "Tools", "Wines",
)  # fmt: skip
FORM = (" GmbH", ", Inc.", " A/S", " Ltd.", " S.A.", " & Söhne", " Oyj", ' "Express" plc', " d.o.o.", " K.K.")
STREET = ("Main Street", "Lange Straße", "Rue de l'Exemple", "Calle Mayor", "Ulica Długa", "Atatürk Bulvarı", "中山路")
CITY = ("Aarhus", "Bremen", "Cádiz", "Đà Nẵng", "Évora", "Gdańsk", "İzmir", "Kraków", "Lyon", "Malmö", "札幌", "Львів")
DOMAIN = ("example.org", "example.com", "example.net")

FAULTS: Mapping[Reason, tuple[str, Sequence[str]]] = {  # the column, and the wrong values that it gets in turn
    Reason.INVALID_UID: ("entity_uid", ("not-a-uuid", "1234", "zzzzzzzz-zzzz-4zzz-8zzz-zzzzzzzzzzzz")),
    Reason.MISSING_DISPLAY_NAME: ("display_name", ("", "   ", "\u00a0")),
    Reason.UNKNOWN_ENTITY_TYPE: ("entity_type", ("ROBOT", "", "PERSONS")),
    Reason.DETAILS_NOT_JSON: ("details", ("[{", "email: a@example.org", "[NaN]", "[] []")),
    Reason.DETAILS_NOT_LIST: ("details", ("{}", '"a@example.org"', "42", "null")),
    Reason.UNKNOWN_DETAIL_TYPE: (
        "details",
        ('[{"detail_type":"fax","detail_value":"+1 202 555 0100"}]', '[{"detail_value":"+1 202 555 0100"}]'),
    ),
    Reason.DUPLICATE_DETAIL_TYPE: (
        "details",
        (
            '[{"detail_type":"email","detail_value":"a@example.org"},{"detail_type":"EMAIL","detail_value":"b@example.org"}]',
            '[{"detail_type":"phone","detail_value":null},{"detail_type":"phone","detail_value":null}]',
        ),
    ),
    Reason.INVALID_DETAIL_VALUE: (
        "details",
        ('[{"detail_type":"phone","detail_value":12025550100}]', '[{"detail_type":"email"}]', '["a@example.org"]'),
    ),
    Reason.INVALID_CHANGE_TS: ("change_ts", ("yesterday", "2024-02-30T00:00:00Z", "31/01/2024")),
    Reason.FUTURE_CHANGE_TS: ("change_ts", ("2999-01-01T00:00:00Z", "9999-12-31")),
    Reason.UNKNOWN_OP: ("op", ("merge", "truncate")),
    Reason.INVALID_ENCODING: ("display_name", ("Andr\udce9", "\udcff\udcfeA", "An\0na")),
    Reason.VALUE_TOO_LONG: ("display_name", ("Anna " * 101,)),
}

PERSON = "{given} {middle} {family}"
INSTITUTION = "{founder} {trade}{form}"
DETAILS = {  # a detail whose revision is null lacks a word, which makes it null
    "email": "{handle}@{mail_domain}",
    "phone": "+1 {area} 555 01{line}",
    "address": "{house} {street}, {city}",
    "website": "https://{handle}.{web_domain}",
}
COLUMNS = ("entity_uid", "display_name", "entity_type", "details", "change_ts")
ROW_BYTES = 287  # bytes of a line on average
CHUNK_ROWS = 100_000

START = datetime(2024, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=31)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Drops:
    """The files of one generated story."""

    initial: Path  # every entity once
    delta: Path  # a month later, as many rows: 70 % unchanged, 20 % changed, 10 % new
    replay: Path  # the rows of the delta in another order
    late: Path  # 5 % as many rows, all different from the initial ones, with instants between initial and delta


def write_drops(folder: Path, entities: int, *, seed: int = 1) -> Drops:
    """Write four drops about `entities` entities, at least 20, with 2.5 details each on average.

    The average is exact if the number is even.
    """
    random = np.random.default_rng(seed)
    drops = Drops(*(folder / f"{number}_{name}.csv" for number, name in enumerate(Drops.__slots__, start=1)))
    folder.mkdir(parents=True, exist_ok=True)
    initial = _entities(random, 0, entities)
    _rows(_at(random, initial, START, DAY)).write_csv(drops.initial)

    shuffled = random.permutation(entities)
    known, changed = shuffled[: entities - entities // 10], shuffled[: entities // 5]
    delta = pl.concat(
        [
            _changed(random, initial[changed], revision=1),
            initial[known[changed.size :]],
            _entities(random, entities, entities // 10),
        ]
    )
    delta = _rows(_at(random, delta, START + MONTH, DAY))
    delta[random.permutation(entities)].write_csv(drops.delta)
    delta[random.permutation(entities)].write_csv(drops.replay)

    late = _changed(random, initial[random.permutation(entities)[: entities // 20]], revision=2)
    _rows(_at(random, late, START + DAY, MONTH - DAY)).write_csv(drops.late)
    return drops


def write_wide(path: Path, size: int, *, seed: int = 1) -> int:
    """Write a drop of about `size` bytes in bounded memory, each row a new entity; return the number of rows."""
    random = np.random.default_rng(seed)
    rows, chunk = 0, min(1_000, 1 + size // ROW_BYTES)
    with path.open("wb") as file:
        while file.tell() < size:
            _rows(_at(random, _entities(random, rows, chunk), START, DAY)).write_csv(file, include_header=not rows)
            rows += chunk
            chunk = max(1, min(CHUNK_ROWS, (size - file.tell()) // ROW_BYTES))
    return rows


def write_many(path: Path, versions: int) -> str:
    """Write a drop in which one entity gets `versions` versions, an hour each; return its uid."""
    uid = "0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a"
    number = pl.int_range(versions, dtype=pl.Int64, eager=True)
    rows = pl.DataFrame({"number": number}).select(
        entity_uid=pl.lit(uid),
        display_name=pl.format("Version {}", "number"),
        entity_type=pl.lit("INSTITUTION"),
        details=pl.concat_str(
            pl.lit('[{"detail_type":"email","detail_value":"version'), "number", pl.lit('@example.org"}]')
        ),
        change_ts=(pl.lit(START) + pl.duration(hours="number")).dt.to_string("%Y-%m-%dT%H:%M:%SZ"),
    )
    rows.write_csv(path)
    return uid


def write_dirty(path: Path, rows: int, share_bad: float, *, seed: int = 1) -> Mapping[Reason, int]:
    """Write a drop in which about `share` of the rows have one fault each; return the rows for each reason.

    The reasons take turns, but for those of keys: there are no sources.
    """
    random = np.random.default_rng(seed)
    frame = _rows(_at(random, _entities(random, 0, rows), START, DAY)).with_columns(op=pl.lit("upsert"))
    lines = frame.write_csv().encode().splitlines(keepends=True)
    bad = np.sort(random.permutation(rows)[: round(rows * share_bad)])
    kinds = [reason for reason in Reason if reason in FAULTS or reason is Reason.WRONG_FIELD_COUNT]
    reasons: Counter[Reason] = Counter()
    for position, reason in zip(bad.tolist(), cycle(kinds), strict=False):
        lines[position + 1] = _faulty([*frame.row(position)], reason, turn=reasons[reason])
        reasons[reason] += 1
    path.write_bytes(b"".join(lines))
    return {reason: reasons[reason] for reason in kinds}


def _entities(random: np.random.Generator, first: int, count: int) -> pl.DataFrame:
    """Draw new entities, numbered from `first`.

    Columns: number Int64; entity_uid String; institution Boolean; word_1, word_2, word_3 Int64, which choose words;
    name Int64, the revision of the name; email, phone, address, website Int64, the revision of that detail, null if the
    entity does not have it; favourite Int64, the index in DETAILS of the detail that changes if one does.
    """
    number = first + np.arange(count)
    listed = random.permutation(np.resize([2, 3, 1, 4], count))
    rank = random.permuted(np.tile(np.arange(4), (count, 1)), axis=1)
    words = {f"word_{i}": random.integers(0, 2**31, count) for i in (1, 2, 3)}
    return pl.DataFrame(
        {"number": number, "entity_uid": _uids(random, count), "institution": number % 5 == 4}
        | words
        | {"favourite": rank.argmin(axis=1)}
    ).with_columns(
        pl.lit(0, pl.Int64).alias("name"),
        *(pl.when(pl.lit(rank[:, i] < listed)).then(pl.lit(0, pl.Int64)).alias(code) for i, code in enumerate(DETAILS)),
    )


def _uids(random: np.random.Generator, count: int) -> Sequence[str]:
    """Draw random UUIDs of version 4."""
    octets = random.integers(0, 256, (count, 16), dtype=np.uint8)
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = octets.tobytes().hex()
    uids = (digits[i : i + 32] for i in range(0, len(digits), 32))
    return [f"{uid[:8]}-{uid[8:12]}-{uid[12:16]}-{uid[16:20]}-{uid[20:]}" for uid in uids]


def _changed(random: np.random.Generator, entities: pl.DataFrame, revision: int) -> pl.DataFrame:
    """Give each entity a new name, a new value of its favourite detail, or both."""
    fate = random.integers(0, 3, entities.height)
    another_name, another_detail = pl.lit(fate != 0), pl.lit(fate != 1)
    return entities.with_columns(
        pl.col("name") + revision * another_name.cast(pl.Int64),
        *(
            pl.col(code) + revision * (another_detail & (pl.col("favourite") == i)).cast(pl.Int64)
            for i, code in enumerate(DETAILS)
        ),
    )


def _at(random: np.random.Generator, entities: pl.DataFrame, start: datetime, span: timedelta) -> pl.DataFrame:
    """Give each row an instant of its own in the span: a column change_ts."""
    offset = pl.Series(random.integers(0, span // timedelta(microseconds=1), entities.height))
    return entities.with_columns(change_ts=pl.lit(start) + offset.cast(pl.Duration("us")))


def _rows(entities: pl.DataFrame) -> pl.DataFrame:
    """Return the entities as text: the String columns of a drop, without op."""
    number, first, second, third = (pl.col(name) for name in ("number", "word_1", "word_2", "word_3"))
    spelled = entities.with_columns(
        given=_word(GIVEN, first),
        middle=_word(GIVEN, second),
        family=_word(FAMILY, third + pl.col("name")),
        founder=_word(FAMILY, third),
        trade=_word(TRADE, first + pl.col("name")),
        form=_word(FORM, second),
        handle=pl.concat_str(_word([_slug(name) for name in FAMILY], third), number),
        mail_domain=_word(DOMAIN, pl.col("email")),
        area=200 + (number // 100 + pl.col("phone")) % 800,
        line=(number % 100).cast(pl.String).str.zfill(2),
        house=1 + (number + pl.col("address")) % 199,
        street=_word(STREET, first),
        city=_word(CITY, second),
        web_domain=_word(DOMAIN, pl.col("website")),
    )
    details = [
        pl.concat_str(pl.lit(f'{{"detail_type":"{code}","detail_value":"'), pl.format(value), pl.lit('"}'))
        for code, value in DETAILS.items()
    ]
    return spelled.select(
        "entity_uid",
        display_name=pl.when("institution").then(pl.format(INSTITUTION)).otherwise(pl.format(PERSON)),
        entity_type=pl.when("institution").then(pl.lit("INSTITUTION")).otherwise(pl.lit("PERSON")),
        details=pl.concat_str(pl.lit("["), pl.concat_str(details, separator=",", ignore_nulls=True), pl.lit("]")),
        change_ts=pl.col("change_ts").dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ"),
    )


def _word(words: Sequence[str], choice: pl.Expr) -> pl.Expr:
    return pl.lit(pl.Series(words)).gather(choice % len(words))


def _slug(name: str) -> str:
    """Return the plain letters of a name, or `x` if it has none."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(filter(str.isalnum, plain)).lower() or "x"


def _faulty(row: list[str], reason: Reason, turn: int) -> bytes:
    """Return a row with one fault: a wrong value, or a line that is not a row."""
    if reason is Reason.WRONG_FIELD_COUNT:
        good = _line(row)
        damaged = (
            _line(row[:3]),
            _line([*row, "surplus"]),
            b'"' + good,
            good.replace(b']",', b']"x,'),
            good[:-1] + b',"\n',
        )
        return damaged[turn % len(damaged)]
    column, values = FAULTS[reason]
    return _line(
        [
            values[turn % len(values)] if name == column else value
            for name, value in zip((*COLUMNS, "op"), row, strict=True)
        ]
    )


def _line(fields: Sequence[str]) -> bytes:
    """Return a line of CSV; the lone surrogates U+DC80 to U+DCFF stand for bytes that are not UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode(errors="surrogateescape")
