"""Datasets in other forms: each is read by what its field reads it with, and all hold the same pictures, splits and people."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from posefactory_dagster.datasets import formats, rows, selecting
from posefactory_dagster.datasets.formats import FORMATS, H36M_JOINTS, MARK
from posefactory_dagster.settings import PROJECT_ROOT, sample_characters
from tests.conftest import SAMPLES, Factory, needs_root
from tests.datasets import made_up

#: The forms of single pictures.
STILL = [kind for kind in FORMATS if kind != "video"]


@pytest.fixture(scope="module")
def factory_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    """Three characters and a pair of two of them, all the way to a dataset."""
    factory = Factory(tmp_path_factory.mktemp("formats"))
    settings = factory.root / "posefactory.toml"
    settings.write_text(settings.read_text() + "styles = []\n")
    for name in ("ada_walk", "bruno_squat", "chen_jack"):
        factory.cli("characters", "add", str(SAMPLES / f"{name}.fbx"), "--name", name)
    factory.cli("groups", "add", "pair", "ada_walk", "bruno_squat")
    said = json.loads(factory.cli("run", "--all", "--json"))
    assert not said["failed"], said
    yield factory


@pytest.fixture(scope="module")
def exported(factory_once: Factory) -> dict[str, Path]:
    """The dataset in every form, and where it lies itself."""
    found = {"dataset": Path(factory_once.cli("datasets", "path").strip())}
    for kind in STILL:
        found[kind] = factory_once.root / "out" / kind
        factory_once.cli("datasets", "export", "--format", kind, "--to", str(found[kind]))
        assert json.loads((found[kind] / MARK).read_text())["complete"]
    return found


def _coco(folder: Path, kind: str = "") -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(folder / "annotations" / f"person_keypoints_{kind}all.json"))


@pytest.fixture(scope="module")
def pictures(exported: dict[str, Path]) -> dict[str, list[np.ndarray]]:
    """By file name below images/, the 17 keypoints of each person, read by pycocotools from the COCO form."""
    read = _coco(exported["coco"])
    return {
        image["file_name"]: [np.array(a["keypoints"]).reshape(17, 3) for a in read.loadAnns(read.getAnnIds(imgIds=number))]
        for number, image in read.imgs.items()
    }  # fmt: skip


def test_images_are_linked_and_not_copied(exported: dict[str, Path], pictures: dict[str, list[np.ndarray]]) -> None:  # fmt: skip
    assert len(pictures) == 8 and sum(map(len, pictures.values())) == 10
    for name in pictures:
        source = (exported["dataset"] / "images" / name).stat()
        for kind, folder in (("coco", "images/"), ("yolo", "images/"), ("huggingface", ""), ("cvat", "images/")):  # fmt: skip
            assert (exported[kind] / f"{folder}{name}").stat().st_ino == source.st_ino


def test_coco_has_both_sets_of_keypoints_and_masks(exported: dict[str, Path]) -> None:
    for kind, count in (("", 17), ("33_", 33)):
        read = _coco(exported["coco"], kind)
        for annotation in read.anns.values():
            assert len(annotation["keypoints"]) == 3 * count
            assert read.annToMask(annotation).sum() == annotation["area"] > 0
            shown = sum(v > 0 for v in annotation["keypoints"][2::3])
            assert annotation["num_keypoints"] == shown


def test_yolo_by_an_independent_reader(exported: dict[str, Path], pictures: dict[str, list[np.ndarray]]) -> None:  # fmt: skip
    """As Ultralytics documents its pose format: class, box, and kpt_shape values of each keypoint, in parts of the image."""
    folder = exported["yolo"]
    about = yaml.safe_load((folder / "data.yaml").read_text())
    assert about["kpt_shape"] == [17, 3] and sorted(about["flip_idx"]) == list(range(17))
    assert len(about["kpt_names"][0]) == 17
    seen = {}
    for split in ("train", "val", "test"):
        if split not in about:
            continue
        for path in sorted((folder / about[split]).iterdir()):
            label = folder / "labels" / split / f"{path.stem}.txt"
            width, height = Image.open(path).size
            people = []
            for line in label.read_text().splitlines():
                values = np.array(line.split(), float)
                assert len(values) == 5 + 51 and values[0] == 0 and (values[1:5] <= 1).all()
                people.append(values[5:].reshape(17, 3) * (width, height, 1))
            seen[f"{split}/{path.name}"] = people
    assert set(seen) == set(pictures)
    for name, people in seen.items():
        for mine, theirs in zip(people, pictures[name], strict=True):
            assert np.abs(mine - theirs).max() < 0.01


def test_hugging_face_reads_it(
    exported: dict[str, Path], pictures: dict[str, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    loaded = datasets.load_dataset("imagefolder", data_dir=str(exported["huggingface"]), cache_dir=str(tmp_path))  # fmt: skip
    names = {"train": "train", "validation": "val", "test": "test"}
    rows = [(names[s], row) for s, part in loaded.items() for row in part]
    assert len(rows) == len(pictures)
    for split, row in rows:
        assert split == row["split"]
        mine = [np.array(p) for p in row["keypoints"]]
        assert any(
            n.startswith(f"{split}/") and len(p) == len(mine) and all(np.allclose(a, b) for a, b in zip(p, mine, strict=True))
            for n, p in pictures.items()
        )  # fmt: skip


def test_webdataset_reads_it(exported: dict[str, Path], pictures: dict[str, list[np.ndarray]]) -> None:  # fmt: skip
    import webdataset

    seen = 0
    for shard in sorted(exported["webdataset"].glob("*.tar")):
        split = shard.name.partition("-")[0]
        for sample in webdataset.WebDataset(str(shard), shardshuffle=False).decode("rgb8"):
            name = sample["json"]["image"]["file_name"]
            assert name.startswith(f"{split}/") and sample["png"].shape == (96, 96, 3)
            assert sample["mask.png"].shape[:2] == (96, 96)
            assert len(sample["json"]["people"]) == len(pictures[name])
            seen += 1
    assert seen == len(pictures)


def test_cvat_has_a_skeleton_for_each_person(exported: dict[str, Path], pictures: dict[str, list[np.ndarray]]) -> None:  # fmt: skip
    root = ET.parse(exported["cvat"] / "annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    parts = [x.findtext("name") for x in root.iter("label") if x.findtext("parent") == "person"]
    assert len(parts) == 17
    images = {i.get("name"): i for i in root.iter("image")}
    assert set(images) == set(pictures)
    for name, people in pictures.items():
        skeletons = images[name].findall("skeleton")
        assert len(skeletons) == len(people)
        for skeleton, points in zip(skeletons, people, strict=True):
            for point, (x, y, v) in zip(skeleton.findall("points"), points, strict=True):
                assert [float(n) for n in point.get("points").split(",")] == pytest.approx([x, y], abs=0.01)  # fmt: skip
                assert (point.get("outside"), point.get("occluded")) == (str(int(v == 0)), str(int(v == 1)))  # fmt: skip


def test_mediapipe_and_h36m_hold_the_same_poses_in_space(exported: dict[str, Path], pictures: dict[str, list[np.ndarray]]) -> None:  # fmt: skip
    with np.load(exported["h36m"] / "poses_3d.npz") as stored:
        poses = {n: stored[n] for n in stored.files}
    assert poses["positions_3d"].shape == (10, 17, 3) and list(poses["joints"]) == list(H36M_JOINTS)
    # By the pinhole: joints in the camera's frame fall on their pixels; the camera's pose links both frames.
    seen = np.einsum("nij,nkj->nki", poses["intrinsics"], poses["positions_3d"])
    left = list(H36M_JOINTS).index("left_wrist")
    assert np.abs(seen[:, left, :2] / seen[:, left, 2:] - poses["positions_2d"][:, left]).max() < 0.01  # fmt: skip
    world = np.einsum("nij,nkj->nki", poses["rotation"], poses["positions_3d_world"]) + poses["translation"][:, None]  # fmt: skip
    assert np.abs(world - poses["positions_3d"]).max() < 1e-4
    found: dict[str, dict] = {}
    for path in exported["mediapipe"].glob("pose_landmarks_*.json"):
        found |= json.loads(path.read_text())
    assert set(found) == set(pictures)
    for number, name in enumerate(poses["file_name"]):
        person = int(poses["person"][number])
        landmarks = found[name]["pose_landmarks"][person]
        spread = found[name]["pose_world_landmarks"][person]
        assert len(landmarks) == len(spread) == 33
        # Landmark 15 is the left wrist (MediaPipe Pose).
        joint = poses["positions_3d"][number, left] - poses["positions_3d"][number, 0]
        assert [spread[15][a] for a in "xyz"] == pytest.approx(joint.tolist(), abs=1e-4)
        assert landmarks[15]["x"] * 96 == pytest.approx(poses["positions_2d"][number, left, 0], abs=0.01)  # fmt: skip


def test_parquet_has_a_row_for_each_person(exported: dict[str, Path], pictures: dict[str, list[np.ndarray]]) -> None:  # fmt: skip
    table = pd.read_parquet(exported["parquet"] / "people.parquet")
    assert len(table) == 10 and set(table["file_name"]) == set(pictures)
    assert {"ada_walk", "bruno_squat"} == set(table[table["character"] == "pair"]["person"])
    rows = pd.read_parquet(exported["parquet"] / "landmarks.parquet")
    assert len(rows) == 10 * 33


def test_selections_and_numbers_of_pictures(factory_once: Factory, exported: dict[str, Path], tmp_path: Path) -> None:  # fmt: skip
    def export(*options: str, expect: int = 0) -> str:
        return factory_once.cli("datasets", "export", "--to", str(tmp_path / "out"), *options, expect=expect)  # fmt: skip

    assert "no format; did you mean yolo?" in export("--format", "yolov8", expect=2)
    assert "no condition" in export("--select", "pretty", expect=2)
    assert "no such field" in export("--select", "mood=happy", expect=2)
    assert "there are bruno_squat" not in export("--select", "character=nobody", expect=2)
    assert "is no number" in export("--select", "size>=tall", expect=2)
    assert "no picture is left" in export("--select", "people>=5", expect=2)
    assert not (tmp_path / "out").exists()
    said = json.loads(export("--select", "people=2", "--json"))
    assert said["pictures"] == 2
    read = _coco(tmp_path / "out")
    assert {i["character"] for i in read.imgs.values()} == {"pair"}
    # The same again finds it done; another export into it is refused, and what is there stays.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
    export("--select", "people=2")
    assert "holds another export" in export("--select", "people=1", expect=2)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not lose")
    said_no = factory_once.cli("datasets", "export", "--to", str(tmp_path / "mine"), expect=2)
    assert "not empty" in said_no and (tmp_path / "mine" / "thesis.txt").read_text() == "do not lose"  # fmt: skip


def test_an_export_that_was_cut_off_goes_on(factory_once: Factory, tmp_path: Path) -> None:
    to = tmp_path / "out"
    factory_once.cli("datasets", "export", "--format", "yolo", "--to", str(to))
    mark = json.loads((to / MARK).read_text())
    (to / MARK).write_text(json.dumps({k: v for k, v in mark.items() if k != "complete"}))
    lost = next((to / "images").rglob("*.png"))
    half = next(p for p in (to / "images").rglob("*.png") if p != lost)
    lost.unlink()
    half.unlink()
    half.write_bytes(b"half a pict")
    factory_once.cli("datasets", "export", "--format", "yolo", "--to", str(to))
    assert json.loads((to / MARK).read_text())["complete"] and lost.is_file()
    Image.open(half).load()


def test_a_disk_without_links_gets_copies(exported: dict[str, Path], factory_once: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    source = next((exported["dataset"] / "images").rglob("*.png"))
    target = formats.Target(
        tmp_path, pd.DataFrame(), source, source, lambda names: dict.fromkeys(names, source), lambda name: source, lambda name, path: False,
    )  # fmt: skip
    target.link({"images/x.png": "a/x.png"})
    assert (tmp_path / "a" / "x.png").read_bytes() == source.read_bytes()
    assert (tmp_path / "a" / "x.png").stat().st_ino != source.stat().st_ino


def test_varied_pictures_keep_shares_and_differ_more_than_chance() -> None:
    chance = np.random.default_rng(2)
    # Nine of ten are nearly the same; the others are spread widely.
    features = [chance.normal(size=37) * (0.01 if number % 10 else 1.0) for number in range(300)]
    index = pd.DataFrame({"split": ["train"] * 200 + ["val"] * 100, "features": features})
    chosen = selecting.varied(index, 30)
    assert len(chosen) == 30 and (chosen["split"] == "train").sum() == 20
    assert sum(n % 10 == 0 for n in chosen.index) > 20 and list(chosen.index) == sorted(chosen.index)  # fmt: skip
    assert list(chosen.index) == list(selecting.varied(index, 30).index)


def test_croissant_is_valid_and_read(exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """By MLCommons' own library, which checks the form, the sha256 of files and the columns."""
    import mlcroissant

    read = mlcroissant.Dataset(jsonld=str(exported["dataset"] / "croissant.json"))
    assert not read.metadata.ctx.issues.errors and not read.metadata.ctx.issues.warnings
    rows = list(read.records(record_set="landmarks"))
    assert len(rows) == 10 * 33
    table = pd.read_parquet(exported["dataset"] / "landmarks.parquet")
    first = {k.partition("/")[2]: v for k, v in rows[0].items()}
    assert first["name"] == b"nose" and first["x_px"] == pytest.approx(table["x_px"][0])


