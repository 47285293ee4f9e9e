"""Dagster Pipes for pods: one order, one pod, its messages read from the bucket."""

import datetime
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from blender_scripts.supervise import Event
from blender_scripts.worker.environment import ORDER_URL_VARIABLE
from posefactory_dagster.compute.runpod import provisioning
from posefactory_dagster.compute.runpod.api import GpuType, RunPodApi, RunPodError
from posefactory_dagster.compute.runpod.lease import HeldPod
from posefactory_dagster.compute.runpod.reader import MessageStreamReader
from posefactory_dagster.compute.runpod.reports import PodReport
from posefactory_dagster.compute.runpod.watching import LogFollower, watch
from posefactory_dagster.pipeline.runs import HIDDEN_TAG
from posefactory_dagster.settings import PodSettings

INSTALLATION_KEY = "posefactory/installation"
#: The tag of a run that says until when its pod may live; the janitor ends one that is older.
PODS_UNTIL = f"{HIDDEN_TAG}pods_until"
#: A pod may outlive its job's limit by so long, for start-up and last uploads.
SLACK_S = 900.0
#: What the container runs; the image is built from deploy/pod/Dockerfile.
WORKER = "python3.11 -m blender_scripts.worker.pod"
#: What it runs where it is to make variants too; the image is built with DIFFUSERS=1 then.
ENHANCING_WORKER = "python3.11 -m posefactory_dagster.diffusion.pod"


def installation_id(instance: dg.DagsterInstance) -> str:
    """A short name of this Dagster installation, drawn once and shared by all who use its storage."""
    found = instance.daemon_cursor_storage.get_cursor_values({INSTALLATION_KEY})
    if INSTALLATION_KEY not in found:
        instance.daemon_cursor_storage.set_cursor_values({INSTALLATION_KEY: secrets.token_hex(3)})
        found = instance.daemon_cursor_storage.get_cursor_values({INSTALLATION_KEY})
    return found[INSTALLATION_KEY]


@dataclass(frozen=True)
class PodRequest:
    """What to start.

    ``order`` writes an order for a pod of that name and gives the address by which to get it: one for
    each try to create a pod, so that two pods never work on the same objects. ``chosen`` hears of the pod
    that counts. ``worker`` is what the container runs.
    """

    image: str
    gpus: list[GpuType]
    estimate: float
    order: Callable[[str, Mapping[str, str]], str]
    chosen: Callable[[PodReport], None]
    disk_gb: int
    worker: str = WORKER


