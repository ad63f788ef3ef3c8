"""Two machines that have mounted the same folder of a bucket."""

from __future__ import annotations

import time

import trio

from mountsync.engine.assembly import Tuning
from tests.parts.mounted import mounted
from tests.parts.s3_server import (  # noqa: F401 - fixtures
    _running_server,
    new_bucket,
    s3_credentials,
    s3_server,
    s3_storage,
)

T1 = 1_700_000_000_123_456_789
TUNING = Tuning(host="here", write_delay=0.1, poll_interval=60.0)


async def test_a_touch_reaches_the_other_machine(s3_server, s3_credentials, tmp_path):  # noqa: F811
    bucket, more = new_bucket(), {"tuning": TUNING, "clock": time.time_ns}
    async with (
        s3_storage(s3_server.endpoint, tmp_path / "1", bucket) as first,
        s3_storage(s3_server.endpoint, tmp_path / "2", bucket) as second,
        mounted(tmp_path / "m1", first, **more) as one,
        mounted(tmp_path / "m2", second, **more) as two,
    ):
        await one.write("f", b"text")
        await one.flush()
        await two.flush()
        assert await two.read("f") == b"text"
        node = (await two.lookup("f")).id
        await trio.sleep(1.1)  # S3 tells of a change in whole seconds
        await one.setattr("f", mtime_ns=T1)
        for m in (one, two, one, two):
            assert (await m.flush()).pending == 0
        for m in (one, two):
            assert (await m.lookup("f")).mtime_ns == T1
            assert await m.names() == ["f"]
        assert (await two.lookup("f")).id == node
