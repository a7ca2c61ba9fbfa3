"""Measuring with a meter whose energy is known: the arithmetic, the turns, the flags, and what is an error."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from neuroav.checks import InputError
from neuroav.energy import meters as module
from neuroav.energy.latency import in_turns
from neuroav.energy.measure import Clock, MeterError, Plan, Reading, Subject, measure
from neuroav.energy.meters import NVML, RAPL, Sampler, integrate, meters_for

PLAN = Plan(warm_up_s=1.0, pause_s=0.5)


class World:
    """Time and energy that move only when something runs or waits."""

    def __init__(self, idle_w=10.0):
        self.t, self.joules, self.idle_w, self.ran = 0.0, 0.0, idle_w, []

    def pass_time(self, seconds, watts=None):
        self.t += seconds
        self.joules += seconds * (self.idle_w if watts is None else watts)

    def clock(self):
        return Clock(now=lambda: self.t, wait=self.pass_time)

    def subject(self, name, seconds, watts, clips=4):
        def run():
            self.ran.append((name, self.t))
            self.pass_time(seconds, watts)

        return Subject(run, clips)


class Fake:
    """Knows the energy of a world; ``power`` is off by a factor."""

    name = "fake"

    def __init__(self, world, power=1.0):
        self.world, self.power, self.windows = world, power, []

    @contextmanager
    def window(self):
        reading, before, start = Reading(), self.world.joules, self.world.t
        yield reading
        joules = self.world.joules - before
        self.windows.append(self.world.t - start)
        reading.joules.update(counter=joules, power=joules * self.power)

    def describe(self):
        return {}


def test_energy_per_clip_gross_and_net():
    world = World()
    found = measure({"a": world.subject("a", 0.01, 110.0)}, [Fake(world)], PLAN, world.clock())["a"]
    assert found.latency_s == pytest.approx(0.01)
    assert found.clips_per_s == pytest.approx(400)
    for energy in found.energy:
        assert energy.idle_w == pytest.approx(10)
        assert energy.gross_j == pytest.approx([110 * 0.01 / 4] * 5)
        assert energy.net_j == pytest.approx([100 * 0.01 / 4] * 5)
        row = energy.to_json()
        assert (row["gross_j"], row["net_j"]) == pytest.approx((0.275, 0.25))
        assert row["gross_j_sd"] == pytest.approx(0, abs=1e-9)
    assert found.flags == ()


def test_subjects_take_turns_in_windows_long_enough():
    world = World()
    meter = Fake(world)
    subjects = {"a": world.subject("a", 0.3, 50.0), "b": world.subject("b", 0.002, 20.0)}
    measure(subjects, [meter], PLAN, world.clock())
    turns = [name for i, (name, _) in enumerate(world.ran) if i == 0 or world.ran[i - 1][0] != name]
    assert "".join(turns) == "ab" * 6  # the first are for warming up
    assert len(meter.windows) == 2 + 2 * 5
    assert all(5.0 - 1e-6 <= seconds < 5.6 for seconds in meter.windows)


def test_methods_that_disagree_are_flagged():
    world = World()
    found = measure({"a": world.subject("a", 0.01, 110.0)}, [Fake(world, power=1.2)], PLAN, world.clock())["a"]
    assert found.flags == ("fake: counter and power differ by 18%",)


def test_spread_and_idle_drift_are_flagged():
    world = World()
    steps = iter(range(10**6))

    def run():
        world.pass_time(0.01, 100.0 if next(steps) // 700 % 2 else 60.0)
        world.idle_w = 10.0 + world.t / 10

    found = measure({"a": Subject(run, 4)}, [Fake(world)], PLAN, world.clock())["a"]
    assert any("spread of the trials" in flag for flag in found.flags)
    assert any("idle power moved" in flag for flag in found.flags)


def test_what_does_not_stand_out_from_idle_is_flagged():
    world = World()
    found = measure({"a": world.subject("a", 0.01, 9.0)}, [Fake(world)], PLAN, world.clock())["a"]
    assert found.flags[0] == "fake, counter: not told from the idle machine in every trial"
    assert found.energy[0].net_j[0] == pytest.approx(-1 * 0.01 / 4)


def test_short_plans_say_so():
    world = World()
    plan = Plan(window_s=0.5, trials=2, idle_s=1.0)
    found = measure({"a": world.subject("a", 0.01, 110.0)}, [Fake(world)], plan, world.clock())["a"]
    assert found.flags == ("2 windows of 0.5 s; 5 of 5 s are the least that can be trusted",)


def test_without_a_meter_there_are_times_and_no_energy():
    world = World()
    found = measure({"a": world.subject("a", 0.01, 110.0)}, [], PLAN, world.clock())["a"]
    assert found.energy == ()
    assert found.latency_s == pytest.approx(0.01)
    assert found.to_json()["energy"] == []


class Failing(Fake):
    """Fails from some window on."""

    def __init__(self, world, after, how):
        super().__init__(world)
        self.after, self.how = after, how

    @contextmanager
    def window(self):
        with super().window() as reading:
            yield reading
        if len(self.windows) > self.after:
            self.how(reading)


def gone(reading):
    raise MeterError("fake: expected an answer, got GPU is lost.")


def still(reading):
    reading.joules["counter"] = 0.0


def backwards(reading):
    reading.joules["power"] = -3.0


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (gone, "GPU is lost"),
        (still, r"a counter that moves within 5.\d s, got 0 J"),
        (backwards, "a power that moves within .* got -3 J"),
    ],
)
@pytest.mark.parametrize("after", [0, 4])
def test_a_meter_that_fails_is_an_error(how, text, after):
    world = World()
    with pytest.raises(MeterError, match=text):
        measure({"a": world.subject("a", 0.01, 110.0)}, [Failing(world, after, how)], PLAN, world.clock())


# ---------------------------------------------------------------------------------------------------------------- power


def test_power_is_integrated_with_its_ends():
    samples = [(0.0, 100.0), (1.0, 100.0), (2.0, 300.0), (3.0, 300.0), (3.5, 300.0)]
    assert integrate("f", samples, 0.5, 4.0) == pytest.approx(50 + 200 + 300 * 2)


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([(0.0, 1.0)] * 2, "at least 5 readings of the power, got 2"),
        ([(0.1 * i, -1.0) for i in range(9)], "power of 0 W or more"),
        ([(0.0, 1.0) for i in range(9)], "growing times"),
        ([(0.1 * i, float("nan")) for i in range(9)], "power of 0 W or more"),
    ],
)
def test_power_that_is_none_is_an_error(samples, text):
    with pytest.raises(MeterError, match=text):
        integrate("f", samples, 0.0, 1.0)


def test_the_sampler_stops_at_an_error():
    def read():
        raise MeterError("lost")

    sampler = Sampler(read, 1e-3)
    assert sampler.stop() == []
    assert str(sampler.error) == "lost"


# ----------------------------------------------------------------------------------------------------------------- NVML


class GPU:
    """What NVML's functions answer, in its own structures and units, one scripted look after another."""

    def __init__(self, nvml, power_mw=250_000, fields=True, counter=True):
        self.nvml, self.power_mw, self.fields, self.counter, self.lost = nvml, power_mw, fields, counter, False
        self.start = module.time.perf_counter()

    def install(self, monkeypatch):
        answers = {
            "nvmlDeviceGetName": lambda h: "NVIDIA Fake",
            "nvmlSystemGetDriverVersion": lambda: b"600.1",
            "nvmlDeviceGetTotalEnergyConsumption": self.energy_mj,
            "nvmlDeviceGetFieldValues": self.field_values,
            "nvmlDeviceGetPowerUsage": lambda h: self.power_mw,
            "nvmlDeviceGetEnforcedPowerLimit": lambda h: 700_000,
            "nvmlDeviceGetPersistenceMode": lambda h: 1,
            "nvmlDeviceGetTemperature": lambda h, sensor: 41,
            "nvmlDeviceGetClockInfo": lambda h, kind: {1: 1980, 2: 2619}[kind],
        }
        for name, answer in answers.items():
            monkeypatch.setattr(self.nvml, name, answer)
        return self

    def refuse(self, error):
        raise self.nvml.NVMLError(error)

    def energy_mj(self, handle):
        if self.lost:
            self.refuse(self.nvml.NVML_ERROR_GPU_IS_LOST)
        if not self.counter:
            self.refuse(self.nvml.NVML_ERROR_NOT_SUPPORTED)
        return int(5e9 + (module.time.perf_counter() - self.start) * self.power_mw)

    def field_values(self, handle, fields):
        assert fields == [186]
        values = (self.nvml.c_nvmlFieldValue_t * 1)()
        values[0].fieldId = 186
        values[0].nvmlReturn = 0 if self.fields else self.nvml.NVML_ERROR_NOT_SUPPORTED
        values[0].valueType = self.nvml.NVML_VALUE_TYPE_UNSIGNED_INT
        values[0].value.uiVal = self.power_mw if self.fields else 0
        return values


