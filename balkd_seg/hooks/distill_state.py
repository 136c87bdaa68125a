"""Store what a distiller learns besides the student, beside the student."""

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from balkd_seg.distillers.distill_term import DistillTerms

_KEY = 'distill_state'


@HOOKS.register_module()
class DistillStateHook(Hook):
    """Keep learnt projections in checkpoints, under a key of their own, so that training resumes.

    `checkpoint['state_dict']` stays the stock student; `checkpoint['distill_state']` is written only
    when the distillation terms have weights.
    """

    priority = 'VERY_LOW'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the terms' weights to the checkpoint."""
        terms = _distill_terms(runner)
        state = terms.beside_state_dict() if terms is not None else {}
        if state:
            checkpoint[_KEY] = {key: value.cpu() for key, value in state.items()}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the terms' weights from the checkpoint."""
        terms = _distill_terms(runner)
        if terms is None or not terms.beside_state_dict():
            return
        if _KEY in checkpoint:
            terms.load_beside_state_dict(checkpoint[_KEY])
        else:
            print_log(
                'The checkpoint holds no distillation projections: they start anew.',
                logger='current',
            )


def _distill_terms(runner: Runner) -> DistillTerms | None:
    """Return the terms of the runner's model, or None if it is no distiller."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return getattr(model, 'distill_terms', None)
