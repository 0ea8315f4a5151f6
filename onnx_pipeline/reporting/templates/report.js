"use strict";
// Search, keys, zoom and tooltips. Without this script the page shows everything but the tooltips.
(() => {
  const tip = document.getElementById("tip");
  const picture = document.getElementById("picture");
  const margin = 12;

  function show(lines, place) {
    tip.replaceChildren(...lines.map((line) => {
      const row = document.createElement("div");
      row.textContent = line;
      return row;
    }));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const below = place.bottom + margin;
    const fits = below + box.height < innerHeight;
    tip.style.top = `${Math.max(margin, fits ? below : place.top - box.height - margin)}px`;
    tip.style.left = `${Math.max(margin, Math.min(place.left, innerWidth - box.width - margin))}px`;
  }

  let pinned = false, shown = -1;
  const hide = () => { tip.hidden = true; shown = -1; };

  for (const chart of document.querySelectorAll(".chart")) {
    chart.addEventListener("pointerover", (event) => {
      const mark = event.target.closest("path[data-tip]");
      if (mark) show([mark.dataset.tip], mark.getBoundingClientRect());
    });
    chart.addEventListener("pointerout", hide);
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape") { pinned = false; hide(); } });

  if (!picture) return;
  const data = JSON.parse(document.getElementById("boxes").textContent);
  const boxes = [...picture.querySelectorAll(".box")];
  const svg = picture.querySelector("svg");
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const jump = document.getElementById("jump");
  const number = new Map(boxes.map((box, index) => [box, index]));
  const texts = data.map((each) => [each.lines[0], each.lines[1], ...each.names].join("\n").toLowerCase());
  let current = 0, hits = [], hit = -1;

  function describe(index) {
    for (const box of picture.querySelectorAll(".near")) box.classList.remove("near");
    for (const near of [...data[index].before, ...data[index].after]) boxes[near].classList.add("near");
    show(data[index].lines, boxes[index].getBoundingClientRect());
    shown = index;
  }

  function go(index, focus = true) {
    boxes[current].setAttribute("tabindex", "-1");
    boxes[current].classList.remove("here");
    current = index;
    boxes[index].setAttribute("tabindex", "0");
    boxes[index].classList.add("here");
    if (focus) boxes[index].focus({ preventScroll: true });
    reveal(index);
    describe(index);
  }

  // What is scrolled takes its tooltip along, until it leaves the frame.
  function follow() {
    if (shown < 0) return;
    const box = boxes[shown].getBoundingClientRect(), frame = picture.getBoundingClientRect();
    if (box.top > frame.bottom || box.bottom < frame.top || box.left > frame.right || box.right < frame.left) hide();
    else describe(shown);
  }

  function reveal(index) {
    const box = boxes[index].getBoundingClientRect(), frame = picture.getBoundingClientRect();
    if (box.left < frame.left || box.right > frame.right) {
      picture.scrollLeft += box.left - frame.left - (frame.width - box.width) / 2;
    }
    if (box.top < frame.top || box.bottom > frame.bottom) {
      picture.scrollTop += box.top - frame.top - (frame.height - box.height) / 2;
    }
    if (frame.bottom < 0 || frame.top > innerHeight) picture.scrollIntoView({ block: "nearest" });
  }

  function beside(index, sign) {
    const at = boxes[index].getBoundingClientRect();
    let best = -1, least = Infinity;
    boxes.forEach((box, other) => {
      const place = box.getBoundingClientRect();
      const across = sign * (place.left - at.left), down = Math.abs(place.top - at.top);
      if (across > 1 && across + 2 * down < least) [best, least] = [other, across + 2 * down];
    });
    return best;
  }

  const steps = {
    ArrowDown: (index) => data[index].after[0] ?? -1,
    ArrowUp: (index) => data[index].before[0] ?? -1,
    ArrowRight: (index) => beside(index, 1),
    ArrowLeft: (index) => beside(index, -1),
    Home: () => 0,
    End: () => boxes.length - 1,
  };

  picture.addEventListener("keydown", (event) => {
    const index = number.get(event.target);
    if (index === undefined) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pinned = !pinned;
      describe(index);
    } else if (steps[event.key]) {
      event.preventDefault();
      const next = steps[event.key](index);
      if (next >= 0) go(next);
    }
  });
  picture.addEventListener("pointerover", (event) => {
    const box = event.target.closest(".box");
    if (box && !pinned) describe(number.get(box));
  });
  picture.addEventListener("pointerout", () => { if (!pinned) hide(); });
  picture.addEventListener("click", (event) => {
    const box = event.target.closest(".box");
    pinned = Boolean(box) && !(pinned && number.get(box) === current);
    if (box) go(number.get(box));
    else hide();
  });
  picture.addEventListener("focusin", (event) => {
    const index = number.get(event.target);
    if (index !== undefined && !event.target.matches(":active")) describe(index);
  });
  picture.addEventListener("focusout", () => { if (!pinned) hide(); });
  picture.addEventListener("scroll", follow);
  addEventListener("scroll", follow, { passive: true });

  function mark() {
    const wanted = search.value.trim().toLowerCase(), stage = jump.value;
    const active = wanted !== "" || stage !== "";
    hits = active ? boxes.flatMap((_, index) =>
      texts[index].includes(wanted) && (stage === "" || data[index].stage === Number(stage)) ? [index] : []) : [];
    const chosen = new Set(hits);
    boxes.forEach((box, index) => box.classList.toggle("hit", chosen.has(index)));
    svg.classList.toggle("dim", hits.length > 0);
    hit = -1;
    found.textContent = active ? `${hits.length} found` : "";
    if (hits.length) reveal(hits[0]);
  }

  search.addEventListener("input", mark);
  jump.addEventListener("change", mark);
  search.form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!hits.length) return;
    hit = (hit + 1) % hits.length;
    go(hits[hit], false);
    found.textContent = `${hit + 1} of ${hits.length}`;
  });

  const width = svg.viewBox.baseVal.width, height = svg.viewBox.baseVal.height;
  let zoom = 1;
  function scale(value) {
    zoom = Math.min(2, Math.max(0.05, value));
    svg.setAttribute("width", width * zoom);
    svg.setAttribute("height", height * zoom);
  }
  document.getElementById("larger").addEventListener("click", () => scale(zoom * 1.25));
  document.getElementById("smaller").addEventListener("click", () => scale(zoom / 1.25));
  document.getElementById("fit").addEventListener("click", () =>
    scale(Math.min((picture.clientWidth - 2) / width, (picture.clientHeight - 2) / height)));
})();