@pytest.fixture
def nvml():
    return pytest.importorskip("pynvml", reason="nvidia-ml-py (the extra 'energy') is not installed")


@pytest.mark.parametrize("fields", [True, False], ids=["instant power", "plain power"])
def test_nvml_reads_counter_and_power_in_joules(nvml, monkeypatch, fields):
    GPU(nvml, fields=fields).install(monkeypatch)
    meter = NVML(object(), period_s=1e-3)
    begin = module.time.perf_counter()
    with meter.window() as reading:
        module.time.sleep(0.05)
    most = module.time.perf_counter() - begin
    for method in ("counter", "power"):
        assert 250 * 0.05 - 0.01 <= reading.joules[method] <= 250 * most + 0.01  # the counter is whole mJ
    assert reading.state == {"temperature_c": 41, "sm_clock_mhz": 1980, "memory_clock_mhz": 2619}
    assert meter.describe() == {
        "meter": "NVML NVIDIA Fake",
        "driver": "600.1",
        "power_limit_w": 700.0,
        "persistence_mode": 1,
        "methods": ["counter", "power"],
    }


def test_nvml_without_a_counter_has_power_alone(nvml, monkeypatch):
    GPU(nvml, counter=False).install(monkeypatch)
    with NVML(object(), period_s=1e-3).window() as reading:
        module.time.sleep(0.03)
    assert list(reading.joules) == ["power"]


