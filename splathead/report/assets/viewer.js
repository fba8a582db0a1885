"use strict";
// Mesh viewer: one WebGL 2 canvas, one pane per mesh (or cloud of Gaussians: splats.js), one orbit camera for all.
// Data: see report/viewer.py; in the page, or fetched from the address in data-source.
const startViewer = (root, data) => {
  const canvas = root.querySelector("canvas"), labels = root.querySelector(".labels");
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true });
  if (!gl) {
    root.querySelector(".viewer").innerHTML = '<p class="message">This browser has no WebGL 2. The meshes themselves open in other programs.</p>';
    return;
  }
  const VERTEX = `#version 300 es
    layout(location = 0) in vec3 position; layout(location = 1) in vec3 normal; layout(location = 2) in vec3 colour; layout(location = 3) in float error;
    uniform mat4 toClip; uniform mat3 toView; uniform vec3 corner, size; out vec3 vNormal, vColour; out float vError;
    void main() { vNormal = toView * normal; vColour = colour; vError = error; gl_Position = toClip * vec4(corner + size * position, 1.0); }`;
  const FRAGMENT = `#version 300 es
    precision highp float; in vec3 vNormal, vColour; in float vError; uniform int mode; out vec4 result;
    vec3 light(vec3 base, vec3 n) {
      float key = max(dot(n, normalize(vec3(-0.45, 0.55, 0.7))), 0.0), fill = max(dot(n, normalize(vec3(0.8, 0.1, 0.5))), 0.0);
      float gloss = pow(max(dot(n, normalize(vec3(-0.25, 0.3, 0.95))), 0.0), 40.0);
      return base * (0.24 + 0.12 * n.y + 0.68 * key + 0.2 * fill) + 0.07 * gloss;
    }
    vec3 diverging(float t) {
      vec3 low = vec3(0.13, 0.4, 0.67), mid = vec3(0.93, 0.93, 0.92), high = vec3(0.7, 0.09, 0.17);
      return t < 0.5 ? mix(low, mid, smoothstep(0.0, 1.0, 2.0 * t)) : mix(mid, high, smoothstep(0.0, 1.0, 2.0 * t - 1.0));
    }
    void main() {
      vec3 n = normalize(gl_FrontFacing ? vNormal : -vNormal);
      vec3 c = mode == 0 ? light(vec3(0.83, 0.80, 0.77), n) : mode == 1 ? vColour : mode == 2 ? 0.5 * n + 0.5 : diverging(vError) * (0.72 + 0.28 * max(n.z, 0.0));
      result = vec4(gl_FrontFacing ? c : 0.45 * c + 0.05, 1.0);
    }`;
  const shader = (type, source) => {
    const made = gl.createShader(type);
    gl.shaderSource(made, source); gl.compileShader(made);
    if (!gl.getShaderParameter(made, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(made));
    return made;
  };
  const program = gl.createProgram();
  gl.attachShader(program, shader(gl.VERTEX_SHADER, VERTEX)); gl.attachShader(program, shader(gl.FRAGMENT_SHADER, FRAGMENT));
  gl.linkProgram(program);
  const uniform = Object.fromEntries(["toClip", "toView", "corner", "size", "mode"].map((name) => [name, gl.getUniformLocation(program, name)]));
  gl.enable(gl.DEPTH_TEST); gl.enable(gl.SCISSOR_TEST);

  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;
  const vertexNormals = (position, index, size) => {
    const normals = new Float32Array(position.length), p = new Float32Array(position.length);
    for (let i = 0; i < p.length; i++) p[i] = (position[i] * size[i % 3]) / 65535;
    for (let f = 0; f < index.length; f += 3) {
      const [a, b, c] = [3 * index[f], 3 * index[f + 1], 3 * index[f + 2]];
      const [ux, uy, uz] = [p[b] - p[a], p[b + 1] - p[a + 1], p[b + 2] - p[a + 2]], [vx, vy, vz] = [p[c] - p[a], p[c + 1] - p[a + 1], p[c + 2] - p[a + 2]];
      const n = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
      for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) normals[corner + k] += n[k];
    }
    return normals;
  };
  const renderer = typeof splatRenderer === "undefined" ? null : splatRenderer(gl, shader);
  const upload = (mesh, size) => {
    if (mesh.buffer) return renderer.upload(mesh.buffer);
    const position = new Uint16Array(bytes(mesh.positions)), index = mesh.wide ? new Uint32Array(bytes(mesh.indices)) : new Uint16Array(bytes(mesh.indices));
    const vao = gl.createVertexArray();
    gl.bindVertexArray(vao);
    const attribute = (place, array, components, type, normalised) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer()); gl.bufferData(gl.ARRAY_BUFFER, array, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(place); gl.vertexAttribPointer(place, components, type, normalised, 0, 0);
    };
    attribute(0, position, 3, gl.UNSIGNED_SHORT, true);
    attribute(1, vertexNormals(position, index, size), 3, gl.FLOAT, false);
    attribute(2, new Uint8Array(bytes(mesh.colours)), 3, gl.UNSIGNED_BYTE, true);
    if (mesh.errors) attribute(3, new Uint8Array(bytes(mesh.errors)), 1, gl.UNSIGNED_BYTE, true); else gl.vertexAttrib1f(3, 0.5);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer()); gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, index, gl.STATIC_DRAW);
    return { vao, count: index.length, type: mesh.wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT };
  };

  const HOME = { yaw: 0.42, pitch: 0.1, zoom: 1, x: 0, y: 0 };
  const state = { ...HOME, subject: 0, mode: 0, hidden: new Set() };
  const subject = () => data.subjects[state.subject];
  const visible = () => subject().meshes.filter((mesh) => !state.hidden.has(mesh.label));
  const multiply = (a, b) => Float32Array.from({ length: 16 }, (_, i) => [0, 1, 2, 3].reduce((sum, k) => sum + a[(i % 4) + 4 * k] * b[4 * (i >> 2) + k], 0));
  const matrices = (aspect) => {
    const { corner, size } = subject(), [sy, cy, sp, cp] = [Math.sin(state.yaw), Math.cos(state.yaw), Math.sin(state.pitch), Math.cos(state.pitch)];
    const rotation = [cy, sp * sy, cp * sy, 0, 0, cp, -sp, 0, -sy, sp * cy, cp * cy, 0, 0, 0, 0, 1]; // column-major
    const radius = 0.5 * Math.hypot(...size), half = Math.tan(0.26), distance = ((0.74 * radius) / half / Math.min(1, aspect)) / state.zoom;
    const centre = corner.map((low, k) => low + size[k] / 2), moved = [0, 1, 2].map((r) => -(rotation[r] * centre[0] + rotation[4 + r] * centre[1] + rotation[8 + r] * centre[2]));
    const view = Float32Array.from(rotation);
    view[12] = moved[0] + state.x * radius; view[13] = moved[1] + state.y * radius; view[14] = moved[2] - distance;
    const near = Math.max(distance - 1.5 * radius, 0.02 * radius), far = distance + 1.5 * radius;
    const projection = Float32Array.of(1 / (half * aspect), 0, 0, 0, 0, 1 / half, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0);
    return { clip: multiply(projection, view), view, turn: Float32Array.of(...rotation.slice(0, 3), ...rotation.slice(4, 7), ...rotation.slice(8, 11)), half, near };
  };
  let scheduled = false;
  const draw = () => {
    scheduled = false;
    const meshes = visible(), width = canvas.clientWidth, ratio = Math.min(window.devicePixelRatio || 1, 2);
    const columns = Math.max(1, Math.min(meshes.length, Math.floor(width / 250) || 1)), rows = Math.max(1, Math.ceil(meshes.length / columns));
    const side = width / columns, height = Math.round(Math.min(side * 1.12, 620));
    canvas.style.height = `${rows * height}px`;
    const [w, h] = [Math.round(width * ratio), Math.round(rows * height * ratio)];
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    labels.style.gridTemplate = `repeat(${rows}, 1fr) / repeat(${columns}, 1fr)`;
    labels.replaceChildren(...meshes.map((mesh) => {
      const label = document.createElement("span");
      label.textContent = mesh.label;
      return label;
    }));
    gl.scissor(0, 0, w, h); gl.clearColor(0, 0, 0, 0); gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const { clip, view, turn, half, near } = matrices(side / height);
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniform.toClip, false, clip); gl.uniformMatrix3fv(uniform.toView, false, turn);
    gl.uniform3fv(uniform.corner, subject().corner); gl.uniform3fv(uniform.size, subject().size); gl.uniform1i(uniform.mode, state.mode);
    meshes.forEach((mesh, i) => {
      mesh.buffers ??= upload(mesh, subject().size);
      const box = [Math.round((i % columns) * side * ratio), Math.round((rows - 1 - Math.floor(i / columns)) * height * ratio), Math.round(side * ratio), Math.round(height * ratio)];
      gl.viewport(...box); gl.scissor(...box);
      if (mesh.buffer) { renderer.draw(mesh.buffers, { view, viewport: box.slice(2), focal: box[3] / (2 * half), near, mode: state.mode }); return; }
      gl.useProgram(program);
      gl.bindVertexArray(mesh.buffers.vao);
      gl.drawElements(gl.TRIANGLES, mesh.buffers.count, mesh.buffers.type, 0);
    });
  };
  const redraw = () => { if (!scheduled) { scheduled = true; requestAnimationFrame(draw); } };

  const turn = (dx, dy) => { state.yaw -= 0.008 * dx; state.pitch = Math.max(-1.5, Math.min(1.5, state.pitch + 0.008 * dy)); redraw(); };
  const zoom = (factor) => { state.zoom = Math.max(0.5, Math.min(12, state.zoom * factor)); redraw(); };
  const pointers = new Map();
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); pointers.set(event.pointerId, [event.clientX, event.clientY]); });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1], reach = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      zoom(reach([event.clientX, event.clientY]) / Math.max(reach(before), 1));
    } else if (event.shiftKey || event.buttons === 2) {
      const step = 2.2 / (canvas.clientHeight * state.zoom);
      state.x += dx * step; state.y -= dy * step; redraw();
    } else turn(dx, dy);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault(); zoom(Math.exp(-0.0015 * event.deltaY));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => { Object.assign(state, HOME); redraw(); });
  canvas.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: () => turn(-14, 0), ArrowRight: () => turn(14, 0), ArrowUp: () => turn(0, -14), ArrowDown: () => turn(0, 14),
      "+": () => zoom(1.15), "=": () => zoom(1.15), "-": () => zoom(1 / 1.15), 0: () => { Object.assign(state, HOME); redraw(); } };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });

  const chips = root.querySelector(".meshes"), bar = root.querySelector(".bar");
  const buildChips = () => chips.replaceChildren(...subject().meshes.map((mesh) => {
    const chip = document.createElement("label"), box = document.createElement("input");
    chip.className = "chip"; box.type = "checkbox"; box.checked = !state.hidden.has(mesh.label);
    box.addEventListener("change", () => { state.hidden[box.checked ? "delete" : "add"](mesh.label); redraw(); });
    chip.append(box, mesh.label);
    return chip;
  }));
  for (const button of root.querySelectorAll("button[data-mode]")) button.addEventListener("click", () => {
    for (const other of root.querySelectorAll("button[data-mode]")) other.setAttribute("aria-pressed", String(other === button));
    state.mode = Number(button.dataset.mode); bar.hidden = state.mode !== 3; redraw();
  });
  root.querySelector("select")?.addEventListener("change", (event) => { state.subject = Number(event.target.value); buildChips(); redraw(); });
  buildChips();
  new ResizeObserver(redraw).observe(canvas);
  redraw();
  window.viewerState = { state, matrices, redraw }; // for tests, which draw the same view by other means
};

(async () => {
  const root = document.getElementById("viewer");
  if (!root) return;
  try {
    const load = async (address, as) => {
      const answer = await fetch(address);
      if (!answer.ok) throw new Error(`${address}: ${answer.status} ${answer.statusText}`);
      return answer[as]();
    };
    const source = root.dataset.source, data = source ? await load(source, "json") : JSON.parse(document.getElementById("viewer-data").textContent);
    for (const mesh of data.subjects.flatMap((subject) => subject.meshes)) if (mesh.splats) mesh.buffer = await load(mesh.splats, "arrayBuffer");
    startViewer(root, data);
  } catch (error) {
    root.querySelector(".viewer").textContent = `The viewer could not start: ${error.message}`;
    throw error;
  }
})();
