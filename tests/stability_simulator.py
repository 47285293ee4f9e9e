"""A Stability AI of our own: its calls over HTTP, checked field by field against `stability_api.yaml`, with faults.

What it makes of a render is told by ``behaviour``: a tinted copy, a mirrored one, and so on. It keeps a bill.
"""

from __future__ import annotations

import hashlib
import io
import logging
import socket
import struct
import threading
import time
import uuid
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from flask import Flask, Request, Response, jsonify, request
from PIL import Image
from werkzeug.serving import make_server

API = yaml.safe_load(Path(__file__).with_name("stability_api.yaml").read_text())
KEY = "sk-test-stability"
RATE_CALLS, RATE_SECONDS = 150, 10.0


@dataclass
class Charge:
    """One image that was paid for, told from others by all that made it."""

    endpoint: str
    fingerprint: str
    seed: int
    price: float


@dataclass
class StabilitySimulator:
    """Its state, as a test sees and sets it.

    ``faults`` are taken one for each call, until there are none left: names of ``stability_api.yaml``, or `filtered`,
    `html` (a gateway's 502), `drop` (charged, and the connection cut), `garbage` (charged, and no image), `bomb` (a header
    of 12,000 x 12,000 pixels), `endless` (an answer of gigabytes, compressed), `seed` (a seed of 400 digits, control characters).
    ``stagger_s``: how much longer each call takes than the one before. ``behaviour`` is `tint`, `mirror`, `nudge`, `shift`, `blank` or `small`.
    """

    address: str = ""
    behaviour: str = "tint"
    latency_s: float = 0.0
    stagger_s: float = 0.0

    faults: deque[str] = field(default_factory=deque)
    charges: list[Charge] = field(default_factory=list)
    calls: int = 0
    at_once: int = 0
    most_at_once: int = 0
    violations: list[str] = field(default_factory=list)
    timeouts_s: float = 0.2
    _times: deque[float] = field(default_factory=deque)
    _closed_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """What a factory needs to use it."""
        return {"STABILITY_API_BASE_URL": self.address, "STABILITY_API_KEY": KEY}

    def answer(self, path: str) -> Response:
        """What one call gets."""
        with self._lock:
            self.calls += 1
            number = self.calls
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self._answer(f"/{path}", number)
        finally:
            with self._lock:
                self.at_once -= 1

    def _answer(self, path: str, number: int) -> Response:
        endpoint = API["endpoints"].get(path)
        if endpoint is None:
            return self._fault("not_found", ["id", "name", "errors"])
        body = endpoint["error_body"]
        if self._too_fast():
            return self._fault("too_many", body)
        wrong = check(request, endpoint)
        if wrong:  # parameters are looked at before the key
            self.violations += wrong
            return self._fault("bad_request", body, "; ".join(wrong))
        if request.headers.get("authorization") != f"Bearer {KEY}":
            sent = request.headers.get("authorization", "")
            return self._fault("unauthorized", body, f"authorization: invalid header value {sent}")
        with self._lock:
            fault = self.faults.popleft() if self.faults else ""
        if fault in API["faults"]:
            return self._fault(fault, body)
        if fault == "html":
            return Response("<html>bad gateway</html>", 502, content_type="text/html")
        time.sleep(self.latency_s + self.stagger_s * number)
        sent = request.files[endpoint["image_field"]].read()
        seed = int(request.form.get("seed", "0")) or int(uuid.uuid4().int % 2**32)
        text = repr(sorted(request.form.items())).encode()
        fingerprint = hashlib.sha256(hashlib.sha256(sent).digest() + text).hexdigest()
        with self._lock:
            self.charges.append(Charge(path, fingerprint, seed, endpoint["price_usd"]))
        if fault == "drop":
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        image = make(sent, "blank" if fault == "filtered" else self.behaviour)
        data = {"garbage": b"no image", "bomb": bomb()}.get(fault, image)
        headers = {
            "finish-reason": "CONTENT_FILTERED" if fault == "filtered" else "SUCCESS",
            "seed": str(seed),
            "x-request-id": uuid.uuid4().hex,
        }
        if fault == "seed":
            headers |= {"seed": "9" * 400, "x-request-id": "a\x1b[31mb" + "c" * 5000}
        if fault == "endless":
            headers["content-encoding"] = "gzip"
            return Response(endless(), 200, headers, content_type="image/png")
        return Response(data, 200, headers, content_type="image/png")

    def _too_fast(self) -> bool:
        """Over the rate's limit, an account is closed for a while."""
        now = time.monotonic()
        with self._lock:
            while self._times and now - self._times[0] > RATE_SECONDS:
                self._times.popleft()
            if now < self._closed_until:
                return True
            self._times.append(now)
            if len(self._times) > RATE_CALLS:
                self._closed_until = now + self.timeouts_s
                self.violations.append("rate limit exceeded")
                return True
            return False

    @staticmethod
    def _fault(name: str, body: list[str], text: str = "") -> Response:
        status, word, words = API["faults"][name]
        values = {
            "id": uuid.uuid4().hex,
            "name": word,
            "errors": [text or words],
            "message": text or words,
        }
        answer = jsonify({k: values[k] for k in body})
        answer.status_code = status
        return answer


