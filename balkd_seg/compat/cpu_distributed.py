"""Distributed training on CPU processes, which mmengine's launcher cannot start by itself."""

import os

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import distributed, nn


class CPUDistributedRunner(Runner):
    """A Runner whose networks use BN in place of SyncBN, which needs a GPU."""

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Convert SyncBN, then wrap for distributed training without device ids."""
        wrapper = dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get('find_unused_parameters', False),
        )
        wrapper.update(model_wrapper_cfg or {}, device_ids=None)
        return super().wrap_model(wrapper, revert_sync_batchnorm(model))


def build_runner(cfg: Config) -> Runner:
    """Build mmengine's Runner; with a launcher but without CUDA, one on gloo processes.

    mmengine's launcher calls `torch.cuda.set_device`; it leaves a process group alone that is
    already there, so the group is started here.

    Args:
        cfg: A complete config with `work_dir` and `launcher`.
    """
    if cfg.get('launcher', 'none') == 'none' or torch.cuda.is_available():
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if not distributed.is_initialized():
        for name in ('RANK', 'WORLD_SIZE'):
            if name not in os.environ:
                raise ValueError(
                    f'Expected the environment variable `{name}` with launcher {cfg.launcher!r} on '
                    'CPU processes, but it is not set. Start them with '
                    '`torchrun --nproc_per_node=2 tools/train.py CONFIG --launcher pytorch`.'
                )
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
        distributed.init_process_group('gloo')
    return CPUDistributedRunner.from_cfg(cfg)
