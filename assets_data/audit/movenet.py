"""MoveNet Lightning for `posefactory audit`: a model that runs in Node, behind the two things that a class of one's own needs.

    npm install @vladmandic/human@3.3.6 @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-converter@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0
    posefactory audit assets_data/audit/movenet.py:MoveNet

The packages are looked for in the folder that MOVENET_PACKAGES names, else in the present one. The model comes with `@vladmandic/human` (MIT); it is Google's
MoveNet.SinglePose.Lightning (Apache-2.0), which looks for one person in the whole picture.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from posefactory_dagster.quality.model import ModelError
from posefactory_dagster.quality.models import crop, crop_matrix

SIDE = 192
#: Where the best keypoints are less sure than this, nobody was found.
CONFIDENCE = 0.2


class MoveNet:
    """See ``posefactory_dagster.quality.models.PoseModel``.

    Raises:
        ModelError: Node or the packages are not there.
    """

    needs_boxes = False

    def __init__(self) -> None:
        node = shutil.which("node")
        packages = Path(os.environ.get("MOVENET_PACKAGES", ".")).resolve()
        if node is None or not (packages / "node_modules" / "@vladmandic" / "human").is_dir():
            raise ModelError(f"MoveNet needs Node, and in {packages} what {Path(__file__).name} says how to install (or set MOVENET_PACKAGES)")  # fmt: skip
        script = Path(__file__).with_suffix(".mjs")
        # What reads pictures gets no secrets.
        self._node = subprocess.Popen(
            [node, str(script), str(packages)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
        )  # fmt: skip

    def people(self, image: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        """One person at most; see ``PoseModel``."""
        matrix = crop_matrix(np.array([0, 0, image.shape[1], image.shape[0]]), SIDE, 1.0)
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        line = b""
        with contextlib.suppress(BrokenPipeError):
            self._node.stdin.write(np.ascontiguousarray(crop(image, matrix, SIDE)).tobytes())
            self._node.stdin.flush()
            line = self._node.stdout.readline()
        if not line:
            raise ModelError(f"MoveNet's Node ended with {self._node.wait()}; what it said stands above")  # fmt: skip
        answer = np.array(json.loads(line)).reshape(17, 3)
        points = np.column_stack([answer[:, 1] * SIDE, answer[:, 0] * SIDE, answer[:, 2]])
        points[:, :2] = (points[:, :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        return [points] if np.sort(answer[:, 2])[-5:].mean() >= CONFIDENCE else []

    def close(self) -> None:
        """End Node."""
        self._node.terminate()
        self._node.wait()
