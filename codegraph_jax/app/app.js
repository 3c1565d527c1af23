"use strict";
(async () => {
  const main = $("#main"), dialog = $("#dialog");
  const STAGES = ["start", "network", "distances", "scoring", "report"], INSPECTION = ["start", "inspection", "report"];
  const POLL_MS = 1000, SLOW_POLL_MS = 4000;
  const UNDER_WAY = ["waiting", "running"];
  let state = null, painted = "", lost = false;

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
        t(`stage_${one}`), one === stage && now.total && !over ? ` ${percentText(Math.floor(100 * share) / 100)}` : ""))),
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

  let compared = null;  // the run that another one is to be compared with

  async function compare(run) {
    const pair = [compared?.run, run.run];
    compared = compared ? null : run;
    paint(true);
    if (compared) return toast(t("compare_with", { name: run.name }));
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
        !active(run) && run.state !== "finished" && run.job ? button(t("resume"), () => changeRun(run, "/resume"), "button") : null,
        finished && run.task !== "inspect" ? button(t("save_bank"), () => saveBank(run)) : null,
        finished && state.runs.filter((one) => one.report).length > 1 ? button(compared ? t("compare_this") : t("compare_run"), () => compare(run), "plain") : null,
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

  function home() {
    if (!state.runs.length) {
      return [h("section", { className: "welcome" }, h("h2", {}, t("welcome")), h("p", {}, t("welcome_about")),
        h("ol", { className: "steps" }, ["welcome_1", "welcome_2", "welcome_3"].map((key) => h("li", {}, t(key)))),
        h("p", { className: "row" }, h("a", { className: "button", href: "#/new" }, t("choose_folder")), button(t("demo"), demo)), dropZone())];
    }
    return [h("div", { className: "row apart" }, h("h2", {}, t("runs")), h("a", { className: "button", href: "#/new" }, t("new"))),
      h("ul", { className: "runs" }, state.runs.map(card)), recurringSection(state.runs, reportOf), h("p", { className: "facts" }, t("results_in", { results: state.results }))];
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

  let watched = "";  // the run whose report is shown as soon as it is finished

  function runView(name) {
    const run = state.runs.find((one) => one.run === name);
    if (!run) return [h("p", { className: "note" }, t("no_run"))];
    if (run.report && run.state === "finished" && watched === name) {
      watched = "";
      location.replace(reportOf(run));
    }
    if (active(run)) watched = name;
    return [h("p", {}, h("a", { href: "#/" }, `‹ ${t("runs")}`)), h("ul", { className: "runs" }, card(run)),
      active(run) ? h("p", { className: "facts" }, t("may_close")) : null];
  }

  // ---- uploads ----

  const dropZone = () => h("div", { className: "drop" }, h("span", {}, t("drop")),
    h("label", { className: "button quiet" }, t("choose_files"), h("input", { type: "file", multiple: true, accept: "image/*,.tif,.tiff,.bmp", onchange: (event) => addFiles([...event.target.files]) })));

  async function addFiles(files, name = "photos") {
    if (!files.length) return;
    const sent = await attempt(() => upload(files, name, (done) => toast(t("uploading", { done, of: files.length }))));
    if (!sent) return;
    toast(sent.refused ? t("upload_refused", { count: sent.refused, of: files.length }) : t("uploaded", { count: files.length }));
    location.hash = "#/new";
    await inspection.open({ place: sent.place });
  }

  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const { files, name } = await dropped(event);
    await addFiles(files, name);
  });

  const inspection = newInspection({ getState: () => state, attempt, repaint: () => paint(true), follow, dropZone });

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

  // alarms are numbered from 1, so the last number is their count
  function partCounts({ inspected, flagged, last_alarm: alarms, undelivered }) {
    const late = undelivered.reduce((sum, one) => sum + (one.error ? one.waiting + one.set_aside : 0), 0);
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
    const views = { "": home, run: () => runView(rest[0]), new: inspection.view, banks: banksView, lines: linesView };
    const key = JSON.stringify([location.hash, page === "new" ? state.banks : state]);
    if (key === painted && !force) return;
    const moved = JSON.parse(painted || "[]")[0] !== location.hash;
    painted = key;
    if (page === "new" && moved) inspection.choose({ bank: rest[0] === "bank" ? rest[1] : "", line: rest[0] === "line" ? rest[1] : "" });
    const focused = document.activeElement?.closest?.("[data-run]")?.dataset.run, typed = $("[name=path]")?.value;
    const label = document.activeElement?.textContent, writing = document.activeElement?.matches?.("[name=path]");
    main.replaceChildren(...(views[page] ?? home)().flat(3).filter(Boolean));
    $("#nav").replaceChildren(...PAGES.map(([name, text]) => h("a", { href: `#/${name}`, ...(name === page ? { "aria-current": "page" } : {}) }, t(text))));
    document.title = `${t(page === "new" ? "new" : page === "banks" || page === "lines" ? page : "runs")} – codegraph`;
    inspection.showEstimate();
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
    await new Promise((resolve) => setTimeout(resolve, busy ? POLL_MS : SLOW_POLL_MS));
  }
})();
