"""The profiles of sources, as they are in their folder: to read, because they are changed where they are reviewed."""

from __future__ import annotations

from dataclasses import dataclass

import anyio.to_thread
from starlette.responses import Response
from starlette.routing import Route

from api.cockpit.page import Page, page
from crm_core.errors import ProfileRefused, UnknownProfile
from crm_core.profiles import store
from crm_core.profiles.profile import Profile
from crm_core.settings import Settings


@dataclass(frozen=True, slots=True)
class Listed:
    """A profile, or why it cannot be used."""

    name: str
    profile: Profile | None = None
    fault: str | None = None


async def show_profiles(opened: Page) -> Response:
    """Show every profile with its text."""
    settings = opened.state.settings
    found = await anyio.to_thread.run_sync(_listed, settings)
    return opened.show("admin/profiles.html", profiles=found, folder=settings.profile_dir)


routes = [Route("/admin/profiles", page("admin", show_profiles), methods=["GET"])]


def _listed(settings: Settings) -> list[Listed]:
    found = []
    for name in store.names(settings.profile_dir):
        try:
            found.append(Listed(name, store.load(settings.profile_dir, name)))
        except (ProfileRefused, UnknownProfile) as error:
            found.append(Listed(name, fault=str(error)))
    return found
