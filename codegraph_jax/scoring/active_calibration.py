"""Active calibration: a person's answers to a few photos set the threshold and choose the score [ours].

Scores without labels rank the photos of a set well, but they do not show where the defective photos begin. The model:
z is the rank of a photo's score within the set, scaled to (0, 1), and

    P(defective | z) = floor + (ceiling - floor) / (1 + exp(-(z - t) / w))

`floor` is the share of photos with ordinary scores that are called defective, 1 - `ceiling` the share of those with
high scores that are called good; both allow for wrong answers. The parameters lie on a `ParameterGrid`, so the
posterior is a sum. Each score has its own posterior, and its evidence, the probability of the answers, gives the
probability that this score is the right one. The next photo to ask about has the greatest mutual information between
its answer and the score and parameters (Houlsby et al., arXiv:1112.5745): a photo near the threshold, or one on which
the scores disagree.

report/active_calibration.js computes the same in the browser: change both. tests/report/test_active_calibration.py
compares them. For reasons see docs/method.md, section 5.1; the study `answers` measures the method on labelled sets.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

Answer = Literal["defective", "good", "unsure"]
"""What a person says about a photo; after `unsure`, the photo is neither suggested again nor used."""

LEVELS = 500
"""Maximum number of levels that ranks are rounded to; it limits the size of the tables for large sets."""
WIDTHS = ((0.01, 0.03, 0.08, 0.2), (0.25, 0.25, 0.25, 0.25))
"""Values of w and their prior: from a sharp edge to scores that overlap over most of the set."""
FLOORS = ((0.02, 0.1, 0.25), (0.7, 0.2, 0.1))
"""Values of `floor` and their prior."""
CEILING = 0.98
"""Greatest P(defective | z): some answers are wrong."""
FLOOR_FACTORS = (0.4, 2.0)
"""Limits of the factor (1 - t) / t of `floor` in the estimate: where defects are rare, fewer have ordinary scores."""
GRID_POSITIONS, TAIL_POSITIONS = 101, 8
"""Number of values of t, evenly over the ranks, and of further values for sets with few defective photos."""
PRIOR_NO_DEFECT, POSITION_NO_DEFECT = 0.1, 2.0
"""Prior probability that no photo is defective, and the value of t for it."""
DEFAULT_BONUS = 4.0
"""Prior log odds (55 to 1) of the first score, so that a few unlucky answers do not change the score."""
STOP_NATS = 0.03
"""Expected information (in nats) of the best photo below which more answers would change little."""
MIN_ANSWERS = 3
"""Minimum number of answers for a threshold: one answer alone would flag half of a set."""
GAP_WINDOW, MIN_GAP_RATIO, GAP_NEIGHBOURS = 0.5, 4.0, 5
"""The threshold moves to a gap that is more than `MIN_GAP_RATIO` times as wide as each of its `GAP_NEIGHBOURS` gaps on
either side (1 in 1,000 gaps of evenly spread scores), if the probability of a defect at the gap differs from the level
that flags a photo by at most `GAP_WINDOW * (1 - level)`."""
INTERVAL = 0.9
"""Probability of the intervals of an estimate."""


@dataclass(frozen=True)
class ParameterGrid:
    """Values and log prior probabilities of t, w and floor, for ranks rounded to `levels` values."""

    levels: int
    axes: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]

    @classmethod
    @lru_cache(maxsize=32)
    def of(cls, photo_count: int, max_defective: float = 1.0) -> "ParameterGrid":
        """The grid for a set of at least one photo, of which at most the share `max_defective` may be defective."""
        tail = 1 - np.geomspace(0.5 / photo_count, 0.1, TAIL_POSITIONS)
        positions = np.unique(np.concatenate([np.linspace(0, 1, GRID_POSITIONS), tail]).clip(0, 1))
        share = np.diff(np.concatenate([[0.0], (positions[1:] + positions[:-1]) / 2, [1.0]]))
        inside = positions >= 1 - max_defective
        positions, share = positions[inside], share[inside] / share[inside].sum()
        axes = (
            ((*positions.tolist(), POSITION_NO_DEFECT), (*((1 - PRIOR_NO_DEFECT) * share).tolist(), PRIOR_NO_DEFECT)),
            WIDTHS,
            FLOORS,
        )
        logs = tuple((tuple(values), tuple(np.log(weights).tolist())) for values, weights in axes)
        return cls(min(photo_count, LEVELS), logs)

    @cached_property
    def log_prior(self) -> Float[np.ndarray, " g"]:
        """Log prior of every combination of the parameters, not normalised."""
        parts = np.meshgrid(*(np.array(logs) for _, logs in self.axes), indexing="ij")
        return np.sum(parts, axis=0).ravel()

    @cached_property
    def defect_probabilities(self) -> Float[np.ndarray, "g levels"]:
        """Probability of the answer "defective" at every level, for every combination of the parameters."""
        return self._probability(1.0)

    @cached_property
    def defect_probabilities_for_errors(self) -> Float[np.ndarray, "g levels"]:
        """P(defective) in the estimate of errors: `defect_probabilities` with another `floor`.

        `floor` stands for wrong answers too, and in a set with few defects only a few can have ordinary scores.
        """
        t = np.repeat(self.axes[0][0], len(self.log_prior) // len(self.axes[0][0]))[:, None]
        return self._probability(np.clip((1 - t) / np.maximum(t, 1e-9), *FLOOR_FACTORS))

    def _probability(self, factor: float | Float[np.ndarray, "g 1"]) -> Float[np.ndarray, "g levels"]:
        t, w, floor = (
            axis.ravel()[:, None] for axis in np.meshgrid(*(np.array(values) for values, _ in self.axes), indexing="ij")
        )
        z, low = (np.arange(self.levels) + 0.5) / self.levels, factor * floor
        return low + (CEILING - low) * scipy.special.expit((z - t) / w)

    @cached_property
    def entropy(self) -> Float[np.ndarray, "g levels"]:
        """Entropy of the answer at every level, for every combination of the parameters."""
        return _entropy(self.defect_probabilities)

    def level_of(self, ranks: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The level of ranks in (0, 1)."""
        return np.floor(ranks * self.levels).astype(int).clip(0, self.levels - 1)


