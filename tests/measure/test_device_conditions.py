"""Conditions: what NVML tells comes out with its unit, and what it does not tell is missing, never zero."""

from types import SimpleNamespace

import pynvml
import pytest
import torch

from tutorial_lib.measure.device_conditions import Conditions, held_back

GPU = torch.device("cuda:0")


@pytest.fixture
def nvml(monkeypatch):
    """A machine with a driver before 535, whose GPU does not tell its power and gets slower with each sample."""
    asked = []

    def clock(gpu, kind):
        return {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}[kind]

    def reasons(gpu):
        asked.append(gpu)
        return 0x1 if len(asked) == 1 else 0x24

    def fails(*_):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    functions = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlDeviceGetMaxClockInfo": clock,
        "nvmlDeviceGetEnforcedPowerLimit": lambda gpu: 700_000,
        "nvmlDeviceGetClockInfo": lambda gpu, kind: clock(gpu, kind) - 15 * len(asked),
        "nvmlDeviceGetTemperature": lambda gpu, sensor: 40 + len(asked),
        "nvmlDeviceGetPowerUsage": fails,
        "nvmlDeviceGetCurrentClocksEventReasons": fails,
        "nvmlDeviceGetCurrentClocksThrottleReasons": reasons,
    }
    for name, function in functions.items():
        monkeypatch.setattr(pynvml, name, function)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1-2"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")


def test_a_gpu_is_read_through_nvml_with_units(nvml):
    conditions = Conditions(GPU)
    conditions.sample()
    conditions.sample()
    summary = conditions.summary()
    del summary["system"]
    assert summary == {
        "device": "NVIDIA H100",
        "driver": "580.65.06",
        "max_sm_mhz": 1980,
        "max_memory_mhz": 2619,
        "power_limit_w": 700.0,
        "samples": 2,
        "sm_mhz": [1950, 1965],
        "memory_mhz": [2589, 2604],
        "temperature_c": [41, 42],
        "power_w": None,
        "clock_reasons": ["idle", "software power cap", "software thermal slowdown"],
    }
    assert held_back(summary) == ("software power cap", "software thermal slowdown")


def test_without_nvml_one_sentence_says_so(nvml, monkeypatch):
    def missing():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    summary = Conditions(GPU).summary()
    assert summary["not_known"] == "clocks and temperature are not known: NVML Shared Library Not Found"
    assert summary["samples"] == 0


def test_a_cpu_tells_its_load():
    conditions = Conditions(torch.device("cpu"))
    conditions.sample()
    conditions.sample()
    summary = conditions.summary()
    assert summary["device"].startswith("CPU (")
    assert summary["samples"] == 2
    assert summary["load_average_1_min"][0] <= summary["load_average_1_min"][1]
    assert "governor" in summary
    assert held_back(summary) == ()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")
def test_a_real_gpu_tells_its_driver_clocks_and_temperature():
    conditions = Conditions(GPU)
    conditions.sample()
    summary = conditions.summary()
    assert summary["driver"]
    assert summary["sm_mhz"][0] > 0
    assert 0 < summary["temperature_c"][0] < 120
    assert summary["clock_reasons"] is not None
