"""Linear and integer programs, built block by block; SciPy's HiGHS solves them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Term = tuple[Indices, ArrayLike]  # variables, one for each row and -1 for none, and their coefficients

SOLVED, INFEASIBLE = 0, 2  # what SciPy says


class Infeasible(RuntimeError):
    """No values keep all rows and limits."""


class Unsolved(RuntimeError):
    """The solver has given up."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Values of all variables, and what no solution is below."""

    values: Floats
    bound: float


class Program:
    """Minimizes the cost of variables within limits under rows `low <= sum of terms <= high`.

    Every variable must have finite limits: they are what `bound` rests on.
    """

    def __init__(self) -> None:
        self.size = self.rows = 0
        self._variables: list[tuple[Floats, Floats, Floats]] = []
        self._sides: list[tuple[Floats, Floats]] = []
        self._entries: list[tuple[Indices, Indices, Floats]] = []

    def add(self, size: int, low: ArrayLike, high: ArrayLike, cost: ArrayLike = 0.0) -> Indices:
        """Add so many variables and give their numbers."""
        self._variables.append((_fill(low, size), _fill(high, size), _fill(cost, size)))
        self.size += size
        return np.arange(self.size - size, self.size)

    def row(self, low: ArrayLike, high: ArrayLike, *terms: Term) -> None:
        """Add as many rows as the terms are long; no variable may be in one row twice."""
        size = len(terms[0][0])
        rows = np.arange(self.rows, self.rows + size)
        for variables, coefficients in terms:
            there = variables >= 0
            self._entries.append((rows[there], variables[there], _fill(coefficients, size)[there]))
        self._sides.append((_fill(low, size), _fill(high, size)))
        self.rows += size

    def solve(self, *, integer: bool = False) -> Solution:
        """Find the least cost; the same program gives the same solution. Raises Infeasible, Unsolved."""
        low, high, cost = (np.concatenate(parts) for parts in zip(*self._variables, strict=True))
        row_low, row_high = (np.concatenate(parts) for parts in zip(*self._sides, strict=True))
        row, column, value = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        matrix = sparse.csr_array((value, (row, column)), shape=(self.rows, self.size))
        if integer:
            rows, kinds = LinearConstraint(matrix, row_low, row_high), np.ones(self.size)
            found = milp(cost, integrality=kinds, bounds=Bounds(low, high), constraints=rows)
            _check(found)
            return Solution(found.x, found.mip_dual_bound)
        above, below = np.isfinite(row_low), np.isfinite(row_high)
        sides = {
            "A_ub": sparse.vstack([matrix[below], -matrix[above]]),
            "b_ub": np.concatenate([row_high[below], -row_low[above]]),
            "bounds": np.stack([low, high], axis=1),
        }
        found = linprog(cost, **sides, method="highs-ipm")
        if found.status not in (SOLVED, INFEASIBLE):
            found = linprog(cost, **sides, method="highs-ds")
        _check(found)
        # Any prices of the rows give a bound, by weak duality: those of a solver that was inexact, too
        # (Neumaier and Shcherbina, Safe bounds in linear and mixed-integer linear programming, 2004).
        prices = np.minimum(found.ineqlin.marginals, 0)
        reduced = cost - sides["A_ub"].T @ prices
        least = prices @ sides["b_ub"] + reduced @ np.where(reduced > 0, low, high)
        return Solution(found.x, float(least))


def lag(variables: Indices, cells: int) -> Indices:
    """Give for each cell the variable of so many cells before; -1 where there was none."""
    cells = min(cells, len(variables))
    return np.concatenate([np.full(cells, -1, dtype=np.int64), variables[: len(variables) - cells]])


def _fill(values: ArrayLike, size: int) -> Floats:
    return np.broadcast_to(np.asarray(values, dtype=np.float64), size)


def _check(found: Any) -> None:
    if found.status == INFEASIBLE:
        raise Infeasible
    if found.status != SOLVED:
        raise Unsolved(found.message)
