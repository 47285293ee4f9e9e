"""What of a dataset helps a network: one thing changed at a time, three seeds each, measured on people, motions and places never seen.

    .venv-people/bin/python benchmarks/training/sets.py FOLDER
    .venv-people/bin/python benchmarks/training/factors.py FOLDER [--seeds 3] [--samples 9600]

Every network sees the same number of samples, of the same number of pictures but where the number is what changes. Measured: the
average precision of COCO (pycocotools, given the true boxes), and the share of visible keypoints within 0.2 torso lengths. Where
``real_people.py`` can find its videos, the same networks are measured on these. Networks (also as ONNX files) and results lie in FOLDER/networks; what is
there is not trained again, so that several of these can run side by side, with --only.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.progress import Progress

from benchmarks.training import network as nets
from benchmarks.training.sets import ONE_EACH_KEYS as ONE_EACH
from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS

#: Pictures of each condition but those that say otherwise.
PICTURES = 300
SHOULDERS_HIPS = [COCO_KEYPOINTS.index(n) for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]  # fmt: skip


def _render(image: dict, person: dict) -> bool:
    return not image.get("variant")


def _variant(image: dict, person: dict) -> bool:
    return bool(image.get("variant"))


class Sets:
    """The exported sets of a folder, read once each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[tuple[str, Any], nets.Crops] = {}

    def of(self, name: str, keep: Callable[[dict, dict], bool] = _render) -> nets.Crops:
        """The people of a set in pictures that ``keep`` takes."""
        if (name, keep) not in self._read:
            self._read[name, keep] = nets.read(self._folder / name / "coco", keep=keep)
        return self._read[name, keep]

    def drawn(self, crops: nets.Crops, seed: int, count: int = PICTURES) -> nets.Crops:
        """So many of them, at random."""
        order = np.random.default_rng(seed).permutation(len(crops))
        return crops.some(sorted(order[:count].tolist()))

    def by_mediapipe(self, name: str, crops: nets.Crops) -> nets.Crops:
        """The same with MediaPipe's opinion in place of the truth; who was not found is left out."""
        table = pd.read_parquet(self._folder / name / "parquet" / "landmarks.parquet", columns=["file", "landmark", "mediapipe_x", "mediapipe_y"])  # fmt: skip
        found = {f: g.sort_values("landmark") for f, g in table.groupby("file")}
        chosen, points = [], []
        for number, person in enumerate(crops.annotations):
            image, matrix = person["image"], crops.matrices[number]
            rows = found[f"images/{image['file_name']}"]
            seen = rows[["mediapipe_x", "mediapipe_y"]].to_numpy(float)[[LANDMARKS.index(n) for n in COCO_KEYPOINTS]]  # fmt: skip
            if not np.isfinite(seen).all():
                continue
            pixels = seen * (image["width"], image["height"])
            inside = ((pixels >= 0) & (pixels < (image["width"], image["height"]))).all(axis=1)
            points.append(np.column_stack([pixels @ matrix[:, :2].T + matrix[:, 2], 2 * inside]))
            chosen.append(number)
        picked = crops.some(chosen)
        return nets.Crops(picked.images, torch.as_tensor(np.stack(points), dtype=torch.float32), picked.matrices, picked.annotations)  # fmt: skip


#: Each condition: what it is called in the table, and the pictures that a seed's network is trained on.
CONDITIONS: dict[str, tuple[str, Callable[[Sets, int], nets.Crops]]] = {
    "base": (f"base: {PICTURES} pictures of 20 dressed people, 12 motions, 9 lit places", lambda s, n: s.drawn(s.of("many"), n)),
    "all_pictures": ("three times the pictures (all 960)", lambda s, n: s.of("many")),
    "two_people": ("2 people", lambda s, n: s.drawn(s.of("two_people"), n)),
    "one_motion": ("1 motion (walk)", lambda s, n: s.drawn(s.of("many", _walk), n)),
    "plain": ("no place: the look plain", lambda s, n: s.drawn(s.of("plain"), n)),
    "relit": ("no place, but variants (relight) of these renders", lambda s, n: s.drawn(s.of("plain", _variant), n)),
    "one_each": ("one motion for each of the 20 dressed people", lambda s, n: s.drawn(s.of("many", _one_each), n)),
    "bare": ("the same people and motions without clothes but shoes", lambda s, n: s.drawn(s.of("bare"), n)),
    "visible_only": ("hidden keypoints (v = 1) not trained", lambda s, n: s.drawn(s.of("many"), n)),
    "mediapipe_labels": ("MediaPipe's landmarks as labels, not the truth", lambda s, n: s.by_mediapipe("many", s.drawn(s.of("many"), n))),
}  # fmt: skip


def _walk(image: dict, person: dict) -> bool:
    return str(image["character"]).endswith("__walk")


def _one_each(image: dict, person: dict) -> bool:
    return str(image["character"]) in ONE_EACH


