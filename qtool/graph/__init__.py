"""The ONNX graph: load, prepare, plan, write."""
