"""Gives the motion of a clip to another prompt on a plain diffusers pipeline: Motion by Queries in five lines.

python examples/steer_motion_queries.py Wan-AI/Wan2.1-T2V-1.3B-Diffusers horse.mp4 "A robot dog runs on the moon."
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from a clone that is not installed

import torch
from diffusers import WanPipeline

from generators.clip import Frames, ShotRequest
from generators.controls.config import MotionQueries
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, sample


def film(
    pipe: WanPipeline, source: Frames, prompt: str, *, frames: int, width: int, height: int, steps: int
) -> torch.Tensor:
    """A video (1, frames, 3, height, width) of the prompt that moves as the source (frames, height, width, 3) does."""
    model = WanVideoModel.from_pipeline(pipe)
    motion = MotionQueries(frames=source)
    request = ShotRequest(prompt=prompt, frames=frames, fps=16, width=width, height=height, seed=7, controls=(motion,))
    with torch.no_grad():
        return model.decode(sample(model, [request], Settings(steps=steps, guidance=6.0)).latents)


if __name__ == "__main__":
    from diffusers.utils import export_to_video

    from generators.video import read_take

    pipe = WanPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.bfloat16)
    pipe.enable_model_cpu_offload()
    source, _ = read_take(Path(sys.argv[2]))
    video = film(pipe, source, sys.argv[3], frames=49, width=832, height=480, steps=50)
    export_to_video(list(video[0].permute(0, 2, 3, 1).float().cpu().numpy()), "moved.mp4", fps=16)
    print("moved.mp4")
