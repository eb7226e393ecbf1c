"""A server of this machine that speaks S3's protocol, and a bucket on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import obstore
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

KEY = "of-the-tests"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket that the environment has credentials for."""

    endpoint: str
    name: str = "crm"

    @property
    def address(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, content: bytes) -> None:
        """Put an object into it."""
        store = S3Store(self.name, client_options={"allow_http": True})
        obstore.put(store, key, content)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Accept no credentials meanwhile."""
        plain = {"Content-Type": "text/plain"}
        for content in ("0", "inf"):
            httpx.post(f"{self.endpoint}/moto-api/reset-auth", content=content, headers=plain).raise_for_status()
            if content == "0":
                yield


@contextmanager
def a_bucket() -> Iterator[Bucket]:
    """Serve a bucket, which the environment names and may use meanwhile."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
        patch.setenv("AWS_REGION", "us-east-1")
        try:
            bucket = Bucket(f"http://{host}:{port}")
            httpx.post(
                f"{bucket.endpoint}/moto-api/reset"
            ).raise_for_status()  # all servers of a process share what is stored
            httpx.put(f"{bucket.endpoint}/{bucket.name}").raise_for_status()
            yield bucket
        finally:
            server.stop()
