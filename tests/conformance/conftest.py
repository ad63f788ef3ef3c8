"""Makes failing assertions of the suite's modules as telling as those of tests."""

import pytest

for _name in ("parts", "suite_core", "suite_capabilities"):
    pytest.register_assert_rewrite(f"tests.conformance.{_name}")
