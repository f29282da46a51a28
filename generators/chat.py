"""A chat model in this process: a language or vision-language checkpoint goes on with a conversation.

Any transformers checkpoint with a chat template, from a folder or a hub id; safetensors only, never remote code. Knows
messages and pictures; what is asked, and what is made of the answer, is its callers'.
"""

from __future__ import annotations

import inspect
import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from generators.devices import Dtype, best_device, checked_device, dtype_of
from generators.digests import named
from generators.errors import BackendUnavailable, OutOfMemory, RequestRejected
from generators.quiet import quietly

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation. `pictures` are encoded images, shown before the text."""

    role: Role
    text: str
    pictures: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """What the model said, and how many tokens it read and wrote."""

    text: str
    tokens_in: int
    tokens_out: int
    cut_off: bool
    """It stopped at the limit, in the middle of what it had to say."""


class ChatCheckpoint:
    """One loaded checkpoint, for one thread at a time.

    `device` is torch's name, empty for CUDA where there is one; `dtype` as for backends. Raises BackendUnavailable when
    the checkpoint cannot be loaded whole or was not trained to chat, OutOfMemory where its device has no room for it.
    Load it while nothing is filmed: until it stands, transformers changes torch's default dtype for every thread.
    """

    def __init__(self, place: str, *, device: str = "", dtype: Dtype = "auto") -> None:
        self.device = checked_device(device or best_device(), offload=False)
        self.model, self.processor, self.sees = _opened(place, self.device, dtype_of(dtype, str(self.device)))
        self.tokenizer: Any = getattr(self.processor, "tokenizer", self.processor)
        revision = getattr(self.model.config, "_commit_hash", None)
        self.name = f"{named(place)} {revision[:8]}" if revision else named(place)
        """What tells its weights apart from others: a digest of the folder, or the hub's revision."""
        self._takes = frozenset(inspect.signature(self.model.forward).parameters)

    def answer(
        self,
        talk: Sequence[Message],
        *,
        most: int,
        temperature: float = 0.0,
        seed: int = 0,
        stopped: threading.Event | None = None,
    ) -> Continuation:
        """The next turn, of at most `most` tokens: the likeliest one at temperature 0, else drawn by `seed`.

        Drawing adds Gumbel noise of a generator of its own to the logits over the temperature, whose largest is a
        sample of their softmax (Maddison et al., arXiv 1411.0030), so no other thread's random numbers change. Setting
        `stopped` ends it after the token at hand. Raises RequestRejected for pictures that it cannot see or a
        conversation longer than it can read, OutOfMemory where its device has no room for it.
        """
        read = self._read(talk)
        tokens_in = read["input_ids"].shape[1]
        limit = token_limit(self.model)
        if tokens_in >= limit:
            raise RequestRejected(
                f"{self.name} reads at most {limit} tokens, the question has {tokens_in}: show it fewer frames "
                "(critic.most_frames), or name a model that reads more"
            )
        most = min(most, limit - tokens_in)
        try:
            with torch.no_grad():
                said = self._generate(read, most, temperature, seed, stopped)[0, tokens_in:].tolist()
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{self.name} has no memory for {tokens_in} tokens on {self.device}: show it fewer frames, or name a "
                "smaller model"
            ) from error
        return Continuation(
            text=self.tokenizer.decode(said, skip_special_tokens=True),
            tokens_in=tokens_in,
            tokens_out=len(said),
            cut_off=len(said) >= most and said[-1] not in end_tokens(self.model),
        )

    def _read(self, talk: Sequence[Message]) -> dict[str, Any]:
        if not self.sees and any(message.pictures for message in talk):
            raise RequestRejected(f"{self.name} is a language model and sees no pictures: name a vision-language model")
        from jinja2 import TemplateError

        try:
            read = self._templated(talk)
        except TemplateError as error:
            if not any(message.role == "system" for message in talk):
                raise RequestRejected(f"{self.name}: its chat template refuses the conversation: {error}") from error
            return self._read(_without_system(talk))  # some know no system's turn: it goes before the person's
        floats = self.model.dtype
        return {
            name: tensor.to(self.device, floats if tensor.is_floating_point() else None)
            for name, tensor in read.items()
            if isinstance(tensor, Tensor) and (name != "token_type_ids" or name in self._takes)
        }

    def _templated(self, talk: Sequence[Message]) -> Mapping[str, Any]:
        shape = _parts if self.sees else _plain
        options: dict[str, Any] = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
        if hasattr(getattr(self.processor, "image_processor", None), "do_image_splitting"):
            options["processor_kwargs"] = {"do_image_splitting": False}  # frames are small, and there are many
        found: Mapping[str, Any] = self.processor.apply_chat_template(
            list(map(shape, talk)), return_tensors="pt", **options
        )
        return found

    def _generate(
        self, read: dict[str, Any], most: int, temperature: float, seed: int, stopped: threading.Event | None
    ) -> Tensor:
        from transformers import LogitsProcessorList, StoppingCriteriaList

        drawing = [_Gumbel(temperature, seed)] if temperature > 0 else []
        found: Tensor = self.model.generate(
            **read,
            max_new_tokens=most,
            logits_processor=LogitsProcessorList(drawing),
            stopping_criteria=StoppingCriteriaList([_Stopped(stopped)] if stopped else []),
        )
        return found


