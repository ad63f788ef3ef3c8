"""Stories in which the world stops more than once: each life begins with what the last one left unknown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import trio

from mountsync.storage.memory import MemoryStorage
from tests.parts.effects import Effects
from tests.parts.mounted import mounted
from tests.parts.stops import AFTERWARDS, REMOTES, TUNING, UNDER_WAY, Case, clock_of_life, has_stopped


@dataclass(frozen=True)
class Life:
    """One that follows a stop: so many steps of it are made, then programs do `act`.

    The world stops at effect `stop_at` after that.
    """

    act: str
    stop_at: int
    steps: int = 0


@dataclass(frozen=True)
class Lives(Case):
    """A case with lives between the first stop and the last life, each of which is stopped too."""

    between: tuple[Life, ...] = ()

    async def run(self, home: Path) -> bool:
        """Tells whether the world was stopped before all was done, each time."""
        tree = MemoryStorage()._tree
        effects = Effects()
        stopped = await self._first_life(home, effects, tree)
        for number, life in enumerate(self.between, 1):
            stopped &= await self._next_life(home, life, number, tree)
        await self._last_life(home, effects, tree, number=len(self.between) + 1)
        return stopped

    async def _next_life(self, home: Path, life: Life, number: int, tree: Any) -> bool:
        effects = Effects()
        seams = {"disk": effects.on_store, "commit": effects.on_database}
        storage = effects.on_storage(REMOTES[self.remote].make(tree))
        try:
            async with mounted(home, storage, tuning=TUNING, clock=clock_of_life(number), **seams) as m:
                for _ in range(life.steps):
                    await trio.lowlevel.checkpoint()
                await AFTERWARDS[life.act](m)
                effects.arm(life.stop_at)
                await m.flush(timeout=1000)
                effects.disarm()
        except BaseException as error:
            if not has_stopped(error):
                raise
        return effects.stopped


def random_lives(remote: str, seed: int) -> Lives:
    """One of the very many cases with two stops."""
    random = Random(seed)
    acts = list(AFTERWARDS)
    return Lives(
        under_way=random.choice(list(UNDER_WAY)),
        stop_at=random.randint(1, 12),
        afterwards=random.choice(acts),
        remote=remote,
        steps=random.choice((0, 0, 0, 4, 17, 40)),
        between=(Life(random.choice(acts), random.randint(1, 12), random.choice((0, 0, 0, 4, 17, 40))),),
    )
