"""How a control takes hold of the denoiser, and lets go.

A control belongs to one request of a batch. The phases of one controlled attention, in this order:

    1. which rows            only the batch row of the control's own request, while `acts_at` says so
    2. text per frame        `frame_text`: cross-attention reads a text of its own in every frame
    3. edit q / k / v        `edit`
    4. biases                `biases`: computed from the unbiased logits, summed
    5. extra keys, values    `extra`: attended apart, merged by log-sum-exp
                             `parts`: attended apart by the control itself, merged likewise
    6. edit the output       `output`
    7. observe               `observe`: whoever only looks leaves the output of stock attention as it is, bit for bit
    8. beside the others     `among`: an output in the light of all rows' outputs, once every row has its own

and around a step `before_step` and `after_step`, which may read the request's own pass first, with gradients (`Probe`),
and between the two `predicted`, which sees the clip that the guided prediction stands for.
What adds: biases, extra keys. What excludes: two controls of one class on one request, one that gives frames texts of
their own beside one that reads the words of the prompt, and two that put queries in the place of the shot's own.
Controls of a request act in the order in which it names them. A site where nobody acts runs the processor that was
there before: idle steps cost nothing and change no bit.

In joint attention the rows of a call are the video tokens, and `biases` is asked twice: once for the text columns and
once for the video columns, each with the logits of those columns alone, so that statistics over words are not drowned
by video; both parts are merged into one softmax. The text tokens' own rows are not steered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from generators.attention import Bias
from generators.clip import ShotRequest
from generators.controls.frame_text import FrameText
from generators.errors import ControlRejected
from generators.models.base import Branch, Layout, Reader, Site, VideoModel
from generators.timeline import Timeline
from generators.tokens import TextMap


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What a control may know of its request before denoising starts."""

    request: ShotRequest
    text: TextMap
    timeline: Timeline
    layout: Layout
    steps: int
    sites: tuple[Site, ...]
    device: torch.device

    @classmethod
    def of(cls, model: VideoModel, request: ShotRequest, steps: int) -> Shot:
        """The request as this model will film it in so many steps."""
        return cls(
            request=request,
            text=model.map_text(request.prompt),
            timeline=Timeline(frames=request.frames, fps=request.fps, stride=model.stride),
            layout=model.layout(request.frames, request.height, request.width),
            steps=steps,
            sites=model.sites,
            device=model.device,
        )


@dataclass(frozen=True, kw_only=True)
class Step:
    """One denoising step, counted from 0, at noise level `sigma`."""

    index: int
    of: int
    sigma: float


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """One attention of one request.

    q is (1, H, N, D), k and v are (1, H, M, D); the raw ones are as they were before the attention's own norm and
    before positions. `counts` (M,) says how many equal keys a column stands for; None means one. Where attention is
    factorised the first axis counts what cannot see each other: frames in space (N pixels), pixels in time (N frames);
    `layout` is then that of the level, and `batch`, `raw_batch`, `norm` and `turn` take clips with their frames in one
    sequence, (B, H, F N, D).
    """

    site: Site
    step: Step
    row: int
    layout: Layout
    q: Tensor
    k: Tensor
    v: Tensor
    raw_q: Tensor
    raw_k: Tensor
    counts: Tensor | None = None
    text: slice | None = None
    """Joint attention: columns of k, v and raw_k that are text; the others are video. Rows are video tokens alone.
    None where all columns are of one kind."""
    part: Literal["text", "video"] | None = None
    """Joint attention is steered in two parts, each with its own columns: which one this call is."""
    whole: AttentionCall | None = None
    """Of such a part: the call with all columns."""
    batch: tuple[Tensor, Tensor, Tensor] | None = None
    """q, k, v of all rows of the pass, (B, H, N or M, D), for methods that read a neighbour."""
    biases: Sequence[Bias] = ()
    """Told to `observe`: what was added to the logits; in joint attention, to those of its text."""
    raw_batch: Tensor | None = None
    """Raw queries of all rows of the pass, (B, H, N, D), where `norm` and `turn` can make queries of them."""
    norm: Callable[[Tensor], Tensor] | None = None
    """Raw queries (1, H, N, D) after the attention's own norm, before positions: where queries can be compared."""
    turn: Callable[[Tensor], Tensor] | None = None
    """Such queries as the logits want them here: each turned by the position of the row it stands in."""
    branch: Branch = Branch.COND
    """The row's branch of guidance."""

    @property
    def reads(self) -> Literal["text", "video"]:
        """What the columns are: words, or other video tokens. Ask this, not the site's kind, to know what to steer."""
        return self.part or ("text" if self.site.kind == "cross" else "video")

    def over(self, part: Literal["text", "video"]) -> AttentionCall:
        """A joint call that reads only its text, or only its video; any other call as it is."""
        if self.text is None:
            return self
        columns = self.text if part == "text" else slice(self.text.stop, None)
        k, v, raw_k = (x[:, :, columns] for x in (self.k, self.v, self.raw_k))
        return replace(self, k=k, v=v, raw_k=raw_k, text=None, part=part, whole=self)


