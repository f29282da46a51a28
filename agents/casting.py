"""From a run's row to what the graph is given: its profile, its job, its backend's settings, and its brains.

A run's row keeps its whole profile, so a resumed run is filmed as it was begun, whatever its file says by now. Opens
nothing and reads no environment: key and world critic are handed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from agents.boardfile import parse_board
from agents.brains import Brains, Critic, LanguageModel
from agents.editor import EditOptions
from agents.ensemble import brains_for
from agents.errors import UsageError
from agents.ledger import Ledger, UnderWay
from agents.order import Order, motion_wishes, read_bytes
from agents.profile import Profile, load_profile, override, parse_profile
from agents.state import Job, brief_for
from agents.storyboard import Storyboard
from generators.adapters import whole_name
from generators.backends import BACKENDS, BackendConfig, limits_of, needs_picture, weights_of
from generators.clip import Canvas, Limits, check_size
from generators.errors import BackendUnavailable, MediaError, RequestRejected
from generators.pictures import check_font
from storage.archive import Archive
from storage.records import NOTHING, Costs
from storage.tables import Run

if TYPE_CHECKING:
    from agents.minds import Minds


def profile_for(order: Order, name: str, model: str | None) -> Profile:
    """The profile of this name with the order's limits, steps and model in place. Raises ProfileError, UsageError."""
    changes = order.budget.changes()
    if order.steps is not None:
        changes["backend.steps"] = order.steps
    if order.guidance is not None:
        changes["backend.guidance"] = order.guidance
    profile = load_profile(name, backends=BACKENDS)
    sets = True if order.scenes else order.sets
    if sets is not None:
        changes |= {"backend.sets": sets, "backend.scenes": order.scenes or (sets and profile.backend.scenes)}
    try:
        changes["backend.lora"] = tuple(map(whole_name, order.lora or profile.backend.lora))
    except BackendUnavailable as error:
        raise UsageError(str(error)) from error
    for key, place in (("model", model or profile.backend.model), ("clipseg", profile.backend.clipseg)):
        if place:
            folder = Path(place).expanduser()
            changes[f"backend.{key}"] = str(folder.resolve()) if folder.is_dir() else place
    return override(profile, changes)


def options_of(order: Order, profile: Profile) -> dict[str, object]:
    """What makes two runs of one story two: all that decides pixels, and not what they may cost.

    A model's weights and a first picture count by their content. Raises UsageError when one of them cannot be used.
    """
    picture = first_picture(order, profile)
    config = backend_config(profile)
    try:
        weights, limits = weights_of(config), limits_of(config)
    except (BackendUnavailable, RequestRejected) as error:
        raise UsageError(str(error)) from error
    if limits is not None:
        _check_size(limits, order.size or (limits.width, limits.height))
    _check_picture(profile, needs_picture(config), there=picture is not None)
    check_moves(profile, limits, asked=bool(order.motion_from))
    if profile.film.font is not None:
        _check_font(Path(profile.film.font))
    moved: dict[str, object] = {"motion_from": list(order.motion_from), "motion_share": order.motion_share}
    unsaid = {"first_frame"} if profile.backend.sets else {"first_frame", "sets", "at_once", "clipseg", "keeps"}
    unsaid |= _at_default(profile.backend, "lora", "scenes", "clipseg", "keeps")  # younger than runs that lack them
    left_out: Any = {"name": True, "description": True, "budget": True, "backend": unsaid}
    left_out |= {"brains": _at_default(profile.brains, "synopsis"), "film": _at_default(profile.film, "font")}
    return {
        "seed": order.seed,
        "seconds": order.seconds,
        "style": order.style,
        "size": list(order.size) if order.size else None,
        "planned": order.from_plan is not None,
        "first_frame": None if picture is None else hashlib.sha256(picture).hexdigest(),
        "weights": weights,
        "profile": profile.model_dump(mode="json", exclude=left_out),
    } | {name: value for name, value in moved.items() if value}


def _at_default(choice: BaseModel, *names: str) -> set[str]:
    """Those of a choice's settings that nobody has set."""
    return {name for name in names if getattr(choice, name) == type(choice).model_fields[name].default}


def first_picture(order: Order, profile: Profile) -> bytes | None:
    """The picture that shots start from, as its file holds it. Raises UsageError when it cannot be read."""
    named = order.first_frame or (Path(profile.backend.first_frame) if profile.backend.first_frame else None)
    if named is None:
        return None
    from generators.stills import MOST_BYTES, check_picture

    path = named.expanduser()
    data = read_bytes(path, "first frame", most=MOST_BYTES)
    try:
        check_picture(data, f"The first frame {path}")
    except MediaError as error:
        raise UsageError(str(error)) from error
    return data


def profile_of(row: Run) -> Profile:
    """The profile as it was when the run began, with the limits it was last asked for."""
    kept = row.options["profile"] | {"name": row.profile, "budget": row.asked["budget"]}
    return parse_profile(kept, f"of run {row.id}", backends=BACKENDS)


