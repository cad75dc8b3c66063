"""FP32 training and quantization-aware training."""