def _blocks() -> dict[str, str]:
    """The loaders in the docs, by the form that each names in its first line."""
    text = (PROJECT_ROOT / "docs" / "datasets.md").read_text("utf-8")
    found = re.findall(r"```python\n# (\w+)\n(.*?)```", text, re.DOTALL)
    return {kind: code for kind, code in found}


def test_every_form_is_explained() -> None:
    assert set(_blocks()) | {"cvat"} == set(FORMATS)


def _video_of(folder: Path) -> Path:
    _clip_of(4, (64, 48), folder / "set")
    formats.export(made_up.opened(folder / "set", folder / "out"), "video", {"format": "video", "version": "1"})  # fmt: skip
    return folder / "out"


@pytest.mark.parametrize("kind", sorted(_blocks()))
def test_loaders_in_the_docs_run(kind: str, exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    folder = exported[kind] if kind != "video" else _video_of(tmp_path)
    space: dict[str, object] = {"folder": str(folder)}
    exec(_blocks()[kind], space)  # the page's own lines
    found = [space.get(n) for n in ("people", "keypoints", "nose", "poses") if n in space]
    assert found and all(len(f) > 0 for f in found)


def _tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}  # fmt: skip


def _breaking(target: formats.Target) -> formats.Target:
    """A target that breaks after two pictures or more."""

    def tell(done: int) -> None:
        if done >= 2:
            raise RuntimeError("the power is gone")

    target.tell = tell
    return target


