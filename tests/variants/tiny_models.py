"""Tiny pipelines with random weights of both families, as folders: what is loaded is real, what they draw is noise."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from posefactory_dagster.variants.documents import Style, style_of

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


def build_all(root: Path) -> None:
    """Both families, a folder each."""
    for family in FAMILIES:
        build(root / family, family)


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
