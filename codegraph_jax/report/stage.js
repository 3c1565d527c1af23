"use strict";
// The photo of the card and of the large view, as large as possible.
//
// root: an element with .canvas; imagesOf: returns the width, height and name of a photo, the addresses of its embedded
// images `photo` and `heat`, and that of its heat-map file, which has more detail, or null.
class Stage {
  static onlyEmbedded = false;  // the report was moved without its folder

  constructor(root, imagesOf) {
    this.canvas = $(".canvas", root);
    this.imagesOf = imagesOf;
    this.number = null;
    $(".photo", root).addEventListener("error", (event) => {
      if (Stage.onlyEmbedded || event.target.src.startsWith("data:")) return;
      Stage.onlyEmbedded = true;
      this.show(this.number, this.map);
    });
    new ResizeObserver(() => this.layout()).observe(this.canvas.parentElement);
  }

  show(number, map) {
    Object.assign(this, { number, map });
    const photo = $(".photo", this.canvas), heat = $(".heat", this.canvas), images = this.imagesOf(number);
    const file = map && !Stage.onlyEmbedded && images.file;
    photo.src = file || images.photo;
    photo.alt = images.name;
    heat.src = images.heat;
    heat.hidden = !map || Boolean(file);
    this.layout();
  }

  // fits the photo into the stage
  layout() {
    const stage = this.canvas.parentElement;
    if (this.number === null || !stage.clientWidth) return;
    const { width, height } = this.imagesOf(this.number);
    const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
    this.canvas.style.width = `${Math.floor(width * scale)}px`;
    this.canvas.style.height = `${Math.floor(height * scale)}px`;
  }
}

// boxes over a photo, in shares of its sides
function drawBoxes(into, boxes, kind) {
  for (const [left, top, right, bottom] of boxes) {
    for (const part of ["outline", kind]) into.append(svg("rect", { class: part, x: left, y: top, width: right - left, height: bottom - top }));
  }
}
