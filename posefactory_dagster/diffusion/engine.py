"""Stable Diffusion: SDXL or SD 1.5 image-to-image, held to the pose by ControlNets; on the GPU where there is one.

The package `diffusers` and torch are an extra (`pip install '.[diffusers]'`). Weights come from local folders, or from
a hub by their id.
"""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import io
import json
import math
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: The models work on eighths of a pixel grid.
GRID = 8
#: What must be the same in a ControlNet and its base model; else it loads, and fails or misleads when it runs.
SHARED_CONFIG = ("cross_attention_dim", "addition_embed_type", "in_channels")


class CannotGenerate(RuntimeError):
    """A model or a package is missing or does not fit; the next image would fare no better."""


class NotGenerated(RuntimeError):
    """No image of this request came; the next may fare better."""


@dataclass(frozen=True)
class Models:
    """A base and its ControlNets by control, each a folder or a hub id."""

    base: str
    controlnets: Mapping[str, str]
    half_precision_files: bool = False


@dataclass(frozen=True)
class Request:
    """One image to make. ``image`` and the ``controls`` (one for each ControlNet) are encoded pictures of one size.

    ``strength`` and ``control`` 0 to 1; ``work_size`` the longer side that the models work at, in pixels.
    """

    models: Models
    image: bytes
    controls: Mapping[str, bytes]
    prompt: str
    negative_prompt: str
    strength: float
    control: float
    steps: int
    guidance: float
    seed: int
    work_size: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        pictures = {name: _text(data) for name, data in self.controls.items()}
        return {**asdict(self), "image": _text(self.image), "controls": pictures}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """The request that ``to_dict`` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        return cls(
            **{
                **values,
                "models": Models(**values["models"]),
                "image": base64.b64decode(values["image"]),
                "controls": {n: base64.b64decode(c) for n, c in values["controls"].items()},
            }
        )


@dataclass(frozen=True)
class Answer:
    """An image as PNG, of the size of the one it was made from, and how it was made; ``seconds`` with the loading of
    models. ``filtered``: the pipeline's own content filter blackened it. ``usd``: what a rented machine's time cost.
    """

    image: bytes
    device: str
    work_size: tuple[int, int]
    seconds: float
    filtered: bool = False
    usd: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "image": _text(self.image)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Answer:
        """The answer that ``to_dict`` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        answer = cls(
            image=base64.b64decode(values["image"], validate=True),
            device=str(values["device"])[:100].encode("ascii", "replace").decode(),
            work_size=(int(values["work_size"][0]), int(values["work_size"][1])),
            seconds=float(values["seconds"]),
            filtered=bool(values["filtered"]),
        )
        picture_size(answer.image)
        if not (math.isfinite(answer.seconds) and answer.seconds >= 0):
            raise ValueError("no sensible number of seconds")
        return answer


class Engine:
    """Makes one image at a time; models are loaded when they are first asked for, and stay.

    Args:
        root: where relative names of folders begin.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pipelines: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._closed = False

    def make(self, request: Request) -> Answer:
        """The image.

        Raises:
            CannotGenerate: models that are not there or do not fit each other, or no memory for them.
        """
        with self._lock:
            if self._closed:
                raise CannotGenerate("the work was ended")
            try:
                return self._make(request)
            except CannotGenerate:
                raise
            except (OSError, ValueError, RuntimeError, TypeError) as error:
                # Not a fault of one image: models that do not fit each other, or no memory.
                words = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
                raise CannotGenerate(f"{request.models.base}: {words}") from error

    def close(self) -> None:
        """Let go of the models, after the image that is being made; no other is made."""
        self._closed = True
        with self._lock:
            self._pipelines.clear()

    def _make(self, request: Request) -> Answer:
        from PIL import Image

        started = time.perf_counter()
        pipeline = self._pipeline(request.models)
        import torch

        with Image.open(io.BytesIO(request.image)) as opened:
            render = opened.convert("RGB")
        size = working_size(render.size, request.work_size)
        controls: dict[str, Any] = {}
        if request.models.controlnets:
            maps = [_picture(request.controls[name], size) for name in request.models.controlnets]
            # A scale for each: a shorter list drops nets unsaid.
            scales = [request.control] * len(maps)
            controls = {"control_image": maps, "controlnet_conditioning_scale": scales}
        result = pipeline(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            image=render.resize(size, Image.Resampling.LANCZOS),
            strength=max(request.strength, 1.01 / request.steps),
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            generator=torch.Generator("cpu").manual_seed(request.seed),
            **controls,
        )
        made = result.images[0].convert("RGB").resize(render.size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        made.save(buffer, "PNG")
        flagged = getattr(result, "nsfw_content_detected", None)
        return Answer(
            buffer.getvalue(),
            str(pipeline.device),
            size,
            time.perf_counter() - started,
            bool(flagged and flagged[0]),
        )

    def _pipeline(self, models: Models) -> Any:
        name = json.dumps(asdict(models))
        if name not in self._pipelines:
            require_packages()
            preflight(models, self._root)
            self._pipelines[name] = load(models, self._root)
        return self._pipelines[name]


def require_packages() -> None:
    """Look whether the extra is installed.

    Raises:
        CannotGenerate: it is not.
    """
    if importlib.util.find_spec("diffusers") is None or importlib.util.find_spec("torch") is None:
        raise CannotGenerate("diffusers and torch are not installed")


def version() -> str:
    """The installed version of diffusers.

    Raises:
        CannotGenerate: there is none.
    """
    require_packages()
    return importlib.metadata.version("diffusers")


def working_size(size: tuple[int, int], longer: int) -> tuple[int, int]:
    """(width, height) with the longer side as asked, on the models' grid."""
    scale = longer / max(size)
    width, height = (max(GRID, round(s * scale / GRID) * GRID) for s in size)
    return width, height


