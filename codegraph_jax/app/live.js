"use strict";
// The report in the app: answers are kept and applied on the server, and other windows see them.
(async () => {
  const run = $("meta[name=codegraph-run]").content, api = `/api/runs/${encodeURIComponent(run)}`, report = window.report;
  const SEND_DELAY_MS = 400, POLL_MS = 3000, APPLY_DELAY_MS = 8000, MAX_PHOTOS = 1000;
  const plain = (key, onclick) => texts.mark(h("button", { type: "button", className: "plain", onclick }), key);

  // ---- the bar ----

  const status = h("output");
  const files = $$("#specialists a[href]").map((link) => link.getAttribute("href"));
  const exports = [["export_scores", "scores.csv"], ["export_regions", "regions.csv"], ["export_masks", "masks.zip"], ["export_coco", "coco.json"]];
  const behind = texts.mark(h("p", { className: "facts" }), "export_behind");
  const ontoggle = () => { behind.hidden = !unapplied && !applying; };
  const menu = h("details", { ontoggle }, texts.mark(h("summary"), "export"), h("div", {}, plain("print", printSummary), plain("export_excel", () => $("#spreadsheet").click()),
    texts.mark(h("b"), "export_others"), behind, exports.filter(([, file]) => file !== "coco.json" || files.length).map(([key, href]) =>
      texts.mark(h("a", { href, download: href }), key))));
  $("header").prepend(h("div", { className: "live" }, h("a", { href: "/#/" }, "‹ ", texts.mark(h("span"), "all_runs")), status,
    report && plain("inspect_new", saveBank), menu));
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });

  function show(key, action, label, values) {
    status.replaceChildren(key ? texts.mark(h("span"), key, values) : "", action ? plain(label, action) : "");
  }

  // ---- answers ----

  let sentAnswers = new Map(), revision = 0, sendTimer = 0, applyTimer = 0, unapplied = false;
  let applying = null, saving = null;  // promises: whether the running job has succeeded, and the end of saving a bank
  const currentAnswers = () => new Map(Object.entries(report.entries()).flatMap(([kind, values]) =>
    Object.entries(values).map(([key, value]) => [JSON.stringify([kind, key]), JSON.stringify(value ?? null)])));

  // sends what has changed since the last time
  async function send() {
    const now = currentAnswers(), changes = [];
    for (const key of new Set([...sentAnswers.keys(), ...now.keys()])) {
      const value = now.get(key) ?? "null";
      if (value !== (sentAnswers.get(key) ?? "null")) changes.push([key, value]);
    }
    if (!changes.length) return;
    try {
      await call(`${api}/answers`, { changes: changes.map(([key, value]) => {
        const [kind, name] = JSON.parse(key);
        return { kind, key: name, value: JSON.parse(value) };
      }) });
      for (const [key, value] of changes) sentAnswers.set(key, value);
      unapplied = true;
      await receive();
      planApplying();
    } catch {
      show("not_saved");
      clearTimeout(sendTimer);
      sendTimer = setTimeout(send, POLL_MS);
    }
  }

  // reads answers of other windows; those that this window has not sent yet win
  async function receive() {
    const { answers, revision: last } = await call(`${api}/answers?since=${revision}`);
    const now = currentAnswers(), fresh = answers.filter(({ kind, key, value }) => {
      const name = JSON.stringify([kind, key]), own = now.get(name) ?? "null";
      return own === (sentAnswers.get(name) ?? "null") && own !== JSON.stringify(value ?? null);
    });
    revision = last;
    if (!fresh.length) return false;
    report.merge(fresh);
    const merged = currentAnswers();
    for (const { kind, key } of fresh) sentAnswers.set(JSON.stringify([kind, key]), merged.get(JSON.stringify([kind, key])) ?? "null");
    return true;
  }

  function planApplying() {
    clearTimeout(applyTimer);
    if (applying) return show("applying");
    if (photos() <= MAX_PHOTOS) {
      applyTimer = setTimeout(apply, APPLY_DELAY_MS);
      show("pending", apply, "apply");
    } else show("saved", apply, "apply");
    return undefined;
  }

  const photos = () => Number($(".tiles dd").textContent);

  // waits until the job has ended, and calls `onstage` with its stages; throws the reason of a failure
  async function jobEnd(onstage = () => {}) {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      const { state, message, progress } = await call(api);
      if (["waiting", "running"].includes(state)) onstage(progress?.stage);
      else if (message || state !== "finished") throw new Error(message || state);
      else return;
    }
  }

  function apply() {
    applying ??= applyOnce().then((done) => {
      applying = null;
      if (done && unapplied) planApplying();
      return done;
    });
    return applying;
  }

  async function applyOnce() {
    clearTimeout(applyTimer);
    unapplied = false;
    show("applying");
    let stage = "";
    try {
      await call(`${api}/review`, { text: report.reviewText() });
      await jobEnd((now) => {
        if (now === stage || !texts.known(`stage_${now}`)) return;
        stage = now;
        show("applying_stage", null, "", { stage: { t: `stage_${stage}` } });
      });
      show("", () => location.reload(), "applied");
      return true;
    } catch (error) {
      unapplied = true;
      show("apply_failed", apply, "apply", { message: error.message });
      return false;
    }
  }

  // a bank contains the answers; those that are not applied yet are applied first
  function saveBank() {
    saving ??= saveBankOnce().finally(() => { saving = null; });
    return saving;
  }

  async function saveBankOnce() {
    clearTimeout(sendTimer);
    await send();
    while (unapplied || applying) {
      const applied = apply();
      show("bank_waits");
      if (!await applied) return;
    }
    show("bank_started");
    try {
      await call(`${api}/bank`, { name: "" });
      await jobEnd();
      location.href = "/#/banks";
    } catch (error) {
      show("bank_failed", saveBank, "inspect_new", { message: error.message });
    }
  }

  // ---- the list of flagged photos, for paper ----

  function printed(row) {
    const picture = $(".thumb .frame", row).cloneNode(true);
    for (const image of $$("img", picture)) image.loading = "eager";
    return h("li", {}, picture, ...[".name", ".recurring", ".your-answer"].map((part) => h("bdi", {}, $(part, row)?.textContent ?? "")));
  }

  async function printSummary() {
    menu.open = false;
    const folder = $(".run b")?.textContent ?? run, rows = $$("#table tbody tr"), chart = $("#histogram").cloneNode(true);
    chart.removeAttribute("id");
    const lists = [["flagged", "print_flagged"], ["check", "print_check"]].map(([verdict, key]) => [t(key), rows.filter((row) => row.matches(`.${verdict}`))]);
    const colours = $(".colours").cloneNode(true), signed = h("p", { className: "signed" }, t("print_signed"));
    const page = h("section", { id: "summary" }, h("h2", {}, t("print_title", { folder })), h("p", { className: "facts" }, $(".run time")?.textContent ?? ""),
      $(".tiles").cloneNode(true), chart, h("p", {}, $("#effect").textContent),
      h("ul", {}, $$("#recurring article").map((group) => h("li", {}, $("h4 bdi", group).textContent, ": ", $(".facts", group).firstChild.textContent))),
      lists.filter(([, list]) => list.length).map(([title, list]) => [h("h3", {}, `${title} (${list.length})`), h("ul", { className: "members" }, list.map(printed))]).flat(), colours, signed);
    page.classList.toggle("maps", true);
    $("#summary")?.remove();
    $("main").append(page);
    document.body.classList.add("summary");
    // pictures further down the table have not been decoded yet
    await Promise.all($$("#summary img").map((image) => image.decode().catch(() => null)));
    print();
  }
  addEventListener("afterprint", () => document.body.classList.remove("summary"));

  // ---- start ----

  if (!report) return;
  $("#answer-count").after(texts.mark(h("p"), photos() <= MAX_PHOTOS ? "kept" : "kept_many"));
  // the folder under the name that the inspection has in the list
  call(api).then(({ name }) => $(".run").prepend(h("b", {}, h("bdi", {}, name)))).catch(() => null);
  const next = h("p", { className: "next" }, texts.mark(h("span"), "enough"), plain("print", printSummary), plain("inspect_new", saveBank));
  $("#progress").parentElement.after(next);
  const showNext = () => { next.hidden = Object.values(report.entries().photo).filter(({ answer }) => ["good", "defective"].includes(answer)).length < report.USUAL_ANSWERS; };
  showNext();
  const atStart = currentAnswers();
  sentAnswers = new Map(atStart);
  await receive();
  report.onanswer(() => {
    showNext();
    clearTimeout(sendTimer);
    sendTimer = setTimeout(send, SEND_DELAY_MS);
  });
  addEventListener("pagehide", () => { send(); });
  setInterval(() => { if (!document.hidden) receive().catch(() => show("not_saved")); }, POLL_MS);
  // answers that were saved and not applied, such as before the window was closed
  unapplied = [...currentAnswers()].some(([key, value]) => value !== (atStart.get(key) ?? "null"));
  if (unapplied) planApplying();
})();
