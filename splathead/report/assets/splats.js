"use strict";
// Gaussians in WebGL 2: EWA splatting as splathead/raster does it (0.3 px² dilation, alpha at most 0.99, none below 1/255),
// drawn back to front. 32 bytes a Gaussian: see result_view/splats.py. Used by viewer.js.
const splatRenderer = (gl, shader) => {
  const ROW = 1024; // Gaussians a row of the data texture, two texels each
  const VERTEX = `#version 300 es
    precision highp float; precision highp int; precision highp usampler2D;
    layout(location = 0) in vec2 corner; layout(location = 1) in uint index;
    uniform usampler2D data; uniform mat4 toView; uniform vec2 viewport; uniform float focal, near; uniform int mode;
    out vec2 at; out vec4 colour;
    void main() {
      ivec2 texel = ivec2(2u * (index % ${ROW}u), index / ${ROW}u);
      uvec4 a = texelFetch(data, texel, 0), b = texelFetch(data, texel + ivec2(1, 0), 0);
      vec4 q = normalize(vec4(unpackSnorm2x16(b.x), unpackSnorm2x16(b.y))); // w x y z
      vec3 size = vec3(unpackHalf2x16(b.z), unpackHalf2x16(b.w).x), p = (toView * vec4(uintBitsToFloat(a.xyz), 1.0)).xyz;
      float z = -p.z;
      colour = vec4(a.w & 255u, (a.w >> 8) & 255u, (a.w >> 16) & 255u, a.w >> 24) / 255.0;
      gl_Position = vec4(0.0, 0.0, 2.0, 1.0); // outside: not drawn
      if (z < near || colour.a < 1.0 / 255.0) return;
      mat3 turn = mat3(toView) * mat3(
        1.0 - 2.0 * (q.z * q.z + q.w * q.w), 2.0 * (q.y * q.z + q.x * q.w), 2.0 * (q.y * q.w - q.x * q.z),
        2.0 * (q.y * q.z - q.x * q.w), 1.0 - 2.0 * (q.y * q.y + q.w * q.w), 2.0 * (q.z * q.w + q.x * q.y),
        2.0 * (q.y * q.w + q.x * q.z), 2.0 * (q.z * q.w - q.x * q.y), 1.0 - 2.0 * (q.y * q.y + q.z * q.z));
      mat3 axes = mat3(turn[0] * size.x, turn[1] * size.y, turn[2] * size.z);
      vec2 limit = 0.65 * viewport / focal, slope = clamp(p.xy / z, -limit, limit);
      vec3 u = focal / z * (vec3(axes[0].x, axes[1].x, axes[2].x) + slope.x * vec3(axes[0].z, axes[1].z, axes[2].z));
      vec3 v = focal / z * (vec3(axes[0].y, axes[1].y, axes[2].y) + slope.y * vec3(axes[0].z, axes[1].z, axes[2].z));
      float xx = dot(u, u) + 0.3, xy = dot(u, v), yy = dot(v, v) + 0.3; // covariance in px²
      float middle = 0.5 * (xx + yy), radius = length(vec2(0.5 * (xx - yy), xy));
      vec2 major = radius < 1e-6 * middle ? vec2(1.0, 0.0) : abs(xy) > 1e-6 * radius ? normalize(vec2(xy, middle + radius - xx)) : xx > yy ? vec2(1.0, 0.0) : vec2(0.0, 1.0);
      at = corner * sqrt(2.0 * log(255.0 * colour.a));
      vec2 offset = at.x * sqrt(middle + radius) * major + at.y * sqrt(max(middle - radius, 0.0)) * vec2(-major.y, major.x);
      gl_Position = vec4(2.0 * (focal * p.xy / z + offset) / viewport, 0.0, 1.0);
      if (mode == 2) {
        vec3 n = size.x <= size.y && size.x <= size.z ? turn[0] : size.y <= size.z ? turn[1] : turn[2];
        colour.rgb = 0.5 * (dot(n, p) > 0.0 ? -n : n) + 0.5;
      }
    }`;
  const FRAGMENT = `#version 300 es
    precision highp float; in vec2 at; in vec4 colour; out vec4 result;
    void main() {
      float alpha = min(0.99, colour.a * exp(-0.5 * dot(at, at)));
      if (alpha < 1.0 / 255.0) discard;
      result = vec4(colour.rgb * alpha, alpha);
    }`;
  const program = gl.createProgram();
  gl.attachShader(program, shader(gl.VERTEX_SHADER, VERTEX)); gl.attachShader(program, shader(gl.FRAGMENT_SHADER, FRAGMENT));
  gl.linkProgram(program);
  const uniform = Object.fromEntries(["data", "toView", "viewport", "focal", "near", "mode"].map((name) => [name, gl.getUniformLocation(program, name)]));

  const upload = (buffer) => {
    const count = buffer.byteLength / 32, rows = Math.max(1, Math.ceil(count / ROW)), texels = new Uint32Array(8 * ROW * rows);
    if (rows > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new Error(`${count} Gaussians are more than this graphics card can show`);
    texels.set(new Uint32Array(buffer));
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32UI, 2 * ROW, rows, 0, gl.RGBA_INTEGER, gl.UNSIGNED_INT, texels);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
    const vao = gl.createVertexArray(), order = gl.createBuffer();
    gl.bindVertexArray(vao);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer()); gl.bufferData(gl.ARRAY_BUFFER, Float32Array.of(-1, -1, 1, -1, -1, 1, 1, 1), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0); gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, order);
    gl.enableVertexAttribArray(1); gl.vertexAttribIPointer(1, 1, gl.UNSIGNED_INT, 0, 0); gl.vertexAttribDivisor(1, 1);
    return { count, texture, vao, order, sortedFor: "", floats: new Float32Array(buffer), keys: new Uint16Array(count), indices: new Uint32Array(count) };
  };

  // far to near by counting sort over 65536 depths; only the direction of view matters
  const sort = (splats, view) => {
    const [x, y, z] = [view[2], view[6], view[10]], { count, floats, keys, indices } = splats;
    const depths = new Float32Array(count), starts = new Uint32Array(65537);
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < count; i++) {
      const depth = depths[i] = x * floats[8 * i] + y * floats[8 * i + 1] + z * floats[8 * i + 2]; // grows towards the viewer
      if (depth < low) low = depth;
      if (depth > high) high = depth;
    }
    const scale = 65535 / Math.max(high - low, 1e-20);
    for (let i = 0; i < count; i++) { keys[i] = (depths[i] - low) * scale; starts[keys[i] + 1]++; }
    for (let k = 0; k < 65536; k++) starts[k + 1] += starts[k];
    for (let i = 0; i < count; i++) indices[starts[keys[i]]++] = i;
    gl.bindBuffer(gl.ARRAY_BUFFER, splats.order); gl.bufferData(gl.ARRAY_BUFFER, indices, gl.DYNAMIC_DRAW);
  };

  // viewport: the pane's size in pixels; view: column-major 4x4, x right, y up, z towards the viewer; focal in pixels
  const draw = (splats, { view, viewport, focal, near, mode }) => {
    const direction = [view[2], view[6], view[10]].join();
    if (splats.sortedFor !== direction) { sort(splats, view); splats.sortedFor = direction; }
    gl.useProgram(program);
    gl.activeTexture(gl.TEXTURE0); gl.bindTexture(gl.TEXTURE_2D, splats.texture);
    gl.uniform1i(uniform.data, 0); gl.uniformMatrix4fv(uniform.toView, false, view); gl.uniform2fv(uniform.viewport, viewport);
    gl.uniform1f(uniform.focal, focal); gl.uniform1f(uniform.near, near); gl.uniform1i(uniform.mode, mode);
    gl.disable(gl.DEPTH_TEST); gl.enable(gl.BLEND); gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.bindVertexArray(splats.vao);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, splats.count);
    gl.disable(gl.BLEND); gl.enable(gl.DEPTH_TEST);
  };
  return { upload, draw };
};
