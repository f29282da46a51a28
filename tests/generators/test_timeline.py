from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.errors import RequestRejected
from generators.timeline import Interval, Timeline

timelines = st.builds(
    lambda k, fps, stride: Timeline(frames=stride * k + 1, fps=fps, stride=stride),
    st.integers(0, 40),
    st.integers(1, 30),
    st.sampled_from([1, 4, 8]),
)


@st.composite
def clips_with_intervals(draw: st.DrawFn) -> tuple[Timeline, list[Interval]]:
    clip = draw(timelines)
    starts = st.floats(0, clip.seconds, allow_nan=False, exclude_max=True)
    lengths = st.floats(0.01, clip.seconds, allow_nan=False)
    pairs = draw(st.lists(st.tuples(starts, lengths), min_size=1, max_size=min(clip.latents, 6)))
    return clip, [Interval(start, min(start + length, clip.seconds)) for start, length in pairs if length > 0]


@given(timelines)
def test_latent_frames_share_out_the_pixel_frames_without_gap_or_overlap(clip: Timeline) -> None:
    assert [p for latent in range(clip.latents) for p in clip.pixels(latent)] == list(range(clip.frames))
    assert all(clip.latent(p) == latent for latent in range(clip.latents) for p in clip.pixels(latent))


@given(clips_with_intervals())
def test_every_latent_frame_has_one_owner_and_every_event_a_frame(case: tuple[Timeline, list[Interval]]) -> None:
    clip, intervals = case
    owners = clip.owners(intervals)
    assert len(owners) == clip.latents
    assert set(owners) == set(range(len(intervals)))


@given(timelines, st.integers(1, 5))
def test_events_that_tile_the_clip_own_frames_in_their_order(clip: Timeline, events: int) -> None:
    events = min(events, clip.latents)
    edges = [clip.seconds * i / events for i in range(events + 1)]
    owners = clip.owners([Interval(a, b) for a, b in zip(edges, edges[1:], strict=False)])
    assert owners == sorted(owners)


def test_an_event_between_two_frames_gets_one_without_leaving_its_place() -> None:
    clip = Timeline(frames=33, fps=1, stride=8)  # five latent frames; the third event's fifth holds no centre
    edges = [33 * i / 5 for i in range(6)]
    assert clip.owners([Interval(a, b) for a, b in zip(edges, edges[1:], strict=False)]) == [0, 1, 2, 3, 4]


def test_frames_that_only_one_event_covers_are_its_own() -> None:
    clip = Timeline(frames=33, fps=8)
    assert clip.owners([Interval(0, 2), Interval(2, 4.125)]) == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_a_frame_in_a_gap_goes_to_the_nearest_event_and_in_an_overlap_to_the_later_one() -> None:
    clip = Timeline(frames=17, fps=4)
    assert clip.owners([Interval(0, 1), Interval(3.2, 4.25)]) == [0, 0, 0, 1, 1]
    assert clip.owners([Interval(0, 4.25), Interval(2, 4.25)]) == [0, 0, 0, 1, 1]


def test_active_lets_events_share_frames_and_leaves_gaps_empty() -> None:
    clip = Timeline(frames=17, fps=4)
    assert clip.active([Interval(0, 2), Interval(1, 2)]) == [{0}, {0}, {0, 1}, set(), set()]


def test_eighty_one_frames_are_twenty_one_latent_frames_in_fours() -> None:
    clip = Timeline(frames=81, fps=16)
    assert clip.latents == 21
    assert (list(clip.pixels(0)), list(clip.pixels(1)), list(clip.pixels(20))) == (
        [0],
        [1, 2, 3, 4],
        [77, 78, 79, 80],
    )


@given(timelines, st.integers(0, 160), st.integers(1, 161))
def test_a_latent_frame_is_held_only_when_all_its_pixels_are_given(clip: Timeline, first: int, length: int) -> None:
    block = range(min(first, clip.frames), min(first + length, clip.frames))
    held = clip.held([block])
    assert held == [set(clip.pixels(latent)) <= set(block) for latent in range(clip.latents)]


def test_a_prefix_of_four_k_plus_one_frames_holds_k_plus_one_latent_frames() -> None:
    assert Timeline(frames=17, fps=8).held([range(9)]) == [True, True, True, False, False]
    assert Timeline(frames=17, fps=8).held([range(11)]) == [True, True, True, False, False]


