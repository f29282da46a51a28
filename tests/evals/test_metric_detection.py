"""A detector of transformers' format, random and tiny: kinds by name from .25 on; the object tasks run with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.benchmarks.protocol import Film
from evals.benchmarks.tempocontrol import Detector, TempoControl, TempoControlSettings
from evals.metrics.detection import LEAST, CocoDetector, open_detector
from evals.metrics.embedders import Weights, digest
from evals.metrics.score import NotMeasured
from evals.metrics.temporal import one_object, read_mask, two_objects
from generators.clip import Frames
from generators.video import write_take

Cli = Callable[..., Any]
NAMES = ("Person", "Sports Ball", "Dog")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    names = dict(enumerate(NAMES))
    config = YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[32, 32],
        patch_size=16, num_detection_tokens=4, id2label=names, label2id={name: at for at, name in names.items()},
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(folder / "coco_detector")
    processor = YolosImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 48})
    processor.save_pretrained(folder / "coco_detector")
    return folder


@pytest.fixture(scope="module")
def frames() -> Frames:
    return np.random.default_rng(0).integers(0, 256, (21, 40, 60, 3), dtype=np.uint8)


@pytest.mark.slow
def test_a_kind_is_seen_where_its_box_is_certain_enough(weights: Path, frames: Frames) -> None:
    import torch

    detector = open_detector(Weights(folder=weights))
    assert isinstance(detector, CocoDetector)
    assert isinstance(detector, Detector)
    assert detector.name == f"yolos {digest(str(weights / 'coco_detector'))}"
    found = detector.seen(frames)
    for frame, seen in zip(frames[:4], found, strict=False):
        with torch.no_grad():
            inputs = detector.processor(images=[frame], return_tensors="pt")
            likely = detector.model(**inputs).logits[0].softmax(-1)[:, :-1]  # the last one is "nothing"
        slow = {NAMES[int(box.argmax())].lower() for box in likely if float(box.max()) > LEAST}
        assert seen == slow
    assert len(found) == 21
    assert len(set(found)) > 1


def test_without_its_weights_the_object_tasks_are_not_measured(tmp_path: Path) -> None:
    path = objects(tmp_path)
    bench = TempoControl.with_weights(TempoControlSettings(task="two objects", prompts=path), Weights())
    film = Film(frames=np.zeros((21, 32, 32, 3), np.uint8), fps=16)
    assert bench.judge(bench.units()[0], [film]).outcomes == {
        "temporal accuracy, two objects": NotMeasured(
            reason="missing weights coco_detector: no folder of weights was named"
        )
    }
    assert bench.settings()["detector"] is None


def objects(tmp_path: Path) -> Path:
    path = tmp_path / "two_objects.csv"
    mask = " ".join("0" * 10 + "1" * 11)
    path.write_text(f"prompt,temp_object,static_object,control_signal1\na puppy comes,puppy,person,{mask}\n")
    return path


@pytest.mark.slow
def test_object_tasks_run_from_the_command_line_with_aliases_in_the_name(
    cli: Cli, weights: Path, frames: Frames, tmp_path: Path
) -> None:
    folder, path, text = tmp_path / "videos", tmp_path / "one_object.csv", " ".join("0" * 5 + "1" * 16)
    folder.mkdir()
    write_take(folder / "a ball rolls-0.mkv", frames, 16)
    path.write_text(f"prompt,temp_object,control_signal1\na ball rolls,Ball,{text}\n")
    detector = CocoDetector(str(weights / "coco_detector"))
    ball = ["sports ball" in names for names in detector.seen(frames)]
    mask = read_mask(text)
    by_coco, by_word = one_object(mask, ball).accuracy, one_object(mask, [False] * 21).accuracy
    assert by_coco != by_word
    words = ("eval", "one-object", path, "--clips", folder, "--weights", weights, "--out", tmp_path, "--json")
    for option, variant, expected in ((("--aliases",), ", COCO aliases", by_coco), ((), "", by_word)):
        done = cli(*words, *option)
        assert done.code == 0, done.err
        table = json.loads(done.out)
        mean = {line["summary"]["metric"]: line["summary"]["mean"] for line in table["lines"] if line["group"] == "all"}
        assert mean == {f"temporal accuracy, one object ({detector.name}{variant})": pytest.approx(expected)}
        assert table["manifest"]["settings"]["detector"] == detector.name
    refused = cli("eval", "movement", path, "--aliases")
    assert refused.code == 2
    assert "only one-object and two-objects can take it" in " ".join(refused.err.split())


@pytest.mark.slow
def test_two_objects_are_held_against_what_the_detector_saw(weights: Path, frames: Frames, tmp_path: Path) -> None:
    settings = TempoControlSettings(task="two objects", prompts=objects(tmp_path))
    bench = TempoControl.with_weights(settings, Weights(folder=weights))
    (outcome,) = bench.judge(bench.units()[0], [Film(frames=frames, fps=16)]).outcomes.values()
    seen = CocoDetector(str(weights / "coco_detector")).seen(frames)
    person = ["person" in names for names in seen]
    expected = two_objects(read_mask(" ".join("0" * 10 + "1" * 11)), person, [False] * 21)  # nobody saw "puppy"
    assert not isinstance(outcome, NotMeasured)
    assert outcome.value == expected.accuracy
