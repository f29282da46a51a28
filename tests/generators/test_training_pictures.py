"""Pictures of a training run are there when there is something to see."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from generators.training.pictures import draw_losses


def test_errors_by_noise_level_have_a_panel_of_their_own(tmp_path: Path) -> None:
    steps = [{"step": step, "loss": 1.0 / step, "clips_per_second": 3.0} for step in (10, 20, 30)]
    draw_losses(steps, tmp_path / "one.png")
    draw_losses([row | {"at 0.9": 0.2} for row in steps], tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert two.height > one.height
        assert two.width == one.width


def test_nothing_is_drawn_while_no_number_was_logged_twice(tmp_path: Path) -> None:
    for rows in ([], [{"step": 1, "loss": 1.0}], [{"step": 1, "loss": 1.0}, {"step": 2, "gradient": 0.5}]):
        draw_losses(rows, tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []
