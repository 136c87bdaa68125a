"""Read what heads and other submodules give, by dotted path, during somebody else's forward."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmseg.models.decode_heads import DAHead, DDRHead, EncHead, IterativeDecodeHead, PIDHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

# Which of several outputs a stock head predicts from: of K-Net the last stage.
_PREDICTED = {DAHead: 0, DDRHead: 0, EncHead: 0, PIDHead: 1, IterativeDecodeHead: -1}


def logits_head(model: nn.Module) -> nn.Module:
    """Return the head that predicts: the decode head, or the last one of a cascade."""
    head: Any = model.decode_head
    return head[-1] if isinstance(head, nn.ModuleList) else head


def logits_path(model: nn.Module) -> str:
    """Return the tap that gives the logits of an mmseg segmentor: the path of `logits_head`.

    Args:
        model: An `EncoderDecoder` or `CascadeEncoderDecoder` (its last head).
    """
    if isinstance(model.decode_head, nn.ModuleList):
        return f'decode_head.{len(model.decode_head) - 1}'
    return 'decode_head'


def task_losses(head: Any) -> list[nn.Module]:
    """Return the losses that a head trains by; those of K-Net are its first stage's."""
    losses = getattr(head, 'kernel_generate_head', head).loss_decode
    return list(losses) if isinstance(losses, nn.ModuleList) else [losses]


def find_tap(model: nn.Module, path: str, role: str) -> nn.Module:
    """Return the submodule at a dotted path.

    Raises:
        ValueError: If there is none; names the children at the last place that exists.
    """
    module = model
    for depth, name in enumerate(path.split('.')):
        children = dict(module.named_children())
        if name not in children:
            reached = '.'.join(path.split('.')[:depth]) or 'the model'
            raise ValueError(
                f'Expected the tap `{path}` to be a module of the {role}, but `{reached}` has no '
                f'`{name}`. It has: {", ".join(children) or "no modules"}.'
            )
        module = children[name]
    return module


class TapError(ValueError):
    """A module gives something else than what a tap has to give."""


class Listener:
    """Shows what a module gives to a function, until it is removed.

    A head shows its logits: what its `forward` returns, which is what it hands to `loss_by_feat`.
    mmseg calls `forward` of a head by name, so that forward hooks on it never fire; here the
    instance's `forward` is replaced as long as somebody listens. Of several outputs the one that
    the head predicts from is shown.

    Args:
        module: A module of an mmseg segmentor.
        listen: Called with the module and its output.
    """

    def __init__(self, module: nn.Module, listen: Callable[[nn.Module, Any], None]) -> None:
        self.module, self.listen = module, listen
        self._handle: Any = None
        if isinstance(module, BaseDecodeHead):
            if not isinstance(vars(module).get('forward'), _ShownForward):
                module.forward = _ShownForward(module)
            module.forward.listeners.append(self)
        else:
            self._handle = module.register_forward_hook(self._hear)

    @torch.compiler.disable
    def hear(self, output: Any) -> None:
        """Show an output, never in compiled code: there versions of tensors count otherwise."""
        self.listen(self.module, output)

    @torch.compiler.disable
    def _hear(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.listen(module, output)

    def remove(self) -> None:
        """Leave the module as it was."""
        if self._handle is not None:
            self._handle.remove()
            return
        shown: Any = self.module.forward
        shown.listeners.remove(self)
        if not shown.listeners:
            shown.restore()


class _ShownForward:
    """Stands for a head's `forward` while somebody listens."""

    def __init__(self, head: Any) -> None:
        self.head, self.listeners = head, list[Listener]()
        self.own = vars(head).get('forward')  # set on the instance before, say by torch.compile
        self.forward = head.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.forward(*args, **kwargs)
        logits = _logits_of(self.head, output)
        for listener in tuple(self.listeners):
            listener.hear(logits)
        return output

    def restore(self) -> None:
        """Put back what was there."""
        if self.own is None:
            del self.head.forward
        else:
            self.head.forward = self.own


def _logits_of(head: Any, output: Any) -> Any:
    """Return the logits (N, C, h, w) in what a head's forward returned.

    Raises:
        TapError: If a head that is not mmseg's own returns several things that could be meant.
    """
    if not isinstance(output, (tuple, list)):
        return output
    for kind, index in _PREDICTED.items():
        if isinstance(head, kind):
            return output[index]
    maps = [x for x in output if isinstance(x, Tensor) and x.ndim == 4]
    found = [x for x in maps if x.shape[1] == head.out_channels]
    if len(found) == 1:
        return found[0]
    raise TapError(
        f'Expected {type(head).__name__} to give {head.out_channels} logits a pixel, but got '
        f'{len(output)} outputs of which {len(found)} could be them. Name the module that gives '
        'them as `student_tap` or `teacher_tap` in the entries of `distill`.'
    )


@contextmanager
def record_taps(model: nn.Module, paths: Sequence[str], role: str) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of submodules while the block runs the model.

    Args:
        model: The network that runs inside the block.
        paths: Dotted module paths; that of a head stands for its logits.
        role: `'student'` or `'teacher'`, for the messages.

    Yields:
        A dict that maps each path to its output (of the last call) once the model has run.
    """
    outputs: dict[str, Tensor] = {}
    versions: dict[str, int] = {}

    def note(path: str) -> Callable[[nn.Module, Any], None]:
        def listen(module: nn.Module, output: Any) -> None:
            outputs[path] = output
            versions[path] = getattr(output, '_version', 0)

        return listen

    modules = {path: find_tap(model, path, role) for path in paths}
    listeners = [Listener(module, note(path)) for path, module in modules.items()]
    try:
        yield outputs
    finally:
        for listener in listeners:
            listener.remove()
    for path in paths:
        if not isinstance(outputs.get(path), Tensor):
            got = 'was not called' if path not in outputs else f'gave {type(outputs[path])}'
            old = ''
            if path not in outputs and not hasattr(torch.compiler, 'set_stance'):
                old = (
                    ' Beside compile= that needs PyTorch 2.6: compiled code left hooks out before.'
                )
            raise ValueError(
                f'Expected the tap `{path}` of the {role} to give one tensor in a training step, '
                f'but it {got}. Tap a module such as `{logits_path(model)}`.{old}'
            )
        if outputs[path]._version != versions[path]:
            raise ValueError(
                f'Expected the output of the tap `{path}` of the {role} to stay as it is, but a '
                'later layer overwrites it in place. Tap the module around it, for example a stage.'
            )
