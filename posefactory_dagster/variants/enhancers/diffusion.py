"""Stable Diffusion on this machine: SDXL or SD 1.5 image-to-image, held to the pose by ControlNets.

The package `diffusers` and torch are an extra (`pip install '.[diffusers]'`). Weights come from local folders, or from
a hub by their id.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import cv2
from PIL import Image

from posefactory_dagster.costs.prices import estimate_cost
from posefactory_dagster.quality.records import Parameters
from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.variants.controls import CONTROLS
from posefactory_dagster.variants.enhancers.base import CannotEnhance, Enhanced, EnhancerError, Shot
from posefactory_dagster.variants.styles import DiffusersOptions, Style

#: The models work on eighths of a pixel grid.
GRID = 8
#: What must be the same in a ControlNet and its base model; else it loads, and fails or misleads when it runs.
SHARED_CONFIG = ("cross_attention_dim", "addition_embed_type", "in_channels")


class Diffusion:
    """See the module. Loads its models at the first image, and makes one image at a time.

    Raises:
        CannotEnhance: the extra is not installed.
    """

    #: It costs minutes of a GPU, so what is made is kept at once; and it may be made again where it was lost.
    paid = True
    repeatable = True
    parallel = 1

    def __init__(self, style: Style) -> None:
        options = style.options
        assert isinstance(options, DiffusersOptions)
        if (
            importlib.util.find_spec("diffusers") is None
            or importlib.util.find_spec("torch") is None
        ):
            raise CannotEnhance(
                "diffusers and torch are not installed; run .venv/bin/uv pip install -e '.[diffusers]', "
                "or take another style"
            )
        self._style, self._options = style, options
        self._pipeline: Any = None
        self._lock = threading.Lock()
        version = importlib.metadata.version("diffusers")
        self.name = {"provider": "diffusers", "model": options.base, "version": version}

    def price(self) -> float:
        cost = estimate_cost("diffusers", steps=self._style.steps, model=self._style.model)
        return float(cost["per_image"])

    def check(self, size: tuple[int, int]) -> None:
        if int(self._style.steps * self._style.strength) < 1:
            raise CannotEnhance(
                f"{self._style.steps} steps at strength {self._style.strength} leave none to do; raise one of them"
            )
        preflight(self._options)

    def close(self) -> None:
        self._pipeline = None

    def enhance(self, shot: Shot, style: Style, parameters: Parameters) -> Enhanced:
        with self._lock:
            try:
                return self._enhance(shot, style, parameters)
            except EnhancerError:
                raise
            except (OSError, ValueError, RuntimeError, TypeError) as error:
                # Not a fault of one image: models that do not fit each other, or no memory.
                words = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
                raise CannotEnhance(f"{self._options.base}: {words}") from error

    def _enhance(self, shot: Shot, style: Style, parameters: Parameters) -> Enhanced:
        import torch

        if self._pipeline is None:
            self._pipeline = load(self._options)
        size = working_size(shot.subject.size, self._options.work_size)
        image = Image.fromarray(shot.subject.pixels).resize(size, Image.Resampling.LANCZOS)
        maps = [
            Image.fromarray(cv2.resize(CONTROLS[name](shot), size, interpolation=cv2.INTER_AREA))
            for name in self._options.controlnets
        ]
        controls: dict[str, Any] = {}
        if maps:
            scales = [parameters.control] * len(
                maps
            )  # one for each: a shorter list drops nets unsaid
            controls = {"control_image": maps, "controlnet_conditioning_scale": scales}
        result = self._pipeline(
            prompt=parameters.prompt,
            negative_prompt=parameters.negative_prompt,
            image=image,
            strength=max(parameters.strength, 1.01 / style.steps),
            num_inference_steps=style.steps,
            guidance_scale=self._options.guidance,
            generator=torch.Generator("cpu").manual_seed(parameters.seed),
            **controls,
        )
        made = result.images[0].convert("RGB").resize(shot.subject.size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        made.save(buffer, "PNG")
        flagged = getattr(result, "nsfw_content_detected", None)
        answer = {"device": str(self._pipeline.device), "work_size": list(size)}
        return Enhanced(
            buffer.getvalue(), "png", parameters.seed, answer, bool(flagged and flagged[0])
        )


def working_size(size: tuple[int, int], longer: int) -> tuple[int, int]:
    """(width, height) with the longer side as asked, on the models' grid."""
    scale = longer / max(size)
    width, height = (max(GRID, round(s * scale / GRID) * GRID) for s in size)
    return width, height


def local_folder(name: str) -> Path | None:
    """The folder that a name means, or None for a hub id; relative ones are taken from the project.

    Raises:
        CannotEnhance: it is a path, and nothing is there.
    """
    path = Path(name).expanduser()
    found = path if path.is_absolute() else PROJECT_ROOT / path
    if found.is_dir():
        return found
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise CannotEnhance(
            f"{name}: no such folder; put the model there, or name it by its hub id"
        )
    return None


def preflight(options: DiffusersOptions) -> None:
    """Look at the models that lie here before their weights are read.

    Raises:
        CannotEnhance: a folder is missing or holds something else, or a ControlNet does not belong to its base.
    """
    base = local_folder(options.base)
    unet: dict[str, Any] = {}
    if base is not None:
        if not (base / "model_index.json").is_file():
            raise CannotEnhance(
                f"{options.base}: no model_index.json, so it is no diffusers pipeline"
            )
        unet = _config(base / "unet" / "config.json")
    for name in options.controlnets.values():
        folder = local_folder(name)
        if folder is None:
            continue
        net = _config(folder / "config.json")
        if net.get("_class_name") != "ControlNetModel":
            raise CannotEnhance(f"{name}: holds {net.get('_class_name')}, not a ControlNetModel")
        for key in SHARED_CONFIG:
            if unet and net.get(key) != unet.get(key):
                raise CannotEnhance(
                    f"{name}: made for another base model ({key} is {net.get(key)}, that of {options.base} {unet.get(key)})"
                )


def _config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise CannotEnhance(
            f"{path.parent.name}: {path.name} cannot be read, so it is no diffusers model"
        ) from error


def load(options: DiffusersOptions) -> Any:
    """The pipeline with its ControlNets, on the GPU where there is one; the base's own index decides SDXL or SD 1.5."""
    names = [options.base, *options.controlnets.values()]
    if all(local_folder(name) for name in names):
        os.environ.setdefault(
            "HF_HUB_OFFLINE", "1"
        )  # before its first import; nothing is to be fetched
    import torch
    from diffusers import AutoPipelineForImage2Image, ControlNetModel

    gpu = torch.cuda.is_available()
    # Always named: files in half precision would else be mixed with parts in full.
    shared: dict[str, Any] = {
        "dtype": torch.float16 if gpu else torch.float32,
        "use_safetensors": True,
    }
    if options.half_precision_files:
        shared["variant"] = "fp16"

    def place(name: str) -> dict[str, Any]:
        folder = local_folder(name)
        return {
            "pretrained_model_name_or_path": str(folder or name),
            "local_files_only": folder is not None,
        }

    nets = [
        ControlNetModel.from_pretrained(**place(n), **shared) for n in options.controlnets.values()
    ]
    with_nets = {"controlnet": nets} if nets else {}
    where = place(options.base)
    pipeline = AutoPipelineForImage2Image.from_pretrained(
        where.pop("pretrained_model_name_or_path"), **where, **shared, **with_nets
    )
    if len(pipeline.tokenizer) <= 2:  # its files are missing, and it would go on with a stub
        raise CannotEnhance(f"{options.base}: its tokenizer is incomplete")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if gpu else "cpu")
