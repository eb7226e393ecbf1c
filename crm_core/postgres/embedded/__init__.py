"""The embedded PostgreSQL: a private server in one folder, shared by the commands that use it.

Each command holds a shared lock on `postgres.users` while it uses the server; the kernel drops it however the command
ends. Starting and stopping happen one at a time, under an exclusive lock on `postgres.lock`. The first to come starts
the server, or takes the one that a killed command left running; the last to leave stops it. Those that serve for long
start it again if it is killed. POSIX only.

PostgreSQL refuses to run as root. A root process runs it as the owner of the data; for new data as the owner of the
home, or else as the system user postgres or nobody. Where that user cannot reach the data and the binaries, their
parent folders let others pass from then on (o+x, never o+r), and the log says so. Root never writes through a link.
"""

from __future__ import annotations

from crm_core.postgres.embedded.binaries import bundled_binaries, major_version
from crm_core.postgres.embedded.running import running_server
from crm_core.postgres.embedded.server import SOCKET_PATH_BYTES

__all__ = ["SOCKET_PATH_BYTES", "bundled_binaries", "major_version", "running_server"]
