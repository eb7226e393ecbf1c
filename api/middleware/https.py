"""Redirects to HTTPS, if nothing else is served."""

from __future__ import annotations

from http import HTTPStatus

from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.types import Receive, Scope, Send

from api.middleware.checks import PROBE_PATHS
from api.problems import Refusal


class HttpsOnly(HTTPSRedirectMiddleware):
    """Redirect requests to HTTPS, except the probes, which come from this machine itself."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; raise Refusal where the redirect of an untrusted proxy would never end."""
        if scope["type"] != "http" or scope["path"] in PROBE_PATHS:
            await self.app(scope, receive, send)
            return
        if scope["scheme"] == "http" and (b"x-forwarded-proto", b"https") in scope["headers"]:
            said = (
                "the proxy that sends X-Forwarded-Proto: https is not trusted; add its address to CRM_TRUSTED_PROXIES"
            )
            raise Refusal(HTTPStatus.BAD_REQUEST, said)
        await super().__call__(scope, receive, send)
