"""Turn what a config says of a network into the model dict that mmseg's registry builds."""

import copy
import os

from mmengine.config import Config, ConfigDict
from mmengine.utils import is_installed

from balkd_seg.distillers.supported import check_missing_module, check_packages


def resolve_model_config(network: dict, role: str) -> ConfigDict:
    """Return the model dict of a network given by config name, path or inline.

    Args:
        network: Either `dict(config=..., **overrides)`, where `config` is an installed config
            (`'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'`) or a file and the
            overrides are merged into its `model` as config inheritance would, or a model dict.
        role: `'student'`, `'teacher'` or another name, for the messages.

    Returns:
        The model dict, with a data preprocessor if the config has one at its top level.

    Raises:
        ValueError: If neither `config` nor `type` is there, the config holds no model, or one that
            needs a package that is not installed.
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
        check_packages(network, role)
        return ConfigDict(network)
    name = network.pop('config')
    try:
        loaded = _load_config(name, role)
    except ImportError as error:  # of its `custom_imports`
        check_missing_module(error, f'the config of the {role}, `{name}`,')
        raise
    if 'model' not in loaded:
        raise ValueError(f'Expected the config of the {role}, `{name}`, to define `model`.')
    model = loaded.model
    if 'data_preprocessor' in loaded and 'data_preprocessor' not in model:
        model.data_preprocessor = loaded.data_preprocessor
    if model.type in ('OfflineDistiller', 'MutualDistiller'):
        raise ValueError(
            f'Expected the config of the {role} to describe one network, but `{name}` is a '
            'distillation itself. Name the config of its student.'
        )
    # list-valued heads (cascades) are overridden by index: decode_head={'1': dict(...)}
    merged = Config(dict(model=model.to_dict()))
    merged.merge_from_dict(dict(model=network), allow_list_keys=True)
    check_packages(merged.model, role)
    return merged.model


def _load_config(name: str, role: str) -> Config:
    """Load a config from an installed package (`scope::path`) or a file."""
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
