"""Programs make, copy, remove and rename things in turns while all of it is uploaded."""

from __future__ import annotations

import os

import pytest

from tests.parts.churn import random_churn, run_churn
from tests.parts.stops import REMOTES

_SEEDS = int(os.environ.get("MOUNTSYNC_CHURN_SEEDS", "25"))
"""How many runs there are on each kind of remote; a thousand take some three minutes."""
_FIRST = int(os.environ.get("MOUNTSYNC_CHURN_SEED", "0"))


@pytest.mark.parametrize("remote", REMOTES)
def test_all_settles_while_programs_go_on(remote: str) -> None:
    for seed in range(_FIRST, _FIRST + _SEEDS):
        run_churn(random_churn(remote, seed))
