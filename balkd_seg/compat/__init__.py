"""Stock OpenMMLab on every PyTorch and Python: mmcv-lite, checkpoints, mixed precision on CPU.

What is changed, and only where it is needed:

- `mmcv.ops` gets a placeholder where mmcv-lite is installed (`mmcv_ops.py`).
- `torch.load` with its default `weights_only=True` accepts what mmengine stores (`checkpoints.py`).
- `pkgutil.find_loader` comes back where Python has dropped it (`find_loader.py`).
- `mmseg::` finds the configs of a fork of mmseg (`zoo_names.py`).
- `AmpOptimWrapper` also runs on a machine without GPU (`amp.py`; registered by `import balkd_seg`).
- `CrossEntropyLoss` with `class_weight` takes ignored pixels (`cross_entropy.py`; likewise).
- Layer-wise decay of learning rates knows the layers of peers (`layer_decay.py`; likewise).
"""

import os
import sys
import warnings

from balkd_seg.compat.checkpoints import allow_mmengine_checkpoints, load_weights
from balkd_seg.compat.find_loader import restore_find_loader
from balkd_seg.compat.import_hook import install_import_hook
from balkd_seg.compat.mmcv_ops import install_mmcv_ops_placeholder
from balkd_seg.compat.zoo_names import find_the_zoo

__all__ = [
    'activate',
    'allow_mmengine_checkpoints',
    'autoload',
    'find_the_zoo',
    'install_import_hook',
    'install_mmcv_ops_placeholder',
    'load_weights',
    'restore_find_loader',
]


def activate() -> None:
    """Make mmseg importable with mmcv-lite and mmengine checkpoints loadable, in this process."""
    # said at every start, and nothing for a user to do: setuptools is pinned below 81, and whoever
    # uses the missing op is told by the placeholder
    for message in ('pkg_resources is deprecated', 'Fail to import ``MultiScaleDeformableAtt'):
        warnings.filterwarnings('ignore', message)
    restore_find_loader()
    install_mmcv_ops_placeholder()
    allow_mmengine_checkpoints()
    find_the_zoo()


def autoload() -> None:
    """Prepare stock OpenMMLab commands; PyTorch from 2.5 on calls this at the end of its import.

    Registered as an entry point of the group `torch.backends`. It imports nothing of OpenMMLab, so
    a program that uses none of it pays nothing: mmcv and mmengine are waited for, and `torch.load`
    looks for mmengine once a checkpoint names it. `BALKD_SEG_AUTOLOAD=0` switches it off.
    """
    if os.environ.get('BALKD_SEG_AUTOLOAD', '1') != '0':
        restore_find_loader()
        install_mmcv_ops_placeholder()
        allow_mmengine_checkpoints()
        install_import_hook('mmengine.runner', find_the_zoo)
    package = sys.modules['balkd_seg']
    if not getattr(package.__spec__, '_initializing', False):
        # This import came from PyTorch and registered nothing: let the next one run in full.
        del sys.modules['balkd_seg']
