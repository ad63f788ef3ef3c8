"""What a refusal of Modal tells people: the thing, the reason, and what to do next."""

from __future__ import annotations

import pytest

pytest.importorskip("modal_proto")

from mountsync.errors import AlreadyExists, DirectoryNotEmpty, IsADirectory, NotFound, Throttled
from mountsync.storage.modal.refusals import refusal

TEXTS = ["too many files to list", 'path "/x" contains a non-directory parent: "/a"', "something new"]
STATUSES = ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "ABORTED", "PERMISSION_DENIED", "UNAUTHENTICATED"]
MORE = ["OUT_OF_RANGE", "UNIMPLEMENTED", "DATA_LOSS", "INTERNAL", "UNAVAILABLE"]
PLAIN = (AlreadyExists, DirectoryNotEmpty, IsADirectory, NotFound, Throttled)
"""What says by itself what to do."""


@pytest.mark.parametrize("status", [*STATUSES, *MORE, "NOT_FOUND", "ALREADY_EXISTS", "RESOURCE_EXHAUSTED"])
@pytest.mark.parametrize("text", TEXTS)
def test_every_refusal_says_what_to_do(status, text):
    error = refusal(status, text, "d/f")
    assert error.reason
    assert error.hint or isinstance(error, PLAIN)
