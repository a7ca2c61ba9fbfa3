"""The page in a real browser: silent, whole, in step, and usable with the keyboard; motion only where it is welcome."""

import base64
import json
import re
import shutil
import socket
import subprocess

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
    "--remote-debugging-pipe",
)
PATIENCE_S = 90.0  # of real time: a busy machine may be long in starting a browser and showing a frame
PROBE = """async (plays) => {
  const all = (query) => [...document.querySelectorAll(query)];
  const player = document.querySelector(".player"), screens = player.querySelector(".screens");
  const button = player.querySelector("button"), speed = player.querySelector("select");
  const at = () => Number(player.dataset.frame);
  const press = (key) => screens.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
  const pixels = (canvas) => new Uint32Array(
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  while (!(at() >= (plays ? 1 : 0))) await new Promise(requestAnimationFrame);
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
  return seen;
}"""


class Page:
    """One page of a browser without a past, spoken to over DevTools' pipe."""

    def __init__(self, folder, *flags):
        self.log = folder / "browser.log"
        ours, theirs = socket.socketpair()
        with theirs, self.log.open("wb") as log:
            command = [CHROMIUM, *QUIET, *flags, f"--user-data-dir={folder / 'profile'}"]
            pipes = f'exec "$@" 3<&{theirs.fileno()} 4>&{theirs.fileno()}'
            self.browser = subprocess.Popen(
                ["bash", "-c", pipes, "bash", *command], pass_fds=[theirs.fileno()], stderr=log
            )
        self.pipe, self.inbox, self.asked, self.session = ours, b"", 0, {}
        ours.settimeout(PATIENCE_S)
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def load(self, path):
        self.ask("Page.navigate", url=path.as_uri())
        self.run('new Promise((done) => document.readyState === "complete" ? done() : addEventListener("load", done))')

    def ask(self, method, **params):
        self.asked += 1
        message = {"id": self.asked, "method": method, "params": params, **self.session}
        self.pipe.sendall(json.dumps(message).encode() + b"\0")
        answer = {}
        while answer.get("id") != self.asked:  # the rest tells of events
            while b"\0" not in self.inbox:
                received = self.pipe.recv(1 << 16)
                assert received, f"the browser ended: {self.log.read_text()}"
                self.inbox += received
            whole, self.inbox = self.inbox.split(b"\0", 1)
            answer = json.loads(whole)
        return answer["result"]

    def run(self, expression):
        answer = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self):
        self.pipe.close()  # which ends the browser
        self.browser.wait(PATIENCE_S)
        assert "CONSOLE" not in self.log.read_text()


@pytest.fixture
def visit(report, tmp_path):
    """Load the report in a browser with more flags; nothing may be said on its console."""
    pages = []

    def loaded(*flags):
        pages.append(Page(tmp_path, *flags))
        pages[-1].load(report)
        return pages[-1]

    yield loaded
    for page in pages:
        page.close()


def test_page_is_whole_and_in_step_and_takes_keys(report, visit):
    seen = visit().run(f"({PROBE})(true)")
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


def test_clip_waits_where_motion_is_not_wanted_on_a_small_dark_screen(visit):
    dark = "--blink-settings=preferredColorScheme=0"
    page = visit("--force-prefers-reduced-motion", "--window-size=500,900", dark)
    seen = page.run(f"({PROBE})(false)")
    assert seen["button"] == "Play"
    assert seen["colours"][0] > 100
    assert [seen[name] for name in ("invisible", "broken", "overflow")] == [0] * 3
    assert seen["paper"] == "rgb(18, 22, 28)"


def test_page_prints_with_everything_unfolded(visit):
    printed = visit("--force-prefers-reduced-motion").ask("Page.printToPDF")["data"]
    pages = len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed)))
    assert pages >= 20  # 27 with everything unfolded, 10 without
