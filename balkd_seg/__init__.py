"""Balanced knowledge distillation for MMSegmentation.

Importing the package makes stock OpenMMLab run on today's PyTorch (`balkd_seg.compat`) and
registers the losses, distillers, datasets, metrics and hooks in mmseg's registries. A config does
it by `custom_imports = dict(imports=['balkd_seg'], allow_failed_imports=False)`.
"""

import torch

__version__ = '0.1.0'

# PyTorch loads our entry point (`compat.autoload`) at the end of its own import. Such an early
# import must stay light: it registers nothing, and `autoload` forgets it so that a later one does.
if not getattr(torch.__spec__, '_initializing', False):
    from balkd_seg import compat

    compat.activate()
    from balkd_seg import datasets, distillers, hooks, losses, metrics
    from balkd_seg.compat import amp, cross_entropy, layer_decay

    cross_entropy.mend_class_weights()
    layer_decay.give_peers_their_layers()
    __all__ = [
        'amp',
        'compat',
        'cross_entropy',
        'datasets',
        'distillers',
        'hooks',
        'layer_decay',
        'losses',
        'metrics',
    ]
