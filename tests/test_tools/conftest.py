"""What the tests of several tools share."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture(scope='module')
def load():
    """Return what imports a tool by its name, with its folder on the path as when it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / 'tools')
        yield importlib.import_module
