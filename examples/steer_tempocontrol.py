"""Times the words of a prompt on a plain diffusers pipeline: TempoControl in five lines.

python examples/steer_tempocontrol.py Wan-AI/Wan2.1-T2V-1.3B-Diffusers
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from a clone that is not installed

import torch
from diffusers import WanPipeline

from generators.clip import ShotRequest
from generators.controls.config import TempoControl, Word
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, sample

PROMPT = "An empty meadow. Suddenly a red fox appears and looks around."


def film(pipe: WanPipeline, *, frames: int, width: int, height: int, steps: int) -> torch.Tensor:
    """A video (1, frames, 3, height, width) in which the fox appears in the second half."""
    seconds = frames / 16
    model = WanVideoModel.from_pipeline(pipe)
    tempo = TempoControl(words=(Word(text="fox", seconds=((seconds / 2, seconds),)), Word(text="meadow")))
    request = ShotRequest(prompt=PROMPT, frames=frames, fps=16, width=width, height=height, seed=7, controls=(tempo,))
    with torch.no_grad():
        return model.decode(sample(model, [request], Settings(steps=steps, guidance=6.0)).latents)


if __name__ == "__main__":
    from diffusers.utils import export_to_video

    pipe = WanPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.bfloat16)
    pipe.enable_model_cpu_offload()
    video = film(pipe, frames=81, width=832, height=480, steps=50)
    export_to_video(list(video[0].permute(0, 2, 3, 1).float().cpu().numpy()), "fox.mp4", fps=16)
    print("fox.mp4")
