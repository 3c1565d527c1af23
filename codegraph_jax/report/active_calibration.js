"use strict";
// The model of scoring/active_calibration.py, which explains it: answers set the threshold and choose the score. All
// constants are in the JSON of `ActiveCalibrator.as_json`. Change both: tests/report/test_active_calibration.py compares them.
class ActiveCalibrator {
  constructor({ scores, set_size, same_part, always_flagged, threshold, answers, grid, max_defective, constants }) {
    Object.assign(this, { scores, grid, constants, setSize: set_size, samePart: same_part, alwaysFlagged: always_flagged });
    this.names = Object.keys(scores);
    this.photoCount = same_part.length;
    this.initialThreshold = threshold ?? Infinity;
    this.answers = new Map(Object.entries(answers).map(([photo, answer]) => [Number(photo), answer]));
    this.levels = Object.fromEntries(this.names.map((name) => [name, this.levelsOf(scores[name])]));
    this.maxDefective = max_defective;
  }

  // ---- the grid ----

  set maxDefective(share) {
    const [t, w, floor] = this.grid.axes.map(([values, logs]) => ({ values, logs }));
    // the last value of t stands for a set without defective photos
    const prior = t.logs.slice(0, -1).map(Math.exp), inside = t.values.map((middle) => middle >= 1 - share);
    const scale = Math.log(sum(prior) / sum(prior.filter((_, i) => inside[i]))), last = prior.length;
    const first = t.logs.map((log, i) => (i === last ? log : inside[i] ? log + scale : -Infinity));
    this.logPrior = Float64Array.from(first.flatMap((a) => w.logs.flatMap((b) => floor.logs.map((c) => a + b + c))));
    this.changed();
  }

  // P(defective | level) = low + rise * curve, with a curve [levels] for each t and w, and `low` and `rise` for each floor.
  // In the estimate `low` is multiplied by the floor factor of the curve. Entropies of an answer: [combinations of all
  // parameters, levels]. All scores share these tables.
  get tables() {
    const { levels: count, axes } = this.grid, [t, w, floor] = axes.map(([values]) => values);
    const floors = floor.map((low) => ({ low, rise: this.constants.ceiling - low }));
    const curves = t.flatMap((middle) => w.map((width) =>
      Float64Array.from({ length: count }, (_, k) => expit(((k + 0.5) / count - middle) / width))));
    const entropies = curves.flatMap((curve) => floors.map(({ low, rise }) => curve.map((value) => entropy(low + rise * value))));
    const [fewest, most] = this.constants.floor_factors;
    const floorFactors = t.flatMap((middle) => w.map(() => Math.min(Math.max((1 - middle) / Math.max(middle, 1e-9), fewest), most)));
    Object.defineProperty(this, "tables", { value: { curves, floors, floorFactors, entropies } });
    return this.tables;
  }

  levelsOf(values) {
    const ordered = Float64Array.from(values.slice(0, this.setSize)).sort(), edge = 0.5 / this.setSize;
    return Int32Array.from(values, (value) => {
      const share = (bisect(ordered, (other) => other >= value) + bisect(ordered, (other) => other > value)) / (2 * this.setSize);
      const rank = Math.min(Math.max(share, edge), 1 - edge);
      return Math.min(Math.floor(rank * this.grid.levels), this.grid.levels - 1);
    });
  }

  // ---- answers ----

  answer(photo, answer) {
    this.answers.set(photo, answer);
    this.changed();
  }

  removeAnswer(photo) {
    this.answers.delete(photo);
    this.changed();
  }

  changed() {
    this.cache = null;
  }

  // [photo, whether it is defective] of each photo that was called good or defective
  get decisive() {
    return [...this.answers].filter(([, answer]) => answer !== "unsure").map(([photo, answer]) => [photo, answer === "defective"]);
  }

  // whether there are enough answers to set the threshold
  get hasEnoughAnswers() {
    return this.decisive.length >= this.constants.min_answers;
  }

  // for each score: probabilities of its parameters, of the score itself, and of a defect at each level
  get posteriors() {
    if (this.cache) return this.cache;
    const { curves, floors } = this.tables, answers = this.decisive;
    const logs = this.names.map((name) => {
      const log = this.logPrior.slice();
      for (const [photo, defective] of answers) {
        const same = answers.filter(([other]) => this.samePart[other] === this.samePart[photo]).length;
        const level = this.levels[name][photo];
        let g = 0;
        for (const curve of curves) for (const { low, rise } of floors) {
          const p = low + rise * curve[level];
          log[g++] += Math.log(defective ? p : 1 - p) / same;
        }
      }
      return log;
    });
    const totals = logs.map(logSum), evidence = totals.map((total, i) => total + (i ? 0 : this.constants.default_bonus));
    const all = logSum(evidence);
    this.cache = Object.fromEntries(this.names.map((name, i) => {
      const weights = logs[i].map((log) => Math.exp(log - totals[i]));
      return [name, { weights, probability: Math.exp(evidence[i] - all), byLevel: this.probabilitiesByLevel(weights) }];
    }));
    return this.cache;
  }

