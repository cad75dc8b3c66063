from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.evaluation import Fairness
from qtool.errors import ConfigError
from qtool.evaluation.fairness import impact_ratios
from qtool.evaluation.sample import Sample


def judged(group, flagged_fp32, flagged_int8, **section):
    rows = len(group)
    zeros = np.zeros(rows, np.float32)
    sample = Sample(np.arange(rows), zeros, zeros, zeros, {"sex": np.asarray(group)})
    found = Fairness.model_validate({"columns": ["sex"], **section})
    flags = (np.asarray(flags, bool) for flags in (flagged_fp32, flagged_int8))
    return impact_ratios(sample, *flags, found, 0.95, 0)


def flags(*groups: tuple[int, int]) -> np.ndarray:
    """Of each group so many rows flagged and passed."""
    return np.concatenate([np.repeat([True, False], counts) for counts in groups])


def test_ratios_by_hand() -> None:
    # Rates of 60, 45, 48 and 51 %: 45 / 60, 48 / 60 and 51 / 60.
    names = ["white", "american indian", "hispanic", "black"]
    hired = flags((600, 400), (450, 550), (480, 520), (510, 490))
    group = np.repeat(np.array(names, object), 1000)
    found = {each.group: each for each in judged(group, hired, hired, favourable="flagged")}
    ratios = {"american indian": 0.75, "black": 0.85, "hispanic": 0.80}
    assert {name: each.fp32 for name, each in found.items()} == pytest.approx(ratios)
    assert {name: each.int8 for name, each in found.items()} == pytest.approx(ratios)
    for each in found.values():
        assert (each.column, each.reference, each.rows) == ("sex", "white", 1000)
        assert each.low < 0 < each.high  # that none of 2,000 rows flipped proves not that none does


def test_passed_is_favourable_unless_said_otherwise() -> None:
    group = np.repeat([1.0, 2.0], [200, 100])
    found = judged(group, flags((40, 160), (60, 40)), flags((40, 160), (70, 30)))
    assert [(each.group, each.reference) for each in found] == [("2", "1")]
    assert (found[0].fp32, found[0].int8) == (pytest.approx(0.5), pytest.approx(0.375))
    assert found[0].low < -0.125 < found[0].high < 0


def test_int8_has_the_reference_of_fp32() -> None:
    group = np.repeat([1.0, 2.0], [100, 100])
    (found,) = judged(group, flags((10, 90), (20, 80)), flags((30, 70), (16, 84)))
    assert (found.group, found.reference) == ("2", "1")
    assert found.int8 == pytest.approx(84 / 70)


def test_small_groups_and_rows_without_a_value_are_not_judged() -> None:
    group = np.repeat(np.array(["a", "b", "c", "missing"], object), [200, 100, 99, 150])
    decisions = flags((20, 180), (50, 50), (0, 99), (0, 150))
    found = judged(group, decisions, decisions)
    assert [(each.group, each.reference) for each in found] == [("b", "a")]
    assert judged(group, decisions, decisions, smallest_group=150) == ()
    assert judged(group, decisions, decisions, smallest_group=500) == ()


def test_many_values_are_judged_in_ranges() -> None:
    age = np.arange(400.0)
    found = judged(age, age < 50, age < 60)
    assert [each.group for each in found] == [
        "up to 99",
        "above 199, up to 299",
        "above 299",
    ]
    assert found[0].reference == "above 99, up to 199"
    assert (found[0].fp32, found[0].int8) == (pytest.approx(0.5), pytest.approx(0.4))


def test_a_reference_that_nobody_favours_gives_no_ratio() -> None:
    group = np.repeat([1.0, 2.0], [100, 100])
    (found,) = judged(group, flags((50, 50), (60, 40)), flags((100, 0), (60, 40)))
    assert found.fp32 == pytest.approx(0.8)
    assert all(math.isnan(value) for value in (found.int8, found.low, found.high))
    (found,) = judged(group, np.ones(200), np.ones(200))
    assert math.isnan(found.fp32)


