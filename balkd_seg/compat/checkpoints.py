"""Let `torch.load` with `weights_only=True` (its default since 2.6) read mmengine checkpoints.

mmengine stores, beside tensors and plain values, the log history: `HistoryBuffer` objects with
numpy arrays, whose statistics methods are pickled as `getattr(HistoryBuffer, 'mean')`. Exactly
these are allowed, and none of numpy's or Python's own functions under their own names, because
those reach further: `getattr` anything, `ndarray` any address in memory. Stand-ins of the same
names do what mmengine's pickles need and refuse the rest.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch

_STATISTICS = ('min', 'max', 'current', 'mean')
_DTYPES = ('f8', 'f4', 'f2', 'i8', 'i4', 'u1', 'b1')


def _statistics_getattr(obj: object, name: str) -> Callable:
    """Return a statistics method of `HistoryBuffer`, all that mmengine asks `getattr` for."""
    from mmengine.logging import HistoryBuffer

    if obj is not HistoryBuffer or name not in _STATISTICS:
        raise _refusal(f'`{name}` of {obj!r}')
    return getattr(HistoryBuffer, name)


def _plain_dtype(code: str, align: bool = False, copy: bool = False) -> np.dtype:
    """Return one of numpy's built-in number types, never one that holds objects or fields."""
    if code not in _DTYPES:
        raise _refusal(f'the numpy dtype {code!r}')
    return np.dtype(code)  # the built-in object itself, which cannot be changed afterwards


class _PlainArray(np.ndarray):
    """An array that owns its memory; saved again, it is numpy's own."""

    def __new__(cls, *args: Any, **kwargs: Any) -> '_PlainArray':
        raise _refusal('a numpy array over memory of its choice')

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()


def _empty_array(subtype: type, shape: tuple, code: bytes) -> np.ndarray:
    """Return the empty array that numpy's pickles start from and then fill with their bytes."""
    if subtype is not _PlainArray or shape != (0,):
        raise _refusal(f'a numpy array of type {subtype} and shape {shape}')
    return np.empty((0,), 'u1').view(_PlainArray)


def _refusal(what: str) -> ValueError:
    return ValueError(f'it reaches for {what}, which no mmengine checkpoint does')


def allow_mmengine_checkpoints() -> None:
    """Allow-list what mmengine 0.10 stores in a checkpoint; calling it again changes nothing."""
    from mmengine.logging import HistoryBuffer

    numpy_2 = np.lib.NumpyVersion(np.__version__) >= '2.0.0'
    multiarray = import_module('numpy._core.multiarray' if numpy_2 else 'numpy.core.multiarray')
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            *{type(np.dtype(code)) for code in _DTYPES},
            (_PlainArray, 'numpy.ndarray'),
            (_plain_dtype, 'numpy.dtype'),
            # both spellings: numpy 2 renamed the module that its pickles name
            *(
                (function, f'numpy.{core}.multiarray.{name}')
                for core in ('core', '_core')
                for function, name in (
                    (_empty_array, '_reconstruct'),
                    (multiarray.scalar, 'scalar'),
                )
            ),
            (_statistics_getattr, 'builtins.getattr'),
        ]
    )
