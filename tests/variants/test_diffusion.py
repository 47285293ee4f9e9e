"""Stable Diffusion on this machine, through the real loading code, on tiny pipelines with random weights.

What the pictures show is noise; that they are made, held by the controls, repeatable, and refused where models do not
fit, is what is tested. Run by `make test-diffusers`.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# The default set-up is without torch; `make test-diffusers` has an environment with it.
pytest.importorskip(
    "diffusers", reason="diffusers is not installed; make test-diffusers installs it"
)
torch = pytest.importorskip("torch")

from posefactory_dagster.diffusion.engine import working_size  # noqa: E402
from posefactory_dagster.variants.documents import Parameters, Style  # noqa: E402
from posefactory_dagster.variants.enhancers.base import CannotEnhance  # noqa: E402
from posefactory_dagster.variants.enhancers.diffusion import Diffusion, Here  # noqa: E402
from posefactory_dagster.variants.render_views import RenderViews  # noqa: E402
from tests.variants.conftest import Make  # noqa: E402
from tests.variants.tiny_models import FAMILIES, style  # noqa: E402


def made(
    render_views: RenderViews, chosen: Style, view: int = 0, **parameters: object
) -> np.ndarray:
    enhancer = Diffusion(chosen, Here())
    enhancer.check(render_views.truth.size_of(0))
    asked = Parameters(
        prompt=chosen.prompt, strength=chosen.strength, control=chosen.control, seed=7
    )
    answer = enhancer.enhance(render_views.read(view), chosen, asked.model_copy(update=parameters))
    with Image.open(io.BytesIO(answer.data)) as image:
        assert image.size == render_views.truth.size_of(0)
        return np.asarray(image)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_repeatable_and_held_by_the_controls(
    render_views: RenderViews, models: Path, family: str
) -> None:
    chosen = style(models, family)
    first = made(render_views, chosen)
    assert (made(render_views, chosen) == first).all()
    for other in (
        made(render_views, chosen, seed=8),
        made(render_views, chosen, control=0.0),
        made(render_views, chosen, prompt="something else"),
        made(render_views, style(models, family, ("openpose",))),
        made(render_views, style(models, family, ())),
        made(render_views, chosen, view=1),
    ):
        assert (other != first).any()


def test_a_batch_keeps_what_it_makes_and_asks_once(
    make: Make, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = style(models, "sd_1_5")
    (variant,) = make(chosen, max_attempts=2)
    assert variant.state == "blocked"  # noise is nobody
    calls = []
    monkeypatch.setattr(Diffusion, "enhance", lambda *a: calls.append(a))
    (again,) = make(chosen, max_attempts=2)
    assert again == variant and not calls
    assert variant.attempts[0].cost_usd > 0  # a GPU's minutes


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda m: shutil.rmtree(m / "sdxl" / "base"), "no such folder"),
        (lambda m: (m / "sdxl" / "base" / "model_index.json").unlink(), "no model_index.json"),
        (lambda m: (m / "sdxl" / "depth" / "config.json").write_text("{"), "cannot be read"),
        (lambda m: shutil.copy(m / "sdxl" / "base" / "unet" / "config.json", m / "sdxl" / "depth"), "not a ControlNetModel"),
        (lambda m: shutil.copy(m / "sd_1_5" / "depth" / "config.json", m / "sdxl" / "depth"), "made for another base model"),
    ],
)  # fmt: skip
def test_models_that_do_not_fit_are_told_before_they_are_loaded(
    models: Path, tmp_path: Path, break_it, words: str
) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(models, tmp_path / "models")
    break_it(tmp_path / "models")
    with pytest.raises(CannotEnhance, match=words):
        Diffusion(style(tmp_path / "models", "sdxl"), Here()).check((384, 384))


def test_weights_that_are_broken_are_an_error_and_no_crash(
    render_views: RenderViews, models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models, tmp_path / "models")
    weights = (
        tmp_path / "models" / "sd_1_5" / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    )
    weights.write_bytes(b"broken")
    with pytest.raises(CannotEnhance):
        made(render_views, style(tmp_path / "models", "sd_1_5"))


def test_too_few_steps_and_odd_sizes(models: Path) -> None:
    with pytest.raises(CannotEnhance, match="leave none to do"):
        Diffusion(style(models, "sdxl", steps=2, strength=0.3), Here()).check((384, 384))
    assert working_size((512, 384), 1024) == (1024, 768)
    assert working_size((500, 333), 512) == (512, 344)
