"""An FBX goes in, a labelled dataset comes out: through the real command line, Blender and MediaPipe."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image
from pycocotools.coco import COCO

from blender_scripts.contract import character_task
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.compute.record import read_jobs
from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.storage import layout
from tests.conftest import SAMPLES, SMALL, Factory

CHAIN = ("character", "multi_angle_renders", "pose_labels", "label_accuracy", "enhanced_variants")


def dataset_of(factory: Factory) -> Path:
    dataset = factory.sets.current("pose_dataset", "all")
    assert dataset is not None
    return dataset.path("README.md").parent


def check_dataset(folder: Path, images: int) -> None:
    for name, count in (("person_keypoints_all.json", 17), ("person_keypoints_33_all.json", 33)):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(folder / "annotations" / name))
        records = coco.loadImgs(coco.getImgIds())
        assert sum("variant" not in r for r in records) == images
        names = {r["file_name"] for r in records}
        assert all(r["variant_of"] in names for r in records if "variant" in r)
        assert all((folder / r["mask"]).is_file() for r in records)
        for annotation in coco.loadAnns(coco.getAnnIds()):
            assert len(annotation["keypoints"]) == 3 * count
            assert coco.annToMask(annotation).sum() == annotation["area"] > 0
        for image in coco.loadImgs(coco.getImgIds()):
            assert (folder / "images" / image["file_name"]).is_file()
            assert (folder / image["depth"]).is_file()
            assert np.array(image["rotation"]) @ np.array(image["rotation"]).T == pytest.approx(
                np.eye(3)
            )
    table = pd.read_parquet(folder / "landmarks.parquet")
    assert (table["variant"] == "").sum() == images * 33
    assert set(table["file"]) == {f"images/{n}" for n in names}
    assert {"x_px", "mediapipe_x", "visibility", "occluder_gap_m", "origin", "split"} <= set(
        table.columns
    )
    for split in ("train", "val", "test"):
        with contextlib.redirect_stdout(io.StringIO()):
            part = COCO(str(folder / "annotations" / f"person_keypoints_{split}.json"))
        assert {Path(i["file_name"]).name for i in part.dataset["images"]} == {
            p.name for p in (folder / "images").glob(f"{split}/*") if p.suffix != ".jsonl"
        }
    assert (folder / "contact_sheet.jpg").stat().st_size > 1000


def check_hugging_face(
    folder: Path, images: int, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """Both ways in: the folder of images, and the whole dataset by the head of its card."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    ways = (("imagefolder", {"data_dir": str(folder / "images")}), (str(folder), {}))
    for name, options in ways:
        loaded = datasets.load_dataset(name, cache_dir=str(cache), **options)
        rows = [row for split in loaded.values() for row in split]
        assert len(rows) == images
        for row in rows:
            assert row["image"].size == (256, 256) and np.array(row["keypoints"]).shape == (
                1,
                17,
                3,
            )
            assert (folder / row["depth"]).is_file()


