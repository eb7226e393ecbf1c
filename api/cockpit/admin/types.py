"""Entity types, detail types and sources: the list of each, a form for a new one, and one to change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from http import HTTPStatus

from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.admin.listing import as_file, fitting, listed
from api.cockpit.page import Page, page
from api.problems import Refusal
from api.routers.reference import (
    CALLED,
    TAKEN_SAID,
    DetailTypeDocument,
    Kind,
    TypeDocument,
    is_taken,
    known_of,
    put_type,
)
from crm_core.errors import DetailTypeInUse
from crm_core.model import DetailType, EntityType, Source

Values = Mapping[str, object]
FAULTS: Mapping[str, str] = {
    "code": "The code has to begin with a letter from A to Z, and go on with such letters, digits and _; 63 at most.",
    "name": "The name is what people see: give one, of at most 10,000 characters.",
    "description": "The description has more than 10,000 characters, or a NUL.",
    "compares": "Choose one of the three.",
}
PATHS: Mapping[Kind, str] = {
    "entity": "/admin/entity-types",
    "detail": "/admin/detail-types",
    "source": "/admin/sources",
}
NEW: Values = {"code": "", "name": "", "description": "", "is_active": True, "compares": "text"}


async def show_types(opened: Page, *, kind: Kind) -> Response:
    """Show the types of a kind, by code."""
    found = listed(opened, await _fitting(opened, kind), _code)
    return opened.show("admin/types.html", kind=kind, called=CALLED[kind], path=PATHS[kind], found=found)


async def download(opened: Page, *, kind: Kind) -> Response:
    """Send the types of a kind as CSV."""
    columns = [name for name in NEW if kind == "detail" or name != "compares"]
    rows = [asdict(one) for one in await _fitting(opened, kind)]
    return as_file(f"{CALLED[kind].replace(' ', '_')}s.csv", columns, ([row[name] for name in columns] for row in rows))


async def show_new(opened: Page, *, kind: Kind) -> Response:
    """Show the form for a new type."""
    return _show(opened, kind, NEW)


async def show_type(opened: Page, *, kind: Kind) -> Response:
    """Show the form to change a type."""
    return _show(opened, kind, asdict(await _known(opened, kind)))


async def create(opened: Page, *, kind: Kind) -> Response:
    """Make a type."""
    values = _values(await opened.form(), kind)
    faults = _faults(kind, values)
    code = str(values["code"])
    if kind == "detail" and is_taken(code):
        faults["code"] = TAKEN_SAID.format(code)
    if not faults:
        try:
            await put_type(opened.state, kind, code, lambda _: dict(values), is_new=True)
        except Refusal as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            known, *_ = error.detail.split(";")  # what to do about it is said to programs
            faults["code"] = f"{known}; open it in the list, and change it there."
    if faults:
        return _show(opened, kind, values, faults)
    opened.has_written()
    return opened.go(opened.url(PATHS[kind]), f"The {CALLED[kind]} {code} is made.")


async def change(opened: Page, *, kind: Kind) -> Response:
    """Change a type; its code stays."""
    code = (await _known(opened, kind)).code
    values = _values(await opened.form(), kind) | {"code": code}
    faults = _faults(kind, values)
    if not faults:
        try:
            await put_type(opened.state, kind, code, lambda _: values, is_new=False)
        except DetailTypeInUse as error:
            faults["compares"] = str(error)
    if faults:
        return _show(opened, kind, values, faults)
    opened.has_written()
    return opened.go(opened.url(PATHS[kind]), f"The {CALLED[kind]} {code} is changed.")


def _routes(kind: Kind) -> list[Route]:
    path = PATHS[kind]
    return [
        Route(path, page("admin", partial(show_types, kind=kind)), methods=["GET"]),
        Route(f"{path}.csv", page("admin", partial(download, kind=kind)), methods=["GET"]),
        Route(f"{path}/new", page("admin", partial(show_new, kind=kind)), methods=["GET"]),
        Route(f"{path}/new", page("admin", partial(create, kind=kind)), methods=["POST"]),
        Route(f"{path}/of/{{code}}", page("admin", partial(show_type, kind=kind)), methods=["GET"]),
        Route(f"{path}/of/{{code}}", page("admin", partial(change, kind=kind)), methods=["POST"]),
    ]


routes = [*_routes("entity"), *_routes("detail"), *_routes("source")]


def _show(opened: Page, kind: Kind, values: Values, faults: Mapping[str, str] | None = None) -> Response:
    code = str(opened.request.path_params.get("code", ""))
    status = HTTPStatus.BAD_REQUEST if faults else HTTPStatus.OK
    about = {"kind": kind, "called": CALLED[kind], "path": PATHS[kind], "code": code}
    return opened.show("admin/type.html", status=status, **about, values=values, faults=faults or {})


async def _types(opened: Page, kind: Kind) -> Sequence[EntityType | DetailType | Source]:
    return known_of(await opened.read(opened.state.types), kind)


async def _fitting(opened: Page, kind: Kind) -> list[EntityType | DetailType | Source]:
    return fitting(opened, await _types(opened, kind), lambda one: (one.code, one.name, one.description))


async def _known(opened: Page, kind: Kind) -> EntityType | DetailType | Source:
    code = str(opened.request.path_params["code"])
    found = next((one for one in await _types(opened, kind) if one.code.lower() == code.lower()), None)
    if found is None:
        said = f"there is no {CALLED[kind]} {code[:100]!r}; go back to the list"
        raise Refusal(HTTPStatus.NOT_FOUND, said)
    return found


def _values(form: FormData, kind: Kind) -> dict[str, object]:
    names = ("code", "name", "description", *(["compares"] if kind == "detail" else []))
    texts = {name: str(form.get(name, "")).replace("\r\n", "\n").strip() for name in names}
    return {**texts, "is_active": "is_active" in form}


def _faults(kind: Kind, values: Values) -> dict[str, str]:
    """Return what is wrong with the fields, by their names and by the rules of the API."""
    try:
        (DetailTypeDocument if kind == "detail" else TypeDocument).model_validate(values)
    except ValidationError as error:
        return {name: FAULTS[name] for name in (str(fault["loc"][0]) for fault in error.errors())}
    return {}


def _code(one: EntityType | DetailType | Source) -> str:
    return one.code
