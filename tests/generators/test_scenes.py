"""Several shots as one sequence on CogVideoX: stock identities, a float64 re-derivation, context, chains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0
from torch import Tensor

from generators.attention_groups import SceneMask
from generators.clip import Given, ShotRequest
from generators.controls.base import attached
from generators.controls.config import TSAttn
from generators.errors import ControlRejected, RequestRejected
from generators.models.base import Branch, Start, Text
from generators.models.cogvideox import CogVideoXVideoModel, turned
from generators.models.cogvideox_scenes import CogVideoXScenes, stretched_positions
from generators.models.loading import take_apart
from generators.models.scenes import SceneSettings
from generators.models.tiny_cogvideox import COLUMNS, TinyCogVideoXKind, tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.sampler import Settings, sample
from generators.scenes import ChainSettings, sample_chain, sample_sets

SIDE = 32
SETTINGS = Settings(steps=2, guidance=6.0)
MASKS: tuple[SceneMask, ...] = get_args(SceneMask)
PIXELS = np.random.default_rng(0).integers(0, 256, (17, SIDE, SIDE, 3), dtype=np.uint8)
ADDED, ROTATED = "t2v-2b", "t2v-5b"
EXACT = 5e-14
"""Rounding of float64: what was read is under 1e-14, the references' own figures are about 1e-15."""