@pytest.mark.parametrize("kind", STILL)
def test_an_export_is_brought_up_to_a_later_version(tmp_path: Path, kind: str) -> None:
    """What went is gone, what came is there, and what is in both was not written again; as if it had been exported anew."""
    made_up.dataset(tmp_path / "one", made_up.items(20), files=True)
    made_up.dataset(tmp_path / "two", made_up.items(20, 5), files=True)
    for path in (tmp_path / "one" / "images").rglob("*.png"):  # in both versions the same files
        shared = tmp_path / "two" / path.relative_to(tmp_path / "one")
        if shared.exists():
            shared.unlink()
            os.link(path, shared)
    to = tmp_path / "Bücher und 日本 é"
    formats.export(made_up.opened(tmp_path / "one", to), kind, {"format": kind, "version": "1"})
    before = {p: p.stat() for p in to.rglob("*.png")}
    # A later version that was cut off midway leaves files that neither of the others has; and somebody's own lie there too.
    made_up.dataset(tmp_path / "half", made_up.items(3, 100), files=True)
    with pytest.raises(RuntimeError):
        formats.export(_breaking(made_up.opened(tmp_path / "half", to)), kind, {"format": kind, "version": "1b"})  # fmt: skip
    (to / "notes.txt").write_text("mine")
    formats.export(made_up.opened(tmp_path / "two", to), kind, {"format": kind, "version": "2"})
    assert (to / "notes.txt").read_text() == "mine"
    (to / "notes.txt").unlink()
    formats.export(made_up.opened(tmp_path / "two", tmp_path / "new"), kind, {"format": kind, "version": "2"})  # fmt: skip
    updated, new = _tree(to), _tree(tmp_path / "new")
    assert set(updated) == set(new)
    for name in new:  # archives hold the time of their writing
        if not name.endswith((".tar", ".npz")):
            assert updated[name] == new[name], name
    kept = [p for p in before if p.exists()]
    if kind != "webdataset":
        assert len([p for p in kept if "mask" not in str(p) and "depth" not in str(p)]) == 15
        assert all(p.stat().st_ctime_ns >= before[p].st_ctime_ns and p.stat().st_ino == before[p].st_ino for p in kept if "mask" not in str(p) and "depth" not in str(p))  # fmt: skip
    with pytest.raises(formats.ExportError, match="holds another export"):
        formats.export(made_up.opened(tmp_path / "two", to), kind, {"format": "other", "version": "2"})  # fmt: skip


