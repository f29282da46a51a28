"""What every backend does around its frames: refuse what it cannot film, and judge the seams of what it filmed."""

from __future__ import annotations

from generators.clip import Clip, Frames, Limits, ShotRequest, check_size
from generators.errors import RequestRejected
from generators.seams import check_given, seam_jump, seam_notes


def check_limits(request: ShotRequest, limits: Limits) -> None:
    """Raise RequestRejected for a size or length that no clip of this backend can have."""
    check_size(limits, request.width, request.height)
    if (request.frames - 1) % limits.frame_step:
        raise RequestRejected(f"frames: expected {limits.frame_step}k + 1, got {request.frames}")
    if request.given and not limits.extends:
        raise RequestRejected("given: this backend cannot go on from finished frames")
    if limits.needs_picture and not any(given.first == 0 for given in request.given):
        raise RequestRejected("given: this checkpoint starts every clip from a picture; expected a given frame 0")
    check_given(request.given, request.frames, request.height, request.width)


def make_clip(
    request: ShotRequest,
    frames: Frames,
    *,
    model: str,
    composition: tuple[str, ...],
    seconds_spent: float,
    weights: str | None = None,
    notes: tuple[str, ...] = (),
) -> Clip:
    """The clip of a request whose given frames stand in `frames` already."""
    jump = seam_jump(frames, request.given)
    return Clip(
        frames=frames,
        fps=request.fps,
        seed=request.seed,
        model=model,
        composition=composition,
        seconds_spent=seconds_spent,
        notes=notes + seam_notes(jump),
        seam_jump=jump,
        weights=weights,
    )
