"""What seeds allow to be said: mean, spread, and paired differences with a 95 % interval.

Runs of one seed start from the same weights and see the same data, so methods are compared seed by
seed: `d_s = ours_s - theirs_s`, and the interval is `mean(d) ± t · sd(d) / √n` with t the 97.5 %
quantile of Student's distribution with n - 1 degrees of freedom. It assumes that the differences of
many seeds would be about normal, and holds for each comparison by itself: of twenty comparisons of
equal methods one is expected to miss.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import t as student_t

NOTHING, ONE_SEED = 'no measurable difference', 'one seed: no statement'


def summarise(values: Sequence[float]) -> dict[str, Any]:
    """Return number, mean, and the standard deviation of a sample (None of fewer than two).

    Examples:
        >>> summarise([1.0, 2.0, 3.0])
        {'n': 3, 'mean': 2.0, 'sd': 1.0}
    """
    return {
        'n': len(values),
        'mean': statistics.fmean(values) if values else None,
        'sd': statistics.stdev(values) if len(values) > 1 else None,
    }


def paired_difference(
    ours: Mapping[int, float], theirs: Mapping[int, float], lower_is_better: bool = False
) -> dict[str, Any]:
    """Return the mean difference over the seeds that both have, its interval, and what it says.

    Args:
        ours: Score by seed.
        theirs: The same of what is compared with.
        lower_is_better: Whether a negative difference is the better one.

    Examples:
        >>> paired_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 1.0})['words']
        'no measurable difference'
    """
    seeds = sorted(set(ours) & set(theirs))
    result = {**summarise([ours[s] - theirs[s] for s in seeds]), 'low': None, 'high': None}
    if len(seeds) < 2:
        return {**result, 'words': ONE_SEED if seeds else 'no common seed'}
    half = float(student_t.ppf(0.975, len(seeds) - 1)) * result['sd'] / math.sqrt(len(seeds))
    low, high = result['mean'] - half, result['mean'] + half
    words = NOTHING if low <= 0 <= high else 'better' if (low > 0) != lower_is_better else 'worse'
    return {**result, 'low': low, 'high': high, 'words': words}
