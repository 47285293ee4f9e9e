"""The bucket store on real S3 servers: rclone (signatures) and moto (conditional writes)."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from blender_scripts.worker import transfer
from posefactory_dagster.storage import layout, r2
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets, SetRef
from posefactory_dagster.storage.store import StoreError
from tests.servers import S3Server

REF = SetRef("renders", "hero", "abc")


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[S3Server], CommittedSets]:
    """The sets of a prefix of a server, with a cache of its own."""

    def at(server: S3Server, **changes: str) -> CommittedSets:
        for name, value in {**server.environment, **changes}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("POSEFACTORY_CACHE", str(tmp_path / "cache"))
        address = changes.get("POSEFACTORY_STORE", f"r2://{server.bucket}/{secrets.token_hex(4)}")
        return CommittedSets(open_store(address))

    return at


def commit(sets: CommittedSets, files: dict[str, bytes] | None = None):
    with sets.scratch() as scratch:
        for name, data in (files or {"images/a.png": b"x", "truth.json": b"{}"}).items():
            path = scratch / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        return sets.commit(REF, scratch, inputs={}, settings={}, facts={})


def test_sets_go_there_and_come_back(rclone_s3: S3Server, opened: Any) -> None:
    sets = opened(rclone_s3)
    data = {f"images/{i}.png": os.urandom(2000 + i) for i in range(40)}
    committed = commit(sets, data)
    sets.publish(REF)
    assert sets.current("renders", "hero") == committed and list(sets.all()) == [REF]
    paths = committed.paths(data)
    assert {n: p.read_bytes() for n, p in paths.items()} == data
    assert list(sets.verify()) == [(REF, [])]
    assert committed.address("images/0.png").startswith(sets.store.address() + "/sets/renders/hero")


def test_a_file_that_was_changed_in_the_bucket_is_refused(rclone_s3: S3Server, opened: Any) -> None:
    sets = opened(rclone_s3)
    committed = commit(sets)
    sets.store.put_bytes(committed.key("images/a.png"), b"y")
    with pytest.raises(StoreError, match="damaged.*manifest"):
        committed.path("images/a.png")
    ((_, damages),) = sets.verify()
    assert [(d.file, d.fault) for d in damages] == [("images/a.png", "another checksum")]
    sets.store.delete([committed.key("truth.json")])
    ((_, damages),) = sets.verify()
    assert {(d.file, d.fault) for d in damages} == {
        ("images/a.png", "another checksum"), ("truth.json", "missing"),
    }  # fmt: skip
    with pytest.raises(StoreError, match="missing from a committed set; posefactory store verify"):
        committed.path("truth.json")


def test_a_large_file_goes_in_parts(
    moto_s3: S3Server, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = opened(moto_s3)
    monkeypatch.setattr(r2.TRANSFER, "multipart_threshold", 6 * 2**20)
    monkeypatch.setattr(r2.TRANSFER, "multipart_chunksize", 5 * 2**20)
    data = os.urandom(13 * 2**20)
    committed = commit(sets, {"big.bin": data})
    head = sets.store.client.head_object(
        Bucket=moto_s3.bucket, Key=sets.store.prefix + committed.key("big.bin")
    )
    assert head["ETag"].strip('"').endswith("-3")  # three parts
    assert committed.path("big.bin").read_bytes() == data


def test_of_two_runs_that_race_one_wins_and_the_other_says_so(
    moto_s3: S3Server, opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sets = opened(moto_s3)
    gate = threading.Barrier(4)
    found = sets.find
    first = threading.local()

    def find(ref: SetRef):  # all four look, and find nothing, before any of them has committed
        if not hasattr(first, "done") and threading.current_thread().name.startswith("racer"):
            first.done = True
            gate.wait(20)
            return None
        return found(ref)

    outcomes: list[Any] = []

    def race(text: bytes) -> None:
        mine = CommittedSets(sets.store)
        mine.find = find  # type: ignore[method-assign]
        outcomes.append(commit(mine, {"a.txt": text}))

    threads = [
        threading.Thread(target=race, args=(f"run {i}".encode(),), name=f"racer{i}")
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({o.attempt for o in outcomes}) == 1 and len(outcomes) == 4
    assert outcomes[0].path("a.txt").read_bytes().startswith(b"run ")
    assert list(sets.verify()) == [(REF, [])]
    assert sum("another run committed this set first" in m for m in caplog.messages) == 3
    names = [i.key for i in sets.store.list(layout.SETS)]
    assert len(names) == 2, "losers leave nothing behind"


def test_two_runs_that_commit_the_same_workers_files_both_keep_them(
    moto_s3: S3Server, opened: Any
) -> None:
    sets = opened(moto_s3)
    files = {"a.txt": {"sha256": hashlib.sha256(b"a").hexdigest(), "size": 1}}
    sets.store.put_bytes(layout.set_file("renders", "hero", "abc", "w1", "a.txt"), b"a")
    made = {"inputs": {}, "settings": {}}
    first = sets.commit_uploaded(REF, "w1", files, facts={"n": 1}, **made)
    second = sets.commit_uploaded(REF, "w1", files, facts={"n": 2}, **made)
    assert first == second and second.path("a.txt").read_bytes() == b"a"
    assert list(sets.verify()) == [(REF, [])]


def test_a_creation_whose_answer_was_lost_is_not_a_lost_race(
    moto_s3: S3Server, opened: Any
) -> None:
    store = opened(moto_s3).store
    assert store.create_bytes("sets/a", b"1")
    assert store.create_bytes("sets/a", b"1")  # as a retry would find its own first try
    assert not store.create_bytes("sets/a", b"2")
    assert store.get_bytes("sets/a") == b"1"


def test_garbage_goes_and_what_is_used_stays(rclone_s3: S3Server, opened: Any) -> None:
    sets = opened(rclone_s3)
    used = commit(sets)
    sets.publish(REF)
    sets.store.put_bytes(layout.set_file("renders", "hero", "abc", "0ff", "a.png"), b"lost a race")
    sets.store.put_bytes(layout.set_file("renders", "old", "dead", "0aa", "a.png"), b"killed")
    assert sets.collect_garbage(3600) == ([], 0)
    removed, _ = sets.collect_garbage(-5)
    assert removed == ["sets/renders/hero/abc/0ff", "sets/renders/old/dead/0aa"]
    assert sets.find(REF) == used and list(sets.verify()) == [(REF, [])]


def test_an_upload_address_takes_one_file_and_no_other(
    rclone_s3: S3Server, opened: Any, tmp_path: Path
) -> None:
    store = opened(rclone_s3).store
    address = store.presigned(layout.upload("hero.fbx"), "PUT", 60)

    def put(url: str) -> int:
        request = urllib.request.Request(url, data=b"FBX", method="PUT")
        try:
            return int(urllib.request.urlopen(request, timeout=10).status)
        except urllib.error.HTTPError as error:
            return error.code

    assert put(address) == 200
    assert store.get_bytes(layout.upload("hero.fbx")) == b"FBX"
    assert put(address.replace("hero.fbx", "other.fbx")) == 403
    assert rclone_s3.secret not in address


class Flaky(BaseHTTPRequestHandler):
    """Forwards to a real S3 server, after the faults that ``script`` still holds."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    script: list[int | str] = []
    seen: list[dict[str, str]] = []

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        type(self).seen.append({k.lower(): v for k, v in self.headers.items()})
        fault = self.script.pop(0) if self.script else None
        if fault == "cut":
            self.close_connection = True
            return
        if isinstance(fault, int):
            text = b"<?xml version='1.0'?><Error><Code>TooManyRequests</Code></Error>"
            self.send_response(fault)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        headers = {
            k: v for k, v in self.headers.items() if k.lower() not in ("connection", "expect")
        }
        headers.setdefault("Content-Type", "application/octet-stream")  # urllib would say a form
        request = urllib.request.Request(
            self.upstream + self.path, data=body or None, headers=headers, method=self.command
        )
        try:
            answer = urllib.request.urlopen(request, timeout=10)
        except urllib.error.HTTPError as error:
            answer = error
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = len(data)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data[: length // 2] if fault == "half" else data)
        if fault == "half":
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def flaky(moto_s3: S3Server) -> Iterator[tuple[S3Server, type[Flaky]]]:
    handler = type("Once", (Flaky,), {"upstream": moto_s3.address, "script": [], "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield (
        S3Server(f"http://127.0.0.1:{server.server_port}", moto_s3.bucket, "K", "S"),
        handler,
    )
    server.shutdown()


@pytest.mark.parametrize("fault", [429, 500, 503, "cut", "half"])
def test_passing_faults_are_tried_again(
    flaky: tuple[S3Server, type[Flaky]], opened: Any, fault: Any, tmp_path: Path
) -> None:
    server, handler = flaky
    store = opened(server).store
    handler.script[:] = [] if fault == "half" else [fault, fault]
    store.put_bytes("sets/a", b"data" * 1000)
    handler.script[:] = [fault, fault]
    assert store.get_bytes("sets/a") == b"data" * 1000
    (tmp_path / "file").write_bytes(b"file" * 1000)
    handler.script[:] = [] if fault == "half" else [fault, fault]
    store.put_files({"sets/b": tmp_path / "file"})
    handler.script[:] = [fault, fault]
    digest = store.digest("sets/b")
    assert digest is not None and digest.size == 4000 and handler.script == []
    handler.script[:] = [fault, fault]
    (path,) = store.local_paths({"sets/b": digest.sha256}).values()
    assert path.read_bytes() == b"file" * 1000 and handler.script == []


def test_keys_for_other_clouds_stay_here(
    flaky: tuple[S3Server, type[Flaky]], opened: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    for name in ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "planted-for-aws")
    server, handler = flaky
    store = opened(server).store
    (tmp_path / "file").write_bytes(b"data")
    store.put_files({"sets/a": tmp_path / "file"})
    assert store.digest("sets/a") is not None and store.get_bytes("sets/a") == b"data"
    assert len(handler.seen) == 3  # the quick client did the first two: no falling back
    for headers in handler.seen:
        assert "x-amz-security-token" not in headers
        assert "planted-for-aws" not in str(headers)


def test_a_worker_reads_a_cut_answer_again(
    flaky: tuple[S3Server, type[Flaky]], opened: Any, tmp_path: Path
) -> None:
    server, handler = flaky
    store = opened(server).store
    store.put_bytes("jobs/a", b"order" * 1000)
    url = store.presigned("jobs/a", "GET", 60)
    handler.script[:] = ["half", 500, "cut"]
    assert transfer.get_bytes(url, "the order") == b"order" * 1000
    handler.script[:] = ["half"]
    digest = hashlib.sha256(b"order" * 1000).hexdigest()
    transfer.download(url, tmp_path / "got", "input", digest)
    assert (tmp_path / "got").read_bytes() == b"order" * 1000
    known = len(handler.seen)
    with pytest.raises(transfer.TransferError, match="its content is not what"):
        transfer.download(url, tmp_path / "got", "input", "0" * 64)
    with pytest.raises(transfer.TransferError, match="larger than 10 bytes"):
        transfer.get_bytes(url, "the order", limit=10)
    assert len(handler.seen) == known + 2  # neither heals, so neither is tried again


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"R2_SECRET_ACCESS_KEY": "wrong-secret-1"}, "keys were refused.*R2_SECRET_ACCESS_KEY"),
        ({"R2_ACCESS_KEY_ID": "NOSUCHKEY"}, "keys were refused|may not do this"),
        ({"POSEFACTORY_STORE": "r2://no-such-bucket/x"}, "no bucket named 'no-such-bucket'"),
        ({"R2_ENDPOINT_URL": "http://127.0.0.1:9"}, "no connection to http://127.0.0.1:9.*R2_ENDPOINT_URL"),
    ],
)  # fmt: skip
def test_faults_of_configuration_say_what_to_change(
    rclone_s3: S3Server,
    opened: Any,
    changes: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(r2, "PATIENCE_S", 2)
    store = opened(rclone_s3, **changes).store
    (tmp_path / "file").write_bytes(b"x")
    for action in (
        lambda: store.put_bytes("sets/a", b"x"),
        lambda: store.put_files({"sets/a": tmp_path / "file"}),
        lambda: store.local_paths({"sets/a": "0" * 64}),
    ):
        with pytest.raises(StoreError, match=words) as caught:
            action()
        said = "".join(traceback.format_exception(caught.value))
        assert rclone_s3.secret not in said and "wrong-secret-1" not in said
    assert (tmp_path / "file").exists()


def test_addresses_and_missing_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("R2_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("R2_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="R2_ACCESS_KEY_ID.*not set"):
        open_store("r2://pose-factory/x")
    for address, wrong in (
        ("r2://UPPER/x", "'UPPER' is no bucket's name: 3 to 63 small letters"),
        ("r2://a", "'a' is no bucket's name"),
        ("r2://pose-factory/../x", r"'\.\.' cannot be part of a prefix"),
        ("r2://pose-factory/good/a b", "'a b' cannot be part of a prefix: letters, digits"),
    ):
        with pytest.raises(StoreError, match=f"{wrong}.*r2://bucket/prefix"):
            open_store(address)