def test_sample_to_dataset_and_nothing_is_made_twice(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory.add_sample("ada_walk")
    settings = factory.root / "posefactory.toml"
    settings.write_text(
        "[render]\nnum_angles = 4\nframes_per_clip = 1\nwidth = 256\nheight = 256\nsamples = 4\nengine = 'cycles'\n"
    )
    first = json.loads(factory.cli("run", "ada_walk", "--json"))
    assert not first["failed"] and not first["trouble"] and len(first["runs"]) == 1
    check_dataset(dataset_of(factory), 4)
    held = pd.read_parquet(dataset_of(factory) / "landmarks.parquet")["file"].nunique()
    check_hugging_face(dataset_of(factory), held, monkeypatch, factory.root / "cache")
    accuracy = factory.sets.current("label_accuracy", "ada_walk").facts["all"]
    assert accuracy["detection_rate"] == 1 and accuracy["pck_0.2"] > 0.8

    before = {r: factory.sets.find(r).created_at for r in factory.sets.all()}
    json.loads(factory.cli("run", "--all", "--json"))
    assert {r: factory.sets.find(r).created_at for r in factory.sets.all()} == before
    assert json.loads(factory.cli("run", "--stale", "--json"))["keys"] == []

    settings.write_text(settings.read_text() + "seed = 5\n")
    assert json.loads(factory.cli("run", "--stale", "--json"))["keys"] == ["ada_walk"]
    made = {r.asset for r in set(factory.sets.all()) - set(before)}
    assert made == {*CHAIN[1:], "pose_dataset"}
    assert all(factory.sets.find(r).created_at == t for r, t in before.items())
    assert json.loads(factory.cli("store", "verify", "--json"))["damaged"] == []

    # Damage is found, its advice leads back, and a dataset that is gone counts as stale.
    factory.sets.current("multi_angle_renders", "ada_walk").path("strip.png").unlink()
    assert "store verify --repair" in factory.cli("store", "verify", expect=1)
    factory.cli("store", "verify", "--repair")
    factory.sets.drop(factory.sets.current("pose_dataset", "all").ref)
    done = json.loads(factory.cli("run", "--stale", "--json"))
    assert done["keys"] == done["done"] == ["ada_walk"] and not done["trouble"]
    check_dataset(dataset_of(factory), 4)
    factory.sets.drop(factory.sets.current("pose_dataset", "all").ref)
    factory.cli("run", "--stale")
    check_dataset(dataset_of(factory), 4)


def test_ctrl_c_ends_all_of_it_and_leaves_nothing_running(factory: Factory) -> None:
    factory.add_sample("ada_walk")
    factory.add_sample("chen_jack", "between")
    factory.add_sample("bruno_squat")
    process = subprocess.Popen(
        factory.command("run", "ada_walk", "bruno_squat"), env=factory.environment, cwd=factory.root,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    while not blenders_of(factory) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in text and "characters done" not in text
    assert "what was committed is kept, run it again to go on" in text
    assert not blenders_of(factory)
    done = json.loads(factory.cli("run", "ada_walk", "bruno_squat", "--json"))
    assert done["done"] == ["ada_walk", "bruno_squat"]


def test_a_second_run_says_that_one_is_in_progress_or_waits_for_it(factory: Factory) -> None:
    factory.add_sample("ada_walk")
    words = ("run", "--all", "--until", "multi_angle_renders")
    first = subprocess.Popen(
        factory.command(*words), env=factory.environment, cwd=factory.root,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not blenders_of(factory):
        assert first.poll() is None
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGSTOP)  # it stays in progress for as long as this takes
    try:
        assert "is in progress; --wait waits for it" in factory.cli(*words, expect=2)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    done = json.loads(factory.cli(*words, "--wait", "--json"))
    assert first.wait(60) == 0 and done["done"] == ["ada_walk"]
    recorded = list(read_jobs(factory.sets.store))
    assert len(recorded) == 1  # the second found what the first had made, and rendered nothing


def test_x_bot_and_a_cast_kick(factory: Factory, mixamo: Path) -> None:
    for source, name in (("xbot_idle", "xbot"), ("ybot_tpose", "ybot"), ("ybot@kick", "kick")):
        factory.cli("characters", "add", str(mixamo / f"{source}.fbx"), "--name", name)
    factory.cli("cast", "ybot", "--motion", "kick")
    done = json.loads(factory.cli("run", "--all", "--json"))
    assert not done["failed"] and not done["trouble"]
    rows = {r["key"]: r for r in json.loads(factory.cli("characters", "list", "--json"))}
    assert rows["kick"]["kind"] == "motion" and rows["kick"]["done"] == ["motion"]
    assert rows["xbot"]["height_m"] == pytest.approx(1.81, abs=0.02)
    assert all(set(rows[k]["done"]) == set(CHAIN) for k in ("xbot", "ybot", "ybot__kick"))
    assert factory.sets.current("multi_angle_renders", "ybot").facts["frames"] == [1]
    check_dataset(dataset_of(factory), 6)
    text = factory.cli("run", "kick", "--until", "multi_angle_renders", expect=1)
    assert "a motion without a skin cannot be rendered" in " ".join(text.split())


def test_a_bad_one_takes_no_other_down(factory: Factory) -> None:
    factory.add_sample("ada_walk")
    factory.add_sample("bruno_squat")
    (factory.uploads / "bruno_squat.fbx").write_text("not an FBX")
    factory.add_sample("chen_jack")
    done = json.loads(factory.cli("run", "--all", "--json", expect=1))
    assert list(done["failed"]) == ["bruno_squat"] and "not an FBX" in done["failed"]["bruno_squat"]
    check_dataset(dataset_of(factory), 4)
    with dg.DagsterInstance.from_config(str(factory.root / "home")) as instance:
        for asset in CHAIN:
            green = instance.get_materialized_partitions(dg.AssetKey(asset))
            assert green == {"ada_walk", "chen_jack"}


def test_dagsters_own_command_line(factory: Factory) -> None:
    factory.add_sample("chen_jack", "hero")
    look = '{"ops":{"multi_angle_renders":{"config":{"num_angles":3}}}}'
    done = materialize(
        factory, "--select", "group:pipeline", "--partition", "hero", "--config-json", look
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check_dataset(dataset_of(factory), 3)

    # A run that could only make a poorer dataset leaves the one there is.
    before = factory.sets.current("pose_dataset", "all")
    assert before is not None and before.facts["variants"] > 0
    factory.store.joinpath(layout.current("enhanced_variants", "hero")).unlink()
    done = materialize(factory, "--select", "pose_dataset")
    assert done.returncode != 0 and "the dataset stays as it was: hero" in done.stderr + done.stdout
    now = factory.sets.current("pose_dataset", "all")
    assert now is not None and now.ref == before.ref


def materialize(factory: Factory, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "dagster"), "asset", "materialize", "-m", "posefactory_dagster.definitions", *options],
        env=factory.environment, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_blender_binary_runs_the_same_scripts(factory: Factory) -> None:
    """A stand-in with Blender's command line, as no Blender binary can be installed here."""
    binary = factory.root / "blender"
    binary.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo "Blender 4.5.3 LTS"; exit 0; }\n'
        f'while [ "$1" != --python ]; do shift; done\nexec {sys.executable} "$2" "$3" "$4"\n'
    )
    binary.chmod(0o755)
    factory.add_sample("ada_walk")
    factory.cli("run", "ada_walk", "--until", "multi_angle_renders", BLENDER_PATH=str(binary))
    assert factory.sets.current("multi_angle_renders", "ada_walk").facts["images"] == 2
    binary.write_text('#!/bin/sh\necho "Blender 3.4.1"\n')
    (factory.root / "posefactory.toml").write_text("[render]\nseed = 9\n")
    text = factory.cli(
        "run", "ada_walk", "--until", "multi_angle_renders", BLENDER_PATH=str(binary), expect=1
    )
    assert "is Blender 3.4; 4.5 or newer is needed" in text


