"""One batch of a set of shots that share a cast: both sweeps over its rows.

Rows are all shots as they are, then all steered, anchors first; anchors that were filmed before ride along in the steps
in which others read them. Knows nothing of other batches or of files.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from generators.anchors import Anchors, KeptAnchor
from generators.cast_plan import CastSettings, Plan
from generators.cast_rows import Moment, Row, RowSteppers, features_of, spans, start_of, text_of
from generators.clip import ShotRequest
from generators.controls.base import Control, Shot, attached
from generators.controls.motion_queries import noise_levels
from generators.controls.storyboarding import Seats, StoryboardSteering, storyboard
from generators.controls.storyboarding_config import Storyboarding
from generators.controls.storyboarding_maths import (
    FlowMaps,
    Refinement,
    matches,
    on_grid,
    refinement,
    resized,
    smoothed,
)
from generators.models.base import Start, Text, VideoModel
from generators.models.stepping import Stepper
from generators.sampler import OnStep, Settings, common_layout, controls_of, denoise


@dataclass(frozen=True, kw_only=True)
class CastSample:
    """A set's shots, in the order in which they were asked for."""

    latents: Tensor
    """(S, C, F, h, w) of the steered copies."""
    text: Text
    start: Start
    """Where they start; its generators are past the last step."""
    controls: tuple[tuple[Control, ...], ...]
    """Of each shot, as they stand after its last step."""
    compositions: tuple[tuple[str, ...], ...]
    """For each shot the digests of all requests of its batch, both copies, anchors first."""
    notes: tuple[str, ...]
    """What a person should know of the clips."""
    anchors: Anchors | None
    row_steps: int
    """Steps times the clips that took part in each: a plain batch has shots times steps."""
    map_bytes: int
    """Most bytes of correspondences held at once."""