@needs_root
def test_a_full_disk_stops_an_export_and_more_space_lets_it_go_on(factory_once: Factory, small_disk: Callable[[str], Path]) -> None:  # fmt: skip
    disk = small_disk("size=60k")
    command = ("datasets", "export", "--format", "yolo", "--to", str(disk / "out"))
    said = factory_once.cli(*command, expect=2)
    assert "No space left" in said and "run the same command again" in said
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    factory_once.cli(*command)
    images = list((disk / "out" / "images").rglob("*.png"))
    assert len(images) == 8 and not list((disk / "out").rglob("*.part"))
    for path in images:
        Image.open(path).load()


def test_a_damaged_picture_is_named_and_not_passed_on(exported: dict[str, Path], factory_once: Factory, tmp_path: Path) -> None:  # fmt: skip
    picture = next((exported["dataset"] / "images").rglob("*.png"))
    sound = picture.read_bytes()
    picture.write_bytes(sound[:-9] + b"123456789")
    try:
        said = factory_once.cli("datasets", "export", "--to", str(tmp_path / "out"), expect=2)
        assert picture.name in said and "damaged" in said
        assert "complete" not in json.loads((tmp_path / "out" / MARK).read_text())
        assert picture.name in factory_once.cli("datasets", "verify", expect=1)
    finally:
        picture.write_bytes(sound)
    factory_once.cli("datasets", "export", "--to", str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / MARK).read_text())["complete"]


