"""Run a function right before a module is imported for the first time."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _BeforeImport(MetaPathFinder):
    """Call `action` when `module` is first looked for, and leave the finding to others."""

    def __init__(self, module: str, action: Callable[[], None]) -> None:
        self.module = module
        self.action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Never find anything; run the action once."""
        if fullname == self.module:
            sys.meta_path.remove(self)
            self.action()


def install_import_hook(module: str, action: Callable[[], None]) -> None:
    """Run `action` right before `module` is imported, or now if it already is.

    Args:
        module: Full dotted name.
        action: Called once, without arguments.
    """
    if module in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _BeforeImport(module, action))
