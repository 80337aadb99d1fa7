"""Consent at the pages: what was asked, in which language, what was said; asked again and withdrawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node.enrolled_home import PERSON, write
from tests.node.paged_centre import Centre
from tests.pages.window import hidden, words


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre.begin(tmp_path)


def test_a_refusal_is_told_and_a_consent_is_asked_again_and_withdrawn(centre: Centre) -> None:
    window = centre.window_of()
    path = window.register(given="no")
    assert "Consent: not given 2 Feb 2026, 8:10 am · English" in window.shown(path)
    assert "sealed, to hub doctors" in window.shown(f"{path}/consent")
    centre.clock.now_ms += 60_000
    window.client.cookies.set("language", "hi")
    assert window.saved(f"{path}/consent", {"given": "yes"}) == path
    window.client.cookies.clear()
    window = centre.window_of()
    assert "given 2 Feb 2026, 8:11 am · हिन्दी" in window.shown(path)
    page = window.get(f"{path}/consent").text
    assert 'lang="hi"' in page
    said = [one.record.view() for one in centre.records("consent")]
    assert [one["given"] for one in said] == [False, True]
    assert said[1]["language"] == "hi"
    assert str(said[1]["wording"]) in words(page)
    centre.clock.now_ms += 60_000
    sent = {**hidden(window.get(f"{path}/consent").text), "given": "no"}
    for _ in range(2):
        assert window.post(f"{path}/consent", sent).headers["location"] == path
    assert "not given 2 Feb 2026, 8:12 am" in window.shown(path)
    assert len(centre.records("consent")) == 3


def test_who_was_not_asked_is_told_and_an_answer_is_asked_for(centre: Centre) -> None:
    key = write(centre.store, PERSON, "patient", {"name": "Asha"})
    path = f"/patients/{key.record.hex()}"
    window = centre.window_of()
    assert "not asked" in window.shown(path)
    refused = window.send(f"{path}/consent", {})
    assert refused.status_code == 422
    assert 'href="#given"' in refused.text
    assert not centre.records("consent")