  // P(defective) at each level; `factors` of `low` for each curve
  probabilitiesByLevel(weights, factors = null) {
    const { curves, floors } = this.tables;
    const part = (of) => curves.map((_, row) =>
      sum(floors.map((one, i) => of(scaled(one, factors?.[row] ?? 1)) * weights[row * floors.length + i])));
    const low = sum(part((one) => one.low));
    return weighted(part((one) => one.rise), curves).map((value) => low + value);
  }

  // ---- the next photo ----

  information() {
    const mean = new Float64Array(this.photoCount), within = new Float64Array(this.photoCount);
    for (const [name, { weights, probability, byLevel }] of Object.entries(this.posteriors)) {
      const level = this.levels[name], uncertain = weighted(weights, this.tables.entropies);
      for (let i = 0; i < this.photoCount; i++) {
        mean[i] += probability * byLevel[level[i]];
        within[i] += probability * uncertain[level[i]];
      }
    }
    const asked = new Set([...this.answers.keys()].map((photo) => this.samePart[photo]));
    return mean.map((p, i) =>
      asked.has(this.samePart[i]) || this.alwaysFlagged[i] || i >= this.setSize ? -1 : Math.max(entropy(p) - within[i], 0));
  }

  // the most informative photo (null: all are answered), and whether more answers would change little
  suggest() {
    const gain = this.information();
    let photo = 0;
    for (let i = 1; i < gain.length; i++) if (gain[i] > gain[photo]) photo = i;
    const enough = this.hasEnoughAnswers && gain[photo] < this.constants.stop_nats;
    return { photo: gain[photo] < 0 ? null : photo, enough };
  }

  // ---- results ----

  get scoreProbabilities() {
    return Object.fromEntries(Object.entries(this.posteriors).map(([name, { probability }]) => [name, probability]));
  }

  get scoreName() {
    const probabilities = this.scoreProbabilities;
    if (!this.hasEnoughAnswers) return this.names[0];
    return this.names.reduce((best, name) => (probabilities[name] > probabilities[best] ? name : best));
  }

  defectProbabilities(name = this.scoreName) {
    const { byLevel } = this.posteriors[name], found = Float64Array.from(this.levels[name], (level) => byLevel[level]);
    for (const [photo, defective] of this.decisive) found[photo] = Number(defective);
    return found;
  }

  get threshold() {
    if (!this.hasEnoughAnswers) return this.initialThreshold;
    const { scoreName, setSize: count } = this, { gap_window, min_gap_ratio, gap_neighbours } = this.constants, found = this.scores[scoreName];
    const order = [...Array(count).keys()].sort((a, b) => found[a] - found[b]);
    const { byLevel } = this.posteriors[scoreName];
    const scores = order.map((i) => found[i]), defective = order.map((i) => byLevel[this.levels[scoreName][i]]);
    const level = Math.max(0.5, sum(defective) / count) + 1e-12;
    if (defective[count - 1] <= level) {
      const before = this.initialThreshold < Infinity && scoreName === this.names[0] ? this.initialThreshold : -Infinity;
      return Math.max(nextAfter(scores[count - 1]), before);
    }
    let cut = defective.findIndex((p) => p > level) - 1;
    if (cut < 0) return scores[0];
    const gaps = scores.slice(1).map((score, k) => score - scores[k]);
    const widest = (from, to) => gaps.slice(from, to).reduce((a, b) => Math.max(a, b));
    for (let k = gap_neighbours; k < gaps.length - gap_neighbours; k++) {
      const near = Math.abs((defective[k] + defective[k + 1]) / 2 - level) <= gap_window * (1 - level);
      if (near && gaps[k] > min_gap_ratio * Math.max(widest(k - gap_neighbours, k), widest(k + 1, k + 1 + gap_neighbours))) cut = k;
    }
    return (scores[cut] + scores[cut + 1]) / 2;
  }

  flagged(name = this.scoreName, threshold = this.threshold) {
    const found = this.scores[name].map((score, i) => score >= threshold || this.alwaysFlagged[i]);
    for (const [photo, defective] of this.decisive) found[photo] = defective;
    return found;
  }

