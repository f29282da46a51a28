"""What every backend promises, run on each that needs no network and no download."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.backends import BACKENDS, BackendConfig, open_backend
from generators.backends.instant import InstantBackend
from generators.backends.local import LocalBackend
from generators.clip import Backend, Canvas, Clip, Event, Given, Limits, Progress, ShotRequest
from generators.controls.config import TSAttn
from generators.errors import BackendUnavailable, ControlRejected, OutOfMemory, RequestRejected, ShootingCancelled
from generators.models.tiny import tiny_wan
from generators.models.wan import WanVideoModel

SIDE, FRAMES = 32, 9
LIMITS = Limits(width=SIDE, height=SIDE, fps=8, frame_counts=(FRAMES, 17), size_multiple=16, extends=True)
KINDS = ("instant", "local", "bundled")

Open = Callable[[], Backend]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan("world", tmp_path_factory.mktemp("wan"), scheduler="euler")


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, weights: Path) -> Open:
    config = BackendConfig(kind=request.param, model=str(weights), device="cpu", steps=3, guidance=2.0, limits=LIMITS)
    return lambda: open_backend(config)


@pytest.fixture
def backend(opened: Open) -> Iterator[Backend]:
    made = opened()
    yield made
    made.close()


def shot(seed: int = 1, **changes: Any) -> ShotRequest:
    asked = ShotRequest(
        prompt="A red fox jumps and then walks home.",
        frames=FRAMES,
        fps=8,
        width=SIDE,
        height=SIDE,
        seed=seed,
        events=(
            Event(subject="fox", phrase="jumps", start=0, end=0.5),
            Event(subject="fox", phrase="walks home", start=0.5, end=1.1),
        ),
    )
    return replace(asked, **changes)


def same(a: Clip, b: Clip) -> bool:
    return np.array_equal(a.frames, b.frames)


def test_it_is_a_backend_with_a_name_and_limits(backend: Backend) -> None:
    assert isinstance(backend, Backend)
    assert backend.name
    assert FRAMES in backend.limits.frame_counts


def test_a_clip_has_the_size_length_and_seed_that_were_asked_for(backend: Backend) -> None:
    (clip,) = backend.shoot([shot(seed=5)])
    assert clip.frames.shape == (FRAMES, SIDE, SIDE, 3)
    assert clip.frames.dtype == np.uint8
    assert (clip.fps, clip.seed, clip.model) == (8, 5, backend.name)
    assert clip.seconds_spent > 0
    assert clip.seam_jump is None
    assert clip.weights == backend.weights


def test_a_canvas_takes_the_place_of_sizes_rate_and_lengths(weights: Path, backend: Backend) -> None:
    canvas = Canvas(width=48, fps=6, frame_counts=(17, 5))
    config = BackendConfig(kind=backend.name if backend.name in KINDS else "local", model=str(weights), canvas=canvas)
    limits = open_backend(replace(config, limits=LIMITS, device="cpu")).limits
    assert (limits.width, limits.height, limits.fps, limits.frame_counts) == (48, SIDE, 6, (5, 17))
    with pytest.raises(RequestRejected, match="frame_counts: expected 4k \\+ 1, got 8"):
        open_backend(replace(config, canvas=Canvas(frame_counts=(8,)), device="cpu"))


def test_the_same_request_gives_the_same_frames_from_a_backend_opened_anew(opened: Open) -> None:
    first, second = opened(), opened()
    assert same(first.shoot([shot()])[0], second.shoot([shot()])[0])
    assert same(first.shoot([shot()])[0], first.shoot([shot()])[0])


def test_another_seed_gives_other_frames(backend: Backend) -> None:
    assert not same(backend.shoot([shot(1)])[0], backend.shoot([shot(2)])[0])


def test_clips_come_in_order_with_the_composition_of_their_batch(backend: Backend) -> None:
    requests = [shot(1), shot(2), shot(3)]
    clips = backend.shoot(requests)
    assert [clip.seed for clip in clips] == [1, 2, 3]
    assert {clip.composition for clip in clips} == {tuple(r.digest() for r in requests)}
    assert all(same(a, b) for a, b in zip(clips, backend.shoot(requests), strict=True))


def test_requests_of_several_lengths_are_filmed_in_one_call(backend: Backend) -> None:
    clips = backend.shoot([shot(1), shot(2, frames=17), shot(3)])
    assert [(clip.seed, len(clip.frames)) for clip in clips] == [(1, FRAMES), (2, 17), (3, FRAMES)]
    assert all(shot(c.seed, frames=len(c.frames)).digest() in c.composition for c in clips)


def test_nothing_asked_gives_nothing(backend: Backend) -> None:
    assert backend.shoot([]) == []


def test_given_frames_are_kept_pixel_for_pixel_and_the_seam_is_measured(backend: Backend) -> None:
    first = backend.shoot([shot(1)])[0].frames
    prefix = Given(first=0, frames=first[:5])
    (longer,) = backend.shoot([shot(2, given=(prefix,))])
    assert np.array_equal(longer.frames[:5], first[:5])
    assert not np.array_equal(longer.frames[5:], first[5:])
    assert longer.seam_jump is not None
    window = (Given(first=0, frames=first[:1]), Given(first=5, frames=first[5:]))
    (patched,) = backend.shoot([shot(3, given=window)])
    assert np.array_equal(patched.frames[[0, *range(5, FRAMES)]], first[[0, *range(5, FRAMES)]])
    assert not np.array_equal(patched.frames[1:5], first[1:5])


def test_progress_counts_every_step_to_the_end(backend: Backend) -> None:
    seen: list[Progress] = []
    backend.shoot([shot(1), shot(2, frames=17)], on_progress=seen.append)
    assert [p.step for p in seen] == list(range(1, len(seen) + 1))
    assert {p.of for p in seen} == {len(seen)}


def test_a_shoot_that_is_cancelled_stops_between_two_steps(backend: Backend) -> None:
    stop, seen = threading.Event(), []

    def cancel(progress: Progress) -> None:
        seen.append(progress)
        stop.set()

    with pytest.raises(ShootingCancelled):
        backend.shoot([shot()], on_progress=cancel, cancelled=stop)
    assert len(seen) == 1
    assert len(backend.shoot([shot()])) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 10}, "frames: expected 4k"),
        ({"width": 33}, "size: expected multiples of 16, such as 32x32, got 33x32"),
        ({"given": (Given(first=0, frames=np.zeros((5, 8, 8, 3), dtype=np.uint8)),)}, "Given frames at 0: expected"),
    ],
)
def test_a_request_that_breaks_a_limit_is_refused_before_any_work(
    backend: Backend, changes: dict[str, Any], message: str
) -> None:
    seen: list[Progress] = []
    with pytest.raises(RequestRejected, match=message):
        backend.shoot([shot(), shot(2, **changes)], on_progress=seen.append)
    assert not seen


def test_closing_twice_is_harmless(opened: Open) -> None:
    backend = opened()
    backend.close()
    backend.close()


# ── promises of one backend only ──


def test_a_local_backend_steers_with_the_request_s_controls(weights: Path) -> None:
    backend = open_backend(BackendConfig(kind="local", model=str(weights), device="cpu", steps=3, guidance=2.0))
    plain, steered = (backend.shoot([shot(controls=c)])[0] for c in ((), (TSAttn(region=False, strength=4),)))
    assert not same(plain, steered)
    with pytest.raises(ControlRejected, match="event 'flies'"):
        backend.shoot([shot(controls=(TSAttn(),), events=(Event(subject="", phrase="flies", start=0, end=1),))])


def test_a_local_backend_notes_a_prompt_that_was_cut_off(weights: Path) -> None:
    backend = open_backend(BackendConfig(kind="local", model=str(weights), device="cpu", steps=1, guidance=1.0))
    (clip,) = backend.shoot([shot(prompt="very " * 120, events=())])
    assert "cut off" in clip.notes[0]


def test_a_local_backend_notes_what_a_control_could_not_steer(weights: Path) -> None:
    """With one token a latent frame every token of a region is alone, so every region is empty."""
    backend = open_backend(BackendConfig(kind="local", model=str(weights), device="cpu", steps=1, guidance=1.0))
    plain, steered = (backend.shoot([shot(controls=c, width=16, height=16)])[0] for c in ((), (TSAttn(),)))
    assert plain.notes == ()
    (note,) = steered.notes
    assert "the region of 'fox' was empty" in note


def test_a_request_s_own_steps_and_guidance_win_over_the_backend_s(weights: Path) -> None:
    backend = open_backend(BackendConfig(kind="local", model=str(weights), device="cpu", steps=3, guidance=2.0))
    seen: list[Progress] = []
    backend.shoot([shot(steps=2)], on_progress=seen.append)
    assert len(seen) == 2
    assert not same(backend.shoot([shot()])[0], backend.shoot([shot(guidance=4.0)])[0])


@pytest.mark.slow
def test_the_low_noise_expert_has_a_guidance_of_its_own(tmp_path: Path) -> None:
    config = BackendConfig(kind="local", model=str(tiny_wan("t2v-2.2", tmp_path)), device="cpu", steps=3, guidance=2.0)
    same_for_both, other = (open_backend(replace(config, guidance_2=g)) for g in (None, 6.0))
    (plain,), (split,) = same_for_both.shoot([shot()]), other.shoot([shot()])
    assert not same(plain, split)
    assert same(split, same_for_both.shoot([shot(guidance=2.0, guidance_2=6.0)])[0])


def test_a_picture_checkpoint_refuses_a_clip_without_its_first_frame(tmp_path: Path) -> None:
    model = str(tiny_wan("i2v-2.1", tmp_path))
    backend = open_backend(BackendConfig(kind="local", model=model, device="cpu", steps=1, limits=LIMITS))
    with pytest.raises(RequestRejected, match="starts every clip from a picture"):
        backend.shoot([shot()])
    picture = Given(first=0, frames=np.full((1, SIDE, SIDE, 3), 90, dtype=np.uint8))
    assert (backend.shoot([shot(given=(picture,))])[0].frames[0] == 90).all()


def test_a_closed_local_backend_says_so(weights: Path) -> None:
    backend = open_backend(BackendConfig(kind="local", model=str(weights), device="cpu"))
    backend.close()
    with pytest.raises(BackendUnavailable, match="was closed"):
        backend.shoot([shot()])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BackendConfig(kind="cinema"), "expected one of instant, local, bundled, got 'cinema'"),
        (BackendConfig(kind="local"), "backend.model: expected a folder.*--model"),
        (BackendConfig(kind="local", model="nowhere/at-all", device="cpu"), "nowhere/at-all"),
        (BackendConfig(kind="local", model="any", device="abacus"), "device: 'abacus'.*there are.* cpu"),
        (BackendConfig(kind="local", model="any", device="cuda:99"), "device: 'cuda:99' cannot be used"),
        (BackendConfig(kind="local", model="any", device="cpu", offload=True), "offload: expected an accelerator"),
    ],
)
def test_a_backend_that_cannot_be_opened_names_what_is_missing(config: BackendConfig, message: str) -> None:
    with pytest.raises(BackendUnavailable, match=message):
        open_backend(config)


def test_the_table_names_every_backend_this_suite_runs() -> None:
    assert set(BACKENDS) == set(KINDS)


def test_running_out_of_memory_is_told_with_the_size_that_was_tried(weights: Path) -> None:
    class Small(WanVideoModel):
        def predict(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    backend = LocalBackend(str(weights), device="cpu")
    backend.model = Small.from_pretrained(str(weights))
    with pytest.raises(OutOfMemory, match=f"2 clips of {SIDE}x{SIDE}, {FRAMES} frames"):
        backend.shoot([shot(1), shot(2)])


@pytest.mark.parametrize(("kind", "fps"), [("t2v-2.1", 16), ("ti2v-2.2", 24), ("i2v-2.1", 16)])
def test_a_checkpoint_is_filmed_in_the_sizes_its_kind_was_made_for(tmp_path: Path, kind: Any, fps: int) -> None:
    limits = LocalBackend(str(tiny_wan(kind, tmp_path)), device="cpu").limits
    assert limits.needs_picture == kind.startswith("i2v")
    assert limits.fps == fps
    assert limits.width % limits.size_multiple == limits.height % limits.size_multiple == 0
    assert all(count % limits.frame_step == 1 for count in limits.frame_counts)


def test_the_bundled_backend_says_so_in_its_takes_and_honours_given_tokens(weights: Path) -> None:
    backend = open_backend(BackendConfig(kind="bundled", model=str(weights), device="cpu"))
    assert isinstance(backend, LocalBackend)
    assert backend.name == "bundled"
    assert backend.model is not None
    assert backend.model.gives_tokens_at_zero


def test_an_instant_backend_fails_when_it_is_told_to() -> None:
    def refuse_odd(request: ShotRequest) -> None:
        if request.seed % 2:
            raise BackendUnavailable(f"seed {request.seed} is odd")

    backend = InstantBackend(on_shoot=refuse_odd)
    assert len(backend.shoot([shot(2)])) == 1
    with pytest.raises(BackendUnavailable, match="seed 3 is odd"):
        backend.shoot([shot(3)])
