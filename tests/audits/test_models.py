"""Pose models behind one interface: BlazePose, ONNX files that are built here with known answers, classes of one's own, and what is none of these."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from posefactory_dagster.quality import models
from posefactory_dagster.quality.model import ModelError
from posefactory_dagster.settings import ASSETS_DATA

BOX = np.array([20.0, 30.0, 40.0, 100.0])


def network(path: Path, output: np.ndarray, size: int, about: dict | None) -> Path:
    """An ONNX file that answers the same to every image."""
    answer = helper.make_tensor("answer", TensorProto.FLOAT, output.shape, output.astype(np.float32).ravel())  # fmt: skip
    nothing = helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0])
    nodes = [
        helper.make_node("Mul", ["images", "nothing"], ["empty"]),
        helper.make_node("ReduceSum", ["empty"], ["zero"], keepdims=0),
        helper.make_node("Add", ["answer", "zero"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes, "fixed", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, output.shape)], [answer, nothing],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if about is not None:
        helper.set_model_props(model, {"posefactory": json.dumps(about)})
    onnx.save(model, str(path))
    return path


def test_heatmaps_of_a_crop_become_pixels_of_the_image(tmp_path: Path) -> None:
    maps = np.zeros((1, 17, 16, 16), np.float32)
    for k in range(17):
        maps[0, k, 3, k % 16] = 0.9
    path = network(tmp_path / "net.onnx", maps, 64, {"output": "heatmaps", "size": 64, "margin": 1.25})  # fmt: skip
    model = models.open_model(str(path))
    assert model.needs_boxes
    (points,) = model.people(np.zeros((200, 300, 3), np.uint8), BOX[None])
    # The crop is 125 pixels wide around (40, 80); a pixel of the heatmap is 125 / 16 of the image's.
    cell = 125 / 16
    for k in range(1, 14):  # those at the edge are drawn inwards by the middle of mass
        assert points[k, :2] == pytest.approx([40 - 62.5 + (k + 0.5) * cell, 80 - 62.5 + 3.5 * cell], abs=0.01)  # fmt: skip
    assert points[:, 2] == pytest.approx(0.9)


def test_yolo_answers_are_thinned_and_moved_to_the_image(tmp_path: Path) -> None:
    rows = np.zeros((1, 56, 4), np.float32)
    for n, (x, sure) in enumerate(
        ((30, 0.9), (31, 0.8), (50, 0.7), (10, 0.1))
    ):  # the second is the first again
        rows[0, :5, n] = x, 32, 12, 40, sure
        rows[0, 5:, n] = np.tile([x, 32 + n, 0.5], 17)
    path = network(tmp_path / "yolo.onnx", rows, 64, None)
    path.with_suffix(".yaml").write_text("output: yolo\nsize: 64\n")
    model = models.open_model(str(path))
    found = model.people(np.zeros((128, 128, 3), np.uint8), np.zeros((0, 4)))
    assert not model.needs_boxes and [f[0].tolist() for f in found] == [[60.0, 64.0, 0.5], [100.0, 68.0, 0.5]]  # fmt: skip


def test_crops_are_exact_to_a_part_of_a_pixel() -> None:
    """A bright dot lands where the matrix says, by its middle of mass, in enlarged and in reduced crops."""
    image = np.zeros((200, 300, 3), np.uint8)
    image[100:104, 140:144] = 255  # its middle lies at (142, 102)
    for box, side in ((np.array([120.0, 80, 50, 50]), 160), (np.array([0.0, 0, 300, 200]), 90)):
        matrix = models.crop_matrix(box, side, 1.2)
        got = models.crop(image, matrix, side).astype(float)[..., 0]
        ys, xs = np.mgrid[:side, :side] + 0.5
        wanted = matrix[:, :2] @ (142, 102) + matrix[:, 2]
        got[np.hypot(xs - wanted[0], ys - wanted[1]) > 14] = 0  # the grey beyond the image
        middle = np.array([(got * xs).sum(), (got * ys).sum()]) / got.sum()
        assert middle == pytest.approx(wanted, abs=0.05)


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\nclass Mine:\n    needs_boxes = True\n    def people(self, image, boxes):\n        return [np.ones((17, 3)) for _ in boxes]\n")  # fmt: skip
    model = models.open_model(f"{path}:Mine")
    assert len(model.people(np.zeros((9, 9, 3), np.uint8), BOX[None])) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nothing.onnx", None, "no such file"), ("notes.txt", b"x", "no kind of model that is known"), ("torn.onnx", b"not a network", "no network that onnxruntime reads"),
        ("torn.tflite", b"not a model", "no landmark model of BlazePose"), ("broken.py:Mine", b"raise RuntimeError('out of cheese')", "out of cheese"),
        ("empty.py:Mine", b"", "has no attribute 'Mine'"), ("short.py:Mine", b"class Mine: needs_boxes = True", "has no people"), ("gone.py:Mine", None, "no such file"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_told_so(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:  # fmt: skip
    file, _, attribute = name.partition(":")
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError, match=said):
        models.open_model(f"{tmp_path / file}:{attribute}" if attribute else str(tmp_path / file))


def test_a_network_must_say_what_it_wants(tmp_path: Path) -> None:
    maps = np.zeros((1, 17, 4, 4))
    with pytest.raises(ModelError, match=r"put net.yaml beside it"):
        models.open_model(str(network(tmp_path / "net.onnx", maps, 16, None)))
    (tmp_path / "net.yaml").write_text("output: poetry\nsize: 16\n")
    with pytest.raises(ModelError, match="its description is wrong"):
        models.open_model(str(tmp_path / "net.onnx"))
    (tmp_path / "net.yaml").write_text("output: yolo\nsize: 16\n")
    with pytest.raises(ModelError, match="not \\(56, M\\)"):
        models.open_model(str(tmp_path / "net.onnx")).people(np.zeros((9, 9, 3), np.uint8), BOX[None])  # fmt: skip


MOVENET = f"{ASSETS_DATA / 'audit' / 'movenet.py'}:MoveNet"


def test_movenet_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOVENET_PACKAGES", str(tmp_path))
    with pytest.raises(ModelError, match="MoveNet needs Node, and in .* what movenet.py says how to install"):  # fmt: skip
        models.open_model(MOVENET)


@pytest.mark.skipif(
    shutil.which("node") is None or "MOVENET_PACKAGES" not in os.environ,
    reason="no Node, or MOVENET_PACKAGES does not name the packages that assets_data/audit/movenet.py needs",
)
def test_movenet_finds_the_person_and_nobody_in_grey() -> None:
    """The gate's own picture of a person, wherever it stands in a larger one."""
    from PIL import Image

    picture = next((ASSETS_DATA.parent / "docs").glob("contact_sheet.jpg"))
    with Image.open(picture) as opened:
        person = np.asarray(
            opened.convert("RGB").crop((0, 50, 240, 290))
        )  # the first sample, from the front
    model = models.open_model(MOVENET)
    try:
        (points,) = model.people(person, np.zeros((0, 4)))
        nose, ankles = points[0], points[15:17]
        assert points.shape == (17, 3) and (nose[1] < ankles[:, 1]).all()
        larger = np.full((360, 480, 3), 120, np.uint8)
        larger[60:300, 200:440] = person
        (moved,) = model.people(larger, np.zeros((0, 4)))
        sure = points[:, 2] > 0.4
        assert np.median(np.abs(moved[sure, :2] - (200, 60) - points[sure, :2])) < 8
        assert model.people(np.full((200, 200, 3), 120, np.uint8), np.zeros((0, 4))) == []
    finally:
        model.close()  # type: ignore[attr-defined]
