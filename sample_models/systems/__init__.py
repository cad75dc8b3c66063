"""What the systems around the models do with FP32 and with INT8, for ``evaluation.system``."""
