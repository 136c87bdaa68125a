"""A placeholder for `mmcv.ops`, which mmseg 1.2 imports unguarded and mmcv-lite cannot import.

mmcv-lite ships the Python files of `mmcv.ops` without the compiled `mmcv._ext` below them. PSPNet,
DeepLab, SegFormer and most other heads never call a compiled op. The placeholder stands in for the
module only: each op in it raises an error that names the op once it is really used. Where
`mmcv._ext` exists (full mmcv), the real `mmcv.ops` is left to Python's own finders.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NoReturn


def _missing_op(name: str) -> type:
    """Return a class that can be imported and subclassed, but neither built nor called."""

    def refuse(cls: type, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            f'`mmcv.ops.{name}` is a compiled op and mmcv-lite is installed, which has none. '
            'Use a model without it, or replace mmcv-lite by full mmcv: '
            "`pip uninstall -y mmcv-lite && pip install 'setuptools<80' wheel && "
            'pip install --no-build-isolation mmcv==2.1.0`.'
        )

    return type(name, (), {'__new__': refuse, '__doc__': f'Stands in for `mmcv.ops.{name}`.'})


class MMCVOpsPlaceholder(MetaPathFinder, Loader):
    """Find and load an `mmcv.ops` whose every public attribute is a missing op."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answer for `mmcv.ops` alone (never `mmcv._ext`, which mmengine probes for)."""
        if fullname != 'mmcv.ops' or PathFinder.find_spec('mmcv._ext', path) is not None:
            return None
        return ModuleSpec(fullname, self, origin='balkd_seg.compat')

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its attributes on demand."""

        def __getattr__(name: str) -> type:  # noqa: N807
            if name.startswith('_'):
                raise AttributeError(f'module `mmcv.ops` (placeholder) has no attribute `{name}`')
            op = _missing_op(name)
            setattr(module, name, op)
            return op

        module.__dict__['__getattr__'] = __getattr__


def install_mmcv_ops_placeholder() -> None:
    """Ask the placeholder before every other finder; calling it again changes nothing."""
    if not any(isinstance(finder, MMCVOpsPlaceholder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MMCVOpsPlaceholder())
