"""What the installed versions lack."""

import importlib
import importlib.metadata
import importlib.util

OLDEST_TRITON = (3, 3)  # 3.0 and 3.2 refuse the kernels' tuples ("cannot convert () to tensor")


def why_no_triton() -> str | None:
    """Return why Triton cannot build the kernels, or None if it can."""
    if importlib.util.find_spec('triton') is None:
        return 'Triton is not installed'
    version = _triton_version()
    if tuple(map(int, version.split('.')[:2])) < OLDEST_TRITON:
        return f'Triton is {version}, older than 3.3 (which PyTorch from 2.7 on brings)'
    return None


def _triton_version() -> str:
    """Return the installed version, where pip knows it without an import: old ones can fail."""
    for name in ('triton', 'pytorch-triton', 'pytorch-triton-rocm', 'triton-windows'):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return importlib.import_module('triton').__version__