def test_a_dataset_of_an_earlier_version_says_what_to_do(exported: dict[str, Path], factory_once: Factory, tmp_path: Path) -> None:  # fmt: skip
    manifest = next(p for p in factory_once.store.rglob("manifest.json") if "/pose_dataset/" in str(p))  # fmt: skip
    text = manifest.read_text()
    document = json.loads(text)
    del document["files"][rows.PICTURES], document["files"]["people.parquet"]
    manifest.write_text(json.dumps(document))
    try:
        for verb in (("export", "--to", str(tmp_path / "out")), ("variety",)):
            assert "of an earlier version; make it anew with posefactory run --all" in factory_once.cli("datasets", *verb, expect=2)  # fmt: skip
        assert not (tmp_path / "out").exists()
    finally:
        manifest.write_text(text)


def test_who_reads_a_version_goes_on_reading_while_another_takes_its_place(exported: dict[str, Path], factory_once: Factory) -> None:  # fmt: skip
    """This and the last test change the dataset: they come after the others."""
    before = Path(factory_once.cli("datasets", "path").strip())
    settings = factory_once.root / "posefactory.toml"
    ids = {i["file_name"].partition("/")[2]: i["id"] for i in _coco(before).imgs.values()}
    with (next(before.glob("images/*/*.png"))).open("rb") as reading:
        reading.read(10)
        settings.write_text(settings.read_text() + "[dataset]\nextra_files = ['normals']\nsplit_seed = 3\n")  # fmt: skip
        factory_once.cli("run", "--all")
        after = Path(factory_once.cli("datasets", "path").strip())
        assert after != before
        reading.seek(0)
        Image.open(reading).load()
    # The earlier version is whole, and pictures and people have the same ids in both.
    listed = json.loads(factory_once.cli("datasets", "list", "--json"))
    assert len(listed) == 2
    assert json.loads(factory_once.cli("datasets", "verify", listed[1]["version"], "--json"))["damaged"] == []  # fmt: skip
    said = json.loads(factory_once.cli("datasets", "changelog", "--json"))
    assert [r["version"] for r in said] == [r["version"] for r in listed] and "changes" not in said[1]  # fmt: skip
    assert set(said[0]["changes"]["settings_changed"]) == {"extra_files", "split_seed"}
    assert "split_seed: 0 to 3" in factory_once.cli("datasets", "changelog")
    read = _coco(after)
    assert {i["file_name"].partition("/")[2]: i["id"] for i in read.imgs.values()} == ids
    assert set(read.anns) == set(_coco(before).anns)
    for image in read.imgs.values():
        assert (after / image["normals"]).is_file()
        # The same pixels lie on the disk once.
        assert (after / "images" / image["file_name"]).stat().st_nlink > 2
    to = factory_once.root / "with_normals"
    factory_once.cli("datasets", "export", "--to", str(to))
    assert len(list((to / "normals").glob("*.png"))) == 8


