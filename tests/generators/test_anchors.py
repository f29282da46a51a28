"""Anchors kept for later shots: replayed with their own settings alone, and read from no file that lacks some."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.anchors import FORMAT, Anchors, _digest
from generators.clip import Given
from generators.errors import RequestRejected
from tests.generators.test_cast import CLOSE, OFF, filmed, shots, whole


@pytest.mark.slow
def test_a_shot_that_is_added_later_has_the_same_cast(tmp_path: Path) -> None:
    first = filmed(shots(3), keep_anchors=True, weights="tiny")
    assert first.anchors is not None
    later = filmed(shots()[3:], kept=first.anchors, weights="tiny")
    assert (later.latents - whole().latents[3:]).abs().max() < CLOSE
    digest = first.anchors.save(tmp_path / "anchors.safetensors")
    read = Anchors.load(tmp_path / "anchors.safetensors")
    assert torch.equal(filmed(shots()[3:], kept=read, weights="tiny").latents, later.latents)
    with pytest.raises(RequestRejected, match="weights: 'tiny' then, 'other' now"):
        filmed(shots()[3:], kept=read, weights="other")
    with pytest.raises(RequestRejected, match="weights: 'tiny' then, None now"):
        filmed(shots()[3:], kept=read)
    assert digest == read.save(tmp_path / "again.safetensors")
    assert [shot.request for shot in read.shots] == shots(2)


def test_anchors_are_read_with_the_settings_they_were_filmed_with() -> None:
    kept = whole().anchors
    assert kept is not None
    with pytest.raises(RequestRejected, match=r"steering.*'dropout': 0.5"):
        filmed(shots()[3:], kept=kept, steering={"dropout": 0.5})
    with pytest.raises(RequestRejected, match="weights: None then, 'abc' now"):
        filmed(shots()[3:], kept=kept, weights="abc")
    with pytest.raises(RequestRejected, match="one size and length"):
        filmed([replace(shots()[3], frames=5)], kept=kept)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "anchors.safetensors"
    named().save(path)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(RequestRejected, match="damaged"):
        Anchors.load(path)
    path.write_bytes(b"no such thing")
    with pytest.raises(RequestRejected, match="could not be read"):
        Anchors.load(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(RequestRejected, match="no file of anchors"):
        Anchors.load(path)


def named() -> Anchors:
    """The anchors of the whole set, with a name for their weights."""
    kept = whole().anchors
    assert kept is not None
    return replace(kept, made={**kept.made, "weights": "tiny"})


def rewritten(path: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], object]) -> Path:
    """A file whose contents were changed, its digest with them."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    named().save(path)
    with safe_open(str(path), "pt") as file:
        told = {name: json.loads(file.metadata()[name]) for name in ("made", "shots")}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors, told)
    words = {name: json.dumps(value) for name, value in told.items()}
    save_file(tensors, path, {"format": FORMAT, "sha256": _digest(tensors, words), **words})
    return path


def without(name: str) -> Callable[[dict[str, Tensor], dict[str, Any]], object]:
    return lambda x, told: [x.pop(key) for key in list(x) if key.startswith(name)]


def put(name: str, value: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor], dict[str, Any]], object]:
    return lambda x, told: x.update({key: value(x[key]) for key in x if key.startswith(name)})


