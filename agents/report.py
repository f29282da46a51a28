"""The report: one page that says what was promised, what was seen, what was tried and what it cost.

Self-contained: pictures and a small film are inlined, no script, nothing fetched. Every text on it is untrusted (a
story, a model's answer, a server's error) and escaped by the template engine. Decides nothing; it shows the rows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from agents.account import MONEY_DIGITS, account, told_seconds
from agents.captions import label, seen_interval
from agents.editor import FILM, Figure, FilmFiles, FilmPlan, Scene
from agents.errors import EditError
from agents.outcome import ShotOutcome, ShotState, tally
from agents.reel import THUMB_WIDTH, Piece, load
from agents.takespec import axis_of
from generators.clip import Frames
from generators.pictures import strip_jpeg, thumbnails
from generators.seams import seam_verdict
from storage.records import RunRecord, TakeRecord
from storage.tables import TakeStatus, Verdict

Became = Literal["seen", "not seen", "not judged", "not filmed"]
"""Of a promised event."""
LARGEST_INLINE = 12_000_000
"""A film of more bytes than this is linked instead of inlined."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A bar on a time axis, in per cent of the shot."""

    left: float
    width: float


@dataclass(frozen=True, kw_only=True)
class EventView:
    """One promised event and what became of it in one take."""

    label: str
    subject: str
    phrase: str
    became: Became
    promised: str
    promised_bar: Span
    seen: str
    seen_bar: Span | None
    confidence: str
    evidence: str


@dataclass(frozen=True, kw_only=True)
class TakeView:
    """One take: how it was asked for, what it looks like, what the critic said, what was changed after it."""

    number: int
    chosen: bool
    state: Literal["", "failed", "left unfinished"]
    facts: tuple[str, ...]
    strip: str | None
    columns: int
    error: str
    verdict: str
    marks: tuple[tuple[str, Became], ...]
    notes: tuple[str, ...]
    events: tuple[EventView, ...]
    remedy: str
    reason: str
    changes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FigureView:
    """Where the model looked while it filmed the take; without a picture, why there is none."""

    source: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class ShotView:
    """One shot as the page shows it. `chosen` is None where it was not filmed; `why` belongs to its state."""

    label: str
    prompt: str
    facts: tuple[str, ...]
    rewording: str
    seconds: float
    ticks: tuple[tuple[int, float], ...]
    events: tuple[EventView, ...]
    state: ShotState
    why: str
    tally: str
    whole: bool
    """Whether every promised event was seen."""
    chosen: TakeView | None
    takes: tuple[TakeView, ...]
    figures: tuple[FigureView, ...]


