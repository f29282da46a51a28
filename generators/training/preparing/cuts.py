"""Where shots begin and end in a long video, by PySceneDetect's content detector. Knows no training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from generators.errors import MediaError, TrainingError

MISSING = (
    "finding cuts needs PySceneDetect, which is not installed: pip install --editable '.[train]' "
    "(it takes the headless OpenCV and no other torch)"
)


@dataclass(frozen=True, kw_only=True)
class CutSettings:
    """How much a picture must change to be a cut, and the shortest shot. PySceneDetect's own defaults."""

    threshold: float = 27.0
    """Mean change of hue, saturation and brightness, 0 to 255."""
    shortest: int = 15
    """Frames."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 255:
            raise ValueError(f"CutSettings.threshold: expected more than 0 and at most 255, got {self.threshold}")
        if self.shortest < 1:
            raise ValueError(f"CutSettings.shortest: expected at least 1 frame, got {self.shortest}")


def find_shots(video: Path, settings: CutSettings) -> list[tuple[int, int]]:
    """First frame and the frame after the last of every shot, in order; one shot where there is no cut.

    Raises TrainingError without PySceneDetect, MediaError for what is no video.
    """
    try:
        from scenedetect import ContentDetector, VideoOpenFailure, detect
    except ImportError as error:
        raise TrainingError(MISSING) from error
    detector = ContentDetector(threshold=settings.threshold, min_scene_len=settings.shortest)
    try:
        found = detect(str(video), detector, start_in_scene=True)
    except (VideoOpenFailure, OSError) as error:
        raise MediaError(f"{video} is not a readable video: {error}") from error
    return [(first.frame_num, last.frame_num) for first, last in found]
