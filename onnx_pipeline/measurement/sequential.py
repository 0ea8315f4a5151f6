"""When two contenders have been measured often enough: a sequential test of paired differences.

No distribution is assumed except that the noise of a pair is as often above as below: disturbed rounds count
by their rank only. For the claim that one is better the level is divided over all looks at the data, so that
looking early costs certainty, not validity. Giving up early on a contender does no harm and needs no such
care.

References
----------
F. Wilcoxon, *Individual Comparisons by Ranking Methods*, 1945; J. L. Hodges, E. L. Lehmann, *Estimates of
Location Based on Rank Tests*, 1963: the confidence interval of Walsh averages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

#: Probability that the lower end is above the truth, over all looks together; that the upper end is below it,
#: at each look.
LEVEL = 0.05


@dataclass(frozen=True)
class Interval:
    """Confidence interval of the median of differences, and its middle; ends are infinite where unknown."""

    low: float
    middle: float
    high: float

    def decided(self, worth: float) -> bool:
        """Whether more measurements would change nothing: certainly above 0, or below what is worth it."""
        return self.low > 0 or self.high < worth


def interval(differences: FloatArray, looks: int) -> Interval:
    """Return what paired differences tell at one of several looks.

    Parameters
    ----------
    differences : float64[rounds]
    looks : int
        How often the growing data is looked at, at most.

    Returns
    -------
    Interval
        Without an end where there are too few rounds to be certain of it.
    """
    rounds = len(differences)
    low, high = np.triu_indices(rounds)
    averages = np.sort((differences[low] + differences[high]) / 2)
    middle = float(np.median(averages)) if rounds else 0.0
    below, above = _rank(rounds, LEVEL / looks), _rank(rounds, LEVEL)
    return Interval(
        -np.inf if below < 0 else float(averages[below]),
        middle,
        np.inf if above < 0 else float(averages[-1 - above]),
    )


@cache
def _rank(rounds: int, level: float) -> int:
    """Return the largest c with P(W <= c) <= level for Wilcoxon's W of so many pairs; -1 if there is none."""
    ways = np.ones(1)
    for rank in range(1, rounds + 1):  # each rank is in the sum or not
        more = np.zeros(len(ways) + rank)
        more[: len(ways)] += ways
        more[rank:] += ways
        ways = more / 2
    return int(np.searchsorted(np.cumsum(ways), level, side="right")) - 1