def render_report(plan: FilmPlan, scenes: Sequence[Scene], result: FilmFiles, versions: dict[str, str]) -> str:
    """The page as HTML text."""
    record = plan.record
    return _template().render(
        run=record.run,
        story=record.story,
        result=result,
        film=_film_source(result),
        film_name=FILM,
        shots=[_shot_view(plan, scene) for scene in scenes],
        missing=_missing([scene.outcome for scene in scenes]),
        spent=account(record),
        finished=sum(t.take.status == TakeStatus.DONE for t in record.takes),
        begun=len(record.takes),
        errors=_call_errors(record),
        options=sorted((key, _short(value)) for key, value in record.run.options.items()),
        versions=sorted(versions.items()),
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    folder = FileSystemLoader(Path(__file__).parent / "templates")
    engine = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters["money"] = _money
    return engine.get_template("report.html.j2")


def _shot_view(plan: FilmPlan, scene: Scene) -> ShotView:
    shot = scene.shot.shot
    takes = tuple(_take_view(plan, scene, t) for t in plan.record.takes if t.label == scene.shot.label)
    chosen = next((view for view in takes if view.chosen), None)
    outcome, counted = scene.outcome, tally([scene.outcome])
    facts = [f"{shot.seconds:g} s", shot.camera, shot.transition, *([shot.place] if shot.place else [])]
    facts += [f"at {_clock(scene.placed.begins)}"] if scene.placed else []
    seconds, _ = axis_of(scene.shot, scene.take)
    return ShotView(
        label=scene.shot.label,
        prompt=scene.shot.first.prompt,
        facts=(*facts, *shot.subjects),
        rewording=f"revision {shot.revision}: {shot.reason}" if shot.revision > 1 else "",
        seconds=seconds,
        ticks=tuple((second, 100 * second / seconds) for second in range(int(seconds) + 1)),
        events=chosen.events if chosen else _event_views(scene, None),
        state=outcome.state,
        why=outcome.why,
        tally=counted.brief if outcome.state == "judged" else outcome.state,
        whole=counted.seen == counted.promised,
        chosen=chosen,
        takes=takes,
        figures=tuple(_figure_view(figure) for figure in plan.figures if figure.shot == scene.shot.label),
    )


def _missing(shots: Sequence[ShotOutcome]) -> list[str]:
    """What is not there to be told of, with its reason; where it is the same for all shots, said once."""
    said = {(shot.state, shot.why) for shot in shots}
    if len(said) == 1 and len(shots) > 1 and shots[0].state != "judged":
        return [f"No shot was {shots[0].state.removeprefix('not ')}: {shots[0].why}"]
    return [f"Shot {shot.label} was {shot.state}: {shot.why}" for shot in shots if shot.state != "judged"]


def _take_view(plan: FilmPlan, scene: Scene, record: TakeRecord) -> TakeView:
    take, verdict, remedy = record.take, record.verdict, record.remedy
    chosen = scene.take is not None and scene.take.take.id == take.id
    thumbs = scene.placed.thumbs if chosen and scene.placed else _thumbs(plan, record)
    events = _event_views(scene, record)
    finished, seconds = take.status == TakeStatus.DONE, told_seconds(take.seconds_spent)
    facts = [
        *([str(take.request["staged"])] if take.request.get("staged") else []),
        f"seed {take.seed}",
        take.model,
        *([f"{seconds:.1f} s to film"] if finished or seconds else []),
        *map(_control, take.controls),
    ]
    facts += [seam_verdict(take.seam_jump)] if take.seam_jump is not None else []
    facts += [f"revision {record.shot.revision}"] if record.shot.revision > 1 else []
    facts += [f"told as “{record.shot.prompt}”"] if record.shot.prompt != scene.shot.first.prompt else []
    return TakeView(
        number=take.number,
        chosen=chosen,
        state="" if finished else "failed" if take.status == TakeStatus.FAILED else "left unfinished",
        facts=tuple(facts),
        strip=_data_uri("image/jpeg", strip_jpeg(thumbs)) if thumbs is not None else None,
        columns=len(thumbs) if thumbs is not None else 0,
        error=take.error or "",
        verdict=_judged(verdict) if verdict else "",
        marks=tuple((event.label, event.became) for event in events) if verdict else (),
        notes=(*take.notes, *(verdict.notes if verdict else ())),
        events=events,
        remedy=remedy.kind.replace("_", " ") if remedy else "",
        reason=remedy.reason if remedy else "",
        changes=tuple(f"{key}: {_change(key, value)}" for key, value in remedy.changes.items()) if remedy else (),
    )


def _figure_view(figure: Figure) -> FigureView:
    return FigureView(source=_data_uri("image/png", figure.png) if figure.png else None, reason=figure.reason)


def _judged(verdict: Verdict) -> str:
    return f"identity {verdict.identity:.2f} · quality {verdict.quality:.2f} · {verdict.critic}"


def _event_views(scene: Scene, record: TakeRecord | None) -> tuple[EventView, ...]:
    verdict = record.verdict if record else None
    length, bars = axis_of(scene.shot, record)
    views = []
    for index, (event, bar) in enumerate(zip(scene.shot.promised, bars, strict=True)):
        judged: dict[str, Any] = verdict.events[index] if verdict and index < len(verdict.events) else {}
        seen, done = seen_interval(verdict, index), bool(judged.get("done"))
        became: Became = "not judged" if record else "not filmed"
        if judged.get("done") is not None:
            became = "seen" if done else "not seen"
        views.append(
            EventView(
                label=label(scene.shot, event),
                subject=event.subject,
                phrase=event.phrase,
                became=became,
                promised=f"{event.start:.1f}–{event.end:.1f} s",
                promised_bar=_span(*bar, length),
                seen=f"{seen[0]:.1f}–{seen[1]:.1f} s" if seen else ("at no measured time" if done else ""),
                seen_bar=_span(*seen, length) if seen else None,
                confidence=_percent(judged.get("confidence")),
                evidence=_short(judged.get("evidence") or ""),
            )
        )
    return tuple(views)


def _span(start: float, end: float, length: float) -> Span:
    left = min(max(start / length, 0.0), 1.0)
    return Span(left=round(100 * left, 2), width=round(100 * (min(max(end / length, left), 1.0) - left), 2))


def _thumbs(plan: FilmPlan, record: TakeRecord) -> Frames | None:
    """Small pictures of a take that is not in the film; None when its file is not what was kept."""
    take = record.take
    if take.status != TakeStatus.DONE or not take.file or not take.sha256:
        return None
    try:
        frames, _ = load(plan.media, Piece(shot=record.label, file=take.file, sha256=take.sha256))
    except EditError:
        return None  # the page then says that its pictures are gone
    return thumbnails(frames, plan.options.sheet_frames, THUMB_WIDTH)


def _film_source(result: FilmFiles) -> str | None:
    if result.film is None:
        return None
    if result.film.stat().st_size > LARGEST_INLINE:
        return FILM
    return _data_uri("video/mp4", result.film.read_bytes())


def _call_errors(record: RunRecord) -> list[str]:
    """What calls came back with in the place of an answer, each once."""
    return list(dict.fromkeys(f"{call.role}: {call.error}" for call in record.calls if call.error))


def _control(control: dict[str, Any]) -> str:
    told = {key: value for key, value in control.items() if key != "name" and value not in (None, [], "")}
    settings = ", ".join(f"{key} {_short(value)}" for key, value in told.items())
    return f"{control.get('name', 'control')} ({settings})" if settings else str(control.get("name", "control"))


def _change(key: str, value: Any) -> str:
    if key == "controls" and isinstance(value, list):
        return "; ".join(map(_control, value)) or "none"
    return _short(value)


def _short(value: object, longest: int = 400) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _percent(value: object) -> str:
    return f"{100 * value:.0f} %" if isinstance(value, (int, float)) else ""


def _money(value: float) -> str:
    """Without zeros at its end: some calls cost a hundredth of a cent, most cost nothing."""
    return f"{value:.{MONEY_DIGITS}f}".rstrip("0").rstrip(".")


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
