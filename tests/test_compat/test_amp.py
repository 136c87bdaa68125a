"""Mixed precision on a CPU."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper


def wrapper_of(model, **settings):
    from mmengine.registry import DefaultScope

    config = dict(type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1), **settings)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return build_optim_wrapper(model, config)


def test_cpu_trains_in_bfloat16_and_keeps_float32_weights():
    model = torch.nn.Linear(4, 2)
    wrapper = wrapper_of(model, loss_scale='dynamic')
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        output = model(torch.randn(3, 4))
    assert output.dtype == torch.bfloat16
    wrapper.update_params(output.float().square().mean())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)


def test_state_comes_back():
    model = torch.nn.Linear(4, 2)
    wrapper = wrapper_of(model)
    wrapper_of(model).load_state_dict(wrapper.state_dict())


def test_float16_is_refused_on_a_cpu():
    with pytest.raises(
        ValueError, match="'bfloat16' for mixed precision on a CPU, but got 'float16'"
    ):
        wrapper_of(torch.nn.Linear(4, 2), dtype='float16')
