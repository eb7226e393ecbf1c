"""A real web server and a real mail server, which take what is sent to them and can refuse it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_string
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hook:
    """What a web server was sent: headers and bodies of each POST."""

    url: str = ""
    answers: int = 204  # the status
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def a_hook() -> Iterator[Hook]:
    """Run a web server."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(hook.answers)
            if 300 <= hook.answers < 400:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join(10)


@dataclass
class MailBox:
    """What a mail server was sent."""

    address: str = ""
    refuses: bytes = b""  # the beginning of a command that it refuses
    commands: list[str] = field(default_factory=list)
    mails: list[Message] = field(default_factory=list)


@contextmanager
def a_mail_server() -> Iterator[MailBox]:
    """Run a mail server that speaks enough of SMTP (RFC 5321) to take mail, without TLS."""
    box = MailBox()
    with socket.create_server(("", 0)) as door:  # also as 127.0.0.2
        box.address = f"127.0.0.1:{door.getsockname()[1]}"
        thread = threading.Thread(target=_serve, args=(door, box), daemon=True)
        thread.start()
        try:
            yield box
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _serve(door: socket.socket, box: MailBox) -> None:
    while True:
        try:
            connection, _ = door.accept()
        except OSError:
            return
        connection.settimeout(10)
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 here\r\n")
            for line in iter(lines.readline, b""):
                box.commands.append(line.decode().strip())
                if box.refuses and line.upper().startswith(box.refuses):
                    connection.sendall(b"550 no\r\n")
                elif line.upper().startswith(b"EHLO"):
                    connection.sendall(b"250-here\r\n250 AUTH PLAIN\r\n")
                elif line.upper().startswith(b"AUTH"):
                    connection.sendall(b"235 welcome\r\n")
                elif line.upper().startswith(b"DATA"):
                    connection.sendall(b"354 go on\r\n")
                    text = b"".join(iter(lines.readline, b".\r\n"))
                    box.mails.append(message_from_string(text.decode()))
                    connection.sendall(b"250 taken\r\n")
                elif line.upper().startswith(b"QUIT"):
                    connection.sendall(b"221 bye\r\n")
                    break
                else:
                    connection.sendall(b"250 ok\r\n")
