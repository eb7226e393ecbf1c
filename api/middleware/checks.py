"""Checks that every request has to pass: of its host, origin, headers and address."""

from __future__ import annotations

import re
from collections import Counter
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.datastructures import Headers
from starlette.types import Scope

from api.body import require_unpacked
from api.problems import Refusal, refuse
from crm_core.settings import Settings

UNSAFE_METHODS = ("POST", "PUT", "PATCH", "DELETE")
PROBE_PATHS = ("/healthz", "/readyz")  # asked by machines, under any name of this one
SINGLE_HEADERS = frozenset(  # if one of these came twice, it would be unclear which one counts
    (b"authorization", b"content-encoding", b"content-type", b"host", b"idempotency-key", b"origin")
)
_PORT = re.compile(r":\d*$")


class Checks:
    """The checks, as the settings have them."""

    def __init__(self, settings: Settings) -> None:
        """Allow these hosts, and these origins to write."""
        self._hosts = None if "*" in settings.allowed_hosts else {host.lower() for host in settings.allowed_hosts}
        self._origins = {origin.lower() for origin in (*settings.csrf_trusted_origins, *settings.cors_origins)}

    def require_sound(self, scope: Scope, headers: Headers) -> None:
        """Raise Refusal for a request that fails one of the checks."""
        self._require_host(scope, headers.get("host", ""))
        _require_single_headers(scope)
        require_unpacked(headers, "header.")
        _require_readable(scope)
        if scope["method"] in UNSAFE_METHODS and (origin := headers.get("origin")):
            self._require_origin(origin, f"{scope['scheme']}://{headers.get('host', '')}")

    def _require_host(self, scope: Scope, host: str) -> None:
        if self._hosts is None or scope["path"] in PROBE_PATHS:
            return
        if not _is_among(self._hosts, _PORT.sub("", host).lower()):
            said = f"the Host {host!r} is not allowed; if it is yours, add it to CRM_ALLOWED_HOSTS"
            raise Refusal(HTTPStatus.BAD_REQUEST, said)

    def _require_origin(self, origin: str, own: str) -> None:
        if "*" not in self._origins and origin.lower() not in (*self._origins, own.lower()):
            said = f"pages of {origin} may not write here; add it to CRM_CSRF_TRUSTED_ORIGINS if it is yours"
            raise Refusal(HTTPStatus.FORBIDDEN, said)


def _is_among(hosts: set[str], host: str) -> bool:
    """Return whether a host is in the list; .example.org means a domain and everything below it."""
    return host in hosts or any(known[0] == "." and f".{host}".endswith(known) for known in hosts)


def _require_single_headers(scope: Scope) -> None:
    """Raise Refusal if a header that may come only once is given twice."""
    found = [name for name, _ in scope["headers"] if name in SINGLE_HEADERS]
    if len(set(found)) < len(found):
        name = next(name for name in found if found.count(name) > 1)
        refuse(f"header.{name.decode().title()}", "is given twice; give it once")


def _require_readable(scope: Scope) -> None:
    """Raise Refusal if the address is not valid text, or gives a parameter twice."""
    address, query = scope.get("raw_path") or b"", scope["query_string"]
    if b"%" in address or b"%" in query:
        text = unquote_to_bytes(address + b"?" + query)
        if b"\0" in text:
            said = "the address contains a NUL (%00), which is not allowed; remove it"
            raise Refusal(HTTPStatus.BAD_REQUEST, said)
        try:
            text.decode()
        except UnicodeDecodeError:
            said = "the address is not UTF-8; encode it as UTF-8, and write each byte outside ASCII as %XX"
            raise Refusal(HTTPStatus.BAD_REQUEST, said) from None
    if b"&" in query and scope["path"].startswith("/api/"):
        names = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        for name in [name for name, times in names.items() if times > 1][:1]:
            refuse(f"query.{name}", "is given twice; give it once")
