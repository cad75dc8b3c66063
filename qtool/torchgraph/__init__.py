"""An ONNX graph as a trainable torch module, with fake quantization."""