def test_the_interval_covers_where_flips_are_rare() -> None:
    # The delta method covers 88 % here and the bootstrap 87 %.
    rng = np.random.default_rng(3)
    rows, cells = (200, 2000), ((0.59, 0.01, 0.002, 0.398), (0.795, 0.005, 0.001, 0.199))
    group = np.repeat([1.0, 2.0], rows)
    truth = 0.592 / 0.796 - 0.6 / 0.8
    missed = 0
    for _ in range(200):
        kinds = np.concatenate(
            [rng.choice(4, count, p=shares) for count, shares in zip(rows, cells, strict=True)]
        )
        (found,) = judged(group, kinds >= 2, kinds % 2 == 1)
        missed += not found.low <= truth <= found.high
    assert missed <= 10


def test_the_interval_is_the_delta_methods_where_flips_are_many() -> None:
    rng = np.random.default_rng(4)
    rows, cells = (20_000, 30_000), ((0.5, 0.05, 0.05, 0.4), (0.7, 0.04, 0.02, 0.24))
    kinds = [rng.choice(4, count, p=p) for count, p in zip(rows, cells, strict=True)]
    joined = np.concatenate(kinds)
    (found,) = judged(np.repeat([1.0, 2.0], rows), joined >= 2, joined % 2 == 1)
    (g_fp32, g_int8), (r_fp32, r_int8) = (
        ((part < 2).mean(), (part % 2 == 0).mean()) for part in kinds
    )
    of_group = (kinds[0] % 2 == 0) / r_int8 - (kinds[0] < 2) / r_fp32
    of_reference = (kinds[1] < 2) * g_fp32 / r_fp32**2 - (kinds[1] % 2 == 0) * g_int8 / r_int8**2
    error = math.sqrt(of_group.var() / rows[0] + of_reference.var() / rows[1])
    change = g_int8 / r_int8 - g_fp32 / r_fp32
    assert found.int8 - found.fp32 == pytest.approx(change)
    assert found.low == pytest.approx(change - 1.96 * error, abs=0.05 * error)
    assert found.high == pytest.approx(change + 1.96 * error, abs=0.05 * error)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=8, max_size=8))
def test_the_change_lies_in_its_interval(counts: list[int]) -> None:
    kinds = np.concatenate(
        [np.repeat(np.arange(4), counts[:4]), np.repeat(np.arange(4), counts[4:])]
    )
    group = np.repeat([1.0, 2.0], [sum(counts[:4]), sum(counts[4:])])
    for found in judged(group, kinds >= 2, kinds % 2 == 1, smallest_group=1):
        if not math.isnan(found.low):
            assert found.low <= found.int8 - found.fp32 <= found.high


def test_a_column_of_lists_is_a_config_error() -> None:
    lists = np.empty(2, object)
    lists[:] = [np.zeros(1), np.zeros(2)]
    with pytest.raises(
        ConfigError, match=r"evaluation\.fairness\.columns, 'sex': a column of lists"
    ):
        judged(lists, np.ones(2), np.ones(2))


def test_people_of_one_household_are_worth_fewer() -> None:
    group = np.repeat([1.0, 2.0], [400, 200])
    fp32 = flags((100, 300), (80, 120))
    int8 = fp32.copy()
    int8[400:410] = False
    households = np.arange(600) // 10
    sample = Sample(np.arange(600), *[np.zeros(600, np.float32)] * 3, {"sex": group})
    section = Fairness(columns=["sex"])
    (apart,), (together,) = (
        impact_ratios(sample, fp32, int8, section, 0.95, 0, clusters)
        for clusters in (None, households)
    )
    assert (together.fp32, together.int8, together.rows) == (apart.fp32, apart.int8, apart.rows)
    assert together.high - together.low > 1.5 * (apart.high - apart.low)
