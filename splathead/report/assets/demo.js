"use strict";
// Upload with progress, wait for the job, show its report.
(() => {
  const form = document.getElementById("form"), file = form.querySelector("input[type=file]"), drop = form.querySelector(".drop");
  const status = document.getElementById("status"), bar = form.querySelector("progress"), outcome = document.getElementById("outcome");
  let current = 0;
  const say = (text, bad = false) => { status.textContent = text; status.classList.toggle("bad", bad); };
  const upload = (chosen) => new Promise((resolve, reject) => {
    const query = new URLSearchParams({ name: chosen.name });
    for (const input of form.querySelectorAll("[name]")) if (input.value.trim()) query.set(input.name, input.value.trim().replace(",", "."));
    const request = new XMLHttpRequest();
    request.open("POST", `jobs?${query}`);
    request.setRequestHeader("X-SplatHead", "1");
    request.upload.onprogress = (event) => { bar.value = event.loaded / event.total; };
    request.onload = () => request.status === 201 ? resolve(JSON.parse(request.responseText).job) : reject(new Error(request.responseText.trim()));
    request.onerror = () => reject(new Error("the upload was broken off; is the file too large, or the page's program closed?"));
    request.send(chosen);
  });
  const show = (job) => {
    const report = `jobs/${encodeURIComponent(job)}/report.html`, frame = document.createElement("iframe"), link = document.createElement("a");
    link.href = report; link.target = "_blank"; link.textContent = "Open the report, with all files, in a tab of its own";
    frame.src = report; frame.title = "Report"; frame.className = "report";
    outcome.replaceChildren(link, frame);
  };
  const wait = async (job, mine) => {
    while (mine === current) {
      const answer = await fetch(`jobs/${encodeURIComponent(job)}`);
      if (!answer.ok) throw new Error((await answer.text()).trim());
      const state = await answer.json();
      if (state.state === "failed") throw new Error(state.message);
      if (state.state === "done") { say(`${state.name}: done in ${state.seconds.toFixed(0)} s`); show(job); return; }
      say(state.state === "waiting" ? `${state.name}: ${state.before} before it` : `${state.name}: working, ${state.seconds.toFixed(0)} s`);
      await new Promise((done) => setTimeout(done, 50)); // the server takes its time to answer
    }
  };
  const start = async (chosen) => {
    const mine = ++current;
    outcome.replaceChildren(); say(`${chosen.name}: uploading`);
    bar.hidden = false; bar.value = 0;
    try {
      if (chosen.size > Number(form.dataset.limit)) throw new Error(`${Math.ceil(chosen.size / 2 ** 20)} MiB are more than this page takes`);
      const job = await upload(chosen);
      bar.removeAttribute("value"); // busy
      await wait(job, mine);
    } catch (error) {
      if (mine === current) say(`${chosen.name}: ${error.message}`, true);
    } finally {
      if (mine === current) bar.hidden = true;
    }
  };
  file.addEventListener("change", () => { if (file.files[0]) start(file.files[0]); });
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) start(event.dataTransfer.files[0]); });
})();
