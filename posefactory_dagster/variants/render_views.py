"""The exact renders of a set, as enhancers and the gate take them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from blender_scripts.contract import IMAGE_FOLDERS
from posefactory_dagster.quality.gate import Subject
from posefactory_dagster.renders.documents import Truth, read_depth, read_mask, read_truth
from posefactory_dagster.storage.sets import CommittedSet
from posefactory_dagster.variants.documents import Source
from posefactory_dagster.variants.enhancers.base import CannotEnhance, RenderView

#: Shorter ones are no normals but the middle grey of where nothing is.
LEAST_NORMAL = 0.5


@dataclass(frozen=True)
class RenderViews:
    """A render set's render_views; images are read when they are asked for, and not kept."""

    renders: CommittedSet
    truth: Truth

    @classmethod
    def of(cls, renders: CommittedSet) -> RenderViews:
        """The render_views of a committed render set.

        Raises:
            CannotEnhance: the set is of an earlier version.
        """
        if not all(any(n.startswith(f"{k}/") for n in renders.files) for k in IMAGE_FOLDERS):
            raise CannotEnhance(
                f"{renders.ref.partition}: rendered by an earlier version, without all that variants need; "
                "materialize `multi_angle_renders` for it first"
            )
        return cls(renders, read_truth(renders))

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """Each (width, height) that an image has."""
        return {self.truth.size_of(i) for i in range(len(self.truth.images))}

    @functools.cached_property
    def paths(self) -> dict[str, Path]:
        """All image files here, by their names in the set; fetched at once where the store is elsewhere."""
        return self.renders.paths(
            f"{kind}/{i.file}" for i in self.truth.images for kind in IMAGE_FOLDERS
        )

    def sources(self) -> list[Source]:
        """Where each image comes from, in the truth's order."""
        ref = self.renders.ref
        return [
            Source(
                set=(ref.asset, ref.partition, ref.identity),
                file=image.file,
                sha256=self.renders.files[f"images/{image.file}"]["sha256"],
                frame=image.frame,
                view=image.view,
            )
            for image in self.truth.images
        ]

    def read(self, index: int) -> RenderView:
        """The render_view with that place in the truth's order."""
        name = self.truth.images[index].file
        paths = {kind: self.paths[f"{kind}/{name}"] for kind in IMAGE_FOLDERS}
        return read_render_view(paths, self.truth.arrays, index)


def read_render_view(
    paths: Mapping[str, Path], arrays: Mapping[str, np.ndarray], index: int
) -> RenderView:
    """One render with all that belongs to it.

    Args:
        paths: its files, by the folders of a render set.
        arrays: the truth of its set; see ``truth.Truth``.
        index: its place in the truth's order.
    """
    with Image.open(paths["images"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    with Image.open(paths["albedo"]) as image:
        albedo = np.asarray(image.convert("RGBA"))
    with Image.open(paths["normals"]) as image:
        normals = np.asarray(image.convert("RGB")).astype(np.float32) / 127.5 - 1
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.where(length > LEAST_NORMAL, normals / np.maximum(length, LEAST_NORMAL), 0)
    return RenderView(
        subject=Subject.of(arrays, index, pixels, read_mask(paths["masks"])),
        depth=read_depth(paths["depth"]),
        albedo=albedo,
        normals=normals.astype(np.float32),
        png=paths["images"].read_bytes(),
    )
