"""The admin panel in a real browser, from a new account to a change that it makes."""

from __future__ import annotations

import re

import pytest
from builders import reference_data
from playwright.sync_api import Browser, Page, expect
from serving import ENTITIES, served
from visiting import PASSWORD, an_account, log_in

from crm_core.postgres.connection import Database

pytest_plugins = ("browser",)
pytestmark = [pytest.mark.integration, pytest.mark.api]


def test_in_a_browser_an_account_a_token_and_a_type_are_made_and_used(
    browser: Browser, page: Page, fresh_database: Database
) -> None:
    with fresh_database.transaction() as connection:
        reference_data(connection)
    an_account(fresh_database, "ann", "admin")
    with served(fresh_database) as client:
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        log_in(page, f"{client.base_url}/admin/", "ann")

        page.get_by_role("link", name="New account").click()
        page.get_by_label("Name").fill("walt")
        page.get_by_label("Role").select_option("writer")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password again").fill(PASSWORD)
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_role("status")).to_contain_text("The account walt is made, with the role writer.")

        page.goto(f"{client.base_url}/admin/detail-types/new")
        page.get_by_label("Code").fill("fax")
        page.get_by_label("Name").fill("Fax number")
        page.get_by_role("button", name="Make the type").click()
        expect(page.get_by_role("row", name="fax")).to_contain_text("Fax number")

        page.goto(f"{client.base_url}/admin/tokens/new")
        page.get_by_label("Name").fill("robot")
        page.get_by_label("Role").select_option("writer")
        page.get_by_role("button", name="Make the token").click()
        text = page.get_by_role("textbox", name="Token").input_value()
        copy = page.get_by_role("button", name="Copy").first
        copy.click()
        expect(page.locator("[data-copy=token]")).to_have_text(re.compile("Copied|Marked"))
        bearer = {"Authorization": f"Bearer {text}"}
        made = client.post(
            ENTITIES, json={"display_name": "Ada", "entity_type": "PERSON", "details": []}, headers=bearer
        )
        assert made.status_code == 201, made.text
        page.get_by_role("link", name="I have it").click()
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Revoke robot").click()
        expect(page.get_by_role("status")).to_contain_text("The token robot is revoked.")
        assert client.get(ENTITIES, headers=bearer).status_code == 401

        with browser.new_context() as context:
            other = context.new_page()
            log_in(other, f"{client.base_url}/", "walt")
            expect(other.get_by_role("link", name="Admin")).to_have_count(0)
            answer = other.goto(f"{client.base_url}/admin/")
            assert answer is not None
            assert answer.status == 403
            other.goto(f"{client.base_url}/entities/new")
            other.get_by_label("Name").fill("Grace")
            other.get_by_label("Fax number").fill("+1 555")
            other.get_by_role("button", name=re.compile("Preview")).click()
            other.get_by_role("button", name=re.compile("Save|Record|Make|Create")).first.click()
            expect(other.get_by_role("heading", level=1)).to_contain_text("Grace")
            expect(other.locator("main")).to_contain_text("+1 555")
        assert errors == []