def test_a_crash_ends_one_character_and_the_rest_go_on(tmp_path: Path) -> None:
    tasks = [
        character_task(k, str(SAMPLES / "ada_walk.fbx"), str(tmp_path / k)) for k in ("a", "b", "c")
    ]
    killed = []

    def kill_b(event: dict[str, Any]) -> None:
        if event["event"] == "start" and event["key"] == "b":
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(
                    psutil.NoSuchProcess
                ):  # one of an earlier test, just ending
                    if "render_character" in " ".join(child.cmdline()):
                        os.kill(child.pid, signal.SIGSEGV)
                        killed.append(child.pid)

    outcomes = run_job(new_job("render", tasks, SMALL), tmp_path, on_event=kill_b)
    assert killed and "crashed on it (signal 11)" in outcomes["b"].error
    assert outcomes["a"].error is None and outcomes["c"].error is None


def test_a_character_that_takes_too_long_is_stopped(factory: Factory) -> None:
    factory.add_sample("ada_walk")
    (factory.root / "posefactory.toml").write_text(
        "[render]\nwidth = 2048\nheight = 2048\nsamples = 500\nengine = 'cycles'\n"
    )
    text = factory.cli("run", "ada_walk", POSEFACTORY_CHARACTER_TIMEOUT_S="4", expect=1)
    assert "not finished within 4 s" in " ".join(text.split())
    assert not blenders_of(factory)


