// The player of a report: two canvases fed from two sprite sheets, and a cursor on every figure with a time axis.
(() => {
  "use strict";
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));

  const player = document.querySelector(".player");
  if (!player) return;
  const clip = JSON.parse(document.getElementById("clip-data").textContent);
  const last = clip.t_s.length - 1;
  const step = last > 0 ? clip.t_s[last] / last : 0.04;
  const end = clip.t_s[last] + step;
  const screens = ["frames", "events"].map((name) => ({
    sheet: document.getElementById(`sheet-${name}`),
    context: document.getElementById(`screen-${name}`).getContext("2d"),
  }));
  const button = player.querySelector("button");
  const slider = player.querySelector("input");
  const speed = player.querySelector("select");
  const clock = player.querySelector("output");
  const cursors = [...document.querySelectorAll("[data-time]")].map((plot) => {
    const [left, right, top, bottom, start, stop] = plot.dataset.time.split(" ").map(Number);
    const line = plot.appendChild(document.createElement("div"));
    line.className = "cursor";
    line.hidden = true;
    line.style.top = `${100 * top}%`;
    line.style.height = `${100 * (bottom - top)}%`;
    return (t) => {
      const share = (t - start) / (stop - start);
      line.hidden = share < 0 || share > 1;
      line.style.left = `${100 * (left + share * (right - left))}%`;
    };
  });
  let time = 0;
  let playing = false;
  let before = 0;

  function frameAt(t) {
    let i = last;
    while (i > 0 && clip.t_s[i] > t) i -= 1;
    return i;
  }

  function draw() {
    const i = frameAt(time);
    const x = (i % clip.columns) * clip.width;
    const y = Math.floor(i / clip.columns) * clip.height;
    for (const { sheet, context } of screens) {
      context.drawImage(sheet, x, y, clip.width, clip.height, 0, 0, clip.width, clip.height);
    }
    slider.value = i;
    const text = `${clip.t_s[i].toFixed(2)} s`;
    slider.setAttribute("aria-valuetext", text);
    clock.textContent = `${text} of ${end.toFixed(2)} s, ${clip.counts[i]} events`;
    cursors.forEach((move) => move(time));
    player.dataset.frame = i;
  }

  function tick(now) {
    if (!playing) return;
    time += ((now - before) / 1000) * Number(speed.value);
    before = now;
    if (time >= end) time %= end;
    draw();
    requestAnimationFrame(tick);
  }

  function play(on) {
    playing = on;
    button.textContent = on ? "Pause" : "Play";
    before = performance.now();
    if (on) requestAnimationFrame(tick);
  }

  function show(i) {
    play(false);
    time = clip.t_s[Math.min(last, Math.max(0, i))];
    draw();
  }

  button.addEventListener("click", () => play(!playing));
  slider.addEventListener("input", () => show(Number(slider.value)));
  player.addEventListener("keydown", (event) => {
    const onScreens = event.target.classList.contains("screens");
    if (event.key === " " && (onScreens || event.target === slider)) {
      event.preventDefault();
      play(!playing);
    } else if (onScreens && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      event.preventDefault();
      show(frameAt(time) + (event.key === "ArrowRight" ? 1 : -1));
    }
  });
  Promise.all(screens.map(({ sheet }) => sheet.decode())).then(() => {
    draw();
    play(!window.matchMedia("(prefers-reduced-motion: reduce)").matches);
  });
})();
