"""What works on this machine: each part is tried, not guessed."""

from __future__ import annotations

import dataclasses
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from blender_scripts.contract import TIMED_ENGINES, RenderSettings, character_task
from blender_scripts.supervise import BlenderError
from posefactory_dagster.budget.estimates import OverBudget, check_budget, estimate_render
from posefactory_dagster.compute import engines
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import gpu_at_hand, run_job
from posefactory_dagster.compute.runpod import provisioning
from posefactory_dagster.compute.runpod.account import bucket_of, open_api
from posefactory_dagster.compute.runpod.api import RunPodError
from posefactory_dagster.compute.runpod.endpoint import ask_price
from posefactory_dagster.quality import landmarker, model
from posefactory_dagster.settings import (
    PodSettings,
    environment,
    project_settings,
    sample_characters,
)
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.store import REMOTE_SCHEME, Store, StoreError

TINY = RenderSettings(num_angles=1, frames_per_clip=1, width=64, height=64, samples=1)
LEAST_DISK_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One part: whether it works, whether the main job needs it, and what to do if not."""

    what: str
    ok: bool
    needed: bool
    says: str


def examine(scratch: Path) -> Iterator[Finding]:
    """Try each part in turn; ``scratch`` is an empty folder."""
    yield Finding(
        "Python",
        sys.version_info[:2] == (3, 11),
        True,
        sys.version.split()[0] + " (3.11 is needed)",
    )
    sample = next(iter(sample_characters()), None)
    gpu, choice = gpu_at_hand(), engines.choose()
    for engine in TIMED_ENGINES:
        if engine != "cycles_gpu" or gpu:
            yield _try_engine(engine, engine == choice.engine, sample, scratch)
    yield Finding("GPU", gpu, False, f"engine auto is {choice.engine}: {choice.why}")
    try:
        yield _try_store(open_store())
    except Exception as error:
        yield Finding("store", False, True, str(error))
    yield _try_mediapipe(scratch)
    yield _disk(
        environment().cache if REMOTE_SCHEME in environment().store else Path(environment().store)
    )
    limits = PodSettings()
    try:
        limits = project_settings().pods
        there = environment().settings_file.is_file()
        name = environment().settings_file.name
        yield Finding("settings", True, True, name if there else f"defaults (no {name})")
    except ValueError as error:
        yield Finding("settings", False, True, str(error))
    yield from _try_styles()
    yield from _try_runpod(limits)


def _try_engine(engine: str, needed: bool, sample: Path | None, scratch: Path) -> Finding:
    what = f"Blender, {engine}"
    if sample is None:
        return Finding(what, False, needed, "no sample character to render")
    folder = scratch / engine
    folder.mkdir()
    settings = dataclasses.replace(TINY, engine=engine).resolved()
    task = character_task(sample.stem, str(sample), str(folder / "out"))
    try:
        outcome = run_job(new_job("render", [task], settings), folder)[sample.stem]
    except BlenderError as error:
        return Finding(what, False, needed, f"{error}\nOn Debian/Ubuntu: make system-packages")
    if outcome.error:
        return Finding(
            what, False, needed, f"{outcome.error}\nOn Debian/Ubuntu: make system-packages"
        )
    return Finding(what, True, needed, f"renders ({outcome.seconds['render']:.1f} s for 64 x 64)")


def _try_styles() -> Iterator[Finding]:
    """Whether each chosen style has what it needs; costs nothing."""
    from posefactory_dagster.variants.documents import read_style
    from posefactory_dagster.variants.enhancers.base import EnhancerError
    from posefactory_dagster.variants.enhancers.opening import open_enhancer

    try:
        size = (project_settings().render.width, project_settings().render.height)
        for name in project_settings().variants.styles:
            style = read_style(name)
            try:
                enhancer = open_enhancer(style)
                rented = style.made_by.runs_on_pods()
                if not rented:  # what pods need is tried by itself
                    enhancer.check(size)
                says = f"{style.provider}, {style.model}, ${enhancer.price():.3f} an image{' on a pod' if rented else ''}"
                enhancer.close()
                yield Finding(f"style {name}", True, True, says)
            except EnhancerError as error:
                yield Finding(f"style {name}", False, True, str(error))
    except ValueError as error:
        yield Finding("styles", False, True, str(error))


def _try_runpod(settings: PodSettings) -> Iterator[Finding]:
    """Whether pods or an endpoint could be used; needed only where renders are asked for there."""
    serverless, enhancing = (
        environment().render_on == "serverless",
        environment().enhance_on == "pod",
    )
    pods = enhancing or environment().render_on == "pod"
    rents = pods or serverless
    # A run refuses without any of these, so each is looked at, whatever the others say.
    try:
        says = bucket_of(open_store()).address()
        yield Finding("bucket for rented machines", True, rents, says)
    except (RunPodError, StoreError) as error:
        yield Finding("bucket for rented machines", False, rents, str(error))
    image = environment().pod_image
    says = image or "POSEFACTORY_POD_IMAGE is not set: build and push deploy/pod/Dockerfile"
    yield Finding("pod image", image is not None, pods, says)
    if environment().runpod_api_key is None:
        says = "RUNPOD_API_KEY is not set; only for POSEFACTORY_RENDER_ON=pod or serverless and POSEFACTORY_ENHANCE_ON=pod"
        yield Finding("RunPod", False, pods or serverless, says)
        return
    try:
        memory = settings.enhancer_memory_gb if enhancing else 0
        with open_api() as api:
            count = len(api.pods())
            first = provisioning.candidates(api.gpu_types(settings.cloud), settings, memory)[0]
        price = provisioning.price_of(first, settings)
        check_budget(estimate_render(1, price, settings), settings)
        yield Finding(
            "RunPod, pods", True, pods,
            f"the key reads pods ({count} in the account) and prices; first choice {first.id} at ${price:.2f} an "
            "hour. That it may create pods is tried by posefactory doctor --spend",
        )  # fmt: skip
    except (RunPodError, OverBudget) as error:
        yield Finding("RunPod, pods", False, pods, str(error))
    endpoint = environment().endpoint_id
    try:
        if endpoint is None:
            raise RunPodError(
                "POSEFACTORY_ENDPOINT_ID is not set; only for POSEFACTORY_RENDER_ON=serverless"
            )
        price = ask_price(settings)
        check_budget(estimate_render(1, price, settings), settings)
        yield Finding(
            "RunPod, endpoint",
            True,
            serverless,
            f"{endpoint}, at most ${price:.2f} an hour of a worker",
        )
    except (RunPodError, OverBudget) as error:
        yield Finding("RunPod, endpoint", False, serverless, str(error))


def _try_store(store: Store) -> Finding:
    key = layout.doctor(secrets.token_hex(4))
    store.put_bytes(key, b"here")
    same = store.get_bytes(key) == b"here"
    twice = store.create_bytes(key, b"there")
    store.delete([key])
    if twice:
        return Finding(
            "store", False, True,
            f"{store.address()} ignores conditional writes (If-None-Match); two runs could overwrite each other",
        )  # fmt: skip
    return Finding("store", same, True, store.address())


def _try_mediapipe(scratch: Path) -> Finding:
    try:
        task = model.model_path()
        blank = scratch / "blank.png"
        Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(blank)
        found = list(landmarker.detect(task, [blank], 0.5))
    except Exception as error:
        return Finding("MediaPipe", False, True, f"{error}\nOn Debian/Ubuntu: make system-packages")
    return Finding("MediaPipe", len(found) == 1, True, task.name)


def _disk(folder: Path) -> Finding:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    return Finding(
        "disk", free > LEAST_DISK_GB, True, f"{free:.0f} GB free ({LEAST_DISK_GB:g} are needed)"
    )
