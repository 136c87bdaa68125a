"""What an entry of a config builds, however its `type` is spelt."""

from typing import Any

from mmengine.registry import Registry


def kind_of(entry: Any, registry: Registry) -> Any:
    """Return the class that a registry builds an entry of a config with.

    `type` is a bare name ('IoUMetric'), one with a scope ('mmseg.IoUMetric'), a class in mmengine's
    Python-style configs, or its dotted path where such a config was written to a file.

    Args:
        entry: A dict with `type`; of anything else, built already, its own class is returned.
        registry: Where it would be built.

    Returns:
        The class, or None if the registry does not know it: mmengine says so when it builds.
    """
    if not isinstance(entry, dict):
        return type(entry)
    kind = entry.get('type')
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(entry.get('_scope_')) as place:
        try:
            return place.get(kind)
        except RuntimeError:  # how mmengine says that there is none
            return None


def is_kind(entry: Any, registry: Registry, kind: type | tuple[type, ...]) -> bool:
    """Return whether an entry of a config builds an instance of a class; see `kind_of`."""
    found = kind_of(entry, registry)
    return isinstance(found, type) and issubclass(found, kind)


def name_of(entry: Any, registry: Registry) -> str:
    """Return the bare name of the class that an entry builds, as a string in a config has it."""
    found = kind_of(entry, registry)
    return getattr(found, '__name__', str(found if found is not None else entry.get('type')))
