"""The interface of enhancers, and their errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from posefactory_dagster.quality.gate import Subject
from posefactory_dagster.variants.documents import Parameters, Style


@dataclass(frozen=True)
class RenderView:
    """One exact render with all that enhancers are held to.

    ``subject`` has pixels, mask and the truth's row; ``depth`` (H, W) float32 metres, 0 where the person is not;
    ``albedo`` (H, W, 4) uint8 sRGB, the surface's own colour without light, with the person's anti-aliased straight alpha;
    ``normals`` (H, W, 3) float32 unit vectors in the camera's frame (x right, y down, z forward), zero where nothing is;
    ``png`` the render's file as it is.
    """

    subject: Subject
    depth: np.ndarray
    albedo: np.ndarray
    normals: np.ndarray
    png: bytes


@dataclass(frozen=True)
class Enhanced:
    """An enhancer's answer: an encoded image with its file ending, the seed that was used, and what it says of it.

    ``filtered``: a content filter spoiled the image; it may have cost money all the same. ``cost_usd``: what it did
    cost, where that is known; None means as estimated.
    """

    data: bytes
    ending: str
    seed: int
    answer: dict[str, Any] = field(default_factory=dict)
    filtered: bool = False
    cost_usd: float | None = None


class Enhancer(Protocol):
    """Makes images. Safe to be called by ``parallel`` threads."""

    #: Provider, model and version, for the record.
    name: dict[str, str]
    #: Whether each image costs money or minutes, so that it is asked for once and kept at once.
    paid: bool
    #: Whether an image whose answer was lost may simply be asked for again: it was not charged to anybody.
    repeatable: bool
    #: Whether the person in its image may stand otherwise than in the render; false only where the person's very pixels are
    #: taken over.
    moves_pose: bool
    #: How many calls at once are of use.
    parallel: int

    def price(self) -> float:
        """The expected price of an image in US dollars."""

    def check(self, size: tuple[int, int]) -> None:
        """Whether images of (width, height) can be made now; costs nothing.

        Raises:
            CannotEnhance: a key, a model or a package is missing, or the size does not fit.
        """

    def enhance(self, render_view: RenderView, style: Style, parameters: Parameters) -> Enhanced:
        """One image of the same size, in the look of ``style``.

        Raises:
            EnhancerError: no image; the kind says whether to go on and whether it may have cost money.
        """

    def close(self) -> None:
        """Release connections and memory."""


class EnhancerError(RuntimeError):
    """No image was made and nothing was charged; the next image may succeed."""


class Refused(EnhancerError):
    """The provider refuses this image; nothing was charged, and a repetition would fail too."""


class CannotEnhance(EnhancerError):
    """Nothing can be made at all: a key, credit, a model or a package is missing; nothing was charged."""


class OutcomeUnknown(EnhancerError):
    """The request went out and no answer came: it may have been charged, so it is not repeated unasked."""
