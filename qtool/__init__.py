"""qtool: the fastest INT8 ONNX model whose business decisions are provably unchanged."""

__version__ = "0.1.0"
