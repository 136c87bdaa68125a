"""Let `torch.load` with `weights_only=True` (its default since 2.6) read mmengine checkpoints.

mmengine stores, beside tensors and plain values, the log history: `HistoryBuffer` objects with
numpy arrays, whose statistics methods are pickled as `getattr(HistoryBuffer, 'mean')`. Exactly
these are allowed. The real `getattr` reaches anything and is never allowed: a stand-in of that name
serves `HistoryBuffer`'s statistics methods and refuses the rest.
"""

from collections.abc import Callable
from importlib import import_module

import numpy as np
import torch

_STATISTICS = ('min', 'max', 'current', 'mean')


def _statistics_getattr(obj: object, name: str) -> Callable:
    """Return a statistics method of `HistoryBuffer`, all that mmengine's pickles ask `getattr` for.

    Raises:
        ValueError: If anything else is asked for.
    """
    from mmengine.logging import HistoryBuffer

    if obj is not HistoryBuffer or name not in _STATISTICS:
        raise ValueError(
            f'Expected a checkpoint that reaches only for the statistics methods {_STATISTICS} of '
            f'HistoryBuffer, but it reaches for `{name}` of {obj!r}. It does not come from '
            'mmengine; do not load it.'
        )
    return getattr(HistoryBuffer, name)


def allow_mmengine_checkpoints() -> None:
    """Allow-list what mmengine 0.10 stores in a checkpoint; calling it again changes nothing."""
    from mmengine.logging import HistoryBuffer

    numpy_2 = np.lib.NumpyVersion(np.__version__) >= '2.0.0'
    multiarray = import_module('numpy._core.multiarray' if numpy_2 else 'numpy.core.multiarray')
    dtypes = {type(np.dtype(kind)) for kind in ('f8', 'f4', 'f2', 'i8', 'i4', 'u1', '?')}
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            np.ndarray,
            np.dtype,
            *dtypes,
            # both spellings: numpy 2 renamed the module that its pickles name
            (multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),
            (multiarray._reconstruct, 'numpy._core.multiarray._reconstruct'),
            (multiarray.scalar, 'numpy.core.multiarray.scalar'),
            (multiarray.scalar, 'numpy._core.multiarray.scalar'),
            (_statistics_getattr, 'builtins.getattr'),
        ]
    )
