"""A file is brought to the cockpit as its system writes it: a profile is chosen, or proposed, changed and kept."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import V1, served_with_types
from visiting import form_token, send

from crm_core.postgres.connection import Database
from crm_core.profiles import store

pytestmark = [pytest.mark.integration, pytest.mark.api]

PROFILE = """
separator = ";"
[columns]
display_name = "{Vorname} {Name}"
entity_type = "PERSON"
[details]
email = "{E-Mail}"
"""
HEADER = "Vorname;Name;E-Mail;Telefon"


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiles")
    store.save(folder, "erp", PROFILE)
    return folder


@pytest.fixture(scope="module")
def client(database: Database, profiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with served_with_types(database, profile_dir=profiles, home=tmp_path_factory.mktemp("home")) as client:
        client.headers["Accept"] = "text/html"
        yield client


def brought(client: httpx.Client, name: str, content: str, profile: str) -> httpx.Response:
    fields = {"csrf": form_token(client), "profile": profile}
    return client.post("/drops", data=fields, files={"file": (name, content.encode())})


def field(page: httpx.Response, name: str) -> str:
    """The value of a field that the page sends along."""
    found = re.search(f'name="{name}" value="([^"]*)"', page.text)
    assert found is not None, name
    return html.unescape(found[1])


def written(page: httpx.Response) -> str:
    """The profile in the page."""
    found = re.search(r"<textarea[^>]*profile-toml[^>]*>(.*?)</textarea>", page.text, re.DOTALL)
    assert found is not None
    return html.unescape(found[1])


def emails(client: httpx.Client, name: str) -> list[str]:
    found = client.get(f"{V1}/entities", params={"q": name}, headers={"Accept": "application/json"}).json()["results"]
    return [detail["detail_value"] for one in found for detail in one["details"] if detail["detail_type"] == "email"]


def test_the_profiles_are_offered_beside_the_standard_form(client: httpx.Client) -> None:
    page = client.get("/drops").text
    assert re.findall(r'<option value="([^"]*)">', page) == ["", "erp", "?"]


def test_a_file_is_looked_at_and_sent_by_the_profile_that_was_chosen(client: httpx.Client) -> None:
    page = brought(client, "a.csv", "Vorname;Name;E-Mail\nAda;Chosen;ada@x.org\n", "erp")
    assert page.status_code == 200
    assert written(page).strip() == PROFILE.strip()
    assert emails(client, "Ada Chosen") == []
    sent = send(client, "/drops/send", sha256=field(page, "sha256"), profile=field(page, "profile"), profile_toml="")
    assert sent.status_code == 303
    assert emails(client, "Ada Chosen") == ["ada@x.org"]


def test_a_proposed_profile_is_corrected_downloaded_and_sent(client: httpx.Client) -> None:
    page = brought(client, "shop_1.csv", f"{HEADER}\nBo;Proposed;bo@x.org;+49 1\n", "?")
    assert page.status_code == 200, page.text
    proposal = written(page)
    assert 'display_name = "{Vorname} {Name}"' in proposal or 'display_name = "{Name}"' in proposal
    changed = f'{PROFILE}phone = "{{Telefon}}"\n'
    broken = send(client, "/drops/preview", sha256=field(page, "sha256"), profile="shop", profile_toml="[columns")
    assert broken.status_code == 400
    assert "shop.toml:1: is not TOML" in html.unescape(broken.text)
    assert written(broken) == "[columns", "what was written is still there"
    again = send(client, "/drops/preview", sha256=field(page, "sha256"), profile="shop", profile_toml=changed)
    assert again.status_code == 200
    kept = send(client, "/drops/profile", profile="shop", profile_toml=changed)
    assert kept.headers["Content-Disposition"] == 'attachment; filename="shop.toml"'
    assert kept.text == changed
    toml = field(again, "profile_toml")
    assert toml.strip() == changed.strip()
    sent = send(client, "/drops/send", sha256=field(again, "sha256"), profile="shop", profile_toml=toml)
    assert sent.status_code == 303
    assert emails(client, "Bo Proposed") == ["bo@x.org"]
    (drop, *_) = client.get(f"{V1}/drops", headers={"Accept": "application/json"}).json()["results"]
    assert (drop["file"], drop["profile"]) == ("shop_1.csv", "shop")
    assert "read by the profile shop" in client.get(f"/drops/{drop['sha256']}").text


def test_the_panel_shows_each_profile_and_what_is_wrong_with_it(client: httpx.Client, profiles: Path) -> None:
    (profiles / "broken.toml").write_text("[columns]\nname = 1\n")
    page = html.unescape(client.get("/admin/profiles").text)
    assert PROFILE in page
    assert "broken.toml:2: columns.name is neither a text nor a table" in page
    (profiles / "broken.toml").unlink()


def test_rejected_rows_are_corrected_by_the_profile_of_their_drop(client: httpx.Client, tmp_path: Path) -> None:
    page = brought(client, "b.csv", "Vorname;Name;E-Mail\n;;cy@x.org\n", "erp")
    sha256 = field(page, "sha256")
    assert "missing_display_name" in page.text
    assert send(client, "/drops/send", sha256=sha256, profile="erp", profile_toml="").status_code == 303
    (drop, *_) = client.get(f"{V1}/drops", headers={"Accept": "application/json"}).json()["results"]
    looked = send(client, f"/drops/{drop['sha256']}/correct", row="Cy;Corrected;cy@x.org")
    assert looked.status_code == 200, looked.text
    assert json.dumps(field(looked, "profile")) == '"erp"'
    fields = {name: field(looked, name) for name in ("sha256", "profile", "profile_toml")}
    assert send(client, "/drops/send", **fields).status_code == 303
    assert emails(client, "Cy Corrected") == ["cy@x.org"]


def test_a_file_that_has_gone_is_asked_for_again(client: httpx.Client) -> None:
    answer = send(client, "/drops/preview", sha256="0" * 64, profile="erp", profile_toml="")
    assert answer.status_code == 410
    assert "bring it again" in answer.text
