"""How many rows have which pair of values: squares of a grid, whatever the number of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from qtool.report.svg import COLORS

CELLS = 48  # per side; 48 * 48 squares of about 60 bytes stay below 150 kB
SHADES = 6


def draw_density(axes: Axes, x: NDArray[Any], y: NDArray[Any], ends: tuple[float, float]) -> None:
    """Draws where the pairs lie, and the diagonal of equal values.

    Args:
        axes: becomes square, with ``ends`` on both axes.
        x: floating-point numbers, shape (pairs,).
        y: the same.
        ends: smallest and largest value that is shown.
    """
    counts, edges, _ = np.histogram2d(x, y, bins=CELLS, range=(ends, ends))
    levels = np.ceil(np.log1p(counts) / np.log1p(max(counts.max(), 1)) * SHADES).astype(int)
    for level in range(1, SHADES + 1):
        cells = levels == level
        if cells.any():
            color, alpha = COLORS["int8"], 0.15 + 0.85 * level / SHADES
            shade = _squares(cells, edges)
            axes.add_patch(PathPatch(shade, facecolor=color, alpha=alpha, linewidth=0))
    axes.axline((ends[0], ends[0]), slope=1, color=COLORS["ink"], lw=0.6)
    axes.set(xlim=ends, ylim=ends, aspect="equal")


def _squares(cells: NDArray[np.bool_], edges: NDArray[np.float64]) -> Path:
    """Returns the cells as one compound path, which SVG writes far smaller than one each."""
    corners = np.array(((0, 0), (1, 0), (1, 1), (0, 1), (0, 0)))
    at = np.argwhere(cells)[:, None, :] + corners
    codes = (Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY)
    return Path(edges[at].reshape(-1, 2), np.tile(codes, len(at)))
