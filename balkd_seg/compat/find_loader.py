"""`pkgutil.find_loader`, which Python 3.14 removed and mmcv and mmengine call to look for ops."""

import importlib.util
import pkgutil
from importlib.abc import Loader


def find_loader(name: str) -> Loader | None:
    """Return the loader of a module, or None if there is no such module."""
    spec = importlib.util.find_spec(name)
    return spec.loader if spec is not None else None


def restore_find_loader() -> None:
    """Put it back where Python has none; calling it again changes nothing."""
    if not hasattr(pkgutil, 'find_loader'):
        pkgutil.find_loader = find_loader  # type: ignore[assignment]
