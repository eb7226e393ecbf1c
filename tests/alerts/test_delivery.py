"""Alerts go to a real web server and a real mail server, and what they do not take is reported."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from receiving import Hook, MailBox, a_hook, a_mail_server

from crm_core.alerts.delivery import Mail, Webhook, channels
from crm_core.alerts.message import Fault, Message
from crm_core.errors import AlertFailed
from crm_core.settings import Settings

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FAULT = Fault("drop a.csv", "drop_refused", "The drop a.csv was refused: empty", "2026-01-02T03:00:00Z", "http://ui/x")


@pytest.fixture
def hook() -> Iterator[Hook]:
    with a_hook() as hook:
        yield hook


@pytest.fixture
def box() -> Iterator[MailBox]:
    with a_mail_server() as box:
        yield box


def test_a_webhook_gets_signed_json_that_says_what_when_and_where(hook: Hook) -> None:
    Webhook(hook.url, "a secret").send(Message("fault", FAULT, more=2), NOW)
    ((headers, body),) = hook.posts
    assert headers["content-type"] == "application/json"
    assert headers["x-crm-signature"] == "sha256=" + hmac.new(b"a secret", body, hashlib.sha256).hexdigest()
    assert json.loads(body) == {
        "product": "crm-core",
        "state": "fault",
        "key": "drop a.csv",
        "kind": "drop_refused",
        "what": "The drop a.csv was refused: empty",
        "at": "2026-01-02T03:00:00Z",
        "where": "http://ui/x",
        "more": 2,
        "sent_at": "2026-01-02T03:04:05+00:00",
        "text": "The drop a.csv was refused: empty (and 2 more)\nSince: 2026-01-02T03:00:00Z\nLook at: http://ui/x",
    }


def test_without_a_secret_nothing_is_signed(hook: Hook) -> None:
    Webhook(hook.url).send(Message("fault", FAULT), NOW)
    assert "x-crm-signature" not in hook.posts[0][0]


@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_a_webhook_that_does_not_take_it_is_told(hook: Hook, status: int) -> None:
    hook.answers = status
    with pytest.raises(AlertFailed, match=rf"by webhook: it answered {status}"):
        Webhook(hook.url).send(Message("fault", FAULT), NOW)
    assert len(hook.posts) == 1, "a redirection is not followed"


def test_a_server_that_is_away_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        address = f"127.0.0.1:{door.getsockname()[1]}"
    with pytest.raises(AlertFailed, match=r"by webhook: .*refused"):
        Webhook(f"http://{address}/").send(Message("fault", FAULT), NOW)
    with pytest.raises(AlertFailed, match=r"by mail: .*refused"):
        Mail(f"smtp://{address}", "a@b.c", ["d@e.f"]).send(Message("fault", FAULT), NOW)


def test_a_mail_says_what_when_and_where(box: MailBox) -> None:
    Mail(f"smtp://{box.address}", "crm@example.org", ["ann@example.org", "bob@example.org"]).send(
        Message("mended", FAULT), NOW
    )
    (mail,) = box.mails
    assert mail["Subject"] == "[crm] Mended: The drop a.csv was refused: empty"
    assert (mail["From"], mail["To"]) == ("crm@example.org", "ann@example.org, bob@example.org")
    assert "Since: 2026-01-02T03:00:00Z" in str(mail.get_payload())
    assert "Look at: http://ui/x" in str(mail.get_payload())
    assert [line.lower() for line in box.commands if line.upper().startswith("RCPT")] == [
        "rcpt to:<ann@example.org>",
        "rcpt to:<bob@example.org>",
    ]


def test_a_password_is_sent_without_tls_on_this_machine_only(box: MailBox) -> None:
    Mail(f"smtp://ann:p%40ss@{box.address}", "a@b.c", ["d@e.f"]).send(Message("fault", FAULT), NOW)
    assert [line for line in box.commands if line.startswith("AUTH")] == [
        "AUTH PLAIN " + b64encode(b"\0ann\0p@ss").decode()
    ]
    box.commands.clear()
    other = box.address.replace("127.0.0.1", "127.0.0.2")  # by Linux the same machine, but not by its name
    with pytest.raises(AlertFailed, match="offers no TLS, so the password is not sent"):
        Mail(f"smtp://ann:p@{other}", "a@b.c", ["d@e.f"]).send(Message("fault", FAULT), NOW)
    assert [line for line in box.commands if line.startswith("AUTH")] == []


def test_a_mail_server_that_refuses_an_address_is_told(box: MailBox) -> None:
    box.refuses = b"RCPT"
    with pytest.raises(AlertFailed, match="by mail: "):
        Mail(f"smtp://{box.address}", "a@b.c", ["d@e.f"]).send(Message("fault", FAULT), NOW)
    assert box.mails == []


def test_the_settings_choose_the_ways() -> None:
    def chosen(**environ: str) -> list[str]:
        return [way.name for way in channels(Settings.from_environment(environ, None))]

    assert chosen() == []
    assert chosen(CRM_ALERT_WEBHOOK="https://example.org/x") == ["webhook"]
    assert chosen(CRM_ALERT_WEBHOOK="https://example.org/x", CRM_ALERT_MAIL_TO="a@b.c, d@e.f") == ["webhook", "mail"]
    (mail,) = channels(Settings.from_environment({"CRM_ALERT_MAIL_TO": "a@b.c, d@e.f"}, None))
    assert mail == Mail("smtp://localhost", "a@b.c", ("a@b.c", "d@e.f"))
