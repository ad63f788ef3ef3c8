"""What `mountsync.storage.api` promises, as tests that every storage passes.

To add a storage, write a module with an async fixture `storage` that gives an empty one:

    @pytest.fixture
    async def storage():
        storage = MemoryStorage()
        yield storage
        await storage.aclose()

    class TestMemory(StorageConformance):
        pass

Tests of a capability that the storage lacks are skipped. Class variables tune what may differ.
"""

from __future__ import annotations

from typing import ClassVar

from tests.conformance.suite_capabilities import CapabilityConformance
from tests.conformance.suite_core import CoreConformance


class StorageConformance(CoreConformance, CapabilityConformance):
    large: ClassVar[int] = 20 << 20
    """The size of the largest body that is tried."""
    same_errors: ClassVar[bool] = True
    """Whether failing calls must raise the same class as those of a MemoryStorage."""
    deep: ClassVar[int] = 12
    """How deep a tree is tried."""
