"""Orders for workers elsewhere: one document, and an address for each object they may touch."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from blender_scripts.contract import Job, RenderSettings
from blender_scripts.supervise import Event, Outcome
from posefactory_dagster.compute.work import RESULT, Work
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.r2 import R2Store

#: A container may be started anew; each start writes its messages to a stream of its own.
STREAMS = 3
#: Chunks of messages: one every few seconds of the job's limit, so that no silence grows long.
SECONDS_PER_MESSAGE, FEWEST_MESSAGES, MOST_MESSAGES = 5.0, 50, 2000
#: Addresses outlive the job by this much, for the last words.
SLACK_S = 900
MAX_RESULT = 4 * 2**20
PARALLEL_LOOKS = 16


class BadResult(RuntimeError):
    """A worker's list of files is not what it was asked for."""


@dataclass(frozen=True)
class Order:
    """An order as it is put in the store, under ``jobs/<job>/``.

    ``attempt`` is where all its sets' files go; ``seconds`` is the time limit that the worker keeps, and
    ``waits`` how long it may be until a worker comes to it. With ``idle_s``, the worker answers requests when all is
    rendered, until none comes for so long.
    """

    job: Job
    work: Mapping[str, Work]
    seconds: float
    character_seconds: float
    waits: float = 0.0
    idle_s: float | None = None
    attempt: str = field(default_factory=lambda: f"w{secrets.token_hex(4)}")

    @property
    def key(self) -> str:
        """The object key of the document."""
        return layout.job_file(self.job.job_id, f"order-{self.attempt}.json")

    def message_key(self, stream: int, number: int) -> str:
        """The object key of a chunk of messages."""
        return layout.job_file(
            self.job.job_id, f"messages-{self.attempt}/{stream}/{number:05d}.json"
        )

    def request_key(self, number: int) -> str:
        """The object key of a request."""
        return layout.job_file(self.job.job_id, f"requests-{self.attempt}/{number:06d}.json")

    def answer_key(self, number: int) -> str:
        """The object key of the answer to a request."""
        return layout.job_file(self.job.job_id, f"answers-{self.attempt}/{number:06d}.json")

    @property
    def life(self) -> float:
        """For how many seconds its addresses are good."""
        return self.waits + self.seconds + SLACK_S

    def output_key(self, key: str, name: str) -> str:
        """The object key of a file of a character's set."""
        return self.work[key].key(self.attempt, name)

    def write(self, store: R2Store, pipes: Mapping[str, str], streams: int = STREAMS) -> str:
        """Put the document in the store; the address by which the worker gets it.

        Args:
            pipes: the bootstrap parameters of a Dagster Pipes session.
            streams: none for a worker that sends no messages.
        """
        messages = int(min(max(self.seconds / SECONDS_PER_MESSAGE, FEWEST_MESSAGES), MOST_MESSAGES))

        def get(key: str) -> str:
            return store.presigned(key, "GET", self.life)

        def put(key: str) -> str:
            return store.presigned(key, "PUT", self.life)

        def stream(number: int) -> dict[str, Any]:
            return {
                "probe": get(self.message_key(number, 0)),
                "put": [put(self.message_key(number, n)) for n in range(messages)],
            }

        inputs: dict[str, dict[str, str]] = {}
        tasks = []
        for key, work in self.work.items():
            names = {}
            for role, (held, name) in work.inputs.items():
                digest = str(held.files[name]["sha256"])
                names[role] = f"{digest}{PurePosixPath(name).suffix}"
                inputs[names[role]] = {"url": get(held.key(name)), "sha256": digest}
            tasks.append(work.task(names, key, self.job.settings))
        document: dict[str, Any] = {
            "job": dataclasses.replace(self.job, tasks=tuple(tasks)).to_dict(),
            "inputs": inputs,
            "outputs": {
                key: {n: put(self.output_key(key, n)) for n in work.files(self.job.settings)}
                for key, work in self.work.items()
            },
            "results": {
                key: {
                    "get": get(self.output_key(key, RESULT)),
                    "put": put(self.output_key(key, RESULT)),
                }
                for key in self.work
            },
            "streams": [stream(n) for n in range(streams)],
            "pipes": dict(pipes),
            "seconds": self.seconds,
            "character_seconds": self.character_seconds,
        }
        if self.idle_s is not None:
            document["service"] = {
                "first": get(self.request_key(0)),
                "idle_s": self.idle_s,
                "streams": [stream(streams + n) for n in range(streams)],
            }
        store.put_bytes(self.key, json.dumps(document).encode())
        return get(self.key)

    def clear(self, store: R2Store) -> None:
        """Remove the document and all that was said: signed addresses are not left lying about."""
        folder = layout.job_file(self.job.job_id, "x")[:-1]
        begins = tuple(f"{folder}{word}{self.attempt}" for word in layout.JOB_TRAFFIC)
        store.delete([i.key for i in store.list(folder) if i.key.startswith(begins)])

    def outcome(self, key: str, event: Event) -> Outcome:
        """What an EVENT_DONE says of a character, checked against what was ordered.

        Raises:
            BadResult: it lists other files, or not as sizes and sha256.
        """
        return checked(event, self.work[key].files(self.job.settings), self.attempt)


def checked(result: Mapping[str, Any], wanted: list[str], attempt: str) -> Outcome:
    """The outcome in a worker's result.

    Raises:
        BadResult: it is not the list of the ``wanted`` files.
    """
    try:
        files: dict[str, dict[str, Any]] = {
            str(n): {"sha256": str(f["sha256"]), "size": int(f["size"])}
            for n, f in result["files"].items()
        }
        seconds = {str(k): float(v) for k, v in result["seconds"].items()}
        peak = float(result["peak_mb"]) if result["peak_mb"] is not None else None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadResult(f"a worker's result is malformed ({error!r})") from None
    sound = all(len(f["sha256"]) == 64 and f["size"] > 0 for f in files.values())
    if set(files) != set(wanted) or not sound:
        raise BadResult("a worker's result lists other files than were ordered; run it again")
    return Outcome(seconds=seconds, peak_mb=peak, attempt=attempt, uploaded=files)


def finished_elsewhere(
    store: R2Store, work: Mapping[str, Work], settings: RenderSettings
) -> Iterator[tuple[str, Outcome]]:
    """What workers finished before anybody could commit it, by key.

    Sizes are compared here; the content is checked against its sha256 whenever it is read.
    """
    with ThreadPoolExecutor(PARALLEL_LOOKS) as pool:
        for key, outcome in zip(
            work, pool.map(lambda w: _finished(store, w, settings), work.values()), strict=True
        ):
            if outcome is not None:
                yield key, outcome


def _finished(store: R2Store, work: Work, settings: RenderSettings) -> Outcome | None:
    ref = work.ref
    sizes: dict[str, dict[str, int]] = {}
    for item in store.list(layout.set_prefix(ref.asset, ref.partition, ref.identity)):
        if parsed := layout.parse_set_file(item.key):
            name = item.key.split("/", 5)[5]
            sizes.setdefault(parsed[3], {})[name] = item.size
    for attempt, found in sorted(sizes.items()):
        if not 0 < found.get(RESULT, 0) < MAX_RESULT:
            continue
        key = work.key(attempt, RESULT)
        try:
            outcome = checked(
                json.loads(store.get_bytes(key) or b""), work.files(settings), attempt
            )
        except (ValueError, RecursionError, BadResult):
            continue
        if all(found.get(n) == f["size"] for n, f in (outcome.uploaded or {}).items()):
            return outcome
    return None
