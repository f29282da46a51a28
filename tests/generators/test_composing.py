"""What docs/methods/composing.md says of pairs of methods, and of every method on every family, is what happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.cast import CastSample, CastSettings, sample_cast
from generators.clip import Given, ShotRequest
from generators.controls.base import Control
from generators.controls.config import VSTAR, ControlConfig, Looking, MotionQueries, TempoControl, TSAttn
from generators.controls.looking import LookingControl
from generators.errors import ControlRejected, RequestRejected
from generators.models.loading import take_apart
from generators.sampler import Settings, sample
from generators.scenes import sample_sets
from tests.generators.test_cast import Upper
from tests.generators.test_families_with_diffusers import REQUEST, TRANSFORMERS, UNETS

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "methods" / "composing.md"
SETTINGS = Settings(steps=6, guidance=3.0)
NOISE = np.random.default_rng(0).integers(0, 256, (25, 32, 32, 3), dtype=np.uint8)
FAR = 1e-3
OFF: Mapping[str, Any] = {"share": None, "refine": None, "preserve": None, "flow": None}
SETS, GIVEN, SEQUENCE = "Video Storyboarding", "given frames", "one sequence"
METHODS: Mapping[str, ControlConfig] = {
    "TS-Attn": TSAttn(steps=1.0, layers="all", region=False),
    "VSTAR, a band": VSTAR(scale=8.0, steps=1.0),
    "VSTAR, a synopsis": VSTAR(synopsis=("A fox jumps.", "A fox walks home.")),
    "TempoControl": TempoControl(rate=0.05, steps=0.5, layers="all", enough=1.0),
    "Motion by Queries": MotionQueries(frames=NOISE),
    "looking": Looking(),
}
FAMILIES: Mapping[str, Callable[[], Any]] = {
    "Wan": TRANSFORMERS["wan"],
    "SkyReels-V2, diffusion forcing": TRANSFORMERS["skyreels"],
    "CogVideoX": TRANSFORMERS["cogvideox"],
    "LTX-Video": TRANSFORMERS["ltx"],
    "ModelScope": UNETS["modelscope"],
    "AnimateDiff": UNETS["animatediff"],
}


def table(heading: str) -> dict[tuple[str, str], str]:
    """The cells of the table under a heading of the page, by row and column; empty ones left out."""
    lines = iter(PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines())
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    columns, cells = rows[0], rows[2:]
    return {(row[0], column): cell for row in cells for column, cell in zip(columns[1:], row[1:], strict=True) if cell}


def named(value: object) -> str:
    return " and ".join(value) if isinstance(value, tuple) else str(value)


@cache
def model(family: str = "Wan") -> Any:
    pipe = FAMILIES[family]()
    pipe.set_progress_bar_config(disable=True)
    return take_apart(pipe)


def request(*methods: str) -> ShotRequest:
    """One shot with these methods, in their order."""
    asked = replace(REQUEST, controls=tuple(METHODS[method] for method in methods if method in METHODS))
    return replace(asked, given=(Given(first=0, frames=NOISE[:9]),)) if GIVEN in methods else asked


def two_shots(*methods: str) -> list[ShotRequest]:
    asked = request(*methods)
    return [asked, replace(asked, seed=2)]


def in_set(*methods: str, family: str = "Wan", **steering: Any) -> CastSample:
    """Two shots that share their fox."""
    cast = CastSettings(steering={"keyframes": 2, "segmenter": Upper()} | steering)
    return sample_cast(model(family), two_shots(*methods), ["fox", "fox"], SETTINGS, cast)


def filmed(*methods: str, family: str = "Wan") -> tuple[Tensor, Sequence[Control]]:
    """Latents of the shot, and its controls as they were after the last step."""
    if SEQUENCE in methods:
        return sample_sets(model(family), [two_shots(*methods)], SETTINGS).shots[0][0], ()
    made = in_set(*methods, family=family) if SETS in methods else sample(model(family), [request(*methods)], SETTINGS)
    return made.latents[:1], made.controls[0]


def unsteered(method: str, family: str) -> Tensor:
    """The shot by the same work without what the method does: in a set that shares nothing, beside another shot."""
    if method == SETS:
        return in_set(family=family, **OFF).latents[:1]
    if method == SEQUENCE:
        first, second = two_shots()
        other = replace(second, prompt="A ship sails over a dark sea.", events=())
        return sample_sets(model(family), [[first, other]], SETTINGS).shots[0][0]
    return plain(family)


@cache
def plain(family: str) -> Tensor:
    return filmed(family=family)[0]


@cache
def alone(method: str) -> Tensor:
    return filmed(method)[0]


@pytest.mark.parametrize(("pair", "cell"), table("Two on one shot").items(), ids=named)
def test_a_pair_of_methods_does_what_the_page_says(pair: tuple[str, str], cell: str) -> None:
    if cell == "refused":
        for methods in (pair, pair[::-1]):
            with pytest.raises(ControlRejected, match=r"^controls: .*(; use one|twice on one request; name it once)"):
                filmed(*methods)
        return
    made, controls = filmed(*pair)
    if cell == "looks on":
        assert torch.equal(made, alone(pair[0]))
        assert any(isinstance(control, LookingControl) and control.found().curves for control in controls)
        return
    assert cell == "adds"
    assert all((made - alone(method)).abs().max() > FAR for method in pair)


def test_every_pair_is_on_the_page() -> None:
    methods = [*METHODS, SETS, GIVEN]
    found = {frozenset(pair) for pair in table("Two on one shot")}
    assert found == {frozenset((a, b)) for a in methods for b in methods if a != b}


@pytest.mark.parametrize("method", METHODS)
def test_shots_in_one_sequence_take_no_controls(method: str) -> None:
    with pytest.raises(RequestRejected, match="expected none on a shot that is filmed in a set"):
        filmed(SEQUENCE, method)


def test_sharing_alone_goes_with_the_motion_of_another_clip() -> None:
    sharing: Mapping[str, Any] = {"preserve": None, "flow": None}
    both = in_set("Motion by Queries", **sharing).latents
    assert all(
        (both - other.latents).abs().max() > FAR for other in (in_set(**sharing), in_set("Motion by Queries", **OFF))
    )


@pytest.mark.slow
@pytest.mark.parametrize(("where", "cell"), table("One on each family").items(), ids=named)
def test_a_method_on_a_family_does_what_the_page_says(where: tuple[str, str], cell: str) -> None:
    method, family = where
    if cell == "refused":
        with pytest.raises(RequestRejected):
            filmed(method, family=family)
        return
    assert cell == "yes"
    far = (filmed(method, family=family)[0] - unsteered(method, family)).abs().max()
    assert far == 0 if method == "looking" else far > FAR


def test_every_method_is_on_the_page_for_every_family() -> None:
    assert set(table("One on each family")) == {(m, f) for m in [*METHODS, SETS, GIVEN, SEQUENCE] for f in FAMILIES}
