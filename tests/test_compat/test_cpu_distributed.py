"""Runners on CPU processes; the two-process run itself is in test_end_to_end.py."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

from balkd_seg.compat.cpu_distributed import CPUDistributedRunner, build_runner


@pytest.fixture
def config(tmp_path):
    loader = dict(dataset=[0, 1], batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
    return Config(
        dict(
            model=dict(type='ToyModel'),
            work_dir=str(tmp_path),
            train_dataloader=loader,
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_scope='mmseg',
            experiment_name=tmp_path.name,
            launcher='none',
        )
    )


@pytest.fixture(autouse=True)
def _toy_model():
    from mmengine.model import BaseModel
    from mmseg.registry import MODELS

    class ToyModel(BaseModel):
        def __init__(self):
            super().__init__()
            self.norm = nn.SyncBatchNorm(2)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return inputs

    MODELS.register_module(module=ToyModel)
    yield
    MODELS.module_dict.pop('ToyModel')


def test_without_launcher_the_runner_is_mmengines(config):
    runner = build_runner(config)
    assert type(runner).__name__ == 'Runner'


def test_a_launcher_without_processes_says_how_to_start_them(config, monkeypatch):
    for name in ('RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    config.launcher = 'pytorch'
    with pytest.raises(ValueError, match=r'variable `RANK` with launcher .pytorch.*torchrun'):
        build_runner(config)


@pytest.mark.filterwarnings('ignore')
def test_one_gloo_process_wraps_for_the_cpu_and_reverts_sync_bn(config, monkeypatch):
    for name, value in dict(
        RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='0'
    ).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    config.launcher = 'pytorch'
    try:
        runner = build_runner(config)
        assert isinstance(runner, CPUDistributedRunner)
        assert runner.model.device_ids is None
        assert not isinstance(runner.model.module.norm, nn.SyncBatchNorm)
    finally:
        torch.distributed.destroy_process_group()