class Batch:
    """One batch of a set: its own shots, and anchors that were filmed before and ride along.

    Rows are all shots as they are, then all steered, anchors first.
    """

    def __init__(
        self,
        model: VideoModel,
        requests: Sequence[ShotRequest],
        subjects: Sequence[str],
        settings: Settings,
        cast: CastSettings,
        riding: Anchors | None,
        told: OnStep,
        cancelled: threading.Event | None,
    ) -> None:
        self.model, self.settings, self.cast, self.told, self.cancelled = model, settings, cast, told, cancelled
        self.riding = riding.shots if riding else ()
        self.requests = [*(shot.request for shot in self.riding), *requests]
        self.subjects = [*(shot.subject for shot in self.riding), *subjects]
        self.count, self.anchors = len(self.requests), len(self.riding) or cast.anchors
        self.board = storyboard(self.requests, self.subjects, anchors=self.anchors, **cast.of_control)
        self.layout = common_layout(model, self.board)
        self.config = next(c for c in self.board[-1].controls if isinstance(c, Storyboarding))
        self.refined_level = StoryboardSteering(
            self.config, Shot.of(model, self.board[-1], settings.steps)
        ).refined_level
        """How often height and width are halved where outputs are refined."""
        self.refined_grid = self.layout.halved(self.refined_level).grid
        stepper = model.stepper(settings.steps, self.layout)
        self.plan = Plan(self.config, noise_levels(stepper), cast.keeps)
        self.row_steps = 0
        if riding is not None:
            riding.check(self._made(stepper))
        self._made_now = self._made(stepper)
        self._moments: Sequence[Moment] = ()

    @property
    def length(self) -> int:
        """Steps of all sweeps."""
        return len(self.plan.first) + len(self.plan.second)

    def film(self, keep: bool) -> CastSample:
        """Both sweeps; `keep` makes the anchors' own record."""
        with torch.no_grad():
            negatives = [r.negative_prompt for r in self.board] if self.settings.guidance > 1 else None
            self.text = self.model.encode([request.prompt for request in self.board], negatives)
            self.start = self.model.start(self.board, self.layout)
            first = self._rows(keep, sweep=0)
            states = self._sweep(first, self.plan.first, sweep=0)
            last, found, features = first, None, None
            if self.plan.second:
                assert states is not None
                features = self._features(states)
                found = self._found(features, first)
                last = self._again(first, found, keep)
                self._sweep(last, self.plan.second, sweep=1)
            kept = self._kept(first, last, features, found) if keep else None
        own = range(self.count + len(self.riding), 2 * self.count)
        composition = tuple(request.digest() for request in self.board)
        return CastSample(
            latents=torch.cat([last[i].latents for i in own]),
            text=text_of(self.text, own),
            start=start_of(self.start, own),
            controls=tuple(tuple(last[i].controls) for i in own),
            notes=self.start.notes + tuple(dict.fromkeys(n for i in own for c in last[i].controls for n in c.notes)),
            compositions=tuple(composition for _ in own),
            anchors=kept,
            row_steps=self.row_steps,
            map_bytes=sum(maps.bytes for i in own if (maps := _steering(first[i]).maps) is not None),
        )

    def _rows(self, keep: bool, sweep: int) -> list[Row]:
        """Rows at their start, with fresh controls."""
        rows = []
        for i, request in enumerate(self.board):
            stepper = self.model.stepper(self.settings.steps, self.layout)
            shot, steered = i % self.count, i >= self.count
            rows.append(
                Row(
                    controls=controls_of(self.model, request, self.settings),
                    stepper=stepper,
                    latents=stepper.begin(self.start.noise[i : i + 1]),
                    generator=self.start.generators[i] if self.start.generators else None,
                    follows=self._followed(shot, steered, sweep),
                    kept_steps=self.plan.read if keep and shot < self.anchors else (),
                )
            )
        for shot in range(self.count):
            steering = _steering(rows[self.count + shot])
            steering.in_sweeps = True
            if shot < len(self.riding):
                steering.sight.known(self.riding[shot].masks)
            elif self.cast.keeps == "flow maps":
                steering.maps, steering.keeps_from = FlowMaps(), self.plan.second.start
        return rows

    def _followed(self, shot: int, steered: bool, sweep: int) -> Mapping[int, Tensor] | None:
        if shot >= len(self.riding):
            return None
        return self.riding[shot].sweeps[sweep] if steered else self.riding[shot].plain

    def _sweep(self, rows: list[Row], steps: range, sweep: int) -> Tensor | None:
        """All steps of a sweep; own steered rows' features (rows, F, C, h, w) at its last step, if wanted."""
        states = None
        cuts = {self.plan.second.start, self.plan.feature} if self.plan.second and sweep == 0 else set()
        for span in spans(steps, lambda step: self._ride(step, sweep), cuts):
            if self.plan.second and sweep == 0 and span.start == self.plan.second.start:
                self._moments = [row.moment() for row in rows]
            hear = bool(self.plan.second) and sweep == 0 and span.start == self.plan.feature
            states = self._span(rows, self._ride(span.start, sweep), span, hear=hear)
        return states

    def _ride(self, step: int, sweep: int) -> tuple[int, ...]:
        """Numbers of the rows that take part in a step."""
        plain = self.plan.rides_plain(step, sweep)
        riding = len(self.riding) if step in (self.plan.shared | (self.plan.refined if sweep else frozenset())) else 0
        asked = step in self.plan.queried
        anchors = [*(range(riding) if asked else ())], [self.count + i for i in range(riding)]
        own = range(len(self.riding), self.count)
        return (*anchors[0], *(own if plain else ()), *anchors[1], *(self.count + i for i in own))

    def _span(self, rows: list[Row], places: Sequence[int], span: range, *, hear: bool) -> Tensor | None:
        """Some steps of the same rows."""
        riding = [rows[i] for i in places]
        for row in riding:
            if row.follows is not None:
                row.latents = row.follows[span.start].to(self.start.noise)
        self._seat(rows, places)
        controls = [row.acting for row in riding]
        with (
            attached(self.model, controls) as run,
            features_of(self.model, self.config, self.layout, self.refined_level, run, hear) as heard,
        ):
            latents = denoise(
                self.model, text_of(self.text, places), start_of(self.start, places), self.settings, run,
                RowSteppers(riding), latents=torch.cat([row.latents for row in riding]), span=span,
                on_step=self.told, cancelled=self.cancelled,
            )  # fmt: skip
        for row, own in zip(riding, latents.split(1), strict=True):
            row.latents = own
        self.row_steps += len(riding) * len(span)
        if not hear:
            return None
        first = list(places).index(self.count + len(self.riding))
        return heard["states"][first:]

    def _seat(self, rows: list[Row], places: Sequence[int]) -> None:
        """Tell everyone where the others sit in this batch."""
        seats = {place: seat for seat, place in enumerate(places)}
        anchors = tuple(seats[self.count + i] for i in range(self.anchors) if self.count + i in seats)
        for shot in range(self.count):
            if self.count + shot in seats:
                steering = _steering(rows[self.count + shot])
                steering.seats = Seats(place=seats[self.count + shot], vanilla=seats.get(shot), anchors=anchors)

    def _features(self, states: Tensor) -> list[Tensor]:
        """What correspondences are read from, smoothed, (N, C) on the refined grid; of riding anchors as kept."""
        kept = [shot.features.to(states) for shot in self.riding if shot.features is not None]
        own = [resized(smoothed(one), self.refined_grid[1:]) for one in states]
        return kept + [one.movedim(1, -1).flatten(0, 2) for one in own]

    def _found(self, features: Sequence[Tensor], rows: list[Row]) -> list[Refinement | None]:
        """What each shot takes from the anchors other than itself."""
        masks = [_steering(rows[self.count + shot]).refined_mask() for shot in range(self.count)]
        found: list[Refinement | None] = []
        for shot in range(self.count):
            mask = masks[shot]
            if shot < len(self.riding):
                known = self.riding[shot].refinement
                found.append(None if known is None else Refinement(*(x.to(features[0].device) for x in known)))
                continue
            others = [(features[a], m) for a in range(self.anchors) if a != shot and (m := masks[a]) is not None]
            found.append(refinement(matches(features[shot], others), mask) if others and mask is not None else None)
        return found

    def _again(self, first: list[Row], found: Sequence[Refinement | None], keep: bool) -> list[Row]:
        """Rows where the second sweep begins."""
        rows = self._rows(keep, sweep=1)
        for row, moment in zip(rows, self._moments, strict=True):
            row.back_to(moment)
        for shot in range(self.count):
            _steering(rows[self.count + shot]).follow(_steering(first[self.count + shot]), found[shot])
        return rows

    def _kept(
        self,
        first: list[Row],
        last: list[Row],
        features: Sequence[Tensor] | None,
        found: Sequence[Refinement | None] | None,
    ) -> Anchors:
        """The anchors, as others can read them later."""
        shots = []
        for shot in range(self.anchors):
            steered = self.count + shot
            masks = {step: mask.cpu() for step, mask in _steering(first[steered]).sight.seen.items()}
            mine = found[shot] if found else None
            shown = None
            if features is not None:
                subject = on_grid(masks[max(masks)], self.layout.grid, self.refined_grid)
                shown = features[shot].cpu() * subject.unsqueeze(-1)
            shots.append(
                KeptAnchor(
                    request=self.requests[shot],
                    subject=self.subjects[shot],
                    plain=last[shot].path | first[shot].path,
                    sweeps=tuple(rows[steered].path for rows in ([first, last] if self.plan.second else [first])),
                    masks=masks,
                    features=shown,
                    refinement=None if mine is None else Refinement(*(x.cpu() for x in mine)),
                )
            )
        return Anchors(shots=tuple(shots), made=self._made_now)

    def _made(self, stepper: Stepper) -> dict[str, Any]:
        """What shots that read each other must have in common."""
        own = ("place", "vanilla", "anchors", "subject", "segmented_by", "every")
        steering = {name: value for name, value in self.config.plain().items() if name not in own}
        levels = noise_levels(stepper)  # some schedules have more than were asked for
        made: dict[str, Any] = {
            "weights": self.cast.weights,
            "steps": len(levels),
            "levels": [round(level, 6) for level in levels],
            "guidance": [self.settings.guidance, self.settings.guidance_2],
            "grid": list(self.layout.grid),
            "refined_grid": list(self.refined_grid),
            "steering": steering,
        }
        plain: dict[str, Any] = json.loads(json.dumps(made))
        return plain


def _steering(row: Row) -> StoryboardSteering:
    """The row's own steering; plain rows have none."""
    return next(control for control in row.controls if isinstance(control, StoryboardSteering))
