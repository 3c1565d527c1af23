"use strict";
// The answers of a person, and where they are kept: in the app, or in the browser.
//
// page: the state of the report, see page.js.
function newAnswers(page) {
  const { images, sets, review, inApp, groups, photos: { setOf, indexOf } } = page;
  const answers = new Map();  // { answer, note } by the digest of the photo
  const NONE = { answer: null, note: "" };
  const numbersOf = new Map();
  images.forEach(({ key }, number) => numbersOf.set(key, [...(numbersOf.get(key) ?? []), number]));

  const of = (number) => answers.get(images[number].key) ?? NONE;

  // sets the answer of all identical photos; returns their sets
  function set(key, answer) {
    if (answer.answer || answer.note) answers.set(key, answer);
    else answers.delete(key);
    const identical = numbersOf.get(key) ?? [];
    for (const number of identical) {
      const { model } = setOf(number);
      if (answer.answer) model.answer(indexOf(number), answer.answer);
      else model.removeAnswer(indexOf(number));
    }
    return new Set(identical.map(setOf));
  }

  // browsers may not store anything for a page that was opened from disk
  function stored(name) {
    try {
      return (!inApp && JSON.parse(localStorage.getItem(name))) || {};
    } catch {
      return {};
    }
  }

  function store() {
    if (inApp) return page.onanswer();
    const { photo, share, group, threshold } = entries();
    try {
      localStorage.setItem(review.store.photos, JSON.stringify({ photo, share }));
      localStorage.setItem(review.store.rest, JSON.stringify({ group, threshold }));
    } catch {
      // without storage, answers are lost when the page is closed
    }
    return undefined;
  }

  const byCategory = (value) => Object.fromEntries(sets.map((one) => [one.category, value(one)]));

  // all answers: values by kind and key
  const entries = () => ({
    photo: Object.fromEntries(answers),
    group: Object.fromEntries(groups.reviewed().map(({ key, verdict, name }) => [key, { verdict, name }])),
    threshold: byCategory((one) => one.manual),
    share: byCategory((one) => one.maxDefective),
  });

  const inCategory = (category, change) => sets.filter((one) => one.category === category).forEach(change);
  const SETTERS = {
    photo: (key, value) => { if (numbersOf.has(key)) set(key, value ?? NONE); },
    group: groups.fill,
    threshold: (key, value) => inCategory(key, (one) => { one.manual = value && value.score in one.model.scores ? value : null; }),
    share: (key, value) => inCategory(key, (one) => { one.model.maxDefective = one.maxDefective = value; }),
  };

  function merge(list) {
    for (const { kind, key, value } of list) SETTERS[kind](key, value);
  }

  // the answers that the browser has kept, otherwise those that the run has applied
  function restore() {
    for (const { model } of sets) for (const photo of [...model.answers.keys()]) model.removeAnswer(photo);
    const kept = {
      photo: Object.fromEntries(review.photos.map(({ key, answer, note }) => [key, { answer, note }])),
      threshold: byCategory((one) => one.by_hand),
      share: byCategory((one) => one.calibrator.max_defective),
      ...stored(review.store.photos),
      ...stored(review.store.rest),
    };
    for (const kind of Object.keys(SETTERS)) {
      merge(Object.entries(kept[kind] ?? {}).map(([key, value]) => ({ kind, key, value })));
    }
  }

  return { of, set, all: answers, numbersOf, entries, merge, restore, store };
}
