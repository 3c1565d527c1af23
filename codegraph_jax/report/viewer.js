"use strict";
// The large view, which steps through photos.
//
// page: the state of the report, see page.js.
function newViewer(page) {
  const { images, sets, rows, answers, table, mm_per_pixel: mmPerPixel } = page;
  const { setOf, verdictOf, scoreOf, rarityTextOf, rarityColumn, imagesOf } = page.photos;
  const dialog = $("#viewer"), stage = new Stage(dialog, imagesOf), answerForm = $("#answer");
  const mapSwitch = $("#viewer-map"), boxSwitch = $("#viewer-boxes");
  let sequence = table.visible, current = 0, opened = 0;

  // opens the view with a photo; it steps through `among`, or through all photos if the photo is not one of them
  function show(number, among = table.visible) {
    sequence = among.includes(number) ? among : table.numbers;
    current = opened = number;
    if (!dialog.open) {
      dialog.showModal();
      dialog.focus();
    }
    render();
  }

  function goTo(position) {
    if (!(position in sequence)) return;
    current = sequence[position];
    render();
  }
  const step = (by) => goTo(sequence.indexOf(current) + by);

  function render() {
    const image = images[current], position = sequence.indexOf(current), boxes = $("svg", stage.canvas);
    stage.show(current, mapSwitch.checked);
    boxes.replaceChildren();
    if (boxSwitch.checked) {
      drawBoxes(boxes, image.region_boxes, "found");
      drawBoxes(boxes, image.pattern_boxes, "pattern");
    }
    $("#viewer-name bdi").textContent = image.name;
    $("#position").textContent = t("some_of_all", { some: position + 1, all: sequence.length });
    $("#previous").disabled = position === 0;
    $("#next").disabled = position === sequence.length - 1;
    if (answerForm) {
      answerForm.elements.answer.value = answers.of(current).answer ?? "none";
      answerForm.elements.note.value = answers.of(current).note;
    }
    renderFacts(image);
    history.replaceState(null, "", `#image-${current}`);
  }

  function renderFacts(image) {
    const set = setOf(current), value = scoreText(scoreOf(current));
    const link = (href) => href && h("a", { href }, t("open_file"));
    const facts = {
      verdict_column: t(`verdict_${verdictOf(current)}`),
      category: sets.length > 1 ? set.category : null,
      score: set.threshold < Infinity ? t("fact_score", { score: value, threshold: scoreText(set.threshold) }) : value,
      rescored: image.rescored && scoreText(image.rescored),
      [rarityColumn()]: rarityTextOf(current),
      label: image.label === null ? null : t(labelKey(image.label)),
      recurring_column: texts.textOf(image.pattern),
      largest_region: image.largest_region && sizeText(image.largest_region, mmPerPixel),
      photo: sizeText([image.width, image.height], mmPerPixel),
      file: image.path,
      heat_map: link(image.heatmap),
      mask: link(image.mask),
    };
    $("#facts").replaceChildren(...Object.entries(facts).filter(([, fact]) => fact).map(([key, fact]) =>
      h("div", {}, h("dt", {}, t(key)), h("dd", {}, fact))));
  }

  for (const box of [mapSwitch, boxSwitch]) box.addEventListener("change", render);
  $("#previous").addEventListener("click", () => step(-1));
  $("#next").addEventListener("click", () => step(1));
  $("#close").addEventListener("click", () => dialog.close());
  $("#one-by-one").addEventListener("click", () => show(table.visible[0]));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    if (dialog.open) return;  // the event is late, and the view is open again
    history.replaceState(null, "", location.pathname + location.search);
    // the browser has returned the focus to the element that opened the view
    if (current === opened && document.activeElement !== document.body) return;
    const opener = $(".frame", rows.get(current));
    if (opener.offsetParent) opener.focus();
  });
  if (answerForm) {
    answerForm.addEventListener("change", (event) => {
      if (event.target.name === "answer") page.answer(current, event.target.value === "none" ? null : event.target.value);
    });
    answerForm.elements.note.addEventListener("input", (event) => {
      page.changed(...answers.set(images[current].key, { ...answers.of(current), note: event.target.value.trim() }));
    });
  }

  const keys = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => goTo(0), End: () => goTo(sequence.length - 1), b: () => boxSwitch.click(),
  };
  return {
    show, keys, mapSwitch,
    refresh: () => { if (dialog.open) render(); },
    get open() { return dialog.open; },
    get current() { return current; },
  };
}
