"""Errors of tokens and accounts."""

from __future__ import annotations

from collections.abc import Sequence

from crm_core.errors.root import CrmError


class NameRefused(CrmError):
    """A name that no token and no account can have: the ledger and the logs show it as the actor."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"the name {name[:100]!r} cannot be used; begin with a letter or digit, and go on with these or . @ + - _, "
            "at most 100 characters in all"
        )


class TokenExists(CrmError):
    """An active token has that name already."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the token {name!r} exists already; choose another name, or revoke that token first")


class UnknownToken(CrmError):
    """No token has that name or id; the text does not show it, because it may be the text of a token."""

    def __init__(self, name_or_id: str) -> None:
        self.name_or_id = name_or_id
        super().__init__("no token has that name or id; see `crm token list`")


class AccountExists(CrmError):
    """An account of that name exists."""

    def __init__(self, username: str) -> None:
        self.username = username
        super().__init__(f"an account {username!r} exists already; choose another name")


class UnknownAccount(CrmError):
    """No account of that name exists, or it cannot sign in."""

    def __init__(self, username: str) -> None:
        self.username = username
        super().__init__(f"no account {username[:100]!r} exists that can sign in")


class AdminFirst(CrmError):
    """Nobody could manage the service: what was asked for needs an admin who can sign in, and there is none yet."""

    def __init__(self) -> None:
        super().__init__("no account with the role admin can sign in yet; make the first account an admin")


class LastAdmin(CrmError):
    """The last active admin can neither be demoted nor deactivated."""

    def __init__(self, username: str) -> None:
        self.username = username
        super().__init__(f"{username!r} is the last active admin; make another account an admin first")


class WeakPassword(CrmError):
    """A password that can be guessed; `faults` say why, one sentence each, without showing it."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"{' '.join(faults)} Choose another password.")
