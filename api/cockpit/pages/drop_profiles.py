"""How a file that was brought is read: in the standard form, by a profile, or by one proposed and changed here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio.to_thread
from starlette.datastructures import FormData
from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from crm_core.profiles import store
from crm_core.profiles.infer import infer
from crm_core.profiles.profile import Profile
from crm_core.profiles.toml import read_profile
from crm_core.reference import reference_types

PROPOSE = "?"  # chosen instead of a profile: propose one
MAX_TOML = 100_000  # characters of a profile
_LETTERS = re.compile("[a-z]+")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A profile as it was chosen, or written in the browser; nothing is the standard form."""

    name: str = ""
    toml: str = ""  # "": as it is in the folder of profiles
    notes: tuple[str, ...] = ()  # on a proposal

    async def profile(self, opened: Page) -> Profile | None:
        """Read the profile; raises UnknownProfile, ProfileRefused."""
        if self.toml:
            return read_profile(self.name or "profile", self.toml, f"{self.name or 'profile'}.toml")
        return await anyio.to_thread.run_sync(load, opened, self.name) if self.name else None


def load(opened: Page, name: str) -> Profile:
    """Read a profile of the folder; raises UnknownProfile, ProfileRefused."""
    return store.load(opened.state.settings.profile_dir, name)


def of_form(form: FormData) -> Chosen:
    """Return what a form says of the profile."""
    name, toml = (str(form.get(field, "")) for field in ("profile", "profile_toml"))
    return Chosen(name.strip(), toml.replace("\r\n", "\n")[:MAX_TOML])


async def proposed(opened: Page, path: Path) -> Chosen:
    """Propose a profile for a file; raises DropRefused if it cannot be read."""
    types = await opened.read(reference_types)
    codes = [kind.code for kind in types.detail_types if kind.is_active]
    source = match[0] if (match := _LETTERS.search(path.stem.lower())) else "source"
    sources = [known.code for known in types.sources if known.is_active]
    found = await anyio.to_thread.run_sync(partial(infer, path, source, codes, sources))
    return Chosen(source, found.text, found.notes)


async def download(opened: Page) -> Response:
    """Send a profile that was written in the browser, as a file to keep with the others."""
    chosen = of_form(await opened.form())
    name = chosen.name if store.NAME.fullmatch(chosen.name) else "profile"
    headers = {"Content-Disposition": f'attachment; filename="{name}.toml"'}
    return Response(chosen.toml.encode(), media_type="application/toml", headers=headers)


routes = [Route("/drops/profile", page("writer", download), methods=["POST"])]
