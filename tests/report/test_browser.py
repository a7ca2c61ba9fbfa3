"""The page in a real browser: no console message, both canvases drawn, motion only where it is welcome."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
    "--virtual-time-budget=8000",
    "--dump-dom",
)
PROBE = """<script>
const probe = () => {
  const player = document.querySelector(".player"), screens = player.querySelector(".screens");
  const frame = Number(player.dataset.frame);
  const button = player.querySelector("button").textContent;
  const step = () => screens.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
  step();
  const next = Number(player.dataset.frame);
  while (Number(player.dataset.frame) < 30) step();  // a busy machine may not have come to the first events
  const colours = [...document.querySelectorAll("canvas")].map((canvas) => {
    const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    return new Set(pixels).size;
  });
  document.body.dataset.probe = JSON.stringify({
    colours, frame, button, next, paused: player.querySelector("button").textContent,
    cursors: document.querySelectorAll(".cursor").length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  });
};
let tries = 0;
const wait = () => {  // a busy machine may take its time to show a frame
  const begun = Number(document.querySelector(".player").dataset.frame) > 0;
  if (begun || tries++ > 40) probe(); else setTimeout(wait, 100);
};
addEventListener("load", () => setTimeout(wait, 1000));
</script>"""


def visit(report, folder, *flags):
    page = folder / "probed.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    command = [CHROMIUM, *QUIET, *flags, f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr
    return json.loads(unescape(re.search(r'data-probe="([^"]*)"', done.stdout).group(1)))


def test_clip_plays_beside_its_events(report, tmp_path):
    seen = visit(report, tmp_path)
    assert seen["colours"][0] > 100
    assert seen["colours"][1] == 3
    assert seen["button"] == "Pause"
    assert seen["frame"] > 0
    assert (seen["next"], seen["paused"]) == (min(59, seen["frame"] + 1), "Play")
    assert seen["cursors"] == 7
    assert seen["overflow"] == 0


def test_clip_waits_where_motion_is_not_wanted(report, tmp_path):
    seen = visit(report, tmp_path, "--force-prefers-reduced-motion", "--window-size=500,900")
    assert (seen["button"], seen["frame"]) == ("Play", 0)
    assert seen["colours"][0] > 100
    assert seen["overflow"] == 0