def _clip_of(count: int, size: tuple[int, int], folder: Path) -> formats.Target:
    """A dataset of one clip in two views, in which a square wanders; and a picture that is of no clip."""
    pictures = []
    for number, item in enumerate(made_up.items(2 * count + 1)):
        view, frame = f"v{number % 2}", 1 + number // 2
        name = f"train/c0__{view}_{frame:04d}.png"
        image = {**item.image, "file_name": name, "split": "train", "character": "c0", "view": view, "frame": frame, "look": "plain", "width": size[0], "height": size[1],
                 **({"fps": 30.0, "flow": f"flow/{Path(name).name}"} if number < 2 * count else {})}  # fmt: skip
        pictures.append(rows.Item(image, item.people))
        shade = np.full((size[1], size[0], 3), 60, np.uint8)
        shade[10 : 20, 3 * frame : 3 * frame + 10] = (250, 180, 20) if view == "v0" else (20, 90, 250)  # fmt: skip
        for file in (name, f"../flow/{Path(name).name}"):
            (folder / "images" / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shade).save(folder / "images" / file)
    return made_up.dataset(folder, iter(pictures))


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_clips_become_videos_with_the_truth_of_each_frame(tmp_path: Path, size: tuple[int, int]) -> None:  # fmt: skip
    import av

    _clip_of(6, size, tmp_path / "set")
    formats.export(made_up.opened(tmp_path / "set", tmp_path / "out"), "video", {"format": "video", "version": "1"})  # fmt: skip
    videos = sorted((tmp_path / "out" / "videos" / "train").glob("*.mp4"))
    assert [v.stem for v in videos] == ["c0__plain__v0", "c0__plain__v1"]
    for path in videos:
        about = json.loads(path.with_suffix(".json").read_text())
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert float(stream.average_rate) == 30 and stream.codec_context.name == "h264"
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
        assert len(frames) == len(about["frames"]) == 6
        assert [f["frame"] for f in about["frames"]] == [1, 2, 3, 4, 5, 6]
        for frame, said in zip(frames, about["frames"], strict=True):
            picture = np.asarray(Image.open(tmp_path / "set" / "images" / said["image"])).astype(float)  # fmt: skip
            error = ((frame[: size[1], : size[0]] - picture) ** 2).mean()
            assert 10 * np.log10(255**2 / error) > 28  # colour has half the pixels in such a video
            assert len(said["people"][0]["keypoints"]) == 51 and (tmp_path / "out" / said["flow"]).is_file()  # fmt: skip


