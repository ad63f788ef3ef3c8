"""How often Python looks for garbage: what is served makes few cycles, and what is loaded stays."""

from __future__ import annotations

import gc


def calm() -> None:
    """What lives now is never looked at again; the rest is looked at seldom.

    Looks take a tenth of the time that thousands of small files take otherwise. May be called again.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
