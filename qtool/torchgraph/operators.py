"""Every ONNX operator that the torch graph can run and differentiate: name → builder."""

from __future__ import annotations

from qtool.torchgraph.attention import ATTENTION
from qtool.torchgraph.convolution import CONVOLUTION
from qtool.torchgraph.elementwise import ELEMENTWISE
from qtool.torchgraph.indexing import INDEXING
from qtool.torchgraph.layers import LAYERS
from qtool.torchgraph.nodes import Builder
from qtool.torchgraph.pooling import POOLING
from qtool.torchgraph.recurrent import RECURRENT
from qtool.torchgraph.reductions import REDUCTIONS
from qtool.torchgraph.shaping import SHAPING

OPERATORS: dict[str, Builder] = {
    **ATTENTION,
    **CONVOLUTION,
    **ELEMENTWISE,
    **INDEXING,
    **LAYERS,
    **POOLING,
    **RECURRENT,
    **REDUCTIONS,
    **SHAPING,
}

SEVERAL_OUTPUTS = frozenset({"Attention", "GRU", "LSTM", "RNN", "Split", "TopK"})
"""Operators that return a tuple of all outputs of the node; others know their first only."""
