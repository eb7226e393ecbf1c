"""The OpenAPI document, where it depends on what there is: the detail types, and whether tokens are asked for."""

from __future__ import annotations

import copy
from typing import Any

from fastapi import FastAPI

from api.state import State
from crm_core.errors import DatabaseError

FILTERED = ("/api/v1/entities", "/api/v1/entities-asof")


def install(app: FastAPI, state: State, *, may_be_open: bool) -> None:
    """Have the document tell of each detail type as a parameter of the lists, and of an open door."""
    documented = app.openapi

    def openapi() -> dict[str, Any]:
        document = copy.deepcopy(documented())
        for calls in document["paths"].values():
            for call in calls.values():
                if may_be_open and "security" in call:
                    call["security"].append({})
        for path in FILTERED:
            document["paths"][path]["get"]["parameters"] += _filters(state)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _filters(state: State) -> list[dict[str, object]]:
    try:
        with state.readers.connection() as connection:
            types = state.types(connection)
    except DatabaseError:
        return []
    return [
        {
            "name": kind.code,
            "in": "query",
            "required": False,
            "schema": {"type": "string", "pattern": "^[^\\u0000]*$"},
            "description": f"{kind.name}, as the type compares ({kind.compares})",
        }
        for kind in types.detail_types
    ]
