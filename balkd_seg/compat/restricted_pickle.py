"""A pickle that makes only what a list names, for `torch.load(pickle_module=...)` before 2.6.

From 2.6 on PyTorch's own unpickler takes stand-ins under other names (`checkpoints.py`). Before, it
has no list, or one of plain classes, so this one does what that does, instruction by instruction:
it knows those that `torch.save` writes, calls nothing but what the list names, fills in nothing but
objects of the list's types, and refuses the rest of the file.
"""

import _compat_pickle
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import IO, Any

import torch

_PLAIN = (
    'proto', 'stop', 'mark', 'none', 'false', 'true', 'binint', 'binint1', 'binint2', 'long1',
    'binfloat', 'binunicode', 'short_binstring', 'empty_tuple', 'tuple', 'tuple1', 'tuple2',
    'tuple3', 'empty_list', 'empty_dictionary', 'binget', 'long_binget', 'binput', 'long_binput',
    'global',
)  # fmt: skip


def restricted_pickle(
    names: dict[str, Any], num_bytes: Callable[[str], int] | None = None
) -> SimpleNamespace:
    """Return what PyTorch takes as a pickle module, able to read but not to write.

    Args:
        names: Full dotted name, as it stands in a pickle, to what it means.
        num_bytes: Size of a tensor's record in a zip file, by its key: an old PyTorch takes the
            pickle's word for it, and reads past the end. None for files that are no zip.
    """
    listed = frozenset(id(value) for value in names.values())  # `names` keeps them alive
    unpickler = type(
        'Unpickler', (_Unpickler,), {'names': names, 'listed': listed, 'num_bytes': num_bytes}
    )

    def load(file: IO[bytes], **settings: Any) -> Any:
        return unpickler(file, **settings).load()

    return SimpleNamespace(__name__='restricted_pickle', Unpickler=unpickler, load=load)


# Python's own in Python, where single instructions can be replaced; typed stubs leave it out
_Stock: Any = pickle._Unpickler


class _Unpickler(_Stock):
    names: dict[str, Any]
    listed: frozenset[int]
    num_bytes: Callable[[str], int] | None

    def find_class(self, module: str, name: str) -> Any:
        # protocol 2 writes the names of Python 2
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        full = f'{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}'
        if full not in self.names:
            raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {full} is not allowed')
        return self.names[full]

    def _reduce(self) -> None:
        args = self.stack.pop()
        function = self.stack[-1]
        if id(function) not in self.listed or type(args) is not tuple:
            raise pickle.UnpicklingError(f'calls {function!r}, which is not allowed')
        self.stack[-1] = function(*args)

    def _newobj(self) -> None:
        args = self.stack.pop()
        kind = self.stack.pop()
        if id(kind) not in self.listed or not isinstance(kind, type) or type(args) is not tuple:
            raise pickle.UnpicklingError(f'makes an object of {kind!r}, which is not allowed')
        self.append(kind.__new__(kind, *args))

    def _build(self) -> None:
        state = self.stack.pop()
        instance = self.stack[-1]
        kind = type(instance)
        if id(kind) not in self.listed:
            raise pickle.UnpicklingError(f'fills in an object of {kind!r}, which is not allowed')
        if kind is torch.Tensor:
            instance.set_(*state)
        elif hasattr(kind, '__setstate__'):
            kind.__setstate__(instance, state)  # not what the file may have put beside it
        elif type(state) is dict:
            instance.__dict__.update(state)
        else:
            raise pickle.UnpicklingError(f'fills in an object of {kind!r} in an unknown way')

    def _append(self) -> None:
        self._items_for((list,), [self.stack.pop()])

    def _appends(self) -> None:
        self._items_for((list,), self.pop_mark())

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._items_for((dict, OrderedDict, Counter), [key, value])

    def _setitems(self) -> None:
        self._items_for((dict, OrderedDict, Counter), self.pop_mark())

    def _items_for(self, kinds: tuple[type, ...], items: list) -> None:
        target = self.stack[-1]
        if type(target) not in kinds:
            raise pickle.UnpicklingError(f'puts items into {type(target)}, which is not allowed')
        if type(target) is list:
            target.extend(items)
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key] = value  # no method by its name: the file may have put another beside it

    def _binpersid(self) -> None:
        key = self.stack.pop()
        if type(key) is not tuple or not key or key[0] not in ('storage', b'storage'):
            raise pickle.UnpicklingError(f'refers to {key!r}, which is no storage')
        num_bytes = type(self).num_bytes
        if num_bytes is not None:
            _, kind, record, _, count = key
            size = 1 if kind is torch.UntypedStorage else kind.dtype.itemsize
            if type(count) is not int or count * size != num_bytes(record):
                raise pickle.UnpicklingError(f'gives the storage {record!r} a wrong size')
        self.append(self.persistent_load(key))

    def _refuse(self) -> None:
        raise pickle.UnpicklingError('holds an instruction that torch.save never writes')


def _instructions() -> dict[int, Callable]:
    """Return what each instruction does: as ever, with care, or not at all."""
    ours = _Unpickler
    stock: dict[int, Callable] = _Stock.dispatch
    plain = {getattr(_Stock, f'load_{name}') for name in _PLAIN}
    methods = {code: do if do in plain else ours._refuse for code, do in stock.items()}
    restricted: dict[bytes, Callable] = {
        pickle.REDUCE: ours._reduce,
        pickle.NEWOBJ: ours._newobj,
        pickle.BUILD: ours._build,
        pickle.APPEND: ours._append,
        pickle.APPENDS: ours._appends,
        pickle.SETITEM: ours._setitem,
        pickle.SETITEMS: ours._setitems,
        pickle.BINPERSID: ours._binpersid,
    }
    return methods | {code[0]: method for code, method in restricted.items()}


_Unpickler.dispatch = _instructions()
