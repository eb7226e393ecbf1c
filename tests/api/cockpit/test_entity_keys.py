"""Keys in the cockpit: on the entity's page, in the search, and the forms that link one and end a link."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from serving import ENTITIES, V1, Document, create, read, served_with_types
from visiting import a_browser, an_account, send

from crm_core.postgres.connection import Database
from crm_core.values.hashing import key_uid

pytestmark = [pytest.mark.integration, pytest.mark.api]
NASTY = "<b>4711</b>"


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[httpx.Client]:
    """A service that is open, with two sources and an entity of a key."""
    with served_with_types(database) as client:
        for code, name in (("erp", "ERP"), ("shop", "Web shop")):
            client.post(f"{V1}/sources", json={"code": code, "name": name})
        put(client, "erp", "4711", "Ada Lovelace")
        yield client


def put(client: httpx.Client, source: str, key: str, name: str) -> Document:
    answer = client.put(f"{V1}/sources/{source}/entities/{key}", json={"display_name": name, "entity_type": "PERSON"})
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


def page(client: httpx.Client, path: str, status: int = 200, **params: str) -> str:
    """The text of a page, without its marks."""
    answer = client.get(path, params=params, headers={"Accept": "text/html"})
    assert answer.status_code == status, answer.text
    return " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())


def keys_of(entity: Document) -> str:
    return f"/entities/{entity['entity_uid']}/keys"


def test_the_page_of_an_entity_shows_its_keys(client: httpx.Client) -> None:
    assert "erp 4711 Keys" in page(client, f"/entities/{key_uid('erp', '4711')}")
    nobody = create(client, "No key")
    assert "Link a key" in page(client, f"/entities/{nobody['entity_uid']}")
    assert "No source names this entity by a key." in page(client, keys_of(nobody))


def test_a_key_is_linked_and_the_link_ended(client: httpx.Client) -> None:
    ada, own = create(client, "Ada L."), put(client, "shop", "S1", "Ada of the shop")
    form = {"source": "shop", "source_key": " S1 ", "reason": "the same person"}
    answer = send(client, keys_of(ada), **form)
    assert (answer.status_code, answer.headers["location"]) == (303, keys_of(ada))
    assert "The key S1 of shop names this entity now." in page(client, keys_of(ada))
    assert read(client, ada)["keys"] == {"shop": "S1"}
    assert "key shop S1: the same person" in page(client, f"/entities/{ada['entity_uid']}")
    assert "key goes shop S1: the same person" in page(client, f"/entities/{own['entity_uid']}")
    audit = page(client, "/audit?op=patch")
    assert "key shop S1: the same person" in audit
    assert "key goes shop S1: the same person" in audit
    assert "names this entity already" in page(client, send(client, keys_of(ada), **form).headers["location"])
    send(client, f"{keys_of(ada)}/end", source="shop", source_key="S1", reason="they are two")
    assert read(client, own)["keys"] == {"shop": "S1"}
    assert read(client, ada)["keys"] == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"reason": " "}, "Say why"),
        ({"source": "none"}, "&#39;none&#39; is not an active source"),
        ({"source_key": " "}, "Is blank, or no text; give the key of the entity."),
    ],
)
def test_what_is_wrong_with_a_link_stands_beside_its_field(
    client: httpx.Client, given: dict[str, str], said: str
) -> None:
    ada = create(client, "Ada W.")
    form = {"source": "erp", "source_key": NASTY, "reason": "kept & shown", **given}
    answer = send(client, keys_of(ada), **form)
    assert answer.status_code == 400
    assert said in answer.text
    assert NASTY not in answer.text
    assert read(client, ada)["keys"] == {}


def test_a_hostile_key_is_text(client: httpx.Client) -> None:
    ada = create(client, "Ada H.")
    send(client, keys_of(ada), source="erp", source_key=NASTY, reason=NASTY)
    for path in (keys_of(ada), f"/entities/{ada['entity_uid']}"):
        html = client.get(path, headers={"Accept": "text/html"}).text
        assert NASTY not in html
        assert "&lt;b&gt;4711&lt;/b&gt;" in html


def test_an_entity_is_found_by_its_key(client: httpx.Client) -> None:
    own = put(client, "shop", "4711", "Another")
    assert "Ada Lovelace PERSON key of erp: 4711 Another PERSON key of shop: 4711" in page(
        client, "/search", q=" 4711 "
    )
    found = page(client, "/search", source="shop", source_key="4711")
    assert "Another" in found
    assert "Ada Lovelace" not in found
    csv = client.get("/search.csv", params={"source": "shop"}).text
    assert own["entity_uid"] in csv
    assert str(key_uid("erp", "4711")) not in csv
    assert "Nothing fits" in page(client, "/search", source_key="4712")


def test_of_what_there_is_no_entity_there_are_no_keys(client: httpx.Client) -> None:
    page(client, "/entities/nothing/keys", status=404)
    page(client, f"/entities/{key_uid('erp', 'unknown')}/keys", status=404)


def test_a_reader_sees_keys_and_links_none(client: httpx.Client, database: Database) -> None:
    ada = client.get(f"{ENTITIES}?source=erp&source_key=4711").json()["results"][0]
    an_account(database, "rita", "reader")
    with a_browser(client, "rita") as browser:
        text = page(browser, keys_of(ada))
        assert "4711" in text
        assert "Link a key" not in text
        form = {"source": "erp", "source_key": "1", "reason": "x"}
        for path in (keys_of(ada), f"{keys_of(ada)}/end"):
            assert send(browser, path, **form).status_code == 403
