"""Store beside the student what training needs to go on exactly where it stopped."""

import logging

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint
from mmseg.registry import HOOKS

from balkd_seg.distillers.distill_term import DistillTerms
from balkd_seg.distillers.peers import Peers
from balkd_seg.hooks._runner import bare_model
from balkd_seg.hooks._scores import check_monitored

_TERMS, _RANDOM = 'distill_state', 'random_state'
_PEERS, _PEERS_NOW = 'peers', 'peers_before_averaging'


@HOOKS.register_module()
class DistillStateHook(Hook):
    """Keep peers, learnt projections and the random state in checkpoints, under keys of their own.

    `checkpoint['state_dict']` stays the stock student. `'peers'` holds the state dict of each peer
    of a `MutualDistiller`, read on resuming and for testing; where mmengine's `EMAHook` makes
    `'state_dict'` the student's moving average, they are averages too, and
    `'peers_before_averaging'` holds what training goes on from. `'distill_state'` is written when
    the distillation terms have weights. `'random_state'` is PyTorch's, so that dropout goes on as
    in a run that was never stopped; mmengine itself replays the data, the same if
    `randomness.seed` is set. It is one process's state, so it is left out of distributed training.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._resumed: dict | None = None
        self._before_val: dict | None = None

    def before_train(self, runner: Runner) -> None:
        """Tell the terms that their weights are stored.

        Raises:
            ValueError: If a moving average would leave out the peers, or a score is to choose the
                best checkpoint that there will not be.
        """
        check_monitored(runner)
        terms = _distill_terms(runner)
        if terms is not None:
            terms.are_stored = True
        if any(hook.ema_model.update_buffers for hook in _averaging(runner)):
            raise ValueError(
                'Expected `update_buffers` of the EMAHook to be False with a MutualDistiller, but '
                'got True: it averages the state dict, which is that of the student alone.'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add peers, the terms' weights and the random state to the checkpoint."""
        peers = _peers(runner)
        if peers is not None:
            checkpoint[_PEERS] = _on_cpu(peers)
            for hook in _averaging(runner):
                checkpoint[_PEERS_NOW] = checkpoint[_PEERS]
                checkpoint[_PEERS] = _on_cpu(_averages(hook, peers))
        _warn_of_open_accumulation(runner)
        terms = _distill_terms(runner)
        state = terms.beside_state_dict() if terms is not None else {}
        if state:
            checkpoint[_TERMS] = {key: value.cpu() for key, value in state.items()}
        if get_world_size() == 1:
            checkpoint[_RANDOM] = _random_state()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore peers, and on resuming the rest; the random state when training goes on."""
        self._load_peers(runner, checkpoint)
        if not runner._resume:
            return
        if get_world_size() == 1:
            self._resumed = checkpoint.get(_RANDOM)
        terms = _distill_terms(runner)
        if terms is None or not terms.beside_state_dict():
            return
        if _TERMS in checkpoint:
            terms.load_beside_state_dict(checkpoint[_TERMS])
        else:
            print_log(
                'The checkpoint holds no distillation projections: they start anew.',
                logger='current',
            )

    def _load_peers(self, runner: Runner, checkpoint: dict) -> None:
        """Load the peers, except where training starts from a student (`load_from`)."""
        peers = _peers(runner)
        if peers is None:
            return
        training = isinstance(runner._train_loop, BaseLoop)
        if training and not runner._resume:
            return
        if _PEERS in checkpoint:
            path = runner._load_from or find_latest_checkpoint(runner.work_dir) or '?'
            now = checkpoint.get(_PEERS_NOW) if training else None
            peers.load_beside_state_dict(now or checkpoint[_PEERS], path)
            for hook in _averaging(runner):
                _averages(hook).load_beside_state_dict(checkpoint[_PEERS], path)
        elif training:
            raise ValueError(
                'Expected the checkpoint to resume from to hold the peers of a MutualDistiller, '
                'but it holds the student alone. Resume from one that training wrote with '
                "dict(type='DistillStateHook') in custom_hooks, or start from it with `load_from`."
            )
        else:
            print_log(
                f'The checkpoint holds the student alone, not {", ".join(peers)}: only the student '
                'is tested.',
                logger='current',
                level=logging.WARNING,
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None
    ) -> None:
        """Restore the random state once, after mmengine has replayed the data."""
        if self._resumed is not None:
            _set_random_state(self._resumed)
            self._resumed = None

    def before_val(self, runner: Runner) -> None:
        """Remember the random state: a data loader draws from it, which a resumed run skips.

        Averages of peers that have not begun are brought up to date, before `EMAHook` validates
        them.
        """
        self._before_val = _random_state()
        for hook in _averaging(runner):
            _averages(hook, _peers(runner))

    def after_val(self, runner: Runner) -> None:
        """Leave no trace of the validation in the random state."""
        if self._before_val is not None:
            _set_random_state(self._before_val)
            self._before_val = None


def _random_state() -> dict:
    """Return PyTorch's random state on the CPU and every CUDA device."""
    return dict(cpu=torch.get_rng_state(), cuda=torch.cuda.get_rng_state_all())


def _set_random_state(state: dict) -> None:
    """Set PyTorch's random state; CUDA's only where there are as many devices."""
    torch.set_rng_state(state['cpu'].cpu())
    if len(state['cuda']) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([device.cpu() for device in state['cuda']])


def _distill_terms(runner: Runner) -> DistillTerms | None:
    """Return the terms of the runner's model, or None if it is no distiller."""
    return getattr(bare_model(runner), 'distill_terms', None)


def _peers(runner: Runner) -> Peers | None:
    """Return the peers of the runner's model, or None if it has none."""
    return getattr(bare_model(runner), 'peers', None)


def _averaging(runner: Runner) -> list[EMAHook]:
    """Return the hooks that keep moving averages of a model with peers."""
    if _peers(runner) is None:
        return []
    hooks = [hook for hook in getattr(runner, 'hooks', ()) if isinstance(hook, EMAHook)]
    return [hook for hook in hooks if hasattr(hook, 'ema_model')]


def _averages(hook: EMAHook, now: Peers | None = None) -> Peers:
    """Return the averages of peers; before there are any, what they are `now`.

    mmengine copies the model before it has weights, and then only what is in the state dict.
    """
    averages: Peers = hook.ema_model.module.peers
    if now is not None and hook.ema_model.steps == 0:
        averages.load_beside_state_dict(now.beside_state_dict(), 'of this run')
    averages.is_trained = True
    return averages


def _on_cpu(peers: Peers) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {key: value.cpu() for key, value in weights.items()}
        for name, weights in peers.beside_state_dict().items()
    }


def _warn_of_open_accumulation(runner: Runner) -> None:
    """Say so if gradients are accumulated that no checkpoint holds."""
    wrapper = getattr(runner, 'optim_wrapper', None)
    if not isinstance(wrapper, OptimWrapper) or runner.iter + 1 >= runner.max_iters:
        return
    rest = wrapper._inner_count % wrapper._accumulative_counts
    if rest:
        print_log(
            f'This checkpoint lacks the gradients of {rest} of {wrapper._accumulative_counts} '
            'accumulated iterations: a run resumed from it will differ. Save at multiples of '
            'accumulative_counts (default_hooks.checkpoint.interval).',
            logger='current',
            level=logging.WARNING,
        )
