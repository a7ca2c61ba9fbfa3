"""Meters: NVML for NVIDIA GPUs (counter and power both), RAPL for Intel and AMD processors under Linux.

NVML is read through ``nvidia-ml-py``, NVIDIA's own binding: one file without requirements. Zeus, which reads the same
counters, requires pandas, scikit-learn and more, and leaves out RAPL in silence where it may not read it.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuroav.checks import fail
from neuroav.energy.measure import Meter, MeterError, Reading

POWERCAP = Path("/sys/class/powercap")
PERIOD_S = 0.02  # between two looks at the power; NVML renews it every 20 to 100 ms
LEAST_SAMPLES = 5
VALUE_FIELDS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by NVML_VALUE_TYPE


def meters_for(device: torch.device) -> tuple[list[Meter], str]:
    """Find the meters of a device, or the reason why there are none.

    Returns:
        Meters, and an empty reason; or no meters, and why.
    """
    finders: list[Callable[[], Meter]] = [RAPL]
    if device.type == "cuda":
        finders.insert(0, lambda: NVML.of(device))
    found: list[Meter] = []
    reasons = []
    for finder in finders:
        try:
            found.append(finder())
        except MeterError as error:
            reasons.append(str(error))
    if device.type == "cuda" and not (found and isinstance(found[0], NVML)):
        return [], reasons[0]  # the processor's energy is not the GPU's
    return found, "" if found else " ".join(reasons)


# ---------------------------------------------------------------------------------------------------------------- NVML


class NVML:
    """A GPU's total-energy counter, and its power integrated over time.

    Args:
        handle: Of :func:`pynvml.nvmlDeviceGetHandleByUUID` or another.
        period_s: Time between two looks at the power.

    Raises:
        MeterError: If the device answers neither.
    """

    def __init__(self, handle: Any, period_s: float = PERIOD_S):
        self._nvml = _pynvml()
        self._handle, self._period_s = handle, period_s
        self.name = "NVML"
        model = self._ask("nvmlDeviceGetName")
        self.name = f"NVML {model.decode() if isinstance(model, bytes) else model}"
        answers = [self._answers(read) for read in (self._counter_j, self._power_w)]
        self._methods = [name for name, there in zip(("counter", "power"), answers, strict=True) if there]
        if not self._methods:
            raise fail(self.name, "an energy counter or a power reading", "neither", kind=MeterError)

    @classmethod
    def of(cls, device: torch.device) -> NVML:
        """Meter of a CUDA device of PyTorch, found by its UUID.

        Raises:
            MeterError: If NVML is not there, or knows no such device.
        """
        nvml = _pynvml()
        try:
            nvml.nvmlInit()
            uuid = str(torch.cuda.get_device_properties(device).uuid)
            return cls(nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"))
        except nvml.NVMLError as error:
            raise fail("NVML", f"a meter for {device}", f"{error}", kind=MeterError) from error

    @contextmanager
    def window(self) -> Iterator[Reading]:
        """Measure by both methods while the context lasts."""
        reading = Reading()
        sampler = Sampler(self._power_w, self._period_s) if "power" in self._methods else None
        before = self._counter_j() if "counter" in self._methods else 0.0
        start = time.perf_counter()
        try:
            yield reading
            stop = time.perf_counter()
            if "counter" in self._methods:
                reading.joules["counter"] = self._counter_j() - before
        finally:
            samples = [] if sampler is None else sampler.stop()
        if sampler is not None:
            if sampler.error is not None:
                raise sampler.error
            reading.joules["power"] = integrate(self.name, samples, start, stop)
        reading.state = self.state()

    def describe(self) -> dict[str, Any]:
        """Name, driver, power limit, persistence mode and methods."""
        driver = self._asked_nvml("nvmlSystemGetDriverVersion")
        return {
            "meter": self.name,
            "driver": driver.decode() if isinstance(driver, bytes) else driver,
            "power_limit_w": self._optional("nvmlDeviceGetEnforcedPowerLimit", scale=1e-3),
            "persistence_mode": self._optional("nvmlDeviceGetPersistenceMode"),
            "methods": self._methods,
        }

    def state(self) -> dict[str, Any]:
        """Temperature and clocks now."""
        return {
            "temperature_c": self._optional("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU),
            "sm_clock_mhz": self._optional("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": self._optional("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_MEM),
        }

    def _counter_j(self) -> float:
        return self._ask("nvmlDeviceGetTotalEnergyConsumption") * 1e-3

    def _power_w(self) -> float:
        """Instantaneous power; the plain reading, an average on new devices, where there is none."""
        (value,) = self._ask("nvmlDeviceGetFieldValues", [self._nvml.NVML_FI_DEV_POWER_INSTANT])
        if value.nvmlReturn == self._nvml.NVML_SUCCESS:
            return getattr(value.value, VALUE_FIELDS[value.valueType]) * 1e-3
        return self._ask("nvmlDeviceGetPowerUsage") * 1e-3

    def _ask(self, function: str, *args: Any) -> Any:
        return self._asked_nvml(function, self._handle, *args)

    def _asked_nvml(self, function: str, *args: Any) -> Any:
        try:
            return getattr(self._nvml, function)(*args)
        except self._nvml.NVMLError as error:
            raise fail(self.name, f"an answer to {function}", f"{error}", kind=MeterError) from error

    def _answers(self, read: Callable[[], float]) -> bool:
        try:
            read()
        except MeterError:
            return False
        return True

    def _optional(self, function: str, *args: Any, scale: float | None = None) -> Any:
        try:
            value = self._ask(function, *args)
        except MeterError:
            return None
        return value if scale is None else value * scale


def _pynvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        remedy = 'Install it: python -m pip install "neuroav[energy]".'
        raise fail("NVML", "the package nvidia-ml-py", "none", remedy, MeterError) from error


class Sampler:
    """Reads a power again and again on a thread of its own, from the moment it is made.

    Args:
        read: Returns W.
        period_s: Time between two readings.
    """

    def __init__(self, read: Callable[[], float], period_s: float):
        self.error: MeterError | None = None
        self._read, self._period_s = read, period_s
        self._samples: list[tuple[float, float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while True:
            try:
                self._samples.append((time.perf_counter(), self._read()))
            except MeterError as error:
                self.error = error
                return
            if self._stopped.wait(self._period_s):
                return

    def stop(self) -> list[tuple[float, float]]:
        """Stop reading; returns pairs of s and W."""
        self._stopped.set()
        self._thread.join()
        return self._samples


def integrate(where: str, samples: Sequence[tuple[float, float]], start: float, stop: float) -> float:
    """Energy in J of a power sampled at some times, linear in between and constant outside.

    Raises:
        MeterError: If there are too few samples, or their times or values are none.

    Example:
        >>> integrate("f", [(0.0, 1.0), (1.0, 1.0), (2.0, 3.0), (3.0, 3.0), (4.0, 3.0)], 0.5, 4.5)
        10.0
    """
    if len(samples) < LEAST_SAMPLES:
        found = f"{len(samples)} within {stop - start:.2g} s"
        raise fail(where, f"at least {LEAST_SAMPLES} readings of the power", found, "Use a longer window.", MeterError)
    t, watts = np.array(samples, dtype=np.float64).T
    if not (np.isfinite(watts).all() and (watts >= 0).all() and (np.diff(t) > 0).all()):
        raise fail(where, "power of 0 W or more at growing times", "something else", kind=MeterError)
    inside = t[(t > start) & (t < stop)]
    times = np.concatenate([[start], inside, [stop]])
    power = np.interp(times, t, watts)
    return float((np.diff(times) * (power[1:] + power[:-1]) / 2).sum())


# ---------------------------------------------------------------------------------------------------------------- RAPL


class RAPL:
    """Energy counters of the processor's packages and of memory, all of the machine's sockets together.

    Args:
        root: Where the system shows them.

    Raises:
        MeterError: If there are none, or they may not be read.
    """

    name = "RAPL"

    def __init__(self, root: Path = POWERCAP):
        found = sorted(root.glob("*-rapl:*")) if root.is_dir() else []
        self._domains = {path: _text(path / "name") for path in found if _is_counted(path)}
        if not self._domains:
            what = f"energy counters under {root}"
            raise fail(self.name, what, "none", "Virtual machines and containers rarely have them.", MeterError)
        self._range_j = self._read("max_energy_range_uj")
        self._read()

    @contextmanager
    def window(self) -> Iterator[Reading]:
        """Measure while the context lasts; a counter may start anew once."""
        reading = Reading()
        before = self._read()
        yield reading
        after = self._read()
        moved = {path: after[path] - before[path] for path in before}
        reading.joules["counter"] = sum(
            value if value >= 0 else value + self._range_j[path] for path, value in moved.items()
        )

    def describe(self) -> dict[str, Any]:
        """Which domains are summed."""
        return {"meter": self.name, "domains": sorted(self._domains.values()), "methods": ["counter"]}

    def _read(self, name: str = "energy_uj") -> dict[Path, float]:
        try:
            return {path: int(_text(path / name)) * 1e-6 for path in self._domains}
        except (OSError, ValueError) as error:
            remedy = "Only root may read them since 2020; ask your administrator."
            raise fail(self.name, "readable energy counters", f"{error}", remedy, MeterError) from error


def _is_counted(path: Path) -> bool:
    """Packages and memory; cores and graphics are part of a package, and ``psys`` of everything."""
    name = _text(path / "name") if (path / "name").is_file() else ""
    return name.startswith("package") or name == "dram"


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
