"""VSTAR against golden values and slow references, on every family."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.attention_bands import gaussian_table
from generators.clip import Event, Progress, ShotRequest
from generators.controls.base import AttentionCall, Control, Shot, Step, attached
from generators.controls.config import VSTAR, ControlConfig, TempoControl, TSAttn
from generators.controls.frame_text import frame_shares
from generators.controls.vstar import VSTARControl
from generators.errors import ControlRejected
from generators.models.base import Branch, Site
from generators.models.cogvideox import CogVideoXVideoModel
from generators.models.ltx import LTXVideoModel
from generators.models.tiny import TinyKind, tiny_pipeline
from generators.models.tiny_cogvideox import tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.models.tiny_unet import TinyUnetKind, tiny_unet_pipeline
from generators.models.unet import UnetVideoModel
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, sample

PROMPT = "A fox jumps over the box, then walks home."
STATES = ("a fox stands", "a fox jumps high over a box", "a fox lies in the grass")
UNETS: tuple[TinyUnetKind, ...] = ("modelscope", "animatediff")
SETTINGS = Settings(steps=3, guidance=6.0)
FRAMES, SIDE = 5, 16


@cache
def unet(kind: TinyUnetKind = "modelscope") -> UnetVideoModel:
    pipe = tiny_unet_pipeline(kind)
    pipe.set_progress_bar_config(disable=True)
    return UnetVideoModel.from_pipeline(pipe)


@cache
def wan(kind: TinyKind = "t2v-2.1") -> WanVideoModel:
    return WanVideoModel.from_pipeline(tiny_pipeline(kind, scheduler="euler"))


Model = UnetVideoModel | WanVideoModel


def request(ours: Model, *controls: ControlConfig, **changes: Any) -> ShotRequest:
    side = SIDE if isinstance(ours, UnetVideoModel) else 32
    asked = ShotRequest(
        prompt=PROMPT,
        negative_prompt="blurry",
        frames=FRAMES if isinstance(ours, UnetVideoModel) else 17,
        fps=8,
        width=side,
        height=side,
        seed=1,
        controls=controls,
    )
    return replace(asked, **changes)


def shot(ours: Model, steps: int = 25, **changes: Any) -> Shot:
    return Shot.of(ours, request(ours, **changes), steps)


def predict(ours: Model, controls: list[Control], branch: Branch = Branch.COND, step: int = 0) -> Tensor:
    """One pass: (1, C, F, h, w) of the branch; both branches of a UNet ride together."""
    asked = request(ours)
    layout = ours.layout(asked.frames, asked.height, asked.width)
    text, start = ours.encode([PROMPT], ["blurry"]), ours.start([asked], layout)
    branches = (Branch.UNCOND, Branch.COND) if ours.joins_branches else (branch,)
    with torch.no_grad(), attached(ours, [controls]) as run:
        run.branches, run.step = branches, Step(index=step, of=25, sigma=0.9)
        made = ours.predict(start.noise, torch.tensor(900), text, branches, start)
    return made.chunk(len(branches))[branches.index(branch)]


def both(ours: UnetVideoModel, controls: list[Control], step: int) -> Tensor:
    """One pass of both branches, (2, C, F, h, w), unconditional first."""
    return torch.cat([predict(ours, controls, branch, step) for branch in (Branch.UNCOND, Branch.COND)])


# On models


@pytest.mark.parametrize("kind", UNETS)
def test_steps_after_the_share_keep_the_stock_bits(kind: TinyUnetKind) -> None:
    ours = unet(kind)
    control = VSTARControl(VSTAR(), shot(ours))
    plain = both(ours, [], 0)
    assert control.last_step == 14
    assert torch.equal(both(ours, [control], 14), plain)
    steered = both(ours, [control], 13)
    assert not torch.equal(steered[0], plain[0])  # both branches are regularised
    assert not torch.equal(steered[1], plain[1])


def test_a_full_attention_model_keeps_its_bits_after_the_share_too() -> None:
    ours = wan()
    control = VSTARControl(VSTAR(), shot(ours))
    for branch in Branch:
        plain = predict(ours, [], branch)
        assert torch.equal(predict(ours, [control], branch, step=14), plain)
        assert not torch.equal(predict(ours, [control], branch, step=0), plain)


@pytest.mark.parametrize(
    "ours", [unet("modelscope"), unet("animatediff"), wan()], ids=["modelscope", "animatediff", "wan"]
)
def test_a_synopsis_leaves_the_unconditional_branch_its_bits(ours: Model) -> None:
    control = VSTARControl(VSTAR(synopsis=STATES, regularise=False), shot(ours))
    plain = {branch: predict(ours, [], branch) for branch in Branch}
    assert torch.equal(predict(ours, [control], Branch.UNCOND), plain[Branch.UNCOND])
    assert not torch.allclose(predict(ours, [control], Branch.COND), plain[Branch.COND])
    assert not torch.allclose(predict(ours, [control], Branch.COND, step=24), plain[Branch.COND])  # in every step


@pytest.mark.parametrize("states", [(PROMPT,), (PROMPT, PROMPT)])
@pytest.mark.parametrize("ours", [unet("modelscope"), wan()], ids=["modelscope", "wan"])
def test_a_synopsis_of_the_prompt_itself_changes_nothing(ours: Model, states: tuple[str, ...]) -> None:
    for blend in ("embeddings", "outputs"):
        control = VSTARControl(VSTAR(synopsis=states, regularise=False, blend=blend), shot(ours))
        torch.testing.assert_close(predict(ours, [control]), predict(ours, []), atol=1e-4, rtol=1e-4)


def first_attention(ours: WanVideoModel, kind: str, control: Control, hidden: Tensor, states: Tensor | None) -> Tensor:
    """What the first block's attention makes of some tokens while the control acts there."""
    block = ours.experts[0].blocks[0]
    with torch.no_grad(), attached(ours, [[control]]) as run:
        run.branches, run.step = (Branch.COND,), Step(index=0, of=25, sigma=0.9)
        made: Tensor = (block.attn1 if kind == "self" else block.attn2)(hidden, states, None, None)
    return made