  estimate(flagged = this.flagged(), name = this.scoreName) {
    const { weights } = this.posteriors[name], level = this.levels[name], byLevel = this.probabilitiesByLevel(weights, this.tables.floorFactors);
    const answered = new Set(this.decisive.map(([photo]) => photo));
    const counts = [true, false].map(() => new Float64Array(this.grid.levels));
    let good = 0, bad = 0;
    for (let i = 0; i < this.photoCount; i++) {
      if (answered.has(i) || this.alwaysFlagged[i]) {
        if (flagged[i]) bad += 1;
        else if (answered.has(i)) good += 1;
      } else {
        counts[flagged[i] ? 0 : 1][level[i]] += 1;
        good += 1 - byLevel[level[i]];
        bad += byLevel[level[i]];
      }
    }
    return {
      falseAlarms: this.count(weights, counts[0], false, good),
      misses: this.count(weights, counts[1], true, bad),
    };
  }

  // the number of defective (or good) photos among photos at these levels, with an interval
  count(weights, counts, defective, total) {
    const { curves, floors, floorFactors } = this.tables, most = sum(counts);
    const mean = [], deviation = [];
    for (const [row, curve] of curves.entries()) {
      const [first, second] = moments(counts, curve);
      for (const one of floors) {
        const { low, rise } = scaled(one, floorFactors[row]);
        const expected = low * most + rise * first, squares = low * low * most + 2 * low * rise * first + rise * rise * second;
        mean.push(defective ? expected : most - expected);
        deviation.push(Math.sqrt(Math.max(expected - squares, 0) + 1e-12));
      }
    }
    const below = (k) => sum(weights.map((weight, g) => weight * expit(1.702 * (k + 0.5 - mean[g]) / deviation[g])));
    const first = (share) => {
      let low = 0, high = most;
      while (low < high) {
        const middle = Math.floor((low + high) / 2);
        if (below(middle) >= share) high = middle;
        else low = middle + 1;
      }
      return low;
    };
    const { interval } = this.constants;
    return {
      expected: sum(weights.map((weight, g) => weight * mean[g])),
      low: first((1 - interval) / 2), high: first((1 + interval) / 2), total,
    };
  }

  // verdicts as in scoring/photo_verdicts.py: "flagged", "check", "passed" or "unknown" for each photo
  static verdicts(photos, { p_value, probability, fewest }) {
    const { flagged, scores, p_values, always_passed, defect_probabilities, enough_photos } = photos;
    const open = flagged.map((flag, i) => !flag && !always_passed[i]);
    const highest = [...open.keys()].filter((i) => open[i]).sort((a, b) => scores[b] - scores[a] || a - b);
    const toCheck = new Set(highest.slice(0, fewest));
    return flagged.map((flag, i) => {
      if (flag) return "flagged";
      if (!open[i]) return "passed";
      if (!enough_photos) return "unknown";
      const suspicious = defect_probabilities ? defect_probabilities[i] >= probability : p_values[i] < p_value;
      return suspicious || toCheck.has(i) ? "check" : "passed";
    });
  }
}

function scaled({ low, rise }, factor) {
  return { low: factor * low, rise: low + rise - factor * low };
}

function expit(x) {
  return 1 / (1 + Math.exp(-x));
}

function entropy(p) {
  return -((p > 0 ? p * Math.log(p) : 0) + (p < 1 ? (1 - p) * Math.log1p(-p) : 0));
}

function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function moments(counts, values) {
  let first = 0, second = 0;
  for (let k = 0; k < counts.length; k++) {
    const part = counts[k] * values[k];
    first += part;
    second += part * values[k];
  }
  return [first, second];
}

// weighted sum of arrays
function weighted(weights, arrays) {
  const total = new Float64Array(arrays[0].length);
  for (let g = 0; g < arrays.length; g++) if (weights[g] > 1e-13) add(total, weights[g], arrays[g]);
  return total;
}

function add(total, weight, values) {
  for (let k = 0; k < total.length; k++) total[k] += weight * values[k];
}

function logSum(logs) {
  const most = logs.reduce((a, b) => Math.max(a, b));
  return most + Math.log(sum(logs.map((log) => Math.exp(log - most))));
}

// first index of an ordered array at which a condition holds
function bisect(ordered, holds) {
  let low = 0, high = ordered.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(ordered[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

// the next larger floating-point number
function nextAfter(x) {
  if (x === 0) return Number.MIN_VALUE;
  const bits = new BigInt64Array(Float64Array.of(x).buffer);
  bits[0] += x > 0 ? 1n : -1n;
  return new Float64Array(bits.buffer)[0];
}
