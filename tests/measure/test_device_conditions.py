"""Conditions: what NVML says comes out with its unit, and what it does not say is missing, never zero."""

import shutil
import subprocess

import pytest
import torch

from tutorial_lib.measure.device_conditions import Conditions, Nvml, NvmlError, held_back

NVML = r"""
#include <string.h>
typedef struct { int number; } gpu;
typedef unsigned int u32;
typedef unsigned long long u64;
static gpu one = {7};
static int asked = 0;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, gpu **g) { *g = &one; return strcmp(uuid, "GPU-1-2") ? 6 : 0; }
int nvmlSystemGetDriverVersion(char *text, u32 length) { strncpy(text, "580.65.06", length); return 0; }
int nvmlDeviceGetMaxClockInfo(gpu *g, u32 type, u32 *mhz) { *mhz = type == 1 ? 1980 : 2619; return g != &one; }
int nvmlDeviceGetEnforcedPowerLimit(gpu *g, u32 *mw) { *mw = 700000; return g != &one; }
int nvmlDeviceGetClockInfo(gpu *g, u32 type, u32 *mhz) {
  *mhz = (type == 1 ? 1980 : 2619) - 15 * asked;
  return g != &one;
}
int nvmlDeviceGetTemperature(gpu *g, u32 sensor, u32 *c) { *c = 40 + asked; return g != &one || sensor; }
int nvmlDeviceGetPowerUsage(gpu *g, u32 *mw) { return 3; /* not supported */ }
int nvmlDeviceGetCurrentClocksThrottleReasons(gpu *g, u64 *bits) { *bits = asked++ ? 0x24 : 0x1; return g != &one; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A library with some of NVML's functions, as NVIDIA's header declares them."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(NVML)
    subprocess.run([compiler, "-shared", "-fPIC", "nvml.c", "-o", "nvml.so"], cwd=folder, check=True)
    return str(folder / "nvml.so")


def test_a_gpu_is_read_through_nvml_with_units(library):
    gpu = Nvml("GPU-1-2", library)
    assert gpu.about() == {
        "driver": "580.65.06",
        "max_sm_mhz": 1980,
        "max_memory_mhz": 2619,
        "power_limit_w": 700.0,
    }
    first, second = gpu.sample(), gpu.sample()
    assert first["clock_reasons"] == ["idle"]
    assert second["clock_reasons"] == ["software power cap", "software thermal slowdown"]
    assert first["power_w"] is None, "what NVML does not tell is not zero"
    conditions = Conditions(torch.device("cpu"))
    conditions._samples = [first, second]
    found = conditions.summary()
    assert found["samples"] == 2
    assert found["sm_mhz"] == [second["sm_mhz"], first["sm_mhz"]]
    assert found["temperature_c"][0] < found["temperature_c"][1]
    assert found["power_w"] is None
    assert held_back(found) == ("software power cap", "software thermal slowdown")


def test_what_nvml_cannot_say_is_a_sentence(library):
    with pytest.raises(NvmlError, match="nvmlDeviceGetHandleByUUID of NVML failed with code 6"):
        Nvml("GPU-9", library)
    with pytest.raises(NvmlError, match=r"there is no libnot-here\.so, which NVIDIA's driver brings"):
        Nvml("GPU-1-2", "libnot-here.so")


def test_a_cpu_tells_its_load_and_what_it_does_not_tell_is_none():
    conditions = Conditions(torch.device("cpu"))
    conditions.sample()
    conditions.sample()
    found = conditions.summary()
    assert found["device"].startswith("CPU (")
    assert found["samples"] == 2
    assert found["load_average_1_min"][0] <= found["load_average_1_min"][1]
    assert "governor" in found
    assert held_back(found) == ()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")
def test_a_real_gpu_tells_its_driver_clocks_and_temperature():
    conditions = Conditions(torch.device("cuda:0"))
    conditions.sample()
    found = conditions.summary()
    assert found["driver"]
    assert found["sm_mhz"][0] > 0
    assert 0 < found["temperature_c"][0] < 120
    assert found["clock_reasons"] is not None
