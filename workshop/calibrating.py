"""Calibrating a critic from Python: run it on clips of known truth, choose its threshold, write the file it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agents.errors import UsageError
from agents.profile import MINDS
from workshop.evaluations import RESULTS

if TYPE_CHECKING:
    from agents.calibration import Calibration, Released
    from agents.profile import Profile
    from evals.calibration import Panel
    from evals.suite import Progress, Result


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """What was found, the file that the critic will read, and the table with its rows."""

    calibration: Calibration
    file: Path
    table: Result


def calibrate(
    profile: str = "bundled",
    *,
    clips: int = 32,
    seed: int = 0,
    most_false: float = 0.05,
    verdicts: Path | None = None,
    prompts: Path | None = None,
    videos: Path | None = None,
    judged: str | None = None,
    into: Path | None = None,
    out: Path | None = None,
    environment: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> CalibrationResult:
    """Show the profile's critic `clips` rendered clips with right and wrong words; goes on where `out` stopped.

    `most_false` bounds the false acceptance of the threshold. `verdicts` and `prompts` are StoryEval's released flags
    and prompts; with `videos`, a folder of the clips of one of its models, the critic is held against the flags that
    `judged` (`hailuo/gpt4o`) gave them. The file goes `into` a folder, by default the one that critics read. Raises
    UsageError.
    """
    from agents.calibration import CALIBRATIONS, write_calibration
    from agents.casting import profile_for
    from agents.order import Order
    from evals.calibration import Calibrating, CalibrationSettings, calibration_of
    from evals.results import read_method
    from evals.suite import finish, run, slug

    try:
        settings = CalibrationSettings(clips=clips, seed=seed, most_false=most_false)
    except ValueError as error:
        raise UsageError(f"eval calibrate: {error}") from error
    if (videos is None) != (judged is None) or (videos is not None and verdicts is None):
        raise UsageError("eval calibrate: --videos and --judged go together, and with --verdicts")
    released = _released(verdicts, prompts)
    with _panel(profile_for(Order(story=""), profile, None), environment or {}) as panel:
        benchmark = Calibrating(settings, panel)
        table = finish(run(benchmark, benchmark.footage(), out or RESULTS, seed), on_progress)
        shown = {unit.name for unit in benchmark.units()}
        facts = {row["unit"]: row["facts"] for row in read_method(table.folder).rows if row["unit"] in shown}
        found = calibration_of(facts, panel.critic, settings, released)
        if verdicts is not None and videos is not None and judged is not None:
            row = _against(panel, (verdicts, _prompts(verdicts, prompts), videos, judged), found, out, on_progress)
            found = found.model_copy(update={"released": (row, *found.released)})
    file = (into or CALIBRATIONS) / f"{slug(found.critic)}.json"
    write_calibration(file, found)
    return CalibrationResult(calibration=found, file=file, table=table)


def _released(verdicts: Path | None, prompts: Path | None) -> tuple[Released, ...]:
    if verdicts is None:
        return ()
    from evals.calibration_released import released_agreement

    try:
        return released_agreement(verdicts, _prompts(verdicts, prompts))
    except (OSError, ValueError) as error:
        raise UsageError(f"eval calibrate: {verdicts}: {error}") from error


def _prompts(verdicts: Path, prompts: Path | None) -> Path:
    return prompts or verdicts.with_name("all_prompts.json")


def _against(
    panel: Panel,
    asked: tuple[Path, Path, Path, str],
    found: Calibration,
    out: Path | None,
    on_progress: Callable[[Progress], None] | None,
) -> Released:
    """The critic on the clips of one of StoryEval's models, at its threshold; (verdicts, prompts, videos, judged)."""
    from evals.calibration import read_readings
    from evals.calibration_released import AgainstReleased
    from evals.footage import FolderFootage
    from evals.results import read_method
    from evals.suite import finish, run

    verdicts, prompts, videos, judged = asked
    if not videos.is_dir():
        raise UsageError(f"--videos: expected a folder of videos, got {videos}")
    try:
        benchmark = AgainstReleased(panel, verdicts, prompts, judged)
    except (OSError, ValueError) as error:
        raise UsageError(f"eval calibrate: {error}") from error
    footage = FolderFootage(folder=videos, name=panel.critic.name)
    table = finish(run(benchmark, footage, out or RESULTS), on_progress)
    return benchmark.row(read_readings(row["facts"] for row in read_method(table.folder).rows), found.threshold)


@contextmanager
def _panel(profile: Profile, environment: Mapping[str, str]) -> Iterator[Panel]:
    """The profile's critic without the threshold that is to be found."""
    from agents.calibration import Uncalibrated
    from evals.calibration import Panel

    unknown = Uncalibrated(reason="it is being calibrated")
    if profile.critic.kind == "world":
        from evals.world.critic import WorldCritic

        with closing(Panel(WorldCritic(belief=unknown))) as panel:
            yield panel
        return
    if profile.critic.kind not in MINDS:
        raise UsageError(f"eval calibrate: profile {profile.name} has no critic to calibrate: {profile.critic.kind!r}")
    from agents.critic import CriticOptions, ModelCritic
    from agents.minds import Minds

    minds = Minds(profile, environment)
    options = CriticOptions(votes=profile.critic.votes, most_frames=profile.critic.most_frames)
    critic = ModelCritic(minds.of("critic"), options, unknown)
    with closing(Panel(critic, minds.close)) as panel:
        yield panel
