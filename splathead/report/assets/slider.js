"use strict";
// Before and after: the line follows the slider, which all pictures share.
(() => {
  const sliders = [...document.querySelectorAll("[data-slider]")];
  const move = (value) => {
    for (const slider of sliders) {
      slider.style.setProperty("--cut", `${value}%`);
      slider.querySelector("input").value = value;
    }
  };
  for (const slider of sliders) slider.querySelector("input").addEventListener("input", (event) => move(event.target.value));
})();
