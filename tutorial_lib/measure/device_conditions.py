"""What a device did while something was measured on it: clocks, temperature, power, and why it slowed down.

A GPU is read through NVML, NVIDIA's management library, which comes with the driver. A sample takes a few function
calls between two rounds of measuring; no thread or process runs beside them. On a CPU, the samples are the load
average and the frequency.
"""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pynvml
import torch

from tutorial_lib.builds import report

REASONS = {
    pynvml.nvmlClocksEventReasonGpuIdle: "idle",
    pynvml.nvmlClocksEventReasonApplicationsClocksSetting: "application clocks",
    pynvml.nvmlClocksEventReasonSwPowerCap: "software power cap",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksEventReasonSyncBoost: "sync boost",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "software thermal slowdown",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "hardware thermal slowdown",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "hardware power brake",
    pynvml.nvmlClocksEventReasonDisplayClockSetting: "display clocks",
}
"""Why clocks are not higher. Older drivers call these throttle reasons."""
HARMLESS = {"idle"}
"""A GPU that is sampled between two rounds has nothing to do."""
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")

Sample = dict[str, Any]


class Conditions:
    """The fixed facts of a device, and samples taken while something is measured on it."""

    def __init__(self, device: torch.device) -> None:
        self._samples: list[Sample] = []
        self._gpu: Any = None  # NVML's handle
        self._fixed: dict[str, Any] = {"device": report.device_name(device)}
        if device.type == "cuda":
            try:
                self._gpu = _gpu(device)
                self._fixed |= _gpu_limits(self._gpu)
            except pynvml.NVMLError as error:
                self._fixed["not_known"] = f"clocks and temperature are not known: {error}"
        else:
            self._fixed["governor"] = GOVERNOR.read_text().strip() if GOVERNOR.exists() else None
        self._fixed["system"] = f"{platform.system()} {platform.machine()}"

    def sample(self) -> None:
        """Look at the device now. Not while something is timed on it."""
        self._samples.append(_cpu_sample() if self._gpu is None else _gpu_sample(self._gpu))

    def summary(self) -> dict[str, Any]:
        """The fixed facts, and [smallest, largest] of each number that was sampled; None where nothing was told."""
        result: dict[str, Any] = {**self._fixed, "samples": len(self._samples)}
        for name in self._samples[0] if self._samples else ():
            values = [sample[name] for sample in self._samples if sample[name] is not None]
            if not values:
                result[name] = None
            elif name == "clock_reasons":
                result[name] = sorted(set().union(*values))
            else:
                result[name] = [min(values), max(values)]
        return result


def held_back(summary: dict[str, Any]) -> tuple[str, ...]:
    """Why the GPU's clocks were not higher at some time, other than that it had nothing to do."""
    return tuple(reason for reason in summary.get("clock_reasons") or () if reason not in HARMLESS)


def _gpu(device: torch.device) -> Any:
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


def _gpu_limits(gpu: Any) -> dict[str, Any]:
    return {
        "driver": pynvml.nvmlSystemGetDriverVersion(),
        "max_sm_mhz": _number(pynvml.nvmlDeviceGetMaxClockInfo, gpu, pynvml.NVML_CLOCK_SM),
        "max_memory_mhz": _number(pynvml.nvmlDeviceGetMaxClockInfo, gpu, pynvml.NVML_CLOCK_MEM),
        "power_limit_w": _watts(_number(pynvml.nvmlDeviceGetEnforcedPowerLimit, gpu)),
    }


def _gpu_sample(gpu: Any) -> Sample:
    reasons = _number(pynvml.nvmlDeviceGetCurrentClocksEventReasons, gpu)
    if reasons is None:  # the name before driver 535
        reasons = _number(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, gpu)
    return {
        "sm_mhz": _number(pynvml.nvmlDeviceGetClockInfo, gpu, pynvml.NVML_CLOCK_SM),
        "memory_mhz": _number(pynvml.nvmlDeviceGetClockInfo, gpu, pynvml.NVML_CLOCK_MEM),
        "temperature_c": _number(pynvml.nvmlDeviceGetTemperature, gpu, pynvml.NVML_TEMPERATURE_GPU),
        "power_w": _watts(_number(pynvml.nvmlDeviceGetPowerUsage, gpu)),
        "clock_reasons": None if reasons is None else [name for bit, name in REASONS.items() if reasons & bit],
    }


def _cpu_sample() -> Sample:
    frequency = psutil.cpu_freq()  # None where the system does not tell
    return {"load_average_1_min": psutil.getloadavg()[0], "cpu_mhz": frequency.current if frequency else None}


def _number(function: Callable[..., int], *arguments: Any) -> int | None:
    """What an NVML function returns; None where this GPU or driver does not have it."""
    try:
        return function(*arguments)
    except pynvml.NVMLError:
        return None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