class PipesRunPodClient:
    """Runs a worker on one RunPod pod, and ends that pod whatever happens."""

    def __init__(self, api: RunPodApi, settings: PodSettings) -> None:
        self._api, self._settings = api, settings

    def run(
        self,
        context: dg.AssetExecutionContext,
        request: PodRequest,
        reader: MessageStreamReader,
        on_event: Callable[[Event], None],
        on_report: Callable[[PodReport], None],
        keep: Callable[[PodReport, str], bool] = lambda report, base: False,
    ) -> None:
        """Place a pod, hear it out, and end it; ``on_report`` hears what it did, however it ended.

        Args:
            keep: asked after the closing message with what the pod's name begins with; True lets the pod live, and
                whoever says so sees to its end.

        Raises:
            RunPodError: none could be placed.
            PodEnded: it ended, or passed a deadline, without a closing message.
        """
        base = provisioning.pod_name(
            installation_id(context.instance), context.run.run_id, secrets.token_hex(4)
        )
        longest = self._settings.provision_timeout_s + self._settings.job_timeout_s + SLACK_S
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=longest)
        context.instance.add_run_tags(context.run.run_id, {PODS_UNTIL: until.isoformat()})
        self._attend(
            context, base, lambda pipes: self._place(context, request, base, pipes), reader, on_event, on_report, keep
        )  # fmt: skip

    def resume(
        self,
        context: dg.AssetExecutionContext,
        held: HeldPod,
        estimate: float,
        reader: MessageStreamReader,
        on_event: Callable[[Event], None],
        on_report: Callable[[PodReport], None],
    ) -> None:
        """Hear a held pod out, and end it; as ``run``."""
        report = PodReport(held.pod, held.gpu, held.price, estimate)
        self._attend(
            context, held.base, lambda pipes: report, reader, on_event, on_report, lambda report, base: False, held.unpaid
        )  # fmt: skip

    def _attend(
        self,
        context: dg.AssetExecutionContext,
        base: str,
        start: Callable[[Mapping[str, str]], PodReport],
        reader: MessageStreamReader,
        on_event: Callable[[Event], None],
        on_report: Callable[[PodReport], None],
        keep: Callable[[PodReport, str], bool],
        unpaid: float = 0.0,
    ) -> None:
        with dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesEnvContextInjector(),
            message_reader=reader,
        ) as session:
            seen = 0

            def new_events() -> list[Event]:
                nonlocal seen
                messages = session.get_custom_messages()[seen:]
                seen += len(messages)
                return [m for m in messages if isinstance(m, dict) and "event" in m]

            begun = time.monotonic() - unpaid
            report: PodReport | None = None
            heard_out = False
            try:
                report = start(session.get_bootstrap_env_vars())
                self._hear(context, report, base, reader, new_events, on_event)
                heard_out = True
            finally:  # an interrupt too: what was made must not live on
                if report is not None:
                    report.seconds = time.monotonic() - begun
                kept = False
                try:
                    kept = heard_out and report is not None and keep(report, base)
                finally:
                    surplus = self._end(context, base, report, keep=kept)
                    if report is not None:
                        report.surplus += surplus
                        on_report(report)
        for event in new_events():
            on_event(event)

    def _hear(
        self,
        context: dg.AssetExecutionContext,
        report: PodReport,
        base: str,
        reader: MessageStreamReader,
        new_events: Callable[[], list[Event]],
        on_event: Callable[[Event], None],
    ) -> None:
        def on_surplus(count: int) -> None:
            report.surplus += count

        pod = report.pod
        context.log.info(
            f"pod {pod.id} on {report.gpu.name} at ${report.price:.2f} an hour: {pod.console}"
        )
        follower = LogFollower(self._api, pod.id, lambda line: context.log.debug(f"pod: {line}"))
        try:
            for event in watch(
                self._api, pod, base, new_events, lambda: reader.closed, self._settings, on_surplus
            ):
                on_event(event)
        finally:
            follower.stop()

    def _place(
        self,
        context: dg.AssetExecutionContext,
        request: PodRequest,
        base: str,
        pipes: Mapping[str, str],
    ) -> PodReport:
        def body(number: int) -> dict[str, Any]:
            name = f"{base}-{number}"
            return {
                "name": name,
                "image": request.image,
                "args": request.worker,
                "cloud": self._settings.cloud,
                "disk": request.disk_gb,
                "ports": [],
                "env": {ORDER_URL_VARIABLE: request.order(name, pipes)},
            }

        pod = provisioning.place(
            self._api, body, request.gpus, self._settings.max_price_per_hour, context.log.warning
        )
        gpu = next((g for g in request.gpus if pod.gpu and g.id == pod.gpu.id), request.gpus[0])
        price = pod.cost or provisioning.price_of(gpu, self._settings)
        report = PodReport(pod, gpu, price, request.estimate)
        request.chosen(report)
        return report

    def _end(
        self, context: dg.AssetExecutionContext, base: str, report: PodReport | None, *, keep: bool
    ) -> int:
        """Terminate the pod, unless it is to live on, and whatever else was made for it; how many others there were."""
        surplus = 0
        try:
            if report is not None and not keep:
                self._api.delete_pod(report.pod.id)
            surplus = provisioning.end_named(
                self._api, base, report.pod.id if report and keep else None
            )
        except RunPodError as error:
            which = report.pod.id if report else f"named {base}-…"
            context.log.error(
                f"whether pod {which} is ended is not known, and it may go on costing money ({error}); the "
                "janitor sensor looks after it. By hand: posefactory pods list, posefactory pods stop --all"
            )
        return surplus
