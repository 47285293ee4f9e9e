"""Get one pod, and not two: candidates in order, adoption by name, surplus ones ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from posefactory_dagster.compute.runpod.api import (
    AccessDenied,
    GpuType,
    NotPlaced,
    Pod,
    RunPodApi,
    Unavailable,
)
from posefactory_dagster.settings import PodSettings

NAME_PREFIX = "pf-"
#: After an answer was lost: how often, and how far apart in seconds, to look for the pod by its name.
LOOKS, LOOK_S = 4, 1.0
CREATES = 4


def installation_prefix(installation: str) -> str:
    """What the names of all pods of an installation begin with."""
    return f"{NAME_PREFIX}{installation}-"


def affordable(
    gpus: Sequence[GpuType], cost: Callable[[float], float], spent: float, settings: PodSettings
) -> list[GpuType]:
    """The GPUs on which the rest of a job fits into ``max_cost_per_job``.

    Args:
        cost: US dollars of the rest, by the price of an hour.
        spent: US dollars that the job has cost.
    """
    most = settings.max_cost_per_job
    return [g for g in gpus if spent + cost(price_of(g, settings)) <= most]


def pod_name(installation: str, run_id: str, token: str) -> str:
    """``pf-<installation>-<run>-<hash>``; ``token`` is drawn anew for each pod."""
    return f"{installation_prefix(installation)}{run_id[:8]}-{token}"


def run_of(name: str, installation: str) -> str | None:
    """The first eight characters of the run a pod was made for; None if it is not this installation's."""
    prefix = installation_prefix(installation)
    run, _, token = name.removeprefix(prefix).partition("-")
    return run if name.startswith(prefix) and run and token else None


def candidates(
    catalogue: Sequence[GpuType], settings: PodSettings, memory_gb: int = 0
) -> list[GpuType]:
    """Acceptable GPU types in stock with at least so much memory, cheapest first.

    Raises:
        NotPlaced: there is none; the text says which limit is in the way.
    """
    secure = settings.cloud == "SECURE"
    known = {g.id for g in catalogue}
    if unknown := [g for g in settings.gpu_types if g not in known]:
        raise NotPlaced(
            f"gpu_types: RunPod knows no {', '.join(unknown)}; posefactory pods prices shows the types"
        )
    acceptable = [
        g
        for g in catalogue
        if (g.id in settings.gpu_types or (not settings.gpu_types and g.manufacturer == "NVIDIA"))
        and (g.secure if secure else g.community)
        and g.memory >= memory_gb
    ]
    in_stock = [g for g in acceptable if g.availability != "NONE"]
    affordable = [g for g in in_stock if 0 < price_of(g, settings) <= settings.max_price_per_hour]
    if not affordable:
        cheapest = min((price_of(g, settings) for g in in_stock), default=None)
        why = (
            f"the cheapest costs ${cheapest:.2f} an hour, over max_price_per_hour = ${settings.max_price_per_hour:.2f}"
            if cheapest is not None
            else f"none{f' with {memory_gb} GB' if memory_gb else ''} is in stock now"
        )
        raise NotPlaced(
            f"no acceptable GPU in {settings.cloud.lower()} cloud: {why}; posefactory pods prices shows all"
        )
    return sorted(affordable, key=lambda g: (price_of(g, settings), g.id))


def price_of(gpu: GpuType, settings: PodSettings) -> float:
    """US dollars an hour."""
    return gpu.price.secure if settings.cloud == "SECURE" else gpu.price.community


def place(
    api: RunPodApi,
    request: Callable[[int], dict[str, Any]],
    gpus: Sequence[GpuType],
    ceiling: float,
    tell: Callable[[str], None] = lambda text: None,
) -> Pod:
    """Create one pod on the first candidate that can be had.

    A create whose answer was lost may have made the pod, so it is looked for by its name and adopted.

    Args:
        request: the body of the n-th try, without its GPU; each has a name of its own.
        ceiling: US dollars an hour; a pod that turns out dearer is ended at once.

    Raises:
        NotPlaced: no candidate could be had. AccessDenied, KeyRefused, OutOfFunds, BadRequest,
        Unavailable: as ``RunPodApi``.
    """
    last: NotPlaced | AccessDenied | None = None
    number = 0
    for gpu in gpus:
        for attempt in range(1, CREATES + 1):
            number += 1
            body = {**request(number), "gpu": {"id": gpu.id, "count": 1}}
            try:
                pod = _create_or_adopt(api, body, tell, last=attempt == CREATES)
            except (NotPlaced, AccessDenied) as error:
                tell(f"{gpu.id}: {error}; trying the next GPU type")
                last = error
                break
            if pod is None:
                continue
            if pod.cost is None or pod.cost <= ceiling:
                return pod
            api.delete_pod(pod.id)
            last = NotPlaced(f"{gpu.id}: the pod cost ${pod.cost:.2f} an hour, over ${ceiling:.2f}")
            break
    if isinstance(last, AccessDenied):
        raise last
    raise NotPlaced(
        f"none of {len(gpus)} GPU types could be had ({', '.join(g.id for g in gpus)}); the last answer: {last}"
    )


def _create_or_adopt(
    api: RunPodApi, body: dict[str, Any], tell: Callable[[str], None], *, last: bool
) -> Pod | None:
    """The pod, or None if it is not known whether there is one and another try is due."""
    try:
        return api.create_pod(body)
    except Unavailable as error:
        tell(f"{error}; looking whether the pod was made all the same")
        for _ in range(LOOKS):
            time.sleep(LOOK_S)
            found = next((p for p in api.pods() if p.name == body["name"]), None)
            if found is not None:
                tell(f"adopted pod {found.id}")
                return found
        if last:
            raise
        return None


def end_named(api: RunPodApi, base: str, keep: str | None) -> int:
    """Terminate the pods that were made for one order (``<base>-<number>``), but ``keep``; how many."""
    surplus = [p for p in api.pods() if p.name.startswith(f"{base}-") and p.id != keep]
    for other in surplus:
        api.delete_pod(other.id)
    return len(surplus)
