"""A RunPod of our own: REST v2 over HTTP, with child processes for pods, and faults on demand.

Every v2 request and answer is checked against RunPod's published schemas (`runpod_api.json`). A pod gets nothing but the
environment it was created with, a workspace of its own, and a key that can act on itself alone.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from posefactory_dagster.settings import PROJECT_ROOT
from tests.servers import free_port, wait_until_it_answers

#: The operations and schemas that this project uses, written down from RunPod's OpenAPI document (REST v2, 2.0.0) without its texts.
API = Path(__file__).with_name("runpod_api.json")
ACCOUNT_KEY = "rp-test-account-key"
BASE = "urn:runpod"

GPUS = [
    {
        "id": name, "name": name.removeprefix("NVIDIA "), "pool": pool, "manufacturer": "NVIDIA",
        "memory": memory, "secure": True, "community": name == "NVIDIA RTX A6000",
        "price": {"secure": price, "community": price / 2, "serverless": 2 * price},
        "maxCount": {"secure": 8, "community": 1},
    }
    for name, memory, price, pool in (
        ("NVIDIA GeForce RTX 4090", 24, 0.44, "ADA_24"), ("NVIDIA RTX A4000", 16, 0.20, "AMPERE_16"),
        ("NVIDIA A40", 48, 0.35, "AMPERE_48"), ("NVIDIA RTX A6000", 48, 0.40, "AMPERE_48"),
        ("NVIDIA H200", 141, 3.60, None),
    )
]  # fmt: skip
ENDPOINT: dict[str, Any] = {
    "id": "ep1", "name": "posefactory", "type": "QUEUE", "image": "example/posefactory-pod:1", "args": "",
    "disk": 20, "ports": [], "env": {}, "registry": None,
    "gpu": {"pools": ["AMPERE_16", "AMPERE_48"], "excludedTypes": ["NVIDIA RTX A6000"], "count": 1,
            "allowedCudaVersions": [], "minCudaVersion": None},
    "workers": {"min": 0, "max": 3, "idleTimeout": 5}, "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
    "dataCenterIds": [], "networkVolumes": [], "timeout": 600000, "flashboot": "OFF",
    "createdAt": "2026-06-01T12:00:00Z",
}  # fmt: skip
STOCK = {"NVIDIA H200": "HIGH", "NVIDIA A40": "LOW", "NVIDIA GeForce RTX 4090": "HIGH"}
COMMUNITY_STOCK = {"NVIDIA RTX A6000": "MEDIUM"}
#: What a simulated pod has of this machine: coverage, and which kernels its matrices are multiplied with, as other ones differ in the last bit.
OF_MACHINE = {k: v for k, v in os.environ.items() if k == "COVERAGE_PROCESS_CONFIG" or k.startswith("OPENBLAS_")}  # fmt: skip


@dataclass
class Fault:
    """An answer to give instead. ``on``: the operation; ``do``: a status, or a word; ``times`` left."""

    on: str
    do: int | str
    times: int = 1


@dataclass
class Behaviour:
    """How the next pod lives. Seconds; ``None`` for never.

    A ``silent`` one exits without a word, a ``mute`` one runs on and says nothing, a frozen one stops in the
    middle of its work and stays. ``die_after_answers``: requests that it answered, as its log tells.
    """

    stuck: bool = False
    error: bool = False
    die_after: float | None = None
    die_after_images: int | None = None
    die_after_answers: int | None = None
    silent: bool = False
    mute: bool = False
    freeze_after_images: int | None = None
    restarts: int = 0
    provision_s: float = 0.2


@dataclass
class SimulatedPod:
    """A pod: what was asked for, its process, and what it would have cost."""

    id: str
    request: dict[str, Any]
    behaviour: Behaviour
    workspace: Path
    key: str
    created: float = field(default_factory=time.time)
    status: str = "PROVISIONING"
    process: subprocess.Popen[bytes] | None = None
    ended: float | None = None
    deleted: bool = False
    starts: int = 0
    seen: set[Path] = field(default_factory=set)
    deletes: int = 0
    worked: float | None = None
    commands: set[str] = field(default_factory=set)
    deleted_by: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.workspace.parent / f"{self.id}.log"


class RunPodSimulator:
    """The account behind the API."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.document = json.loads(API.read_text())
        resource = DRAFT202012.create_resource(self.document)
        self.registry = Registry().with_resource(BASE, resource)
        self.pods: dict[str, SimulatedPod] = {}
        self.faults: list[Fault] = []
        self.behaviours: list[Behaviour] = []
        self.late: list[dict[str, Any]] = []
        self.violations: list[str] = []
        self.calls: list[str] = []
        self.stock = dict(STOCK)
        self.delay_s = 0.0
        self.lock = threading.RLock()
        self.address = ""
        self._over = threading.Event()

    @property
    def alive(self) -> list[SimulatedPod]:
        """Pods that cost money now."""
        return [p for p in self.pods.values() if not p.deleted and p.status != "TERMINATED"]

    def create(self, request: dict[str, Any]) -> SimulatedPod:
        pod_id = secrets.token_hex(5)
        workspace = self.folder / pod_id
        workspace.mkdir(parents=True)
        behaviour = self.behaviours.pop(0) if self.behaviours else Behaviour()
        pod = SimulatedPod(pod_id, request, behaviour, workspace, f"rp-pod-{secrets.token_hex(8)}")
        self.pods[pod_id] = pod
        threading.Thread(target=self.live, args=(pod,), daemon=True).start()
        return pod

    def live(self, pod: SimulatedPod) -> None:
        how = pod.behaviour
        if self._over.wait(how.provision_s) or how.stuck:
            return
        if how.error:
            pod.status = "ERROR"
            return
        while not pod.deleted:
            with self.lock:
                if pod.deleted:
                    return
                pod.status = "RUNNING"
                self._start(pod)
            assert pod.process is not None
            started = time.monotonic()
            begun = pod.created
            while pod.process.poll() is None and not pod.deleted:
                time.sleep(0.03)
                late = how.die_after is not None and time.monotonic() - started > how.die_after
                made = self._images(pod)
                pod.commands |= _command_lines(pod.process.pid)
                enough = how.die_after_images is not None and made >= how.die_after_images
                if how.die_after_answers is not None:
                    enough |= pod.log.read_text().count("made in") >= how.die_after_answers
                if how.freeze_after_images is not None and made >= how.freeze_after_images:
                    how.freeze_after_images = None
                    for child in _descendants(pod.process.pid):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child, signal.SIGSTOP)
                if late or enough:
                    self.kill(pod)
                    how.die_after = how.die_after_images = how.die_after_answers = None
            pod.worked = time.time() - begun  # from its creation to its process's end
            if pod.deleted:
                return
            if pod.starts > how.restarts:
                break
        pod.status, pod.ended = "EXITED", time.time()

    def _images(self, pod: SimulatedPod) -> int:
        """Images it has made so far, those that were cleared away included."""
        with contextlib.suppress(FileNotFoundError):  # a folder was cleared away meanwhile
            pod.seen.update(pod.workspace.rglob("images/*.png"))
        return len(pod.seen)

    def _start(self, pod: SimulatedPod) -> None:
        pod.starts += 1
        words = shlex.split(pod.request.get("args", ""))
        words[0] = sys.executable
        if pod.behaviour.silent:
            words = [sys.executable, "-c", "print('nothing to say')"]
        if pod.behaviour.mute:
            words = [sys.executable, "-c", "import time; time.sleep(600)"]
        environment = {
            "PATH": os.environ["PATH"],
            "WORKSPACE_ROOT": str(pod.workspace),
            "RUNPOD_POD_ID": pod.id,
            "RUNPOD_API_KEY": pod.key,
            "RUNPOD_API_BASE_URL": self.address,
            **OF_MACHINE,
            **pod.request.get("env", {}),
        }
        with pod.log.open("ab") as log:
            pod.process = subprocess.Popen(
                words, cwd=PROJECT_ROOT, env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def kill(self, pod: SimulatedPod) -> None:
        """As when a machine dies: the worker and its Blender at once."""
        if pod.process is not None and pod.process.poll() is None:
            for child in _descendants(pod.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            pod.process.wait()

    def delete(self, pod: SimulatedPod) -> None:
        with self.lock:
            pod.deletes += 1
            pod.deleted, pod.status, pod.ended = True, "TERMINATED", pod.ended or time.time()
        self.kill(pod)

    def close(self) -> None:
        self._over.set()
        for pod in self.pods.values():
            self.delete(pod)

    def describe(self, pod: SimulatedPod) -> dict[str, Any]:
        """The pod as the API shows it."""

        def moment(seconds: float) -> str:
            return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()

        running = pod.status == "RUNNING"
        cloud = pod.request.get("cloud", "SECURE").lower()
        price = next(g["price"][cloud] for g in GPUS if g["id"] == pod.request["gpu"]["id"])
        actions = {"RUNNING": ["stop", "restart", "terminate"], "EXITED": ["start", "terminate"]}
        return {
            "id": pod.id, "name": pod.request["name"], "image": pod.request["image"],
            "args": pod.request.get("args", ""), "disk": pod.request.get("disk", 20), "ports": [],
            "env": pod.request.get("env", {}), "registry": None, "status": pod.status,
            "actions": actions.get(pod.status, ["terminate"]), "mounts": {},
            "gpu": pod.request["gpu"], "cloud": pod.request.get("cloud", "SECURE"), "dataCenterId": "US-KS-2",
            "cudaVersion": "12.8", "ssh": {"proxy": None, "direct": None}, "template": None,
            "cost": price if pod.status in ("RUNNING", "STARTING", "PROVISIONING") else 0.0,
            "locked": False, "globalNetworking": {"enabled": False},
            "runtime": {"uptime": 1} if running else None, "createdAt": moment(pod.created),
            "startedAt": moment(pod.created) if running else None,
        }  # fmt: skip

    def check(self, what: str, schema: dict[str, Any], value: Any) -> list[str]:
        """Violations of a schema of the document, which are remembered."""
        whole = json.loads(json.dumps(schema).replace('"$ref": "#', f'"$ref": "{BASE}#'))
        validator = jsonschema.Draft202012Validator(whole, registry=self.registry)
        found = [f"{what}: {e.json_path}: {e.message}" for e in validator.iter_errors(value)]
        self.violations += found
        return found

    def check_parameters(
        self, operation: dict[str, Any], query: dict[str, str], headers: Any
    ) -> list[str]:
        """Violations in a request's query and headers, which are remembered."""
        parameters = [self.resolve(p) for p in operation.get("parameters", [])]
        names = {p["name"] for p in parameters if p["in"] == "query"}
        found = [f"{operation['operationId']}: no query {n!r}" for n in query if n not in names]
        for parameter in parameters:
            where = query if parameter["in"] == "query" else headers
            value = where.get(parameter["name"]) if parameter["in"] in ("query", "header") else None
            if value is None:
                if parameter.get("required") and parameter["in"] != "path":
                    found.append(f"{operation['operationId']}: {parameter['name']} is missing")
                continue
            schema = parameter["schema"]
            typed = _typed(self.resolve(schema) if "$ref" in schema else schema, value)
            self.check(f"{operation['operationId']} {parameter['name']}", schema, typed)
        self.violations += found
        return found

    def resolve(self, value: dict[str, Any]) -> dict[str, Any]:
        """What a ``$ref`` of the document points to."""
        while "$ref" in value:
            target: Any = self.document
            for part in value["$ref"][2:].split("/"):
                target = target[part]
            value = target
        return value


def _descendants(pid: int) -> list[int]:
    import psutil

    try:
        parent = psutil.Process(pid)
        return [p.pid for p in [*parent.children(recursive=True), parent]]
    except psutil.NoSuchProcess:
        return []


def _command_lines(pid: int) -> set[str]:
    """What a process list shows of a process and all it started."""
    import psutil

    found = set()
    for child in _descendants(pid):
        with contextlib.suppress(psutil.Error):
            found.add(" ".join(psutil.Process(child).cmdline()))
    return found


def _typed(schema: dict[str, Any], value: str) -> Any:
    """A query's or header's text as the type that its schema has."""
    kind = schema.get("type")
    if kind == "array":
        return value.split(",")
    if kind in ("integer", "number") and value.lstrip("-").isdigit():
        return int(value)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    return value


PATHS = {
    ("GET", "/v2/pods"): "listPods",
    ("POST", "/v2/pods"): "createPod",
    ("GET", "/v2/pods/{id}"): "getPod",
    ("DELETE", "/v2/pods/{id}"): "deletePod",
    ("POST", "/v2/pods/{id}/action"): "podAction",
    ("GET", "/v2/pods/{id}/logs"): "getPodLogs",
    ("GET", "/v2/catalog/gpus"): "listGpuTypes",
    ("GET", "/v2/serverless/{id}"): "getEndpoint",
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    simulator: RunPodSimulator

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""

    def _serve(self) -> None:
        simulator = self.simulator
        parts = urlsplit(self.path)
        words = parts.path.strip("/").split("/")
        pod_id = words[2] if len(words) > 2 and words[1] in ("pods", "serverless") else ""
        template = parts.path.replace(f"/{pod_id}", "/{id}", 1) if pod_id else parts.path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        operation_id = PATHS.get((self.command, template), "")
        simulator.calls.append(operation_id or f"{self.command} {parts.path}")
        time.sleep(simulator.delay_s)
        if not operation_id:
            simulator.violations.append(f"no operation {self.command} {parts.path}")
            return self._problem(404, "no such path")
        self.operation = simulator.document["paths"][template][self.command.lower()]
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        own = pod_id and pod_id in simulator.pods and simulator.pods[pod_id].key == key
        if key != ACCOUNT_KEY and not own:
            return self._problem(401, "invalid bearer token")
        request = json.loads(body) if body else None
        fault = next((f for f in simulator.faults if f.on == operation_id and f.times > 0), None)
        if fault is not None:
            fault.times -= 1
            if self._fail(fault, request):
                return None
        query = dict(parse_qsl(parts.query))
        simulator.check_parameters(self.operation, query, self.headers)
        content = self.operation.get("requestBody")
        if content is not None:
            schema = content["content"]["application/json"]["schema"]
            if found := simulator.check(f"{operation_id} request", schema, request):
                return self._problem(422, "Request validation failed.", found)
        endpoint = words[1] == "serverless"
        known = (
            pod_id == ENDPOINT["id"]
            if endpoint
            else pod_id in simulator.pods and not simulator.pods[pod_id].deleted
        )
        if pod_id and not known:
            return self._problem(404, "not found")
        getattr(self, f"_{operation_id}")(request, pod_id, query)
        return None

    do_GET = do_POST = do_DELETE = _serve

    def _fail(self, fault: Fault, request: Any) -> bool:
        if fault.do == "lost":
            self.simulator.create(request)
            self.close_connection = True
        elif fault.do == "late":  # lost, and there only when nobody looks for it any more
            self.simulator.late.append(request)
            self.close_connection = True
        elif fault.do == "cut":
            self.close_connection = True
        elif fault.do == "hang":
            time.sleep(5)
            self.close_connection = True
        elif fault.do == "html":
            self._send(200, b"<html><body>Bad gateway</body></html>", "text/html")
        elif fault.do == 400:
            self._problem(400, "no instances are available for this GPU type")
        else:
            assert isinstance(fault.do, int)
            errors = ["$: additional properties 'bogus' not allowed"] if fault.do == 422 else None
            self._problem(fault.do, f"injected {fault.do}", errors)
        return True

    def _send(self, status: int, data: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, status: int, value: Any) -> None:
        response = self.simulator.resolve(self.operation["responses"][str(status)])
        if "content" not in response:
            return self._send(status, b"", "application/json")
        schema = response["content"]["application/json"]["schema"]
        self.simulator.check(f"{self.operation['operationId']} answer {status}", schema, value)
        return self._send(status, json.dumps(value).encode(), "application/json")

    def _problem(self, status: int, detail: str, errors: list[str] | None = None) -> None:
        value: dict[str, Any] = {"title": "Error", "status": status, "detail": detail}
        if errors:
            value["errors"] = errors
        self.simulator.check("problem", {"$ref": "#/components/schemas/ErrorResponse"}, value)
        extra = {"Retry_After": "1"} if status == 429 else {}
        self._send(status, json.dumps(value).encode(), "application/problem+json", **extra)

    def _listPods(self, request: Any, pod_id: str, query: dict[str, str]) -> None:
        pods = [self.simulator.describe(p) for p in self.simulator.pods.values() if not p.deleted]
        self._answer(200, {"pods": pods})

    def _createPod(self, request: Any, pod_id: str, query: dict[str, str]) -> None:
        if ("gpu" in request) == ("cpu" in request) or "image" not in request:
            return self._problem(400, "exactly one of gpu or cpu, and an image, are needed")
        community = request.get("cloud") == "COMMUNITY"
        stock = COMMUNITY_STOCK if community else self.simulator.stock
        if stock.get(request["gpu"]["id"], "NONE") == "NONE":
            return self._problem(400, "no instances are available for this GPU type")
        for late in self.simulator.late:
            self.simulator.create(late)
        self.simulator.late.clear()
        return self._answer(201, self.simulator.describe(self.simulator.create(request)))

    def _getPod(self, request: Any, pod_id: str, query: dict[str, str]) -> None:
        self._answer(200, self.simulator.describe(self.simulator.pods[pod_id]))

    def _deletePod(self, request: Any, pod_id: str, query: dict[str, str]) -> None:
        pod = self.simulator.pods[pod_id]
        pod.deleted = True
        own = (self.headers.get("Authorization") or "").endswith(pod.key)
        pod.deleted_by.append("pod" if own else "account")
        self._answer(204, None)
        self.simulator.delete(pod)

    def _podAction(self, request: Any, pod_id: str, query: dict[str, str]) -> None:
        pod = self.simulator.pods[pod_id]
        if request["action"] == "stop":
            pod.behaviour.restarts = 0
            self.simulator.kill(pod)
            pod.status = "EXITED"
        elif request["action"] == "start":
            pod.status = "STARTING"
            threading.Thread(target=self.simulator.live, args=(pod,), daemon=True).start()
        self._answer(200, self.simulator.describe(pod))

    def _listGpuTypes(self, request: Any, pod_id: str, query: dict[str, str]) -> None:
        community = query.get("cloud") == "COMMUNITY"
        stock = COMMUNITY_STOCK if community else self.simulator.stock
        gpus = [
            {**g, "availability": stock.get(g["id"], "NONE")}
            if query.get("include") == "AVAILABILITY"
            else g
            for g in GPUS
        ]
        self._answer(200, {"gpus": gpus})

    def _getEndpoint(self, request: Any, pod_id: str, query: dict[str, str]) -> None:
        self._answer(200, ENDPOINT)

    def _getPodLogs(self, request: Any, pod_id: str, query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        pod = self.simulator.pods[pod_id]
        sent = int(self.headers.get("Last-Event-ID") or 0)
        with contextlib.suppress(OSError):
            for _ in range(100):
                lines = pod.log.read_text(errors="replace").splitlines() if pod.log.exists() else []
                for number, line in enumerate(lines[sent:], start=sent + 1):
                    data = {"ts": str(number), "source": "container", "line": line}
                    self.wfile.write(f"id: {number}\ndata: {json.dumps(data)}\n\n".encode())
                sent = max(sent, len(lines))
                self.wfile.flush()
                if pod.deleted:
                    return
                time.sleep(0.1)


@dataclass
class EndpointJob:
    """A job of the simulated endpoint."""

    id: str
    input: dict[str, Any]
    status: str = "IN_QUEUE"
    output: Any = None
    cancelled: bool = False
    milliseconds: int = 0


class EndpointSimulator:
    """A serverless endpoint: a queue of our own before the package's real local API server.

    ``faults`` are used up one a job: ``vanish``, ``die`` (the worker, in the middle), ``time out``,
    ``refuse`` (500 once), ``lie`` (COMPLETED and nothing done).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, EndpointJob] = {}
        self.faults: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = ""
        self.queue_s = 0.1
        self.most_at_once = 0

    def submit(self, request: dict[str, Any]) -> EndpointJob:
        self.requests.append(request)
        job = EndpointJob(f"job-{secrets.token_hex(6)}", request["input"])
        self.jobs[job.id] = job
        at_once = sum(j.status in ("IN_QUEUE", "IN_PROGRESS") for j in self.jobs.values())
        self.most_at_once = max(self.most_at_once, at_once)
        fault = self.faults.pop(0) if self.faults else ""
        threading.Thread(target=self._live, args=(job, fault), daemon=True).start()
        return job

    def _live(self, job: EndpointJob, fault: str) -> None:
        ready = time.monotonic() + self.queue_s
        while time.monotonic() < ready and not job.cancelled:
            time.sleep(0.05)
        if job.cancelled:
            return
        job.status = "IN_PROGRESS"
        if fault == "vanish":
            del self.jobs[job.id]
        elif fault == "time out":
            job.status = "TIMED_OUT"
        elif fault == "lie":
            job.status, job.output = "COMPLETED", {"done": ["hero", "twin"], "failed": {}}
        else:
            self._work(job, die=fault == "die")

    def _work(self, job: EndpointJob, die: bool) -> None:
        port = free_port()
        workspace = self.folder / job.id
        workspace.mkdir(parents=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "blender_scripts.worker.endpoint", "--rp_serve_api", "--rp_api_host", "127.0.0.1",
             "--rp_api_port", str(port)],
            cwd=PROJECT_ROOT, env={"PATH": os.environ["PATH"], "WORKSPACE_ROOT": str(workspace), **OF_MACHINE},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.workers.append(process)
        address = f"http://127.0.0.1:{port}"
        wait_until_it_answers(address, process)
        if die:

            def kill() -> None:
                while not list(workspace.rglob("images/*.png")):
                    time.sleep(0.02)
                _end(process)

            threading.Thread(target=kill, daemon=True).start()
        data = json.dumps({"input": job.input}).encode()
        request = urllib.request.Request(
            f"{address}/runsync", data=data, headers={"Content-Type": "application/json"}
        )
        begun = time.monotonic()
        try:
            answer = json.load(urllib.request.urlopen(request, timeout=120))
            status, job.output = answer["status"], answer.get("output")
        except (OSError, http.client.HTTPException):
            status = "FAILED"
        job.milliseconds = int(1000 * (time.monotonic() - begun))
        _end(process)
        job.status = "CANCELLED" if job.cancelled else status

    def close(self) -> None:
        for process in self.workers:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for child in _descendants(process.pid) if process.poll() is None else []:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    process.wait()


class _EndpointHandler(BaseHTTPRequestHandler):
    simulator: EndpointSimulator

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {ACCOUNT_KEY}":
            return self._answer(401, {})
        endpoint, verb, *rest = self.path.strip("/").split("/")
        if endpoint != "ep1":
            return self._answer(404, {})
        if verb == "run":
            if self.simulator.faults[:1] == ["refuse"]:
                self.simulator.faults.pop(0)
                return self._answer(500, {})
            job = self.simulator.submit(json.loads(body))
            return self._answer(200, {"id": job.id, "status": job.status})
        found = self.simulator.jobs.get(rest[0])
        if found is None:
            return self._answer(404, {"error": "job not found"})
        if verb == "cancel":
            found.cancelled, found.status = True, "CANCELLED"
        state = {"id": found.id, "status": found.status, "output": found.output}
        return self._answer(200, {**state, "executionTime": found.milliseconds})

    do_GET = do_POST = _serve

    def _answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def _serving(simulator: Any, handler: type[BaseHTTPRequestHandler]) -> Iterator[None]:
    """Serve a simulator on a free port of 127.0.0.1; its processes end with the block."""
    bound = type("Handler", (handler,), {"simulator": simulator})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    simulator.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        simulator.close()
        server.shutdown()
        shutil.rmtree(simulator.folder, ignore_errors=True)


@contextlib.contextmanager
def simulated_endpoint(folder: Path) -> Iterator[EndpointSimulator]:
    """A running endpoint named ``ep1``."""
    simulator = EndpointSimulator(folder)
    with _serving(simulator, _EndpointHandler):
        yield simulator


@contextlib.contextmanager
def simulated_runpod(folder: Path) -> Iterator[RunPodSimulator]:
    """A running RunPod."""
    simulator = RunPodSimulator(folder)
    with _serving(simulator, _Handler):
        yield simulator
