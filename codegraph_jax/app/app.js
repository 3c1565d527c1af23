"use strict";
(async () => {
  const main = $("#main"), dialog = $("#dialog");
  const STAGES = ["start", "backbone", "distances", "scoring", "report"], INSPECTION = ["start", "inspection", "report"];
  const POLL = 1000, SLOW = 4000;
  const RECENT = 12, WIDTH = 320, HEIGHT = 70;  // runs in the charts of what recurs, and their size
  const UNDER_WAY = ["waiting", "running"];
  let state = null, drawn = "", lost = false;

  const countText = (count, key) => t(key, { count }), dateText = (seconds) => texts.date(1000 * seconds);
  const day = (seconds) => new Date(1000 * seconds).toLocaleDateString(texts.locale, { day: "numeric", month: "short" });
  const percent = (share) => share.toLocaleString(texts.locale, { style: "percent", maximumFractionDigits: 1 });
  function durationText(seconds) {
    if (seconds < 45) return t("less_than_a_minute");
    return seconds < 5400 ? countText(Math.max(1, Math.round(seconds / 60)), "minutes") : countText(Math.round(seconds / 3600), "hours");
  }

  // ---- the server ----

  async function attempt(action) {
    try {
      return await action();
    } catch (error) {
      toast(error instanceof TypeError ? t("lost") : error.message);
      return null;
    }
  }

  function toast(text) {
    const message = $("#toast");
    message.textContent = text;
    message.hidden = false;
    clearTimeout(toast.timer);
    toast.timer = setTimeout(() => { message.hidden = true; }, 8000);
  }

  // ---- elements ----

  const basename = (path) => path.split(/[/\\]/).filter(Boolean).pop() ?? path;
  const button = (text, action, kind = "button quiet") => h("button", { type: "button", className: kind, onclick: action }, text);
  const picture = (place, side = 256) => `/api/picture?side=${side}&place=${encodeURIComponent(place)}`;
  const runPath = (run) => `/api/runs/${encodeURIComponent(run)}`;

  // a question in a dialog; resolves to the typed text, true, or null
  function ask(title, about, confirm, { value = null, danger = false } = {}) {
    const input = value === null ? null : h("input", { type: "text", value, maxLength: 200, ariaLabel: title });
    const form = h("form", { method: "dialog" }, h("h2", { id: "asked" }, title), about && h("p", {}, about), input,
      h("div", { className: "row" }, h("button", { value: "", className: "button quiet" }, t("cancel")),
        h("button", { value: "yes", className: danger ? "button danger" : "button" }, confirm)));
    // Enter confirms
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target !== input) return;
      event.preventDefault();
      dialog.close("yes");
    });
    dialog.replaceChildren(form);
    dialog.returnValue = "";
    dialog.showModal();
    if (input) input.select();
    return new Promise((resolve) => dialog.addEventListener("close", () => {
      resolve(dialog.returnValue !== "yes" ? null : input ? input.value : true);
    }, { once: true }));
  }

  // ---- the list of runs ----

  const active = (run) => UNDER_WAY.includes(run.state);
  const reportOf = (run) => `/runs/${encodeURIComponent(run.run)}/report.html`;

  function counts(run) {
    if (run.photos === undefined) return null;
    const found = run.groups.filter((group) => group.photos).length;
    return h("p", { className: "counts" }, h("span", {}, countText(run.photos, "photos")),
      h("span", { className: run.flagged ? "bad" : "" }, t("flagged", { count: run.flagged })),
      run.to_check ? h("span", { className: "check" }, t("to_check", { count: run.to_check })) : null,
      found ? h("span", {}, countText(found, "groups")) : null);
  }

  function progress(run) {
    const now = run.progress;
    if (run.state === "waiting") return h("p", { className: "facts" }, t("waiting"));
    if (!now) return h("p", { className: "facts" }, t("starting"));
    const over = now.total && now.done >= now.total, stages = now.stage === "inspection" || run.task === "inspect" ? INSPECTION : STAGES;
    const stage = now.stage === "distances" && over ? "scoring" : ["products", "categories"].includes(now.stage) ? "start" : now.stage;
    const current = stages.indexOf(stage), share = now.total && !over ? now.done / now.total : over ? 1 : 0;
    const bar = h("progress", { max: 1, ariaLabel: t(`stage_${stage}`) });
    if (stage === "scoring" || !now.total) bar.removeAttribute("value");
    else bar.value = share;
    return [bar,
      h("ol", { className: "stages" }, stages.map((one, i) => h("li", { className: i < current ? "done" : i === current ? "now" : "" },
        t(`stage_${one}`), one === stage && now.total && !over ? ` ${percent(Math.floor(100 * share) / 100)}` : ""))),
      h("p", { className: "facts" }, now.left && stage !== "scoring" ? t("left", { time: durationText(now.left) }) : "")];
  }

  async function changeRun(run, action, body = {}) {
    await attempt(() => call(`${runPath(run.run)}${action}`, body));
    await refresh();
  }

  async function rename(run) {
    const name = await ask(t("rename"), "", t("save"), { value: run.name });
    if (name !== null) await changeRun(run, "/name", { name });
  }

  // deletes a run, a bank or a line, and shows the list of the others
  async function remove(name, about, path, list) {
    if (!await ask(t("delete_title", { name }), t(about), t("delete"), { danger: true })) return;
    if (await attempt(() => call(path, undefined, "DELETE")) && location.hash !== list) location.hash = list;
    await refresh();
  }

  async function saveBank(run) {
    const name = await ask(t("save_bank"), t("bank_about"), t("save"), { value: run.name });
    if (name === null) return;
    if (await attempt(() => call(`${runPath(run.run)}/bank`, { name }))) toast(t("bank_started"));
    await refresh();
  }

  let first = null;  // the run that another one is to be compared with

  async function compare(run) {
    const pair = [first?.run, run.run];
    first = first ? null : run;
    paint(true);
    if (first) return toast(t("compare_with", { name: run.name }));
    if (pair[0] === pair[1]) return undefined;
    toast(t("comparing"));
    if (await attempt(() => call("/api/compare", { runs: pair }))) location.href = `/compared.html?language=${texts.language}`;
    return undefined;
  }

  function card(run) {
    const finished = run.report && !active(run), address = finished ? reportOf(run) : `#/run/${encodeURIComponent(run.run)}`;
    const image = h("a", { className: "thumb", href: address, tabIndex: -1, ariaHidden: "true" });
    if (run.photos !== undefined) {
      image.append(h("img", { alt: "", loading: "lazy", src: `/thumbnails/${encodeURIComponent(run.run)}?${run.date}`, onerror: (event) => event.target.remove() }));
    }
    const kind = active(run) && run.photos !== undefined ? t(`job_${run.job}`) : null;
    const facts = [run.folder && h("bdi", {}, run.folder), h("span", {}, dateText(run.begun))];
    return h("li", { "data-run": run.run }, image,
      h("div", {}, h("h3", {}, h("a", { href: address }, h("bdi", {}, run.name))), h("p", { className: "facts counts" }, facts), counts(run),
        kind && h("p", { className: "facts" }, kind)),
      h("div", { className: "actions" },
        active(run) && run.job ? button(t("cancel"), () => changeRun(run, "/cancel")) : null,
        !active(run) && run.state !== "finished" && run.job ? button(t("go_on"), () => changeRun(run, "/resume"), "button") : null,
        finished && run.task !== "inspect" ? button(t("save_bank"), () => saveBank(run)) : null,
        finished && state.runs.filter((one) => one.report).length > 1 ? button(first ? t("compare_this") : t("compare_run"), () => compare(run), "plain") : null,
        active(run) ? null : button(t("rename"), () => rename(run), "plain"),
        active(run) ? null : button(t("delete"), () => remove(run.name, "delete_about", runPath(run.run), "#/"), "plain")),
      active(run) ? h("div", { className: "wide" }, progress(run)) : null,
      run.message ? h("p", { className: "note wide" }, run.message, " ", run.job && button(t("log"), () => showLog(run), "plain")) :
        ["interrupted", "cancelled"].includes(run.state) ? h("p", { className: "facts wide" }, t(run.job ? "interrupted" : "interrupted_terminal")) : null);
  }

  async function showLog(run) {
    const { text } = await attempt(() => call(`${runPath(run.run)}/log`)) ?? {};
    dialog.replaceChildren(h("h2", { id: "asked" }, t("log")), h("pre", { className: "log", tabIndex: 0 }, text || ""), h("div", { className: "row" }, button(t("close"), () => dialog.close())));
    dialog.showModal();
  }

  // what recurs in several runs, by the name that a person has given: a chart of each name, and a table
  function recurring(runs) {
    const named = new Map(), columns = runs.filter((run) => run.groups?.some((group) => group.name)).sort((a, b) => a.begun - b.begun).slice(-RECENT);
    for (const run of columns) for (const { name, photos, verdict } of run.groups) {
      if (!name) continue;
      const row = named.get(name) ?? { name, cells: new Map() };
      row.cells.set(run, (row.cells.get(run) ?? 0) + photos);
      named.set(name, Object.assign(row, { verdict }));
    }
    if (!named.size) return null;
    const rows = [...named.values()], most = Math.max(...rows.flatMap(({ cells }) => [...cells].map(([run, count]) => count / run.photos)), 0.01);
    return h("section", { id: "recurs" }, h("h2", {}, t("recurring")), h("p", { className: "facts" }, t("recurring_about")),
      h("div", { className: "recurs" }, rows.map((row) => recurrence(row, most))),
      h("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: t("recurring") }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("name")), columns.map((run) => h("th", { className: "number", scope: "col" }, h("a", { href: reportOf(run) }, h("bdi", {}, run.name)))))),
        h("tbody", {}, rows.map(({ name, cells }) => h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, name)),
          columns.map((run) => h("td", { className: "number" }, cells.has(run) ? t("share", { count: cells.get(run), of: run.photos }) : "–"))))))));
  }

  // bars of the share of photos in each run in which the mark was looked for, the oldest on the left
  function recurrence({ name, verdict, cells }, most) {
    const runs = [...cells.keys()], [last, before] = runs.toReversed(), wide = WIDTH / Math.max(runs.length, 6);
    const said = (run) => t("share", { count: cells.get(run), of: run.photos });
    const text = before ? t("recurs_before", { now: said(last), before: said(before), date: day(before.begun) }) : t("recurs_now", { now: said(last) });
    const label = (x, run, anchor) => svg("text", { class: "tick", x, y: HEIGHT + 18, "text-anchor": anchor }, day(run.begun));
    return h("figure", {}, h("figcaption", {}, h("b", {}, h("bdi", {}, name)), " ", h("span", { className: `badge ${verdict}` }, t(`group_${verdict}`)), h("br"), text),
      svg("svg", { class: "chart", viewBox: `-88 -14 ${WIDTH + 92} ${HEIGHT + 38}`, role: "img", "aria-label": `${name}: ${text}` },
        ...[0, 1].map((level) => svg("line", { class: level ? "grid" : "axis", x1: 0, x2: WIDTH, y1: HEIGHT * (1 - level), y2: HEIGHT * (1 - level) })),
        ...[0, 1].map((level) => svg("text", { class: "tick", x: -6, y: HEIGHT * (1 - level) + 4, "text-anchor": "end" }, percent(level * most))),
        ...runs.map((run, i) => {
          const tall = Math.max(cells.get(run) / run.photos / most * HEIGHT, 1.5);
          return svg("g", {}, svg("title", {}, `${run.name}, ${day(run.begun)}: ${said(run)}`),
            svg("rect", { class: verdict === "defect" ? "flagged" : "", x: i * wide + 3, y: HEIGHT - tall, width: wide - 6, height: tall }));
        }),
        label(3, runs[0], "start"), ...(runs.length > 2 ? [label(runs.length * wide - 3, last, "end")] : [])));
  }

  function home() {
    if (!state.runs.length) {
      return [h("section", { className: "welcome" }, h("h2", {}, t("welcome")), h("p", {}, t("welcome_about")),
        h("ol", { className: "steps" }, ["welcome_1", "welcome_2", "welcome_3"].map((key) => h("li", {}, t(key)))),
        h("p", { className: "row" }, h("a", { className: "button", href: "#/new" }, t("choose_folder")), button(t("demo"), demo)), dropZone())];
    }
    return [h("div", { className: "row apart" }, h("h2", {}, t("runs")), h("a", { className: "button", href: "#/new" }, t("new"))),
      h("ul", { className: "runs" }, state.runs.map(card)), recurring(state.runs), h("p", { className: "facts" }, t("home", { home: state.home }))];
  }

  async function demo() {
    const made = await attempt(() => call("/api/demo", {}));
    if (made) await follow(made.run);
  }

  // shows a run that has just been started
  async function follow(run) {
    await refresh();
    location.hash = `#/run/${encodeURIComponent(run)}`;
  }

  function runView(name) {
    const run = state.runs.find((one) => one.run === name);
    if (!run) return [h("p", { className: "note" }, t("no_run"))];
    if (run.report && run.state === "finished" && runView.watched === name) {
      runView.watched = "";
      location.replace(reportOf(run));
    }
    if (active(run)) runView.watched = name;
    return [h("p", {}, h("a", { href: "#/" }, `‹ ${t("runs")}`)), h("ul", { className: "runs" }, card(run)),
      active(run) ? h("p", { className: "facts" }, t("may_close")) : null];
  }

  // ---- a new inspection, or the folder of a line ----

  const chosen = { folder: null, contents: null, estimate: null, bank: "", line: "", send: "", settings: {}, drawing: nothingDrawn(), photo: 0 };

  async function openFolder(wanted) {
    const folder = await attempt(() => call("/api/open", wanted));
    if (!folder) return;
    $("#toast").hidden = true;  // it may still say that another folder cannot be opened
    Object.assign(chosen, { folder, contents: null, estimate: null, drawing: nothingDrawn(), photo: 0 });
    paint(true);
    if (folder.photos) await readContents();
  }

  async function readContents() {
    const { place } = chosen.folder;
    chosen.contents = "reading";
    paint(true);
    const contents = await attempt(() => call("/api/contents", { place }));
    if (chosen.folder?.place !== place) return;
    chosen.contents = contents;
    paint(true);
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
      folder.first ? h("img", { alt: "", loading: "lazy", src: picture(folder.first), onerror: (event) => { event.target.style.visibility = "hidden"; } }) : h("span", { className: "icon", ariaHidden: "true" }),
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
      ? h("select", { name, onchange }, choices.map(([value, text]) => h("option", { value, selected: value === current }, text)))
      : h("input", { type: "text", name, value: current, onchange }));
  }

  function settings() {
    if (chosen.line) return null;
    const banks = [["", t("themselves")], ...state.banks.map(({ bank, name }) => [bank, t("bank_named", { bank: name })])];
    const compare = state.banks.length ? h("label", {}, t("compare"), h("select", { name: "bank", onchange: (event) => {
      chosen.bank = event.target.value;
      paint(true);
      readEstimate();
    } }, banks.map(([value, text]) => h("option", { value, selected: value === chosen.bank }, text)))) : null;
    if (chosen.bank) return [h("div", { className: "fields" }, compare), areas()];
    const answered = state.runs.filter((run) => run.answers);
    return [h("div", { className: "fields" }, compare,
      option("false_alarms", t("false_alarms"), [["", t("false_alarms_normal")], ["low", t("false_alarms_low")], ["high", t("false_alarms_high")]]),
      option("network", t("network"), [["", t("automatic")], ...(chosen.estimate?.networks ?? []).map((name) => [name, name])]),
      answered.length ? option("answers_of", t("answers"), [["", t("no_answers")], ...answered.map(({ run, name }) => [run, name])]) : null),
    areas(),
    h("details", { open: chosen.more, ontoggle: (event) => { chosen.more = event.target.open; } }, h("summary", {}, t("more")),
      h("div", { className: "fields" },
        option("size", t("size"), [["", t("automatic")], ...[224, 336, 448, 518].map((side) => [String(side), `${side} px`])]),
        option("fit", t("fit"), [["", t("automatic")], ["squeeze", t("fit_squeeze")], ["pad", t("fit_pad")], ["tile", t("fit_tile")]]),
        h("span", { className: "grow" }, option("roi", t("roi"))), h("span", { className: "grow" }, option("flags", t("flags")))))];
  }

  // the photo on which areas are drawn, with its size
  function photographed() {
    const list = chosen.contents.thumbnails;
    return list[chosen.photo]?.size ? list[chosen.photo] : list.find(({ size }) => size);
  }

  function areas() {
    const photo = photographed();
    if (!photo) return null;
    const summary = h("summary"), name = () => { const count = drawnAreas(chosen.drawing)?.excluded.length; summary.textContent = count ? t("areas_drawn", { count }) : t("areas"); };
    name();
    return h("details", { id: "areas", open: chosen.drawn, ontoggle: (event) => { chosen.drawn = event.target.open; } }, summary,
      areasEditor(chosen.drawing, picture(photo.place, 1024), photo.size, name));
  }

  function drawOn(number) {
    Object.assign(chosen, { photo: number, drawn: true });
    $("#areas").replaceWith(areas());
  }

  // pictures of the folder; a click shows one under the areas
  function strip({ thumbnails }) {
    const image = ({ place }) => h("img", { alt: "", loading: "lazy", src: picture(place), onerror: (event) => { event.target.style.visibility = "hidden"; } });
    return h("div", { className: "strip" }, thumbnails.map((one, i) => (chosen.line || !one.size ? image(one)
      : h("button", { type: "button", ariaLabel: t("draw_on", { name: one.name }), title: one.name, onclick: () => drawOn(i) }, image(one)))));
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

  function newView() {
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

  // ---- uploads ----

  const dropZone = () => h("div", { className: "drop" }, h("span", {}, t("drop")),
    h("label", { className: "button quiet" }, t("choose_files"), h("input", { type: "file", multiple: true, accept: "image/*,.tif,.tiff,.bmp", onchange: (event) => upload([...event.target.files]) })));

  async function filesOf(entry) {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const reader = entry.createReader(), found = [];
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return found;
      for (const one of some) found.push(...await filesOf(one));
    }
  }

  async function upload(files, name = "photos") {
    if (!files.length) return;
    const folder = await attempt(() => call("/api/uploads", { name }));
    if (!folder) return;
    let done = 0, refused = 0;
    const queue = [...files], work = async () => {
      for (let file = queue.pop(); file; file = queue.pop()) {
        const answer = await fetch(`/api/uploads/${encodeURIComponent(folder.name)}?name=${encodeURIComponent(file.name)}`, { method: "PUT", body: file }).catch(() => null);
        if (!answer?.ok) refused += 1;
        toast(t("uploading", { done: ++done, of: files.length }));
      }
    };
    await Promise.all([work(), work(), work()]);
    toast(refused ? t("upload_refused", { count: refused, of: files.length }) : t("uploaded", { count: files.length }));
    location.hash = "#/new";
    await openFolder({ place: folder.place });
  }

  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = (await Promise.all(entries.map(filesOf))).flat();
    await upload(files, entries.length === 1 && entries[0].isDirectory ? entries[0].name : "photos");
  });

  // ---- banks and lines ----

  function banksView() {
    const saved = state.runs.filter((run) => active(run) && run.job === "bank"), now = saved.length ? h("ul", { className: "runs" }, saved.map(card)) : null;
    if (!state.banks.length) return [h("h2", {}, t("banks")), now ?? h("p", {}, t("no_banks"))];
    return [h("h2", {}, t("banks")), h("p", { className: "facts" }, t("banks_about")), now, h("ul", { className: "runs plainer" }, state.banks.map((bank) =>
      h("li", {}, h("div", {}, h("h3", {}, h("bdi", {}, bank.name)), h("p", { className: "facts" }, `${dateText(bank.date)} · ${texts.number(bank.bytes / 1e6, 1)} MB`)),
        h("div", { className: "actions" }, h("a", { className: "button quiet", href: `#/new/bank/${encodeURIComponent(bank.bank)}` }, t("inspect_more")),
          h("a", { className: "button quiet", href: `#/new/line/${encodeURIComponent(bank.bank)}` }, t("start_line")),
          button(t("delete"), () => remove(bank.name, "delete_bank", `/api/banks/${encodeURIComponent(bank.bank)}`, "#/banks"), "plain")))))];
  }

  const pageOf = (line) => `/lines/${encodeURIComponent(line.name)}/`;

  function partCounts({ inspected, flagged, last_alarm: alarms, undelivered }) {
    const late = undelivered.reduce((sum, one) => sum + (one.error || one.dropped ? one.waiting + one.refused + one.dropped : 0), 0);
    return h("p", { className: "counts" }, h("span", {}, countText(inspected, "parts")), h("span", { className: flagged ? "bad" : "" }, t("flagged", { count: flagged })),
      alarms ? h("span", {}, countText(alarms, "alarms")) : null, late ? h("span", { className: "bad" }, countText(late, "undelivered_results")) : null);
  }

  function linesView() {
    const change = async (line, action) => {
      await attempt(() => call(`/api/lines/${encodeURIComponent(line.name)}/${action}`, {}));
      await refresh();
    };
    const banks = h("p", {}, h("a", { className: "button", href: "#/banks" }, t("banks")));
    if (!state.lines.length) return [h("h2", {}, t("lines")), h("p", {}, t("no_lines")), banks];
    return [h("h2", {}, t("lines")), h("p", { className: "facts" }, t("lines_about")), h("ul", { className: "runs plainer" }, state.lines.map((line) => {
      const on = UNDER_WAY.includes(line.state);
      return h("li", { "data-line": line.name },
        h("div", {}, h("h3", {}, h("bdi", {}, line.name)), h("p", { className: "facts" }, line.folder ? h("bdi", {}, t("watches", { folder: line.folder })) : t("only_http")),
          line.send ? h("p", { className: "facts" }, h("bdi", {}, t("sends", { targets: line.send }))) : null,
          line.summary ? partCounts(line.summary) : null,
          h("p", {}, on ? line.address ? t("line_on", { address: line.address }) : t("line_starting") : t(line.state === "failed" ? "line_failed" : "line_off"))),
        h("div", { className: "actions" }, line.address ? h("a", { className: "button", href: pageOf(line) }, t("line_page")) : null,
          line.summary ? h("a", { href: `${pageOf(line)}parts.csv`, download: `${line.name}.csv` }, t("all_as_csv")) : null,
          on ? button(t("stop"), () => change(line, "stop")) : button(t("start_again"), () => change(line, "start")),
          on ? null : button(t("delete"), () => remove(line.name, "delete_line", `/api/lines/${encodeURIComponent(line.name)}`, "#/lines"), "plain")),
        line.message || line.problem ? h("p", { className: "note wide" }, line.message || line.problem) : null);
    }))];
  }

  // ---- pages ----

  const PAGES = [["", "runs"], ["banks", "banks"], ["lines", "lines"]];

  function paint(force = false) {
    const [, page = "", ...rest] = location.hash.split("/").map(decodeURIComponent);
    const views = { "": home, run: () => runView(rest[0]), new: newView, banks: banksView, lines: linesView };
    const key = JSON.stringify([location.hash, page === "new" ? state.banks : state]);
    if (key === drawn && !force) return;
    const moved = JSON.parse(drawn || "[]")[0] !== location.hash;
    drawn = key;
    if (page === "new" && moved) Object.assign(chosen, { bank: rest[0] === "bank" ? rest[1] : "", line: rest[0] === "line" ? rest[1] : "", send: "" });
    const focused = document.activeElement?.closest?.("[data-run]")?.dataset.run, typed = $("[name=path]")?.value;
    const label = document.activeElement?.textContent, writing = document.activeElement?.matches?.("[name=path]");
    main.replaceChildren(...(views[page] ?? home)().flat(3).filter(Boolean));
    $("#nav").replaceChildren(...PAGES.map(([name, text]) => h("a", { href: `#/${name}`, ...(name === page ? { "aria-current": "page" } : {}) }, t(text))));
    document.title = `${t(page === "new" ? "new" : page === "banks" || page === "lines" ? page : "runs")} – codegraph`;
    showEstimate();
    if (writing && !force) Object.assign($("[name=path]"), { value: typed }).focus();
    if (focused) [...document.querySelectorAll(`[data-run="${CSS.escape(focused)}"] button`)].find((one) => one.textContent === label)?.focus();
    if (moved) main.focus({ preventScroll: true });
  }

  async function refresh() {
    try {
      const now = await call("/api/state"), shown = location.hash === "#/lines" ? now.lines.filter((line) => line.address || !UNDER_WAY.includes(line.state)) : [];
      await Promise.all(shown.map(async (line) => { line.summary = await call(`${pageOf(line)}summary`).catch((error) => { line.problem = error.message; }); }));
      state = now;
      lost = false;
    } catch {
      lost = true;
    }
    $("#lost").hidden = !lost;
    $("#lost").textContent = lost ? t("lost") : "";
    if (state && !dialog.open) paint();
  }

  texts.onchange(() => state && paint(true));
  addEventListener("hashchange", () => state && paint());
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea") || dialog.open) return;
    if (event.key === "n") location.hash = "#/new";
    if (event.key === "/") $("[name=path]")?.focus();
  });

  for (;;) {
    if (!document.hidden || !state) await refresh();
    const busy = state?.runs.some(active) || state?.lines.some((line) => UNDER_WAY.includes(line.state) && !line.address);
    await new Promise((resolve) => setTimeout(resolve, busy ? POLL : SLOW));
  }
})();
