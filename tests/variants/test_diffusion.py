"""Stable Diffusion on this machine, through the real loading code, on tiny pipelines with random weights.

What the pictures show is noise; that they are made, held by the controls, repeatable, and refused where models do not
fit, is what is tested. Run by `make test-diffusers`.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip(
    "diffusers", reason="diffusers is not installed; make test-diffusers installs it"
)
torch = pytest.importorskip("torch")

from diffusers import (  # noqa: E402
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (  # noqa: E402
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from posefactory_dagster.quality.records import Parameters  # noqa: E402
from posefactory_dagster.variants.enhancers.base import CannotEnhance  # noqa: E402
from posefactory_dagster.variants.enhancers.diffusion import Diffusion, working_size  # noqa: E402
from posefactory_dagster.variants.shots import Shots  # noqa: E402
from posefactory_dagster.variants.styles import Style, style_of  # noqa: E402
from tests.variants.conftest import Make  # noqa: E402

START, END = "<|startoftext|>", "<|endoftext|>"
FAMILIES = ("sd_1_5", "sdxl")


def tokenizer(folder: Path) -> CLIPTokenizer:
    """One token per byte, so that every prompt can be read without a download."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    letters = [chr(b) if b in printable else chr(next(spare)) for b in range(256)]
    words = [*letters, *(c + "</w>" for c in letters), START, END]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special})
    )
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def unet_values(family: str) -> dict:
    values = {
        "in_channels": 4, "block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "cross_attention_dim": 32, "attention_head_dim": 2,
    }  # fmt: skip
    if family == "sdxl":
        values |= {
            "cross_attention_dim": 64, "attention_head_dim": (2, 4), "use_linear_projection": True,
            "addition_embed_type": "text_time", "transformer_layers_per_block": (1, 2),
            "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 32,
        }  # fmt: skip
    return values


def build(root: Path, family: str) -> None:
    """A base and two ControlNets of a family, as folders."""
    torch.manual_seed(0)
    words = tokenizer(root / "words")
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, projection_dim=32, bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8), norm_num_groups=4, layers_per_block=1, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, sample_size=128,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        **unet_values(family), out_channels=4, sample_size=16,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    beta = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
    }
    if family == "sd_1_5":
        pipeline = StableDiffusionPipeline(
            vae=vae, text_encoder=CLIPTextModel(text), tokenizer=words, unet=unet,
            scheduler=PNDMScheduler(skip_prk_steps=True, **beta), safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    else:
        pipeline = StableDiffusionXLPipeline(
            vae=vae, text_encoder=CLIPTextModel(text), text_encoder_2=CLIPTextModelWithProjection(text),
            tokenizer=words, tokenizer_2=words, unet=unet, scheduler=EulerDiscreteScheduler(**beta),
        )  # fmt: skip
    pipeline.save_pretrained(root / "base")
    for number, name in enumerate(("openpose", "depth")):
        torch.manual_seed(10 + number)
        net = ControlNetModel(
            **unet_values(family), conditioning_embedding_out_channels=(4, 4, 8, 8)
        )
        # They start at zero, and would do nothing.
        for part in (
            net.controlnet_cond_embedding.conv_out,
            net.controlnet_mid_block,
            *net.controlnet_down_blocks,
        ):
            torch.nn.init.normal_(part.weight, std=0.5)
        net.save_pretrained(root / name)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both families, a folder each."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        build(root / family, family)
    return root


def style(
    models: Path, family: str, controls: tuple[str, ...] = ("openpose", "depth"), **values: object
) -> Style:
    place = models / family
    options = {
        "base": str(place / "base"),
        "controlnets": {name: str(place / name) for name in controls},
        "work_size": 128,
    }
    content = {
        "provider": "diffusers",
        "model": family,
        "prompt": "Héllo 騎士",
        "steps": 2,
        "strength": 1.0,
        "control": 1.0,
    }
    return style_of(
        "tiny", {**content, **values, "options": {**options, **values.pop("options", {})}}
    )  # type: ignore[dict-item]


def made(shots: Shots, chosen: Style, view: int = 0, **parameters: object) -> np.ndarray:
    enhancer = Diffusion(chosen)
    enhancer.check(shots.size)
    asked = Parameters(
        prompt=chosen.prompt, strength=chosen.strength, control=chosen.control, seed=7
    )
    answer = enhancer.enhance(shots.read(view), chosen, asked.model_copy(update=parameters))
    with Image.open(io.BytesIO(answer.data)) as image:
        assert image.size == shots.size
        return np.asarray(image)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_repeatable_and_held_by_the_controls(
    shots: Shots, models: Path, family: str
) -> None:
    chosen = style(models, family)
    first = made(shots, chosen)
    assert (made(shots, chosen) == first).all()
    for other in (
        made(shots, chosen, seed=8),
        made(shots, chosen, control=0.0),
        made(shots, chosen, prompt="something else"),
        made(shots, style(models, family, ("openpose",))),
        made(shots, style(models, family, ())),
        made(shots, chosen, view=1),
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
        Diffusion(style(tmp_path / "models", "sdxl")).check((384, 384))


def test_weights_that_are_broken_are_an_error_and_no_crash(
    shots: Shots, models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models, tmp_path / "models")
    weights = (
        tmp_path / "models" / "sd_1_5" / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    )
    weights.write_bytes(b"broken")
    with pytest.raises(CannotEnhance):
        made(shots, style(tmp_path / "models", "sd_1_5"))


def test_too_few_steps_and_odd_sizes(models: Path) -> None:
    with pytest.raises(CannotEnhance, match="leave none to do"):
        Diffusion(style(models, "sdxl", steps=2, strength=0.3)).check((384, 384))
    assert working_size((512, 384), 1024) == (1024, 768)
    assert working_size((500, 333), 512) == (512, 344)
