"""FP32 training of torch modules, quantization-aware fine-tuning, and resumable checkpoints."""
