"""The root of the errors, and who can fix one."""

from __future__ import annotations

from typing import ClassVar, Literal

Owner = Literal["client", "operator", "database", "ours"]


class CrmError(Exception):
    """The root of every error that the product raises on purpose."""

    owner: ClassVar[Owner] = "client"  # who can fix it
