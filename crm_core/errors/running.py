"""Errors of those who run the product: its settings, processes, backups and alerts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crm_core.errors.root import CrmError


class SettingsError(CrmError):
    """A setting has a value that cannot be used."""

    def __init__(self, name: str, value: str, cure: str) -> None:
        self.name, self.value, self.cure = name, value, cure
        super().__init__(f"{name}={value!r}: {cure}")


class BackupRefused(CrmError):
    """A file that is not a backup, is damaged, or must not be overwritten; nothing was changed."""

    owner = "operator"

    def __init__(self, file: Path | str, fault: str) -> None:
        self.file, self.fault = str(file), fault
        super().__init__(f"{file}: {fault}")


class AlertFailed(CrmError):
    """An alert could not be sent by one of its ways; it is sent again later."""

    owner = "operator"

    def __init__(self, channel: str, fault: str) -> None:
        self.channel, self.fault = channel, fault
        super().__init__(f"an alert could not be sent by {channel}: {fault}; see CRM_ALERT_… in .env.example")


class AlreadyUp(CrmError):
    """Another `crm up` is running for this home."""

    def __init__(self, home: Path, pid: str, address: str) -> None:
        self.home, self.pid, self.address = home, pid, address
        where = f" at {address}" if address else ""
        super().__init__(f"crm up is already running for {home}{where} (process {pid}); use it, or stop it first")


class AddressUnusable(CrmError):
    """The address cannot be served on: its port is taken, or it is not an address of this machine."""

    def __init__(self, host: str, port: int, fault: str) -> None:
        self.host, self.port, self.fault = host, port, fault
        super().__init__(f"nothing can be served on port {port} of {host}: {fault}; give another --port or --host")


class OpenToAll(CrmError):
    """Others could reach an API that asks for no token."""

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(
            f"others can reach {host}, but there is no token and no account yet; create one with "
            "`crm token create NAME --role admin` or `crm createsuperuser`, "
            "serve on 127.0.0.1, or set CRM_AUTH=off"
        )


class ServiceFailed(CrmError):
    """A process that `crm up` started has ended, or does not become ready."""

    def __init__(self, name: str, fault: str, log: Path, last_lines: Sequence[str]) -> None:
        self.name, self.fault, self.log, self.last_lines = name, fault, log, tuple(last_lines)
        super().__init__(f"the {name} {fault}; its whole output is in {log}")