class Probe(Protocol):
    """What the conditional pass of one request reads in its text, at one step; ends after the last layer asked for.

    Gradients flow back to the latents where they require them. The request's other controls act as they will in the
    step, save those that do not `act_in_probes`; other requests take no part.
    """

    def __call__(self, latents: Tensor, layers: Sequence[int], read: Reader, *, recompute: bool = True) -> list[Tensor]:
        """What `read` makes of each layer's text attention, for latents (1, C, F, h, w).

        `recompute` keeps no activations inside a block: the way back computes them again.
        """
        ...


Alone = Callable[[], AbstractContextManager[None]]
"""While its block runs, passes are of one clip alone, conditional, and nobody acts but the control that has it."""


class Control:
    """One method on one request. Every hook is optional; what a subclass does not override does nothing."""

    name: str
    """What people call it: the name of its settings; the class's own where none is given."""

    edits_latents = False
    """Whether `before_step` or `after_step` change latents: a scheduler must be able to keep that."""

    edits_survive = True
    """Whether the scheduler is told of edits; False leaves them to a corrector that takes them back."""

    makes_passes = False
    """Whether it runs the network beside the steps' own passes: a cache of blocks would take them for steps."""

    probes = False
    """Whether it uses its probe: only families that can be read so will film with it."""

    acts_in_probes = True
    """Whether it can act in a pass of its request alone; not so for what reads a neighbour's row."""

    reads_words = False
    """Whether it asks which columns of cross-attention are which words of the prompt."""

    replaces_text = False
    """Whether frames read texts of their own: the prompt's words then have no columns."""

    replaces_queries = False
    """Whether self-attention asks with other queries than the shot's own: of two who do, one would be lost unsaid."""

    looks_only = False
    """Whether it changes nothing: where nobody else acts, rows then keep the output of stock attention."""

    in_turn = False
    """Whether `among` reads rows as earlier ones have left them; by default all are read before any is written."""

    notes: tuple[str, ...] = ()
    """What a person should know of a clip that was filmed so."""

    def __init__(self, shot: Shot) -> None:
        self.shot = shot

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = vars(cls).get("name", cls.__name__)

    def meet(self, everyone: Sequence[Sequence[Control]]) -> None:
        """Know who else films in this batch: the controls of each request. Called once, before anyone begins."""

    def begin(self, model: VideoModel) -> None:
        """Read what is needed of the model, once, before the first step."""

    def begin_with(self, model: VideoModel, alone: Alone) -> None:
        """`begin` for a control that makes passes of its own, then or before a step. Called in its place."""
        self.begin(model)

    def acts(self, step: Step, branch: Branch) -> bool:
        """Whether this step and guidance branch are the control's own."""
        return branch is Branch.COND

    def at(self, site: Site) -> bool:
        """Whether this attention is the control's own."""
        return False

    def acts_at(self, site: Site, step: Step, branch: Branch) -> bool:
        """Whether it acts here and now; overridden by what acts at different times in different places."""
        return self.at(site) and self.acts(step, branch)

    def frame_text(self, site: Site) -> FrameText | None:
        """Texts that the frames read at this cross-attention in the place of the prompt."""
        return None

    def edit(self, call: AttentionCall) -> AttentionCall:
        """Queries, keys and values to use instead."""
        return call

    def biases(self, call: AttentionCall) -> Sequence[Bias]:
        """What to add to the logits."""
        return ()

    def extra(self, call: AttentionCall) -> Sequence[tuple[Tensor, Tensor]]:
        """Keys and values (1, H, M', D) to attend to beside the call's own."""
        return ()

    def parts(self, call: AttentionCall) -> Sequence[tuple[Tensor, Tensor]]:
        """Attention to something beside the call's own keys: out, as the call's q, and its lse, -inf where to none."""
        return ()

    def output(self, call: AttentionCall, out_BHND: Tensor) -> Tensor:
        """The attention's output to use instead."""
        return out_BHND

    def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        """Look at what happened: the call as it was edited, with its biases, and what came of it."""

    def among(self, site: Site, step: Step, row: int, outs_BHND: Tensor) -> Tensor | None:
        """The output (H, N, D) of this row to use instead, beside those of all rows of the pass; None keeps it."""
        return None

    def before_step(self, step: Step, latents: Tensor) -> Tensor:
        """Latents (1, C, F, h, w) to predict from instead."""
        return latents

    def after_step(self, step: Step, latents: Tensor) -> Tensor:
        """Latents (1, C, F, h, w) to go on with instead."""
        return latents

    def predicted(self, step: Step, clean: Callable[[], Tensor]) -> None:
        """Look at the step's guided prediction, before it is taken.

        `clean` solves it for finished latents (1, C, F, h, w), whatever the scheduler, with given frames in place.
        """

    def before_step_with(self, step: Step, latents: Tensor, probe: Probe) -> Tensor:
        """`before_step` for a control that reads the pass to come. Called in its place; autograd is off by default."""
        return self.before_step(step, latents)

    def after_step_with(self, step: Step, latents: Tensor, probe: Probe) -> Tensor:
        """`after_step` for a control that reads: the probe still stands at the step's own timestep."""
        return self.after_step(step, latents)