def measured(network: torch.nn.Module, test: nets.Crops) -> dict[str, float]:
    """COCO's AP and the PCK@0.2 of a network on people with their true boxes."""
    images, matrices = nets.middle(test)
    found = nets.back(nets.predict(network, images), matrices)
    truth = np.stack([np.array(a["keypoints"], float).reshape(-1, 3) for a in test.annotations])
    torso = np.linalg.norm(truth[:, SHOULDERS_HIPS[:2], :2].mean(axis=1) - truth[:, SHOULDERS_HIPS[2:], :2].mean(axis=1), axis=1)  # fmt: skip
    # From above a torso is short in the picture, and of who is cropped a part is missing: a quarter of the box then.
    boxes = np.array([0.25 * max(a["bbox"][2:]) for a in test.annotations])
    torso = np.where((truth[:, SHOULDERS_HIPS, 2] > 0).all(axis=1), np.maximum(torso, boxes), boxes)
    near = np.linalg.norm(found[..., :2] - truth[..., :2], axis=2) < 0.2 * torso[:, None]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images_by_id = {a["image"]["id"]: a["image"] for a in test.annotations}
        plain = [{k: v for k, v in a.items() if k not in ("image", "segmentation")} for a in test.annotations]  # fmt: skip
        coco.dataset = {"images": list(images_by_id.values()), "annotations": plain, "categories": [{"id": 1, "name": "person"}]}  # fmt: skip
        coco.createIndex()
        results = [
            {"image_id": a["image_id"], "category_id": 1, "keypoints": np.column_stack([p[:, :2], np.ones(len(p))]).ravel().tolist(), "score": float(p[:, 2].mean())}
            for a, p in zip(test.annotations, found, strict=True)
        ]  # fmt: skip
        judge = COCOeval(coco, coco.loadRes(results), "keypoints")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {
        "ap": float(judge.stats[0]),
        "pck_visible": float(near[truth[..., 2] == 2].mean()),
        "pck_hidden": float(near[truth[..., 2] == 1].mean()),
    }


def draw(rows: pd.DataFrame, folder: Path) -> None:
    """Draw each condition's networks as points, and their mean, into ``factors.png``: on unseen synthetic people, and on real ones where these were measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [("pck_visible", "unseen rendered people: visible keypoints within 0.2 torso (more is better)"), ("pck_hidden", "the same, hidden keypoints")]  # fmt: skip
    real = folder / "real_people.json"
    if real.exists():
        found = pd.read_json(real)
        rows = rows.assign(model=[f"{c}-{s}" for c, s in zip(rows["condition"], rows["seed"], strict=True)]).merge(found, on="model", how="left")  # fmt: skip
        panels.append(("limb_robust_spread_cm", "a real man in four views: spread of limb lengths, cm (less is better)"))  # fmt: skip
    order = [name for name in CONDITIONS if name in set(rows["condition"])]
    figure = Figure(figsize=(6.2 * len(panels), 0.9 + 0.42 * len(order)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (column, title) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):  # fmt: skip
        for place, name in enumerate(order):
            values = rows.loc[rows["condition"] == name, column].dropna()
            axes.plot(values, [place] * len(values), "o", color="#2f6f9f", alpha=0.5)
            axes.plot([values.mean()] * 2, [place - 0.3, place + 0.3], color="#e07b27", linewidth=3)
        base = rows.loc[rows["condition"] == "base", column].mean()
        axes.axvline(base, color="#888888", linewidth=1, linestyle=":")
        axes.set_yticks(range(len(order)), [CONDITIONS[n][0] for n in order], fontsize=8)
        axes.set_title(title, fontsize=9, loc="left")
        axes.grid(axis="x", alpha=0.3)
    figure.axes[0].invert_yaxis()
    figure.savefig(folder / "factors.png", dpi=100)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=9600)
    parser.add_argument("--only", default=",".join(CONDITIONS))
    parser.add_argument("--again", action="store_true", help="measure the networks that are there again")  # fmt: skip
    options = parser.parse_args()
    torch.set_num_threads(
        1
    )  # for networks as small as this, two side by side are faster than one on two cores
    sets, networks = Sets(options.folder), options.folder / "networks"
    networks.mkdir(exist_ok=True)
    test = sets.of("unseen")
    for seed in range(options.seeds):
        for name in options.only.split(","):
            title, pictures = CONDITIONS[name]
            result = networks / f"{name}-{seed}.json"
            if result.exists():
                continue
            crops = pictures(sets, seed)
            started = time.perf_counter()
            with Progress(transient=True) as bar:
                tell = functools.partial(bar.update, bar.add_task(f"{name}, seed {seed}", total=1.0))  # fmt: skip
                network = nets.train(crops, seed, options.samples, visible_only=name == "visible_only", tell=tell)  # fmt: skip
            seconds = time.perf_counter() - started
            torch.save(network.state_dict(), networks / f"{name}-{seed}.pt")
            nets.save_onnx(network, networks / f"{name}-{seed}.onnx")
            found = {"condition": name, "title": title, "seed": seed, "pictures": len(crops), "seconds": round(seconds, 1), **measured(network, test)}  # fmt: skip
            result.write_text(json.dumps(found, indent=1), "utf-8")
            print(f"{name}, seed {seed}: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items() if isinstance(v, float)), flush=True)  # fmt: skip
    rows = [json.loads(p.read_text("utf-8")) for p in sorted(networks.glob("*.json"))]
    if options.again:
        for row in rows:
            network = nets.Network()
            network.load_state_dict(torch.load(networks / f"{row['condition']}-{row['seed']}.pt", weights_only=True))  # fmt: skip
            row |= measured(network.eval(), test)
            (networks / f"{row['condition']}-{row['seed']}.json").write_text(json.dumps(row, indent=1), "utf-8")  # fmt: skip
    draw(pd.DataFrame(rows), options.folder)
    table = pd.DataFrame(rows).groupby("title", sort=False)[["ap", "pck_visible", "pck_hidden"]].agg(["mean", "std", "size"])  # fmt: skip
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
