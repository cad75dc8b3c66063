"""Those of ``cash_flow.py``."""

from sample_models.baselines.cash_flow import baselines

__all__ = ["baselines"]
