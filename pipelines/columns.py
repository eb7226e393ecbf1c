"""The columns of what the assets stand for, as the UI shows them."""

from __future__ import annotations

import dagster as dg

_NOT_NULL = dg.TableColumnConstraints(nullable=False)


def _column(name: str, type_: str, description: str, *, nullable: bool = False) -> dg.TableColumn:
    return dg.TableColumn(name, type_, description, constraints=None if nullable else _NOT_NULL)


_UID = _column("entity_uid", "uuid", "The entity, known by it for ever.")
_VALID = (
    _column("valid_from", "timestamptz", "Since when it is so."),
    _column("valid_to", "timestamptz", "Until just before when it is so; null: open.", nullable=True),
    _column("is_current", "boolean", "Whether it is open."),
    _column("created_at", "timestamptz", "When the row was first written."),
    _column("updated_at", "timestamptz", "When it was last touched."),
)

DROP = dg.TableSchema(
    [
        _column("entity_uid", "uuid", "Blank or absent: a new entity, its uid derived from the row.", nullable=True),
        _column("display_name", "text", "What the entity is called."),
        _column("entity_type", "code", "PERSON, INSTITUTION, … whatever the case."),
        _column("details", "json", 'A list of {"detail_type": …, "detail_value": …}; a null value ends the detail.'),
        _column("change_ts", "timestamp", "Since when it is so; absent: since the drop was first seen.", nullable=True),
        _column("op", "text", "upsert (also if absent) or delete.", nullable=True),
    ]
)
LEDGER = dg.TableSchema(
    [
        _UID,
        _column("change_ts", "timestamptz", "Since when it is so, as the change says."),
        _column("batch_id", "bigint", "The transaction that recorded it: recording order."),
        _column("row_no", "integer", "The line of the drop, or the place in the request."),
        _column("op", "text", "upsert, patch or delete."),
        _column("display_name", "text", "Null in a deletion, and in a patch that keeps it.", nullable=True),
        _column("entity_type_id", "smallint", "Likewise.", nullable=True),
        _column("details", "jsonb", "An object, detail type → value; a null value ends the detail.", nullable=True),
    ]
)
REJECT = dg.TableSchema(
    [
        _column("drop_sha256", "text", "The drop."),
        _column("line", "bigint", "The line of the file on which the row begins; the header is line 1."),
        _column("reasons", "text[]", "A code for every fault."),
        _column("raw", "text", "The row as it stood; never shown here, for it may be personal."),
    ]
)
ENTITY = dg.TableSchema(
    [
        _UID,
        _column("display_name", "text", "In normal form."),
        _column("entity_type_id", "smallint", "A key of entity_type."),
        _column("hashdiff", "bytea", "SHA-256 of name and type: equal states have equal ones."),
        *_VALID,
    ]
)
ENTITY_DETAIL = dg.TableSchema(
    [
        _UID,
        _column("detail_type_id", "smallint", "A key of detail_type."),
        _column("detail_value", "text", "In normal form."),
        _column("hashdiff", "bytea", "SHA-256 of type and value, in the type's own comparison."),
        *_VALID,
    ]
)