def blenders_of(factory: Factory) -> list[int]:
    """Blender processes that work in this factory's store."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if "_character.py" in words and str(factory.root) in words:
            found.append(process.pid)
    return found


def kill_when(factory: Factory, ready: Callable[[], bool]) -> None:
    """Start a run of everything and kill -9 its process once ``ready``."""
    process = subprocess.Popen(
        factory.command("run", "--all"), env=factory.environment, cwd=factory.root,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not ready() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()


def command_line(pid: int) -> str:
    """A process's command line; empty if it has ended meanwhile."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def check_after_kill(factory: Factory) -> None:
    """No orphan, nothing half-read; a second run completes, and keeps what was committed."""
    deadline = time.monotonic() + 20
    while blenders_of(factory):
        assert time.monotonic() < deadline, "an orphan of Blender lives on"
        time.sleep(0.1)
    assert json.loads(factory.cli("store", "verify", "--json"))["damaged"] == []
    before = {r: factory.sets.find(r).created_at for r in factory.sets.all()}
    done = json.loads(factory.cli("run", "--all", "--json"))
    assert not done["failed"] and not done["trouble"]
    assert all(factory.sets.find(r).created_at == t for r, t in before.items())
    check_dataset(dataset_of(factory), 4)
    assert json.loads(factory.cli("store", "verify", "--json"))["damaged"] == []
    left = [p.name for p in (factory.store / "scratch").iterdir() if p.is_dir()]
    assert left == [], "what the killed run was making, and Blender's temporary files, are gone"


@pytest.mark.parametrize(
    "stage", ["character", "multi_angle_renders", "pose_labels", "pose_dataset"]
)
def test_kill_at_each_stage_loses_nothing(factory: Factory, stage: str) -> None:
    factory.add_sample("ada_walk")
    factory.add_sample("chen_jack")
    if stage in ("character", "multi_angle_renders"):

        def ready() -> bool:
            word = "inspect" if stage == "character" else "render"
            return any(word in command_line(p) for p in blenders_of(factory))

    else:
        before = {"pose_labels": "multi_angle_renders", "pose_dataset": "label_accuracy"}[stage]

        def ready() -> bool:
            return sum(r.asset == before for r in factory.sets.all()) == 2

    kill_when(factory, ready)
    check_after_kill(factory)


@pytest.mark.soak
def test_twenty_random_kills(factory: Factory) -> None:
    seed = int(os.environ.get("SOAK_SEED", "0"))
    rng = random.Random(seed)
    for name in ("ada_walk", "chen_jack"):
        factory.add_sample(name)
    for round_number in range(20):
        shutil.rmtree(factory.store / "sets", ignore_errors=True)
        shutil.rmtree(factory.store / "current", ignore_errors=True)
        delay = rng.uniform(1.0, 16.0)
        started = time.monotonic()
        kill_when(factory, lambda: time.monotonic() - started > delay)  # noqa: B023
        print(f"kill {round_number + 1} of 20 after {delay:.2f} s (seed {seed})")
        check_after_kill(factory)


@pytest.mark.soak
def test_a_hundred_characters_cost_the_same_each(factory: Factory) -> None:
    for i in range(100):
        shutil.copyfile(SAMPLES / "ada_walk.fbx", factory.uploads / f"hero{i:03d}.fbx")
        factory.uploads.joinpath(f"hero{i:03d}.fbx").open("ab").write(bytes([i]))
    factory.cli("characters", "add", *[str(p) for p in sorted(factory.uploads.glob("*.fbx"))])
    done = json.loads(factory.cli("run", "--all", "--until", "multi_angle_renders", "--json"))
    assert not done["failed"]
    facts = [factory.sets.current("multi_angle_renders", k).facts for k in done["keys"]]
    seconds = np.array([sum(f["seconds"].values()) for f in facts])
    memory = np.array([f["peak_mb"] for f in facts])
    print(
        f"seconds a character: first ten {np.median(seconds[:10]):.3f}, last ten {np.median(seconds[-10:]):.3f}"
    )
    print(f"peak memory: after ten {memory[9]:.0f} MB, after a hundred {memory[-1]:.0f} MB")
    assert memory[-1] < 1.3 * memory[9]


