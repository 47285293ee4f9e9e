"""Pose models behind one small interface, so that any of them can be measured: BlazePose, ONNX files, and a class of one's own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.quality import model as bundles
from posefactory_dagster.quality.model import ModelError

#: Names that stand for a model without a file.
SHIPPED = "blazepose"
_COCO_IN_33 = [LANDMARKS.index(name) for name in COCO_KEYPOINTS]


class PoseModel(Protocol):
    """A model of human poses. A class of one's own needs these two, no base class."""

    #: Whether it is given people's boxes, as networks are that look at one person at a time; else it finds people itself.
    needs_boxes: bool

    def people(self, image: np.ndarray, boxes: np.ndarray) -> Sequence[np.ndarray]:
        """Who is in an image.

        Args:
            image: (H, W, 3) uint8 RGB. boxes: (P, 4) x, y, width, height in pixels, of the people who are in it; to be used by models that need them.

        Returns:
            Of each person (17, 3): x, y in pixels from the image's top-left corner and a confidence, of COCO's keypoints.
        """


def open_model(name: str) -> PoseModel:
    """A model by what names it.

    Args:
        name: ``blazepose`` (MediaPipe's full model, which is installed); a ``.task`` bundle; one of BlazePose's ``.tflite`` landmark models; an ``.onnx`` file (see
            ``OnnxModel``); or ``FILE.py:CLASS``, a class of one's own, made without arguments.

    Raises:
        ModelError: it cannot be opened; the text says what to do.
    """
    if name == SHIPPED:
        return BlazePose(bundles.model_path())
    file, colon, attribute = name.rpartition(":")
    if colon and file.endswith(".py"):
        return _own(Path(file), attribute)
    path = Path(name)
    if not path.is_file():
        raise ModelError(f"{name}: no such file; name {SHIPPED}, a .task, .tflite or .onnx file, or FILE.py:CLASS")  # fmt: skip
    if path.suffix == ".task":
        return BlazePose(path)
    if path.suffix == ".tflite":
        return BlazePose(bundles.bundle_of(path))
    if path.suffix == ".onnx":
        return OnnxModel(path)
    raise ModelError(f"{name}: no kind of model that is known; name {SHIPPED}, a .task, .tflite or .onnx file, or FILE.py:CLASS")  # fmt: skip


def _own(path: Path, name: str) -> PoseModel:
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found: PoseModel = getattr(module, name)()
    except Exception as error:  # whatever its code raises
        raise ModelError(f"{path}:{name}: cannot be made ({type(error).__name__}: {error})") from error  # fmt: skip
    for wanted in ("needs_boxes", "people"):
        if not hasattr(found, wanted):
            raise ModelError(f"{path}:{name}: has no {wanted}; see posefactory_dagster.quality.models.PoseModel")  # fmt: skip
    return found


