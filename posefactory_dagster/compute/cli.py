"""Command-line verbs for rented machines and their jobs: list, start, stop, download."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from posefactory_dagster.settings import project_settings
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.layout import LayoutError
from posefactory_dagster.storage.sets import SetRef
from posefactory_dagster.terminal import (
    WORK_FAILED,
    CommandError,
    JsonOption,
    open_instance,
    open_sets,
    out,
    print_error,
    print_table,
    show,
)

if TYPE_CHECKING:
    from posefactory_dagster.compute.record import RecordedJob

pods_app = typer.Typer(no_args_is_help=True, help="Pods of this installation on RunPod.")
jobs_app = typer.Typer(no_args_is_help=True, help="Render jobs: what was asked, and how it went.")


def _own_pods(api: Any, instance: Any) -> list[Any]:
    from posefactory_dagster.compute.runpod import provisioning
    from posefactory_dagster.compute.runpod.pipes import installation_id

    mine = installation_id(instance)
    return [p for p in api.pods() if provisioning.run_of(p.name, mine) is not None]


def _pod_document(pod: Any) -> dict[str, Any]:
    return {
        "id": pod.id,
        "name": pod.name,
        "status": pod.status,
        "gpu": pod.gpu.id if pod.gpu else None,
        "usd_per_hour": pod.cost,
        "created_at": pod.created_at.isoformat() if pod.created_at else None,
        "console": pod.console,
    }


@pods_app.command("list")
def pods_list(as_json: JsonOption = False) -> None:
    """Pods that this installation made; other pods of the account are nobody's business here."""
    from posefactory_dagster.compute.runpod.account import open_api

    with _explained(), open_instance() as instance, open_api() as api:
        rows = [_pod_document(p) for p in _own_pods(api, instance)]

    def print_it() -> None:
        table = Table("pod", "name", "status", "GPU", "$/h", "created")
        for r in rows:
            table.add_row(r["id"], r["name"], r["status"], r["gpu"] or "", f"{r['usd_per_hour'] or 0:.2f}", r["created_at"] or "")  # fmt: skip
        print_table(table, "no pods of this installation")

    show(as_json, rows, print_it)


@pods_app.command("prices")
def pods_prices(as_json: JsonOption = False) -> None:
    """RunPod's GPU types, cheapest first, and which of them a job would take."""
    from posefactory_dagster.compute.runpod import provisioning
    from posefactory_dagster.compute.runpod.account import open_api

    settings = project_settings().pods
    with _explained(), open_api() as api:
        catalogue = api.gpu_types(settings.cloud)
    try:
        chosen = [g.id for g in provisioning.candidates(catalogue, settings)]
    except provisioning.NotPlaced:
        chosen = []
    rows = [
        {
            "id": g.id,
            "memory_gb": g.memory,
            "usd_per_hour": provisioning.price_of(g, settings),
            "stock": g.availability,
            "order": chosen.index(g.id) + 1 if g.id in chosen else None,
        }
        for g in sorted(catalogue, key=lambda g: provisioning.price_of(g, settings))
    ]

    def print_it() -> None:
        table = Table("GPU type", "memory", "$/h", "stock", "taken")
        for r in rows:
            taken = f"as number {r['order']}" if r["order"] else ""
            table.add_row(str(r["id"]), f"{r['memory_gb']} GB", f"{r['usd_per_hour']:.2f}", str(r["stock"]), taken)  # fmt: skip
        print_table(table, "none")

    show(as_json, rows, print_it)


@pods_app.command("start")
def pods_start(
    pod_id: Annotated[str, typer.Argument(help="A pod of this installation.")],
    as_json: JsonOption = False,
) -> None:
    """Boot a stopped pod again; its worker goes on if its run waits for it, and ends it if not."""
    _act([pod_id], "start", as_json)


