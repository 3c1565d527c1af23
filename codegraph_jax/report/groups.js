"use strict";
// The groups: thumbnails of their members, and the forms with a person's verdicts and names.
//
// page: the state of the report, see page.js.
function newGroups(page) {
  const { images, rows, photos: { thumbnailOf } } = page, forms = $$("form[data-pattern]");

  for (const item of $$("li[data-member]")) {
    const number = Number(item.dataset.member), image = images[number], source = thumbnailOf(number);
    const boxes = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" });
    drawBoxes(boxes, image.pattern_boxes, "pattern");
    const button = h("button", { type: "button", className: "frame", "data-open": number },
      h("span", { className: source.parentElement.className }, source.cloneNode(), boxes));
    item.append(texts.attribute(button, "aria-label", "open_photo", { name: image.name }), h("bdi", {}, image.name));
  }

  // the heading of a group has the name that a person has typed
  function showName(form) {
    const heading = $("h4 bdi", form.closest("article")), name = form.elements.name.value.trim();
    heading.original ??= [...heading.childNodes];
    heading.replaceChildren(...(name ? [name] : heading.original));
    const shown = $("[data-group]", form.closest("article")).dataset;
    for (const [number, row] of rows) {
      const image = images[number];
      if (image.group !== Number(shown.group) || image.set !== Number(shown.set)) continue;
      image.originalPattern ??= image.pattern;
      image.pattern = name || image.originalPattern;
      $(".recurring bdi", row).textContent = texts.textOf(image.pattern);
    }
  }

  const keyOf = (form) => `${page.review.store.rest} ${form.dataset.pattern}`;

  function fill(key, { verdict, name }) {
    const form = forms.find((one) => keyOf(one) === key);
    if (!form) return;
    form.elements.verdict.value = verdict;
    form.elements.name.value = name;
    form.dataset.reviewed = "";
    showName(form);
  }

  // a person's verdicts; the rule decides again on the next batch
  const reviewed = () => forms.filter((form) => "reviewed" in form.dataset).map((form) => ({
    key: keyOf(form), pattern: Number(form.dataset.pattern), verdict: form.elements.verdict.value, name: form.elements.name.value,
  }));

  if (page.review) for (const form of forms) {
    form.addEventListener("input", () => {
      form.dataset.reviewed = "";
      showName(form);
      page.changed();
    });
    // browsers keep form values when a page is reloaded; these are not verdicts
    form.reset();
  }

  return { fill, reviewed };
}