def check(sent: Request, endpoint: dict[str, Any]) -> list[str]:
    """What is wrong with a request, field by field."""
    wrong = []
    if not (sent.content_type or "").startswith("multipart/form-data"):
        return ["content-type: must be multipart/form-data"]
    if sent.headers.get("accept") not in endpoint["accept"]:
        wrong.append(f"accept: {sent.headers.get('accept')} is none of {endpoint['accept']}")
    if (sent.content_length or 0) > endpoint["max_bytes"]:
        wrong.append("body: too large")
    fields = endpoint["fields"]
    wrong += [f"{name}: not a field of this endpoint" for name in sent.form if name not in fields]
    wrong += [f"{name}: given twice" for name in sent.form if len(sent.form.getlist(name)) > 1]
    for name, rule in fields.items():
        if name in sent.form:
            wrong += check_value(name, sent.form[name], rule)
        elif rule.get("required"):
            wrong.append(f"{name}: is required")
    if list(sent.files) != [endpoint["image_field"]]:
        return [*wrong, f"{endpoint['image_field']}: is required, and nothing else"]
    return wrong + check_image(sent.files[endpoint["image_field"]].stream, endpoint["image"])


def check_value(name: str, text: str, rule: dict[str, Any]) -> list[str]:
    """What is wrong with one field's value."""
    if rule["type"] == "string":
        if not rule.get("min_length", 0) <= len(text) <= rule.get("max_length", 1e9):
            return [f"{name}: of {len(text)} characters"]
        if "enum" in rule and text not in rule["enum"]:
            return [f"{name}: {text} is none of {rule['enum']}"]
        return []
    try:
        value = int(text) if rule["type"] == "integer" else float(text)
    except ValueError:
        return [f"{name}: {text!r} is no {rule['type']}"]
    if not rule.get("minimum", -1e18) <= value <= rule.get("maximum", 1e18):
        return [f"{name}: {value} is out of range"]
    return []


def check_image(stream: Any, rule: dict[str, Any]) -> list[str]:
    """What is wrong with the posted image."""
    with Image.open(stream) as image:
        kind, size = image.format, image.size
    stream.seek(0)
    wrong = [] if kind in rule["formats"] else [f"image: {kind}"]
    if "sizes" in rule and list(size) not in rule["sizes"]:
        wrong.append(f"init_image: {size[0]}x{size[1]} is not allowed")
    if "min_side" in rule and (
        min(size) < rule["min_side"]
        or not rule["min_pixels"] <= size[0] * size[1] <= rule["max_pixels"]
        or max(size) / min(size) > rule["max_aspect"]
    ):
        wrong.append(f"image: {size}")
    return wrong


def bomb() -> bytes:
    """A PNG of one pixel whose header says 12,000 x 12,000."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", 12_000, 12_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def endless() -> Iterator[bytes]:
    """Two gigabytes of zeros, compressed."""
    packer = zlib.compressobj(wbits=31)
    for _ in range(2048):
        yield packer.compress(bytes(1 << 20))
    yield packer.flush()


def make(sent: bytes, behaviour: str) -> bytes:
    """What the model makes of a render."""
    with Image.open(io.BytesIO(sent)) as image:
        pixels = np.asarray(image.convert("RGB"))
    if behaviour == "tint":
        pixels = (pixels * np.array([1.0, 0.97, 0.92])).astype(np.uint8)
    elif behaviour == "mirror":
        pixels = pixels[:, ::-1]
    elif behaviour == "nudge":  # enough to be refused, and little enough to be tried again
        pixels = np.roll(pixels, pixels.shape[1] // 32, axis=1)
    elif behaviour == "shift":
        pixels = np.roll(pixels, pixels.shape[1] // 8, axis=1)
    elif behaviour == "blank":
        pixels = np.full_like(pixels, 127)
    elif behaviour == "small":
        pixels = pixels[::2, ::2]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def stability() -> Iterator[StabilitySimulator]:
    """A simulator for the length of the block."""
    state = StabilitySimulator()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each call says nothing
    app = Flask("stability")
    app.config["PROPAGATE_EXCEPTIONS"] = (
        True  # a fault that cuts the connection must not become an answer
    )
    app.add_url_rule("/<path:path>", "call", state.answer, methods=["POST"])
    server = make_server("127.0.0.1", 0, app, threaded=True)
    state.address = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join(10)
