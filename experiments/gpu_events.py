"""Events on a GPU against its own memory: time per pixel and per event beside the time of moving the bytes.

Command: ``PYTHONPATH=. python experiments/gpu_events.py`` (about a minute on an H100; needs CuPy and nothing else that
torch does not bring). First every kernel is compared with the CPU, bit for bit. Then a batch of 1280x720 clips of a
moving texture, made on the GPU (``--clips 8 --frames 64``), or a real clip from ``--clip frames.npy`` (``(F, H, W)``
uint8), becomes sorted events and fused bins; medians and quartiles of ``--repeats``, CUDA events for clocks, and the
copy bandwidth measured in the same run. Writes ``experiments/results/gpu_events_<device>.{json,md}``.

The targets: a sorted list in at most 2.5 times the time of moving 8 bytes per pixel and 24 per event; fused counts in
at most 2 times that of 1.5 bytes per pixel.

Memory errors and races: ``PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 1
python experiments/gpu_events.py --check``, and the same with ``racecheck``, ``synccheck`` and ``initcheck``.
"""

import argparse
import datetime
import math
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuroav.events.camera import EventCamera
from neuroav.events.generate import bin_frames, frames_to_events
from neuroav.events.types import Bins
from neuroav.files import save_json, save_text
from neuroav.kernels import bins, clips, cuda

RESULTS = Path(__file__).parent / "results"
CONTRAST = round(0.2 * 65536)
GAP_US = 33_333
LIST_BYTES_PER_PIXEL, BYTES_PER_EVENT, BINS_BYTES_PER_PIXEL = 8, 24, 1.5
LIST_LIMIT, BINS_LIMIT = 2.5, 2.0
KINDS = ("counts", "voxels", "latest")
NOISY = EventCamera.preset("noisy").replace(refractory_us=500)


def moving_texture(count: int, num_frames: int, height: int, width: int, speed: float, device: str) -> Tensor:
    """Clips ``(B, F, H, W)`` uint8 of smooth noise that drifts by ``speed`` pixels per frame, each another way."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, height // 8 + 24, width // 8 + 24, generator=generator).to(device)
    size = (8 * coarse.shape[2], 8 * coarse.shape[3])
    ground = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[:, 0]
    frames = torch.empty(count, num_frames, height, width, dtype=torch.uint8, device=device)
    for clip in range(count):
        angle = 2 * math.pi * clip / count
        for k in range(num_frames):
            dy, dx = (round(80 + 70 * math.sin(speed * k / 70) * f(angle)) for f in (math.sin, math.cos))
            part = ground[clip, dy : dy + height, dx : dx + width]
            frames[clip, k] = (20 + 200 * part).clamp(0, 255).to(torch.uint8)
    return frames


def arguments_of(frames: Tensor) -> tuple:
    """The arguments of the ops for a batch whose first frames only set the state."""
    count, num_frames = frames.shape[:2]
    table = torch.tensor([round(65536 * math.log(grey + 1)) for grey in range(256)], dtype=torch.int32)
    table = table.to(frames.device)
    edges_us = (torch.arange(num_frames) * GAP_US).repeat(count, 1).to(frames.device)
    first = torch.stack([table[clip[0].long()] for clip in frames])
    return frames[:, 1:].contiguous(), edges_us, table, CONTRAST, CONTRAST, first, first


def bin_arguments(edges_us: Tensor, kind: int, grid: tuple[int, int]) -> tuple:
    """Ten bins or eleven nodes over the clips; bins end where frames do."""
    num_frames = edges_us.shape[1] - 1
    chosen = torch.linspace(0, num_frames, min(num_frames, 10) + 1).round().long().to(edges_us.device)
    return kind, edges_us[:, chosen].contiguous(), *grid


def check(device: str, sizes: tuple = ((90, 160), (61, 83), (65, 130))) -> int:
    """Compare every kernel with the CPU on small clips of every alignment; returns the number of events compared."""
    compared = 0
    for height, width in sizes:
        frames = moving_texture(3, 7, height, width, 9.0, "cpu")
        here = arguments_of(frames)
        there = tuple(a.to(device) if isinstance(a, Tensor) else a for a in here)
        expected = clips.contrast_events_clips(*here)
        compare(clips.contrast_events_clips(*there), expected)
        compared += len(expected[0])
        for kind in range(3):
            for grid in ((4, 5), (height, width)):
                some = bin_arguments(here[1], kind, grid)
                wanted = clips.contrast_bins_clips(*here, *some)
                moved = tuple(a.to(device) if isinstance(a, Tensor) else a for a in some)
                compare(clips.contrast_bins_clips(*there, *moved), wanted)
                part = slice(0, int(expected[4][0]))
                columns = [column[part] for column in expected[:4]]
                some = (height, width, kind, some[1][0].contiguous(), *grid)
                moved = tuple(a.to(device) if isinstance(a, Tensor) else a for a in (*columns, *some))
                compare([bins.bin_events(*moved)], [wanted[0][0]])
        compared += check_noisy(frames[0], device)
    return compared


def check_noisy(frames: Tensor, device: str) -> int:
    """The same for the full camera model; returns the number of events."""
    t_us = torch.arange(len(frames)) * GAP_US
    (want, _), (got, _) = (frames_to_events(each, t_us, NOISY, labels=True) for each in (frames, frames.to(device)))
    compare((got.t_us, got.x, got.y, got.p, got.is_noise), (want.t_us, want.x, want.y, want.p, want.is_noise))
    for kind in KINDS:
        some = Bins(kind, torch.linspace(0, int(t_us[-1]), 5).long(), (4, 5))
        (wanted, _), (binned, _) = (bin_frames(each, t_us, some, NOISY) for each in (frames, frames.to(device)))
        compare([binned], [wanted])
    return len(want)


def compare(actual: object, expected: object) -> None:
    """Raise unless all tensors are equal."""
    for got, want in zip(actual, expected, strict=True):
        if got.dtype != want.dtype or not torch.equal(got.cpu(), want.cpu()):
            raise SystemExit("gpu_events: the GPU and the CPU differ; run the tests in tests/gpu to see where")


def timed(run: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call, by CUDA events, after three calls to warm up."""
    for _ in range(3):
        run()
    seconds = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        run()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000)
    return seconds


