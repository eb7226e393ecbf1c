"""Reference data: the entity types, detail types and sources, which admins can add and change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Literal, TypeAlias, assert_never

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Admin, Reader
from api.fast_path import FastRoute
from api.problems import Refusal, documented, refuse
from api.state import State
from api.wire.paging import JSON
from api.wire.parameters import AsOf, Instants, Search
from api.wire.schemas import ListOf
from crm_core.model import Compares, DetailType, EntityType, ReferenceTypes, Source
from crm_core.postgres.connection import Connection
from crm_core.reference import lock_types, put_detail_type, put_entity_type, put_source, reference_types

router = APIRouter(prefix="/api/v1", tags=["reference data"], route_class=FastRoute)
Code = Annotated[
    str, Field(pattern="^[A-Za-z][A-Za-z0-9_]{0,62}$", description="Matched in upper or lower case", examples=["fax"])
]
CodeInPath = Annotated[str, Path(pattern="^[A-Za-z][A-Za-z0-9_]{0,62}$", examples=["email"])]
Text = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")]
Name = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Kind: TypeAlias = Literal["entity", "detail", "source"]
TAKEN = {*Search.model_fields, *AsOf.model_fields, *Instants.model_fields}  # parameters of the lists
CALLED: Mapping[Kind, str] = {"entity": "entity type", "detail": "detail type", "source": "source"}
_LISTED: Mapping[Kind, str] = {"entity": "entity-types", "detail": "detail-types", "source": "sources"}
_PUT: Mapping[Kind, Callable[..., None]] = {"entity": put_entity_type, "detail": put_detail_type, "source": put_source}
TAKEN_SAID = "{} is already a parameter of the lists; choose another code"


class TypeDocument(BaseModel):
    """An entity type."""

    model_config = ConfigDict(extra="forbid")

    code: Code
    name: Annotated[Name, Field(description="Shown to people", examples=["Fax"])]
    description: Text = ""
    is_active: Annotated[bool, Field(description="An inactive type keeps its history and takes no new changes")] = True


class DetailTypeDocument(TypeDocument):
    """A detail type."""

    compares: Annotated[
        Compares, Field(description="exact: byte by byte; text: in normal form; casefold: like text, but ignoring case")
    ] = "text"


class SourceDocument(TypeDocument):
    """A system that changes come from, with keys of its own for entities."""

    code: Annotated[Code, Field(examples=["erp"])]
    name: Annotated[Name, Field(description="Shown to people", examples=["ERP of Ada & Sons"])]
    is_active: Annotated[
        bool, Field(description="An inactive source keeps its keys, and new changes cannot name entities by them")
    ] = True


class TypePatch(BaseModel):
    """The fields of an entity type to change."""

    model_config = ConfigDict(extra="forbid")

    name: Name = ""
    description: Text = ""
    is_active: bool = True


class DetailTypePatch(TypePatch):
    """The fields of a detail type to change."""

    compares: Annotated[Compares, Field(description="It cannot change once there are values")] = "text"


@router.get("/entity-types", response_model=ListOf[TypeDocument], responses=documented())
async def list_entity_types(call: Reader) -> Response:
    """List the entity types, by code."""
    types = await call.state.read(reference_types)
    return _listed([_document(kind) for kind in types.entity_types])


@router.get("/detail-types", response_model=ListOf[DetailTypeDocument], responses=documented())
async def list_detail_types(call: Reader) -> Response:
    """List the detail types, by code."""
    types = await call.state.read(reference_types)
    return _listed([_document(kind) for kind in types.detail_types])


@router.get("/sources", response_model=ListOf[SourceDocument], responses=documented())
async def list_sources(call: Reader) -> Response:
    """List the sources, by code."""
    types = await call.state.read(reference_types)
    return _listed([_document(source) for source in types.sources])


@router.post("/sources", status_code=201, response_model=SourceDocument, responses=documented(409))
async def create_source(call: Admin, body: SourceDocument) -> Response:
    """Add a source; from then on its keys can name entities."""
    document = await put_type(call.state, "source", body.code, lambda _: body.model_dump(), is_new=True)
    return JSONResponse(document, HTTPStatus.CREATED)


@router.patch("/sources/{code}", response_model=SourceDocument, responses=documented(404))
async def patch_source(call: Admin, code: CodeInPath, body: TypePatch) -> Response:
    """Change the given fields of a source; its code stays."""
    changed = body.model_dump(exclude_unset=True)
    return JSONResponse(await put_type(call.state, "source", code, lambda before: before | changed, is_new=False))


@router.post("/entity-types", status_code=201, response_model=TypeDocument, responses=documented(409))
async def create_entity_type(call: Admin, body: TypeDocument) -> Response:
    """Add an entity type."""
    document = await put_type(call.state, "entity", body.code, lambda _: body.model_dump(), is_new=True)
    return JSONResponse(document, HTTPStatus.CREATED)


@router.post("/detail-types", status_code=201, response_model=DetailTypeDocument, responses=documented(409))
async def create_detail_type(call: Admin, body: DetailTypeDocument) -> Response:
    """Add a detail type; from then on its code is a parameter of the lists."""
    if is_taken(body.code):
        refuse("body.code", TAKEN_SAID.format(body.code))
    document = await put_type(call.state, "detail", body.code, lambda _: body.model_dump(), is_new=True)
    return JSONResponse(document, HTTPStatus.CREATED)


@router.patch("/entity-types/{code}", response_model=TypeDocument, responses=documented(404))
async def patch_entity_type(call: Admin, code: CodeInPath, body: TypePatch) -> Response:
    """Change the given fields of an entity type."""
    changed = body.model_dump(exclude_unset=True)
    return JSONResponse(await put_type(call.state, "entity", code, lambda before: before | changed, is_new=False))


@router.patch("/detail-types/{code}", response_model=DetailTypeDocument, responses=documented(404, 409))
async def patch_detail_type(call: Admin, code: CodeInPath, body: DetailTypePatch) -> Response:
    """Change the given fields of a detail type."""
    changed = body.model_dump(exclude_unset=True)
    return JSONResponse(await put_type(call.state, "detail", code, lambda before: before | changed, is_new=False))


def is_taken(code: str) -> bool:
    """Return whether a code cannot name a detail type, because it is a parameter of the lists already."""
    return code.lower() in TAKEN


async def put_type(
    state: State,
    kind: Kind,
    code: str,
    values: Callable[[dict[str, object]], dict[str, object]],
    *,
    is_new: bool,
) -> dict[str, object]:
    """Make a type, or change the one with that code, and return its document; `values` makes its new fields of the old.

    Raises Refusal for a new one that exists and a known one that does not, and DetailTypeInUse.
    """

    def put(connection: Connection) -> dict[str, object]:
        with connection.transaction():
            lock_types(connection)
            before = _find(reference_types(connection), kind, code)
            if is_new and before is not None:
                said = f"the {CALLED[kind]} {before['code']} exists already; change it with PATCH"
                raise Refusal(HTTPStatus.CONFLICT, said)
            if not is_new and before is None:
                said = f"there is no {CALLED[kind]} {code}; /api/v1/{_LISTED[kind]} lists what there is"
                raise Refusal(HTTPStatus.NOT_FOUND, said)
            _PUT[kind](connection, **values(before or {}))
            after = _find(reference_types(connection), kind, code)
            assert after is not None
            return after

    document = await state.write(put)
    state.forget_types()
    return document


def _find(types: ReferenceTypes, kind: Kind, code: str) -> dict[str, object] | None:
    return next((_document(found) for found in known_of(types, kind) if found.code.lower() == code.lower()), None)


def known_of(types: ReferenceTypes, kind: Kind) -> Sequence[EntityType | DetailType | Source]:
    """Return what there is of a kind, by code."""
    match kind:
        case "entity":
            return types.entity_types
        case "detail":
            return types.detail_types
        case "source":
            return types.sources
        case _:
            assert_never(kind)


def _document(kind: EntityType | DetailType | Source) -> dict[str, object]:
    return {name: value for name, value in asdict(kind).items() if not name.endswith("_id")}


def _listed(documents: list[dict[str, object]]) -> Response:
    return JSONResponse(
        {"count": len(documents), "next": None, "previous": None, "results": documents}, media_type=JSON
    )
