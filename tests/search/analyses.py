"""Analyses of models that exist on paper only."""

from __future__ import annotations

import math
from zlib import crc32

from qtool.search.analysis import Analysis, LayerAnalysis, Option

BITS = {"float": 32}


def layer(name, *, unit=None, weights=0, measured=math.nan, **options):
    """Returns a layer: method → (share of the time of FP32, error)."""
    return LayerAnalysis(
        name=name,
        op_type="Gemm",
        kind="dense",
        weights=weights,
        options=tuple(
            Option(
                method,
                BITS.get(method, 8),
                error,
                math.nan if method == "float" else measured,
                {1: 100 * time},
                timed=True,
            )
            for method, (time, error) in options.items()
        ),
        refused={} if "storage" in options else {"storage": "no"},
        outlier=1.0,
        channel_outlier=1.0,
        saturating=0.0,
        unit=crc32(name.encode()) if unit is None else unit,
    )


def analysis_of(*layers):
    """Returns the analysis of a model that takes 100 microseconds in FP32."""
    return Analysis("x86_vnni", (1,), 1, 100, {1: 100.0}, layers, "quantize", "", {})
