"""Networks that train beside the student without entering its state dict."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import broadcast, get_world_size
from mmengine.logging import print_log
from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.random import fork_rng

from balkd_seg.distillers.checkpoint import (
    checkpoint_classes,
    fitting_weights,
    load_strictly,
    read_checkpoint,
)
from balkd_seg.distillers.distill_term import BesideStateDict
from balkd_seg.distillers.model_config import resolve_model_config
from balkd_seg.distillers.renormalise import Renormalise
from balkd_seg.distillers.supported import check_heads

_TAKEN = ('student', 'decode', 'aux', 'distill')


class Peers(BesideStateDict, nn.ModuleDict):
    """Segmentors by name, each with its own task loss, fed from the student's data preprocessor.

    Each starts from a random state of its own, so that peers of one architecture differ and the
    student starts as it would alone.

    Args:
        configs: For each name `dict(config=..., **overrides)` or an inline model dict; with
            `checkpoint` it starts from there, every weight of it. A checkpoint of mutual training
            gives the peer of that name, if it has one.
        student: The network whose data preprocessor makes the images.
        data_preprocessor: For a peer that has none in its own config.

    Raises:
        ValueError: If a name or config is wrong.
        FileNotFoundError: If a config is missing.
    """

    inputs: nn.ModuleDict

    def __init__(
        self,
        configs: dict[str, dict],
        student: BaseSegmentor,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__()
        if not configs:
            raise ValueError(
                'Expected at least one network in `peers`, but got none. Name one, for example '
                "peers=dict(teacher=dict(config='mmseg::...')), or train the student alone."
            )
        self.checkpoints: dict[str, str | None] = {}
        self.classes: dict[str, tuple[str, ...] | None] = {}
        self._named: dict[str, Any] = {}  # class names that the config gives
        self.is_trained = False  # whether the weights are worth anything
        inputs: dict[str, nn.Module] = {}
        for index, (name, config) in enumerate(configs.items()):
            if not name.isidentifier() or 'loss' in name or name in _TAKEN or hasattr(self, name):
                raise ValueError(
                    f'Expected the names in `peers` to be identifiers without "loss" (mmengine '
                    f'trains what has it in its name), none of {_TAKEN} and no attribute of a '
                    f'module, but got {name!r}.'
                )
            config = dict(config)
            self.checkpoints[name] = config.pop('checkpoint', None)
            self._named[name] = config.pop('classes', None)
            model = resolve_model_config(config, name, data_preprocessor)
            check_heads(model, name)
            with _own_random_state(index):
                self[name] = MODELS.build(model)
            inputs[name] = Renormalise.between(student, self.network(name), name)
        # outside of the module tree: their names would come before those of the networks
        self.__dict__['inputs'] = nn.ModuleDict(inputs)

    def _apply(self, fn: Callable, recurse: bool = True) -> 'Peers':
        """Let the conversion of inputs follow `.to()`, `.cuda()` and the like."""
        super()._apply(fn, recurse)
        self.inputs._apply(fn)
        return self

    def network(self, name: str) -> BaseSegmentor:
        """Return a network."""
        network: Any = self[name]
        return network

    def images(self, name: str, inputs: Tensor) -> Tensor:
        """Return images (N, channels, H, W) as a network has to see them."""
        return self.inputs[name](inputs)

    def start(self) -> None:
        """Initialise every network, load the checkpoints, and give all processes the same.

        Raises:
            FileNotFoundError: If a checkpoint is missing.
            ValueError: If a checkpoint does not fit its network exactly.
        """
        for index, (name, checkpoint) in enumerate(self.checkpoints.items()):
            network = self.network(name)
            with _own_random_state(index):
                network.init_weights()
            if checkpoint is not None:
                setting = f'model.peers.{name}'
                content = read_checkpoint(checkpoint, name, setting)
                # of mutual training: 'state_dict' is the student's
                weights = content.get('peers', {}).get(name, content)
                load_strictly(network, weights, checkpoint, name, setting)
                given = self._named[name]
                self.classes[name] = tuple(given) if given else checkpoint_classes(content)
            origin = f'every weight loaded from {checkpoint}' if checkpoint else 'from its init_cfg'
            millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
            print_log(
                f'Peer {name}: {type(network.backbone).__name__} with {millions:.1f} M parameters, '
                f'{origin}',
                logger='current',
            )
        if get_world_size() > 1:  # the Runner does so for what is in the state dict
            for tensor in (*self.parameters(), *self.buffers()):
                broadcast(tensor.data)
        self.is_trained = True

    def beside_state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return the state dict of each network, under the stock names."""
        return {name: dict(network.state_dict()) for name, network in self.items()}

    def load_beside_state_dict(self, state: dict[str, dict[str, Tensor]], path: str) -> None:
        """Restore what `beside_state_dict` returned.

        Args:
            state: Weights of each network.
            path: Where they came from, for messages.

        Raises:
            ValueError: If the networks are not those of the state.
        """
        if sorted(state) != sorted(self):
            raise ValueError(
                f'Expected the checkpoint `{path}` to hold the peers {sorted(self)} of this '
                f'config, but got {sorted(state)}. Use the config it was trained with.'
            )
        fitting = {
            name: fitting_weights(network, state[name], path, name, f'model.peers.{name}')
            for name, network in self.items()
        }
        for name, network in self.items():
            network.load_state_dict(fitting[name], strict=False)
        self.is_trained = True


@contextmanager
def _own_random_state(index: int) -> Iterator[None]:
    """Draw from a random state that follows from the seed and the peer's place, then forget it.

    On the CPU and, once CUDA is in use, on its current device, where the Runner initialises.
    `torch.manual_seed` would reach all devices and what they draw afterwards.
    """
    seed, on_gpu = torch.initial_seed() + 1 + index, torch.cuda.is_initialized()
    with fork_rng(devices=[torch.cuda.current_device()] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield
