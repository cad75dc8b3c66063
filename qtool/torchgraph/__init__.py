"""The ONNX graph as a trainable torch module, with fake quantization at the plan's tensors."""
