"""Which variants enter a dataset: the dataset reads verdicts and locks itself, and refuses anything without."""

from __future__ import annotations

from pathlib import Path

from posefactory_dagster.review.approval import Decisions, as_locked, locks_of, may_enter
from posefactory_dagster.storage.sets import CommittedSet
from posefactory_dagster.storage.store import DamagedObject, Store
from posefactory_dagster.variants.documents import Variant, read_variants


def admitted(store: Store, variants: CommittedSet, decisions: Decisions) -> list[Variant]:
    """The variants of a committed set that are locked as they are and that no person has rejected."""
    locks = locks_of(store, Variant, variants.ref.partition)
    standing = [as_locked(v, locks.get(v.variant)) for v in read_variants(variants)]
    return [v for v in standing if may_enter(v, locks.get(v.variant), decisions.of(v))]


def locked_images(store: Store, variants: list[Variant]) -> dict[str, Path]:
    """The images of admitted variants, by variant.

    Raises:
        DamagedObject: an image is gone, or is not what its lock says.
    """
    images = {v.variant: v.image for v in variants if v.image is not None}
    try:
        paths = store.local_paths({i.key: i.sha256 for i in images.values()})
    except DamagedObject as error:
        raise DamagedObject(
            f"{error}. It is not the image that was locked: restore it, or reject it with posefactory review"
        ) from error
    except FileNotFoundError as error:
        raise DamagedObject(
            f"{error.filename or error}: a locked image is missing; restore it, or reject it with posefactory review"
        ) from error
    return {name: paths[image.key] for name, image in images.items()}
