"""Chains of shots: one puppet, an event a shot, no seam in the truth, and where the puppet stands between two shots."""

from __future__ import annotations

import numpy as np
import pytest

from evals.world.chains import SIZES, STEP, chain
from evals.world.looks import main_puppet
from evals.world.settings import SCORE
from evals.world.tracks import watch
from generators.world.grammar import held_out_look
from generators.world.words import FPS, SHORT, WIDTH


def test_a_chain_has_one_puppet_and_a_new_event_in_every_shot() -> None:
    for size in SIZES:
        one = chain(size, 3)
        (actor,) = one.script.actors
        verbs = [shot.verbs[0] for shot in one.shots]
        assert len(set(verbs)) == len(verbs) == size
        assert held_out_look(actor.hue, actor.kind)
        for shot in one.shots:
            assert actor.words in shot.caption.text
            assert 0 <= shot.script.events[0].start < shot.script.events[0].end <= shot.script.seconds
            assert (shot.script.place, shot.script.time) == (one.script.place, one.script.time)
    with pytest.raises(ValueError, match="expected 2 to 6 shots, got 7"):
        chain(7, 0)


def test_shots_of_the_truth_share_a_frame() -> None:
    one = chain(3, 0)
    shots = one.cut(one.truth())
    assert [len(shot) for shot in shots] == [SHORT] * 3
    assert np.array_equal(shots[0][-1], shots[1][0])
    assert np.array_equal(shots[1][-1], shots[2][0])
    assert len(one.truth()) == 3 * STEP + 1


def test_the_puppet_stands_at_a_seam_where_its_truth_shows_it() -> None:
    one = chain(3, 0)
    scene = watch(one.truth(), SCORE)
    track = main_puppet(scene)
    assert track is not None
    frames = [int(np.abs(scene.times * FPS - shot * STEP).argmin()) for shot in (1, 2)]
    assert len(one.stands()) == 2
    for x, frame in zip(one.stands(), frames, strict=True):
        assert track.seen[frame] == (0 <= x < WIDTH)
        if track.seen[frame]:
            assert track.x[frame] == pytest.approx(x, abs=4)


def test_shots_know_their_puppet_where_the_chain_begins() -> None:
    one = chain(4, 1)
    assert {shot.script.actors for shot in one.shots} == {one.script.actors}
