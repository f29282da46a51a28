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
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from agents.captions import label, seen_interval
from agents.editor import FILM, Figure, FilmFiles, FilmPlan, Scene, why_missing
from agents.errors import EditError
from agents.reel import THUMB_WIDTH, Piece, load
from generators.clip import Frames
from generators.pictures import strip_jpeg, thumbnails
from generators.seams import seam_verdict
from storage.records import RunRecord, TakeRecord
from storage.tables import ModelCall, TakeStatus, Verdict

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
    done: bool
    judged: bool
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
    status: str
    facts: tuple[str, ...]
    strip: str | None
    columns: int
    error: str
    verdict: str
    marks: tuple[tuple[str, bool], ...]
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
    """One shot as the page shows it. `chosen` is None where the shot is missing."""

    label: str
    prompt: str
    facts: tuple[str, ...]
    rewording: str
    seconds: float
    ticks: tuple[tuple[int, float], ...]
    events: tuple[EventView, ...]
    seen: int
    chosen: TakeView | None
    takes: tuple[TakeView, ...]
    figures: tuple[FigureView, ...]
    missing: str


@dataclass(frozen=True, kw_only=True)
class CallsView:
    """The calls of one role to one model."""

    role: str
    model: str
    count: int
    problems: int
    tokens_in: int
    tokens_out: int
    money: float
    seconds: float


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
        calls=_calls(record.calls),
        costs=record.costs,
        filmed=sum(t.take.seconds_spent for t in record.takes),
        judged=sum(t.verdict.seconds_spent for t in record.takes if t.verdict),
        take_count=len(record.takes),
        errors=_run_errors(record),
        options=sorted((key, _short(value)) for key, value in record.run.options.items()),
        versions=sorted(versions.items()),
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    folder = FileSystemLoader(Path(__file__).parent / "templates")
    engine = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters["clock"] = _clock
    return engine.get_template("report.html.j2")


def _shot_view(plan: FilmPlan, scene: Scene) -> ShotView:
    shot = scene.shot.shot
    takes = tuple(_take_view(plan, scene, t) for t in plan.record.takes if t.label == scene.shot.label)
    chosen = next((view for view in takes if view.chosen), None)
    events = chosen.events if chosen else _event_views(scene, None)
    facts = [f"{shot.seconds:g} s", shot.camera, shot.transition, *([shot.place] if shot.place else [])]
    facts += [f"at {_clock(scene.placed.begins)}"] if scene.placed else []
    return ShotView(
        label=scene.shot.label,
        prompt=shot.prompt,
        facts=(*facts, *shot.subjects),
        rewording=f"revision {shot.revision}: {shot.reason}" if shot.revision > 1 else "",
        seconds=shot.seconds,
        ticks=tuple((second, 100 * second / shot.seconds) for second in range(int(shot.seconds) + 1)),
        events=events,
        seen=sum(event.done for event in events),
        chosen=chosen,
        takes=takes,
        figures=tuple(_figure_view(figure) for figure in plan.figures if figure.shot == scene.shot.label),
        missing="" if chosen else why_missing(scene, plan.record.takes),
    )


def _take_view(plan: FilmPlan, scene: Scene, record: TakeRecord) -> TakeView:
    take, verdict, remedy = record.take, record.verdict, record.remedy
    chosen = scene.take is not None and scene.take.take.id == take.id
    thumbs = scene.placed.thumbs if chosen and scene.placed else _thumbs(plan, record)
    events = _event_views(scene, record)
    facts = [
        *([str(take.request["staged"])] if take.request.get("staged") else []),
        f"seed {take.seed}",
        take.model,
        f"{take.seconds_spent:.1f} s to film",
        *map(_control, take.controls),
    ]
    facts += [seam_verdict(take.seam_jump)] if take.seam_jump is not None else []
    facts += [f"revision {record.shot.revision}"] if record.shot.revision > 1 else []
    return TakeView(
        number=take.number,
        chosen=chosen,
        status=take.status.value,
        facts=tuple(facts),
        strip=_data_uri("image/jpeg", strip_jpeg(thumbs)) if thumbs is not None else None,
        columns=len(thumbs) if thumbs is not None else 0,
        error=take.error or "",
        verdict=_judged(verdict) if verdict else "",
        marks=tuple((event.label, event.done) for event in events) if verdict else (),
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
    length = scene.shot.shot.seconds
    views = []
    for index, event in enumerate(scene.shot.promised):
        judged: dict[str, Any] = verdict.events[index] if verdict and index < len(verdict.events) else {}
        seen = seen_interval(verdict, index)
        done = bool(judged.get("done"))
        views.append(
            EventView(
                label=label(scene.shot, event),
                subject=event.subject,
                phrase=event.phrase,
                done=done,
                judged=bool(judged),
                promised=f"{event.start:.1f}–{event.end:.1f} s",
                promised_bar=_span(event.start, event.end, length),
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


def _calls(calls: Sequence[ModelCall]) -> list[CallsView]:
    groups: dict[tuple[str, str], list[ModelCall]] = {}
    for call in calls:
        groups.setdefault((call.role, call.model), []).append(call)
    return [
        CallsView(
            role=role,
            model=model,
            count=len(group),
            problems=sum(call.status in ("failed", "unknown") for call in group),
            tokens_in=sum(call.tokens_in for call in group),
            tokens_out=sum(call.tokens_out for call in group),
            money=sum(call.cost for call in group),
            seconds=sum(call.seconds for call in group),
        )
        for (role, model), group in sorted(groups.items())
    ]


def _run_errors(record: RunRecord) -> list[str]:
    """The run's own error and those of calls, each once."""
    said = [record.run.error, *(f"{call.role}: {call.error}" for call in record.calls if call.error)]
    return list(dict.fromkeys(error for error in said if error))


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


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
