"""Carry out an order: download inputs, render, and upload each file when it is made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blender_scripts import supervise
from blender_scripts.contract import (
    EVENT_DONE,
    EVENT_FAILED,
    EVENT_IMAGE,
    EVENT_START,
    TRUTH_ARRAYS,
    TRUTH_DOCUMENT,
    Job,
    Task,
    image_folders,
)
from blender_scripts.supervise import Event, Outcome
from blender_scripts.worker import transfer
from blender_scripts.worker.environment import WorkerEnvironment

SCRIPTS = Path(__file__).resolve().parents[1]
PARALLEL_UPLOADS = 4

Emit = Callable[[Event], None]


@dataclasses.dataclass(frozen=True)
class Order:
    """A worker's order, with one pre-signed address for each object it may read or write.

    ``inputs`` maps a file name to {url, sha256}; ``outputs`` a key to the address of each of its files;
    ``results`` a key to {get, put} of the list that says a character is complete. ``service`` is what a pod is to do
    when all is rendered, where it is to do more: the address of the first request, and how long to wait for one.
    """

    job: Job
    inputs: Mapping[str, Mapping[str, str]]
    outputs: Mapping[str, Mapping[str, str]]
    results: Mapping[str, Mapping[str, str]]
    streams: list[dict[str, Any]]
    pipes: Mapping[str, str]
    seconds: float
    character_seconds: float
    service: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, data: bytes) -> Order:
        """The order in a document.

        Raises:
            ValueError, KeyError, TypeError: it is no order.
        """
        values = json.loads(data)
        return cls(job=Job.from_dict(values.pop("job")), **values)


def carry_out(order: Order, environment: WorkerEnvironment, emit: Emit) -> bool:
    """Render what is not complete yet; whether every character came through.

    ``emit`` hears the events of ``contract``; EVENT_DONE carries ``files``, {sha256, size} by name.
    """
    folder = environment.workspace / "jobs" / order.job.job_id
    shutil.rmtree(folder, ignore_errors=True)  # a restarted container begins anew
    (folder / "inputs").mkdir(parents=True)
    good = True
    todo = []
    for task in order.job.tasks:
        complete = transfer.get_bytes(order.results[task.key]["get"], f"{task.key}: result")
        if complete is not None:
            emit({"event": EVENT_DONE, "key": task.key, **json.loads(complete)})
            continue
        try:
            _fetch(order, task, folder / "inputs")
            todo.append(task)
        except transfer.TransferError as error:
            good = False
            reason = f"{task.key}: its file could not be fetched whole ({error}); posefactory store verify"
            emit({"event": EVENT_FAILED, "key": task.key, "error": reason})
    persons = {task.key: task.persons for task in todo}
    local = dataclasses.replace(order.job, tasks=tuple(_here(task, folder) for task in todo))
    with ThreadPoolExecutor(PARALLEL_UPLOADS) as pool:
        uploads: dict[str, dict[str, Future[dict[str, Any]]]] = {t.key: {} for t in todo}

        def put(key: str, name: str) -> None:
            path = folder / key / name
            address = order.outputs[key][name]
            uploads[key][name] = pool.submit(_upload, path, address, f"{key}/{name}")

        def on_event(event: Event) -> None:
            if event["event"] == EVENT_IMAGE:
                for kind in image_folders(order.job.settings, persons[event["key"]]):
                    put(event["key"], f"{kind}/{event['name']}")
            if event["event"] in (EVENT_START, EVENT_IMAGE):
                emit(event)

        def on_outcome(key: str, outcome: Outcome) -> None:
            nonlocal good
            try:
                if outcome.error is None:
                    put(key, TRUTH_ARRAYS)
                    put(key, TRUTH_DOCUMENT)
                    result = {
                        "files": {name: f.result() for name, f in uploads.pop(key).items()},
                        "seconds": dict(outcome.seconds),
                        "peak_mb": outcome.peak_mb,
                    }
                    data = json.dumps(result).encode()
                    transfer.upload(order.results[key]["put"], data, f"{key}: result")
                    emit({"event": EVENT_DONE, "key": key, **result})
                    return
                error = outcome.error
            except (transfer.TransferError, OSError, KeyError) as trouble:
                error = f"{key}: its files could not be put up ({trouble}); run it again"
            finally:
                shutil.rmtree(folder / key, ignore_errors=True)
            good = False
            emit({"event": EVENT_FAILED, "key": key, "error": error})

        launch = supervise.launch(
            lambda kind, path: environment.render_command(SCRIPTS / supervise.SCRIPTS[kind], path),
            supervise.for_blender(os.environ),
            order.character_seconds,
        )
        supervise.run_job(local, folder, launch, on_event, on_outcome)
    shutil.rmtree(folder, ignore_errors=True)
    return good


def _fetch(order: Order, task: Task, folder: Path) -> None:
    for name in (wanted.file for wanted in task.inputs.values()):
        if not (folder / name).exists():
            source = order.inputs[name]
            try:
                transfer.download(source["url"], folder / name, name, source["sha256"])
            except transfer.TransferError:
                (folder / name).unlink(missing_ok=True)
                raise


def _here(task: Task, folder: Path) -> Task:
    """The task with paths on this machine."""
    inputs = {
        role: dataclasses.replace(wanted, file=str(folder / "inputs" / wanted.file))
        for role, wanted in task.inputs.items()
    }
    return dataclasses.replace(task, inputs=inputs, outputs=str(folder / task.key))


def _upload(path: Path, address: str, what: str) -> dict[str, Any]:
    data = path.read_bytes()
    transfer.upload(address, data, what)
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
