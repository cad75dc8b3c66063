from __future__ import annotations

import platform
from types import SimpleNamespace

import pytest

from qtool.errors import UsageError
from qtool.graph.targets import TARGETS
from qtool.runtime import cpu

BASE = {"sse4_2", "fma"}


@pytest.fixture
def machine(monkeypatch):
    """Pretends to be a machine with these features."""

    def pretend(*features, system="Linux", architecture="x86_64", brand=None):
        host = SimpleNamespace(name="somelake", features=set())
        monkeypatch.setattr(cpu, "detected_info", lambda: SimpleNamespace(features={*features}))
        monkeypatch.setattr(cpu.archspec.cpu, "host", lambda: host)
        monkeypatch.setattr(cpu.archspec.cpu, "brand_string", lambda: brand)
        monkeypatch.setattr(platform, "system", lambda: system)
        monkeypatch.setattr(platform, "machine", lambda: architecture)

    return pretend


@pytest.mark.parametrize(
    ("features", "target"),
    [
        (("avx2", "avx512f", "avx512_vnni", "amx_int8"), "x86_amx"),
        (("avx2", "avx512f", "avx512_vnni"), "x86_vnni"),
        (("avx2", "avx_vnni"), "x86_vnni"),
        (("avx2", "avx512f"), "x86_avx2"),
        (("avx2",), "x86_avx2"),
        (("asimddp",), "arm_dotprod"),
        (("asimddp", "i8mm"), "arm_dotprod"),
        ((), None),
    ],
)
def test_the_best_profile_of_the_features(machine, features, target):
    machine(*BASE, *features)
    found = cpu.detect()
    assert found.target == target
    assert set(found.features) == set(features)
    assert target is None or target in TARGETS


def test_an_apple_cpu_has_dot_products(machine):
    machine(system="Darwin", architecture="arm64")
    assert cpu.detect().target == "arm_dotprod"


def test_the_name_falls_back_to_the_microarchitecture(machine):
    machine("avx2")
    assert cpu.detect().name == "somelake"
    machine("avx2", brand="Some(R) CPU @ 2 GHz")
    assert cpu.detect().name == "Some(R) CPU @ 2 GHz"


def test_cores_are_those_this_process_may_use(machine, monkeypatch):
    machine("avx2")
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert cpu.detect().cores == 3
    monkeypatch.delattr(cpu.os, "sched_getaffinity")
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: None)
    assert cpu.detect().cores == 1


def test_auto_is_this_machine_and_a_name_is_kept(machine):
    machine("avx2", "avx_vnni")
    assert cpu.resolve_target("auto") == "x86_vnni"
    assert cpu.resolve_target("arm_dotprod") == "arm_dotprod"


def test_auto_on_a_cpu_without_a_profile_is_refused(machine):
    machine("sse4_2")
    with pytest.raises(UsageError, match=r"target.cpu: auto, but no profile .*\(somelake\)"):
        cpu.resolve_target("auto")
    assert cpu.resolve_target("x86_avx2") == "x86_avx2"


def test_this_machine_is_described():
    found = cpu.detect()
    assert found.name
    assert found.cores >= 1
    assert found.target is None or found.target in TARGETS