def backend_config(profile: Profile) -> BackendConfig:
    """The profile's backend, as `generators.backends` opens it."""
    choice = profile.backend
    return BackendConfig(
        kind=choice.kind,
        model=choice.model or None,
        device=choice.device or None,
        steps=choice.steps,
        guidance=choice.guidance,
        guidance_2=choice.guidance_2,
        dtype=choice.dtype,
        offload=choice.offload,
        lora=choice.lora,
        at_once=choice.at_once,
        scenes=choice.scenes,
        keeps=choice.keeps,
        clipseg=choice.clipseg,
        canvas=Canvas(width=choice.width, height=choice.height, fps=choice.fps, frame_counts=choice.frame_counts),
    )


def limits_from(kept: Mapping[str, Any]) -> Limits:
    """A backend's limits as a run's row keeps them."""
    return Limits(**{**kept, "frame_counts": tuple(kept["frame_counts"])})


def job_of(row: Run, profile: Profile, limits: Limits, story: str) -> Job:
    """What the graph is given, from what the run's row keeps."""
    board = parse_board(story, f"the storyboard of run {row.id}") if row.options["planned"] else None
    size = row.options["size"]
    order = Order(
        story=story,
        seed=row.options["seed"],
        seconds=row.options["seconds"],
        style=row.options["style"],
        size=(size[0], size[1]) if size else None,
        motion_from=tuple(row.options.get("motion_from", ())),
        motion_share=row.options.get("motion_share"),
        out=Path(row.asked["out"]),
    )
    job = job_for(order, profile, limits, board, picture=row.options.get("first_frame"))
    return replace(job, run_id=row.id)


def job_for(
    order: Order, profile: Profile, limits: Limits, board: Storyboard | None, *, picture: str | None = None
) -> Job:
    """What the graph is given for an order; without a run it can only plan. `picture` is a kept first frame's digest.

    Raises UsageError for what this backend cannot film, before anything is planned or paid.
    """
    if picture is None and (found := first_picture(order, profile)) is not None:
        picture = hashlib.sha256(found).hexdigest()
    width, height = order.size or (limits.width, limits.height)
    _check_size(limits, (width, height))
    _check_picture(profile, limits.needs_picture, there=picture is not None, taken=limits.extends)
    check_moves(profile, limits, asked=bool(order.motion_from or (board and any(s.motion_from for s in board.shots))))
    if profile.brains.synopsis and not limits.frame_texts:
        raise UsageError("brains.synopsis: the frames of this backend's model cannot read a synopsis; leave it away")
    film = profile.film
    return Job(
        run_id=0,
        brief=brief_for(limits, profile.budget, style=order.style, seconds=order.seconds),
        seed=order.seed,
        storyboard=board,
        folder=order.out or Path(),
        edit=EditOptions(crossfade=film.crossfade, burn_captions=film.burn_captions, scale=film.scale, font=film.font),
        steps=profile.backend.steps,
        guidance=profile.backend.guidance,
        guidance_2=profile.backend.guidance_2,
        width=width,
        height=height,
        picture=picture,
        sets=profile.backend.sets,
        motion=motion_wishes(order.motion_from),
        motion_share=order.motion_share,
    )


def _check_font(path: Path) -> None:
    try:
        check_font(path)
    except MediaError as error:
        raise UsageError(f"film.font: {error}") from error


def check_moves(profile: Profile, limits: Limits | None, *, asked: bool) -> None:
    """Raise UsageError where motion is asked of a backend that is known to have no way to give it."""
    if asked and limits is not None and not limits.moves:
        name = profile.backend.model or profile.backend.kind
        raise UsageError(
            f"motion from: {name} cannot give a shot the motion of a clip; leave --motion-from (in a storyboard, "
            "motion_from) away, or film with another backend"
        )


def _check_size(limits: Limits, size: tuple[int, int]) -> None:
    try:
        check_size(limits, *size)
    except RequestRejected as error:
        raise UsageError(str(error)) from error


def _check_picture(profile: Profile, needed: bool, *, there: bool, taken: bool = True) -> None:
    name = profile.backend.model or profile.backend.kind
    if needed and not there:
        raise UsageError(
            f"first frame: {name} films every shot from a picture (a picture-to-video checkpoint), and there is none "
            "for shots that begin with a cut: name one with --first-frame PICTURE or backend.first_frame in the "
            "profile, or film with a text-to-video checkpoint"
        )
    if there and not taken:
        raise UsageError(
            f"first frame: {name} cannot start from a picture; leave it away, or film with another backend"
        )


def brains_of(
    profile: Profile,
    minds: Minds,
    archive: Archive,
    run_id: int,
    world_critic: Callable[[], Critic],
    before: Costs = NOTHING,
) -> Brains:
    """The agents of one run; every model call goes through its ledger. `before` is no part of this budget."""
    out = UnderWay()

    def model_of(role: str) -> LanguageModel:
        return Ledger(minds.of(role), archive, run_id, profile.budget, before, out)

    critic = world_critic() if profile.critic.kind == "world" else None
    return brains_for(profile, model_of, critic)
