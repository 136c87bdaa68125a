"""A teacher that is frozen in every sense, built and strictly loaded when training starts."""

from collections.abc import Callable, Sequence

import torch
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import MODELS
from torch import Tensor

from balkd_seg.distillers.checkpoint import checkpoint_classes, load_strictly, read_checkpoint
from balkd_seg.distillers.failures import blaming
from balkd_seg.distillers.model_config import resolve_model_config
from balkd_seg.distillers.renormalise import Renormalise
from balkd_seg.distillers.supported import check_heads
from balkd_seg.distillers.taps import record_taps


class FrozenTeacher:
    """A network that only answers: in eval mode, without gradient, no part of any other module.

    It is no `nn.Module`, so the module that owns it neither saves it nor offers its parameters to
    an optimiser. A deep copy of the owner (an EMA of the student, say) shares it.

    Args:
        config: `dict(config=..., checkpoint=..., **overrides)` or an inline model dict with
            `checkpoint`; see `resolve_model_config`.
        student: The network whose data preprocessor makes the inputs; where the teacher's own
            differs in mean, std or channel order, inputs are converted.
        data_preprocessor: For a teacher that has none in its own config.

    Raises:
        FileNotFoundError: If the config or checkpoint is missing.
        ValueError: If the checkpoint does not fit the network or is unsafe to load.
    """

    def __init__(
        self, config: dict, student: BaseSegmentor, data_preprocessor: dict | None = None
    ) -> None:
        config = dict(config)
        self.checkpoint = config.pop('checkpoint', None)
        classes = config.pop('classes', None)
        if not self.checkpoint:
            raise ValueError(
                'Expected `checkpoint` in the teacher of an OfflineDistiller, but got none. Set '
                'model.teacher.checkpoint to a file or URL of a trained teacher.'
            )
        model = resolve_model_config(config, 'teacher', data_preprocessor)
        check_heads(model, 'teacher')
        model.update(pretrained=None, auxiliary_head=None)
        # SyncBN in eval mode equals BN, but refuses to run on a CPU
        self.network = revert_sync_batchnorm(MODELS.build(model))
        checkpoint = read_checkpoint(self.checkpoint, 'teacher', 'model.teacher')
        load_strictly(self.network, checkpoint, self.checkpoint, 'teacher', 'model.teacher')
        self.network.eval().requires_grad_(False)
        self.classes = tuple(classes) if classes else checkpoint_classes(checkpoint)
        self._renormalise = Renormalise.between(student, self.network, 'teacher')
        millions = sum(parameter.numel() for parameter in self.network.parameters()) / 1e6
        print_log(
            f'Teacher: {type(self.network.backbone).__name__} with {millions:.1f} M parameters, '
            f'every weight loaded from {self.checkpoint}',
            logger='current',
        )

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        return self

    def apply_(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Apply what `nn.Module.to` applies to its tensors."""
        self.network._apply(fn)
        self._renormalise._apply(fn)

    @torch.no_grad()
    def __call__(
        self, inputs: Tensor, paths: Sequence[str], resting: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Run the teacher up to its logits and return what the taps gave.

        Args:
            inputs: Images as the student sees them, (N, channels, H, W).
            paths: Dotted module paths.
            resting: Those of terms without weight. They are looked at too, because a compiled
                forward does not notice hooks that come later, but nothing is asked of them.

        Raises:
            ValueError: If an output is NaN or +inf, or the teacher itself raises; names it.
        """
        with record_taps(self.network, [*paths, *resting], 'teacher') as outputs:
            images = self._renormalise(inputs)
            with blaming(self.network, 'teacher', images):
                self.network(images, mode='tensor')
        for path in dict.fromkeys(paths):
            # -inf is a class ruled out; the logger of every iteration synchronises anyway
            if not bool((outputs[path] < torch.inf).all()):
                raise ValueError(
                    f'Expected finite outputs of the teacher at `{path}`, but got NaN or +inf. The '
                    f'teacher is {type(self.network.backbone).__name__} from {self.checkpoint}. '
                    'Check its checkpoint and normalisation, or train in bfloat16 or float32.'
                )
        return outputs
