"""Read the output of submodules, by dotted path, during somebody else's forward."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def logits_head(model: nn.Module) -> nn.Module:
    """Return the head that predicts: the decode head, or the last one of a cascade."""
    head: Any = model.decode_head
    return head[-1] if isinstance(head, nn.ModuleList) else head


def logits_path(model: nn.Module) -> str:
    """Return the path of the module whose output is the logits of an mmseg segmentor.

    Forward hooks on `decode_head` itself never fire in training, because mmseg's heads call their
    own `forward`; hooks on `conv_seg` do.

    Args:
        model: An `EncoderDecoder` or `CascadeEncoderDecoder` (its last head).
    """
    if isinstance(model.decode_head, nn.ModuleList):
        return f'decode_head.{len(model.decode_head) - 1}.conv_seg'
    return 'decode_head.conv_seg'


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


@contextmanager
def record_taps(model: nn.Module, paths: Sequence[str], role: str) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of submodules while the block runs the model.

    Args:
        model: The network that runs inside the block.
        paths: Dotted module paths.
        role: `'student'` or `'teacher'`, for the messages.

    Yields:
        A dict that maps each path to its output (of the last call) once the model has run.
    """
    outputs: dict[str, Tensor] = {}
    versions: dict[str, int] = {}

    def hook_for(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs[path] = output
            versions[path] = getattr(output, '_version', 0)

        return hook

    handles = [find_tap(model, path, role).register_forward_hook(hook_for(path)) for path in paths]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
    for path in paths:
        if not isinstance(outputs.get(path), Tensor):
            got = 'was not called' if path not in outputs else f'gave {type(outputs[path])}'
            raise ValueError(
                f'Expected the tap `{path}` of the {role} to give one tensor in a training step, '
                f'but it {got}. Tap a module such as `{logits_path(model)}`.'
            )
        if outputs[path]._version != versions[path]:
            raise ValueError(
                f'Expected the output of the tap `{path}` of the {role} to stay as it is, but a '
                'later layer overwrites it in place. Tap the module around it, for example a stage.'
            )
