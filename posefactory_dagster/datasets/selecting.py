"""Some of a dataset's pictures: by conditions, and a varied number of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

#: A condition: a field, how it compares, and a value; several values with commas for =.
_CONDITION = re.compile(r"([a-z_]+)(>=|<=|=|>|<)(\S+)")
_COMPARE: dict[str, Callable[[Any, float], Any]] = {
    ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, "<": lambda a, b: a < b, "=": lambda a, b: a == b,
}  # fmt: skip


class SelectionError(ValueError):
    """A selection that cannot be read or leaves nothing; the text says what to do."""


#: Conditions of words, with the column of the index that each asks; of a row, one or several words.
WORDS = {
    "split": "split",
    "character": "keys",
    "look": "look",
    "view": "view",
    "style": "style",
    "kind": "kind",
}
#: Those of numbers. ``visibility``: of the least visible person, the share of its 17 keypoints that are seen; ``size``: of the smallest, its
#: height in the frame.
NUMBERS = ("people", "frame", "visibility", "size")
HELP = f"Conditions, all of which must hold: {', '.join(WORDS)} with = and values with commas, {', '.join(NUMBERS)} with >=, <=, >, < or =; as 'split=train look=kitchen,gym visibility>=0.5'."


def select(index: pd.DataFrame, text: str) -> pd.DataFrame:
    """The rows of an index (see ``rows.index_of``) for which all conditions of a selection hold.

    Raises:
        SelectionError: a condition cannot be read, names what there is not, or nothing is left.
    """
    chosen = index
    for condition in text.split():
        match = _CONDITION.fullmatch(condition)
        if match is None:
            raise SelectionError(f"{condition!r} is no condition. {HELP}")
        field, how, value = match.groups()
        if field in WORDS:
            if how != "=":
                raise SelectionError(f"{condition!r}: {field} takes =, with values and commas")
            chosen = chosen[_has(index, chosen, field, set(value.split(",")), condition)]
        elif field in NUMBERS:
            try:
                number = float(value)
            except ValueError:
                raise SelectionError(f"{condition!r}: {value!r} is no number") from None
            chosen = chosen[_COMPARE[how](chosen[field], number)]
        else:
            raise SelectionError(f"{condition!r}: no such field. {HELP}")
    if not len(chosen):
        raise SelectionError(f"no picture is left of {len(index)} by {text!r}; ask for less")
    return chosen


def _has(index: pd.DataFrame, chosen: pd.DataFrame, field: str, wanted: set[str], condition: str) -> Any:  # fmt: skip
    """Which of the chosen rows have one of the wanted words."""
    words = index[WORDS[field]].explode()
    if unknown := sorted(wanted - set(words)):
        known = ", ".join(sorted(set(words) - {""})) or "none"
        raise SelectionError(f"{condition!r}: no picture has the {field} {', '.join(unknown)}; there are {known}")  # fmt: skip
    return chosen.index.isin(words.index[words.isin(wanted)])


def varied(index: pd.DataFrame, count: int) -> pd.DataFrame:
    """So many rows whose people differ most, in their order: each next one is the farthest from those that are taken.

    Pictures are compared by the pose, size and place of their first person, in parts of the picture and of the person's box; splits keep
    their shares.
    """
    if count >= len(index):
        return index
    places = {s: np.flatnonzero(index["split"] == s) for s in index["split"].unique()}
    exact = {s: count * len(mine) / len(index) for s, mine in places.items()}
    wanted = {s: int(exact[s]) for s in places}
    for s in sorted(places, key=lambda s: wanted[s] - exact[s])[: count - sum(wanted.values())]:
        wanted[s] += 1
    features = np.stack(index["features"].to_list())
    taken = [mine[_farthest(features[mine], wanted[s])] for s, mine in places.items()]
    return index.iloc[np.sort(np.concatenate(taken))]


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
