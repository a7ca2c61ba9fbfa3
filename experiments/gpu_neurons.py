"""LIF neurons on a GPU against its own memory and SpikingJelly: forward and training, fixed and dynamic thresholds.

Command: ``PYTHONPATH=. python experiments/gpu_neurons.py`` on one NVIDIA GPU with 16 GiB or more (two minutes on an
H100 is the guess: not measured yet; needs CuPy; SpikingJelly 2 is timed where it is installed). First every kernel is
compared with the CPU: spikes and membranes bit for bit, gradients closely. Then everybody computes the neuron of
``neuroav.bench.neuron_peers`` on the same numbers; medians and quartiles of ``--repeats`` calls, CUDA events for
clocks. The floor is the time of a copy, in the same run, that moves the bytes a case can't avoid: in float32 8 an
element forward (read x, write the spikes) and 24 in training (write the membrane as well; read it and the spikes'
gradient, write that of x). Small cases live in the cache, and so does their floor; their calls take as long as Python
does, so ours are also timed as a CUDA graph. Writes ``experiments/results/gpu_neurons_<device>.{json,md}``.

The targets, at (64, 256, 4096): at least 0.7 of the speed of the copy, forward and training, and not slower than
SpikingJelly's Triton kernel under a fixed threshold.

Memory errors and races: ``PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 1
python experiments/gpu_neurons.py --check``, and the same with ``racecheck``, ``synccheck`` and ``initcheck``.
"""

import argparse
import importlib.util
import math
import os
import statistics
import subprocess
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from gpu_events import kernel_seconds, timed
from torch import Tensor

from neuroav.bench.machine import machine
from neuroav.files import save_json, save_text
from neuroav.kernels import cuda
from neuroav.neurons import DynamicLIF, Full, Recompute

RESULTS = Path(__file__).parent / "results"
LARGE = (64, 256, 4096)
SHAPES = (LARGE, (4, 64, 512), (16, 64, 512), (16, 64, 4096), (64, 64, 512))
SHARE_OF_COPY = 0.7
STATE_BYTES = 4
WARM_UP = 3


@dataclass(frozen=True)
class Case:
    """What is computed; ``theta`` is ``"fixed"``, ``"(T,B,1)"``, or the latter ``"learnt"``, with its gradient."""

    shape: tuple[int, int, int]
    training: bool
    theta: str = "fixed"
    dtype: torch.dtype = torch.float32

    @property
    def name(self) -> str:
        """How the case is called in rows."""
        what, size = "training" if self.training else "forward", "x".join(map(str, self.shape))
        return f"{what} {size} {str(self.dtype).removeprefix('torch.')}, theta {self.theta}"

    @property
    def bytes_needed(self) -> int:
        """Bytes that can't be avoided."""
        of_x = self.dtype.itemsize
        return math.prod(self.shape) * (4 * of_x + 2 * STATE_BYTES if self.training else 2 * of_x)

    def inputs(self) -> tuple[Tensor, Tensor | float, Tensor]:
        """Return x about N(0.5, 1), theta (1, or uniform from 0.5 to 1.5) and the gradient of the spikes; by seed."""
        generator = torch.Generator("cuda").manual_seed(7)
        x = (torch.randn(self.shape, generator=generator, device="cuda") + 0.5).to(self.dtype)
        grad = torch.randn(self.shape, generator=generator, device="cuda").to(self.dtype)
        theta = torch.rand(*self.shape[:2], 1, generator=generator, device="cuda") + 0.5
        return x, 1.0 if self.theta == "fixed" else theta, grad


def cases() -> list[Case]:
    """Return all shapes in float32; the large one also in bfloat16 and with the gradient of theta."""
    found = [
        Case(shape, training, theta)
        for shape in SHAPES
        for training in (False, True)
        for theta in ("fixed", "(T,B,1)")
    ]  # fmt: skip
    found += [Case(LARGE, training, dtype=torch.bfloat16) for training in (False, True)]
    return [*found, Case(LARGE, True, "learnt")]


Forward = Callable[[Tensor, Tensor | float], Tensor]


def call_of(case: Case, forward: Forward) -> Callable[[], Tensor]:
    """Return what is timed: spikes, in training after the gradients were computed."""
    x, theta, grad = case.inputs()
    leaves = [x.requires_grad_(case.training)]
    if case.theta == "learnt":
        leaves.append(theta.requires_grad_())

    def infer() -> Tensor:
        with torch.no_grad():
            return forward(x, theta)

    def train() -> Tensor:
        spikes = forward(x, theta)
        torch.autograd.grad(spikes, leaves, grad)
        return spikes.detach()

    return train if case.training else infer


