"""Let `torch.load` with `weights_only=True` (its default since 2.6) read mmengine checkpoints.

mmengine stores, beside tensors and plain values, the log history: `HistoryBuffer` objects with
numpy arrays, whose statistics methods are pickled as `getattr(HistoryBuffer, 'mean')`. Exactly
these are allowed, and none of numpy's or Python's own functions under their own names, because
those reach further: `getattr` anything, `ndarray` any address in memory. Stand-ins of the same
names do what mmengine's pickles need and refuse the rest. Before PyTorch 2.6 the same stand-ins go
into an unpickler of our own (`restricted_pickle.py`), for what this package itself loads.
"""

import functools
import os
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch

from balkd_seg.compat.restricted_pickle import restricted_pickle

# whether the list of `add_safe_globals` takes names, as it does from 2.6 on
LISTS_NAMES = torch.__version__ >= '2.6'  # compared as a version
_HISTORY_BUFFER = 'mmengine.logging.history_buffer.HistoryBuffer'

_STATISTICS = ('min', 'max', 'current', 'mean')
_DTYPES = ('f8', 'f4', 'f2', 'i8', 'i4', 'u1', 'b1')


def _statistics_getattr(obj: object, name: str) -> Callable:
    """Return a statistics method of `HistoryBuffer`, all that mmengine asks `getattr` for."""
    known = getattr(sys.modules.get('mmengine.logging'), 'HistoryBuffer', _LazyHistoryBuffer)
    if (obj is not known and obj is not _LazyHistoryBuffer) or name not in _STATISTICS:
        raise _refusal(f'`{name}` of {obj!r}')
    from mmengine.logging import HistoryBuffer

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

    def __setstate__(self, state: tuple) -> None:
        if self.size:  # numpy would free memory that a tensor may lie over by now
            raise _refusal('a numpy array that is filled in twice')
        super().__setstate__(state)

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()


def _empty_array(subtype: type, shape: tuple, code: bytes) -> np.ndarray:
    """Return the empty array that numpy's pickles start from and then fill with their bytes."""
    # numpy's own type is here only where a program has allowed it, as a fork of mmengine does
    if subtype not in (_PlainArray, np.ndarray) or shape != (0,):
        raise _refusal(f'a numpy array of type {subtype} and shape {shape}')
    return np.empty((0,), 'u1').view(_PlainArray)


def _refusal(what: str) -> ValueError:
    return ValueError(f'it reaches for {what}, which no mmengine checkpoint does')


def _latin1(text: str, encoding: str) -> bytes:
    """Return the bytes that protocol 2 of pickle writes as text."""
    if encoding != 'latin1':
        raise _refusal(f'the encoding {encoding!r}')
    return text.encode('latin1')


class _Statistics(type):
    def __getattr__(cls, name: str) -> Callable:
        return _statistics_getattr(cls, name)


class _LazyHistoryBuffer(metaclass=_Statistics):
    """Stands for mmengine's class until a checkpoint holds one: `import torch` stays light."""

    def __new__(cls) -> Any:
        from mmengine.logging import HistoryBuffer

        # PyTorch fills in objects of listed types only
        torch.serialization.add_safe_globals([(HistoryBuffer, f'{__name__}.HistoryBuffer')])
        return HistoryBuffer.__new__(HistoryBuffer)


def _stand_ins() -> dict[str, Any]:
    """Return what mmengine 0.10 stores in a checkpoint, beside PyTorch's own: name and meaning."""
    numpy_2 = np.lib.NumpyVersion(np.__version__) >= '2.0.0'
    multiarray = import_module('numpy._core.multiarray' if numpy_2 else 'numpy.core.multiarray')
    names: dict[str, Any] = {
        _HISTORY_BUFFER: _LazyHistoryBuffer,
        'numpy.ndarray': _PlainArray,
        'numpy.dtype': _plain_dtype,
        'builtins.getattr': _statistics_getattr,
    }
    for core in ('core', '_core'):  # numpy 2 renamed the module that its pickles name
        names[f'numpy.{core}.multiarray._reconstruct'] = _empty_array
        names[f'numpy.{core}.multiarray.scalar'] = multiarray.scalar
    for kind in {type(np.dtype(code)) for code in _DTYPES}:
        names[f'{kind.__module__}.{kind.__qualname__}'] = kind
    return names


def allow_mmengine_checkpoints() -> None:
    """Allow-list what mmengine stores, for every `torch.load`; again changes nothing.

    Before PyTorch 2.6, whose list alone takes names, nothing is changed: `torch.load` trusts every
    file there unless told otherwise, and what this package loads goes through `load_weights`.
    """
    if LISTS_NAMES:
        names = _stand_ins()
        torch.serialization.add_safe_globals([(value, name) for name, value in names.items()])


def load_weights(file: str | os.PathLike, **settings: Any) -> Any:
    """Return what `torch.save` wrote, if it is tensors, plain values and what mmengine stores.

    Nothing of the file is run, on any PyTorch.

    Args:
        file: Path.
        settings: `map_location` and `mmap` of `torch.load`.

    Raises:
        Exception: Whatever a file that is no checkpoint, or that asks for more, makes of it.
    """
    file = os.fspath(file)
    if LISTS_NAMES:
        allow_mmengine_checkpoints()
        return torch.load(file, weights_only=True, **settings)
    return _load_restricted(file, **settings)


def _load_restricted(file: str, **settings: Any) -> Any:
    """Do the same where PyTorch takes no names: it lends its own list only."""
    from mmengine.logging import HistoryBuffer
    from torch._weights_only_unpickler import _get_allowed_globals

    with open(file, 'rb') as opened:
        is_zip = opened.read(4) == b'PK\x03\x04'
    # torch.load would hand both to loaders that do not ask the unpickler
    reader = torch._C.PyTorchFileReader(file) if is_zip else None
    if reader is not None:
        if 'constants.pkl' in reader.get_all_records():
            raise ValueError('it is a TorchScript program')
    elif tarfile.is_tarfile(file):
        raise ValueError('it is a tar archive, which PyTorch before 1.0 wrote')
    later = (Counter, bytearray, complex, set)  # which lists of 2.6 and later have
    names: dict[str, Any] = {f'{kind.__module__}.{kind.__qualname__}': kind for kind in later}
    names |= {str(x): x for x in vars(torch).values() if isinstance(x, torch.dtype)}
    # legacy constructors of sparse tensors look at no index; `torch.save` never writes them
    listed = {x: y for x, y in _get_allowed_globals().items() if '.sparse.' not in x}
    names |= {**listed, **_stand_ins()}
    names |= {'_codecs.encode': _latin1, _HISTORY_BUFFER: HistoryBuffer}

    @functools.cache
    def num_bytes(record: str) -> int:
        assert reader is not None
        return len(reader.get_record(f'data/{record}'))

    module = restricted_pickle(names, num_bytes if is_zip else None)
    return torch.load(file, pickle_module=module, weights_only=False, **settings)
