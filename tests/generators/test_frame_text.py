"""Which state of a synopsis every frame reads: the published tables, and what holds for any number of either."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from generators.attention import attend
from generators.controls.frame_text import FrameText, frame_shares, key_frames


@pytest.mark.parametrize(
    ("states", "frames", "golden"),
    [(5, 16, [0, 3, 7, 11, 15]), (5, 32, [0, 7, 15, 23, 31]), (1, 9, [0]), (3, 3, [0, 1, 2]), (2, 200, [0, 199])],
)
def test_states_are_reached_on_the_published_frames(states: int, frames: int, golden: list[int]) -> None:
    assert key_frames(states, frames) == golden


def test_between_key_frames_a_frame_reads_a_straight_mixture() -> None:
    shares = frame_shares([0, 3, 7, 11, 15], 16)
    assert shares[0].tolist() == [1, 0, 0, 0, 0]
    assert shares[15].tolist() == [0, 0, 0, 0, 1]
    torch.testing.assert_close(shares[2], torch.tensor([1 / 3, 2 / 3, 0, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(shares[5], torch.tensor([0, 0.5, 0.5, 0, 0], dtype=torch.float64))


def test_holding_keeps_a_state_until_the_next_key_frame() -> None:
    assert frame_shares([0, 2, 4], 6, "hold").argmax(1).tolist() == [0, 0, 1, 1, 2, 2]


@given(st.data())
def test_every_frame_reads_one_texts_worth_of_at_most_two_neighbouring_states(data: st.DataObject) -> None:
    frames = data.draw(st.integers(1, 40))
    keys = sorted(data.draw(st.sets(st.integers(0, frames - 1), min_size=1, max_size=frames)))
    shares = frame_shares(keys, frames)
    torch.testing.assert_close(shares.sum(1), torch.ones(frames, dtype=torch.float64))
    assert (shares >= 0).all()
    for frame, row in enumerate(shares):
        read = row.nonzero().flatten().tolist()
        assert len(read) <= 2
        assert read[-1] - read[0] <= 1
        if frame in keys:
            assert read == [keys.index(frame)]


@given(st.integers(1, 128), st.data())
def test_the_last_state_is_reached_on_the_last_frame(frames: int, data: st.DataObject) -> None:
    states = data.draw(st.integers(1, frames))
    keys = key_frames(states, frames)
    assert keys == sorted(set(keys))
    assert keys[0] == 0
    assert keys[-1] == (frames - 1 if states > 1 else 0)


@pytest.mark.parametrize("blend", ["embeddings", "outputs"])
@pytest.mark.parametrize("padded", ["zeros", "words"])
def test_padding_that_is_one_vector_is_read_once_and_counts_for_all_of_it(
    blend: Literal["embeddings", "outputs"], padded: str
) -> None:
    states, tokens, columns = torch.randn(2, 20, 8), (3, 5), 20
    if padded == "zeros":
        states[0, 3:] = states[1, 5:] = 0
    text = FrameText(states=states, shares_FS=frame_shares([0, 3], 4), blend=blend, tokens=tokens)
    q, read = torch.randn(4, 1, 6, 8), list[int]()
    for group in text.groups():
        read.append(group.states.shape[1])
        whole = torch.zeros(len(group.states), columns, 8)  # every column on its own
        whole[:, : group.states.shape[1]] = group.states
        ours, _ = attend(q[: len(group.states)], group.states[:, None], group.states[:, None], counts_M=group.counts)
        slow = F.scaled_dot_product_attention(q[: len(group.states)], whole[:, None], whole[:, None])
        torch.testing.assert_close(ours, slow, atol=1e-6, rtol=1e-5)
    compact = [6] if blend == "embeddings" else [4, 6]
    assert read == (compact if padded == "zeros" else [columns] * len(compact))


def test_hidden_padding_is_not_read_at_all() -> None:
    states = torch.randn(2, 20, 8)
    text = FrameText(
        states=states, shares_FS=frame_shares([0, 3], 4), blend="outputs", tokens=(3, 5), hides_padding=True
    )
    assert [(group.states.shape[1], group.counts) for group in text.groups()] == [(3, None), (5, None)]
