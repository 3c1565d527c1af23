"use strict";
// The photos of the report by number, their sets, and the verdicts that follow from the answers.
//
// page: the state of the report, see page.js. Each set gets a model, and what a person and the model change.
function newPhotos({ images, sets, limits, rows, large }) {
  for (const set of sets) {
    const model = new ActiveCalibrator(set.calibrator), expected = model.flagged(set.score, set.threshold ?? Infinity);
    // marks of earlier answers decide on some photos, whatever their score
    const forcedFlags = set.flagged.map((flag, i) => (flag === expected[i] ? null : flag));
    const photos = images.slice(set.first_number, set.first_number + set.flagged.length);
    const tallest = photos.reduce((most, { width, height }) => Math.max(most, height / width), 0.1);
    Object.assign(set, { model, forcedFlags, tallest, manual: null, maxDefective: 1, undo: [], current: null });
  }

  const setOf = (number) => sets[images[number].set];
  const indexOf = (number) => number - setOf(number).first_number;  // of a photo in its set
  const verdictOf = (number) => setOf(number).verdicts[indexOf(number)];
  const scoreOf = (number) => setOf(number).model.scores[setOf(number).score][indexOf(number)];
  const marked = (set, index) => set.flags[index] && set.model.scores[set.score][index] < set.threshold;

  // how unusual a photo is: its p-value or, with enough answers, the probability that it is good
  function rarityOf(number) {
    const set = setOf(number), index = indexOf(number), answer = set.model.answers.get(index);
    if (!set.probabilities) return set.p_values[index];
    return isDecisive(answer) ? Number(answer === "good") : marked(set, index) ? 0 : 1 - set.probabilities[index];
  }

  function rarityTextOf(number) {
    const set = setOf(number), index = indexOf(number);
    return rarityText({
      p: set.p_values[index], answer: set.model.answers.get(index), marked: marked(set, index), probability: set.probabilities?.[index],
    });
  }

  // one heading for all categories, from the first one with enough answers on
  const rarityColumn = () => (sets.some((set) => set.probabilities) ? "probability_column" : "rarity_column");

  // the verdicts of a set: those of the run until there is an answer
  function updateVerdicts(set) {
    const { model, manual } = set;
    set.score = manual?.score ?? model.scoreName;
    set.threshold = manual?.threshold ?? model.threshold;
    const flagged = manual || model.decisive.length ? model.flagged(set.score, set.threshold) : set.flagged;
    set.flags = flagged.map((flag, i) => (isDecisive(model.answers.get(i)) ? flag : set.forcedFlags[i] ?? flag));
    set.probabilities = model.hasEnoughAnswers ? model.defectProbabilities(set.score) : null;
    set.verdicts = ActiveCalibrator.verdicts({
      flagged: set.flags, scores: model.scores[set.score], p_values: set.p_values,
      always_passed: set.flags.map((flag, i) => model.answers.get(i) === "good" || (!flag && set.tolerated[i])),
      defect_probabilities: set.probabilities, enough_photos: set.enough_photos,
    }, limits);
  }

  // ---- embedded images, which are those of the table ----

  const thumbnailOf = (number) => $(".photo", rows.get(number));

  function imagesOf(number) {
    const { width, height, name, heatmap } = images[number];
    return { width, height, name, photo: thumbnailOf(number).src, heat: $(".heat", rows.get(number)).src, file: large ? null : heatmap };
  }

  return { setOf, indexOf, verdictOf, scoreOf, rarityOf, rarityTextOf, rarityColumn, updateVerdicts, thumbnailOf, imagesOf };
}