def kernel_seconds(run: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median seconds of each kernel of a call."""
    launch, marks = cuda.launch, []

    def timed_launch(source: str, kernel: str, *args: object) -> None:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        launch(source, kernel, *args)
        end.record()
        marks.append((kernel, begin, end))

    cuda.launch = timed_launch
    try:
        for _ in range(repeats):
            run()
    finally:
        cuda.launch = launch
    torch.cuda.synchronize()
    found = defaultdict(list)
    for kernel, begin, end in marks:
        found[kernel].append(begin.elapsed_time(end) / 1000)
    return {kernel: statistics.median(seconds) for kernel, seconds in found.items()}


def copy_bandwidth(repeats: int) -> float:
    """Bytes per second, read and written, of a copy on the device."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda").fill_(1)
    target = torch.empty_like(source)
    return 2 * source.numel() / statistics.median(timed(lambda: target.copy_(source), repeats))


def row(case: str, seconds: list[float], work: float, unit: str, peak: int, **more: object) -> dict:
    """One row of the result, as every bench of this package writes it, and what is particular here."""
    quartiles = statistics.quantiles(seconds, n=4)
    median = statistics.median(seconds)
    return {
        "bench": "gpu_events", "case": case, "impl": "neuroav", "median_s": median,
        "iqr_s": quartiles[2] - quartiles[0], "throughput": work / median, "unit": unit, "max_rss_bytes": peak, **more,
    }  # fmt: skip


