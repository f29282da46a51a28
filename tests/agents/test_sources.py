"""The words that name whose motion a shot has."""

from __future__ import annotations

import pytest

from agents.sources import Camera, File, Kept, OtherRun, OtherShot, Source, read_source, shot_named

KEPT = "sha256:" + 64 * "a"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("shot 2", OtherShot(2)),
        ("run 7 shot 2", OtherRun(7, 2)),
        ("camera pan left", Camera("pan left")),
        ("camera zoom in over a hill.jpg", Camera("zoom in", File("a hill.jpg"))),
        (f"camera tilt up over {KEPT}", Camera("tilt up", Kept(64 * "a"))),
        (KEPT, Kept(64 * "a")),
        ("clip.mp4", File("clip.mp4")),
        ("shot two", File("shot two")),
        ("camera waltz", File("camera waltz")),
        ("sha256:abc", File("sha256:abc")),
    ],
)
def test_a_source_is_read_and_written_in_the_same_words(text: str, source: Source) -> None:
    assert read_source(text) == source
    assert str(source) == text


def test_only_a_shot_of_the_same_film_has_a_number() -> None:
    assert shot_named("shot 12") == 12
    assert [shot_named(text) for text in (None, "", "run 7 shot 2", "camera pan left", "shots 2")] == [None] * 5
