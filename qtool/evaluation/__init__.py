"""FP32 against INT8 on the same rows: metrics, decisions, gates."""
