"""What tests of the admin panel read in its pages: the faults beside fields, the rows of lists, files."""

from __future__ import annotations

import csv
import io
import re

import httpx

HTML = {"Accept": "text/html"}


def shown(client: httpx.Client, path: str, status: int = 200, **params: str) -> str:
    answer = client.get(path, params=params or None, headers=HTML)
    assert answer.status_code == status, answer.text
    return answer.text


def fault(html: str, name: str) -> str:
    """What a form says beside a field."""
    found = re.search(rf'<div class="invalid-feedback d-block" id="{name}-remark" role="alert">(.*?)</div>', html)
    assert found is not None, html
    return found[1].replace("&#39;", "'")


def names_in(html: str) -> list[str]:
    """The names of the rows of a list, in its order."""
    return [
        re.sub(r"<[^>]*>", " ", name).split()[0] for name in re.findall(r'<th scope="row">(.*?)</th>', html, re.DOTALL)
    ]


def table(client: httpx.Client, path: str, **params: str) -> list[dict[str, str]]:
    answer = client.get(path, params=params or None)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))
