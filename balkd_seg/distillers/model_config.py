"""Turn what a config says of a network into the model dict that mmseg's registry builds."""

import copy
import os

from mmengine.config import Config, ConfigDict
from mmengine.utils import is_installed
from mmseg.registry import MODELS

from balkd_seg.distillers.supported import check_missing_module, check_packages
from balkd_seg.kinds import is_kind, name_of


def resolve_model_config(
    network: dict, role: str, data_preprocessor: dict | None = None
) -> ConfigDict:
    """Return the model dict of a network given by config name, path or inline.

    Args:
        network: Either `dict(config=..., **overrides)`, where `config` is an installed config
            (`'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'`) or a file and the
            overrides are merged into its `model` as config inheritance would, or a model dict.
        role: `'student'`, `'teacher'` or another name, for the messages.
        data_preprocessor: For a network that has none: what the config that names it has at its
            top level, or None.

    Returns:
        The model dict, with a data preprocessor if a config has one at its top level.

    Raises:
        ValueError: If neither `config` nor `type` is there, the config holds no model, or the
            network is a distillation itself or needs a package that is not installed.
        FileNotFoundError: If the config does not exist.
    """
    network = copy.deepcopy(dict(network))
    if role == 'student' and 'checkpoint' in network:
        raise ValueError(
            f'Expected no `checkpoint` in the student, but got {network["checkpoint"]!r}. It '
            'starts from weights by `load_from` at the top of the config, as any mmseg model.'
        )
    if 'config' not in network:
        if 'type' not in network:
            raise ValueError(
                f'Expected the {role} to have `config` (a config name or path) or `type` (an '
                f'inline model dict), but got only the keys {sorted(network)}.'
            )
        model = ConfigDict(network)
    else:
        name = os.fspath(network.pop('config'))
        try:
            loaded = load_config(name, role)
        except ImportError as error:  # of its `custom_imports`
            check_missing_module(error, f'the config of the {role}, `{name}`,')
            raise
        if 'model' not in loaded:
            raise ValueError(f'Expected the config of the {role}, `{name}`, to define `model`.')
        merged = Config(dict(model=loaded.model.to_dict()))
        _hand_down(loaded.get('data_preprocessor', data_preprocessor), merged.model)
        # list-valued heads (cascades) are overridden by index: decode_head={'1': dict(...)}
        merged.merge_from_dict(dict(model=network), allow_list_keys=True)
        model = merged.model
    check_packages(model, role)
    _check_one_network(model, role)
    _hand_down(data_preprocessor, model)
    return model


def _hand_down(data_preprocessor: dict | None, model: ConfigDict) -> None:
    """Give a model dict the data preprocessor of a config, if it has none, as the Runner does."""
    if data_preprocessor is not None:
        model.setdefault('data_preprocessor', copy.deepcopy(data_preprocessor))


def _check_one_network(model: ConfigDict, role: str) -> None:
    """Raise ValueError if a network is a distiller: what it learnt from would train unseen."""
    from balkd_seg.distillers.base import Distiller  # which imports this module

    if is_kind(model, MODELS, Distiller):
        raise ValueError(
            f'Expected the {role} to be one network, but its config is a distillation itself '
            f'({name_of(model, MODELS)}). Give the config of its student.'
        )


def load_config(name: str, role: str) -> Config:
    """Load a config from an installed package (`scope::path`) or a file.

    Raises:
        ValueError: If it is to come from a package that is not installed.
        FileNotFoundError: If it does not exist.
    """
    name = os.path.expanduser(name)
    if '::' in name:
        from mmengine.config.utils import MODULE2PACKAGE
        from mmengine.hub import get_config

        scope = name.partition('::')[0]
        if scope not in MODULE2PACKAGE or not is_installed(MODULE2PACKAGE[scope]):
            # get_config would install the package from the network without asking
            raise ValueError(
                f'Expected the config of the {role}, `{name}`, to come from an installed OpenMMLab '
                f"package, but there is none of scope '{scope}'. Use 'mmseg::...', install the "
                'package, or give a file.'
            )
        name = name if name.endswith('.py') else f'{name}.py'
        try:
            return get_config(name)
        except (FileNotFoundError, ValueError) as error:
            raise FileNotFoundError(
                f'Expected an installed config for the {role}, but found none named `{name}`. '
                '`mim search mmsegmentation --field model config` lists what mmsegmentation has.'
            ) from error
    if not os.path.isfile(name):
        raise FileNotFoundError(
            f'Expected the config of the {role} at `{name}`, but there is no such file below '
            f'`{os.getcwd()}`. Give a path from the folder you train in, or an installed config '
            "such as 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'."
        )
    return Config.fromfile(name)
