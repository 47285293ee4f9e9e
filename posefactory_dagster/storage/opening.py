"""Which store an address means."""

from __future__ import annotations

from pathlib import Path

from posefactory_dagster.settings import environment
from posefactory_dagster.storage.store import REMOTE_SCHEME, LocalStore, Store, StoreError


def open_store(address: str = "") -> Store:
    """The store at ``address``: a folder's path, or ``r2://bucket/prefix``.

    An empty address means what POSEFACTORY_STORE says.

    Raises:
        StoreError: the address is of another kind, or its bucket's keys are not in the environment.
    """
    address = address or environment().store
    if address.startswith(REMOTE_SCHEME):
        from posefactory_dagster.storage.r2 import open_r2  # boto3 takes a second to import

        return open_r2(address)
    if "://" in address:
        raise StoreError(
            f"{address}: no store of that kind; give a folder's path or r2://bucket/prefix"
        )
    return LocalStore(Path(address))
