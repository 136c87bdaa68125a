"""What the hooks ask of a runner."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def bare_model(runner: Runner) -> nn.Module:
    """Return the model of a runner without what distributes it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
