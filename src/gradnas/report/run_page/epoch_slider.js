"use strict";
// Shows the search as it stood after one epoch: the would-be cells, what changed, and the weights in the heat maps.
// Everything is in the page already; nothing is loaded, drawn or stored here.
(() => {
  const part = document.getElementById("epochs");
  const slider = part.querySelector("input");
  const epochs = slider.dataset.epochs.split(" ");
  const [back, forth] = part.querySelectorAll("button");
  const changes = new Map([...part.querySelectorAll("[data-change]")].map((item) => [item.dataset.change, item]));

  const show = () => {
    const at = Number(slider.value);
    const epoch = epochs[at];
    const change = changes.get(epoch);
    const words = change ? change.textContent : at === 0 ? slider.dataset.first : slider.dataset.same;
    for (const place of part.querySelectorAll(".epoch")) place.textContent = epoch;
    const told = part.querySelector("[aria-live]");
    // The slider tells its own value when it moves; only who uses the buttons must be told.
    told.setAttribute("aria-live", document.activeElement === slider ? "off" : "polite");
    part.querySelector(".change").textContent = words;
    slider.setAttribute("aria-valuetext", `${epoch}: ${words}`);
    back.disabled = at === 0;
    forth.disabled = at === epochs.length - 1;
    for (const frame of part.querySelectorAll("[data-epochs].frame")) {
      frame.hidden = !frame.dataset.epochs.split(" ").includes(epoch);
    }
    for (const row of part.querySelectorAll(".weight")) {
      const value = row.dataset.values.split(" ")[at];
      row.querySelector("text").textContent = { x: "out", "-": "–" }[value] ?? (value / 100).toFixed(2);
    }
    for (const mark of part.querySelectorAll(".now")) {
      mark.setAttribute("transform", `translate(${(epoch - mark.dataset.epoch) * mark.dataset.step} 0)`);
    }
  };
  const move = (steps) => {
    slider.value = Number(slider.value) + steps;
    show();
  };

  slider.addEventListener("input", show);
  back.addEventListener("click", () => move(-1));
  forth.addEventListener("click", () => move(1));
  // On paper nothing moves: it shows the epoch that the page opens with.
  let left = slider.value;
  addEventListener("beforeprint", () => {
    left = slider.value;
    slider.value = slider.defaultValue;
    show();
  });
  addEventListener("afterprint", () => {
    slider.value = left;
    show();
  });
  part.querySelector(".controls").hidden = false;
  show(); // a reloaded page may keep the position of the slider
})();
