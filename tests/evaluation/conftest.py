from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qtool.evaluation.sample import Sample


@pytest.fixture
def make_scores() -> Callable[..., Sample]:
    def make(labels: object, fp32: object, int8: object | None = None) -> Sample:
        fp32_scores = np.asarray(fp32, np.float32)
        return Sample(
            rows=np.arange(100, 100 + fp32_scores.size),
            labels=np.asarray(labels, np.int8),
            fp32=fp32_scores,
            int8=fp32_scores if int8 is None else np.asarray(int8, np.float32),
        )

    return make
