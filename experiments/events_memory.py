"""Peak memory of ``neuroav events`` for a 10 s and a 10 min video: bounded, since frames and events are streamed.

Command: ``python experiments/events_memory.py`` (about two minutes, CPU). Each conversion runs in a process of its own,
whose peak resident size the system reports. Writes ``experiments/results/events_memory.json``.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

from neuroav.files import save_json
from neuroav.run import versions

RESULT = Path(__file__).parent / "results" / "events_memory.json"
SIZE, RATE = (120, 160), 25
CONVERT = """
import sys
from neuroav.bench.machine import resident_bytes
from neuroav.cli import main
status = main(["events", sys.argv[1], "-o", sys.argv[2], "--json", sys.argv[3]])
print("peak", resident_bytes())
sys.exit(status)
"""


def write_video(path: Path, seconds: int) -> None:
    """A textured disc circling over a textured ground."""
    rng = np.random.default_rng(0)
    ground, disc = (rng.integers(40, 200, (*SIZE, 3), dtype=np.uint8) for _ in range(2))
    rows, columns = np.indices(SIZE)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE, width=SIZE[1], height=SIZE[0], pix_fmt="yuv420p")
        stream.bit_rate = 2_000_000
        for k in range(seconds * RATE):
            y, x = 60 + 35 * np.sin(k / 9), 80 + 55 * np.cos(k / 9)
            inside = (rows - y) ** 2 + (columns - x) ** 2 < 20**2
            picture = np.where(inside[..., None], np.roll(disc, k, axis=1), ground)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def convert(folder: Path, seconds: int) -> dict[str, float]:
    """Convert one synthetic video and report its peak memory."""
    video, out, figures = folder / f"{seconds}.mp4", folder / f"{seconds}.h5", folder / f"{seconds}.json"
    write_video(video, seconds)
    command = [sys.executable, "-c", CONVERT, str(video), str(out), str(figures)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak = int(done.stdout.split("peak")[-1])
    row = json.loads(figures.read_text())["rows"][0]
    return {"seconds": seconds, "peak_rss_bytes": peak, "frames": row["frames"], "events": row["events"]}


def main() -> None:
    """Measure both and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [convert(Path(folder), seconds) for seconds in (10, 600)]
    ratio = rows[1]["peak_rss_bytes"] / rows[0]["peak_rss_bytes"]
    save_json(RESULT, {"versions": versions(), "size": SIZE, "rate_hz": RATE, "rows": rows, "ratio": ratio})
    sys.stdout.write(f"{rows}\npeak of 10 min over peak of 10 s: {ratio:.3f}\n")


if __name__ == "__main__":
    main()
