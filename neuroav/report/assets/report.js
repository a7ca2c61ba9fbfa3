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
  const busiest = clip.counts.indexOf(Math.max(...clip.counts));
  const [frames, events] = ["frames", "events"].map((name) => ({
    sheet: document.getElementById(`sheet-${name}`),
    context: document.getElementById(`screen-${name}`).getContext("2d", { willReadFrequently: name === "events" }),
  }));
  const button = player.querySelector("button");
  const slider = player.querySelector("[type=range]");
  const speed = player.querySelector("select");
  const hear = player.querySelector("[type=checkbox]");
  const clock = player.querySelector("output");
  const sound = document.querySelector("audio");
  const inks = {};
  let time = 0;
  let playing = false;
  let before = 0;

  // A line at the present time, what happens at it in words, and the way back: a click goes to that time.
  const cursors = [...document.querySelectorAll("[data-time]")].map((plot) => {
    const [left, right, top, bottom, start, stop] = plot.dataset.time.split(" ").map(Number);
    const steps = JSON.parse(plot.dataset.steps || "null");
    const line = plot.appendChild(document.createElement("div"));
    line.className = "cursor";
    line.style.top = `${100 * top}%`;
    line.style.height = `${100 * (bottom - top)}%`;
    const now = steps && plot.closest("figure").querySelector("figcaption").appendChild(document.createElement("span"));
    if (now) now.className = "now";
    const seek = (event) => {
      const box = plot.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width - left) / (right - left);
      goTo(start + Math.min(1, Math.max(0, share)) * (stop - start));
    };
    plot.addEventListener("pointerdown", seek);
    plot.addEventListener("pointermove", (event) => { if (event.buttons & 1) seek(event); });
    return (t) => {
      const share = (t - start) / (stop - start);
      line.hidden = share < 0 || share > 1;
      line.style.left = `${100 * (left + share * (right - left))}%`;
      if (!now) return;
      const i = Math.min(steps.spikes.length - 1, Math.max(0, Math.floor(share * steps.spikes.length)));
      now.textContent = `${steps.spikes[i]} spikes${steps.theta ? `, θ ${steps.theta[i]}` : ""}`;
    };
  });

  function frameAt(t) {
    let i = last;
    while (i > 0 && clip.t_s[i] > t) i -= 1;
    return i;
  }

  function recolour(context) {
    const image = context.getImageData(0, 0, clip.width, clip.height);
    for (let k = 0; k < image.data.length; k += 4) {
      const ink = inks[image.data[k]]; // the red channel tells ON, OFF and nothing apart
      if (ink) image.data.set(ink, k);
    }
    context.putImageData(image, 0, 0);
  }

  function draw() {
    const i = frameAt(time);
    const x = (i % clip.columns) * clip.width;
    const y = Math.floor(i / clip.columns) * clip.height;
    for (const { sheet, context } of [frames, events]) {
      context.drawImage(sheet, x, y, clip.width, clip.height, 0, 0, clip.width, clip.height);
    }
    recolour(events.context);
    slider.value = i;
    const text = `${clip.t_s[i].toFixed(2)} s`;
    slider.setAttribute("aria-valuetext", text);
    clock.textContent = `${text} of ${end.toFixed(2)} s, ${clip.counts[i]} events`;
    cursors.forEach((move) => move(time));
    player.dataset.frame = i;
  }

  function tick(now) {
    if (!playing) return;
    time += (Math.max(0, now - before) / 1000) * Number(speed.value);
    before = now;
    if (time >= end) {
      time %= end;
      listen();
    }
    draw();
    requestAnimationFrame(tick);
  }

  // Let the sound follow the picture, where it is wanted.
  function listen() {
    if (!sound) return;
    if (!playing || !hear.checked) {
      if (hear.checked) sound.pause();
      return;
    }
    sound.currentTime = time;
    sound.playbackRate = Number(speed.value);
    sound.play().catch(() => { hear.checked = false; });
  }

  function play(on) {
    playing = on;
    button.textContent = on ? "Pause" : "Play";
    before = performance.now();
    listen();
    if (on) requestAnimationFrame(tick);
  }

  function goTo(t) {
    play(false);
    time = Math.min(t, end - step / 2);
    draw();
  }

  function show(i) {
    goTo(clip.t_s[Math.min(last, Math.max(0, i))]);
  }

  function faster(by) {
    speed.selectedIndex = Math.min(speed.length - 1, Math.max(0, speed.selectedIndex + by));
    listen();
  }

  function press(event) {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const onScreens = target.classList.contains("screens");
    if (key === " " && (onScreens || target === slider)) play(!playing);
    else if (key === "+" || key === "=") faster(1);
    else if (key === "-") faster(-1);
    else if (onScreens && key === "ArrowLeft") show(frameAt(time) - 1);
    else if (onScreens && key === "ArrowRight") show(frameAt(time) + 1);
    else if (onScreens && key === "Home") show(0);
    else if (onScreens && key === "End") show(last);
    else return false;
    return true;
  }

  button.addEventListener("click", () => play(!playing));
  slider.addEventListener("input", () => show(Number(slider.value)));
  speed.addEventListener("change", listen);
  hear.addEventListener("change", () => (hear.checked ? listen() : sound.pause()));
  player.addEventListener("keydown", (event) => { if (press(event)) event.preventDefault(); });
  player.querySelectorAll("[type=color]").forEach((input) => {
    const choose = () => {
      inks[clip.rgb[input.name][0]] = [1, 3, 5].map((k) => parseInt(input.value.slice(k, k + 2), 16));
    };
    choose();
    input.addEventListener("input", () => { choose(); draw(); });
  });
  hear.parentElement.hidden = !sound;
  window.addEventListener("beforeprint", () => { if (clip.counts[frameAt(time)] === 0) show(busiest); });
  Promise.all([frames, events].map(({ sheet }) => sheet.decode())).then(() => {
    if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) show(busiest);
    else play(true);
  });
})();