def ours(memory: Full | Recompute) -> Forward:
    """Our layer as the peers' neuron."""
    layer = DynamicLIF(tau=2.0, reset="soft", gain="unit", memory=memory).cuda()
    return lambda x, theta: layer(x, theta)[0]


def graph_of(run: Callable[[], Tensor]) -> Callable[[], None]:
    """Return the call as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def copy_of(size: int) -> Callable[[], Tensor]:
    """Return a call that reads and writes so many bytes together."""
    source = torch.empty(size // 2, dtype=torch.uint8, device="cuda").fill_(1)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def row(case: Case, impl: str, run: Callable[[], object], repeats: int, floor_s: float | None, **more: object) -> dict:
    """Time a call; one row of the result, as every bench of this package writes it, and what is particular here."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    seconds = timed(run, repeats)
    peak, quartiles = torch.cuda.max_memory_allocated(), statistics.quantiles(seconds, n=4)
    median = statistics.median(seconds)
    return {
        "bench": "gpu_neurons", "case": case.name, "impl": impl, "median_s": median,
        "iqr_s": quartiles[2] - quartiles[0], "throughput": math.prod(case.shape) / median, "unit": "neuron-step/s",
        "max_rss_bytes": peak, "tensors": (peak - before) / (case.dtype.itemsize * math.prod(case.shape)),
        "share_of_copy": (floor_s or median) / median, **more,
    }  # fmt: skip


def measure(case: Case, repeats: int) -> list[dict]:
    """Rows of the copy and of ours."""
    floor = row(case, "floor", copy_of(case.bytes_needed), repeats, None)
    run = call_of(case, ours(Full()))
    limit = SHARE_OF_COPY if case.shape == LARGE and case.theta != "learnt" else None
    rows = [floor, row(case, "neuroav", run, repeats, floor["median_s"], limit=limit)]
    rows[-1]["kernels_s"] = kernel_seconds(run, 5)
    rows.append(row(case, "neuroav, CUDA graph", graph_of(run), repeats, floor["median_s"]))
    if case.training:
        again = call_of(case, ours(Recompute()))
        rows.append(row(case, "neuroav, Recompute", again, repeats, floor["median_s"]))
    return rows


# --------------------------------------------------------------------------------------------------------- SpikingJelly


def spikingjelly() -> Forward:
    """SpikingJelly's LIFNode as the same neuron."""
    from spikingjelly.activation_based import neuron, surrogate

    node = neuron.LIFNode(
        tau=2.0, decay_input=False, v_threshold=1.0, v_reset=None, detach_reset=True, step_mode="m",
        surrogate_function=surrogate.ATan(alpha=2.0),
    ).cuda()  # fmt: skip

    def forward(x: Tensor, theta: Tensor | float) -> Tensor:
        node.reset()
        return node(x)

    return forward


def measure_spikingjelly(wanted: list[Case], floors: dict[str, float], repeats: int) -> list[dict]:
    """Rows of SpikingJelly, whose implementation this process's environment has chosen."""
    from spikingjelly.activation_based import functional

    chosen = functional.neuron_implementation("lif", torch.device("cuda", 0))["implementation"]
    rows = []
    for case in wanted:
        run = call_of(case, spikingjelly())
        differ = float((run() != call_of(case, ours(Full()))()).double().mean())
        rows.append(row(case, f"SpikingJelly, {chosen}", run, repeats, floors[case.name], spikes_differ=differ))
    return rows


def in_process(implementation: str, *arguments: object) -> list[dict]:
    """Run :func:`measure_spikingjelly` in a process of its own, as its choice is made once."""
    os.environ["SJ_LIF_CUDA_IMPLEMENTATION"] = implementation
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure_spikingjelly, *arguments).result()


# ---------------------------------------------------------------------------------------------------------------- check


def check() -> int:
    """Compare the kernels with the CPU's; returns the number of spikes and membranes compared."""
    compared = 0
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        for size in ((9, 5, 260), (4, 11, 37), (7, 2, 128)):
            for axes in ("TBN", "TB", "TN", "N", ""):
                for keep in (1, 3):
                    compared += check_one(dtype, size, axes, keep)
    return compared