def test_a_clip_with_a_gap_becomes_two_videos(tmp_path: Path) -> None:
    _clip_of(6, (64, 48), tmp_path / "set")
    target = made_up.opened(tmp_path / "set", tmp_path / "out")
    target.index = target.index[(target.index["view"] == "v0") & (target.index["frame"] != 3)]
    formats.export(target, "video", {"format": "video", "version": "1"})
    videos = sorted(p.stem for p in (tmp_path / "out" / "videos" / "train").glob("*.mp4"))
    assert videos == ["c0__plain__v0__0001", "c0__plain__v0__0004"]


def test_weights_are_beside_the_shards_as_they_change_with_every_version(tmp_path: Path) -> None:
    import webdataset

    made_up.dataset(tmp_path / "set", made_up.items(9), files=True)
    written = set()
    for version, weight in (("1", 1.0), ("2", 3.0)):
        target = made_up.opened(tmp_path / "set", tmp_path / "out")
        target.index = target.index.assign(weight=weight)
        formats.export(target, "webdataset", {"format": "webdataset", "version": version})
        shards = sorted((tmp_path / "out").glob("*.tar"))
        written.add(tuple(p.stat().st_mtime_ns for p in shards))
        keys = [s["__key__"] for s in webdataset.WebDataset([str(p) for p in shards], shardshuffle=False)]  # fmt: skip
        said = json.loads((tmp_path / "out" / "weights.json").read_text())
        assert said == dict.fromkeys(keys, weight) and len(keys) == 9
    assert len(written) == 1


def test_who_comes_first_in_the_alphabet_moves_nobody_to_another_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    import webdataset

    monkeypatch.setattr(formats, "SHARD_IMAGES", 10)
    made_up.dataset(tmp_path / "one", made_up.items(90, 3), files=True)
    # Three new ones before all others, and one of the old ones is gone.
    made_up.dataset(tmp_path / "two", (i for i in made_up.items(93) if "f000050" not in i.name), files=True)  # fmt: skip
    to = tmp_path / "out"
    held: list[dict[str, set[str]]] = []
    for version in ("one", "two"):
        formats.export(made_up.opened(tmp_path / version, to), "webdataset", {"format": "webdataset", "version": version})  # fmt: skip
        held.append({p.name: {s["__key__"] for s in webdataset.WebDataset(str(p), shardshuffle=False)} for p in sorted(to.glob("*.tar"))})  # fmt: skip
    first, second = held
    assert len(first) == 9 and all(len(keys) == 10 for keys in first.values())
    assert sum(len(keys) for keys in second.values()) == 92
    changed = {name for name in second if second[name] != first.get(name)}
    # One that lost a picture, and a new one for each split.
    assert set(first) <= set(second) and len(changed) == 4 and len(second) == 12


