"""Mixed precision on every device: mmengine 0.10 refuses it without an accelerator."""

from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """mmengine's `AmpOptimWrapper`, which on a CPU computes in bfloat16.

    Registered in mmseg's scope, it is what `AmpOptimWrapper` means in an mmseg config. On an
    accelerator it is the original. On a CPU, bfloat16 needs no loss scaling: its scaler is off.

    Args:
        loss_scale: As in mmengine; unused on a CPU.
        dtype: As in mmengine; on a CPU only `bfloat16` (also the default there).
        kwargs: The arguments of mmengine's `OptimWrapper`, and `use_fsdp` on an accelerator.

    Raises:
        ValueError: If another dtype is asked for on a CPU.
    """

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        if get_device() != 'cpu':
            super().__init__(loss_scale=loss_scale, dtype=dtype, **kwargs)
            return
        if dtype not in (None, 'bfloat16', torch.bfloat16):
            raise ValueError(
                f"Expected `dtype` 'bfloat16' for mixed precision on a CPU, but got {dtype!r}. "
                "Set optim_wrapper.dtype='bfloat16' or train on a GPU."
            )
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = _scaler_that_is_off()
        self.cast_dtype = torch.bfloat16


def _scaler_that_is_off() -> Any:
    """Return a loss scaler by the name that it has from PyTorch 2.3 on, or had before."""
    if hasattr(torch.amp, 'GradScaler'):
        return torch.amp.GradScaler('cpu', enabled=False)
    return torch.cuda.amp.GradScaler(enabled=False)
