from __future__ import annotations

import numpy as np
import pytest

from generators.clip import Given
from generators.errors import RequestRejected
from generators.seams import HOLDS, SHOWS, check_given, keep, seam_jump, seam_notes, seam_verdict


def ramp(frames: int, step: int = 2) -> np.ndarray:
    """Every frame one flat colour, `step` grey levels above the one before."""
    return np.repeat(np.arange(frames, dtype=np.uint8) * step, 4 * 4 * 3).reshape(frames, 4, 4, 3)


def test_kept_frames_are_copied_and_the_rest_is_left() -> None:
    new, old = ramp(9), ramp(9) + 100
    kept = keep(new, [Given(first=0, frames=old[:3]), Given(first=7, frames=old[7:])])
    assert np.array_equal(kept[:3], old[:3])
    assert np.array_equal(kept[3:7], ramp(9)[3:7])
    assert np.array_equal(kept[7:], old[7:])
    assert np.array_equal(new, ramp(9))


def test_the_jump_is_the_largest_seam_over_the_median_difference() -> None:
    frames = ramp(9)
    frames[5:] += 20
    assert seam_jump(frames, [Given(first=0, frames=frames[:5])]) == pytest.approx(22 / 2)
    assert seam_jump(frames, [Given(first=0, frames=frames[:4])]) == pytest.approx(1.0)
    both = [Given(first=0, frames=frames[:3]), Given(first=5, frames=frames[5:])]
    assert seam_jump(frames, both) == pytest.approx(11.0)


def test_a_still_clip_has_a_finite_jump() -> None:
    frames = ramp(9, step=0)
    frames[5:] += 1
    assert seam_jump(frames, [Given(first=0, frames=frames[:5])]) == pytest.approx(4.0)


def test_a_clip_without_seams_has_no_jump() -> None:
    assert seam_jump(ramp(9), []) is None
    assert seam_jump(ramp(9), [Given(first=0, frames=ramp(9))]) is None


def test_only_a_seam_that_shows_is_noted() -> None:
    assert seam_notes(None) == seam_notes(SHOWS) == ()
    assert "4.0 times" in seam_notes(4.0)[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((Given(first=0, frames=ramp(3)[:, :2]),), "expected uint8"),
        ((Given(first=0, frames=ramp(3).astype(np.float32)),), "got float32"),
        ((Given(first=0, frames=ramp(0)),), "n >= 1"),
        ((Given(first=7, frames=ramp(3)),), "leave the 9 frames"),
        ((Given(first=0, frames=ramp(3)), Given(first=2, frames=ramp(3))), "overlap"),
    ],
)
def test_given_frames_that_do_not_fit_are_refused(given: tuple[Given, ...], message: str) -> None:
    with pytest.raises(RequestRejected, match=message):
        check_given(given, frames=9, height=4, width=4)


def test_a_seam_holds_up_to_one_and_a_half_times_the_median_difference() -> None:
    assert seam_verdict(HOLDS) == "seam holds: 1.50 of at most 1.5 times the median frame difference"
    assert seam_verdict(1.51).startswith("seam does not hold: 1.51")