@pytest.mark.parametrize("kind", ["coco", "huggingface", "webdataset"])
def test_from_elsewhere_a_later_version_fetches_what_is_new_alone(tmp_path: Path, kind: str) -> None:  # fmt: skip
    """The store is elsewhere, and keeps nothing here: what an export has already is told by its content."""
    made_up.dataset(tmp_path / "first", made_up.items(2100), files=True)
    made_up.dataset(tmp_path / "second", made_up.items(2103), files=True)
    fetched: list[str] = []

    def export_of(version: str) -> None:
        source = tmp_path / version

        def fetch(names: Sequence[str]) -> dict[str, Path]:
            fetched.extend(names)
            return {n: source / n for n in names}

        target = made_up.opened(source, tmp_path / "out")
        target.sources, target.at_hand = fetch, lambda name: None
        target.same = lambda name, path: (source / name).read_bytes() == path.read_bytes()
        formats.export(target, kind, {"format": kind, "version": version})

    export_of("first")
    assert len({n for n in fetched if n.startswith("images/")}) == len([n for n in fetched if n.startswith("images/")]) == 2100  # fmt: skip
    fetched.clear()
    export_of("second")
    pictures = [n for n in fetched if n.startswith("images/")]
    if kind == "webdataset":  # a shard is a file: those that grew are written anew
        assert len(pictures) == 3 * 701
    else:
        assert len(pictures) == 3 and all("f0021" in n for n in pictures)
    if kind == "coco":
        assert len(fetched) == 9


def test_without_clips_there_is_no_video(tmp_path: Path) -> None:
    made_up.dataset(tmp_path / "set", made_up.items(4), files=True)
    with pytest.raises(formats.ExportError, match="none of the pictures are of clips"):
        formats.export(made_up.opened(tmp_path / "set", tmp_path / "out"), "video", {"format": "video", "version": "1"})  # fmt: skip
    # The folder is free for another form.
    formats.export(made_up.opened(tmp_path / "set", tmp_path / "out"), "yolo", {"format": "yolo", "version": "1"})  # fmt: skip


def test_an_empty_factory_says_how_to_begin(factory: Factory, tmp_path: Path) -> None:
    for verb in (("export", "--to", str(tmp_path / "out")), ("verify",), ("show",), ("path",), ("variety",)):  # fmt: skip
        assert "no dataset is made yet; posefactory run --all makes one" in factory.cli("datasets", *verb, expect=2)  # fmt: skip
    assert "no datasets yet" in factory.cli("datasets", "list")


def test_versions_are_compared_and_verified(factory_once: Factory) -> None:
    first = json.loads(factory_once.cli("datasets", "show", "--json"))["version"]
    assert "are as they were written" in factory_once.cli("datasets", "verify")
    before = json.loads((Path(factory_once.cli("datasets", "path").strip()) / "splits.json").read_text())  # fmt: skip
    # Who comes later moves nobody, whatever the alphabet says.
    later = factory_once.root / "aaron.glb"
    shutil.copy(sample_characters()[3], later)
    factory_once.cli("characters", "add", str(later))
    factory_once.cli("run", "--all")
    after = json.loads((Path(factory_once.cli("datasets", "path").strip()) / "splits.json").read_text())  # fmt: skip
    assert before["characters"] == {k: s for k, s in after["characters"].items() if k != "aaron"}
    factory_once.cli("characters", "remove", "aaron")
    factory_once.cli("groups", "remove", "pair")
    factory_once.cli("run", "--all")
    found = json.loads(factory_once.cli("datasets", "diff", first[:8], "--json"))
    assert found["before"] == first != found["after"]
    assert found["characters_removed"] == ["pair"] and found["characters_added"] == []
    assert len(found["images_removed"]) == 2 and not found["images_changed"] and not found["labels_changed"]  # fmt: skip
    folder = Path(factory_once.cli("datasets", "path").strip())
    picture = next((folder / "images").rglob("*.png"))
    assert (
        not picture.stat().st_mode & 0o222
    )  # shared with the renders: nobody changes it in place by accident
    picture.unlink()
    picture.write_bytes(b"damaged")
    said = factory_once.cli("datasets", "verify", expect=1)
    assert picture.name in said
    # The version before is another folder, and whole.
    assert "are as they were written" in factory_once.cli("datasets", "verify", first)
