"""Build one network of a config, with the weights of a checkpoint.

What training, testing, calibrating, exporting and measuring understand by "the network of this
config" is said here alone.
"""

from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import MODELS

from balkd_seg.distillers.base import Distiller
from balkd_seg.distillers.checkpoint import load_strictly, read_checkpoint
from balkd_seg.distillers.model_config import resolve_model_config
from balkd_seg.kinds import is_kind

# what a distillation config says of a network that the network itself has no place for
NOT_OF_THE_MODEL = ('checkpoint', 'classes')


def network_config(cfg: Config, name: str = 'student') -> ConfigDict:
    """Return the complete model dict of one network of a config.

    A data preprocessor at the top of the config belongs to the network that has none of its own, as
    mmengine's Runner has it.

    Args:
        cfg: Of a network, or of a distillation.
        name: Of a distillation: 'student', 'teacher', or the name of a peer. A config of one
            network has that one, whatever the name.

    Raises:
        ValueError: If the config has no model, or a distillation no such network.
    """
    if cfg.get('model') is None:
        raise ValueError(
            f'Expected the config {cfg.filename or ""} to define `model`, but it does not. Give '
            'the config of a network or of a distillation.'
        )
    network = cfg.model
    if is_kind(cfg.model, MODELS, Distiller):
        networks = {key: cfg.model[key] for key in ('student', 'teacher') if key in cfg.model}
        networks.update(cfg.model.get('peers', {}))
        if name not in networks:
            raise ValueError(
                f'Expected one of the networks of {cfg.filename or "this config"}, '
                f'{sorted(networks)}, but got {name!r}.'
            )
        network = networks[name]
        if name != 'student':
            network = {k: v for k, v in network.items() if k not in NOT_OF_THE_MODEL}
    given = cfg.model.get('data_preprocessor', cfg.get('data_preprocessor'))
    return resolve_model_config(network, name, given)


def preprocessor_settings(cfg: Config) -> dict[str, Any]:
    """Return, to be changed in place, what a config says of the student's data preprocessor."""
    network = cfg.model.get('student', cfg.model)
    own = 'config' in network or 'data_preprocessor' in network
    place = network if own else cfg.model if 'data_preprocessor' in cfg.model else cfg
    return place.setdefault('data_preprocessor', ConfigDict())


def build_network(
    cfg: Config, checkpoint: dict[str, Any], path: str, name: str = 'student'
) -> BaseSegmentor:
    """Build a network to predict with: every weight loaded, without auxiliary head, in eval mode.

    Args:
        cfg: Of a network, or of a distillation.
        checkpoint: From `read_checkpoint`.
        path: Where it came from, for messages.
        name: See `network_config`.

    Raises:
        ValueError: If the checkpoint does not fit, or there is no such network.
    """
    model = network_config(cfg, name)
    model.update(pretrained=None, auxiliary_head=None)
    network = revert_sync_batchnorm(MODELS.build(model))
    load_strictly(network, checkpoint, path, name)
    return network.eval()


def load_network(cfg: Config, path: str, name: str = 'student') -> BaseSegmentor:
    """Read a checkpoint and build its network; see `build_network`.

    Raises:
        FileNotFoundError: If the checkpoint is missing.
        ValueError: If it does not fit, or is unsafe to load.
    """
    return build_network(cfg, read_checkpoint(path, name), path, name)
