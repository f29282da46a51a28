"""Steers when two events happen in one clip of a plain diffusers pipeline, by separable attention (TS-Attn).

python examples/steer_ts_attn.py MODEL CLIP.mp4

MODEL is a folder or hub id of a Wan, LTX or CogVideoX pipeline.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from a clone that is not installed

import torch
from diffusers import DiffusionPipeline
from diffusers.utils.export_utils import export_to_video

from generators.clip import Event, ShotRequest
from generators.controls.config import TSAttn
from generators.models.loading import take_apart
from generators.sampler import Settings, sample

PROMPT = "A red fox jumps over a wooden box, then the fox walks home."
EVENTS = (
    Event(subject="fox", phrase="jumps over a wooden box", start=0.0, end=2.0),
    Event(subject="fox", phrase="walks home", start=2.0, end=5.0625),
)


def steer(pipe: Any, *, frames: int = 81, fps: int = 16, width: int = 832, height: int = 480, steps: int = 40) -> Any:
    """The clip's frames, (frames, 3, height, width) in [0, 1]."""
    model = take_apart(pipe)
    shot = ShotRequest(prompt=PROMPT, events=EVENTS, controls=(TSAttn(),), frames=frames, fps=fps, width=width,
                       height=height, seed=42)  # fmt: skip
    clip = sample(model, [shot], Settings(steps=steps, guidance=4.0, guidance_2=3.0))
    return model.decode(clip.latents)[0]


if __name__ == "__main__":
    loaded = DiffusionPipeline.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
    with torch.no_grad():
        video = steer(loaded.to("cuda" if torch.cuda.is_available() else "cpu"))
    export_to_video(list(video.permute(0, 2, 3, 1).float().cpu().numpy()), sys.argv[2], fps=16)
