"""A server that runs for as long as one of its users does."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO

from crm_core.errors import EmbeddedServerFailed
from crm_core.postgres.embedded.binaries import OTHER_SERVER, bundled_binaries
from crm_core.postgres.embedded.locks import held, held_if_free, is_last
from crm_core.postgres.embedded.repeating import repeated
from crm_core.postgres.embedded.server import Server


@contextmanager
def running_server(
    home: Path,
    *,
    binaries: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    is_kept: bool = False,
) -> Iterator[str]:
    """Yield the conninfo of the database `crm` on the server of `home`, which runs until its last user leaves.

    `binaries` is the bin folder of another PostgreSQL; `settings` replace those that are scaled to the machine. With
    `is_kept` a server that is killed meanwhile is started again. Raises EmbeddedServerFailed.
    """
    with ExitStack() as files:
        with _system_errors(home):
            server = Server.at(home, binaries or bundled_binaries(), settings)
            turn, users = (files.enter_context(server.open(f"postgres.{name}")) for name in ("lock", "users"))
        try:
            with held(turn), _system_errors(home):
                fcntl.flock(users, fcntl.LOCK_SH)
                conninfo = server.start()
            with repeated(partial(_revive, server, turn)) if is_kept else nullcontext():
                yield conninfo
        finally:
            with held(turn), _system_errors(home):
                if is_last(users):
                    server.stop()


def _revive(server: Server, turn: IO[str]) -> None:
    """Start a server that is gone, unless somebody else is about to start or to stop it."""
    with held_if_free(turn) as is_ours, _system_errors(server.home):
        if is_ours:
            server.revive()


@contextmanager
def _system_errors(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = f"the embedded server of {home} cannot be used: {error}"
        raise EmbeddedServerFailed(
            cause, f"make the folder usable, set CRM_HOME to another, or {OTHER_SERVER}"
        ) from error