def picture_size(png: bytes) -> tuple[int, int]:
    """(width, height) by the header of a PNG, which is not decoded.

    Raises:
        ValueError: it is none.
    """
    if len(png) < 24 or png[:8] != b"\x89PNG\r\n\x1a\n" or png[12:16] != b"IHDR":
        raise ValueError("no PNG")
    return struct.unpack(">II", png[16:24])


def local_folder(name: str, root: Path) -> Path | None:
    """The folder that a name means, or None for a hub id; relative ones begin at ``root``.

    Raises:
        CannotGenerate: it is a path, and nothing is there.
    """
    path = Path(name).expanduser()
    found = path if path.is_absolute() else root / path
    if found.is_dir():
        return found
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise CannotGenerate(
            f"{name}: no such folder; put the model there, or name it by its hub id"
        )
    return None


def preflight(models: Models, root: Path) -> None:
    """Look at the models that lie here before their weights are read.

    Raises:
        CannotGenerate: a folder is missing or holds something else, or a ControlNet does not belong to its base.
    """
    base = local_folder(models.base, root)
    unet: dict[str, Any] = {}
    if base is not None:
        if not (base / "model_index.json").is_file():
            raise CannotGenerate(
                f"{models.base}: no model_index.json, so it is no diffusers pipeline"
            )
        unet = _config(base / "unet" / "config.json")
    for name in models.controlnets.values():
        folder = local_folder(name, root)
        if folder is None:
            continue
        net = _config(folder / "config.json")
        if net.get("_class_name") != "ControlNetModel":
            raise CannotGenerate(f"{name}: holds {net.get('_class_name')}, not a ControlNetModel")
        for key in SHARED_CONFIG:
            if unet and net.get(key) != unet.get(key):
                raise CannotGenerate(
                    f"{name}: made for another base model ({key} is {net.get(key)}, that of {models.base} {unet.get(key)})"
                )


def load(models: Models, root: Path) -> Any:
    """The pipeline with its ControlNets, on the GPU where there is one; the base's own index decides SDXL or SD 1.5."""
    import torch
    from diffusers import AutoPipelineForImage2Image, ControlNetModel

    gpu = torch.cuda.is_available()
    # Always named: files in half precision would else be mixed with parts in full.
    shared: dict[str, Any] = {
        "dtype": torch.float16 if gpu else torch.float32,
        "use_safetensors": True,
    }
    if models.half_precision_files:
        shared["variant"] = "fp16"

    def place(name: str) -> dict[str, Any]:
        folder = local_folder(name, root)
        return {
            "pretrained_model_name_or_path": str(folder or name),
            "local_files_only": folder is not None,
        }

    nets = [
        ControlNetModel.from_pretrained(**place(n), **shared) for n in models.controlnets.values()
    ]
    with_nets = {"controlnet": nets} if nets else {}
    where = place(models.base)
    pipeline = AutoPipelineForImage2Image.from_pretrained(
        where.pop("pretrained_model_name_or_path"), **where, **shared, **with_nets
    )
    if len(pipeline.tokenizer) <= 2:  # its files are missing, and it would go on with a stub
        raise CannotGenerate(f"{models.base}: its tokenizer is incomplete")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if gpu else "cpu")


def _config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise CannotGenerate(
            f"{path.parent.name}: {path.name} cannot be read, so it is no diffusers model"
        ) from error


def _picture(data: bytes, size: tuple[int, int]) -> Any:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        return opened.convert("RGB").resize(size, Image.Resampling.BILINEAR)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
