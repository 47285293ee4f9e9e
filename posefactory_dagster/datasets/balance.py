"""Weights by which pictures count, so that no person, look or view counts more than others only because there are more pictures of it."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: By what pictures are balanced, within each split.
MARGINS = ("character", "look", "view")
#: Rounds of the fit, and how far a weight goes.
ROUNDS, LEAST, MOST = 50, 0.1, 10.0


def weights(index: pd.DataFrame) -> np.ndarray:
    """A weight for each picture, with a mean of 1 in each split.

    By raking (W. E. Deming and F. F. Stephan, Annals of Mathematical Statistics 11, 1940): margin after margin is scaled until each of its
    values has the same sum.

    Args:
        index: as from ``rows.index_of``.
    """
    found = np.ones(len(index))
    for _, places in index.reset_index(drop=True).groupby("split").groups.items():
        mine = index.iloc[places]
        current = np.ones(len(mine))
        codes = [pd.factorize(mine[name])[0] for name in MARGINS]
        for _ in range(ROUNDS):
            for code in codes:
                sums = np.bincount(code, current)
                current *= (len(mine) / len(sums) / np.maximum(sums, 1e-12))[code]
        current = np.clip(current, LEAST, MOST)
        found[places] = current / current.mean()
    return found
