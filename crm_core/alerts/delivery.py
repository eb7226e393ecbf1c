"""Send a message to a webhook or by e-mail, in a few seconds or not at all."""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from http.client import HTTPException
from typing import IO, Protocol
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from crm_core.alerts.message import Message
from crm_core.errors import AlertFailed
from crm_core.settings import Settings

SECONDS = 5  # that each answer of the other side may take
SIGNATURE = "X-CRM-Signature"  # sha256=, and the HMAC of the body under CRM_ALERT_SECRET, in hexadecimal digits
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Channel(Protocol):
    """A way to send messages."""

    @property
    def name(self) -> str:
        """Return its name, by which what waits for it is kept."""

    def send(self, message: Message, now: datetime) -> None:
        """Send a message; raise AlertFailed if it was not taken."""


def channels(settings: Settings) -> Sequence[Channel]:
    """Return the channels that the settings name."""
    found: list[Channel] = []
    if settings.alert_webhook:
        found.append(Webhook(settings.alert_webhook, settings.alert_secret))
    if settings.alert_mail_to:
        sender = settings.alert_mail_from or settings.alert_mail_to[0]
        found.append(Mail(settings.alert_mail_server, sender, settings.alert_mail_to))
    return found


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(
        self, _request: Request, _answer: IO[bytes], _code: int, _reason: str, _headers: object, _url: str
    ) -> None:
        """Refuse: urllib would follow with a GET, which tells nobody anything."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that takes JSON by POST, signed if there is a secret."""

    url: str = field(repr=False)  # it may hold a token
    secret: str | None = field(default=None, repr=False)
    name: str = "webhook"

    def send(self, message: Message, now: datetime) -> None:
        """Send a message; raise AlertFailed unless the answer is 2xx."""
        body = json.dumps(message.members(now.isoformat())).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "crm-core"}
        if self.secret:
            headers[SIGNATURE] = signature(self.secret, body)
        request = Request(self.url, body, headers, method="POST")
        try:
            build_opener(_NoRedirect).open(request, timeout=SECONDS).close()
        except HTTPError as error:
            with error:
                raise AlertFailed(self.name, f"it answered {error.code} {error.reason}") from None
        except (OSError, HTTPException, ValueError) as error:
            raise AlertFailed(self.name, str(error)) from None


def signature(secret: str, body: bytes) -> str:
    """Return the signature of a body, as the header has it."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Mail:
    """Addresses, and the server that takes mail for them."""

    server: str = field(repr=False)  # smtp://user:password@host:port, or smtps://
    sender: str
    to: Sequence[str]
    name: str = "mail"

    def send(self, message: Message, now: datetime) -> None:
        """Send a message; raise AlertFailed unless the server takes it for every address."""
        mail = EmailMessage()
        mail["From"], mail["To"] = self.sender, ", ".join(self.to)
        mail["Subject"] = f"[crm] {message.title}"[:200]
        mail["Date"], mail["Message-ID"] = format_datetime(now), make_msgid(domain="crm-core")
        mail.set_content(f"{message.text}\n")
        try:
            with self._connected() as smtp:
                if refused := smtp.send_message(mail):
                    raise AlertFailed(self.name, f"the server refused {', '.join(refused)}")
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise AlertFailed(self.name, str(error)) from None

    def _connected(self) -> smtplib.SMTP:
        """Connect, with TLS if the server has it; a password is never sent to another machine without."""
        parts = urlsplit(self.server)
        host, context = parts.hostname or "localhost", ssl.create_default_context()
        if parts.scheme == "smtps":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=SECONDS, context=context)
        else:
            smtp = smtplib.SMTP(host, parts.port or 25, timeout=SECONDS)
        try:
            smtp.ehlo()
            has_tls = parts.scheme == "smtps" or smtp.has_extn("starttls")
            if has_tls and parts.scheme != "smtps":
                smtp.starttls(context=context)
                smtp.ehlo()
            if parts.username:
                if not has_tls and host not in LOOPBACK:
                    raise AlertFailed(self.name, "the server offers no TLS, so the password is not sent; use smtps://")
                smtp.login(unquote(parts.username), unquote(parts.password or ""))
        except BaseException:
            smtp.close()
            raise
        return smtp
