// The page of a new inspection, or of the folder of a new line.
//
// getState: returns the last state that the server has sent; attempt: runs an action and shows its error; repaint: shows the page
// again; follow: shows a run; dropZone: an element for files.
function newInspection({ getState, attempt, repaint, follow, dropZone }) {
  const chosen = { folder: null, contents: null, estimate: null, bank: "", line: "", send: "", settings: {}, drawing: nothingDrawn(), photo: 0 };

  async function openFolder(wanted) {
    const folder = await attempt(() => call("/api/open", wanted));
    if (!folder) return;
    $("#toast").hidden = true;  // it may still show that another folder cannot be opened
    Object.assign(chosen, { folder, contents: null, estimate: null, drawing: nothingDrawn(), photo: 0 });
    repaint();
    if (folder.photos) await readContents();
  }

  async function readContents() {
    const { place } = chosen.folder;
    chosen.contents = "reading";
    repaint();
    const contents = await attempt(() => call("/api/contents", { place }));
    if (chosen.folder?.place !== place) return;
    chosen.contents = contents;
    repaint();
    if (contents?.photos > 1 && !chosen.line) await readEstimate();
  }

  async function readEstimate() {
    const { place } = chosen.folder, { network = "", size = "", fit = "" } = chosen.settings;
    chosen.estimate = null;
    showEstimate();
    if (chosen.bank) return;
    const found = await call("/api/estimate", { place, network, size: Number(size) || 0, fit }).catch(() => ({}));
    if (chosen.folder?.place !== place) return;
    chosen.estimate = found;
    showEstimate();
  }

  function showEstimate() {
    const box = $("#estimate"), { estimate } = chosen;
    if (!box) return;
    if (chosen.bank) box.textContent = t("with_bank");
    else if (!estimate) box.textContent = t("estimating");
    else if (!estimate.seconds) box.textContent = estimate.problem ?? t("no_estimate");
    else {
      box.textContent = [t("takes", { time: durationText(estimate.seconds) }), t("network_used", { network: estimate.network, size: estimate.size }),
        estimate.downloads ? t("downloads") : ""].filter(Boolean).join(" ");
    }
    const select = $("[name=network]");
    if (!select || !estimate?.networks) return;
    for (const name of estimate.networks) if (![...select.options].some(({ value }) => value === name)) select.append(h("option", { value: name }, name));
  }

  function folderCard(folder) {
    const about = folder.photos === null ? t("not_readable") : folder.photos ? countText(folder.photos, "photos") : folder.path ?? "";
    return h("li", {}, h("button", { type: "button", "data-place": folder.place, title: folder.path ?? folder.name, onclick: () => openFolder({ place: folder.place }) },
      folder.first ? previewImage(folder.first) : h("span", { className: "icon", ariaHidden: "true" }),
      h("bdi", {}, folder.name), h("small", {}, h("bdi", {}, about))));
  }

  function sizes(contents) {
    const named = contents.sizes.map(({ width, height }) => `${width} × ${height}`).join(", ");
    return contents.several_sizes > contents.sizes.length ? t("and_more", { sizes: named }) : named;
  }

  function option(name, label, choices) {
    const current = chosen.settings[name] ?? "";
    const onchange = (event) => {
      chosen.settings[name] = event.target.value;
      if (["network", "size", "fit"].includes(name)) readEstimate();
    };
    return h("label", {}, label, choices
      ? h("select", { name, onchange }, optionsOf(choices, current))
      : h("input", { type: "text", name, value: current, onchange }));
  }

  function settings() {
    if (chosen.line) return null;
    const state = getState();
    const banks = [["", t("themselves")], ...state.banks.map(({ bank, name }) => [bank, t("bank_named", { bank: name })])];
    const compare = state.banks.length ? h("label", {}, t("compare"), h("select", { name: "bank", onchange: (event) => {
      chosen.bank = event.target.value;
      repaint();
      readEstimate();
    } }, optionsOf(banks, chosen.bank))) : null;
    if (chosen.bank) return [h("div", { className: "fields" }, compare), areas()];
    const answered = state.runs.filter((run) => run.answers);
    return [h("div", { className: "fields" }, compare,
      option("false_alarms", t("false_alarms"), [["", t("false_alarms_normal")], ["low", t("false_alarms_low")], ["high", t("false_alarms_high")]]),
      option("network", t("network"), [["", t("automatic")], ...(chosen.estimate?.networks ?? []).map((name) => [name, name])]),
      answered.length ? option("answers_of", t("answers"), [["", t("no_answers")], ...answered.map(({ run, name }) => [run, name])]) : null),
    areas(),
    h("details", { open: chosen.moreOpen, ontoggle: (event) => { chosen.moreOpen = event.target.open; } }, h("summary", {}, t("more")),
      h("div", { className: "fields" },
        option("size", t("size"), [["", t("automatic")], ...[224, 336, 448, 518].map((side) => [String(side), `${side} px`])]),
        option("fit", t("fit"), [["", t("automatic")], ["squeeze", t("fit_squeeze")], ["pad", t("fit_pad")], ["tile", t("fit_tile")]]),
        h("span", { className: "grow" }, option("roi", t("roi"))), h("span", { className: "grow" }, option("flags", t("flags")))))];
  }

  // the photo on which areas are drawn, with its size
  function photoForAreas() {
    const list = chosen.contents.thumbnails;
    return list[chosen.photo]?.size ? list[chosen.photo] : list.find(({ size }) => size);
  }

  function areas() {
    const photo = photoForAreas();
    if (!photo) return null;
    const summary = h("summary"), name = () => { const count = drawnAreas(chosen.drawing)?.excluded.length; summary.textContent = count ? t("areas_drawn", { count }) : t("areas"); };
    name();
    return h("details", { id: "areas", open: chosen.areasOpen, ontoggle: (event) => { chosen.areasOpen = event.target.open; } }, summary,
      areasEditor(chosen.drawing, previewAddress(photo.place, 1024), photo.size, name));
  }

  function drawOn(number) {
    Object.assign(chosen, { photo: number, areasOpen: true });
    $("#areas").replaceWith(areas());
  }

  // photos of the folder; a click shows one under the areas
  function strip({ thumbnails }) {
    return h("div", { className: "strip" }, thumbnails.map((one, i) => (chosen.line || !one.size ? previewImage(one.place)
      : h("button", { type: "button", ariaLabel: t("draw_on", { name: one.name }), title: one.name, onclick: () => drawOn(i) }, previewImage(one.place)))));
  }

  function contentsCard() {
    const { contents, folder } = chosen;
    if (!folder) return null;
    if (!contents) {
      return folder.photos || !folder.folders.length ? null : h("p", {}, button(t("with_subfolders"), readContents));
    }
    if (contents === "reading") return h("p", { className: "card plainly" }, t("reading"));
    const begin = chosen.line ? h("p", {}, button(t("watch_folder"), startLine, "button"))
      : h("div", {}, h("p", {}, h("output", { id: "estimate" })), h("p", {}, h("button", { type: "button", id: "start", className: "button", disabled: contents.photos < (chosen.bank ? 1 : 2), onclick: start }, t("start"))));
    return h("div", { className: "card plainly", id: "contents" }, h("h3", {}, t("in_folder", { photos: countText(contents.photos, "photos") })),
      h("p", { className: "facts" }, [contents.photos ? sizes(contents) : t("no_photos"), contents.folders > 1 ? countText(contents.folders, "folders") : ""].filter(Boolean).join(" · ")),
      contents.photos && !contents.enough && !chosen.bank && !chosen.line ? h("p", { className: "note mild" }, t("too_few")) : null,
      contents.unreadable ? h("p", { className: "note" }, t("unreadable", { count: contents.unreadable, of: contents.sampled })) : null,
      contents.skipped.length ? h("details", { className: "facts" }, h("summary", {}, t("skipped")), h("ul", {}, contents.skipped.map((line) => h("li", {}, line)))) : null,
      strip(contents),
      settings(), begin);
  }

  async function start(event) {
    const { network = "", size = "", ...others } = chosen.settings;
    const wanted = { place: chosen.folder.place, bank: chosen.bank, areas: drawnAreas(chosen.drawing), ...(chosen.bank ? {} : { network, size: Number(size) || 0, ...others }) };
    event.target.disabled = true;  // a second click would start a second inspection
    const made = await attempt(() => call("/api/runs", wanted));
    event.target.disabled = false;
    if (!made) return;
    Object.assign(chosen, { folder: null, contents: null, bank: "", drawing: nothingDrawn() });
    await follow(made.run);
  }

  async function startLine() {
    const place = chosen.folder?.place ?? "";
    if (await attempt(() => call("/api/lines", { bank: chosen.line, send: chosen.send, place }))) location.hash = "#/lines";
  }

  function view() {
    const state = getState();
    const { folder } = chosen;
    const go = (event) => {
      event.preventDefault();
      openFolder({ path: event.target.elements.path.value });
    };
    const places = (title, list) => (list.length ? [h("p", { className: "facts" }, title), h("ul", { className: "places" }, list.map(({ place, name }) =>
      h("li", {}, h("button", { type: "button", title: name, onclick: () => openFolder({ place }) }, h("bdi", {}, basename(name))))))] : null);
    const bank = (chosen.bank || chosen.line).replace(".safetensors", "");
    return [h("h2", {}, chosen.line ? t("line_folder", { bank }) : bank ? t("new_with", { bank }) : t("new")),
      chosen.line ? h("p", { className: "row" }, t("line_http"), button(t("without_folder"), () => { chosen.folder = null; startLine(); })) : null,
      chosen.line ? h("label", { className: "path" }, t("send"), h("input", { type: "text", name: "send", value: chosen.send, spellcheck: false,
        placeholder: "https://host/path, mqtt://host/topic, /path/results.csv", oninput: (event) => { chosen.send = event.target.value; } })) : null,
      h("div", { className: folder ? "choose" : "" },
        folder && h("aside", {}, places(t("recent"), state.recent), places(t("places"), state.roots)),
        h("div", {},
          h("form", { className: "path", onsubmit: go }, folder?.parent && button("↑", () => openFolder({ place: folder.parent }), "button quiet up"),
            h("input", { type: "text", name: "path", value: folder?.name ?? "", placeholder: t("path"), ariaLabel: t("path"), spellcheck: false }), h("button", { className: "button quiet" }, t("open"))),
          contentsCard(),
          folder ? h("ul", { className: "folders" }, folder.folders.map(folderCard))
            : [h("ul", { className: "folders" }, [...state.recent, ...state.roots].map(({ place, name }) => folderCard({ place, name: basename(name), path: name, photos: 0 }))),
              chosen.line ? null : dropZone()]))];
  }

  // a bank to inspect with, or one to start a line with
  const choose = ({ bank, line }) => Object.assign(chosen, { bank, line, send: "" });

  return { view, choose, open: openFolder, showEstimate };
}
