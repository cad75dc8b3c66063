from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qtool.evaluation.results import Scores


@pytest.fixture
def make_scores() -> Callable[..., Scores]:
    def make(labels: object, fp32: object, int8: object | None = None) -> Scores:
        fp32_scores = np.asarray(fp32, np.float32)
        return Scores(
            rows=np.arange(100, 100 + fp32_scores.size),
            labels=np.asarray(labels, np.int8),
            fp32=fp32_scores,
            int8=fp32_scores if int8 is None else np.asarray(int8, np.float32),
        )

    return make
