"""A real S3 server in this process (moto's), on a free port of the loopback, and storages on it."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import threading
from contextlib import asynccontextmanager

import pytest

os.environ["S3_UPLOAD_PART_MIN_SIZE"] = "1000"  # read when moto is imported; 5 MiB otherwise
from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from mountsync.storage.s3.opening import open_s3

ACCESS, SECRET = "AKIATESTTESTTEST", "a-very-secret-secret"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
ACCOUNT = "123456789012"
_buckets = itertools.count(1)
_known: dict[str, bytes] = {}
"""What storages found out of a server and kept, by its address."""


class S3Server:
    """Its buckets are gone when it stops. `stop` and `start` may be called again, on one port."""

    def __init__(self) -> None:
        self._server = None
        self._thread = None
        self._lock = threading.Lock()
        self.fault = lambda method, query: None
        """Asked at each request: `cut` half of a body, `lose` the answer, be `busy`, `refuse`; or None."""
        self.compares = True
        """False: it ignores what changes expect, as simpler servers do."""
        self.requests = []
        """Method, path and query of all requests so far."""
        self.port = 0

    def start(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        app = self._one_by_one(create_backend_app("s3"))
        self._server = make_server("127.0.0.1", self.port, app, threaded=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _one_by_one(self, app):
        """Changes are made one after the other, and what they expect is compared as Amazon does."""

        def locked(environ, start_response):
            method = environ["REQUEST_METHOD"]
            self.requests.append((method, environ["PATH_INFO"], environ["QUERY_STRING"]))
            fault = self.fault(method, environ["QUERY_STRING"])
            if method in ("GET", "HEAD"):
                return _maybe_cut(fault, app(environ, start_response))
            with self._lock:
                refused = _FAULTS.get(fault) or self._compare(environ)
                if refused is not None:
                    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                    return _refusal(start_response, *refused)
                if fault == "lose":
                    for _ in app(environ, lambda *_: None):
                        pass
                    return _refusal(start_response, "500 Internal Server Error", b"InternalError")
                return app(environ, start_response)

        return locked

    def _compare(self, environ):
        match, none = environ.pop("HTTP_IF_MATCH", None), environ.pop("HTTP_IF_NONE_MATCH", None)
        if not self.compares or (match is None and none is None):
            return None
        bucket, _, key = environ["PATH_INFO"].encode("latin-1").decode().lstrip("/").partition("/")
        there = self.objects.get_object(bucket, key)
        if match is not None and there is None:
            return "404 Not Found", b"NoSuchKey"
        if (match is not None and there.etag != match) or (none is not None and there is not None):
            return "412 Precondition Failed", b"PreconditionFailed"
        return None

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    @property
    def objects(self):
        """The server's own view, for what others do behind our back."""
        return s3_backends[ACCOUNT]["aws"]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


_FAULTS = {
    "busy": ("503 Slow Down", b"SlowDown"),
    "refuse": ("403 Forbidden", b"AccessDenied"),
}


def _refusal(start_response, status, code):
    start_response(status, [("Content-Type", "application/xml")])
    return [b"<Error><Code>%s</Code></Error>" % code]


def _maybe_cut(fault, answer):
    if fault != "cut":
        return answer
    whole = b"".join(answer)
    return [whole[: len(whole) // 2]]


@pytest.fixture(scope="session")
def _running_server():
    server = S3Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3_server(_running_server):
    """As it is at first; its buckets are gone after the test."""
    server = _running_server
    server.compares, server.fault = True, lambda method, query: None
    server.requests.clear()
    yield server
    server.fault = lambda method, query: None
    server.objects.reset()  # each object holds an open file until then
    gc.collect()  # and so do those that were replaced


@pytest.fixture
def s3_credentials(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def new_bucket() -> str:
    return f"bucket-{os.getpid()}-{next(_buckets)}"


@asynccontextmanager
async def s3_storage(endpoint: str, state_dir, path: str | None = None, **options: object):
    """A storage in a bucket that is made for it, unless a path is given."""
    wanted = {"endpoint": endpoint, "create_bucket": True} | options
    storage = await open_s3(wanted, path or new_bucket(), state_dir)
    try:
        yield storage
    finally:
        await storage.aclose()


@asynccontextmanager
async def s3_storage_as_known(endpoint: str, state_dir, path: str, **options: object):
    """As `s3_storage`; only the first asks the server what it enforces, which takes a dozen requests."""
    kept = state_dir / "s3-guards.json"
    if endpoint in _known:
        state_dir.mkdir(parents=True)
        kept.write_bytes(_known[endpoint])
    async with s3_storage(endpoint, state_dir, path, **options) as storage:
        _known[endpoint] = kept.read_bytes()
        yield storage
