"""What seeds allow to be said: mean, spread, and paired differences with a 95 % interval.

Runs of one seed start from the same weights and see the same data, so methods are compared seed by
seed: `d_s = ours_s - theirs_s`, and the interval is `mean(d) ± t · sd(d) / √n` with t the 97.5 %
quantile of Student's distribution with n - 1 degrees of freedom. It assumes that the differences of
many seeds would be about normal, and holds for each comparison by itself: of twenty comparisons of
equal methods one is expected to miss. So the word 'better' or 'worse' needs more: it stands only
where the p-value also passes Holm's correction for all comparisons of one score in the report;
'perhaps' marks what the interval alone would have called a difference.

Reference:
    S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import t as student_t

LEVEL = 0.05
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


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[str, Any]:
    """Return the mean difference over the seeds that both have, its interval and two-sided p-value.

    Args:
        ours: Score by seed.
        theirs: The same of what is compared with.

    Returns:
        n, mean, sd, low, high, p; None where the seeds do not say.
    """
    seeds = sorted(set(ours) & set(theirs))
    result = summarise([ours[s] - theirs[s] for s in seeds])
    if len(seeds) < 2:
        return {**result, 'low': None, 'high': None, 'p': None}
    mean, error = result['mean'], result['sd'] / math.sqrt(len(seeds))
    half = float(student_t.ppf(1 - LEVEL / 2, len(seeds) - 1)) * error
    if error:
        p = 2 * float(student_t.sf(abs(mean) / error, len(seeds) - 1))
    else:
        p = 0.0 if mean else 1.0
    return {**result, 'low': mean - half, 'high': mean + half, 'p': p}


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in their order.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def put_into_words(differences: Sequence[dict[str, Any]], lower_is_better: bool) -> None:
    """Add to each what it says, in the light of the others: `words` and `p_corrected`.

    Args:
        differences: All comparisons of one score, from `paired_difference`.
        lower_is_better: Whether a negative difference is the better one.

    Examples:
        >>> clear, none = {'n': 3, 'mean': 1.0, 'p': 0.01}, {'n': 3, 'mean': 1.0, 'p': 0.5}
        >>> put_into_words([clear, none], lower_is_better=False)
        >>> clear['words'], none['words']
        ('better', 'no measurable difference')
    """
    # what has no p-value yet counts too: else words would weaken while runs come in
    corrected = holm([1.0 if one['p'] is None else one['p'] for one in differences])
    for one, p_value in zip(differences, corrected, strict=True):
        one['p_corrected'] = None if one['p'] is None else p_value
        one['words'] = _words(one, lower_is_better)


def _words(one: dict[str, Any], lower_is_better: bool) -> str:
    if one['p'] is None:
        return ONE_SEED if one['n'] else 'no common seed'
    if one['p'] >= LEVEL:
        return NOTHING
    word = 'better' if (one['mean'] > 0) != lower_is_better else 'worse'
    return word if one['p_corrected'] < LEVEL else f'perhaps {word}'
