from __future__ import annotations

import torch
from support.sample_models import built

INPUTS = {"amounts": {"shape": [3]}, "status": {"shape": [2], "cardinalities": [4, 5]}}


def test_it_scores_each_row_alone_and_reads_every_column():
    model = built("credit_transformer", INPUTS, width=16, layers=2, heads=2)
    amounts, status = torch.randn(6, 3), torch.tensor([[1, 4]] * 6)
    with torch.no_grad():
        scores = model(amounts, status)
        alone = torch.cat([model(amounts[[i]], status[[i]]) for i in range(6)])
        other = model(amounts, torch.tensor([[1, 3]] * 6))
    assert scores.shape == (6,)
    torch.testing.assert_close(scores, alone)
    assert (other != scores).all()
    amounts.requires_grad_()
    model(amounts, status).sum().backward()
    assert (amounts.grad != 0).all()


def test_a_number_moves_its_own_token_only_and_cls_comes_first():
    model = built("credit_transformer", INPUTS, width=8, layers=1, heads=2)
    found = []
    read = model.last.projections
    model.last.projections = lambda x: found.append(x) or read(x)
    with torch.no_grad():
        for amounts in ([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]):
            model(torch.tensor([amounts]), torch.tensor([[1, 1]]))
    before, after = found
    assert before.shape == (1, 1 + 3 + 2, 8)
    moved = (before != after).any(dim=2)[0].tolist()
    assert moved == [False, False, False, True, False, False]
    torch.testing.assert_close(after[0, 3] - before[0, 3], model.slopes[3].detach())
    torch.testing.assert_close(before[0, 0], model.offsets[0].detach())
