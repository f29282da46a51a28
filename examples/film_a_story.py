"""Films a story from Python and tells what happens while it happens.

python examples/film_a_story.py examples/the-robot-on-the-beach.txt [PROFILE]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from a clone that is not installed

from fabula import FilmResult, Studio, progress


async def film(story: Path, profile: str | None) -> FilmResult | None:
    """Film the story; one line for every take and every verdict."""
    with Studio(profile) as studio:
        async for event in studio.stream(story):
            match event:
                case progress.TakeDone():
                    print(f"shot {event.shot}, take {event.take}: filmed in {event.seconds:.1f} s")
                case progress.Judged():
                    seen = sum(bool(verdict.done) for verdict in event.events)
                    print(f"shot {event.shot}, take {event.take}: {seen} of {len(event.events)} events seen")
                case FilmResult():
                    return event
    return None


if __name__ == "__main__":
    result = asyncio.run(film(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
    if result is not None:
        print(f"\n{result.title}: {result.film}\n{result.report}")
        for event in result.unseen:
            print(f"not seen: {event.phrase} ({event.evidence})")
