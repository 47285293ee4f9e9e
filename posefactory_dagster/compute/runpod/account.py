"""What rendering elsewhere needs of the environment: an account, and a bucket that others can reach."""

from __future__ import annotations

from posefactory_dagster.compute.runpod.api import RunPodApi, RunPodError
from posefactory_dagster.settings import environment
from posefactory_dagster.storage.r2 import R2Store
from posefactory_dagster.storage.store import Store


def open_api() -> RunPodApi:
    """Open an API client with the key from the environment.

    Raises:
        RunPodError: there is no key.
    """
    settings = environment()
    if settings.runpod_api_key is None:
        raise RunPodError(
            "RUNPOD_API_KEY is not set; RunPod's console makes one under Settings, API Keys"
        )
    return RunPodApi(settings.runpod_api_key.get_secret_value(), settings.runpod_api_base_url)


def pod_image() -> str:
    """The container image for pods.

    Raises:
        RunPodError: none is named.
    """
    image = environment().pod_image
    if image is None:
        raise RunPodError(
            "POSEFACTORY_POD_IMAGE is not set: build deploy/pod/Dockerfile, push it, and name it there"
        )
    return image


def bucket_of(store: Store) -> R2Store:
    """The store as a bucket, which rented machines can reach.

    Raises:
        RunPodError: it is a folder.
    """
    if not isinstance(store, R2Store):
        raise RunPodError(
            f"working elsewhere needs a bucket, and the store is {store.address()}; set "
            "POSEFACTORY_STORE=r2://bucket/prefix (posefactory store copy moves a project there)"
        )
    return store
