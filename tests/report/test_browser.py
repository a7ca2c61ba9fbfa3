"""The page in a real browser: silent, whole, in step, and usable with the keyboard; motion only where it is welcome."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
)
PROBE = """<script>
const probe = () => {
  const all = (query) => [...document.querySelectorAll(query)];
  const player = document.querySelector(".player"), screens = player.querySelector(".screens");
  const button = player.querySelector("button"), speed = player.querySelector("select");
  const at = () => Number(player.dataset.frame);
  const press = (key) => screens.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
  const pixels = (canvas) => new Uint32Array(
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  const seen = {frame: at(), button: button.textContent};
  press("ArrowRight");
  Object.assign(seen, {next: at(), paused: button.textContent});
  press("End"); seen.end = at();
  press("Home"); seen.home = at();
  press("+"); seen.faster = speed.value;
  for (let i = 0; i < 9; i++) press("-");
  seen.slowest = speed.value;
  press(" "); seen.playing = button.textContent;
  press(" "); seen.stopped = button.textContent;

  const raster = document.querySelector("[data-steps]"), box = raster.getBoundingClientRect();
  const [left, right, , , start, stop] = raster.dataset.time.split(" ").map(Number);
  const clientX = box.left + box.width * (left + 0.5 * (right - left));
  raster.dispatchEvent(new PointerEvent("pointerdown", {clientX, clientY: box.top + 9, bubbles: true}));
  const steps = JSON.parse(raster.dataset.steps), middle = steps.spikes.length / 2;
  Object.assign(seen, {
    seconds: JSON.parse(document.getElementById("clip-data").textContent).t_s[at()], half: (start + stop) / 2,
    said: raster.closest("figure").querySelector(".now").textContent,
    meant: `${steps.spikes[middle]} spikes, θ ${steps.theta[middle]}`,
    cursors: all(".cursor").map((line) => parseFloat(line.style.left)),
  });

  seen.paper = getComputedStyle(document.body).backgroundColor;
  seen.colours = all("canvas").map((canvas) => new Set(pixels(canvas)).size);
  const on = player.querySelector("[name=on]");
  on.value = "#010203";
  on.dispatchEvent(new Event("input"));
  seen.chosen = pixels(document.getElementById("screen-events")).includes(0xff030201);

  all("details").forEach((one) => { one.open = true; });
  const label = (one) => one.getAttribute("aria-label") || (one.labels && one.labels[0]?.textContent.trim());
  Object.assign(seen, {
    figures: all("svg[role]").length,
    invisible: all("svg[role]").filter((svg) => svg.getBoundingClientRect().height < 50).length,
    broken: all("img").filter((image) => !image.complete || !image.naturalWidth).length,
    asked: performance.getEntriesByType("resource").map((one) => one.name).filter((url) => !url.startsWith("data:")),
    nameless: all("input, select, audio, svg[role], canvas, [tabindex]").filter((one) => !label(one)).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    unlit: all("a, button, input, select, summary, [tabindex='0']").filter((one) => {
      one.focus({focusVisible: true});
      return document.activeElement === one && getComputedStyle(one).outlineStyle === "none";
    }).length,
  });
  document.body.dataset.probe = JSON.stringify(seen);
};
let tries = 0;
const wait = () => {  // a busy machine may take its time to show a frame
  const begun = Number(document.querySelector(".player").dataset.frame) > 0;
  if (begun || tries++ > 150) probe(); else setTimeout(wait, 100);
};
addEventListener("load", () => setTimeout(wait, 1000));
</script>"""


def chromium(folder, page, *flags):
    """Open ``page`` in a browser that has never seen it; what it logged and wrote."""
    command = [CHROMIUM, *QUIET, *flags, f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr
    return done.stdout


def visit(report, folder, *flags):
    page = folder / "probed.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    dom = chromium(folder, page, "--dump-dom", *flags)
    return json.loads(unescape(re.search(r'data-probe="([^"]*)"', dom).group(1)))


def test_page_is_whole_and_in_step_and_takes_keys(report, tmp_path):
    seen = visit(report, tmp_path)
    assert (seen["button"], seen["frame"] > 0) == ("Pause", True)
    assert (seen["next"], seen["paused"]) == (min(59, seen["frame"] + 1), "Play")
    assert (seen["home"], seen["end"]) == (0, 59)
    assert (seen["faster"], seen["slowest"]) == ("2", "0.1")
    assert (seen["playing"], seen["stopped"]) == ("Pause", "Play")
    assert seen["seconds"] == pytest.approx(seen["half"], abs=0.041)  # one frame
    assert seen["said"] == seen["meant"]
    assert len(seen["cursors"]) == 7
    assert len(set(seen["cursors"][1:])) == 1  # rasters of one clip are alike
    assert seen["colours"][0] > 100
    assert seen["colours"][1] == 3
    assert seen["chosen"]
    assert seen["figures"] == report.read_text(encoding="utf-8").count("<svg role") > 20
    assert [seen[name] for name in ("invisible", "broken", "nameless", "overflow", "unlit")] == [0] * 5
    assert seen["asked"] == []
    assert seen["paper"] == "rgb(255, 255, 255)"


def test_clip_waits_where_motion_is_not_wanted_on_a_small_dark_screen(report, tmp_path):
    dark = "--blink-settings=preferredColorScheme=0"
    seen = visit(report, tmp_path, "--force-prefers-reduced-motion", "--window-size=500,900", dark)
    assert seen["button"] == "Play"
    assert seen["colours"][0] > 100
    assert [seen[name] for name in ("invisible", "broken", "overflow")] == [0] * 3
    assert seen["paper"] == "rgb(18, 22, 28)"


def test_page_prints_with_everything_unfolded(report, tmp_path):
    pdf = tmp_path / "report.pdf"
    chromium(tmp_path, report, f"--print-to-pdf={pdf}", "--force-prefers-reduced-motion", "--virtual-time-budget=1000")
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
    assert pages >= 20  # 27 with everything unfolded, 10 without