@dataclass(frozen=True)
class CountEstimate:
    """An estimated number of photos: mean, interval with probability `INTERVAL`, and the total.

    The total is that of all good photos for false alarms, and of all defective ones for misses.
    """

    expected: float
    low: int
    high: int
    total: float


@dataclass(frozen=True)
class ExpectedErrors:
    """Expected errors of the threshold in this set: good parts that are flagged, and defective parts that are not."""

    false_alarms: CountEstimate
    misses: CountEstimate


class ActiveCalibrator:
    """Chooses threshold and score from a person's answers to a few photos.

        calibrator = ActiveCalibrator(scores)
        while (photo := calibrator.suggest()) is not None:
            calibrator.answer(photo, ask(photo))  # "good", "defective" or "unsure"
        calibrator.score_name, calibrator.threshold, calibrator.flagged, calibrator.estimate

    Args:
        scores: one score for each of n photos, or several scores by name, the default first. Larger is more anomalous.
        set_size: number of photos in the set, which come first; the others were added to it. None: all.
        same_part: equal numbers for photos of the same part [n]; their answers count as one, and `suggest` returns
            one of them. None: all parts differ.
        always_flagged: photos that are flagged whatever their score, such as members of a recurring defect, unless
            a person answers otherwise [n].
        threshold: threshold of the default score until enough answers are given; infinite: no photo is flagged.
        max_defective: the greatest share of the photos that may be defective.

    Raises:
        ValueError: scores are not finite, or lengths differ.
    """

    def __init__(
        self,
        scores: Float[np.ndarray, " n"] | Sequence[float] | Mapping[str, Float[np.ndarray, " n"]],
        *,
        set_size: int | None = None,
        same_part: Sequence[int] | Int[np.ndarray, " n"] | None = None,
        always_flagged: Sequence[bool] | Bool[np.ndarray, " n"] | None = None,
        threshold: float = np.inf,
        max_defective: float = 1.0,
    ):
        named: Mapping[str, Any] = scores if isinstance(scores, Mapping) else {"score": scores}
        self.scores = {name: np.asarray(values, np.float64) for name, values in named.items()}
        lengths = {values.shape for values in self.scores.values()}
        if len(lengths) != 1 or len(next(iter(lengths))) != 1 or not next(iter(lengths))[0]:
            raise ValueError("scores: give one number for each photo, and the same photos for every score")
        if not all(np.isfinite(values).all() for values in self.scores.values()):
            raise ValueError("scores: some are infinite or not numbers")
        self.photo_count = next(iter(lengths))[0]
        self.set_size = self.photo_count if set_size is None else set_size
        if not 1 <= self.set_size <= self.photo_count:
            raise ValueError(f"set_size: must be from 1 to {self.photo_count}")
        self._same_part = np.arange(self.photo_count) if same_part is None else np.asarray(same_part)
        self._always = np.zeros(self.photo_count, bool) if always_flagged is None else np.asarray(always_flagged, bool)
        if self._same_part.shape != (self.photo_count,) or self._always.shape != (self.photo_count,):
            raise ValueError(f"same_part and always_flagged: give one value for each of the {self.photo_count} photos")
        self._initial_threshold = float(threshold)
        self.max_defective = float(max_defective)
        self.grid = ParameterGrid.of(self.set_size, self.max_defective)
        self._levels = {name: self.grid.level_of(self._ranks(values)) for name, values in self.scores.items()}
        self._answers: dict[int, Answer] = {}
        self._posteriors: dict[str, _Posterior] | None = None

    @property
    def answers(self) -> dict[int, Answer]:
        """The answers so far by photo."""
        return dict(self._answers)

    def answer(self, photo: int, answer: Answer) -> None:
        """Adds an answer; it replaces an earlier answer to the same photo.

        Raises:
            IndexError: `photo` is not an index in [0, n).
            ValueError: `answer` is not one of "good", "defective" and "unsure".
        """
        if not 0 <= photo < self.photo_count:
            raise IndexError(f"photo {photo} does not exist: the set has the photos 0 to {self.photo_count - 1}")
        if answer not in get_args(Answer):
            raise ValueError(f"{answer!r} is not an answer: give one of {', '.join(get_args(Answer))}")
        self._answers[int(photo)] = answer
        self._posteriors = None

    def remove_answer(self, photo: int) -> None:
        """Removes an answer, if there is one."""
        self._answers.pop(photo, None)
        self._posteriors = None

    @property
    def answer_count(self) -> int:
        """Number of photos that were called good or defective."""
        return len(self._decisive)

    @property
    def has_enough_answers(self) -> bool:
        """Whether there are enough answers to set the threshold."""
        return self.answer_count >= MIN_ANSWERS

    def suggest(self) -> int | None:
        """Index of the photo to ask about next; None if more answers would change little or no photo is left."""
        gain = self.information()
        photo = int(gain.argmax())
        enough = self.has_enough_answers and gain[photo] < STOP_NATS
        return None if enough or gain[photo] < 0 else photo

    def information(self) -> Float[np.ndarray, " n"]:
        """Expected information of an answer to each photo, in nats; -1 for photos that should not be asked about."""
        posteriors = self._all_posteriors()
        mean, within = np.zeros(self.photo_count), np.zeros(self.photo_count)
        for name, posterior in posteriors.items():
            level = self._levels[name]
            mean += posterior.probability * (posterior.weights @ self.grid.defect_probabilities)[level]
            within += posterior.probability * (posterior.weights @ self.grid.entropy)[level]
        gain = np.maximum(_entropy(mean) - within, 0)
        asked = np.isin(self._same_part, self._same_part[list(self._answers)])
        gain[asked | self._always] = -1
        gain[self.set_size :] = -1
        return gain

    @property
    def score_probabilities(self) -> dict[str, float]:
        """Probability of each score."""
        return {name: posterior.probability for name, posterior in self._all_posteriors().items()}

    @property
    def score_name(self) -> str:
        """Name of the most probable score; the default score until there are enough answers."""
        chances = self.score_probabilities
        return max(chances, key=lambda name: chances[name]) if self.has_enough_answers else next(iter(chances))

    @property
    def defect_probabilities(self) -> Float[np.ndarray, " n"]:
        """Probability that each photo is defective, by the chosen score; 0 or 1 for answered photos."""
        probabilities = self._probabilities_by(self.score_name)
        probabilities[list(self._decisive)] = list(self._decisive.values())
        return probabilities

    @property
    def threshold(self) -> float:
        """Threshold of the chosen score.

        It lies in the middle between two scores of the set: where defective photos become more likely than good ones,
        or in a wide gap nearby. If no photo of the set is likely to be defective, it is just above the highest score of
        the set, or the threshold from before the answers if that is higher.
        """
        if not self.has_enough_answers:
            return self._initial_threshold
        chosen = self.score_name
        scores = self.scores[chosen][: self.set_size]
        order = np.argsort(scores, kind="stable")
        scores, defective = scores[order], self._probabilities_by(chosen)[: self.set_size][order]
        # if most photos are defective, a level of 0.5 would flag all of them; the margin absorbs rounding of the mean
        level = max(0.5, float(defective.mean())) + 1e-12
        if defective[-1] <= level:
            is_default = chosen == next(iter(self.scores))
            before = self._initial_threshold if is_default and np.isfinite(self._initial_threshold) else -np.inf
            return max(float(np.nextafter(scores[-1], np.inf)), before)
        if defective[0] > level:
            return float(scores[0])
        cut = int((defective > level).argmax()) - 1
        gaps, middle = np.diff(scores), (defective[1:] + defective[:-1]) / 2
        for k in range(GAP_NEIGHBOURS, len(gaps) - GAP_NEIGHBOURS):
            around = max(gaps[k - GAP_NEIGHBOURS : k].max(), gaps[k + 1 : k + 1 + GAP_NEIGHBOURS].max())
            if abs(middle[k] - level) <= GAP_WINDOW * (1 - level) and gaps[k] > MIN_GAP_RATIO * around:
                cut = k
        return float(scores[cut] + scores[cut + 1]) / 2

    @property
    def flagged(self) -> Bool[np.ndarray, " n"]:
        """Which photos are flagged: by their answer, otherwise by their score or because they always are [n]."""
        flagged = (self.scores[self.score_name] >= self.threshold) | self._always
        flagged[list(self._decisive)] = list(self._decisive.values())
        return flagged

    @property
    def estimate(self) -> ExpectedErrors:
        """Posterior number of good photos among the flagged ones, and of defective photos among the others."""
        chosen = self.score_name
        weights, level = self._all_posteriors()[chosen].weights, self._levels[chosen]
        probabilities = self.grid.defect_probabilities_for_errors
        flagged, answered = self.flagged, np.zeros(self.photo_count, bool)
        answered[list(self._decisive)] = True
        remaining = ~answered & ~self._always
        counts = [np.bincount(level[remaining & photos], minlength=self.grid.levels) for photos in (flagged, ~flagged)]
        defective = weights @ probabilities
        good = float(counts[0] @ (1 - defective) + counts[1] @ (1 - defective) + np.sum(~flagged & answered))
        bad = float((counts[0] + counts[1]) @ defective + np.sum(flagged & ~remaining))
        return ExpectedErrors(
            _estimate(weights, 1 - probabilities, counts[0], good),
            _estimate(weights, probabilities, counts[1], bad),
        )

    def as_json(self) -> dict[str, Any]:
        """The state from which report/active_calibration.js continues.

        Its grid is the unlimited one; the script applies `max_defective`.
        """
        grid = ParameterGrid.of(self.set_size)
        return {
            "scores": {name: values.tolist() for name, values in self.scores.items()},
            "set_size": self.set_size,
            "same_part": self._same_part.tolist(),
            "always_flagged": self._always.tolist(),
            "threshold": None if np.isinf(self._initial_threshold) else self._initial_threshold,
            "answers": {str(photo): answer for photo, answer in self._answers.items()},
            "grid": {"levels": grid.levels, "axes": grid.axes},
            "max_defective": self.max_defective,
            "constants": {
                "default_bonus": DEFAULT_BONUS, "stop_nats": STOP_NATS, "min_answers": MIN_ANSWERS,
                "interval": INTERVAL, "ceiling": CEILING, "floor_factors": FLOOR_FACTORS,
                "gap_window": GAP_WINDOW, "min_gap_ratio": MIN_GAP_RATIO, "gap_neighbours": GAP_NEIGHBOURS,
            },
        }  # fmt: skip

    @property
    def _decisive(self) -> dict[int, bool]:
        """Whether each photo is defective that was called good or defective, by photo."""
        return {photo: answer == "defective" for photo, answer in self._answers.items() if answer != "unsure"}

    def _ranks(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Share of the set that scores less than each photo; ties and the photo itself count half."""
        ordered = np.sort(values[: self.set_size])
        below, upto = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
        edge = 0.5 / self.set_size
        return ((below + upto) / (2 * self.set_size)).clip(edge, 1 - edge)

    def _probabilities_by(self, name: str) -> Float[np.ndarray, " n"]:
        """Probability by a score that each photo is defective, ignoring the answer to the photo itself."""
        return (self._all_posteriors()[name].weights @ self.grid.defect_probabilities)[self._levels[name]]

    def _all_posteriors(self) -> "dict[str, _Posterior]":
        if self._posteriors is None:
            parts = self._same_part[list(self._decisive)].tolist()
            logs = {}
            for name in self.scores:
                logs[name] = self.grid.log_prior.copy()
                for photo, is_defective in self._decisive.items():
                    defective = self.grid.defect_probabilities[:, self._levels[name][photo]]
                    same = parts.count(self._same_part[photo])
                    logs[name] += np.log(defective if is_defective else 1 - defective) / same
            totals = {name: scipy.special.logsumexp(log) for name, log in logs.items()}
            evidence = np.array(list(totals.values()))
            evidence[0] += DEFAULT_BONUS
            self._posteriors = {
                name: _Posterior(np.exp(log - totals[name]), float(probability))
                for (name, log), probability in zip(logs.items(), scipy.special.softmax(evidence))
            }
        return self._posteriors


@dataclass(frozen=True)
class _Posterior:
    """Posterior of one score: probabilities of its parameters [g], and of the score itself."""

    weights: Float[np.ndarray, " g"]
    probability: float


def _entropy(p: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return -(scipy.special.xlogy(p, p) + scipy.special.xlog1py(1 - p, -p))


def _estimate(
    weights: Float[np.ndarray, " g"],
    wrong: Float[np.ndarray, "g levels"],
    counts: Int[np.ndarray, " levels"],
    total: float,
) -> CountEstimate:
    """The number of wrong verdicts; for given parameters a sum of independent events, nearly normal.

    The logistic function with scale 1.702 approximates the normal distribution within 0.01; browsers have no erf.
    """
    mean = wrong @ counts
    deviation = np.sqrt((wrong * (1 - wrong)) @ counts + 1e-12)
    most = int(counts.sum())

    def below(k: int) -> float:
        return float(weights @ scipy.special.expit(1.702 * (k + 0.5 - mean) / deviation))

    low, high = (bisect_left(range(most), share, key=below) for share in ((1 - INTERVAL) / 2, (1 + INTERVAL) / 2))
    return CountEstimate(float(weights @ mean), low, high, total)
