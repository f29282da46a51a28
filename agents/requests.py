"""From a take as plain data to what a backend is asked: pixels are read from the archive, and the whole gets a digest.

Knows rows and files; films nothing and decides nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from agents.motion import shown
from agents.takespec import Kept, TakeSpec
from generators.clip import Frames, Given, ShotRequest
from generators.errors import MediaError
from generators.stills import first_frame
from generators.video import read_take
from storage.archive import Archive


class TakeLost(Exception):
    """A take's file is not there as it was written; it is filmed again."""

    def __init__(self, take: int) -> None:
        super().__init__(take)
        self.take = take


def request_of(archive: Archive, spec: TakeSpec) -> ShotRequest:
    """The request with its given frames read from their takes, its first one from its picture, and clips in motion.

    Raises TakeLost and MediaError for what is not there any more.
    """
    given = tuple(Given(first=kept.at, frames=_frames(archive, kept)) for kept in spec.kept)
    if spec.picture is not None:
        given = (Given(first=0, frames=_still(archive, spec, spec.picture)), *given)
    return shown(replace(plain_request(spec), given=given), archive)


def plain_request(spec: TakeSpec) -> ShotRequest:
    """The request of a take without its given frames, and with clips named instead of shown."""
    return ShotRequest(
        prompt=spec.prompt,
        frames=spec.frames,
        fps=spec.fps,
        width=spec.width,
        height=spec.height,
        seed=spec.seed,
        events=spec.events,
        steps=spec.steps,
        guidance=spec.guidance,
        guidance_2=spec.guidance_2,
        controls=spec.controls,
    )


def take_digest(request: ShotRequest, spec: TakeSpec, anchors: Sequence[ShotRequest] = ()) -> str:
    """sha256 of the whole take: its request, what follows in it, and the anchors of the set it is filmed in."""
    own = request.digest()
    if spec.then is None and spec.together is None:
        return own
    whole: list[object] = [own]
    if spec.then is not None:
        whole.append(spec.then.to_json())
    if spec.together is not None:
        whole += [spec.together.words, [anchor.digest() for anchor in anchors]]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _frames(archive: Archive, kept: Kept) -> Frames:
    take = archive.take(kept.take)
    path = archive.take_file(take)
    if path is None:
        raise TakeLost(take.id)
    return read_take(path)[0][kept.first : kept.last]


def _still(archive: Archive, spec: TakeSpec, sha256: str) -> Frames:
    path = archive.picture(sha256)
    if path is None:
        raise MediaError(
            f"The picture {sha256[:16]} that shots start from is altered or gone from "
            f"{archive.media.folder}: run the story again with the same --first-frame, which puts it back"
        )
    return first_frame(path.read_bytes(), path.name, width=spec.width, height=spec.height)
