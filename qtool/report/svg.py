"""How a matplotlib figure becomes an SVG element for a page: small, deterministic, themed.

The page may be light or dark. A colour is therefore drawn as the light one of ``COLORS`` and
written as a CSS variable that falls back to it, so that the page's style sheet decides. Text stays
text, in the font of the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito 2008, "Color universal design": told apart with any colour vision deficiency.
# The treatments use other hues than the two models, whose colours keep their meaning.
COLORS = {
    "ink": "#1f2933",
    "grid": "#d9dee4",
    "fp32": "#0072b2",
    "int8": "#d55e00",
    "flip": "#a6417f",
    "static": "#009e73",
    "dynamic": "#56b4e9",
    "weight_only": "#f0e442",
    "storage": "#e69f00",
    "float": "#9aa5b1",
    "unchanged": "#d3dae1",
}
FONT_POINTS = 9
WIDE, HALF = 8.4, 4.4  # inches: the full width of the page, and half of it
LONGEST_LABEL = 28


def figure(width: float, height: float) -> Figure:
    """Returns an empty figure; width and height in inches at ``FONT_POINTS``."""
    return Figure(figsize=(width, height), layout="constrained")


def style(axes: Axes, xlabel: str, ylabel: str, grid: Literal["both", "x", "y"] = "both") -> None:
    """Gives axes the common look: two spines, a quiet grid behind, labels in ink."""
    axes.set_xlabel(xlabel, color=COLORS["ink"], fontsize=FONT_POINTS)
    axes.set_ylabel(ylabel, color=COLORS["ink"], fontsize=FONT_POINTS)
    axes.tick_params(
        which="both", color=COLORS["grid"], labelcolor=COLORS["ink"], labelsize=FONT_POINTS - 1
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_offset_text().set(color=COLORS["ink"], fontsize=FONT_POINTS - 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(COLORS["grid"])
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=COLORS["grid"], linewidth=0.6)


def legend(axes: Axes, columns: int = 4) -> None:
    """Shows the labels above the axes, where they cannot cover data, ``columns`` in a row."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        borderpad=0,
        frameon=False,
        fontsize=FONT_POINTS - 1,
        labelcolor=COLORS["ink"],
    )


def shown_label(text: str) -> str:
    """Returns a name as a label: it may be endless or in a script that matplotlib's font lacks.

    The tables show names whole.
    """
    latin = " ".join(text.split()).encode("latin-1", "replace").decode("latin-1")
    plain = "".join(character if character.isprintable() else "?" for character in latin)
    return plain if len(plain) <= LONGEST_LABEL else f"{plain[: LONGEST_LABEL - 1]}…"


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Labels the places 0, 1, … of the y axis from the top down."""
    axes.set_yticks(range(len(names)), [shown_label(name) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)


def both_lines(axes: Axes, places: Sequence[float], found: NDArray[np.float64]) -> None:
    """Draws FP32 and INT8 over the places of the x axis, INT8 with the interval of its change.

    Args:
        axes: drawn on.
        places: along the x axis, (n,).
        found: FP32, INT8 and the ends of the interval of INT8 minus FP32, (n, 4).
    """
    fp32, int8, low, high = found.T
    ends = int8 - fp32 - low, high - (int8 - fp32)
    axes.plot(places, fp32, "o-", ms=6, lw=2.2, color=COLORS["fp32"], label="FP32")
    axes.errorbar(
        places,
        int8,
        yerr=np.maximum(ends, 0),  # rounding
        fmt="D--",
        ms=4,
        lw=1.4,
        capsize=3,
        color=COLORS["int8"],
        label="INT8",
    )


def beside(axes: Axes, place: float, text: str) -> None:
    """Writes a text right of the axes at a place of the y axis."""
    axes.text(
        1.01,
        place,
        text,
        transform=axes.get_yaxis_transform(),
        color=COLORS["ink"],
        fontsize=FONT_POINTS - 1,
        va="center",
        parse_math=False,
    )


def tick_text(text: Callable[[float], str]) -> Callable[[float, float], str]:
    """Returns a tick formatter; plain text, where matplotlib would write mathematics."""
    return lambda value, _position: text(value)


def to_svg(drawn: Figure, name: str) -> str:
    """Returns the figure as one ``<svg>`` element.

    Args:
        drawn: the figure.
        name: unique on the page; the ids inside depend on it.
    """
    buffer = io.StringIO()
    # The options are read while writing and there is no other way to give them.
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        drawn.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    return _inline(buffer.getvalue())


def _inline(document: str) -> str:
    """Returns the svg element without what only a file of its own needs."""
    text = document[document.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| version="1.1"', "", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text)
    text = text.replace("xlink:href", "href")
    # Families are listed with quotes inside the style attribute, up to its end or a semicolon.
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 var(--font, sans-serif)", text)
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    for name, color in COLORS.items():
        text = text.replace(color, f"var(--{name}, {color})")
    return re.sub(r"\s*\n\s*", "\n", text)
