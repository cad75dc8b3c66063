"""ONNX Runtime: sessions, kernels, CPU features, latency."""