@pods_app.command("stop")
def pods_stop(
    pod_id: Annotated[str | None, typer.Argument(help="A pod of this installation.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pods of this installation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Terminate pods: a merely stopped one goes on costing its disk."""
    if (pod_id is None) == (not every):
        raise CommandError("name a pod, or give --all")
    _act([pod_id] if pod_id else None, "terminate", as_json)


def _act(pod_ids: list[str] | None, action: str, as_json: bool) -> None:
    from posefactory_dagster.compute.runpod.account import open_api
    from posefactory_dagster.compute.runpod.api import checked_id

    with _explained(), open_instance() as instance, open_api() as api:
        own = {p.id: p for p in _own_pods(api, instance)}
        chosen = [checked_id(i) for i in pod_ids] if pod_ids else list(own)
        if strangers := [i for i in chosen if i not in own]:
            raise CommandError(
                f"{', '.join(strangers)}: no pod of this installation; posefactory pods list shows them"
            )
        for pod_id in chosen:
            if action == "start":
                api.act(pod_id, "start")
            else:
                api.delete_pod(pod_id)
    verb = "started" if action == "start" else "terminated"
    show(as_json, {verb: chosen}, lambda: out.print(f"{verb}: {', '.join(chosen) or 'none'}"))


class _explained:  # noqa: N801  (reads as a word in a with statement)
    """Converts RunPod errors to command errors."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from posefactory_dagster.compute.runpod.api import RunPodError

        if isinstance(error, RunPodError):
            raise CommandError(str(error)) from error


@jobs_app.command("list")
def jobs_list(as_json: JsonOption = False) -> None:
    """Render jobs, newest first."""
    from posefactory_dagster.compute.record import read_jobs

    with open_instance() as instance:
        found = [_settled(j, instance) for j in read_jobs(open_sets().store)]
    rows: list[dict[str, Any]] = [
        {
            "job_id": j.job.job_id,
            "created_at": j.job.created_at,
            "status": j.status.status,
            "where": j.status.where,
            "characters": j.job.params.characters,
            "cost_usd": round(sum(r.cost_usd for r in j.status.rented), 4),
        }
        for j in found
    ]

    def print_it() -> None:
        table = Table("job", "status", "where", "characters", "$")
        for r in rows:
            table.add_row(r["job_id"], r["status"], r["where"], str(len(r["characters"])), f"{r['cost_usd']:.2f}")  # fmt: skip
        print_table(table, "no jobs yet")

    show(as_json, rows, print_it)


def _settled(job: RecordedJob, instance: Any) -> RecordedJob:
    """The job; one whose run was killed could not say itself that it failed."""
    from posefactory_dagster.pipeline.runs import runs_in_progress

    if job.status.status == "processing":
        run = instance.get_run_by_id(job.status.run_id)  # None: it is somebody else's
        if run is not None and run.run_id not in [r.run_id for r in runs_in_progress(instance)]:
            why = f"its run {run.run_id} ended before it did; run the rest again"
            failed = job.status.model_copy(update={"status": "failed", "trouble": why})
            return job.model_copy(update={"status": failed})
    return job


def _read(job_id: str) -> RecordedJob:
    from posefactory_dagster.compute.record import read_job

    try:
        found = read_job(open_sets().store, job_id)
    except LayoutError as error:
        raise CommandError(f"{job_id!r} is no job id; posefactory jobs list shows them") from error
    if found is None:
        raise CommandError(f"{job_id}: no such job; posefactory jobs list shows them")
    with open_instance() as instance:
        return _settled(found, instance)


@jobs_app.command("show")
def jobs_show(
    job_id: Annotated[str, typer.Argument(help="A job's id.")], as_json: JsonOption = False
) -> None:
    """One job: its document and its status."""
    found = _read(job_id)

    def print_it() -> None:
        status = found.status
        out.print(f"{job_id}: {status.status} ({status.where}, {status.updated_at})")
        for key in found.job.params.characters:
            done = "done" if key in status.results else status.errors.get(key, "not done")
            out.print(f"  {key}: {done}", soft_wrap=True)
        if status.trouble:
            out.print(f"  {status.trouble}", soft_wrap=True)
        for rented in status.rented:
            which = (
                f"pod {rented.pod} on {rented.gpu}, {rented.console}"
                if rented.pod
                else f"endpoint {rented.endpoint}, {rented.endpoint_jobs} jobs"
            )
            out.print(
                f"  {which}: {rented.seconds:.0f} s, ${rented.cost_usd:.4f} (estimated ${rented.estimate_usd:.4f})",
                soft_wrap=True,
            )

    show(as_json, found.model_dump(mode="json", exclude_unset=True), print_it)


@jobs_app.command("download")
def jobs_download(
    job_id: Annotated[str, typer.Argument(help="A job's id.")],
    folder: Annotated[Path, typer.Argument(help="Where to; a folder per character.")],
    as_json: JsonOption = False,
) -> None:
    """Fetch the render sets that a job made."""
    results = _read(job_id).status.results
    sets = open_sets()
    written, gone = [], []
    for key, ref in results.items():
        committed = sets.find(SetRef(*ref))
        if committed is None:
            gone.append(key)
            continue
        layout.current(
            committed.ref.asset, key
        )  # a key that could lead out of the folder is refused
        for name, path in committed.paths(committed.files).items():
            target = folder / key / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        written.append(key)

    def print_it() -> None:
        out.print(f"{len(written)} characters in {folder}", soft_wrap=True)
        for key in gone:
            print_error(f"{key}: its set is gone (posefactory store gc); run it again")

    show(as_json, {"characters": written, "gone": gone, "folder": str(folder)}, print_it)
    if gone or not written:
        raise typer.Exit(WORK_FAILED)


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.add_typer(pods_app, name="pods")
    app.add_typer(jobs_app, name="jobs")
