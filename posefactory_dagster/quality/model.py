"""The PoseLandmarker model: assembled on first use from the files that ship inside MediaPipe."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import tempfile
import zipfile
from pathlib import Path

from posefactory_dagster.settings import environment
from posefactory_dagster.storage.sets import file_sha256

#: Fixed, so that the same parts give the same bytes.
ZIP_DATE = (2020, 1, 1, 0, 0, 0)
#: (file in the package, name in the bundle, normalisation mean, standard deviation).
PARTS = (
    ("pose_detection/pose_detection.tflite", "pose_detector.tflite", 127.5, 127.5),
    ("pose_landmark/pose_landmark_full.tflite", "pose_landmarks_detector.tflite", 0.0, 255.0),
)


class ModelError(RuntimeError):
    """The PoseLandmarker model is not available; the text names the next step."""


def model_path() -> Path:
    """The `.task` bundle: what POSE_LANDMARKER_MODEL names, else the one made from the package.

    Raises:
        ModelError: neither is there.
    """
    named = environment().pose_landmarker_model
    if named is not None:
        if not named.is_file():
            raise ModelError(f"POSE_LANDMARKER_MODEL={named}: no such file")
        return named
    return _bundle(_shipped_parts(), "full")


def bundle_of(landmarks: Path) -> Path:
    """A `.task` bundle of another of BlazePose's landmark models (lite, full or heavy, a ``.tflite`` file) with the shipped detector.

    Raises:
        ModelError: it is none, or no detector is installed.
    """
    try:
        return _bundle([_shipped_parts()[0], landmarks], landmarks.stem)
    except ModelError:
        raise
    except Exception as error:  # of the reader of TFLite's format, whatever it is
        raise ModelError(f"{landmarks}: no landmark model of BlazePose ({error})") from error


def _bundle(parts: list[Path], name: str) -> Path:
    digest = hashlib.sha256("".join(file_sha256(p) for p in parts).encode()).hexdigest()[:12]
    bundle = environment().cache / f"pose_landmarker_{name}-{digest}.task"
    if not bundle.is_file():
        bundle.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=bundle.parent, delete=False) as partial:
            partial.write(assemble(parts))
        Path(partial.name).replace(bundle)  # whole or not at all, as another process may look
    return bundle


def _shipped_parts() -> list[Path]:
    package = importlib.util.find_spec("mediapipe")
    if package is None or package.origin is None:
        raise ModelError("mediapipe is not installed; run `make setup`")
    paths = [Path(package.origin).parent / "modules" / source for source, *_ in PARTS]
    for path in paths:
        if not path.is_file():
            raise ModelError(
                f"this mediapipe ships no {path.name} (0.10.21 is the last that does); "
                "install it, or name a model with POSE_LANDMARKER_MODEL"
            )
    return paths


def assemble(parts: list[Path]) -> bytes:
    """The bundle: a zip of the package's two models, with the metadata that Tasks wants.

    The shipped models lack normalisation metadata; the figures are those of MediaPipe's own graphs.
    """
    from mediapipe.tasks.python.metadata.metadata_writers import metadata_writer  # 3 s to import

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for path, (_, name, mean, deviation) in zip(parts, PARTS, strict=True):
            writer = metadata_writer.MetadataWriter.create(bytearray(path.read_bytes()))
            writer.add_image_input([mean], [deviation])
            model, _ = writer.populate()
            bundle.writestr(zipfile.ZipInfo(name, ZIP_DATE), bytes(model))
    return buffer.getvalue()
