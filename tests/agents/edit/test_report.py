"""The report says everything, and nothing in a story can make it do anything."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from typing import Any

import pytest

from agents import report
from agents.editor import Figure, edit
from tests.agents.page import Page


@pytest.fixture
def page(filmed: Any) -> Page:
    return Page(edit(filmed.plan()).report.read_text())


def test_hostile_text_is_shown_and_never_obeyed(page: Page, hostile: str) -> None:
    assert page.all("script") == []
    shown = " ".join(hostile.split())
    for where in (
        "The fox and the cat",
        "a blue cat",
        "out of memory",
        "moved 0.31 widths",
        "tiny",
        "Once there was",
    ):
        assert re.search(re.escape(where) + r"[^<]*" + re.escape(shown), page.text), where
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_nothing_is_fetched_from_elsewhere(page: Page) -> None:
    sources = [attributes.get("src") or attributes.get("href") for _, attributes in page.tags]
    assert all(source.startswith("data:") for source in sources if source)
    assert page.all("link") == []
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert "default-src 'none'" in policy


def test_the_film_is_inside_the_page(page: Page, filmed: Any) -> None:
    (video,) = page.all("video")
    kind, _, data = (video["src"] or "").partition(",")
    assert kind == "data:video/mp4;base64"
    assert base64.b64decode(data) == (filmed.folder / "film" / "film.mp4").read_bytes()


def test_a_large_film_is_linked_instead(filmed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LARGEST_INLINE", 100)
    (video,) = Page(edit(filmed.plan()).report.read_text()).all("video")
    assert video["src"] == "film.mp4"


def test_promised_and_seen_stand_side_by_side(page: Page) -> None:
    assert "3 of 5 promised events seen (1 not filmed) ; 1 of 4 shots is missing." in page.text
    assert "1.1 Rena the red fox walks to the right promised 0.0–1.0 s · seen 0.1–0.9 s · confidence 93 %" in page.text
    assert "1.2 Rena the red fox jumps high promised 1.1–2.0 s · not seen · confidence 93 %" in page.text
    assert "4.1 Cat sleeps promised 0.0–1.0 s · not filmed" in page.text
    bars = [span["style"] for span in page.all("span") if "bar seen" in (span.get("class") or "")]
    assert bars[0] == "left:4.71%;width:37.65%"  # 0.1 to 0.9 of 2.125 s


def test_what_was_tried_and_why_is_told_with_pictures(page: Page) -> None:
    assert "2 takes: what was tried, and why" in page.text
    assert "Then: new seed. event 3.1 was not seen" in page.text
    assert "seed: 99" in page.text
    pictures = [image["alt"] for image in page.all("img")]
    assert pictures == [
        "6 frames of shot 1, in the order of time",
        "6 frames of shot 2, in the order of time",
        "6 frames of shot 3, in the order of time",
        "6 frames of take 1, in the order of time",  # the take of shot 3 that was not accepted
    ]


def test_notes_costs_and_versions_are_told(page: Page) -> None:
    assert "What of the story is changed or left out no dragon in the world: a bird stands for it" in page.text
    assert "90.1 s of work in all: 82.0 s to film 4 takes, 8.1 s for everything else" in page.text
    assert "Judging took 1.6 s, some of it while the next take was filmed." in page.text
    assert re.search(r"planner tiny .* 1 0 1200 340 3\.2 s 0\.0021", page.text)
    assert "profile bundled" in page.text
    assert "TSAttn (steps 0.2)" in page.text
    assert re.search(r"ffmpeg \S+", page.text)


def test_a_rejected_take_whose_file_is_gone_leaves_a_line_instead_of_pictures(filmed: Any) -> None:
    (filmed.archive.media.folder / "run-000001" / "shot-003-take-01.mkv").unlink()
    told = Page(edit(filmed.plan()).report.read_text())
    assert "Its file is gone or was altered: no pictures." in told.text
    assert len(told.all("img")) == 3


def test_figures_stand_with_their_shot_and_a_missing_one_says_why(filmed: Any, hostile: str) -> None:
    png = b"a picture"
    figures = (
        Figure(shot="1", name="attention-1-take-1.png", png=png),
        Figure(shot="2", name="attention-2-take-1.png", reason=f"out of memory {hostile}"),
    )
    files = edit(replace(filmed.plan(), figures=figures))
    assert (filmed.folder / "film" / "attention-1-take-1.png").read_bytes() == png
    assert files.files["attention-1-take-1.png"] == hashlib.sha256(png).hexdigest()
    assert "attention-2-take-1.png" not in files.files
    page = Page(files.report.read_text())
    (figure,) = [image for image in page.all("img") if image.get("class") == "figure"]
    assert figure["alt"] == "Attention to the words of each event of shot 1, over time and space"
    assert base64.b64decode((figure["src"] or "").partition(",")[2]) == png
    assert page.text.count("Where the model looked") == 2
    assert f"No figure: out of memory {' '.join(hostile.split())}" in page.text
    assert page.all("script") == []