def told(name: str, value: object) -> Callable[[dict[str, Tensor], dict[str, Any]], object]:
    return lambda x, words: words["made"].update({name: value})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, told: told.update(made={}), "how they were filmed: expected weights, steps, levels, guidance, grid"),
        (lambda x, told: told.update(made=[]), "how they were filmed: expected weights, steps, levels, guidance, grid"),
        (lambda x, told: told["made"].pop("guidance"), "how they were filmed: expected guidance"),
        (told("weights", None), "weights is None, .* film the anchors again, with CastSettings.weights"),
        (told("levels", [1.0]), "levels is"),
        (told("grid", [3, 0, 2]), "grid is"),
        (told("steering", {}), "steering is {}"),
        (lambda x, told: told.update(shots=5), "expected shots with beside, digest"),
        (lambda x, told: told.update(shots=[{}, {}]), "expected shots with beside, digest"),
        (lambda x, told: told["shots"][0]["request"].update(light=1), "holds a request that is none"),
        (without("0.plain"), r"anchor 1: plain: expected latents of the steps \[.+\], got \[\]"),
        (without("1.sweep1"), "anchor 2: steered in the second: expected latents of the steps"),
        (without("0.sweep0.3"), "anchor 1: steered in the first sweep: expected latents of the steps"),
        (without("0.mask"), "anchor 1: expected masks of the subject, got none"),
        (without("1.features"), "anchor 2: expected anchor, features, near, place of refinement, got anchor, near"),
        (put("1.sweep0", lambda x: x * torch.nan), "anchor 2: steered in the first sweep, step .* finite numbers"),
        (put("1.sweep0", lambda x: x[..., :1].contiguous()), r"expected \(1, C, F, h, w\) as all others"),
        (put("0.place", lambda x: x + 10**6), r"place: expected 12 numbers of 0\.\.11"),
        (put("0.place", lambda x: x - 10**6), r"place: expected 12 numbers of 0\.\.11"),
        (put("0.anchor", lambda x: x + 1), r"anchor: expected 12 numbers of 0\.\.0"),
        (put("0.near", lambda x: x[1:]), r"near: expected 12 numbers"),
        (put("0.mask", lambda x: x.float()), r"mask of step .*: expected \(12,\) bool"),
        (put("0.features", lambda x: x[1:]), r"features: expected \(6, C\) finite numbers"),
        (lambda x, told: x.update({"0.mask.x": x["0.near"].clone()}), "anchor 1: .*'x'"),
    ],
)
def test_a_file_that_lacks_what_shots_would_read_is_refused(change: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(RequestRejected, match=said):
        Anchors.load(rewritten(tmp_path / "anchors.safetensors", change))


@pytest.mark.slow
@pytest.mark.parametrize("steering", [OFF, {"refine": None}, {"preserve": None, "flow": None}, {"share": None}])
def test_whatever_a_set_keeps_can_be_read_again(steering: dict[str, Any], tmp_path: Path) -> None:
    for anchors in (1, 2):
        made = filmed(shots(2), anchors=anchors, keep_anchors=True, weights="tiny", steering=steering)
        assert made.anchors is not None
        made.anchors.save(tmp_path / "anchors.safetensors")
        assert len(Anchors.load(tmp_path / "anchors.safetensors").shots) == anchors


def test_settings_that_only_the_new_shots_tell_differ_too() -> None:
    kept = whole().anchors
    assert kept is not None
    with pytest.raises(RequestRejected, match=r"steps: None then, 8 now"):
        filmed(shots()[3:], kept=replace(kept, made={}))


def test_no_file_is_written_without_the_digest_of_the_weights(tmp_path: Path) -> None:
    kept = whole().anchors
    assert kept is not None
    with pytest.raises(RequestRejected, match=r"name it in CastSettings\.weights"):
        kept.save(tmp_path / "anchors.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_no_file_keeps_is_handed_in(tmp_path: Path) -> None:
    frames = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    asked = [replace(request, given=(Given(first=0, frames=frames),)) for request in shots(2)]
    made = filmed(asked, keep_anchors=True, weights="tiny", steering={"refine": None})
    assert made.anchors is not None
    made.anchors.save(tmp_path / "anchors.safetensors")
    with pytest.raises(RequestRejected, match="given frames"):
        Anchors.load(tmp_path / "anchors.safetensors")
    with pytest.raises(RequestRejected, match="is not the request"):
        Anchors.load(tmp_path / "anchors.safetensors", shots(2))
    assert Anchors.load(tmp_path / "anchors.safetensors", asked).shots[0].request == asked[0]
