"""ONNX Runtime: sessions, kernels, CPU features, latency."""

import os

# The official builds of ONNX Runtime 1.29 and later send their maker what they load (model name,
# hashes, device) unless this is set when the library is loaded. Nothing leaves a user's machine.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
