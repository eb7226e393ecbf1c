"""Who sends a request, with what role; and the names that tokens and accounts can have."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, get_args

from crm_core.errors import NameRefused

Role = Literal["reader", "writer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may

_NAME = re.compile(r"[^\W_][\w.@+-]{0,99}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request: the bearer of a token, the owner of a session, or anybody while neither is needed."""

    name: str  # the actor in the ledger
    role: Role
    token_id: str | None = None
    session_id: str | None = None

    def may(self, role: Role) -> bool:
        """Return whether this principal has at least that role."""
        return ROLES.index(self.role) >= ROLES.index(role)


def name_in_form(name: str) -> str | None:
    """Return a name in normal form (NFC), or None if nobody can have it."""
    normal = unicodedata.normalize("NFC", name)
    return normal if _NAME.fullmatch(normal) else None


def usable_name(name: str) -> str:
    """Return a name in normal form.

    Raises NameRefused.
    """
    normal = name_in_form(name)
    if normal is None:
        raise NameRefused(name)
    return normal