@cache
def pipeline(kind: TinyCogVideoXKind, scheduler: Any = "ddim") -> Any:
    pipe = tiny_cogvideox_pipeline(kind, scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def model(kind: TinyCogVideoXKind, scheduler: Any = "ddim") -> CogVideoXVideoModel:
    return CogVideoXVideoModel.from_pipeline(pipeline(kind, scheduler))


def shot(number: int, frames: int = 9, **changes: Any) -> ShotRequest:
    prompts = ("A fox jumps.", "A cat sleeps.", "The fox and the cat walk home.", "A red box falls.", "Rain.")
    asked = ShotRequest(
        prompt=prompts[number], negative_prompt="blurry", frames=frames, fps=8, width=SIDE, height=SIDE, seed=number
    )
    return replace(asked, **changes)


def finished(number: int, frames: int = 9) -> ShotRequest:
    return shot(number, frames, given=(Given(first=0, frames=PIXELS[:frames]),))


# ---- one pass of the network in float64, and what it is derived to be ------------------------------------------------


class Pass:
    """A pass over shots of 3, 1 and 3 latent frames, in float64."""

    def __init__(self, kind: TinyCogVideoXKind, mask: SceneMask = "v2", frames: Sequence[int] = (9, 1, 9)) -> None:
        self.pipe = tiny_cogvideox_pipeline(kind)
        self.network = self.pipe.transformer.double()
        self.plain = CogVideoXVideoModel.from_pipeline(self.pipe)
        layouts = [self.plain.layout(count, SIDE, SIDE) for count in frames]
        self.sets = CogVideoXScenes(self.plain, layouts, SceneSettings(mask=mask))
        self.lengths = [layout.frames for layout in layouts]
        generator = torch.Generator().manual_seed(7)
        size = (2, layouts[0].channels, sum(self.lengths), SIDE // 8, SIDE // 8)
        self.latents = torch.randn(size, generator=generator, dtype=torch.float64)
        width = self.network.config.text_embed_dim
        self.states = torch.randn(2, len(frames) * COLUMNS, width, generator=generator, dtype=torch.float64)

    def start(self, *context: int) -> Start:
        held = torch.cat([torch.full((2, 1, n, 1, 1), i in context) for i, n in enumerate(self.lengths)], dim=2)
        return Start(noise=self.latents, held=held if context else None)

    def run(self, t: int, *context: int) -> Tensor:
        with torch.no_grad(), attached(self.sets, [()]):
            inputs = self.sets._inputs(self.latents, torch.tensor(t), self.states, self.start(*context))
            return self.network(**inputs, return_dict=False)[0]

    def stock(self, t: int, scene: int | None = None, rotary: Any = None) -> Tensor:
        """The network as it comes, on everything or on one scene."""
        frames, columns = self.of(scene)
        states, latents = self.states[:, columns], turned(self.latents)[:, frames]
        time = torch.tensor(t).expand(2)
        with torch.no_grad():
            return self.network(latents, states, time, image_rotary_emb=rotary, return_dict=False)[0]

    def of(self, scene: int | None) -> tuple[slice, slice]:
        if scene is None:
            return slice(None), slice(None)
        before = sum(self.lengths[:scene])
        return slice(before, before + self.lengths[scene]), slice(COLUMNS * scene, COLUMNS * (scene + 1))

    def rotary(self, frames: slice = slice(None)) -> Any:
        table = self.plain._rotary(self.latents)
        return None if table is None else tuple(x.unflatten(0, (-1, 4))[frames].flatten(0, 1) for x in table)


@pytest.fixture
def exact_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers rotates in float32, whose rounding no float64 equality survives."""
    for place in ("generators.models.cogvideox_attention", "diffusers.models.embeddings"):
        monkeypatch.setattr(f"{place}.apply_rotary_emb", rotated)


def rotated(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    turns = torch.complex(table[0][:, ::2].to(x.dtype), table[1][:, ::2].to(x.dtype))
    return torch.view_as_real(pairs * turns).flatten(-2)


def derived(case: Pass, mask: SceneMask, times: Sequence[int]) -> Tensor:
    """The whole network written out, with a dense mask and a time of every token: (2, F, C, h, w)."""
    network, grid = case.network, SIDE // 16
    batch, channels, frames = case.latents.shape[:3]
    scene = torch.tensor([i for i in range(len(times)) for _ in range(COLUMNS)])
    scene = torch.cat([scene, torch.tensor([i for i, n in enumerate(case.lengths) for _ in range(n * grid * grid)])])
    is_text = torch.arange(len(scene)) < COLUMNS * len(times)
    allowed = scene[:, None] == scene[None, :]
    allowed |= ~is_text[:, None] & ~is_text[None, :] if mask != "v1" else allowed
    allowed |= is_text[:, None] & is_text[None, :] if mask in ("v3", "v5") else allowed
    allowed |= is_text[:, None] != is_text[None, :] if mask in ("v4", "v5") else allowed
    times_n = network.time_embedding(network.time_proj(torch.tensor(times)).double())
    time = F.silu(times_n)[scene]

    patches = case.latents.permute(0, 2, 1, 3, 4).unflatten(-1, (grid, 2)).unflatten(-3, (grid, 2))
    patches = patches.permute(0, 1, 3, 5, 2, 4, 6).flatten(1, 3).flatten(2)
    weight = network.patch_embed.proj.weight.flatten(1)
    x = torch.cat([network.patch_embed.text_proj(case.states), patches @ weight.T + network.patch_embed.proj.bias], 1)
    if not network.config.use_rotary_positional_embeddings:
        x[:, ~is_text] += slow_table(network.patch_embed, len(times), frames).flatten(0, 1)

    def modulation(linear: Any, parts: int) -> tuple[Tensor, ...]:
        return (time @ linear.weight.T + linear.bias).chunk(parts, dim=-1)

    def normed(norm: Any, y: Tensor) -> Tensor:
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
        return y * norm.weight + norm.bias

    text = is_text[:, None]
    for block in network.transformer_blocks:
        for norm, layer in ((block.norm1, "attention"), (block.norm2, "feed")):
            made = modulation(norm.linear, 6)
            shift, scale, gate = (torch.where(text, made[i + 3], made[i]) for i in range(3))
            y = normed(norm.norm, x) * (1 + scale) + shift
            y = attention(block.attn1, y, allowed, case, normed) if layer == "attention" else block.ff(y)
            x = x + gate * y
    shift, scale = (part[~is_text] for part in modulation(network.norm_out.linear, 2))
    x = normed(network.norm_out.norm, normed(network.norm_final, x[:, ~is_text])) * (1 + scale) + shift
    x = network.proj_out(x).view(batch, frames, grid, grid, channels, 2, 2)
    return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, frames, channels, 2 * grid, 2 * grid)


def attention(attn: Any, y: Tensor, allowed: Tensor, case: Pass, normed: Callable[[Any, Tensor], Tensor]) -> Tensor:
    q, k, v = (layer(y).unflatten(2, (attn.heads, -1)).transpose(1, 2) for layer in (attn.to_q, attn.to_k, attn.to_v))
    q, k = normed(attn.norm_q, q), normed(attn.norm_k, k)
    if (table := case.rotary()) is not None:
        columns = y.shape[1] - len(table[0])
        q, k = (torch.cat([x[:, :, :columns], rotated(x[:, :, columns:], table)], 2) for x in (q, k))
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights = logits.masked_fill(~allowed, -torch.inf).softmax(-1)
    return attn.to_out[0]((weights @ v).transpose(1, 2).flatten(2))


def slow_table(embed: Any, scenes: int, frames: int) -> Tensor:
    """2B's table, stretched in time frame by frame: (frames, positions of a frame, D)."""
    trained = embed.pos_embedding[0, COLUMNS:].unflatten(0, (3, -1))
    rows = []
    for frame in range(frames):
        place = max((frame + 0.5) / scenes - 0.5, 0)
        low = math.floor(place)
        high = min(low + 1, 2)
        rows.append((1 - (place - low)) * trained[low] + (place - low) * trained[high])
    return torch.stack(rows)


@pytest.mark.usefixtures("exact_rotation")
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", [ADDED, ROTATED])
def test_a_pass_is_what_the_paper_says_token_by_token(kind: TinyCogVideoXKind, mask: SceneMask) -> None:
    case = Pass(kind, mask)
    with torch.no_grad():
        assert (case.run(600) - derived(case, mask, (600, 600, 600))).abs().max() < EXACT
        assert (case.run(600, 0, 1) - derived(case, mask, (0, 0, 600))).abs().max() < EXACT
        assert (case.run(600, 1) - derived(case, mask, (600, 0, 600))).abs().max() < EXACT


def test_the_derivation_tells_masks_and_times_apart() -> None:
    case = Pass(ADDED)
    with torch.no_grad():
        outputs = [derived(case, mask, (600, 600, 600)) for mask in MASKS] + [derived(case, "v2", (0, 0, 600))]
    for i, one in enumerate(outputs):
        assert all((one - other).abs().max() > 1e-4 for other in outputs[:i])


@pytest.mark.parametrize("kind", [ADDED, ROTATED])
def test_context_at_time_zero_is_a_plain_pass_at_time_zero(kind: TinyCogVideoXKind) -> None:
    case = Pass(kind)
    assert (case.run(0, 0, 1) - case.run(0)).abs().max() < EXACT
    assert (case.run(600, 0, 1) - case.run(600)).abs().max() > 1e-3


def test_the_fifth_mask_is_the_stock_network_bit_for_bit() -> None:
    case = Pass(ROTATED, "v5")
    assert torch.equal(case.run(600), case.stock(600, rotary=case.rotary()))


@pytest.mark.usefixtures("exact_rotation")
def test_the_first_mask_is_each_shot_alone_at_its_own_positions() -> None:
    case = Pass(ROTATED, "v1")
    together = case.run(600)
    for scene in range(3):
        frames, _ = case.of(scene)
        assert (together[:, frames] - case.stock(600, scene, case.rotary(frames))).abs().max() < EXACT
    frames, _ = case.of(2)
    restarted = case.stock(600, 2, case.rotary(slice(0, 3)))
    assert (together[:, frames] - restarted).abs().max() > 1e-4


def test_the_first_mask_is_each_shot_alone_with_added_positions_too() -> None:
    case = Pass(ADDED, "v1")
    together = case.run(600)
    for scene in range(3):
        frames, _ = case.of(scene)
        with positions(case.network.patch_embed, slow_table(case.network.patch_embed, 3, 7)[frames].flatten(0, 1)):
            assert (together[:, frames] - case.stock(600, scene)).abs().max() < EXACT


@contextmanager
def positions(embed: Any, table: Tensor) -> Iterator[None]:
    joint = torch.cat([torch.zeros(COLUMNS, table.shape[1]), table])
    handle = embed.register_forward_hook(lambda module, args, out: out + joint)
    embed.use_positional_embeddings = False
    try:
        yield
    finally:
        handle.remove()
        embed.use_positional_embeddings = True


def test_rotary_positions_run_on_from_shot_to_shot() -> None:
    cos, _ = Pass(ROTATED).rotary()
    first_of_frames = cos.unflatten(0, (-1, 4))[:, 0, 0]
    assert torch.allclose(first_of_frames, torch.arange(7.0).cos(), atol=1e-6)


def test_added_positions_are_stretched_not_counted_on() -> None:
    ours = model(ADDED)
    layout = replace(ours.layout(9, SIDE, SIDE), frames=9)
    embed = ours.network.patch_embed
    stretched = stretched_positions(embed, 3, layout)[0].unflatten(0, (9, -1))
    assert torch.allclose(stretched, slow_table(embed, 3, 9), atol=1e-6)
    counted = embed._get_positional_embeddings(SIDE // 8, SIDE // 8, 33)[0, COLUMNS:].unflatten(0, (9, -1))
    assert (stretched - counted).abs().max() > 0.1


# ---- filming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
@pytest.mark.parametrize("kind", ["t2v-2b", "t2v-5b", "t2v-1.5"])
def test_a_set_of_one_is_the_stock_pipeline_bit_for_bit(kind: TinyCogVideoXKind, scheduler: str) -> None:
    requests = [shot(0), shot(1)]
    together = sample_sets(model(kind, scheduler), [[request] for request in requests], SETTINGS)
    assert torch.equal(together.sample.latents, sample(model(kind, scheduler), requests, SETTINGS).latents)


@pytest.mark.parametrize("kind", ["t2v-2b", "t2v-5b", "t2v-1.5"])
def test_shots_of_unequal_lengths_come_back_as_shots(kind: TinyCogVideoXKind) -> None:
    lengths = (9, 1, 9)
    taken = sample_sets(model(kind), [[shot(i, count) for i, count in enumerate(lengths)]], SETTINGS)
    ours = model(kind)
    assert [part.shape[2] for part in taken.shots[0]] == [ours.layout(count, SIDE, SIDE).frames for count in lengths]
    for latents, count in zip(taken.shots[0], lengths, strict=True):
        with torch.no_grad():
            video = ours.decode(latents)
        assert video.shape == (1, count, 3, SIDE, SIDE)
        assert video.isfinite().all()


def test_shots_of_a_set_see_each_other_but_not_each_others_words() -> None:
    ours = model(ROTATED)
    base = sample_sets(ours, [[shot(0), shot(1)]], SETTINGS).shots[0]
    other = sample_sets(ours, [[shot(0), shot(1, prompt="Another story.")]], SETTINGS).shots[0]
    assert not torch.equal(base[0], other[0])
    alone = SceneSettings(mask="v1")
    base = sample_sets(ours, [[shot(0), shot(1)]], SETTINGS, alone).shots[0]
    other = sample_sets(ours, [[shot(0), shot(1, prompt="Another story.")]], SETTINGS, alone).shots[0]
    assert torch.equal(base[0], other[0])
    assert not torch.equal(base[1], other[1])


def test_noise_is_one_draw_for_the_set_or_each_shots_own() -> None:
    ours, requests = model(ROTATED), [shot(3), shot(4)]
    shape = (1, 6, 4, SIDE // 8, SIDE // 8)
    of_set = sample_sets(ours, [requests], SETTINGS).sample.start.noise
    assert torch.equal(turned(of_set), torch.randn(shape, generator=torch.Generator().manual_seed(3)))
    of_shots = sample_sets(ours, [requests], SETTINGS, SceneSettings(noise="shot")).shots
    again = sample_sets(ours, [requests[::-1]], SETTINGS, SceneSettings(noise="shot")).sample.start.noise
    assert torch.equal(again[:, :, 3:], sample(ours, [shot(3)], SETTINGS).start.noise)
    assert len(of_shots[0]) == 2


@pytest.mark.parametrize("scheduler", ["ddim", "dpm"])
def test_context_is_kept_and_read(scheduler: str) -> None:
    ours = model(ROTATED, scheduler)
    taken = sample_sets(ours, [[finished(0), finished(1), shot(2)]], SETTINGS)
    start, latents = taken.sample.start, taken.sample.latents
    assert start.clean is not None
    assert torch.equal(latents[:, :, :6], start.clean[:, :, :6])
    assert torch.equal(start.noise[:, :, 6:], sample(ours, [shot(2)], SETTINGS).start.noise)
    other = replace(finished(0), given=(Given(first=0, frames=PIXELS[8:]),))
    changed = sample_sets(ours, [[other, finished(1), shot(2)]], SETTINGS)
    assert not torch.equal(changed.shots[0][2], taken.shots[0][2])


def test_a_loop_that_writes_context_back_after_every_step_gives_the_same() -> None:
    """The released loop: latents from the scheduler, then the context written over them."""
    ours, asked = model(ROTATED), [finished(0), finished(1), shot(2)]
    taken = sample_sets(ours, [asked], SETTINGS)
    start = taken.sample.start
    sets = ours.of_sets(taken.layouts, SceneSettings())
    scheduler = type(ours.pipe.scheduler).from_config(dict(ours.pipe.scheduler.config))
    scheduler.set_timesteps(SETTINGS.steps)
    assert start.clean is not None
    assert start.held is not None
    latents = torch.where(start.held, start.clean, start.noise)
    with torch.no_grad(), attached(sets, [()]):
        for t in scheduler.timesteps:
            made = sets.predict(latents, t, taken.sample.text, (Branch.UNCOND, Branch.COND), start)
            uncond, cond = made.chunk(2)
            stepped = scheduler.step(turned(uncond + 6.0 * (cond - uncond)), t, turned(latents), return_dict=False)[0]
            latents = torch.where(start.held, start.clean, turned(stepped))
    assert torch.equal(latents, taken.sample.latents)


def test_context_carries_the_first_noise_level_or_none() -> None:
    ours, asked = model(ROTATED), [finished(0), finished(1), shot(2)]
    noised, clean = (
        sample_sets(ours, [asked], SETTINGS, SceneSettings(context=context)).sample.start.clean
        for context in ("noised", "clean")
    )
    assert noised is not None
    assert clean is not None
    signal = ours.pipe.scheduler.alphas_cumprod[0]
    noise = (noised - signal.sqrt() * clean)[:, :, :6] / (1 - signal).sqrt()
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert math.sqrt(1 - signal) == pytest.approx(0.050, abs=1e-3)  # shift scale 3, as published


def test_guidance_off_films_with_context_too() -> None:
    taken = sample_sets(model(ROTATED), [[finished(0), shot(1)]], replace(SETTINGS, guidance=1.0))
    assert taken.sample.text.uncond is None
    assert taken.sample.latents.isfinite().all()


def test_sets_in_lock_step_are_sets_alone() -> None:
    ours = model(ROTATED)
    sets = [[finished(0), shot(1)], [shot(2), finished(3)]]
    both = sample_sets(ours, sets, SETTINGS).sample.latents
    alone = [sample_sets(ours, [of_set], SETTINGS).sample.latents for of_set in sets]
    assert (both - torch.cat(alone)).abs().max() < 1e-4


def test_a_whole_set_is_decoded_shot_by_shot() -> None:
    ours = model(ROTATED)
    taken = sample_sets(ours, [[shot(0), shot(1, 1)]], SETTINGS)
    with torch.no_grad():
        video = ours.of_sets(taken.layouts, SceneSettings()).decode(taken.sample.latents)
        parts = torch.cat([ours.decode(latents) for latents in taken.shots[0]], dim=1)
    assert torch.equal(video, parts)
    assert video.shape[1] == 10


def test_a_chain_goes_on_to_any_length() -> None:
    shots = list(sample_chain(model(ROTATED), [shot(i) for i in range(5)], SETTINGS))
    assert [len(x.composition) for x in shots] == [3, 3, 3, 3, 3]
    assert [x.request for x in shots] == [shot(i) for i in range(5)]
    assert all(x.frames.shape == (9, SIDE, SIDE, 3) for x in shots)
    asked = [replace(x.request, given=(Given(first=0, frames=x.frames),)) for x in shots[1:3]]
    later = next(sample_chain(model(ROTATED), [*asked, shot(3)], SETTINGS))
    assert np.array_equal(later.frames, shots[3].frames)
    assert later.composition == shots[3].composition


def test_a_chain_may_read_the_latents_it_made() -> None:
    ours, requests = model(ROTATED), [shot(i) for i in range(4)]
    shots = list(sample_chain(ours, requests, SETTINGS, SceneSettings(context="clean"), ChainSettings(reads="latents")))
    kept = {i: x.latents for i, x in enumerate(shots[1:3]) if x.latents is not None}
    last = sample_sets(ours, [requests[1:]], SETTINGS, SceneSettings(context="clean"), finished=kept)
    assert torch.equal(last.shots[0][2], shots[3].latents)
    assert last.sample.start.clean is not None
    assert torch.equal(last.sample.start.clean[:, :, :3], shots[1].latents)


@pytest.mark.parametrize("kind", [ADDED, ROTATED])
def test_the_network_is_as_it_was_after_filming_and_after_an_error(kind: TinyCogVideoXKind) -> None:
    ours = model(kind)
    modules = {name: id(module) for name, module in ours.network.named_modules()}
    flag = ours.network.patch_embed.use_positional_embeddings
    sample_sets(ours, [[shot(0), finished(1)]], SETTINGS)

    def fail(progress: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_sets(ours, [[shot(0), finished(1)]], SETTINGS, on_step=fail)
    assert {name: id(module) for name, module in ours.network.named_modules()} == modules
    assert ours.network.patch_embed.use_positional_embeddings == flag
    assert not ours.network.patch_embed._forward_hooks
    assert all(type(p) is CogVideoXAttnProcessor2_0 for p in ours.network.attn_processors.values())


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        ([[shot(0), shot(1, controls=(TSAttn(),))]], "TSAttn"),
        ([[shot(0), shot(1, given=(Given(first=0, frames=PIXELS[:5]),))]], "none or all 9 frames"),
        ([[finished(0), finished(1)]], "not finished yet"),
        ([[shot(0), shot(1, width=48)]], "one size"),
        ([[shot(0), shot(1)], [shot(0)]], "agree in number"),
        ([], "agree in number"),
        ([[]], "agree in number"),
        ([[shot(0, 17), shot(1)]], "hold 6 latent frames"),
        ([[shot(0, 5), shot(1)]], r"8k \+ 1, got 5"),
    ],
)
def test_sets_that_cannot_be_filmed_are_refused_by_name(sets: list[list[ShotRequest]], told: str) -> None:
    with pytest.raises(RequestRejected, match=told):
        sample_sets(model(ADDED), sets, SETTINGS)


def test_checkpoints_that_cannot_are_refused() -> None:
    with pytest.raises(RequestRejected, match="starts from a picture"):
        sample_sets(model("i2v-5b"), [[shot(0), shot(1)]], SETTINGS)
    with pytest.raises(RequestRejected, match="expected CogVideoX or Wan"):
        sample_sets(take_apart(tiny_ltx_pipeline("t2v")), [[shot(0), shot(1)]], SETTINGS)


def test_settings_that_are_none_are_refused_with_the_choices() -> None:
    with pytest.raises(RequestRejected, match="v1, v2, v3, v4, v5"):
        SceneSettings(mask="v7")  # type: ignore[arg-type]
    with pytest.raises(RequestRejected, match="noised, clean"):
        SceneSettings(context="dirty")  # type: ignore[arg-type]
    with pytest.raises(RequestRejected, match="at least 2"):
        ChainSettings(window=1)
    with pytest.raises(RequestRejected, match="pixels or latents"):
        ChainSettings(reads="dreams")  # type: ignore[arg-type]
    with pytest.raises(RequestRejected, match="at the beginning"):
        list(sample_chain(model(ROTATED), [shot(0), finished(1)], SETTINGS))


def test_a_cache_that_skips_blocks_is_refused() -> None:
    from diffusers.hooks import FirstBlockCacheConfig

    ours = CogVideoXVideoModel.from_pipeline(tiny_cogvideox_pipeline(ROTATED))
    ours.network.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(ControlRejected, match="disable_cache"):
        sample_sets(ours, [[shot(0), shot(1)]], SETTINGS)


def test_finished_latents_of_another_shape_are_refused() -> None:
    with pytest.raises(RequestRejected, match="expected latents"):
        sample_sets(model(ROTATED), [[shot(0), shot(1)]], SETTINGS, finished={0: torch.zeros(1, 4, 2, 4, 4)})


def test_text_of_a_set_is_each_prompt_by_itself() -> None:
    ours = model(ROTATED)
    joined: Text = ours.of_sets([ours.layout(9, SIDE, SIDE)] * 2, SceneSettings()).encode(["A fox.", "A cat."], None)
    alone = [ours.encode([prompt], None).cond for prompt in ("A fox.", "A cat.")]
    assert (joined.cond - torch.cat(alone, dim=1)).abs().max() < 1e-5
