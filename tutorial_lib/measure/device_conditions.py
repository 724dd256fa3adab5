"""What a device did while something was measured on it: clocks, temperature, power, and why it slowed down.

A GPU is read through NVML, NVIDIA's management library, which comes with the driver; that takes a few calls of a
C function between two rounds of measuring, and no thread or process beside them. Of a CPU, Linux tells the
load average, the frequency and its governor.
"""

import ctypes
import os
import platform
from pathlib import Path
from typing import Any

import torch

from tutorial_lib.builds import report

SM, MEMORY, CHARS = 1, 2, 96
"""``nvmlClockType_t``: the clock of the multiprocessors and of the memory; bytes for a text."""
REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
"""Why clocks are not higher: the bits of ``nvmlClocksEventReasons``, which older drivers call throttle reasons."""
HARMLESS = {"idle"}
"""A GPU that is asked between two rounds has nothing to do."""

Sample = dict[str, Any]


class NvmlError(RuntimeError):
    """NVML is not here, or does not tell something; the message says what."""


class Nvml:
    """One GPU, as NVML sees it.

    Parameters
    ----------
    uuid : str
        As ``nvidia-smi -L`` prints it: ``GPU-...``.
    library : str
        The file to load.
    """

    def __init__(self, uuid: str, library: str = "libnvidia-ml.so.1") -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError:
            raise NvmlError(f"there is no {library}, which NVIDIA's driver brings.") from None
        self._gpu = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(self._gpu))

    def about(self) -> dict[str, Any]:
        """What does not change: the driver, the highest clocks, the power limit."""
        text = ctypes.create_string_buffer(CHARS)
        self._call("nvmlSystemGetDriverVersion", text, CHARS)
        return {
            "driver": text.value.decode(),
            "max_sm_mhz": self._maybe("nvmlDeviceGetMaxClockInfo", SM),
            "max_memory_mhz": self._maybe("nvmlDeviceGetMaxClockInfo", MEMORY),
            "power_limit_w": _watts(self._maybe("nvmlDeviceGetEnforcedPowerLimit")),
        }

    def sample(self) -> Sample:
        """What is so now."""
        reasons = self._maybe("nvmlDeviceGetCurrentClocksEventReasons", kind=ctypes.c_ulonglong)
        if reasons is None:
            reasons = self._maybe("nvmlDeviceGetCurrentClocksThrottleReasons", kind=ctypes.c_ulonglong)
        return {
            "sm_mhz": self._maybe("nvmlDeviceGetClockInfo", SM),
            "memory_mhz": self._maybe("nvmlDeviceGetClockInfo", MEMORY),
            "temperature_c": self._maybe("nvmlDeviceGetTemperature", 0),
            "power_w": _watts(self._maybe("nvmlDeviceGetPowerUsage")),
            "clock_reasons": None if reasons is None else [name for bit, name in REASONS.items() if reasons & bit],
        }

    def _maybe(self, function: str, *arguments: int, kind: Any = ctypes.c_uint) -> int | None:
        """A number, or None where this GPU or driver does not have it."""
        found = kind()
        try:
            self._call(function, self._gpu, *arguments, ctypes.byref(found))
        except NvmlError:
            return None
        return int(found.value)

    def _call(self, function: str, *arguments: Any) -> None:
        try:
            failed = getattr(self._library, function)(*arguments)
        except AttributeError:
            raise NvmlError(f"this driver has no {function}.") from None
        if failed:
            raise NvmlError(f"{function} of NVML failed with code {failed}.")


class Conditions:
    """What is known of a device, with samples taken while something is measured on it."""

    def __init__(self, device: torch.device) -> None:
        self._samples: list[Sample] = []
        self._gpu: Nvml | None = None
        self._about: dict[str, Any] = {"device": report.device_name(device)}
        if device.type == "cuda":
            try:
                self._gpu = Nvml(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
                self._about |= self._gpu.about()
            except (NvmlError, AttributeError) as error:
                self._about["not_known"] = f"clocks and temperature are not known: {error}"
        else:
            self._about["governor"] = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        self._about["system"] = f"{platform.system()} {platform.machine()}"

    def sample(self) -> None:
        """Look at the device now. Not while something is timed on it."""
        self._samples.append(_cpu() if self._gpu is None else self._gpu.sample())

    def summary(self) -> dict[str, Any]:
        """All that is known; of what was sampled, the smallest and the largest."""
        found: dict[str, Any] = {**self._about, "samples": len(self._samples)}
        for name in dict.fromkeys(name for sample in self._samples for name in sample):
            values = [sample[name] for sample in self._samples if sample[name] is not None]
            if not values:
                found[name] = None
            elif name == "clock_reasons":
                found[name] = sorted({reason for some in values for reason in some})
            else:
                found[name] = [min(values), max(values)]
        return found


def held_back(summary: dict[str, Any]) -> tuple[str, ...]:
    """Why the GPU's clocks were not higher at some time, other than that it had nothing to do."""
    return tuple(reason for reason in summary.get("clock_reasons") or () if reason not in HARMLESS)


def _cpu() -> Sample:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"load_average_1_min": load, "cpu_mhz": _mhz()}


def _mhz() -> float | None:
    """The mean frequency of the cores, as Linux tells it."""
    lines = (_read("/proc/cpuinfo") or "").splitlines()
    found = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return sum(found) / len(found) if found else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
