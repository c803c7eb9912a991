"""The pytest plugin: `def test_port(parity): parity.check(make_pair())`."""

from typing import Any

import pytest


@pytest.fixture
def parity() -> Any:
    """The package: `parity.check(pair)` fails the test with the rung, the module and the cause."""
    import parity  # here, so that a session without parity tests loads no framework

    return parity