def check_one(dtype: torch.dtype, size: tuple[int, int, int], axes: str, keep: int) -> int:
    """One case, both passes, with refractory steps and all gradients."""
    state = torch.float64 if dtype == torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(len(axes))
    x = (torch.randn(size, generator=generator) + 0.6).to(dtype)
    theta_size = [whole if axis in axes else 1 for axis, whole in zip("TBN", size, strict=True)]
    theta = torch.rand(theta_size, generator=generator).to(state) * 0.6 + 0.3
    decay = torch.rand(size[2], generator=generator).to(state) * 0.6 + 0.2
    options = (0.1, False, False, False, 2, False, 0, 2.0, 1.0, keep)

    def run(device: str) -> tuple[list[Tensor], list[Tensor]]:
        inputs = [each.to(device) for each in (x, theta, decay)]
        outputs = torch.ops.neuroav.dynamic_lif(inputs[0], inputs[1], None, inputs[2], None, *options)
        grads = torch.ops.neuroav.dynamic_lif_backward(
            torch.ones_like(inputs[0]), None, None, inputs[0], *outputs[3:], inputs[1], None, inputs[2], None, *options,
            dtype, True, True, True,
        )  # fmt: skip
        return [each.cpu() for each in outputs], [each.cpu() for each in grads]

    (outputs, grads), (wanted, wanted_grads) = run("cuda"), run("cpu")
    same = all(map(torch.equal, outputs, wanted))
    close = all(
        torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-4 * float(other.abs().max()))
        for one, other in zip(grads, wanted_grads, strict=True)
    )
    if not (same and close):
        raise SystemExit("gpu_neurons: the GPU and the CPU differ; run the tests in tests/gpu to see where")
    return sum(each.numel() for each in outputs)


# --------------------------------------------------------------------------------------------------------------- result


def table(result: dict) -> str:
    """The result as a page."""
    about = result["machine"]
    lines = [
        f"# Neurons on {about['device']}",
        "",
        f"{about['date']}, driver {about['driver']}, torch {about['torch']}, CuPy {about['cupy']},",
        f"CUDA {about['cuda']}, commit {about['commit']}.",
        f"{about['numbers_compared']} spikes and membranes are equal to the CPU's, bit for bit.",
        "Share of copy: the time of a copy of the bytes that the case can't avoid, over the median.",
        "",
        "| case | impl | median ms | IQR ms | share of copy | limit | tensors | kernels, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in result["rows"]:
        kernels = each.get("kernels_s", {}).items()
        cells = [
            each["case"], each["impl"], f"{1000 * each['median_s']:.4f}", f"{1000 * each['iqr_s']:.4f}",
            f"{each['share_of_copy']:.2f}", f"{each.get('limit') or ''}", f"{each['tensors']:.2f}",
            "; ".join(f"{name} {1000 * seconds:.4f}" for name, seconds in kernels),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"Left out: {reason}" for reason in result["left_out"])]
    return "\n".join(lines).rstrip() + "\n"


def about_machine(compared: int) -> dict:
    """The machine, with its GPU."""
    device = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    return machine() | {
        "device": device.name, "device_memory_bytes": device.total_memory, "cuda": torch.version.cuda,
        "driver": driver, "cupy": __import__("cupy").__version__,
        "numbers_compared": compared,
    }  # fmt: skip


def main() -> None:
    """Check, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare with the CPU, for compute-sanitizer")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not torch.cuda.is_available() or not cuda.available():
        raise SystemExit(f"gpu_neurons: needs a CUDA device and CuPy. CUDA kernels: {cuda.describe()}")
    compared = check()
    print(f"{compared} spikes and membranes equal to the CPU's, bit for bit")  # noqa: T201
    if options.check:
        return
    rows, left_out = [each for case in cases() for each in measure(case, options.repeats)], []
    if importlib.util.find_spec("spikingjelly"):
        fixed = [case for case in cases() if case.theta == "fixed"]
        floors = {each["case"]: each["median_s"] for each in rows if each["impl"] == "floor"}
        torch.cuda.empty_cache()
        for implementation in ("auto", "torch"):
            rows += in_process(implementation, fixed, floors, options.repeats)
    else:
        left_out.append("SpikingJelly: not installed (pip install spikingjelly)")
    result = {"machine": about_machine(compared), "rows": rows, "left_out": left_out}
    options.out.mkdir(parents=True, exist_ok=True)
    name = result["machine"]["device"].lower().replace(" ", "_").replace("-", "_")
    stem = options.out / f"gpu_neurons_{name}"
    save_json(stem.with_suffix(".json"), result)
    save_text(stem.with_suffix(".md"), table(result))
    print(table(result))  # noqa: T201


if __name__ == "__main__":
    main()