@given(timelines, st.floats(0, 0.99), st.floats(0.01, 1))
def test_a_window_covers_its_seconds_with_whole_latent_frames(clip: Timeline, start: float, share: float) -> None:
    begin = start * clip.seconds
    end = min(begin + share * clip.seconds, clip.seconds)
    window = clip.window(begin, max(end, begin + 1e-3))
    assert window.start in {clip.pixels(latent).start for latent in range(clip.latents)}
    assert window.stop in {clip.pixels(latent).stop for latent in range(clip.latents)}
    assert window.start / clip.fps <= begin + 1e-5
    assert window.stop / clip.fps >= min(end, clip.seconds) - 1e-5


def test_a_prefix_is_whole_latent_frames_and_never_empty() -> None:
    clip = Timeline(frames=33, fps=8)
    assert (clip.prefix(0.01), clip.prefix(1.0), clip.prefix(1.2)) == (range(1), range(5), range(9))


@pytest.mark.parametrize("frames", [0, 2, 32])
def test_a_length_that_the_vae_cannot_pack_is_refused_with_the_neighbours(frames: int) -> None:
    with pytest.raises(RequestRejected, match=r"expected 4k \+ 1 \(such as \d+ or \d+\)"):
        Timeline(frames=frames, fps=8)


def test_more_events_than_latent_frames_are_refused() -> None:
    with pytest.raises(RequestRejected, match="expected 1 to 2"):
        Timeline(frames=5, fps=8).owners([Interval(0, 1)] * 3)


@given(timelines, st.data())
def test_frames_to_seconds_and_back_are_the_same_frames(clip: Timeline, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, clip.frames - 1))
    frames = range(first, data.draw(st.integers(first + 1, clip.frames)))
    assert clip.frames_of(clip.seconds_of(frames)) == frames
    assert clip.pixel(clip.seconds_of(frames).start) == first


@given(timelines)
def test_every_moment_of_a_latent_frame_shows_one_of_its_pixel_frames(clip: Timeline) -> None:
    for latent in range(clip.latents):
        start, end = clip.interval(latent)
        assert clip.frames_of(clip.interval(latent)) == clip.pixels(latent)
        for moment in (start, clip.centre(latent), end - 1e-6):
            assert clip.latent(clip.pixel(moment)) == latent


shares = st.lists(st.floats(0.01, 1), min_size=1, max_size=6)


@given(timelines, shares)
def test_shares_divide_the_clip_without_gap_or_overlap(clip: Timeline, parts: list[float]) -> None:
    intervals = clip.divided(parts)
    assert intervals[0].start == 0
    assert intervals[-1].end == pytest.approx(clip.seconds)
    assert all(a.end == b.start for a, b in zip(intervals, intervals[1:], strict=False))
    lengths = [(end - start) / clip.seconds for start, end in intervals]
    assert lengths == pytest.approx([part / sum(parts) for part in parts], abs=1e-9)


@given(timelines, shares)
def test_divided_latent_frames_have_one_owner_each_and_every_share_has_one(clip: Timeline, parts: list[float]) -> None:
    parts = parts[: clip.latents]
    owners = clip.divided_latents(parts)
    assert len(owners) == clip.latents
    assert owners == sorted(owners)
    assert set(owners) == set(range(len(parts)))


@given(st.integers(1, 5), st.integers(1, 6))
def test_equal_shares_of_a_clip_they_divide_are_equal(events: int, each: int) -> None:
    clip = Timeline(frames=4 * (events * each - 1) + 1, fps=8)
    owners = clip.divided_latents([1.0] * events)
    assert [owners.count(i) for i in range(events)] == [each] * events


def test_the_published_shares_begin_where_rounding_puts_them() -> None:
    owners = Timeline(frames=81, fps=16).divided_latents([0.6, 0.2, 0.2])
    assert [owners.count(i) for i in range(3)] == [13, 4, 4]


def test_more_shares_than_latent_frames_and_frames_outside_the_clip_are_refused() -> None:
    clip = Timeline(frames=5, fps=8)
    with pytest.raises(RequestRejected, match="expected 1 to 2"):
        clip.divided_latents([1, 1, 1])
    with pytest.raises(RequestRejected, match="expected a run within 0 to 5"):
        clip.seconds_of(range(3, 6))