def test_a_gpu_lost_midway_is_an_error(nvml, monkeypatch):
    gpu = GPU(nvml).install(monkeypatch)
    meter = NVML(object(), period_s=1e-3)
    text = "NVML NVIDIA Fake: expected an answer to nvmlDeviceGetTotalEnergyConsumption"
    with pytest.raises(MeterError, match=text), meter.window():
        gpu.lost = True


def test_a_gpu_that_answers_nothing_is_no_meter(nvml, monkeypatch):
    gpu = GPU(nvml, counter=False).install(monkeypatch)
    monkeypatch.setattr(nvml, "nvmlDeviceGetFieldValues", lambda h, f: gpu.refuse(nvml.NVML_ERROR_NOT_SUPPORTED))
    with pytest.raises(MeterError, match="an energy counter or a power reading, got neither"):
        NVML(object())


def test_without_the_package_there_is_a_reason(monkeypatch):
    monkeypatch.setitem(module.__dict__, "importlib", SimpleNamespace(import_module=refuse_import))
    found, reason = meters_for(torch.device("cuda", 0))
    assert found == []
    assert "nvidia-ml-py" in reason
    assert "neuroav[energy]" in reason


def refuse_import(name):
    raise ImportError(name)


# ----------------------------------------------------------------------------------------------------------------- RAPL


def domain(root, folder, name, energy_uj, range_uj=1_000_000):
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", range_uj)):
        (path / file).write_text(f"{value}\n")
    return path / "energy_uj"


def test_rapl_sums_packages_and_memory_and_survives_a_wrap(tmp_path):
    first = domain(tmp_path, "intel-rapl:0", "package-0", 900_000)
    domain(tmp_path, "intel-rapl:0:0", "core", 5)
    memory = domain(tmp_path, "intel-rapl:0:1", "dram", 100)
    domain(tmp_path, "intel-rapl:1", "psys", 7)
    meter = RAPL(tmp_path)
    with meter.window() as reading:
        first.write_text("150000\n")
        memory.write_text("50100\n")
    assert reading.joules == {"counter": pytest.approx(0.25 + 0.05)}
    assert meter.describe()["domains"] == ["dram", "package-0"]


def test_no_rapl_is_a_reason_and_never_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(module.RAPL.__init__, "__defaults__", (tmp_path / "absent",))
    found, reason = meters_for(torch.device("cpu"))
    assert found == []
    assert "energy counters under" in reason
    assert "Virtual machines" in reason


def test_counters_that_may_not_be_read_are_a_reason(tmp_path):
    energy = domain(tmp_path, "intel-rapl:0", "package-0", 1)
    energy.write_text("denied\n")
    with pytest.raises(MeterError, match=r"readable energy counters.*Only root"):
        RAPL(tmp_path)
    energy.write_text("1\n")
    RAPL(tmp_path)
    energy.with_name("max_energy_range_uj").unlink()
    with pytest.raises(MeterError, match=r"readable energy counters.*max_energy_range_uj"):
        RAPL(tmp_path)


def test_runs_take_turns_and_the_warm_up_is_not_timed():
    now, order = [0.0], []

    def run(name, seconds):
        def once():
            order.append(name)
            now[0] += seconds * (100 if len(order) <= 4 else 1)

        return once

    clock = Clock(now=lambda: now[0])
    found = in_turns({"a": run("a", 1.0), "b": run("b", 3.0)}, turns=3, warm_up=2, clock=clock)
    assert order == ["a", "b"] * 5
    assert (found["a"].median_s, found["a"].iqr_s, found["a"].turns) == (1.0, 0.0, 3)
    assert found["b"].median_s == 3.0
    with pytest.raises(InputError, match="turns in"):
        in_turns({}, turns=1)
