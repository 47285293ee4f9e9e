"""The gallery of a dataset: a page that opens from its file, and beside it what it shows, in pieces that are read when they are needed.

A page that was opened from a file may not fetch anything, but it may load scripts. So each piece is a script that hands its data to the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from blender_scripts.contract import LANDMARKS, OCCLUDERS
from posefactory_dagster.quality.landmarker import SKELETON

#: The page, and the folder of its pieces.
PAGE, FOLDER = "gallery.html", "gallery"
#: Pictures in a piece of the list, and in a piece with all landmarks.
ROWS_CHUNK, PEOPLE_CHUNK = 2000, 100
#: By what pictures are filtered: words of their records, and numbers in bands.
WORDS = ("character", "split", "look", "view", "style")
BANDS: dict[str, list[tuple[str, float, float]]] = {
    "people": [("1", 1, 2), ("2", 2, 3), ("3 or more", 3, 1e9), ("nobody", 0, 1)],
    "landmarks seen": [("under 1/4", 0, 0.25), ("1/4 to 1/2", 0.25, 0.5), ("1/2 to 3/4", 0.5, 0.75), ("over 3/4", 0.75, 1.01)],
    "MediaPipe is off by": [("under 0.1 torso", 0, 0.1), ("0.1 to 0.2", 0.1, 0.2), ("0.2 to 0.5", 0.2, 0.5), ("more", 0.5, 1e9)],
}  # fmt: skip


def write(folder: Path, images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], table: pd.DataFrame, version: str) -> None:  # fmt: skip
    """Write the page and its pieces into a dataset's folder.

    Args:
        images, annotations: of the dataset's COCO file with 33 landmarks. table: the dataset's landmarks, see ``tables``.
        version: what the page calls the dataset.
    """
    (folder / FOLDER).mkdir()
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for annotation in annotations:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    values = {w: sorted({str(i.get(w, "")) for i in images}) for w in WORDS}
    place = {w: {v: k for k, v in enumerate(known)} for w, known in values.items()}
    about = {
        "count": len(images), "people": len(annotations), "version": version, "people_chunk": PEOPLE_CHUNK,
        "words": [{"name": w, "values": values[w]} for w in WORDS],
        "numbers": [{"name": n, "bands": b} for n, b in BANDS.items()],
        "landmarks": LANDMARKS, "occluders": OCCLUDERS,
        "limbs": [[LANDMARKS.index(a), LANDMARKS.index(b)] for a, b in SKELETON],
    }  # fmt: skip
    _script(folder / FOLDER / "begin.js", "begin", about)
    spread = _space(table)
    pieces: dict[str, list[Any]] = {"rows": [], "people": []}
    for number, image in enumerate(images):
        people = by_image.get(image["id"], [])
        rows = spread.get(f"images/{image['file_name']}", [])
        # Who is not seen has no annotation; the table has everybody, so they are matched by where their landmarks are.
        shown = [_person(p, rows) for p in people]
        seen = [float(np.mean([v == 2 for v in p["p"][2::3]])) for p in shown]
        away = [p.pop("away") for p in shown]
        known = [a for a in away if a is not None]
        pieces["rows"].append(
            [image["file_name"], *(place[w][str(image.get(w, ""))] for w in WORDS), len(people), round(min(seen, default=0.0), 3),
             round(max(known), 3) if known else None]
        )  # fmt: skip
        pieces["people"].append({"w": image["width"], "h": image["height"], "r": Path(str(image["mask"])).name, "people": shown})  # fmt: skip
        for kind, chunk in (("rows", ROWS_CHUNK), ("people", PEOPLE_CHUNK)):
            if len(pieces[kind]) == chunk or number == len(images) - 1:
                first = number + 1 - len(pieces[kind])
                _script(folder / FOLDER / f"{kind}-{first:06d}.js", kind, first, pieces[kind])
                pieces[kind] = []
    page = Path(__file__).with_name("gallery.html").read_text("utf-8")
    (folder / PAGE).write_text(page, "utf-8")


def _script(path: Path, call: str, *values: Any) -> None:
    """A script that hands values to the page; ``<`` is escaped, so that no name ends the script or begins a tag."""
    text = ",".join(json.dumps(v, separators=(",", ":")) for v in values).replace("<", "\\u003c")
    path.write_text(f"gallery.{call}({text})", "utf-8")


def _space(table: pd.DataFrame) -> dict[str, list[dict[str, np.ndarray]]]:
    """By file, of each person the pixels (33, 2), places in space (33, 3), MediaPipe's parts of the picture (33, 2), and causes (33,)."""
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    count = len(LANDMARKS)
    files = table["file"].to_numpy()[::count]
    columns = {
        "pixels": table[["x_px", "y_px"]].to_numpy(float).reshape(-1, count, 2),
        "space": table[[f"world_{a}_m" for a in "xyz"]].to_numpy(float).reshape(-1, count, 3),
        "found": table[["mediapipe_x", "mediapipe_y"]].to_numpy(float).reshape(-1, count, 2),
        "causes": table["occluded_by"].map({n: k for k, n in enumerate(OCCLUDERS)}).fillna(0).to_numpy(int).reshape(-1, count),
    }  # fmt: skip
    for number, file in enumerate(files):
        found.setdefault(str(file), []).append({n: v[number] for n, v in columns.items()})
    return found


def _person(annotation: Mapping[str, Any], rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:  # fmt: skip
    """What the page shows of a person; ``away``: how far MediaPipe is off on average, in parts of the torso in the picture."""
    points = np.array(annotation["keypoints"], float).reshape(-1, 3)
    inside = points[:, 2] > 0
    row = min(rows, key=lambda r: float(np.abs(r["pixels"] - points[:, :2])[inside].sum()), default=None)  # fmt: skip
    person: dict[str, Any] = {
        "k": annotation.get("person", ""), "b": [round(float(v), 1) for v in annotation["bbox"]],
        "p": [n for x, y, v in points.tolist() for n in (round(x, 1), round(y, 1), int(v))],
        "s": [], "m": None, "o": None, "away": None,
    }  # fmt: skip
    if row is None:
        return person
    person["s"] = [round(float(v), 3) for v in row["space"].ravel()]
    person["o"] = row["causes"].tolist()
    if np.isfinite(row["found"]).all():
        height, width = annotation["segmentation"]["size"]
        found = row["found"] * (width, height)
        person["m"] = [round(float(v), 1) for v in found.ravel()]
        torso = [LANDMARKS.index(f"{s}_{j}") for j in ("shoulder", "hip") for s in ("left", "right")]  # fmt: skip
        length = float(np.linalg.norm(row["pixels"][torso[:2]].mean(axis=0) - row["pixels"][torso[2:]].mean(axis=0)))  # fmt: skip
        off = np.linalg.norm(found - row["pixels"], axis=1)[inside]
        person["away"] = float(off.mean()) / max(length, 1.0) if len(off) else 0.0
    return person
