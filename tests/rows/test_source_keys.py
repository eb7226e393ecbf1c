"""Rows that name their entity by the key of a source: which entity that is, and what is valid."""

from __future__ import annotations

import pytest
from builders import uid
from drop_rows import Row, reasons, validate_rows

from crm_core.model import Reason
from crm_core.values.hashing import key_uid

ADA = uid("ada")


class TestARow:
    pytestmark = pytest.mark.unit

    def test_with_a_key_has_the_uid_of_source_and_key(self) -> None:
        valid = validate_rows(Row(entity_uid=None, source=" eRp ", source_key=" 47\u00a011 "))
        assert valid.changes.select("entity_uid", "key_uid", "source_id", "source_key", "is_derived").rows() == [
            (str(key_uid("erp", "47 11")), str(key_uid("erp", "47 11")), 9, "47 11", False)
        ]

    def test_with_a_uid_too_keeps_it(self) -> None:
        valid = validate_rows(Row(source="erp", source_key="4711"), Row())
        assert valid.changes.select("entity_uid", "key_uid", "names_twice").rows() == [
            (Row().entity_uid, str(key_uid("erp", "4711")), True),
            (Row().entity_uid, None, False),
        ]

    @pytest.mark.parametrize(
        ("source", "source_key", "expected"),
        [
            ("crm", "4711", {Reason.UNKNOWN_SOURCE}),
            ("old", "4711", {Reason.UNKNOWN_SOURCE}),
            (None, "4711", {Reason.UNKNOWN_SOURCE}),
            ("erp", None, {Reason.MISSING_SOURCE_KEY}),
            ("erp", " \u200b ", {Reason.MISSING_SOURCE_KEY}),
            ("erp", "x" * 501, {Reason.VALUE_TOO_LONG}),
            ("erp", "x" * 500, set()),
            (" ", "\t", set()),
        ],
    )
    def test_is_rejected_for_what_is_wrong_with_its_key(
        self, source: str | None, source_key: str | None, expected: set[Reason]
    ) -> None:
        assert reasons(Row(source=source, source_key=source_key)) == expected

    def test_that_deletes_needs_no_more_than_a_key(self) -> None:
        bare = Row(None, None, None, None, op="delete", source="erp", source_key="4711")
        assert reasons(bare) == set()
        assert reasons(Row(None, None, None, None, op="delete")) == {
            Reason.MISSING_DISPLAY_NAME,
            Reason.UNKNOWN_ENTITY_TYPE,
        }
