"""The passes that turn an FP32 graph into its canonical form, one per file."""
