// Areas of the photos that are not inspected: drawn with mouse, finger or pen, or typed as coordinates.

const STILL_PIXELS = 6, NEAR_PIXELS = 14;  // of the screen: a shorter drag is a click; a click this near to the first corner closes a polygon

// the areas of a new inspection: `areas` are lists of corners [x, y] in pixels of a photo of `size`, `open` has the
// corners of the polygon that is being drawn, and `history` earlier values of both
const nothingDrawn = () => ({ areas: [], open: [], history: [], size: null });

// what the server takes; null if nothing is drawn
function drawnAreas({ areas, open, size }) {
  const excluded = open.length > 2 ? [...areas, open] : areas;
  return excluded.length ? { excluded, size } : null;
}

// an editor of `drawing` over a photo of `size`, shown from the address `source`; calls `changed` after each change
function areasEditor(drawing, source, size, changed) {
  // earlier values are in pixels of the earlier size
  if (!drawing.areas.length && !drawing.open.length && drawing.size?.join() !== size.join()) Object.assign(drawing, { size, history: [] });
  const [width, height] = drawing.size;
  const shapes = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
  const list = h("ol", { className: "corners" }), back = button(t("undo"), undo), clear = button(t("clear"), () => change([]));
  const points = (corners) => corners.map((corner) => corner.join()).join(" ");
  let start = null;  // { corner, x, y } while the pointer is down

  function change(areas, open = []) {
    drawing.history.push({ areas: drawing.areas, open: drawing.open });
    Object.assign(drawing, { areas, open });
    show();
    changed();
  }

  function undo() {
    Object.assign(drawing, drawing.history.pop());
    show();
    changed();
  }

  function show(dragged = null) {
    const { areas, open } = drawing;
    shapes.setAttribute("aria-label", t("areas_drawn", { count: areas.length }));
    shapes.replaceChildren(...[...areas, ...(dragged ? [dragged] : [])].map((area) => svg("polygon", { points: points(area) })));
    if (open.length) {
      const [x, y] = open[0], { clientWidth } = shapes;
      shapes.append(svg("polyline", { points: points(open) }), svg("circle", { cx: x, cy: y, r: 6 * width / (clientWidth || width) }));
    }
    if (dragged) return;
    list.replaceChildren(...areas.map((area, i) => h("li", {}, field(t("area", { number: i + 1 }), points(area), (corners) => change(areas.toSpliced(i, 1, corners))),
      button(t("remove"), () => { change(areas.toSpliced(i, 1)); added.focus(); }, "plain"))));
    back.disabled = !drawing.history.length;
    clear.disabled = !areas.length && !open.length;
  }

  // a field with the corners of an area; `done` gets them if they are valid
  function field(label, value, done) {
    const input = h("input", { type: "text", value, ariaLabel: label, placeholder: label, spellcheck: false });
    input.addEventListener("change", () => {
      const corners = input.value.trim().split(/\s+/).map((corner) => corner.split(",").map(Number));
      const valid = corners.length > 2 && corners.every((corner) => corner.length === 2 && corner.every(Number.isFinite) &&
        corner[0] >= 0 && corner[0] <= width && corner[1] >= 0 && corner[1] <= height);
      input.setCustomValidity(valid || (!input.value && !value) ? "" : t("area_invalid", { width, height }));
      if (valid) {
        input.value = value;
        done(corners);
      } else input.reportValidity();
    });
    input.addEventListener("input", () => input.setCustomValidity(""));
    return input;
  }

  const within = (value, most) => Math.round(Math.min(Math.max(value, 0), most));
  function cornerAt(event) {
    const box = shapes.getBoundingClientRect();
    return [within((event.clientX - box.left) / box.width * width, width), within((event.clientY - box.top) / box.height * height, height)];
  }
  const moved = (event) => Math.hypot(event.clientX - start.x, event.clientY - start.y) > STILL_PIXELS;
  const rectangle = ([left, top], [right, bottom]) => [[left, top], [right, top], [right, bottom], [left, bottom]];

  shapes.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    shapes.setPointerCapture(event.pointerId);
    start = { corner: cornerAt(event), x: event.clientX, y: event.clientY };
  });
  shapes.addEventListener("pointermove", (event) => {
    if (start && !drawing.open.length && moved(event)) show(rectangle(start.corner, cornerAt(event)));
  });
  shapes.addEventListener("pointercancel", () => { start = null; show(); });
  shapes.addEventListener("pointerup", (event) => {
    if (!start) return;
    const { areas, open } = drawing, corner = cornerAt(event), from = start.corner, dragged = moved(event);
    start = null;
    if (dragged && !open.length) {
      if (from[0] !== corner[0] && from[1] !== corner[1]) change([...areas, rectangle(from, corner)]);
      else show();
      return;
    }
    const box = shapes.getBoundingClientRect(), first = open[0] ?? [Infinity, Infinity];
    const near = Math.hypot((corner[0] - first[0]) / width * box.width, (corner[1] - first[1]) / height * box.height) < NEAR_PIXELS;
    if (near && open.length > 2) change([...areas, open]);
    else if (!near) change(areas, [...open, corner]);
  });

  const added = field(t("area_add"), "", (corners) => change([...drawing.areas, corners]));
  show();
  return h("div", {}, h("p", { className: "facts" }, t("areas_about")),
    h("div", { className: "drawing" }, h("img", { alt: "", src: source }), shapes), h("p", { className: "row" }, added, back, clear), list);
}
