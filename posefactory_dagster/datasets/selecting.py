"""Some of a dataset's pictures: by conditions, and a varied number of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blender_scripts.contract import COCO_KEYPOINTS

#: A condition: a field, how it compares, and a value; several values with commas for =.
_CONDITION = re.compile(r"([a-z_]+)(>=|<=|=|>|<)(\S+)")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, "<": lambda a, b: a < b, "=": lambda a, b: a == b,
}  # fmt: skip


class SelectionError(ValueError):
    """A selection that cannot be read or leaves nothing; the text says what to do."""


@dataclass(frozen=True)
class Item:
    """One picture of a dataset with its people, as the COCO files have them: 17 keypoints, and 33 landmarks."""

    image: Mapping[str, Any]
    people: Sequence[Mapping[str, Any]]
    people_33: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The file name below ``images/``, its split first."""
        return str(self.image["file_name"])

    @property
    def split(self) -> str:
        """The split that it belongs to."""
        return str(self.image["split"])


WORDS: dict[str, Callable[[Item], set[str]]] = {
    "split": lambda i: {i.split},
    "character": lambda i: {str(i.image["character"]), *(str(p.get("person", "")) for p in i.people)},
    "look": lambda i: {str(i.image["look"])},
    "view": lambda i: {str(i.image["view"])},
    "style": lambda i: {str(i.image.get("style", ""))},
    "kind": lambda i: {"variant" if i.image.get("variant") else "render"},
}  # fmt: skip
NUMBERS: dict[str, Callable[[Item], float]] = {
    "people": lambda i: float(len(i.people)),
    "frame": lambda i: float(i.image["frame"]),
    # Of the least visible person, the share of its 17 keypoints that are seen; of the smallest, its height in the frame.
    "visibility": lambda i: min((float((_points(p)[:, 2] == 2).mean()) for p in i.people), default=0.0),
    "size": lambda i: min((float(p["bbox"][3]) / float(i.image["height"]) for p in i.people), default=0.0),
}  # fmt: skip
HELP = f"Conditions, all of which must hold: {', '.join(WORDS)} with = and values with commas, {', '.join(NUMBERS)} with >=, <=, >, < or =; as 'split=train look=kitchen,gym visibility>=0.5'."


def _points(person: Mapping[str, Any]) -> np.ndarray:
    return np.array(person["keypoints"], float).reshape(-1, 3)


def items_of(coco: Mapping[str, Any], coco_33: Mapping[str, Any]) -> list[Item]:
    """The pictures of a dataset's two COCO files, in their order."""

    def by_image(document: Mapping[str, Any]) -> dict[int, list[Mapping[str, Any]]]:
        found: dict[int, list[Mapping[str, Any]]] = {}
        for annotation in document["annotations"]:
            found.setdefault(annotation["image_id"], []).append(annotation)
        return found

    people, people_33 = by_image(coco), by_image(coco_33)
    return [Item(i, people.get(i["id"], []), people_33.get(i["id"], [])) for i in coco["images"]]


def select(items: Sequence[Item], text: str) -> list[Item]:
    """Those for which all conditions of a selection hold.

    Raises:
        SelectionError: a condition cannot be read, names what there is not, or nothing is left.
    """
    chosen = list(items)
    for condition in text.split():
        match = _CONDITION.fullmatch(condition)
        if match is None:
            raise SelectionError(f"{condition!r} is no condition. {HELP}")
        field, how, value = match.groups()
        if field in WORDS:
            if how != "=":
                raise SelectionError(f"{condition!r}: {field} takes =, with values and commas")
            wanted, known = set(value.split(",")), {w for i in items for w in WORDS[field](i)}
            if unknown := sorted(wanted - known):
                raise SelectionError(f"{condition!r}: no picture has the {field} {', '.join(unknown)}; there are {', '.join(sorted(known - {''})) or 'none'}")  # fmt: skip
            chosen = [i for i in chosen if wanted & WORDS[field](i)]
        elif field in NUMBERS:
            try:
                number = float(value)
            except ValueError:
                raise SelectionError(f"{condition!r}: {value!r} is no number") from None
            chosen = [i for i in chosen if _COMPARE[how](NUMBERS[field](i), number)]
        else:
            raise SelectionError(f"{condition!r}: no such field. {HELP}")
    if not chosen:
        raise SelectionError(f"no picture is left of {len(items)} by {text!r}; ask for less")
    return chosen


def varied(items: Sequence[Item], count: int) -> list[Item]:
    """So many pictures whose people differ most, in the dataset's order: each next one is the farthest from those that are taken.

    Pictures are compared by the pose, size and place of their first person, in parts of the picture and of the person's box; splits keep
    their shares.
    """
    if count >= len(items):
        return list(items)
    splits = list(dict.fromkeys(i.split for i in items))
    mine = {s: [k for k, i in enumerate(items) if i.split == s] for s in splits}
    exact = {s: count * len(mine[s]) / len(items) for s in splits}
    wanted = {s: int(exact[s]) for s in splits}
    for s in sorted(splits, key=lambda s: wanted[s] - exact[s])[: count - sum(wanted.values())]:
        wanted[s] += 1
    features = np.stack([_features(i) for i in items])
    taken: list[int] = []
    for s in splits:
        taken += [mine[s][k] for k in _farthest(features[mine[s]], wanted[s])]
    return [items[k] for k in sorted(taken)]


def _features(item: Item) -> np.ndarray:
    if not item.people:
        return np.zeros(2 * len(COCO_KEYPOINTS) + 3)
    person = item.people[0]
    points, (x, y, w, h) = _points(person), person["bbox"]
    inside = np.where(points[:, 2:] > 0, (points[:, :2] - (x, y)) / max(w, h, 1), 0.5)
    size = float(item.image["width"]), float(item.image["height"])
    return np.concatenate([inside.ravel(), [h / size[1], (x + w / 2) / size[0], (y + h / 2) / size[1]]])  # fmt: skip


def _farthest(features: np.ndarray, count: int) -> list[int]:
    if not count:
        return []
    taken = [int(np.linalg.norm(features - features.mean(axis=0), axis=1).argmin())]
    nearest = np.linalg.norm(features - features[taken[0]], axis=1)
    while len(taken) < count:
        nearest[taken] = -1.0
        taken.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(features - features[taken[-1]], axis=1))
    return taken
