"""The templates of the pages, and how they write instants, numbers and the addresses of files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from api.cockpit.time_bar import on_the_clock
from crm_core.utc import utc_text
from crm_core.values.instants import parse_instant

HERE = Path(__file__).parent
STATIC = HERE / "static"
VENDOR = "vendor/"  # the files of the package that carries them: style sheets of Tabler, and more


def render(template: str, values: Mapping[str, object]) -> str:
    """Return the text of a page; what the values say is text in it, never markup."""
    return _environment().get_template(template).render(values)


def vendor_folder() -> Path:
    """Return the folder of static files of starlette-admin."""
    spec = find_spec("starlette_admin")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "static"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {"when": _when, "day": _day, "stamp": _stamp, "utc": utc_text, "number": _number}
    environment.globals |= {"asset": _asset}
    return environment


@pass_context
def _when(context: Context, at: datetime | str | None, none: str = "") -> Markup | str:
    """Write an instant in the zone of the settings; midnight is written as a day."""
    if at is None:
        return none
    local = _local(context, at)
    is_midnight = (local.hour, local.minute, local.second, local.microsecond) == (0, 0, 0, 0)
    text = local.strftime("%Y-%m-%d") if is_midnight else local.strftime("%Y-%m-%d %H:%M")
    if local.second or local.microsecond:
        text = local.strftime("%Y-%m-%d %H:%M:%S")
    exact = utc_text(local)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, text)


@pass_context
def _stamp(context: Context, at: datetime | None) -> str:
    """Write an instant exactly, as it is typed into a field; nothing for None."""
    if at is None:
        return ""
    local = _local(context, at)
    if local.tzinfo is not context["zone"]:  # the zone's clock cannot show it
        return utc_text(local)
    text = local.replace(tzinfo=None).isoformat(" ")
    return text.removesuffix(" 00:00:00") if text.endswith(" 00:00:00") else text


@pass_context
def _day(context: Context, at: datetime | str | None, none: str = "") -> str:
    """Write the day of an instant in the zone of the settings."""
    return none if at is None else _local(context, at).strftime("%Y-%m-%d")


def _local(context: Context, at: datetime | str) -> datetime:
    zone = cast("ZoneInfo", context["zone"])
    return on_the_clock(parse_instant(at, zone) if isinstance(at, str) else at, zone)


def _number(value: float) -> str:
    return f"{value:,}"


@pass_context
def _asset(context: Context, path: str) -> Markup:
    """Return the address of a static file, which changes when the file does."""
    return escape(f"{context['root']}/static/{path}?v={_version(path)}")


@cache
def _version(path: str) -> str:
    file = vendor_folder() / path.removeprefix(VENDOR) if path.startswith(VENDOR) else STATIC / path
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
