"""Who may do what over REST: tokens and roles, the open door of one's own machine, hosts, origins, limits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from builders import reference_data
from running import until
from servers import Server
from serving import ENTITIES, V1, a_problem, a_raw_problem, ask_raw, create, served, served_with_types

from crm_core.access.principal import Role
from crm_core.access.tokens import create_token, revoke_token, tokens
from crm_core.postgres.connection import Database

pytestmark = [pytest.mark.integration, pytest.mark.api]

Bearer = dict[str, str]
ADA = {"display_name": "Ada", "entity_type": "PERSON"}
SECURE = {"secure": True, "hsts_seconds": 31_536_000, "secret_key": "k" * 40}


def bearer(database: Database, name: str, role: Role, expires_in: timedelta | None = None) -> Bearer:
    now = datetime.now(UTC)
    with database.connect(autocommit=True) as connection:
        _, text = create_token(
            connection, name, role, now=now, expires_at=None if expires_in is None else now + expires_in
        )
    return {"Authorization": f"Bearer {text}"}


def revoke(database: Database, name: str) -> None:
    with database.connect(autocommit=True) as connection:
        revoke_token(connection, name, now=datetime.now(UTC))


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.headers.get("www-authenticate", "")


@pytest.fixture(scope="module")
def closed(server: Server) -> Iterator[tuple[httpx.Client, dict[str, Bearer]]]:
    """A service of which tokens of each role were made, and what to send with them."""
    with server.clone() as database, served_with_types(database) as client:
        yield (
            client,
            {role: bearer(database, f"a {role}".replace(" ", "-"), role) for role in ("reader", "writer", "admin")},
        )


def test_the_door_is_open_here_until_the_first_token_is_made(fresh_database: Database) -> None:
    with served_with_types(fresh_database) as client:
        entity = create(client)
        assert client.post(f"{V1}/detail-types", json={"code": "fax", "name": "Fax"}).status_code == 201
        assert client.get(f"{ENTITIES}/{entity['entity_uid']}/audit").json()["results"][0]["actor"] == "anonymous"
        reader = bearer(fresh_database, "ann", "reader")
        time.sleep(1)
        for answer in (client.get(ENTITIES), client.post(ENTITIES, json=ADA), client.get("/metrics")):
            a_problem(answer, 401, "crm token create NAME --role", "Authorization: Bearer")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get(ENTITIES, headers=reader).status_code == 200
        revoke(fresh_database, "ann")
        time.sleep(1)
        assert said(client.get(ENTITIES)) == (401, "Bearer"), "who once asked for tokens goes on asking"


def test_each_role_may_what_those_before_it_may(closed: tuple[httpx.Client, dict[str, Bearer]]) -> None:
    client, of = closed
    entity = client.post(ENTITIES, json=ADA, headers=of["writer"]).json()
    address, code = f"{ENTITIES}/{entity['entity_uid']}", "fax"
    calls: list[tuple[Role, Callable[[Bearer], httpx.Response]]] = [
        ("reader", lambda who: client.get(ENTITIES, headers=who)),
        ("reader", lambda who: client.get(address, headers=who)),
        ("reader", lambda who: client.get(f"{address}/history", headers=who)),
        ("reader", lambda who: client.get(f"{address}/audit", headers=who)),
        ("reader", lambda who: client.get(f"{V1}/entities-asof?as_of=2024-01-01", headers=who)),
        ("reader", lambda who: client.get(f"{V1}/diff?from=2024-01-01&to=2024-01-02", headers=who)),
        ("reader", lambda who: client.get(f"{V1}/entity-types", headers=who)),
        ("reader", lambda who: client.get(f"{V1}/detail-types", headers=who)),
        ("reader", lambda who: client.get(f"{V1}/drops", headers=who)),
        ("reader", lambda who: client.get("/metrics", headers=who)),
        ("writer", lambda who: client.post(ENTITIES, json=ADA, headers=who)),
        ("writer", lambda who: client.patch(address, json={}, headers=who)),
        ("writer", lambda who: client.delete(f"{ENTITIES}/{uuid4()}", headers=who)),
        ("writer", lambda who: client.post(f"{V1}/drops", content=b"", headers={**who, "Content-Type": "text/csv"})),
        ("admin", lambda who: client.post(f"{V1}/detail-types", json={"code": code, "name": "Fax"}, headers=who)),
        ("admin", lambda who: client.patch(f"{V1}/detail-types/email", json={}, headers=who)),
        ("reader", lambda who: client.get(f"{V1}/sources", headers=who)),
        ("reader", lambda who: client.get(f"{V1}/sources/erp/entities/1", headers=who)),
        ("reader", lambda who: client.get(f"{V1}/sources/erp/links/1", headers=who)),
        ("writer", lambda who: client.put(f"{V1}/sources/erp/entities/1", json=ADA, headers=who)),
        ("writer", lambda who: client.delete(f"{V1}/sources/erp/entities/1", headers=who)),
        (
            "writer",
            lambda who: client.put(
                f"{V1}/sources/erp/links/1", json={"entity_uid": str(uuid4()), "reason": "x"}, headers=who
            ),
        ),
        ("writer", lambda who: client.delete(f"{V1}/sources/erp/links/1?reason=x", headers=who)),
        ("admin", lambda who: client.post(f"{V1}/sources", json={"code": "erp", "name": "ERP"}, headers=who)),
        ("admin", lambda who: client.patch(f"{V1}/sources/erp", json={}, headers=who)),
        ("admin", lambda who: client.post(f"{V1}/entity-types", json={"code": "X", "name": "X"}, headers=who)),
        ("admin", lambda who: client.patch(f"{V1}/entity-types/person", json={}, headers=who)),
    ]
    for needed, call in calls:
        assert said(call({})) == (401, "Bearer")
        for role in ("reader", "writer", "admin"):
            answer = call(of[role])
            if ["reader", "writer", "admin"].index(role) < ["reader", "writer", "admin"].index(needed):
                a_problem(answer, 403, f"'a-{role}' has the role {role}", f"needs the role {needed}")
            else:
                assert answer.status_code not in (401, 403), answer.text


def test_what_needs_no_token_is_open_to_all(closed: tuple[httpx.Client, dict[str, Bearer]]) -> None:
    client, _ = closed
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200


def test_the_name_of_the_token_is_the_actor(closed: tuple[httpx.Client, dict[str, Bearer]]) -> None:
    client, of = closed
    entity = client.post(ENTITIES, json=ADA, headers=of["writer"]).json()
    address = f"{ENTITIES}/{entity['entity_uid']}"
    client.delete(address, headers=of["admin"])
    ledger = client.get(f"{address}/audit", headers=of["reader"]).json()["results"]
    assert [entry["actor"] for entry in ledger] == ["a-writer", "a-admin"]


def test_an_invalid_token_is_refused_and_not_repeated(closed: tuple[httpx.Client, dict[str, Bearer]]) -> None:
    client, of = closed
    good = of["admin"]["Authorization"]
    for wrong in (
        good[:-1],
        good + "x",
        good.swapcase(),
        f"Bearer crm_{'a' * 12}_{'b' * 43}",
        "Bearer x",
        "Bearer " + "x" * 9000,
    ):
        answer = client.get(ENTITIES, headers={"Authorization": wrong})
        a_problem(answer, 401, "crm token create")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert wrong.split()[1] not in answer.text or wrong == "Bearer x"
    assert client.get(ENTITIES, headers={"Authorization": good.replace("Bearer", "bearer")}).status_code == 200


@pytest.mark.parametrize(
    "header", [b"", b"Bearer", b"Bearer ", b"Basic YTpi", b"nonsense", b"\xff\xfe", b"Bearer \xff"]
)
def test_a_header_of_another_form_is_refused(closed: tuple[httpx.Client, dict[str, Bearer]], header: bytes) -> None:
    client, _ = closed
    request = b"GET /api/v1/entities HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + header + b"\r\n\r\n"
    a_raw_problem(ask_raw(client, request), 401, "Bearer")


def test_a_revoked_token_is_refused_within_a_second(fresh_database: Database) -> None:
    ann = bearer(fresh_database, "ann", "writer")
    with served_with_types(fresh_database) as client:
        assert client.post(ENTITIES, json=ADA, headers=ann).status_code == 201
        revoke(fresh_database, "ann")
        time.sleep(1)
        answer = client.post(ENTITIES, json=ADA, headers=ann)
        a_problem(answer, 401, "unknown, expired or revoked")
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_a_token_expires(fresh_database: Database) -> None:
    with served_with_types(fresh_database) as client:
        ann = bearer(fresh_database, "ann", "reader", timedelta(seconds=3))  # time for the first answer
        assert client.get(ENTITIES, headers=ann).status_code == 200
        until(lambda: client.get(ENTITIES, headers=ann).status_code == 401, 10)
        a_problem(client.get(ENTITIES, headers=ann), 401, "expired")


def test_the_use_of_a_token_is_noted(fresh_database: Database) -> None:
    ann = bearer(fresh_database, "ann", "reader")
    with served_with_types(fresh_database) as client:
        assert client.get(ENTITIES, headers=ann).status_code == 200

        def is_noted() -> bool:
            with fresh_database.connect() as connection:
                (token,) = tokens(connection)
            return token.last_used_at is not None

        until(is_noted, 5)


def test_the_settings_say_otherwise(fresh_database: Database) -> None:
    with served_with_types(fresh_database, auth="on") as client:
        a_problem(client.get(ENTITIES), 401)
    with served(fresh_database, is_loopback=False) as client:
        a_problem(client.get(ENTITIES), 401)
    admin = bearer(fresh_database, "root", "admin")
    with served(fresh_database, auth="off", is_loopback=False) as client:
        assert client.get(ENTITIES).status_code == 200
        assert client.post(f"{V1}/entity-types", json={"code": "X", "name": "X"}).status_code == 201
        assert client.get(ENTITIES, headers={"Authorization": "Bearer nonsense"}).status_code == 200
    with served(fresh_database, public_read=True) as client:
        assert client.get(ENTITIES).status_code == 200
        a_problem(client.post(ENTITIES, json=ADA), 401)
        a_problem(client.get(ENTITIES, headers={"Authorization": "Bearer nonsense"}), 401)
        assert client.post(ENTITIES, json=ADA, headers=admin).status_code == 201


def test_a_token_is_never_in_the_log(fresh_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    ann = bearer(fresh_database, "ann", "writer")
    secret = ann["Authorization"].rpartition("_")[2]
    caplog.set_level(logging.DEBUG)
    with served_with_types(fresh_database) as client:
        client.post(ENTITIES, json=ADA, headers=ann)
        client.post(ENTITIES, json=ADA, headers={"Authorization": ann["Authorization"] + "x"})
        client.get(f"{ENTITIES}?q=private", headers=ann)
    written = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith(("crm", "uvicorn")))
    assert "'actor': 'ann'" in written
    assert secret not in written
    assert "private" not in written, "what people search for is theirs"


def test_a_client_that_calls_too_often_learns_when_to_retry(fresh_database: Database) -> None:
    ann, bob = (bearer(fresh_database, name, "reader") for name in ("ann", "bob"))
    with served_with_types(fresh_database, rate_limit="3/minute") as client:
        assert [client.get(ENTITIES, headers=ann).status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = client.get(ENTITIES, headers=ann)
        a_problem(answer, 429, "3/minute", "retry in")
        assert 1 <= int(answer.headers["retry-after"]) <= 61
        assert client.get(ENTITIES, headers=bob).status_code == 200, "each token has its own"
        assert client.get("/healthz").status_code == 200


def test_of_several_limits_each_holds(fresh_database: Database) -> None:
    with served_with_types(fresh_database, rate_limit="100/second,2/hour") as client:
        assert [client.get(ENTITIES).status_code for _ in range(3)] == [200, 200, 429]


def test_a_limit_comes_to_an_end(fresh_database: Database) -> None:
    with served_with_types(fresh_database, rate_limit="1/second") as client:
        assert [client.get(ENTITIES).status_code for _ in range(2)] == [200, 429]
        time.sleep(1.1)
        assert client.get(ENTITIES).status_code == 200


def test_a_host_that_is_not_ours_is_refused(database: Database) -> None:
    names = ("crm.example.org", ".internal.example", "[::1]")
    with served(database, allowed_hosts=names) as client:
        for host in (
            "crm.example.org",
            "CRM.example.org:8000",
            "internal.example",
            "a.b.internal.example:1",
            "[::1]:80",
        ):
            assert client.get("/openapi.json", headers={"Host": host}).status_code == 200, host
        for host in (
            "example.org",
            "crm.example.org.evil",
            "xinternal.example",
            "localhost",
            "crm.example.org@evil",
            "[::2]",
        ):
            a_problem(client.get("/openapi.json", headers={"Host": host}), 400, "CRM_ALLOWED_HOSTS")
        a_raw_problem(ask_raw(client, b"GET /docs HTTP/1.0\r\n\r\n"), 400, "CRM_ALLOWED_HOSTS")
        assert client.get("/readyz", headers={"Host": "10.0.0.7:8000"}).status_code == 200, "a probe may say any"
    with served(database, allowed_hosts=("*",)) as client:
        assert client.get("/docs", headers={"Host": "anything.example"}).status_code == 200


def test_a_page_of_another_origin_may_not_write(server: Server) -> None:
    with (
        server.clone() as database,
        served_with_types(database, csrf_trusted_origins=("https://Crm.example.org",)) as client,
    ):
        own = str(client.base_url).rstrip("/")
        for origin in (own, own.upper(), "https://crm.example.org"):
            assert client.post(ENTITIES, json=ADA, headers={"Origin": origin}).status_code == 201, origin
        for origin in ("https://evil.example", "null", own.replace("http", "https"), f"{own}.evil", "x"):
            answer = client.post(ENTITIES, json=ADA, headers={"Origin": origin})
            a_problem(answer, 403, "may not write here", "CRM_CSRF_TRUSTED_ORIGINS")
            assert client.get(ENTITIES, headers={"Origin": origin}).status_code == 200, "reading harms nobody"
        assert client.get(ENTITIES).json()["count"] == 3


def preflight(client: httpx.Client, origin: str) -> httpx.Response:
    asks = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,if-match"}
    return client.options(ENTITIES, headers={"Origin": origin, **asks})


def test_pages_of_other_origins_may_call_where_it_is_said(server: Server) -> None:
    with server.clone() as database:
        with database.transaction() as connection:
            reference_data(connection)
        with served(database) as client:
            answer = client.get(ENTITIES, headers={"Origin": "https://app.example"})
            assert not [name for name in answer.headers if name.startswith("access-control")]
            a_problem(preflight(client, "https://app.example"), 405)
        with served(database, cors_origins=("https://app.example",)) as client:
            allowed = preflight(client, "https://app.example")
            assert allowed.status_code == 200
            assert allowed.headers["access-control-allow-origin"] == "https://app.example"
            assert "PATCH" in allowed.headers["access-control-allow-methods"]
            assert preflight(client, "https://evil.example").status_code == 400
            answer = client.post(ENTITIES, json=ADA, headers={"Origin": "https://app.example"})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (201, "https://app.example")
            assert "ETag" in answer.headers["access-control-expose-headers"]
            a_problem(client.post(ENTITIES, json=ADA, headers={"Origin": "https://evil.example"}), 403)
            refused = client.get(f"{ENTITIES}?nope=1", headers={"Origin": "https://app.example"})
            assert refused.headers["access-control-allow-origin"] == "https://app.example", "its problems can be read"


def test_https_alone_where_it_is_said(server: Server) -> None:
    with server.clone() as database, served_with_types(database, **SECURE) as client:
        answer = client.get(f"{ENTITIES}?q=a", headers={"Host": "localhost"})
        assert (answer.status_code, answer.headers["location"]) == (307, f"https://localhost{ENTITIES}?q=a")
        for probe in ("/healthz", "/readyz"):
            assert client.get(probe).status_code == 200, "a probe asks the machine itself"
        refused = client.get(ENTITIES, headers={"X-Forwarded-Proto": "https"})
        a_problem(refused, 400, "CRM_TRUSTED_PROXIES")  # a redirect would lead in a circle
    trusting = {**SECURE, "trusted_proxies": ("127.0.0.1",)}
    with server.clone() as database, served_with_types(database, **trusting) as client:
        behind = client.get(ENTITIES, headers={"X-Forwarded-Proto": "https"})
        assert behind.status_code == 200
        assert behind.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains; preload"


def test_what_is_open_to_this_machine_is_not_open_to_others_through_a_proxy(database: Database) -> None:
    with served(database, trusted_proxies=("127.0.0.1",)) as client:
        assert client.get(ENTITIES).status_code == 200
        for address in ("192.0.2.1", "2001:db8::1"):
            a_problem(client.get(ENTITIES, headers={"X-Forwarded-For": address}), 401)
            page = client.get("/", headers={"X-Forwarded-For": address, "Accept": "text/html"})
            assert (page.status_code, page.headers["location"]) == (303, "/login")
        for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            assert client.get(ENTITIES, headers={"X-Forwarded-For": address}).status_code == 200


def test_every_answer_has_the_headers_of_caution_once(database: Database) -> None:
    with served(database) as client:
        for path in (ENTITIES, "/docs", "/nope", f"{ENTITIES}?q=%00", "/healthz"):
            headers = client.get(path).headers
            for name, value in (
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "same-origin"),
                ("cross-origin-opener-policy", "same-origin"),
            ):
                assert headers.get_list(name) == [value], (path, name)
            assert "server" not in headers
            assert "strict-transport-security" not in headers


def test_a_request_keeps_its_id_if_it_is_harmless(database: Database) -> None:
    with served(database) as client:
        for given in ("order-66", "a" * 128, "0af7651916cd43dd8448eb211c80319c", "svc:1/2@host=x+y.z_w-"):
            assert client.get("/healthz", headers={"X-Request-ID": given}).headers.get_list("x-request-id") == [given]
        for hostile in ("a" * 129, "a b", '"', "<script>", "{}", "", "a;b", "é".encode().decode("latin-1")):
            found = client.get("/healthz", headers={b"X-Request-ID": hostile.encode("latin-1")}).headers["x-request-id"]
            assert len(found) == 32
            assert found != hostile
        one, two = (client.get("/healthz").headers["x-request-id"] for _ in range(2))
        assert one != two


def test_the_trace_that_a_request_is_a_part_of_is_in_its_log_line(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """W3C Trace Context; what is not of its form is left out."""
    caplog.set_level(logging.INFO, "crm.api")
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with served(database) as client:
        for given in (
            f"00-{trace}-{parent}-01",
            f"00-{'0' * 32}-{parent}-01",
            f"00-{trace}-{'0' * 16}-01",
            f"ff-{trace}-{parent}-01",
            f"00-{trace}-{parent}",
            "{}",
        ):
            client.get("/nope", headers={"traceparent": given})
    told = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [(line.get("trace_id"), line.get("parent_id")) for line in told] == [(trace, parent), *[(None, None)] * 5]


def test_the_id_of_a_request_is_in_its_log_line(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crm.api")
    with served(database) as client:
        client.get(f"{ENTITIES}?q=x", headers={"X-Request-ID": "find-me"})
        client.get("/nope", headers={"X-Request-ID": "find-me-too"})
    found = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [{**line, "ms": 0} for line in found] == [
        {"request_id": "find-me", "method": "GET", "path": ENTITIES, "status": 200, "ms": 0, "actor": "anonymous"},
        {"request_id": "find-me-too", "method": "GET", "path": "/nope", "status": 404, "ms": 0, "actor": None},
    ]
