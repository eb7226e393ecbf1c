"""Files in the cloud, on S3 or Google Cloud Storage: listed, and copied to this machine while they are read.

What they need is installed with the extra `s3`. Credentials, region and endpoint are those that the environment, or
`.env`, names for other tools too: AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, …
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from crm_core.errors import DropUnreadable
from crm_core.model import CloudPath

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

BLOCK_BYTES = 8 << 20  # of a file that are in memory at once
_SECONDS = timedelta(seconds=30)  # that a request, for a listing or a block, may take with its repetitions
_FAULTS = (  # what an error says → what is wrong and what to do
    ("<Code>NoSuchBucket<", "there is no such bucket; check its name, or make it"),
    ("<Code>NoSuchKey<", "does not exist; check how its name is spelled"),
    ("//169.254.169.254/", "there are no credentials for it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ("//metadata.google.internal/", "there are no credentials for it; set GOOGLE_APPLICATION_CREDENTIALS"),
    ("<Code>AuthorizationHeaderMalformed<", _REGION := "the bucket is in another region; set AWS_REGION"),
    ("incorrectly configured region", _REGION),
    ("status code: 401", "the credentials are not accepted; check AWS_ACCESS_KEY_ID and its secret, or Google's"),
    ("status code: 403", "the credentials do not allow it; check them, and that they may list and read the bucket"),
    ("status code: 404", "does not exist; check the names of the bucket and the file"),
    ("status code: 412", CHANGED := "changed while it was read; drop it again when it is complete"),
    ("error sending request", "the storage does not answer; check the network, and AWS_ENDPOINT_URL if it is set"),
    ("empty path segment", "there is an object with an empty part, as in a//b, in its name; rename it"),
    ("illegal character", "there is an object with .. or a control character in its name; rename it"),
)


@dataclass(frozen=True, slots=True)
class CloudFile:
    """A file in the cloud, as it was when it was listed."""

    path: CloudPath
    bytes: int
    modified_ns: int  # nanoseconds since 1970
    tag: str  # of its content: no other content has ever had it under this name


def list_folder(folder: CloudPath) -> tuple[list[str], list[CloudFile]]:
    """Return the names of the folders and the files in a folder, each in order of names.

    A folder without files looks like one that does not exist. Raises DropUnreadable if it cannot be listed.
    """
    with _told(folder):
        import obstore

        found = obstore.list_with_delimiter(_store(folder))
    folders = [CloudPath(str(name)).name for name in found["common_prefixes"]]
    files = [_file(folder / meta["path"], meta) for meta in found["objects"] if meta["path"]]
    return sorted(folders), sorted(files, key=lambda file: file.path.name)


@contextmanager
def copied(
    path: CloudPath, home: Path, tag: str | None = None, on_bytes: Callable[[int, int], None] = lambda _done, _all: None
) -> Iterator[Path]:
    """Yield the path of a copy of a file that nobody else sees and that goes at the end, also if the process dies.

    With a tag, the file must still be what it was when it was listed. The copy is on the disk of `home`. Raises
    DropUnreadable if the file cannot be read, or not be copied.
    """
    with ExitStack() as stack:
        with _told(path):
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            copy = stack.enter_context(tempfile.TemporaryFile(dir=home))  # without a name, and for this user alone
            for block in _blocks(path, tag, on_bytes):
                copy.write(block)
            copy.flush()
        yield Path(f"/proc/self/fd/{copy.fileno()}")


@contextmanager
def _told(path: CloudPath) -> Iterator[None]:
    """Raise what goes wrong as DropUnreadable, in one line."""
    try:
        from obstore.exceptions import BaseError
    except ImportError as error:
        fault = "what reads the cloud is not installed; install it: pip install 'crm-core[s3]'"
        raise DropUnreadable(path.address, fault) from error
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        said = str(error).partition("\n\nDebug")[0]
        otherwise = f"cannot be read: {' '.join(said.split())[:200]}"
        fault = next((fault for sign, fault in _FAULTS if sign in said), otherwise)
        raise DropUnreadable(path.address, fault) from error
    except OSError as error:
        fault = f"cannot be copied to this machine ({error.strerror}); make room in CRM_HOME, then try again"
        raise DropUnreadable(path.address, fault) from error


def _blocks(path: CloudPath, tag: str | None, on_bytes: Callable[[int, int], None]) -> Iterator[bytes]:
    import obstore

    store = _store(CloudPath(path.address.rpartition("/")[0]))
    meta = obstore.get(store, path.name).meta
    e_tag, size = meta["e_tag"], meta["size"]
    if tag is not None and _file(path, meta).tag != tag:
        raise DropUnreadable(path.address, CHANGED)
    for start in range(0, size, BLOCK_BYTES):
        on_bytes(start, size)
        end = min(start + BLOCK_BYTES, size)
        options = {"range": (start, end), **({"if_match": e_tag} if e_tag else {})}
        yield bytes(obstore.get(store, path.name, options=options).bytes())  # type: ignore[arg-type]


def _file(path: CloudPath, meta: ObjectMeta) -> CloudFile:
    tag = re.sub(r"[^\w+/=-]", "", meta["version"] or meta["e_tag"] or "", flags=re.ASCII)
    return CloudFile(path, meta["size"], int(meta["last_modified"].timestamp() * 1e9), tag)


def _store(folder: CloudPath) -> ObjectStore:
    from dotenv import dotenv_values
    from obstore.store import from_url

    for name, value in dotenv_values(Path(".env")).items():
        if name.startswith(("AWS_", "GOOGLE_")) and value:
            os.environ.setdefault(name, value)
    return from_url(
        folder.address,
        client_options={"timeout": _SECONDS, "connect_timeout": timedelta(seconds=5), "allow_http": True},
        retry_config={"max_retries": 3, "retry_timeout": _SECONDS},
    )
