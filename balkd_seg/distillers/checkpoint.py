"""Read a teacher's checkpoint and load it without mercy: every key, every shape, no code."""

import os
import pickle
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_local_rank
from torch import nn

# A teacher's auxiliary head only serves its own training, so it is neither built nor loaded.
_UNUSED_PREFIX = 'auxiliary_head.'


def read_checkpoint(path: str, role: str) -> dict[str, Any]:
    """Read a checkpoint file or URL with `weights_only=True`.

    Args:
        path: A file, or an http(s) URL, which is kept in PyTorch's hub cache.
        role: What the checkpoint is for, in messages: `'teacher'`.

    Returns:
        The checkpoint as saved, on the CPU.

    Raises:
        FileNotFoundError: If the file is missing or the URL cannot be reached.
        ValueError: If it is no checkpoint, is truncated, or would run code when loaded.
    """
    file = _download(path, role) if urlparse(path).scheme in ('http', 'https') else path
    if not os.path.isfile(file):
        raise FileNotFoundError(
            f'Expected the checkpoint of the {role} at `{path}`, but there is no such file. '
            f'Set model.{role}.checkpoint to a file or URL, for example with '
            f'--cfg-options model.{role}.checkpoint=PATH.'
        )
    try:
        checkpoint = torch.load(file, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, ValueError) as error:
        raise ValueError(
            f'Expected the checkpoint of the {role}, `{path}`, to hold weights and plain values '
            'only, but it is malformed or asks for code to be run. Nothing of it was run. Do not '
            f'trust the file; train or download it again. PyTorch says: {_first_line(error)}'
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError) as error:
        raise ValueError(
            f'Expected the checkpoint of the {role}, `{path}`, to be a complete PyTorch file, but '
            f'reading it failed; it is probably truncated. Copy or download it again. '
            f'PyTorch says: {_first_line(error)}'
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f'Expected the checkpoint of the {role}, `{path}`, to be a dict, but got '
            f'{type(checkpoint).__name__}.'
        )
    return checkpoint


def load_strictly(network: nn.Module, checkpoint: dict[str, Any], path: str, role: str) -> None:
    """Load every weight of a network, or nothing and raise.

    Args:
        network: Built without auxiliary head.
        checkpoint: From `read_checkpoint`, with or without `'state_dict'` around the weights.
        path: Where it came from, for the message.
        role: Whose it is, for the message.

    Raises:
        ValueError: If a key is missing or too many, or a shape differs; names the first of each.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {key.removeprefix('module.'): value for key, value in weights.items()}
    weights = {k: v for k, v in weights.items() if not k.startswith(_UNUSED_PREFIX)}
    expected = network.state_dict()
    missing = [k for k in expected if k not in weights and 'num_batches_tracked' not in k]
    unexpected = [k for k in weights if k not in expected]
    shapes = [
        f'{k} {tuple(weights[k].shape)} instead of {tuple(expected[k].shape)}'
        for k in expected
        if k in weights and weights[k].shape != expected[k].shape
    ]
    if missing or unexpected or shapes:
        raise ValueError(
            f'Expected the checkpoint `{path}` to fit the {role} exactly, but it belongs to '
            f'another architecture or class count: {_few("missing", missing)}; '
            f'{_few("unexpected", unexpected)}; {_few("other shape", shapes)}. '
            f'Give the config that the checkpoint was trained with as model.{role}.config.'
        )
    network.load_state_dict(weights, strict=False)


def checkpoint_classes(checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the class names a checkpoint was trained with, in order, or None if it has none."""
    meta = checkpoint.get('meta') or {}
    classes = (meta.get('dataset_meta') or {}).get('classes') or meta.get('CLASSES')
    return tuple(classes) if classes else None


def _download(url: str, role: str) -> str:
    """Download a URL into PyTorch's hub cache once per machine and return the file's path."""
    name = os.path.basename(urlparse(url).path)
    file = os.path.join(torch.hub.get_dir(), 'checkpoints', name)
    error: Exception | None = None
    if get_local_rank() == 0 and not os.path.isfile(file):
        os.makedirs(os.path.dirname(file), exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, file)
        except (URLError, OSError, RuntimeError) as caught:
            error = caught
    barrier()
    if error is not None or not os.path.isfile(file):
        raise FileNotFoundError(
            f'Expected to download the checkpoint of the {role} from `{url}`, but that failed '
            f'({_first_line(error) if error else "on another process"}). Download it by hand and '
            f'set --cfg-options model.{role}.checkpoint=PATH.'
        ) from error
    return file


def _few(what: str, items: list[str], limit: int = 3) -> str:
    """Describe a list by its length and its first items."""
    shown = ', '.join(items[:limit]) + (', …' if len(items) > limit else '')
    return f'{len(items)} {what}' + (f' ({shown})' if items else '')


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters."""
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:200]