@pytest.mark.parametrize("blend", ["embeddings", "outputs"])
@pytest.mark.parametrize("mixture", ["linear", "hold"])
def test_every_latent_frame_of_a_full_attention_model_reads_its_own_text(blend: Any, mixture: Any) -> None:
    ours = wan()
    network, here = ours.experts[0], shot(ours)
    frames, height, width = here.layout.grid
    hidden = torch.randn(1, here.layout.tokens, 48, generator=torch.Generator().manual_seed(0))
    embed, attention = network.condition_embedder.text_embedder, network.blocks[0].attn2
    with torch.no_grad():
        prompt = embed(ours.encode([PROMPT], None).cond)
        states = ours.encode(STATES, None).cond
        shares = frame_shares([0, 2, 4], frames, mixture).float()
        expected = torch.empty(1, frames, height * width, 48)
        for frame in range(frames):
            if blend == "embeddings":
                text = embed(torch.einsum("s,smd->md", shares[frame], states)[None])
                whole = attention(hidden, text, None, None)
            else:
                texts = [attention(hidden, embed(state[None]), None, None) for state in states]
                whole = torch.stack([share * made for share, made in zip(shares[frame], texts, strict=True)]).sum(0)
            expected[:, frame] = whole.unflatten(1, (frames, -1))[:, frame]
    config = VSTAR(synopsis=STATES, regularise=False, blend=blend, mixture=mixture)
    made = first_attention(ours, "cross", VSTARControl(config, here), hidden, prompt)
    torch.testing.assert_close(made, expected.flatten(1, 2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("magnitude", ["rowmax", 4.0])
def test_the_band_of_a_full_attention_model_is_the_explicit_one(magnitude: Any) -> None:
    ours = wan()
    here = shot(ours)
    frames, height, width = here.layout.grid
    hidden = torch.randn(1, here.layout.tokens, 48, generator=torch.Generator().manual_seed(0))
    attn = ours.experts[0].blocks[0].attn1
    with torch.no_grad():
        q, k, v = (
            x.unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for x in (attn.norm_q(attn.to_q(hidden)), attn.norm_k(attn.to_k(hidden)), attn.to_v(hidden))
        )
        phi = q @ k.mT / q.shape[-1] ** 0.5
        top = phi.amax(-1, keepdim=True).clamp_min(0) if magnitude == "rowmax" else magnitude
        frame = torch.arange(here.layout.tokens) // (height * width)
        table = gaussian_table(frames, 1.5 * frames / 16).float()[frame][:, frame]
        out = ((phi + 0.3 * top * table).softmax(-1) @ v).transpose(1, 2).flatten(2)
        expected = attn.to_out[1](attn.to_out[0](out))
    config = VSTAR(magnitude=magnitude, scale=0.3, sigmas=(1.5,))
    made = first_attention(ours, "self", VSTARControl(config, here), hidden, None)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-4)


def test_texts_without_their_padding_are_read_frame_by_frame() -> None:
    ours: Any = LTXVideoModel.from_pipeline(tiny_ltx_pipeline("t2v"))
    asked = ShotRequest(prompt="a fox", frames=17, fps=8, width=32, height=32, seed=1)

    def latents(*controls: VSTAR) -> Tensor:
        return sample(ours, [replace(asked, controls=controls)], Settings(steps=2, guidance=3.0)).latents

    plain = latents()
    same = latents(VSTAR(synopsis=("a fox", "a fox"), regularise=False))
    torch.testing.assert_close(same, plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(latents(VSTAR(synopsis=("a fox", "a cat sleeps"), regularise=False)), plain)
    with pytest.raises(ControlRejected, match="hides padding"):
        latents(VSTAR(synopsis=("a fox", "a cat"), blend="embeddings"))


class Spy(Control):
    """Keeps every call of joint attention, and what came out of it."""

    def __init__(self, shot: Shot) -> None:
        super().__init__(shot)
        self.calls: list[tuple[AttentionCall, Tensor]] = []

    def at(self, site: Site) -> bool:
        return site.kind == "joint"

    def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        self.calls.append((call, out_BHND))


@pytest.mark.parametrize("kind", ["t2v-2b", "t2v-5b", "t2v-1.5"])
@pytest.mark.parametrize("magnitude", ["rowmax", "auto", 4.0])
def test_the_band_of_joint_attention_is_the_explicit_one_and_keeps_the_weight_of_the_text(
    kind: Any, magnitude: Any
) -> None:
    ours: Any = CogVideoXVideoModel.from_pipeline(tiny_cogvideox_pipeline(kind))
    asked = ShotRequest(prompt=PROMPT, frames=17, fps=8, width=32, height=32, seed=1)
    here = Shot.of(ours, asked, 25)
    spy = Spy(here)
    config = VSTAR(magnitude=magnitude, scale=0.5, sigmas=(1.5,))
    with torch.no_grad(), attached(ours, [[VSTARControl(config, here), spy]]) as run:
        text, start = ours.encode([PROMPT], None), ours.start([asked], here.layout)
        run.branches, run.step = (Branch.COND,), Step(index=0, of=25, sigma=0.9)
        ours.predict(start.noise, torch.tensor(900), text, (Branch.COND,), start)
    assert [call.site.layer for call, _ in spy.calls] == [0, 1]
    frames, height, width = here.layout.grid
    frame = torch.arange(here.layout.tokens) // (height * width)
    table = gaussian_table(frames, 1.5 * frames / 16)[frame][:, frame]
    for call, out in spy.calls:
        q, k, v = (x.double() for x in (call.q, call.k, call.v))
        assert call.text is not None
        words, phi = (q @ k.mT / q.shape[-1] ** 0.5).split([call.text.stop, here.layout.tokens], dim=-1)
        # a sample of a frame of 4 tokens is its third one
        seen = phi if magnitude == "rowmax" else phi[..., 2 :: height * width]
        top = seen.amax(-1, keepdim=True).clamp_min(0) if isinstance(magnitude, str) else magnitude
        video = phi + 0.5 * top * table
        video = video - video.logsumexp(-1, keepdim=True) + phi.logsumexp(-1, keepdim=True)
        plain, banded = (torch.cat([words, part], -1).softmax(-1) for part in (phi, video))
        torch.testing.assert_close(banded[..., call.text].sum(-1), plain[..., call.text].sum(-1))
        torch.testing.assert_close(out.double(), banded @ v, atol=1e-5, rtol=1e-4)
        assert ((banded - plain) @ v).abs().max() > 1e-2


def test_joint_attention_is_regularised_over_video_alone() -> None:
    pipe = tiny_cogvideox_pipeline("t2v-2b")
    ours: Any = CogVideoXVideoModel.from_pipeline(pipe)
    asked = ShotRequest(prompt=PROMPT, frames=9, fps=8, width=32, height=32, seed=1)
    plain = sample(ours, [asked], Settings(steps=2, guidance=3.0)).latents
    steered = sample(ours, [replace(asked, controls=(VSTAR(scale=1.0),))], Settings(steps=2, guidance=3.0)).latents
    assert not torch.allclose(plain, steered)
    assert steered.isfinite().all()
    with pytest.raises(ControlRejected, match="no text cross-attention"):
        sample(ours, [replace(asked, controls=(VSTAR(synopsis=STATES),))], Settings(steps=2, guidance=3.0))


@pytest.mark.parametrize(("instead", "reads"), [("identity", "own"), ("uniform", "mean")])
def test_a_level_can_be_shown_without_its_map(instead: Any, reads: str) -> None:
    ours = unet()
    control = VSTARControl(VSTAR(replace=instead, sigmas=(1.0,)), shot(ours))
    site = next(site for site in ours.sites if control.at(site))
    module = ours._modules[site]
    hidden = torch.randn(3, FRAMES, module.to_q.in_features)
    with torch.no_grad(), attached(ours, [[control]]) as run:
        run.branches, run.step = (Branch.COND,), Step(index=0, of=25, sigma=0.9)
        made = module(hidden)
    with torch.no_grad():
        v = module.to_v(hidden)
        expected = module.to_out[0](v if reads == "own" else v.mean(1, keepdim=True).expand_as(v))
    torch.testing.assert_close(made, expected)


def test_longer_clips_are_regularised_one_level_further_down() -> None:
    ours = unet()
    assert list(VSTARControl(VSTAR(), shot(ours, frames=32)).tables) == [0]
    assert list(VSTARControl(VSTAR(), shot(ours, frames=33)).tables) == [0, 1]
    assert list(VSTARControl(VSTAR(preset="official"), shot(ours, frames=33)).tables) == [0]
    assert list(VSTARControl(VSTAR(sigmas=(None, 4.0)), shot(ours)).tables) == [1]


def test_a_matrix_of_ones_own_stands_in_for_the_gaussian() -> None:
    ours = unet()
    table = gaussian_table(FRAMES, 1.0)
    own = VSTAR(matrix=tuple(tuple(row) for row in table.tolist()))
    assert torch.equal(
        both(ours, [VSTARControl(own, shot(ours))], 0), both(ours, [VSTARControl(VSTAR(), shot(ours))], 0)
    )


def test_temporal_heads_alone_are_regularised_where_that_is_asked_for() -> None:
    ours = wan()
    some = VSTARControl(VSTAR(heads="temporal"), shot(ours))
    predict(ours, [some])
    assert {site.kind for site in some._heads} == {"self"}
    assert all(set(heads.tolist()) <= {0.0, 1.0} for heads in some._heads.values())


def test_states_are_reached_when_they_are_asked_for() -> None:
    ours = wan()
    control = VSTARControl(VSTAR(synopsis=STATES, seconds=(0.0, 1.0, 2.0), mixture="hold"), shot(ours))
    assert control._shares is not None
    assert control._shares.argmax(1).tolist() == [0, 0, 1, 1, 2]


def test_texts_of_unlike_length_are_mixed_after_attention_and_clip_texts_before() -> None:
    short = ("a fox", "a fox walks home over the hills in the evening")
    for ours, blend in ((wan(), "outputs"), (unet(), "embeddings")):
        control = VSTARControl(VSTAR(synopsis=short), shot(ours))
        control.begin(ours)
        text = control.frame_text(Site(0, 0, "cross"))
        assert text is not None
        assert text.blend == blend


def test_regularisation_adds_to_the_other_methods_and_a_synopsis_excludes_them() -> None:
    ours = wan()
    events = (
        Event(subject="fox", phrase="jumps over the box", start=0, end=1.0),
        Event(subject="fox", phrase="walks home", start=1.0, end=2.0),
    )
    only = {
        names: sample(ours, [request(ours, *controls, events=events)], SETTINGS).latents
        for names, controls in {"ts": (TSAttn(),), "tar": (VSTAR(),), "both": (TSAttn(), VSTAR())}.items()
    }
    assert not torch.allclose(only["both"], only["ts"])
    assert not torch.allclose(only["both"], only["tar"])
    timed = TempoControl(layers="all", iterations=1)
    three = sample(ours, [request(ours, TSAttn(), VSTAR(), timed, events=events)], SETTINGS).latents
    assert not torch.allclose(three, only["both"])
    for other in (TSAttn(), timed):
        with pytest.raises(ControlRejected, match="VSTAR gives every frame a text of its own, and T.* needs"):
            sample(ours, [request(ours, other, VSTAR(synopsis=STATES), events=events)], SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("ours", [unet(), wan("t2v-2.2")], ids=["modelscope", "wan-2.2"])
def test_a_batch_steers_only_the_request_that_asks_and_leaves_nothing_behind(ours: Model) -> None:
    config = VSTAR(synopsis=STATES)
    plain = sample(ours, [request(ours), request(ours, seed=2)], SETTINGS).latents
    mixed = sample(ours, [request(ours, config), request(ours, seed=2)], SETTINGS).latents
    assert not torch.allclose(plain[0], mixed[0])
    torch.testing.assert_close(plain[1], mixed[1], atol=1e-4, rtol=1e-4)
    assert torch.equal(plain, sample(ours, [request(ours), request(ours, seed=2)], SETTINGS).latents)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (VSTAR(synopsis=STATES * 3), r"VSTAR.synopsis: expected at most 5 states .* got 9"),
        (VSTAR(synopsis=STATES, seconds=(0.0, 0.1, 9.0)), r"VSTAR.seconds: expected moments before the clip's"),
        (VSTAR(synopsis=STATES, seconds=(0.0, 0.01, 0.02)), r"VSTAR.seconds: two of .* fall into one latent frame"),
        (VSTAR(synopsis=("very " * 200, "a fox")), r"VSTAR.synopsis: the tokenizer cuts"),
        (VSTAR(sigmas=(1.0, 1.0, 1.0, 1.0, 1.0)), r"VSTAR.sigmas: this model has attention over time at levels"),
        (VSTAR(matrix=((1.0,),)), r"VSTAR.matrix: expected 5 x 5 values"),
        (VSTAR(magnitude="sampled"), r"magnitude='sampled' and heads='temporal' are for attention over space and"),
    ],
)
def test_a_control_that_cannot_act_says_so_before_any_work(config: VSTAR, message: str) -> None:
    seen: list[Progress] = []
    with pytest.raises(ControlRejected, match=message):
        sample(unet(), [request(unet(), config)], SETTINGS, on_step=seen.append)
    assert not seen


@pytest.mark.parametrize("config", [VSTAR(preset="official"), VSTAR(replace="uniform"), VSTAR(sigmas=(1.0, 8.0))])
def test_what_is_of_factorised_attention_is_refused_elsewhere(config: VSTAR) -> None:
    with pytest.raises(ControlRejected, match="VSTAR"):
        sample(wan(), [request(wan(), config)], SETTINGS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"regularise": False}, "both halves are off"),
        ({"synopsis": ("a fox", " ")}, "a sentence for every state"),
        ({"synopsis": ("a fox",), "seconds": (0.0, 1.0)}, "one for each of 1 states, got 2"),
        ({"synopsis": ("a", "b"), "seconds": (1.0, 1.0)}, "rising moments"),
        ({"steps": 0.0}, "VSTAR.steps"),
        ({"preset": "paper"}, "VSTAR.preset"),
        ({"sigmas": (0.0,)}, "VSTAR.sigmas"),
        ({"sigmas": (None,)}, "at least one level"),
        ({"scale": 0.0}, "VSTAR.scale"),
        ({"magnitude": "mean"}, "VSTAR.magnitude"),
        ({"magnitude": -1.0}, "VSTAR.magnitude"),
        ({"matrix": ((1.0, 0.0),)}, "as many columns as rows"),
        ({"matrix": ((float("nan"),),)}, "VSTAR.matrix: expected finite numbers"),
        ({"scale": float("inf")}, "VSTAR.scale: expected more than 0, got inf"),
        ({"scale": True}, "VSTAR.scale: expected more than 0, got True"),
        ({"magnitude": float("inf")}, "VSTAR.magnitude: expected more than 0, got inf"),
        ({"sigmas": (float("inf"),)}, "VSTAR.sigmas"),
        ({"synopsis": ("a fox",), "seconds": (float("nan"),)}, "rising moments"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VSTAR(**wrong)


TOLD: dict[str, Any] = {"synopsis": STATES, "regularise": False}
OWN: dict[str, Any] = {"matrix": ((1.0, 0.0), (0.0, 1.0))}


@pytest.mark.parametrize(
    ("asked", "name", "reason"),
    [
        ({"mixture": "hold"}, "mixture", "there is no synopsis to mix"),
        ({"blend": "outputs"}, "blend", "there is no synopsis to mix"),
        (TOLD | {"sigmas": (2.0,)}, "sigmas", "regularise=False has no band"),
        (TOLD | {"scale": 3.0}, "scale", "regularise=False has no band"),
        (TOLD | {"magnitude": 5.0}, "magnitude", "regularise=False has no band"),
        (TOLD | {"heads": "temporal"}, "heads", "regularise=False has no band"),
        (TOLD | {"steps": 0.1}, "steps", "regularise=False has no band"),
        (TOLD | {"replace": "identity"}, "replace", "regularise=False has no band"),
        (TOLD | OWN, "matrix", "regularise=False has no band"),
        ({"replace": "identity", "scale": 2.0}, "scale", "replace='identity' adds no band"),
        ({"replace": "uniform", "magnitude": 3.0}, "magnitude", "replace='uniform' adds no band"),
        (OWN | {"replace": "uniform"}, "matrix", "replace='uniform' adds no band"),
    ],
)
def test_settings_that_would_change_nothing_are_refused_by_name(asked: dict[str, Any], name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"VSTAR\.{name} would change nothing: .*{reason}"):
        VSTAR(**asked)


def test_the_released_preset_has_its_band() -> None:
    with pytest.raises(ValueError, match="preset='official' .* expected regularise=True"):
        VSTAR(preset="official", **TOLD)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        TOLD,
        TOLD | {"mixture": "hold", "blend": "embeddings", "seconds": (0.0, 1.0, 2.0)},
        {"replace": "identity", "sigmas": (None, 1.0), "steps": 1.0},
        OWN | {"scale": 2.0, "magnitude": 3.0, "preset": "official"},
    ],
)
def test_settings_that_act_are_accepted_and_take_another_synopsis(asked: dict[str, Any]) -> None:
    config = VSTAR(**asked)
    assert replace(config, synopsis=STATES[:2], seconds=()).synopsis == STATES[:2]
