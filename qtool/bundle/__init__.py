"""The deployable bundle: manifest and model card."""
