"""Layer-wise learning rates for networks that train beside the student.

mmseg's constructor tells the layer of a weight from its name: what is called `peers.teacher...` is
in no layer and learns at the full rate.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.logging import print_log
from mmseg.engine.optimizers import LearningRateDecayOptimizerConstructor
from torch import Tensor, nn

Named = Iterable[tuple[str, Tensor]]


def give_peers_their_layers() -> None:
    """Let mmseg's constructor treat each peer of a `MutualDistiller` as it does the student."""
    constructor: Any = LearningRateDecayOptimizerConstructor
    stock = constructor.add_params
    if getattr(stock, 'knows_peers', False):
        return

    def add_params(self: Any, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Add the parameters of the module, a student and its peers each by its own names."""
        peers: Any = getattr(module, 'peers', None)
        if not hasattr(peers, 'network'):
            stock(self, params, module, **kwargs)
            return
        own = [(n, p) for n, p in module.named_parameters() if not n.startswith('peers.')]
        stock(self, params, _View(module.backbone, own), **kwargs)
        for name in peers:
            _add_peer(self, params, module, name, stock)

    add_params.knows_peers = True  # type: ignore[attr-defined]
    constructor.add_params = add_params


class _View:
    """What the constructor looks at in a network."""

    def __init__(self, backbone: Any, named: Named) -> None:
        self.backbone, self.named = backbone, named

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self.named)


def _add_peer(constructor: Any, params: list[dict], module: Any, name: str, stock: Any) -> None:
    """Add a peer's parameters, with as many more levels than the student as it has more layers."""
    peer, prefix = module.peers.network(name), f'peers.{name}.'
    configured, first = constructor.paramwise_cfg, len(params)
    layers = _num_layers(peer.backbone, configured.get('decay_type', 'layer_wise'))
    if layers is None:
        print_log(
            f'mmseg knows no layers of {type(peer.backbone).__name__}, the backbone of {name}: all '
            'of it learns at the full rate.',
            logger='current',
        )
        named = [(f'{prefix}{key}', value) for key, value in peer.named_parameters()]
        stock(constructor, params, _View(module.backbone, named))
        return
    deeper = layers - (_num_layers(module.backbone) or layers)
    changed = {**configured, 'num_layers': configured['num_layers'] + deeper}
    constructor.paramwise_cfg = changed
    try:
        stock(constructor, params, _View(peer.backbone, peer.named_parameters()))
    finally:
        constructor.paramwise_cfg = configured
    for group in params[first:]:
        group['group_name'] = f'{prefix}{group["group_name"]}'
        group['param_names'] = [f'{prefix}{key}' for key in group['param_names']]


def _num_layers(backbone: Any, decay_type: str = 'layer_wise') -> int | None:
    """Return the `num_layers` of a backbone as mmseg's configs have it; None if it has no layers.

    Args:
        backbone: Of an mmseg segmentor.
        decay_type: As in `paramwise_cfg`; by stages mmseg only knows ConvNeXt.
    """
    kind = type(backbone).__name__
    if 'ConvNeXt' in kind:
        return 3 + -(len(backbone.stages[2]) // -3)  # three blocks of its third stage are one layer
    if 'layer_wise' in decay_type and ('BEiT' in kind or 'MAE' in kind):
        return len(backbone.layers)
    return None
