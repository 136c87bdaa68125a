"""Check the fused kernels in every form that the shipped configs use, as `doctor.py` does.

A form is what decides which kernels are compiled (`balkd_seg.ops._form`): it is read from what each
config's losses would hand to them, with networks and images that have shapes and no memory.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from doctor_packages import Finding, import_error

CONFIGS = Path(__file__).parents[1] / 'configs'
# anneal=True has one term at the first iteration, and both later
MOMENTS = (0, 1)


def check_kernels(configs: Path = CONFIGS) -> Iterator[Finding]:
    """Hold the kernels to the chunked implementation, on this machine's GPU.

    With TRITON_INTERPRET=1 in Triton's interpreter, which takes minutes.
    """
    name = 'kernels'
    for module in ('torch', 'balkd_seg'):
        if import_error(module):
            yield Finding('note', name, f'not checked: {module} does not import')
            return
    import torch

    device = torch.device('cuda', 0)
    if not torch.cuda.is_available():
        if os.environ.get('TRITON_INTERPRET') != '1':
            yield Finding(
                'note', name, 'not checked: there is no GPU (optional), which they are for'
            )
            return
        device = torch.device('cpu')
    from balkd_seg.ops._select import why_no_kernels
    from balkd_seg.ops._trust import describe, find_fault

    if reason := why_no_kernels(device):
        yield Finding('note', name, f'not checked, and not used: {reason}')
        return

    yield Finding('ok', name, describe(device))
    for form, (problem, used) in forms_of(configs, device).items():
        start = time.perf_counter()
        fault = find_fault(form, problem)
        took = time.perf_counter() - start
        text = f'{took:5.1f} s, {len(used):2} config{"s" * (len(used) > 1)}: {form}'
        remedy = "report it; impl='auto' does without, and impl='chunked' asks for no kernel"
        yield (
            Finding('wrong', name, f'{fault}; {text}', remedy)
            if fault
            else Finding('ok', name, text)
        )


def forms_of(configs: Path, device: Any) -> dict[Any, tuple[Any, list[str]]]:
    """Return, for each form that configs ask for, a problem and the names of the configs.

    Args:
        configs: A folder with a folder of configs for each method.
        device: Where the forms are for, a `torch.device`.
    """
    from mmengine.config import utils
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    found: dict[Any, tuple[Any, list[str]]] = {}
    known: dict[str, Any] = {}
    with mock.patch.object(utils, 'load', functools.cache(utils.load)):  # 50 metafiles of mmseg
        for path in sorted(configs.glob('[!_]*/*.py')):
            for form, problem in _forms_of_config(path, known):
                used = found.setdefault(form._replace(device=device), (problem, []))[1]
                if path.stem not in used:
                    used.append(path.stem)
    return found


def _forms_of_config(path: Path, known: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the forms of a config, each with a problem; `known` as in `_logits`."""
    from mmengine.config import Config
    from mmseg.registry import MODELS

    from balkd_seg.distillers.base import Distiller
    from balkd_seg.distillers.distill_term import DistillTerm
    from balkd_seg.kinds import is_kind
    from balkd_seg.losses import BalancedDivergenceLoss

    cfg = Config.fromfile(path)
    if not is_kind(cfg.model, MODELS, Distiller):
        return
    # before any network is built
    entries = [x for x in cfg.model.distill if is_kind(x, MODELS, BalancedDivergenceLoss)]
    names = ['student', *(['teacher'] if 'teacher' in cfg.model else cfg.model.peers)]
    shape = cfg.train_dataloader.batch_size, *cfg.crop_size
    dtype = _dtype_of_logits(cfg)
    for entry in map(dict, entries):
        learner = entry.pop('learner', 'student')
        source = entry.pop('source', None) or next(name for name in names if name != learner)
        network, student = _logits(cfg, learner, shape, known)
        teacher = _logits(cfg, source, shape, known)[1]
        loss: Any = DistillTerm(entry, network, learner).loss
        yield from _forms_of_loss(loss, student.to(dtype), teacher.to(dtype), shape)


def _dtype_of_logits(cfg: Any) -> Any:
    """Return the dtype that networks of a config score in, which mixed precision changes."""
    import torch
    from mmengine.optim import AmpOptimWrapper
    from mmseg.registry import OPTIM_WRAPPERS

    from balkd_seg.kinds import is_kind

    if not is_kind(cfg.optim_wrapper, OPTIM_WRAPPERS, AmpOptimWrapper):
        return torch.float32
    name = cfg.optim_wrapper.get('dtype') or 'float16'  # autocast's own on a GPU
    return getattr(torch, str(name).removeprefix('torch.'))


def _logits(cfg: Any, name: str, shape: tuple[int, ...], known: dict[str, Any]) -> tuple[Any, Any]:
    """Return a network of a config, and its logits for images (N, H, W); neither has memory.

    Args:
        cfg: The config.
        name: Of one of its networks.
        shape: Of the images.
        known: What was returned before: configs share networks.
    """
    import torch
    from mmengine.model import revert_sync_batchnorm
    from mmseg.registry import MODELS

    from balkd_seg.distillers.taps import logits_path, record_taps
    from balkd_seg.networks.build import network_config

    model = network_config(cfg, name)
    model.update(auxiliary_head=None)
    key = f'{shape} {model}'
    if key not in known:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            network = revert_sync_batchnorm(MODELS.build(model)).eval().to('meta')
            path = logits_path(network)
            with torch.no_grad(), record_taps(network, [path], name) as outputs:
                network._forward(torch.empty(shape[0], 3, *shape[1:], device='meta'))
        known[key] = network, outputs[path]
    return known[key]


def _forms_of_loss(
    loss: Any, student: Any, teacher: Any, shape: tuple[int, ...]
) -> Iterator[tuple[Any, Any]]:
    """Yield the forms in which a loss calls the kernels, at the start and later."""
    import torch
    from mmengine.logging import MessageHub
    from torch._subclasses.fake_tensor import FakeTensorMode

    from balkd_seg.ops._form import Form
    from balkd_seg.ops._select import why_no_form

    operation = sys.modules['balkd_seg.ops.balanced_divergence']
    solve, seen = operation.solve, []

    def noted(impl: str, student: Any, teacher: Any, problem: Any, *rest: Any) -> Any:
        seen.append((student, teacher, problem))
        return solve(impl, student, teacher, problem, *rest)

    hub = MessageHub.get_current_instance()
    for moment in MOMENTS:
        hub.update_info_dict(dict(iter=moment, max_iters=2))
        with mock.patch.object(operation, 'solve', noted), FakeTensorMode():
            given = student, teacher
            pair = [torch.empty_strided(z.shape, z.stride(), dtype=z.dtype) for z in given]
            loss(pair[0].requires_grad_(), pair[1], torch.zeros(shape, dtype=torch.long))
    for *pair, problem in seen:
        if why_no_form(*pair, problem.valid, problem.positions) is None:
            yield Form.of(*pair, problem, (True, False)), problem
