"""Register an operator with PyTorch by the interface that the installed version has.

From 2.4 on that is `torch.library.custom_op`, given the schema: its own reading of a signature
knows `list[float]` from 2.6 on only. Before, `torch.library.Library` does it step by step.
"""

from collections.abc import Callable
from typing import Any

import torch


def operator(name: str, schema: str) -> Callable[[Callable], Any]:
    """Return a decorator that makes an operator of a function without side effects.

    Args:
        name: `'namespace::name'`.
        schema: What it takes and returns, in PyTorch's schema language, without the name.
    """
    if hasattr(torch.library, 'custom_op'):
        return torch.library.custom_op(name, mutates_args=(), schema=schema)
    return lambda function: LibraryOperator(name, schema, function)


class LibraryOperator:
    """What `custom_op` returns, as far as it is needed, on a PyTorch that lacks it.

    Args:
        name: `'namespace::name'`.
        schema: As in `operator`.
        function: Computes the outputs, on any device.
    """

    def __init__(self, name: str, schema: str, function: Callable) -> None:
        namespace, self._name = name.split('::')
        self._init_fn = function
        self._library = torch.library.Library(namespace, 'FRAGMENT')
        self._library.define(self._name + schema)
        for device in ('CPU', 'CUDA'):
            self._library.impl(self._name, function, device)
        self._operator = getattr(getattr(torch.ops, namespace), self._name).default

    def __call__(self, *args: Any) -> Any:
        """Call the operator through PyTorch's dispatcher."""
        return self._operator(*args)

    def register_fake(self, function: Callable) -> Callable:
        """Register what gives the outputs' shapes and dtypes."""
        self._library.impl(self._name, function, 'Meta')
        return function

    def register_autograd(self, backward: Callable, *, setup_context: Callable) -> None:
        """Register the backward pass, in the signatures of `torch.autograd.Function`."""
        operator = self._operator

        def forward(*args: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                return operator(*args)

        methods = dict(forward=forward, setup_context=setup_context, backward=backward)
        differentiable: Any = type(
            f'{self._name}_autograd',
            (torch.autograd.Function,),
            {key: staticmethod(method) for key, method in methods.items()},
        )
        self._library.impl(self._name, differentiable.apply, 'Autograd')


def is_compiling() -> bool:
    """Return whether this code is being traced by `torch.compile`."""
    if hasattr(torch.compiler, 'is_compiling'):  # from 2.3 on
        return torch.compiler.is_compiling()
    return torch._dynamo.is_compiling()


def graph_is_kept() -> bool:
    """Return whether the backward pass that runs may run again (`retain_graph=True`).

    PyTorch tells from 2.4 on; before, it is taken to be kept.
    """
    ask = getattr(torch._C._autograd, '_get_current_graph_task_keep_graph', None)
    return True if ask is None else ask()
