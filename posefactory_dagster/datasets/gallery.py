"""The gallery of a dataset: a page that opens from its file, and beside it what it shows, in pieces that are read when they are needed.

A page that was opened from a file may not fetch anything, but it may load scripts. So each piece is a script that hands its data to the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blender_scripts.contract import LANDMARKS, OCCLUDERS
from posefactory_dagster.datasets.formats import Target
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


def write(target: Target, version: str) -> None:
    """Write the page and its pieces into a dataset's folder.

    Args:
        target: the dataset's own folder with its tables. version: what the page calls the dataset.
    """
    folder, index = target.folder, target.index
    (folder / FOLDER).mkdir()
    values = {w: sorted(index[w].unique()) for w in WORDS}
    place = {w: {v: k for k, v in enumerate(known)} for w, known in values.items()}
    about = {
        "count": len(index), "people": int(index["people"].sum()), "version": version, "people_chunk": PEOPLE_CHUNK,
        "words": [{"name": w, "values": values[w]} for w in WORDS],
        "numbers": [{"name": n, "bands": b} for n, b in BANDS.items()],
        "landmarks": LANDMARKS, "occluders": OCCLUDERS,
        "limbs": [[LANDMARKS.index(a), LANDMARKS.index(b)] for a, b in SKELETON],
    }  # fmt: skip
    _script(folder / FOLDER / "begin.js", "begin", about)
    pieces: dict[str, list[Any]] = {"rows": [], "people": []}
    for number, (item, (file, rows)) in enumerate(zip(target.items(), target.people_rows(_COLUMNS), strict=True)):  # fmt: skip
        image, spread = item.image, _space(rows)
        assert file == f"images/{item.name}", "both tables have the pictures in one order"
        # Who is not seen is not among the item's people; the table has everybody.
        shown = [_person(p, spread[int(p["person_index"])]) for p in item.people]
        seen = [float(np.mean([v == 2 for v in p["p"][2::3]])) for p in shown]
        away = [p.pop("away") for p in shown]
        known = [a for a in away if a is not None]
        pieces["rows"].append(
            [item.name, *(place[w][str(image.get(w, ""))] for w in WORDS), len(shown), round(min(seen, default=0.0), 3),
             round(max(known), 3) if known else None]
        )  # fmt: skip
        pieces["people"].append({"w": image["width"], "h": image["height"], "r": Path(str(image["mask"])).name, "people": shown})  # fmt: skip
        for kind, chunk in (("rows", ROWS_CHUNK), ("people", PEOPLE_CHUNK)):
            if len(pieces[kind]) == chunk or number == len(index) - 1:
                first = number + 1 - len(pieces[kind])
                _script(folder / FOLDER / f"{kind}-{first:06d}.js", kind, first, pieces[kind])
                pieces[kind] = []
    page = Path(__file__).with_name("gallery.html").read_text("utf-8")
    (folder / PAGE).write_text(page, "utf-8")


def _script(path: Path, call: str, *values: Any) -> None:
    """A script that hands values to the page; ``<`` is escaped, so that no name ends the script or begins a tag."""
    text = ",".join(json.dumps(v, separators=(",", ":")) for v in values).replace("<", "\\u003c")
    path.write_text(f"gallery.{call}({text})", "utf-8")


_SPACE = [f"world_{a}_m" for a in "xyz"]
_COLUMNS = ["x_px", "y_px", "mediapipe_x", "mediapipe_y", "occluded_by", *_SPACE]


def _space(rows: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Of each person of a picture the pixels (33, 2), places in space (33, 3), MediaPipe's parts of the picture (33, 2), and causes (33,)."""
    wide = {n: v.reshape(-1, len(LANDMARKS)) for n, v in rows.items()}
    return [
        {
            "pixels": np.stack([wide[c][n] for c in ("x_px", "y_px")], axis=1).astype(float),
            "space": np.stack([wide[c][n] for c in _SPACE], axis=1).astype(float),
            "found": np.stack([wide[c][n] for c in ("mediapipe_x", "mediapipe_y")], axis=1).astype(float),
            "causes": np.array([OCCLUDERS.index(w) if w else 0 for w in wide["occluded_by"][n]]),
        }
        for n in range(len(wide["x_px"]))
    ]  # fmt: skip


def _person(annotation: Mapping[str, Any], row: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What the page shows of a person; ``away``: how far MediaPipe is off on average, in parts of the torso in the picture."""
    points = np.array(annotation["keypoints_33"], float).reshape(-1, 3)
    inside = points[:, 2] > 0
    person: dict[str, Any] = {
        "k": annotation.get("person", ""), "b": [round(float(v), 1) for v in annotation["bbox"]],
        "p": [n for x, y, v in points.tolist() for n in (round(x, 1), round(y, 1), int(v))],
        "s": [round(float(v), 3) for v in row["space"].ravel()], "m": None, "o": row["causes"].tolist(), "away": None,
    }  # fmt: skip
    if np.isfinite(row["found"]).all():
        height, width = annotation["segmentation"]["size"]
        found = row["found"] * (width, height)
        person["m"] = [round(float(v), 1) for v in found.ravel()]
        torso = [LANDMARKS.index(f"{s}_{j}") for j in ("shoulder", "hip") for s in ("left", "right")]  # fmt: skip
        length = float(np.linalg.norm(row["pixels"][torso[:2]].mean(axis=0) - row["pixels"][torso[2:]].mean(axis=0)))  # fmt: skip
        off = np.linalg.norm(found - row["pixels"], axis=1)[inside]
        person["away"] = float(off.mean()) / max(length, 1.0) if len(off) else 0.0
    return person