def test_progress_moves_in_a_terminal_and_leaves_no_codes_in_logs(factory: Factory) -> None:
    factory.add_sample("ada_walk")
    ours, theirs = pty.openpty()
    environment = {n: v for n, v in factory.environment.items() if n != "NO_COLOR"} | {
        "TERM": "xterm-256color"
    }
    process = subprocess.Popen(
        factory.command("run", "ada_walk", "--until", "multi_angle_renders"), env=environment, cwd=factory.root,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    assert process.wait(60) == 0
    text = re.sub(rb"\x1b\\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    assert "render ada_walk image" in text and re.search(r"2/2", text), text[-2000:]
    logs = [p for p in (factory.root / "home").rglob("*") if p.suffix in (".err", ".out")]
    assert logs and not any(b"\x1b[" in p.read_bytes() for p in logs)


def test_progress_is_json_lines_beside_a_json_answer(factory: Factory) -> None:
    factory.add_sample("ada_walk")
    done = subprocess.run(
        factory.command("run", "ada_walk", "--until", "multi_angle_renders", "--json"),
        env=factory.environment, cwd=factory.root, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["result"]["done"] == ["ada_walk"]
    lines = [json.loads(x) for x in done.stderr.splitlines() if x.startswith('{"progress"')]
    assert {"done": 2, "total": 2}.items() <= next(
        x for x in reversed(lines) if "image" in x["progress"]
    ).items()


def test_pictures_of_several_sizes_go_all_the_way(factory: Factory) -> None:
    """A look of one's own that draws sizes: labels, agreement, boxes, YOLO's fractions and the gallery's records are of each picture's own size."""
    (factory.root / "looks").mkdir()
    (factory.root / "looks" / "mine.yaml").write_text(
        "environment: {ambient: 0.7}\ncameras: {kind: sphere, count: 6, elevation_degrees: [0, 15], sizes: [[120, 200], [220, 120]]}\n"
        "effects: {resolution: [0.6, 1.0]}\n"
    )
    settings = factory.root / "posefactory.toml"
    settings.write_text(settings.read_text().replace("[render]\n", "[render]\nlooks = 'mine'\n"))
    factory.add_sample("ada_walk", "hero")
    assert json.loads(factory.cli("run", "hero", "--json"))["done"] == ["hero"]
    folder = dataset_of(factory)
    check_dataset(folder, 6)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "annotations" / "person_keypoints_all.json"))
    sizes = set()
    for image in coco.loadImgs(coco.getImgIds()):
        with Image.open(folder / "images" / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"])
        sizes.add((image["width"], image["height"]))
        assert image["drawn"]["place"]["floor"] == "concrete" and "environment_rotation_degrees" in image["drawn"]["place"]  # fmt: skip
        (person,) = coco.loadAnns(coco.getAnnIds(image["id"]))
        label = np.loadtxt(folder / "labels" / Path(image["file_name"]).with_suffix(".txt"))
        assert (label[1:5] >= 0).all() and (label[1:5] <= 1).all()
        middle = np.array(person["bbox"][:2]) + np.array(person["bbox"][2:]) / 2
        assert label[1:3] == pytest.approx(middle / (image["width"], image["height"]), abs=1e-4)
    assert sizes == {(120, 200), (220, 120)}
    table = pd.read_parquet(folder / "landmarks.parquet")
    sides = {f"images/{i['file_name']}": (i["width"], i["height"]) for i in coco.dataset["images"]}
    found = table[table["mediapipe_x"].notna() & (table["visibility"] == 2)]
    off = np.hypot(*(found[f"mediapipe_{a}"] * found["file"].map(lambda f, k=k: sides[f][k]) - found[f"{a}_px"] for k, a in enumerate("xy")))  # fmt: skip
    assert len(found) > 40 and off.median() < 12
