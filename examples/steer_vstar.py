"""Films a plain diffusers pipeline with VSTAR: the text follows the clip, and frames are drawn to their neighbours.

python examples/steer_vstar.py MODEL CLIP.mp4 [SIDE [STEPS]]

MODEL is a folder or hub id of a ModelScope text-to-video, AnimateDiff, Wan or LTX pipeline.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from a clone that is not installed

import torch
from diffusers import DiffusionPipeline

from generators.clip import ShotRequest
from generators.controls.config import VSTAR
from generators.models.loading import take_apart
from generators.sampler import Settings, sample
from generators.video import write_take


def film(model: str, clip: Path, side: int = 256, steps: int = 25) -> None:
    """Load a pipeline, take it apart, list the controls, sample, decode."""
    ours = take_apart(DiffusionPipeline.from_pretrained(model))
    control = VSTAR(synopsis=("a bud on a branch", "a flower opens", "a flower in full bloom"))
    request = ShotRequest(
        prompt="a flower blooms",
        frames=16 if ours.stride == 1 else 17,
        fps=8,
        width=side,
        height=side,
        seed=7,
        controls=(control,),
    )
    taken = sample(ours, [request], Settings(steps=steps, guidance=9.0))
    with torch.no_grad():
        video = ours.decode(taken.latents)[0]
    write_take(clip, (video.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy(), 8)


if __name__ == "__main__":
    film(sys.argv[1], Path(sys.argv[2]), *(int(word) for word in sys.argv[3:]))
