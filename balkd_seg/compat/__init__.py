"""Stock OpenMMLab on today's PyTorch: mmcv-lite, mmengine checkpoints, mixed precision on CPU.

What is changed, and only where it is needed:

- `mmcv.ops` gets a placeholder where mmcv-lite is installed (`mmcv_ops.py`).
- `torch.load` with its default `weights_only=True` accepts what mmengine stores (`checkpoints.py`).
- `AmpOptimWrapper` also runs on a machine without GPU (`amp.py`; registered by `import balkd_seg`).
- `CrossEntropyLoss` with `class_weight` takes ignored pixels (`cross_entropy.py`; likewise).
"""

import os
import sys
import warnings

from balkd_seg.compat.checkpoints import allow_mmengine_checkpoints
from balkd_seg.compat.import_hook import install_import_hook
from balkd_seg.compat.mmcv_ops import install_mmcv_ops_placeholder

__all__ = [
    'activate',
    'allow_mmengine_checkpoints',
    'autoload',
    'install_import_hook',
    'install_mmcv_ops_placeholder',
]


def activate() -> None:
    """Make mmseg importable with mmcv-lite and mmengine checkpoints loadable, in this process."""
    # said at every start, and nothing for a user to do: setuptools is pinned below 81, and whoever
    # uses the missing op is told by the placeholder
    for message in ('pkg_resources is deprecated', 'Fail to import ``MultiScaleDeformableAtt'):
        warnings.filterwarnings('ignore', message)
    install_mmcv_ops_placeholder()
    allow_mmengine_checkpoints()


def autoload() -> None:
    """Prepare stock OpenMMLab commands; PyTorch calls this at the end of `import torch`.

    Registered as an entry point of the group `torch.backends`. It imports nothing of OpenMMLab and
    only leaves two import hooks behind, so a program that uses neither mmcv nor mmengine is not
    touched. `BALKD_SEG_AUTOLOAD=0` switches it off.
    """
    if os.environ.get('BALKD_SEG_AUTOLOAD', '1') != '0':
        install_mmcv_ops_placeholder()
        install_import_hook('mmengine.runner', allow_mmengine_checkpoints)
    package = sys.modules['balkd_seg']
    if not getattr(package.__spec__, '_initializing', False):
        # This import came from PyTorch and registered nothing: let the next one run in full.
        del sys.modules['balkd_seg']