class _Gumbel:
    """Makes the largest logit a draw from their softmax at this temperature."""

    def __init__(self, temperature: float, seed: int) -> None:
        self.temperature = temperature
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = torch.rand(scores.shape, generator=self.generator, dtype=torch.float64)
        noise = -torch.log(-torch.log(uniform.clamp_min(torch.finfo(torch.float64).tiny)))
        return scores.float() / self.temperature + noise.to(scores.device, torch.float32)


class _Stopped:
    """Ends the answer when somebody asked to stop."""

    def __init__(self, stopped: threading.Event) -> None:
        self.stopped = stopped

    def __call__(self, input_ids: Tensor, scores: Any, **more: Any) -> Tensor:
        return torch.full((len(input_ids),), self.stopped.is_set(), device=input_ids.device)


def _opened(place: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any, bool]:
    """Model, what reads for it, and whether it sees."""
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        GenerationConfig,
    )
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as SEEING

    kept: dict[str, Any] = {"use_safetensors": True, "dtype": dtype, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        sees = config.model_type in SEEING
        read = _picture_reader if sees else _tokenizer
        reader = read(place, config)
        tokenizer: Any = getattr(reader, "tokenizer", reader)
        if not (getattr(reader, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
            raise BackendUnavailable(f"{place} has no chat template: expected a checkpoint that was trained to chat")
        kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        with quietly(Path(place).is_dir()):
            model, told = kind.from_pretrained(place, output_loading_info=True, **kept)
        if missing := sorted(told["missing_keys"]):
            raise BackendUnavailable(
                f"{place} lacks {len(missing)} of its model's weights, such as {missing[0]}: get the whole checkpoint"
            )
        model.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"{device} has no room for {place}: name another device or a smaller model") from error
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        raise BackendUnavailable(
            f"{place}: expected a folder or hub id of a chat model in safetensors with its tokenizer (and its "
            f"processor, where it sees pictures) that transformers knows: {error}"
        ) from error
    own = model.generation_config  # its penalties and temperatures would bend the likeliest answer
    pad = own.pad_token_id if own.pad_token_id is not None else tokenizer.pad_token_id
    model.generation_config = GenerationConfig(eos_token_id=own.eos_token_id, pad_token_id=0 if pad is None else pad)
    return model, reader, sees


def _tokenizer(place: str, config: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(place, trust_remote_code=False)


def _picture_reader(place: str, config: Any) -> Any:
    """The checkpoint's processor; of pictures alone where it would read videos too and torchvision is not there."""
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, ProcessorMixin
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
    from transformers.utils.import_utils import is_torchvision_available

    known: Any = PROCESSOR_MAPPING
    kind: Any = known.get(type(config), ProcessorMixin)
    parts = kind.get_attributes()
    if "video_processor" not in parts or is_torchvision_available():
        return AutoProcessor.from_pretrained(place, trust_remote_code=False)

    def check(self: Any, name: str, part: Any) -> Any:
        return None if part is None else kind.check_argument_for_proper_class(self, name, part)

    pictures_only: Any = type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})
    made = {
        "tokenizer": AutoTokenizer.from_pretrained(place, trust_remote_code=False),
        "image_processor": AutoImageProcessor.from_pretrained(place, trust_remote_code=False),
    }
    settings, _ = kind.get_processor_dict(place)
    return pictures_only.from_args_and_dict([made.get(part) for part in parts], settings)


def _parts(message: Message) -> dict[str, Any]:
    shown = [{"type": "image", "image": Image.open(io.BytesIO(one)).convert("RGB")} for one in message.pictures]
    return {"role": message.role, "content": [*shown, {"type": "text", "text": message.text}]}


def _plain(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.text}


def _without_system(talk: Sequence[Message]) -> list[Message]:
    told = "\n\n".join(message.text for message in talk if message.role == "system")
    first, *rest = (message for message in talk if message.role != "system")
    return [Message(role=first.role, text=f"{told}\n\n{first.text}", pictures=first.pictures), *rest]


def token_limit(model: Any) -> int:
    """Tokens that question and answer may have together."""
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


def end_tokens(model: Any) -> set[int]:
    """Tokens that end an answer."""
    ends = model.generation_config.eos_token_id
    return set() if ends is None else {ends} if isinstance(ends, int) else set(ends)
