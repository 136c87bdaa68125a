"""What the installed versions lack."""

import importlib
import importlib.util


def why_no_triton() -> str | None:
    """Return why Triton cannot build the kernels, or None if it can: they are written for 3.0."""
    if importlib.util.find_spec('triton') is None:
        return 'Triton is not installed'
    version = importlib.import_module('triton').__version__
    if int(version.split('.')[0]) < 3:
        return f'Triton is {version}, older than 3.0 (which PyTorch from 2.4 on brings)'
    return None
