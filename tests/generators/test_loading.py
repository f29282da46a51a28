from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from generators.errors import BackendUnavailable
from generators.models.loading import class_of, made_for, open_model, take_apart
from generators.models.tiny import tiny_pipeline, tiny_wan
from generators.models.tiny_cogvideox import tiny_cogvideox, tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx, tiny_ltx_pipeline
from generators.models.tiny_skyreels import tiny_skyreels, tiny_skyreels_pipeline


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "kind", "pipeline", "family"),
    [
        (tiny_wan, "t2v-2.1", "WanPipeline", "WanVideoModel"),
        (tiny_wan, "i2v-2.1", "WanImageToVideoPipeline", "WanVideoModel"),
        (tiny_cogvideox, "t2v-2b", "CogVideoXPipeline", "CogVideoXVideoModel"),
        (tiny_cogvideox, "i2v-1.5", "CogVideoXImageToVideoPipeline", "CogVideoXVideoModel"),
        (tiny_ltx, "t2v", "LTXPipeline", "LTXVideoModel"),
        (tiny_ltx, "i2v", "LTXImageToVideoPipeline", "LTXVideoModel"),
        (tiny_ltx, "condition", "LTXConditionPipeline", "LTXVideoModel"),
        (tiny_skyreels, "df", "SkyReelsV2DiffusionForcingPipeline", "SkyReelsVideoModel"),
        (tiny_skyreels, "df-i2v", "SkyReelsV2DiffusionForcingImageToVideoPipeline", "SkyReelsVideoModel"),
        (tiny_skyreels, "df-v2v", "SkyReelsV2DiffusionForcingVideoToVideoPipeline", "SkyReelsVideoModel"),
        (tiny_skyreels, "t2v", "SkyReelsV2Pipeline", "SkyReelsVideoModel"),
        (tiny_skyreels, "i2v", "SkyReelsV2ImageToVideoPipeline", "SkyReelsVideoModel"),
    ],
)
def test_a_folder_opens_as_its_own_family(write: Any, kind: str, pipeline: str, family: str, tmp_path: Path) -> None:
    folder = str(write(kind, tmp_path / "model"))
    opened = open_model(folder)
    assert class_of(folder) == pipeline
    assert (type(opened).__name__, opened.name) == (family, folder)


def test_parts_come_in_the_dtype_asked_for(tmp_path: Path) -> None:
    cog: Any = open_model(str(tiny_cogvideox("t2v-5b", tmp_path / "cog")), dtype=torch.bfloat16)
    wan: Any = open_model(str(tiny_wan("t2v-2.1", tmp_path / "wan")), dtype=torch.bfloat16)
    assert (cog.pipe.transformer.dtype, cog.pipe.vae.dtype) == (torch.bfloat16, torch.bfloat16)
    assert (wan.pipe.transformer.dtype, wan.pipe.vae.dtype) == (torch.bfloat16, torch.float32)


def test_an_unsupported_class_is_named_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "MochiPipeline"}))
    with pytest.raises(BackendUnavailable, match="is a MochiPipeline; expected one of WanPipeline, .*LTXPipeline"):
        open_model(str(tmp_path))


def test_a_folder_that_holds_no_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"nowhere.*model_index\.json"):
        open_model(str(tmp_path / "nowhere"))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = tiny_ltx("t2v", tmp_path / "ltx")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(BackendUnavailable, match="no diffusers pipeline could be loaded"):
        open_model(str(folder))


def test_options_of_another_family_are_refused(tmp_path: Path) -> None:
    folder = str(tiny_ltx("t2v", tmp_path / "ltx"))
    with pytest.raises(BackendUnavailable, match="expected options among .*decode_timestep.* got dynamic_guidance"):
        open_model(folder, dynamic_guidance=True)
    opened: Any = open_model(folder, decode_timestep=0.05)
    assert opened.decode_timestep == 0.05


def test_a_loaded_pipeline_is_taken_apart_by_its_class() -> None:
    assert type(take_apart(tiny_cogvideox_pipeline("t2v-2b"))).__name__ == "CogVideoXVideoModel"
    assert take_apart(tiny_ltx_pipeline("t2v"), name="mine").name == "mine"
    with pytest.raises(BackendUnavailable, match="is a dict"):
        take_apart({})


def test_each_model_says_what_it_was_made_for() -> None:
    first, later, picture, ltx, wan = (
        made_for(take_apart(pipe))
        for pipe in (
            tiny_cogvideox_pipeline("t2v-2b"),
            tiny_cogvideox_pipeline("t2v-1.5"),
            tiny_cogvideox_pipeline("i2v-5b"),
            tiny_ltx_pipeline("t2v"),
            tiny_pipeline("t2v-2.1"),
        )
    )
    assert [m.limits.frame_step for m in (first, later, ltx, wan)] == [8, 8, 8, 4]
    assert [m.limits.size_multiple for m in (first, later, ltx, wan)] == [16, 16, 32, 16]
    assert (first.guidance, ltx.guidance, wan.guidance) == (6.0, 3.0, 5.0)
    assert (first.limits.needs_picture, picture.limits.needs_picture) == (False, True)
    forcing, still = (made_for(take_apart(tiny_skyreels_pipeline(kind))) for kind in ("df", "i2v"))
    assert (forcing.limits.fps, forcing.guidance, forcing.limits.needs_picture) == (24, 6.0, False)
    assert (still.limits.frame_step, still.guidance, still.limits.needs_picture) == (4, 5.0, True)
    for made in (first, later, ltx, wan, forcing, still):
        assert all((count - 1) % made.limits.frame_step == 0 for count in made.limits.frame_counts)