class BlazePose:
    """MediaPipe's PoseLandmarker with any of its models. It finds people itself.

    Args:
        bundle: a ``.task`` file.
    """

    needs_boxes = False
    #: Less sure people are not reported, as in MediaPipe's own default.
    CONFIDENCE = 0.5

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle
        self._landmarkers: dict[int, Any] = {}
        self._opened = contextlib.ExitStack()

    def people(self, image: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        """See ``PoseModel``. It looks for as many people as there are boxes."""
        from posefactory_dagster.quality.landmarker import Landmarkers

        most = max(1, len(boxes))
        if most not in self._landmarkers:
            made = Landmarkers(self._bundle, self.CONFIDENCE, most, count=1)
            self._landmarkers[most] = self._opened.enter_context(made)
        size = (image.shape[1], image.shape[0])
        return [
            np.column_stack([p.values[_COCO_IN_33, :2] * size, p.values[_COCO_IN_33, 3]])
            for p in self._landmarkers[most].look(image)
        ]

    def close(self) -> None:
        """Let go of the models in memory."""
        self._landmarkers.clear()
        self._opened.close()


class OnnxAbout(BaseModel):
    """How an ONNX file wants its images and what it answers; a YAML file of the same name beside it, or its metadata ``posefactory`` as JSON.

    Attributes:
        output: ``heatmaps``: (N, 17, h, w) for the crop of a person; ``yolo``: (1, 56, M) of a whole image, as Ultralytics exports pose models.
        size: of the input, pixels (width = height). mean, std: subtracted and divided by, of channels from 0 to 1.
        margin: width of a crop in lengths of the person's box. confidence: the least of people that ``yolo`` reports.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: str = Field(pattern="^(heatmaps|yolo)$")
    size: int = Field(ge=16, le=4096)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    margin: float = Field(default=1.25, ge=1, le=4)
    confidence: float = Field(default=0.25, ge=0, le=1)


class OnnxModel:
    """A network in an ONNX file, see ``OnnxAbout``; it runs on the CPU."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ModelError("ONNX files need the extra `audit`: pip install -c constraints.txt -e '.[audit]'") from None  # fmt: skip
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])  # fmt: skip
        except Exception as error:  # its errors have no base of their own
            raise ModelError(f"{path}: no network that onnxruntime reads ({error})") from error
        self._about = self._described(path)
        self.needs_boxes = self._about.output == "heatmaps"

    def _described(self, path: Path) -> OnnxAbout:
        beside = path.with_suffix(".yaml")
        said = self._session.get_modelmeta().custom_metadata_map.get("posefactory")
        try:
            if beside.is_file():
                return OnnxAbout.model_validate(yaml.safe_load(beside.read_text("utf-8")))
            if said is not None:
                return OnnxAbout.model_validate(json.loads(said))
        except (ValidationError, ValueError, yaml.YAMLError) as error:
            raise ModelError(f"{path}: its description is wrong: {error}") from error
        raise ModelError(f"{path}: says nothing of its input; put {beside.name} beside it, with output (heatmaps or yolo) and size, perhaps mean, std, margin, confidence")  # fmt: skip

    def people(self, image: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        """See ``PoseModel``."""
        return self._in_crops(image, boxes) if self.needs_boxes else self._in_image(image)

    def _run(self, images: np.ndarray) -> np.ndarray:
        values = (images.astype(np.float32) / 255 - np.array(self._about.mean, np.float32)) / np.array(self._about.std, np.float32)  # fmt: skip
        name = self._session.get_inputs()[0].name
        batch = np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)
        return np.asarray(self._session.run(None, {name: batch})[0])

    def _in_crops(self, image: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        size = self._about.size
        found = []
        for box in boxes:
            matrix = crop_matrix(box, size, self._about.margin)
            maps = self._run(crop(image, matrix, size)[None])[0]
            if maps.ndim != 3 or len(maps) != len(COCO_KEYPOINTS):
                raise ModelError(f"the network answers {maps.shape}, not 17 heatmaps of a crop")
            points = peaks(maps[None])[0]
            points[:, :2] *= size / np.array([maps.shape[2], maps.shape[1]])
            points[:, :2] = (points[:, :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
            found.append(points)
        return found

    def _in_image(self, image: np.ndarray) -> list[np.ndarray]:
        size = self._about.size
        height, width = image.shape[:2]
        matrix = crop_matrix(np.array([0, 0, width, height]), size, 1.0)
        rows = self._run(crop(image, matrix, size)[None])[0].T
        if rows.ndim != 2 or rows.shape[1] != 5 + 3 * len(COCO_KEYPOINTS):
            raise ModelError(f"the network answers {rows.shape}, not (56, M) as pose models of Ultralytics do")  # fmt: skip
        rows = rows[rows[:, 4] >= self._about.confidence]
        import cv2

        corners = np.column_stack([rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:4]])
        kept = cv2.dnn.NMSBoxes(corners.tolist(), rows[:, 4].tolist(), self._about.confidence, 0.7)
        found = []
        for row in rows[np.array(kept, int).ravel()]:
            points = row[5:].reshape(-1, 3).astype(float)
            points[:, :2] = (points[:, :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
            found.append(points)
        return found


def crop_matrix(box: np.ndarray, side: int, margin: float) -> np.ndarray:
    """From an image to a square crop around a box: (2, 3). Pixels have their origin at the outer corner of the top-left one.

    Args:
        box: (4,) x, y, width, height. side: of the crop in pixels. margin: its width in lengths of the box's longer side.
    """
    x, y, w, h = (float(v) for v in box)
    scale = side / (max(w, h, 1.0) * margin)
    return np.array([[scale, 0, side / 2 - scale * (x + w / 2)], [0, scale, side / 2 - scale * (y + h / 2)]])  # fmt: skip


def crop(image: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """The crop (side, side, 3) of an image (H, W, 3); grey where it reaches beyond."""
    import cv2

    shifted = matrix.copy()  # OpenCV's origin is the middle of the top-left pixel
    shifted[:, 2] += 0.5 * matrix[:, :2].sum(axis=1) - 0.5
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 0.5:  # far smaller: blurred first, so that every pixel of the image counts
        image = cv2.GaussianBlur(image, (0, 0), 0.5 / scale)
    return cv2.warpAffine(image, shifted, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(114, 114, 114))  # fmt: skip


def peaks(maps: np.ndarray) -> np.ndarray:
    """Places (N, K, 3) of the highest values of heatmaps (N, K, h, w), in their pixels, and these values: the middle of mass of the 5 x 5 pixels around."""
    count, kinds, height, width = maps.shape
    flat = maps.reshape(count, kinds, height * width)
    row, column = np.divmod(flat.argmax(axis=2), width)
    padded = np.pad(np.maximum(maps, 0), ((0, 0), (0, 0), (2, 2), (2, 2)))
    near = np.arange(5)
    rows, columns = row[..., None] + near, column[..., None] + near
    n, k = np.arange(count)[:, None, None, None], np.arange(kinds)[None, :, None, None]
    window = padded[n, k, rows[..., :, None], columns[..., None, :]] + 1e-9
    total = window.sum(axis=(2, 3))
    x = column + 0.5 + (window.sum(axis=2) * (near - 2)).sum(axis=2) / total
    y = row + 0.5 + (window.sum(axis=3) * (near - 2)).sum(axis=2) / total
    return np.stack([x, y, flat.max(axis=2)], axis=2).astype(float)
