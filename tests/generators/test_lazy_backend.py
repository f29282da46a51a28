"""The backend that is opened when it first films."""

from __future__ import annotations

import pytest

from generators.backends import BackendConfig, open_backend
from generators.backends.lazy import LazyBackend
from generators.clip import Backend, Canvas, Limits, ShotRequest
from generators.errors import BackendUnavailable, RequestRejected

REQUEST = ShotRequest(prompt="a cat", frames=9, fps=8, width=16, height=16, seed=1)


def test_it_films_what_the_backend_itself_films() -> None:
    lazy = LazyBackend(BackendConfig(kind="instant"))
    assert isinstance(lazy, Backend)
    (clip,), (same,) = lazy.shoot([REQUEST]), open_backend(BackendConfig(kind="instant")).shoot([REQUEST])
    assert (clip.frames == same.frames).all()
    lazy.close()
    lazy.close()
    assert len(lazy.shoot([REQUEST])) == 1, "closed is not gone: it opens again"


def test_its_name_does_not_change_when_it_is_opened() -> None:
    lazy = LazyBackend(BackendConfig(kind="instant"))
    before = lazy.name
    lazy.open()
    assert lazy.name == before == "instant"


def test_known_limits_need_no_model_and_unknown_ones_ask_it() -> None:
    lazy = LazyBackend(BackendConfig(kind="local", model="no/such-folder"))
    with pytest.raises(BackendUnavailable):
        _ = lazy.limits
    lazy.known = Limits(width=64, height=64, fps=8, frame_counts=(9,))
    assert lazy.limits.width == 64
    with pytest.raises(BackendUnavailable):
        lazy.shoot([REQUEST])
    assert LazyBackend(BackendConfig(kind="bundled")).limits.extends


def test_weights_other_than_the_expected_ones_are_refused() -> None:
    lazy = LazyBackend(BackendConfig(kind="instant"))
    lazy.expected = "0" * 64
    with pytest.raises(BackendUnavailable, match="other weights than this run was filmed with"):
        lazy.shoot([REQUEST])
    lazy.expected = None
    assert len(lazy.shoot([REQUEST])) == 1


def test_a_canvas_is_known_before_the_model_is_opened() -> None:
    lazy = LazyBackend(BackendConfig(kind="bundled", canvas=Canvas(fps=4)))
    assert lazy.limits.fps == 4
    with pytest.raises(RequestRejected, match="size: expected multiples of 16"):
        LazyBackend(BackendConfig(kind="bundled", canvas=Canvas(width=50)))
