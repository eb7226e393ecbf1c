"""The columns of the assets' tables, as the UI shows them, and which columns they come from."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

_NOT_NULL = dg.TableColumnConstraints(nullable=False)


def _column(name: str, type_: str, description: str, *, nullable: bool = False) -> dg.TableColumn:
    return dg.TableColumn(name, type_, description, constraints=None if nullable else _NOT_NULL)


_UID = _column("entity_uid", "uuid", "The stable identity of the entity.")
_VALID = (
    _column("valid_from", "timestamptz", "From when on it is true."),
    _column("valid_to", "timestamptz", "When it stopped being true; null: it still is.", nullable=True),
    _column("is_current", "boolean", "Whether valid_to is null."),
    _column("created_at", "timestamptz", "When the row was first written."),
    _column("updated_at", "timestamptz", "When the row was last changed."),
)

DROP = dg.TableSchema(
    [
        _column("entity_uid", "uuid", "Blank or absent: a new entity, its uid derived from the row.", nullable=True),
        _column("display_name", "text", "The name of the entity."),
        _column("entity_type", "code", "PERSON, INSTITUTION, …, in upper or lower case."),
        _column("details", "json", 'A list of {"detail_type": …, "detail_value": …}; a null value ends the detail.'),
        _column(
            "change_ts",
            "timestamp",
            "From when on it is true; absent: from when the drop was first seen.",
            nullable=True,
        ),
        _column("op", "text", "upsert (also if absent) or delete.", nullable=True),
    ]
)
LEDGER = dg.TableSchema(
    [
        _UID,
        _column("change_ts", "timestamptz", "From when on it is true, as the change says."),
        _column("batch_id", "bigint", "The transaction that recorded it, numbered in recording order."),
        _column("row_no", "integer", "The line of the drop, or the place in the request."),
        _column("op", "text", "upsert, patch or delete."),
        _column("display_name", "text", "Null in a deletion, and in a patch that keeps it.", nullable=True),
        _column("entity_type_id", "smallint", "Likewise.", nullable=True),
        _column("details", "jsonb", "An object, detail type → value; a null value ends the detail.", nullable=True),
        _column("acts", "boolean", "False: its batch is undone, or a repeat stands in its place."),
        _column(
            "promoted_by", "bigint", "Of a repeat that came in when another was undone: the batch of it.", nullable=True
        ),
        _column("source_id", "smallint", "The source whose key names the entity in it.", nullable=True),
    ]
)
REJECT = dg.TableSchema(
    [
        _column("drop_sha256", "text", "The drop."),
        _column("line", "bigint", "The line of the file on which the row begins; the header is line 1."),
        _column("reasons", "text[]", "A reason code for each fault."),
        _column("raw", "text", "The row as it was in the file; never shown here, because it may be personal."),
    ]
)
ENTITY = dg.TableSchema(
    [
        _UID,
        _column("display_name", "text", "In normal form."),
        _column("entity_type_id", "smallint", "Refers to entity_type."),
        _column("hashdiff", "bytea", "SHA-256 of name and type: equal states have equal hashes."),
        *_VALID,
    ]
)
ENTITY_DETAIL = dg.TableSchema(
    [
        _UID,
        _column("detail_type_id", "smallint", "Refers to detail_type."),
        _column("detail_value", "text", "In normal form."),
        _column("hashdiff", "bytea", "SHA-256 of type and value, compared as the type says."),
        *_VALID,
    ]
)


def _lineage(asset: str, **columns: Sequence[str]) -> dg.TableColumnLineage:
    """Return which columns of one asset each column comes from."""
    return dg.TableColumnLineage(
        {column: [dg.TableColumnDep(dg.AssetKey(asset), name) for name in names] for column, names in columns.items()}
    )


_ENTITY_LIVES = {"valid_from": ["change_ts"], "valid_to": ["change_ts", "op"], "is_current": ["change_ts", "op"]}
# By asset: where its columns come from. What only says where a row stands (batch_id, line, created_at) comes from none.
LINEAGE = {
    "staged_changes": _lineage(
        "drop_file",
        entity_uid=["entity_uid", "display_name", "entity_type", "details"],  # of the content, if the row has none
        change_ts=["change_ts"],
        op=["op"],
        display_name=["display_name"],
        entity_type_id=["entity_type"],
        details=["details"],
    ),
    "rejected_rows": _lineage("drop_file", raw=[column.name for column in DROP.columns]),
    "entity_versions": _lineage(
        "staged_changes",
        entity_uid=["entity_uid"],
        display_name=["display_name"],
        entity_type_id=["entity_type_id"],
        hashdiff=["display_name", "entity_type_id"],
        **_ENTITY_LIVES,
    ),
    "detail_versions": _lineage(
        "staged_changes",
        entity_uid=["entity_uid"],
        detail_type_id=["details"],
        detail_value=["details"],
        hashdiff=["details"],
        **{column: [*names, "details"] for column, names in _ENTITY_LIVES.items()},
    ),
}