def measure(name: str, frames: Tensor, bandwidth: float, repeats: int) -> list[dict]:
    """Rows of one batch: the sorted list, fused bins on a coarse and a full grid, and bins from the list."""
    arguments = arguments_of(frames)
    edges_us, pixels, size = arguments[1], arguments[0].numel(), tuple(frames.shape[2:])

    def measured(case: str, run: Callable[[], object], work: float, unit: str, floor_bytes: float, limit: float | None):
        torch.cuda.reset_peak_memory_stats()
        seconds = timed(run, repeats)
        floor_s = floor_bytes / bandwidth
        return row(
            f"{name}, {case}", seconds, work, unit, torch.cuda.max_memory_allocated(), floor_s=floor_s,
            times_floor=statistics.median(seconds) / floor_s, limit=limit, kernels_s=kernel_seconds(run, 5),
        )  # fmt: skip

    t_us, x, y, p, number, *_ = clips.contrast_events_clips(*arguments)
    events = len(t_us)
    floor = LIST_BYTES_PER_PIXEL * pixels + BYTES_PER_EVENT * events
    rows = [measured("sorted list", lambda: clips.contrast_events_clips(*arguments), pixels, "px/s", floor, LIST_LIMIT)]
    rows[0] |= {"events": events, "pixels": pixels, "events_per_pixel": events / pixels}
    for grid, grid_name in (((16, 16), "16x16"), (size, "every pixel")):
        for kind, kind_name in enumerate(KINDS):
            some = bin_arguments(edges_us, kind, grid)
            limit = BINS_LIMIT if kind_name == "counts" else None

            def run(some: tuple = some) -> object:
                return clips.contrast_bins_clips(*arguments, *some)

            case = f"fused {kind_name}, {grid_name}"
            rows.append(measured(case, run, pixels, "px/s", BINS_BYTES_PER_PIXEL * pixels, limit))
    clip, clock = frames[0], torch.arange(frames.shape[1]) * GAP_US
    floor = LIST_BYTES_PER_PIXEL * clip[1:].numel()
    noisy = len(frames_to_events(clip, clock, NOISY)[0])
    rows.append(
        measured(
            "noisy camera, sorted list of one clip", lambda: frames_to_events(clip, clock, NOISY), clip[1:].numel(),
            "px/s", floor + BYTES_PER_EVENT * noisy, None,
        )
    )  # fmt: skip
    first = slice(0, int(number[0]))
    some = (*(column[first] for column in (t_us, x, y, p)), *size, 0, edges_us[0, ::6].contiguous(), *size)
    rows.append(
        measured("bins of a list", lambda: cuda.bin_events(*some), first.stop, "events/s", 13 * first.stop, None)
    )
    return rows


def table(result: dict) -> str:
    """The result as a page."""
    machine = result["machine"]
    lines = [
        f"# Events on {machine['device']}",
        "",
        f"{machine['date']}, torch {machine['torch']}, CuPy {machine['cupy']}, CUDA {machine['cuda']}. A copy moves",
        f"{machine['copy_bytes_per_s'] / 1e12:.2f} TB/s (read and written) in the same run.",
        f"{machine['events_compared']} events and their bins are equal to the CPU's, bit for bit.",
        "The floor of a list is 8 bytes per pixel and 24 per event at that speed, of fused bins 1.5 bytes per pixel.",
        "",
        "| case | median ms | IQR ms | 10^9 per s | times floor | limit | kernels, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in result["rows"]:
        speed = f"{each['throughput'] / 1e9:.1f} {each['unit'].removesuffix('/s')}"
        cells = [
            each["case"], f"{1000 * each['median_s']:.3f}", f"{1000 * each['iqr_s']:.3f}", speed,
            f"{each['times_floor']:.2f}", f"{each['limit'] or ''}",
            ", ".join(f"{name} {1000 * seconds:.3f}" for name, seconds in each["kernels_s"].items()),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Check, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare with the CPU, for compute-sanitizer")
    parser.add_argument("--clip", type=Path, help="a real clip, (F, H, W) uint8 in a .npy file")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not torch.cuda.is_available() or not cuda.available():
        raise SystemExit(f"gpu_events: needs a CUDA device and CuPy. CUDA kernels: {cuda.describe()}")
    compared = check("cuda")
    print(f"{compared} events and their bins equal to the CPU's, bit for bit")  # noqa: T201
    if options.check:
        return
    device = torch.cuda.get_device_properties(0)
    bandwidth = copy_bandwidth(options.repeats)
    rows = []
    for name, speed in (("slow", 0.4), ("fast", 2.0)):
        frames = moving_texture(options.clips, options.frames, 720, 1280, speed, "cuda")
        rows += measure(
            f"{name} texture, {options.clips} x {options.frames} x 720p", frames, bandwidth, options.repeats
        )
    if options.clip:
        clip = torch.from_numpy(np.load(options.clip)).cuda()
        frames = clip.expand(options.clips, *clip.shape).contiguous()
        shape = "x".join(map(str, frames.shape))
        rows += measure(f"{options.clip.stem}, {shape}", frames, bandwidth, options.repeats)
    machine = {
        "device": device.name, "total_memory_bytes": device.total_memory, "copy_bytes_per_s": bandwidth,
        "torch": torch.__version__, "cuda": torch.version.cuda, "cupy": __import__("cupy").__version__,
        "python": platform.python_version(), "date": datetime.date.today().isoformat(), "events_compared": compared,
    }  # fmt: skip
    result = {"machine": machine, "rows": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"gpu_events_{device.name.lower().replace(' ', '_').replace('-', '_')}"
    save_json(stem.with_suffix(".json"), result)
    save_text(stem.with_suffix(".md"), table(result))
    print(table(result))  # noqa: T201


if __name__ == "__main__":
    main()
