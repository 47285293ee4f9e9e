"""What a renderer was asked, and how it went: the job document, and its status beside it."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from blender_scripts.contract import Job
from posefactory_dagster.budget import ledger
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import SetRef
from posefactory_dagster.storage.store import DamagedObject, Store

DOCUMENT, STATUS = "job.json", "status.json"
State = Literal["pending", "processing", "completed", "failed"]


@dataclass
class JobRecord:
    """A job's place in the store. The document is written once, the status as often as it changes.

    ``run_id`` is the Dagster run's, so that a job whose run was killed can be told from one that goes on;
    ``endpoint_jobs`` are those under way, each with its endpoint; ``rented`` is what pods and endpoints did and
    cost, with ``entered_usd`` and ``entered_estimate_usd`` for what of it is in the ledger already, image by image.
    """

    store: Store
    job: Job
    where: str
    run_id: str
    rented: list[dict[str, Any]] = field(default_factory=list)
    endpoint_jobs: dict[str, str] = field(default_factory=dict)
    results: dict[str, SetRef] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def open(self) -> None:
        """Write the document: the original's manifest fields, and the rest of the job."""
        data = json.dumps(self.job.to_dict(), indent=1).encode()
        self.store.put_bytes(layout.job_file(self.job.job_id, DOCUMENT), data)
        self.tell("processing")

    def tell(self, status: State) -> None:
        """Write the status."""
        document = {
            "job_id": self.job.job_id,
            "status": status,
            "where": self.where,
            "run_id": self.run_id,
            "updated_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "results": {key: [r.asset, r.partition, r.identity] for key, r in self.results.items()},
            "errors": self.errors,
            "rented": self.rented,
            "endpoint_jobs": self.endpoint_jobs,
        }
        data = json.dumps(document, indent=1).encode()
        self.store.put_bytes(layout.job_file(self.job.job_id, STATUS), data)

    def under_way(self, endpoint: str, endpoint_jobs: list[str]) -> None:
        """Write the ids of an endpoint's jobs at once, so that another process can cancel them if this one is killed."""
        self.endpoint_jobs = dict.fromkeys(endpoint_jobs, endpoint)
        self.tell("processing")

    def close(self) -> None:
        """Write the final status: completed only if every character succeeded."""
        missing = [t.key for t in self.job.tasks if t.key not in self.results]
        self.tell("failed" if missing or self.errors else "completed")
        for number, rented in enumerate(self.rented):
            job_id = self.job.job_id
            entry = ledger.Entry(
                at=datetime.datetime.now(datetime.UTC),
                provider="runpod",
                model=str(rented.get("gpu", "endpoint")),
                what=of_pod(job_id, rented["pod"]) if "pod" in rented else job_id,
                cost_usd=max(rented["cost_usd"] - rented.get("entered_usd", 0.0), 0.0),
                estimate_usd=max(
                    rented["estimate_usd"] - rented.get("entered_estimate_usd", 0.0), 0.0
                ),
                run_id=self.run_id,
            )
            ledger.enter(self.store, f"{job_id}-{number}", entry)


def of_pod(words: str, pod_id: str) -> str:
    """The ``what`` of a ledger entry for a pod. The janitor reads it to find what is already paid."""
    return f"{words}, pod {pod_id}"


class DamagedJob(DamagedObject):
    """A job's document or status cannot be parsed."""


class RentedMachine(BaseModel):
    """What a pod or an endpoint did for a job: seconds, and US dollars by estimate and in the end."""

    model_config = ConfigDict(extra="allow", frozen=True)

    cost_usd: float = Field(allow_inf_nan=False)
    estimate_usd: float = Field(allow_inf_nan=False)
    seconds: float = Field(allow_inf_nan=False)
    usd_per_hour: float = 0.0
    pod: str = ""
    gpu: str = ""
    console: str = ""
    surplus_pods_ended: int = 0
    endpoint: str = ""
    endpoint_jobs: int = 0


class JobStatus(BaseModel):
    """The status of a job. ``results`` maps a key to the set that was made: (asset, partition, identity)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    status: State = "pending"
    where: str = ""
    run_id: str = ""
    updated_at: str = ""
    results: dict[str, tuple[str, str, str]] = {}
    errors: dict[str, str] = {}
    rented: list[RentedMachine] = []
    endpoint_jobs: dict[str, str] = {}
    trouble: str = ""


class JobParameters(BaseModel):
    """What holds for all tasks of a job; the rest is for the machine that works."""

    model_config = ConfigDict(extra="allow", frozen=True)

    characters: list[str]


class JobDocument(BaseModel):
    """The fields of a job's document that other code reads."""

    model_config = ConfigDict(extra="allow", frozen=True)

    job_id: str
    created_at: str
    params: JobParameters


class RecordedJob(BaseModel):
    """A job's document with its status."""

    job: JobDocument
    status: JobStatus


KINDS: dict[str, type[BaseModel]] = {DOCUMENT: JobDocument, STATUS: JobStatus}
M = TypeVar("M", bound=BaseModel)


def _read(store: Store, job_id: str, name: str, kind: type[M]) -> M | None:
    key = layout.job_file(job_id, name)
    data = store.get_bytes(key)
    if data is None:
        return None
    try:
        return kind.model_validate_json(data)
    except (ValueError, RecursionError) as error:
        raise DamagedJob(
            f"{store.address(key)}: cannot be read; posefactory store verify --repair takes it out of the way"
        ) from error


def damaged_jobs(store: Store) -> Iterator[tuple[str, str]]:
    """Keys of documents of jobs that cannot be read, each with the fault."""
    for item in sorted(store.list(layout.JOBS), key=lambda i: i.key):
        parts = item.key.split("/")
        kind = KINDS.get(parts[2]) if len(parts) == 3 else None
        if kind is None or not layout.is_part(parts[1]):
            continue
        try:
            _read(store, parts[1], parts[2], kind)
        except DamagedJob:
            yield item.key, "not a document of a job"


def read_jobs(store: Store) -> Iterator[RecordedJob]:
    """Each recorded job with its status, newest first; what cannot be read of one is passed over, as verify tells of it."""
    ids = [i for item in store.list(layout.JOBS) if (i := layout.parse_job(item.key))]
    for job_id in sorted(ids, key=lambda i: i.split("_")[1:3], reverse=True):
        with contextlib.suppress(DamagedJob):
            found = read_job(store, job_id)
            if found is not None:
                yield found


def read_job(store: Store, job_id: str) -> RecordedJob | None:
    """One job; None if there is none.

    Raises:
        DamagedJob: what is there is no document, or no status.
    """
    document = _read(store, job_id, DOCUMENT, JobDocument)
    if document is None:
        return None
    return RecordedJob(job=document, status=read_status(store, job_id))


def read_status(store: Store, job_id: str) -> JobStatus:
    """The status of a job; pending without a run if none was written.

    Raises:
        DamagedJob: what is there is no status.
    """
    return _read(store, job_id, STATUS, JobStatus) or JobStatus()


def tell_failed(store: Store, job_id: str, why: str) -> None:
    """Mark a job as failed whose run was killed."""
    status = read_status(store, job_id).model_copy(update={"status": "failed", "trouble": why})
    store.put_bytes(layout.job_file(job_id, STATUS), status.model_dump_json(indent=1).encode())
