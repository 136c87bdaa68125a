"""Whether two lists of class names mean the same classes."""

import re
from collections.abc import Sequence


def plain(name: object) -> str:
    """Return what is left of a name without case, spaces, hyphens and underscores."""
    return re.sub(r'[\s_-]', '', str(name)).casefold()


def differences(one: Sequence, other: Sequence) -> list[str]:
    """Return where both lists have a name and differ in more than its spelling: 'label: a / b'."""
    pairs = enumerate(zip(one, other, strict=False))
    return [f'{label}: {a} / {b}' for label, (a, b) in pairs if plain(a) != plain(b)]