def share_of_steps(share: float, steps: int) -> int:
    """How many steps a share of them is, rounded down; at least one, so that distilled schedules are steered too."""
    return max(1, int(share * steps + 1e-9))


class Run:
    """The context that the sampler and all processors of one batch share: who acts, here and now.

    A pass has a row for each request, or, where both branches of guidance are one pass, one for each branch of each.
    """

    def __init__(self, controls: Sequence[Sequence[Control]]) -> None:
        self.controls = tuple(tuple(of_request) for of_request in controls)
        self.step = Step(index=-1, of=0, sigma=1.0)
        self.branches: Sequence[Branch] = (Branch.COND,)
        self._alone: int | None = None
        self._soloist: Control | None = None
        self.edited: tuple[int, ...] = ()
        """Requests whose latents the last hook edited, and whose edits are to survive."""
        self.sites: Sequence[Site] = ()
        """Where anybody may act."""
        self.on_steered_step: list[Callable[[], object]] = []
        """Called before the passes of a step in which somebody acts, and of the first one after such a step."""
        self._acted = True

    def acting(self, site: Site) -> Mapping[int, Sequence[Control]]:
        """Controls that act at this site in this pass, by the pass's rows."""
        if self._alone is not None:
            asked = [c for c in self.controls[self._alone] if c.acts_in_probes]
            own = [c for c in ([self._soloist] if self._soloist else asked) if self._acts(c, site, Branch.COND)]
            return {0: own} if own else {}
        found = {
            number * len(self.controls) + request: [c for c in controls if self._acts(c, site, branch)]
            for number, branch in enumerate(self.branches)
            for request, controls in enumerate(self.controls)
            if controls
        }
        return {row: controls for row, controls in found.items() if controls}

    def _acts(self, control: Control, site: Site, branch: Branch) -> bool:
        return control.acts_at(site, self.step, branch)

    @contextmanager
    def only(self, request: int, control: Control | None = None) -> Iterator[None]:
        """Passes are of one request's conditional branch alone, its way back included, while the block runs.

        With a `control`, nobody else acts in them.
        """
        before = self.branches, self._alone, self._soloist
        self.branches, self._alone, self._soloist = (Branch.COND,), request, control
        try:
            yield
        finally:
            self.branches, self._alone, self._soloist = before

    def request(self, row: int) -> int:
        """The request behind a row of the pass."""
        return row % len(self.controls) if self._alone is None else self._alone

    def branch(self, row: int) -> Branch:
        """The branch of guidance of a row of the pass."""
        return self.branches[row // len(self.controls)] if self._alone is None else Branch.COND

    @property
    def everyone(self) -> list[Control]:
        """The controls of all requests."""
        return [control for controls in self.controls for control in controls]

    @property
    def rows(self) -> int:
        """Rows of this pass."""
        return len(self.branches) * (len(self.controls) if self._alone is None else 1)

    def tokens(self, row: int) -> int:
        """Text columns of a row's prompt that are not padding."""
        return self.controls[self.request(row)][0].shot.text.tokens

    def layout(self, row: int) -> Layout:
        """How a row's clip lies in tokens."""
        return self.controls[self.request(row)][0].shot.layout

    def before_step(self, step: Step, latents: Tensor, probe: Callable[[int], Probe]) -> Tensor:
        """Enter a step; the latents to predict from. `probe` gives a request its own."""
        self.step = step
        latents = self._edited("before_step_with", latents, probe)
        if self.on_steered_step:
            acts = any(self._acts(c, site, b) for c in self.everyone for site in self.sites for b in Branch)
            for call in self.on_steered_step if acts or self._acted else ():
                call()
            self._acted = acts
        return latents

    def predicted(self, clean: Callable[[int], Tensor]) -> None:
        """Show everyone the step's prediction; `clean` solves it for one request."""
        for request, controls in enumerate(self.controls):
            for control in controls:
                control.predicted(self.step, partial(clean, request))

    def after_step(self, latents: Tensor, probe: Callable[[int], Probe]) -> Tensor:
        """Leave a step; the latents to go on with."""
        return self._edited("after_step_with", latents, probe)

    def _edited(self, hook: str, latents: Tensor, probe: Callable[[int], Probe]) -> Tensor:
        edited: dict[int, bool] = {}
        for request, controls in enumerate(self.controls):
            for control in controls:
                own = latents[request : request + 1]
                with self.only(request):
                    new = getattr(control, hook)(self.step, own, probe(request))
                if new is not own:
                    latents = latents.clone()
                    latents[request] = new[0]
                    edited[request] = edited.get(request, True) and control.edits_survive
        self.edited = tuple(request for request, survives in edited.items() if survives)
        return latents


@contextmanager
def attached(model: VideoModel, controls: Sequence[Sequence[Control]]) -> Iterator[Run]:
    """Controls of each request, on the model for as long as the block runs; gone after it, whatever happens.

    Raises ControlRejected when a request has two controls of one class, RuntimeError when the model has a holder.
    """
    for of_row in controls:
        _check(of_row)
    run = Run(controls)
    run.sites = [site for site in model.sites if any(control.at(site) for control in run.everyone)]
    with model.held():
        detach = model.attach(run, run.sites)
        try:
            for control in run.everyone:
                control.meet(run.controls)
            for request, of_row in enumerate(run.controls):
                for control in of_row:
                    control.begin_with(model, partial(run.only, request, control))
            yield run
        finally:
            detach()


def _check(controls: Sequence[Control]) -> None:
    kinds: set[type[Any]] = set()
    for control in controls:
        if type(control) in kinds:
            raise ControlRejected(
                f"controls: {control.name} is asked for twice on one request; name it once (one VSTAR has "
                "a synopsis and a band, one TempoControl several words)"
            )
        kinds.add(type(control))
    owners, readers, askers = (
        [control.name for control in controls if getattr(control, trait)]
        for trait in ("replaces_text", "reads_words", "replaces_queries")
    )
    if len(owners) > 1 or (owners and readers):
        raise ControlRejected(
            f"controls: {owners[0]} gives every frame a text of its own, and {(owners[1:] + readers)[0]} needs the "
            "words of the shot's prompt there; use one of the two, or VSTAR without a synopsis"
        )
    if len(askers) > 1:
        raise ControlRejected(
            f"controls: {askers[0]} and {askers[1]} both put queries in the place of the shot's own; use one of the "
            "two (Storyboarding with preserve=None and flow=None shares attention alone)"
        )
