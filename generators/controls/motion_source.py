"""The clip whose motion is wanted, as the model can look at it: made to fit, encoded, noised, passed once.

Knows nothing of what is heard in such a pass: that is `motion_queries`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from generators.clip import Frames, Given
from generators.controls.base import Alone, Shot
from generators.controls.config import MotionQueries
from generators.errors import ControlRejected
from generators.models.base import Branch, SeesClips, VideoModel
from generators.models.stepping import Stepper

OTHER_SEED = 1_000_003
"""What is added to the request's seed for noise that is not its own."""


class Watching(VideoModel, SeesClips, Protocol):
    """A model that can be shown a clip."""


class SourceClip:
    """The source under the model's eyes. Its noise is the same at all levels."""

    def __init__(self, model: Watching, frames: Frames, shot: Shot, settings: MotionQueries, alone: Alone) -> None:
        self.model, self.shot, self.alone = model, shot, alone
        seed = settings.seed
        if not isinstance(seed, int):
            seed = shot.request.seed + (0 if seed == "request" else OTHER_SEED)
        bare = replace(shot.request, seed=seed, given=(), controls=())
        with torch.no_grad():
            self.text = model.encode([settings.prompt], None)
            self.start = model.start([bare], shot.layout)
            self.holds_given = self.start.channels is None
            """Whether given frames are held in the latents; other checkpoints start from the source's first picture."""
            if not self.holds_given:
                self.start = model.start([replace(bare, given=(Given(first=0, frames=frames[:1]),))], shot.layout)
            self.clean = self._settled(model.encode_clip(frames).to(self.start.noise), settings.renoise or 0)

    def look(self, i: int) -> None:
        """The conditional pass of the source at the noise level of step i: who listens hears what it asks."""
        stepper = self._stepper()
        with torch.no_grad():
            self._predict(stepper, stepper.noised(self.clean, self.start.noise, i), i)

    def _settled(self, clean: Tensor, steps: int) -> Tensor:
        """The latents noised to the level of the last steps and denoised again, without guidance.

        DDIM's steps with eta 0, whatever the model's own scheduler: what each pass foresees, on the noise it implies.
        """
        if not 0 <= steps <= self.shot.steps:
            raise ControlRejected(f"MotionQueries.renoise: expected at most {self.shot.steps} steps, got {steps}")
        noise = self.start.noise
        for i in range(self.shot.steps - steps, self.shot.steps):
            stepper = self._stepper()
            latents = stepper.noised(clean, noise, i)
            clean = stepper.clean(self._predict(stepper, latents, i), i, stepper.scaled(latents, i))
            nothing = torch.zeros_like(clean)
            noise = (latents - stepper.noised(clean, nothing, i)) / stepper.noised(nothing, nothing + 1, i)
        return clean

    def _stepper(self) -> Stepper:
        """A fresh one: some schedulers remember the step they scaled for."""
        return self.model.stepper(self.shot.steps, self.shot.layout)

    def _predict(self, stepper: Stepper, latents: Tensor, i: int) -> Tensor:
        shown, t = stepper.scaled(latents, i), stepper.timesteps[i]
        with self.alone():
            return self.model.predict(shown, t, self.text, (Branch.COND,), self.start)


def fitted(
    frames: Frames, count: int, height: int, width: int, timing: Literal["fit", "double", "exact"] = "fit"
) -> Frames:
    """A clip as so many frames of a size: cut to the shape about its middle, scaled, and timed as asked.

    `fit` shows at i the frame nearest to the same share of the clip; `double` shows each twice and the last once more.
    Raises ControlRejected where `double` or `exact` do not come to the count.
    """
    made = {"fit": count, "double": 2 * len(frames) + 1, "exact": len(frames)}[timing]
    if made != count:
        raise ControlRejected(
            f"MotionQueries.timing={timing!r}: {len(frames)} frames make {made}, but the new clip has {count}; "
            "film that many, or use 'fit'"
        )
    places = {
        "fit": np.rint(np.linspace(0, len(frames) - 1, count)).astype(int),
        "double": np.minimum(np.arange(count) // 2, len(frames) - 1),
        "exact": np.arange(count),
    }[timing]
    _, high, wide, _ = frames.shape
    scale = min(high / height, wide / width)
    left, top = (wide - width * scale) / 2, (high - height * scale) / 2
    box = (left, top, left + width * scale, top + height * scale)
    if (high, wide) == (height, width):
        return np.ascontiguousarray(frames[places])
    sized = {
        place: np.asarray(Image.fromarray(frames[place]).resize((width, height), Image.Resampling.LANCZOS, box=box))
        for place in sorted(set(places.tolist()))
    }
    return np.stack([sized[place] for place in places.tolist()])
