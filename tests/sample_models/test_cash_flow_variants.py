from __future__ import annotations

import pytest
import torch
from support.sample_models import built

from qtool.data.generators.cash_machines import AHEAD, PAST

INPUTS = {"history": {"shape": [PAST]}, "calendar": {"shape": [2]}}
SMALL = {"cash_flow_gru": {"width": 8}, "cash_flow_nbeats": {"width": 16, "blocks": 3}}


@pytest.fixture(params=SMALL)
def forecaster(request):
    return built(request.param, INPUTS, days=AHEAD, quantiles=3, **SMALL[request.param])


def test_forecasts_grow_with_the_history(forecaster):
    history, calendar = torch.rand(4, PAST) + 0.5, torch.randn(4, 2)
    with torch.no_grad():
        forecast = forecaster(history, calendar)
        assert forecast.shape == (4, AHEAD * 3)
        torch.testing.assert_close(forecaster(10 * history, calendar), 10 * forecast)
        assert not torch.equal(forecaster(history, calendar + 1), forecast)


def test_nbeats_adds_the_forecasts_of_what_blocks_leave_of_the_past():
    model = built("cash_flow_nbeats", INPUTS, days=7, quantiles=1, width=8, blocks=2)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    first, second = model.blocks
    seen = []
    second.register_forward_pre_hook(lambda block, given: seen.append(given[0]))
    with torch.no_grad():
        first.backcast.bias.fill_(0.25)
        first.forecast.bias.fill_(1.0)
        second.forecast.bias.fill_(0.5)
        forecast = model(torch.full((1, PAST), 10.0), torch.zeros(1, 2))
    # Divided by its mean the history is 1; the weekdays' mean is 1 as well.
    torch.testing.assert_close(seen[0], torch.full((1, PAST), 0.75))
    torch.testing.assert_close(forecast, torch.full((1, 7), 10 * (1 + 1.0 + 0.5)))


def test_the_gru_reads_one_week_per_step():
    model = built("cash_flow_gru", INPUTS, days=7, quantiles=1, width=4)
    history = torch.arange(1.0, PAST + 1)[None]
    seen = []
    model.gru.register_forward_pre_hook(lambda gru, given: seen.append(given[0]))
    with torch.no_grad():
        model(history, torch.zeros(1, 2))
    torch.testing.assert_close(seen[0].flatten(), history[0] / history.mean())
    assert seen[0].shape == (1, PAST // 7, 7)
