"use strict";
// Shared by all pages: elements, and texts in the language of the reader.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// a new element; properties that begin with "on" are listeners
function h(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Texts have keys; `{name}` in a text stands for a value: a number, a string, a list, or another text as { t: KEY, ...values }.
const texts = (() => {
  const known = { en: {}, de: {} }, listeners = [], formats = {};
  let language = "en", locale = "en", patterns = null;

  // browsers may not store anything for a page that was opened from disk
  function stored() {
    try {
      return localStorage.getItem("language");
    } catch {
      return null;
    }
  }

  function t(key, values = {}) {
    const of = (one) => known[language][one] ?? known.en[one];
    const text = (values.count === 1 && of(`${key}_one`)) || (of(key) ?? key);
    return text.replace(/\{(\w+)\}/g, (_, name) => textOf(values[name] ?? ""));
  }

  function textOf(value) {
    if (Array.isArray(value)) return new Intl.ListFormat(locale).format(value.map(textOf));
    if (typeof value === "number") return number(value);
    return typeof value === "object" && value ? t(value.t, value) : String(value ?? "");
  }

  // a number, or a text such as "+0.50", with as many decimals
  function number(value, decimals) {
    const digits = decimals ?? (typeof value === "string" ? (value.split(".")[1] ?? "").length : undefined);
    const signDisplay = typeof value === "string" && value.startsWith("+") ? "always" : "auto", key = [locale, digits, signDisplay].join();
    // a format is slow to make
    formats[key] ??= new Intl.NumberFormat(locale, { signDisplay, minimumFractionDigits: digits, maximumFractionDigits: digits });
    return formats[key].format(value);
  }

  const date = (value) => new Date(value).toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });

  // a probability as a count: "1 in 5,700"
  function chance(p) {
    if (p > 0.5) return t("most");
    return p * 1e6 < 1 ? t("fewer_than", { number: 1e6 }) : t("one_in", { number: Number(Math.round(1 / p).toPrecision(2)) });
  }

  // a sentence that the server of a line has written in English (`operator_sentence`), in the language of the page if its text is known
  function translated(sentence) {
    if (language === "en") return sentence;
    patterns ??= Object.entries(known.en).filter(([key]) => key.startsWith("sentence_")).map(([key, text]) => [
      key, new RegExp(`^${text.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{(\w+)\}/g, "(?<$1>.+?)")}$`)]);
    for (const [key, pattern] of patterns) {
      const found = pattern.exec(sentence);
      if (found) return t(key, Object.fromEntries(Object.entries(found.groups ?? {}).map(([name, value]) => [name, translated(value)])));
    }
    return sentence;
  }

  // writes the text of an element, and again after a change of the language
  function mark(element, key, values = {}) {
    Object.assign(element.dataset, { t: key, values: JSON.stringify(values) });
    element.textContent = t(key, values);
    return element;
  }

  function attribute(element, name, key, values = {}) {
    element.dataset.attributes = JSON.stringify({ [name]: { t: key, ...values } });
    element.setAttribute(name, t(key, values));
    return element;
  }

  function apply() {
    document.documentElement.lang = language;
    for (const one of $$("[data-t]")) one.textContent = t(one.dataset.t, JSON.parse(one.dataset.values ?? "{}"));
    for (const one of $$("[data-attributes]")) {
      for (const [name, value] of Object.entries(JSON.parse(one.dataset.attributes))) one.setAttribute(name, textOf(value));
    }
    for (const one of $$("[data-decimal]")) one.textContent = number(one.dataset.decimal);
    for (const one of $$("time[datetime]")) one.textContent = date(one.dateTime);
  }

  function choose(wanted) {
    language = wanted?.slice(0, 2) in known ? wanted.slice(0, 2) : "en";
    locale = navigator.languages.find((one) => one.startsWith(language)) ?? language;  // such as de-CH
    for (const select of $$("#language")) Object.assign(select, { value: language, hidden: false });
    apply();
    for (const listener of listeners) listener();
  }

  document.addEventListener("change", (event) => {
    if (event.target.id !== "language") return;
    try {
      localStorage.setItem("language", event.target.value);
      history.replaceState(null, "", location.pathname + location.hash);  // without ?language
    } catch {
      // the choice holds until the page is closed
    }
    choose(event.target.value);
  });

  function add(more) {
    for (const [one, entries] of Object.entries(more)) Object.assign(known[one], entries);
    choose(new URLSearchParams(location.search).get("language") ?? stored() ?? navigator.language);
  }

  return {
    add, t, textOf, number, date, chance, translated, mark, attribute,
    known: (key) => known[language][key],
    english: (key) => known.en[key],
    onchange: (listener) => listeners.push(listener),
    get language() { return language; },
    get locale() { return locale; },
  };
})();
const { t } = texts;
