"use strict";
// Maps: choose sample and layer; click a map to magnify the same place in all of them, move to look around.
(() => {
  const root = document.getElementById("maps");
  if (!root) return;
  const press = (button) => {
    for (const other of button.parentElement.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
  };
  const update = () => {
    const chosen = (name) => root.querySelector(`button[data-set="${name}"][aria-pressed="true"]`)?.value;
    for (const sample of root.querySelectorAll("[data-sample]")) sample.hidden = sample.dataset.sample !== chosen("sample");
    for (const part of root.querySelectorAll("[data-layer]")) part.hidden = part.dataset.layer !== chosen("layer");
  };
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-set]");
    if (button) { press(button); update(); }
  });
  const aim = (event) => {
    const pane = event.target.closest?.(".pane");
    if (!pane) return;
    const box = pane.getBoundingClientRect();
    root.style.setProperty("--x", `${(100 * (event.clientX - box.left)) / box.width}%`);
    root.style.setProperty("--y", `${(100 * (event.clientY - box.top)) / box.height}%`);
  };
  root.addEventListener("click", (event) => {
    if (!event.target.closest(".pane")) return;
    if (!root.classList.contains("zoomed")) aim(event);
    root.classList.toggle("zoomed");
  });
  root.addEventListener("pointermove", (event) => { if (root.classList.contains("zoomed")) aim(event); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") root.classList.remove("zoomed"); });
  update();
})();
