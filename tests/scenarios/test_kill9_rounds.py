"""`kill -9` at random moments of a random load, again and again, on one mount.

Nothing that was told done may be missing, and no old version may come back beside the new one.

MOUNTSYNC_KILL_ROUNDS and MOUNTSYNC_KILL_SEED choose how often and which; `scripts/soak` runs more of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

from tests.parts.random_load import Crowd
from tests.parts.real_mount import Mounted
from tests.parts.trees import Witness

ROUNDS = int(os.environ.get("MOUNTSYNC_KILL_ROUNDS", "6"))
SEED = int(os.environ.get("MOUNTSYNC_KILL_SEED", "1"))


def test_rounds(new_mount: Callable[..., Mounted]) -> None:
    chance = random.Random(SEED)
    mount = new_mount("--write-delay", "0.05s").start()
    crowd = Crowd(SEED, 3)
    with Witness(mount.remote) as witness:
        for number in range(ROUNDS):
            crowd.work_until(mount.path, chance.uniform(0.1, 1.2), mount.kill9)
            mount.remount()
            wrong = crowd.judge(mount.path)
            assert wrong == [], "\n".join([f"round {number}, seed {SEED}", *wrong])
            if number % 2 or number == ROUNDS - 1:
                mount.settle()
                mount.flush()
                mount.agree()
    steps = sum(program.steps for program in crowd.programs)
    back = [sentence for program in crowd.programs for sentence in program.came_back]
    print(f"{ROUNDS} rounds, {steps} steps")
    assert back == [], "\n".join(back)
    half_written = {path: seen - crowd.known for path, seen in witness.seen.items() if seen - crowd.known}
    assert half_written == {}
    mount.umount()
    # How far a program gets in a second is the machine's affair: usually dozens of changes, under load
    # perhaps none. What holds everywhere is what is waited for: one change of each program before a kill.
    assert steps >= len(crowd.programs) * ROUNDS
