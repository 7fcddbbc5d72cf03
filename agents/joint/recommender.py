"""Joint recommender: collaborative filtering and content trained together.

    L = λ1 · L_C + λ2 · L_T

L_C asks what users choose of what they were shown, L_T whether it satisfied them and how they rated
it. Both read one relevance f of what the texts of the past say (`memory.py`) and of what users and
items have beside them, factors with their uncertainty (`factors.py`, `posterior.py`). Slates
maximise Σ_k P(choose k) · E[z · f | k] under the model's own probabilities (`response.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents.added_blocks import QUESTION, AddedBlocks
from agents.attribution import Attribution
from agents.instructions import with_typed_phrases
from agents.joint.attribution import attribute_relevance
from agents.joint.calibration import calibrated
from agents.joint.factors import FactorModel, Learnt, Prior, mean_of_items, text_basis
from agents.joint.memory import Memory, Texts, empty_memory, text_scores, write_interests
from agents.joint.past import Past, Place, columns_of
from agents.joint.posterior import Appraisal, Posterior, appraise, learn_steps
from agents.joint.response import PARAMETERS, Response, Taste
from agents.joint.settings import Settings
from agents.rankers.ranker import UNAVAILABLE, Floats, Ranker
from agents.slates import SLATES
from llmrec_env.config import EnvConfig
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.history import slot_feedback
from llmrec_env.interface.instructions import BLOCKS
from llmrec_env.world import PublicData

_HELD_OUT = 10  # one of so many training users calibrates P(z = 1), and nothing else
Doubles = npt.NDArray[np.float64]
_WEIGHTS_OF = {
    "candidate_freshness": ("fresh_choice",),
    "candidate_familiarity": ("familiar_choice", "familiar_satisfaction"),
    QUESTION: ("question_choice", "question_satisfaction"),
}
"""Parameters that weigh the blocks of mechanisms, in the choice and in satisfaction."""


class Beliefs(NamedTuple):
    """What is known of n users."""

    memory: Memory
    posterior: Posterior


class Joint(Ranker):
    """Shows the slate of highest expected reward, by what the joint model believes of the user."""

    name = "joint"
    knows_items = True
    parameters: npt.NDArray[np.void]  # (1,), of response.PARAMETERS
    response: Response  # that learnt them; a loaded agent has none
    learnt: Learnt
    calibration: Doubles  # slope and offset of the log-odds
    texts: Texts
    config: EnvConfig

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        """Takes the seed of training and fields of Settings."""
        super().__init__(seed)
        self.settings = Settings(**settings)
        self._followed: tuple[Place, Beliefs] | None = None

    # --- learning

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns from the logs of the training users; plays no step.

        Raises:
            ValueError: the logs hold no click, or clicks of one kind alone.
        """
        super().fit(env, num_steps)
        self.learn(self.data, env.config)

    def learn(self, data: PublicData, config: EnvConfig) -> None:
        """Learns from logs: the response by the texts, then the factors by the response.

        Args:
            data: texts, their encodings, and logs.
            config: of the environment whose observations will be acted on.

        Raises:
            ValueError: the logs hold no click, or clicks of one kind alone.
        """
        self.data, self.slate_size, self.config = data, config.slate_size, config
        self._take_texts(data.items.vectors)
        past = Past.of(data, self.texts, config)
        held_out = past.users % _HELD_OUT == 0
        learnt = past if held_out.all() or not held_out.any() else past.take(~held_out)
        options = self.settings
        self.response = response = Response(
            options.click,
            options.text,
            options.skipped,
            config.ages(),
            config.attaches(),
            config.resolves(),
        )
        sample = np.random.default_rng([self.seed, 43]).permutation(len(learnt.users))
        some = np.sort(sample[: options.steps])
        response.fit(learnt.take(some).steps(), options.iterations)
        self.learnt = self._learn_factors(learnt, response)
        self.parameters = response.exported()
        self._calibrate()

    def _learn_factors(self, past: Past, response: Response) -> Learnt:
        options, vectors = self.settings, self.texts.read
        reads = options.text and options.text_map
        basis = text_basis(vectors, self.seed) if reads else np.zeros((len(vectors), 1))
        rank = options.rank if options.click else 0
        prior = Prior(options.deviation, options.text_map if options.text else 0.0)
        q = response.exported()
        model = FactorModel(past.clicks(response), q[0], basis, rank, prior)
        return model.learn(options.sweeps)

    def _take_texts(self, read: Floats) -> None:
        """Takes how the agent reads the items, (N, d)."""
        items = self.data.items
        rows = np.concatenate([items.vectors, self.data.phrase_vectors]).astype(np.float32)
        self.texts = Texts(rows, read, items.substance, items.popularity)

    def _calibrate(self) -> None:
        """Fits P(z = 1) to what held-out users did, by what was known before each step."""
        users = np.arange(0, len(self.data.logs.items), _HELD_OUT)
        steps = tuple(column[users] for column in columns_of(self.data))
        expected = np.zeros(steps[1].shape)
        self.after(steps, expected)
        clicked = (steps[1] >= 0) & (steps[0][:, :, 0] >= 0)
        satisfied = steps[2][clicked] == 1
        self.calibration = np.array([1.0, 0.0])
        if self.settings.text and satisfied.any() and not satisfied.all():
            self.calibration = calibrated(expected[clicked], satisfied.astype(np.float64))

    # --- beliefs

    def _new_beliefs(self, n: int) -> Beliefs:
        mean, precision = self.learnt.mean, self.learnt.precision
        posterior = Posterior(np.tile(mean, (n, 1)), np.tile(precision, (n, 1, 1)))
        return Beliefs(empty_memory(n, self.texts.rows.shape[1]), posterior)

    def _learn_steps(
        self,
        beliefs: Beliefs,
        steps: Any,
        first: Any,
        blocks: Floats,
        expected: Doubles | None = None,
    ) -> None:
        """Moves beliefs by steps number `first` to 0, newest first; `blocks` (n, s, K, B)."""
        first = np.broadcast_to(np.asarray(first, np.int64), len(steps[1])).copy()
        count = int(first.max(initial=-1)) + 1  # what is older is not read
        steps = tuple(np.ascontiguousarray(column[:, :count]) for column in steps)
        room = np.zeros(steps[1].shape) if expected is None else expected
        learn_steps(
            self.parameters,
            beliefs.memory,
            beliefs.posterior,
            self.texts,
            self.learnt.taste,
            steps,
            self._added(blocks),
            first,
            room,
        )

    @property
    def _blocks(self) -> AddedBlocks:
        return AddedBlocks(self.config, self.data)

    def _added(self, blocks: Floats) -> Doubles:
        """What blocks, (..., B), add to utility and log-odds, (..., 2), or nothing, (..., 0)."""
        q, width = self.parameters[0], 2 if blocks.shape[-1] else 0
        added = np.zeros((*blocks.shape[:-1], width))
        for index, name in enumerate(self._blocks.names):
            for part, parameter in enumerate(_WEIGHTS_OF[name]):
                added[..., part] += q[parameter] * blocks[..., index]
        return added

    def after(self, steps: Any, expected: Doubles | None = None) -> Beliefs:
        """Returns what is known of users after logged steps.

        Args:
            steps: see `past.columns_of`.
            expected: receives the log-odds of satisfaction with what was chosen, (n, W).
        """
        newest_first = tuple(np.ascontiguousarray(column[:, ::-1]) for column in steps)
        beliefs, room = self._new_beliefs(len(steps[1])), np.zeros(steps[1].shape)
        feedback = slot_feedback(*steps[:3])
        blocks = self._blocks.of_logs(steps[0], feedback, steps[3])[:, ::-1]
        self._learn_steps(beliefs, newest_first, steps[1].shape[1] - 1, blocks, room)
        if expected is not None:
            expected[:] = room[:, ::-1]
        return beliefs

    def follow(self, observation: Any) -> Beliefs:
        """Returns what is known of the users of n observations.

        Of users who were observed one step before, it learns from that step; of others, from all
        that the observation holds; seen again, an observation changes nothing.
        """
        heard = with_typed_phrases(observation, self.settings.instruction)
        names = ("slates", "items", "satisfied", "queries")
        steps = tuple(heard[f"recent_{name}"] for name in names)
        place, whole = Place.of(observation), steps[1].shape[1]
        if self._followed is None or len(self._followed[0].user) != len(place.user):
            beliefs, since = self._new_beliefs(len(place.user)), np.full(len(place.user), whole)
        else:
            before, beliefs = self._followed
            since = place.steps_since(before, whole)
            self._forget(beliefs, since == whole)
        blocks = self._blocks.of_recent(observation, int(since.max(initial=0)))
        self._learn_steps(beliefs, steps, since - 1, blocks)
        self._followed = place, beliefs
        return beliefs

    def _forget(self, beliefs: Beliefs, who: npt.NDArray[np.bool_]) -> None:
        if who.any():
            fresh = self._new_beliefs(int(who.sum()))
            for part, values in zip(beliefs, fresh, strict=True):
                for column, value in zip(part, values, strict=True):
                    column[who] = value

    def forget(self) -> None:
        """Forgets which sessions it follows."""
        self._followed = None

    def appraised(
        self,
        beliefs: Beliefs,
        candidates: npt.NDArray[np.int32],
        hints: Doubles | None = None,
        added: Doubles | None = None,
    ) -> Appraisal:
        """Returns what is believed of candidates, (n, c).

        Args:
            beliefs: about the n users.
            candidates: item ids, (n, c).
            hints: added to relevance, (n, c).
            added: to the utility and the log-odds of satisfaction, (n, c, 2).
        """
        options = self.settings
        appraisal = Appraisal(*(np.empty(candidates.shape) for _ in Appraisal._fields))
        appraise(
            self.parameters,
            beliefs.memory,
            beliefs.posterior,
            self.texts,
            self.learnt.taste,
            candidates,
            np.empty((len(candidates), 0)) if hints is None else hints,
            np.empty((*candidates.shape, 0)) if added is None else added,
            np.array([options.substance, options.patience, options.curiosity]),
            appraisal,
        )
        return appraisal

    def hints(self, observation: Any) -> Doubles | None:
        """Returns what is added to the relevance of each candidate, (n, c); None: nothing."""
        return None

    def _appraised(self, observation: Any) -> Appraisal:
        return self.appraise_offered(observation, self.hints(observation))

    def appraise_offered(self, observation: Any, hints: Doubles | None = None) -> Appraisal:
        """Returns what is believed of the candidates that observations offer.

        What is fresh is chosen more, and so is what familiar creators made, which also satisfies.
        """
        beliefs, candidates = self.follow(observation), observation["candidates"]
        added = self._added(self._blocks.of_candidates(observation))
        return self.appraised(beliefs, candidates, hints, added)

    def attribute(self, observation: Any, slots: npt.NDArray[np.integer]) -> Attribution:
        """Returns what moved the relevance of candidates, before it bends at 0.

        Of a user who is met with this observation: its 32 newest steps are all that is known.
        """
        self._followed = None
        memory, posterior = self.follow(observation)
        ids = observation["candidates"][0, slots]
        weights = self.parameters[0]["weights"]
        parts = attribute_relevance(weights, self.texts, observation, ids)
        taste = self.learnt.taste.factors[ids] @ posterior.mean[0]
        others = parts.others | {"taste": taste}
        if BLOCKS[0] in observation:
            others["instructions"] = text_scores(memory, weights, self.texts, ids) - parts.total()
        return parts._replace(others=others)

    # --- acting

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Returns candidate indices, (n, k), best first."""
        seen = self._appraised(observation)
        examination = np.arange(1, self.slate_size + 1) ** -self.parameters[0]["position"]
        make = SLATES[self.settings.slates]
        candidates, vectors = observation["candidates"], self.data.items.vectors
        return make(seen.odds, seen.value, examination, candidates, vectors, 0.0)

    def scores(self, observation: Any) -> Floats:
        """Returns the expected reward of showing each candidate alone, (n, c)."""
        seen = self._appraised(observation)
        worth = (seen.odds * seen.value / (1.0 + seen.odds)).astype(np.float32)
        return np.where(observation["candidates"] < 0, UNAVAILABLE, worth)

    def belief(self, observation: Any) -> Floats:
        """Returns the believed interest of each session by the texts of its past, (n, d)."""
        memory = self.follow(observation).memory
        interests = np.empty((len(memory.counts), self.texts.rows.shape[1]), np.float32)
        write_interests(memory, self.parameters[0]["weights"], interests)
        return interests

    def probability(self, observation: Any) -> Floats:
        """Returns the calibrated probability that each candidate would satisfy, (n, c)."""
        slope, offset = self.calibration
        chance = 1.0 / (1.0 + np.exp(-(slope * self._appraised(observation).log_odds + offset)))
        return chance.astype(np.float32)

    # --- saving

    def arguments(self) -> dict[str, Any]:
        """Returns the seed and the settings."""
        return {"seed": self.seed} | vars(self.settings)

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the response, the factors, where users begin, and the calibration."""
        learnt = self.learnt
        parameters = {f"response.{x}": self.parameters[x] for x in PARAMETERS.names or ()}
        weights = parameters | learnt.taste._asdict()
        weights |= {"mean": learnt.mean, "precision": learnt.precision}
        return weights | {"calibration": self.calibration, "read": self.texts.read}

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the public data, and the weights that `save` wrote."""
        super().load(weights, env)
        self.config = env.config
        own = {name: np.ascontiguousarray(x) for name, x in weights.items()}
        self.parameters = np.zeros(1, PARAMETERS)
        for name in PARAMETERS.names or ():
            self.parameters[name] = own.get(f"response.{name}", 0.0)  # older ones lack some
        taste = Taste(*(own[name] for name in Taste._fields))
        self.learnt = Learnt(taste, own["mean"], own["precision"])
        self.calibration = own["calibration"]
        self._take_texts(own["read"])

    def transfer(
        self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv, same_items: bool
    ) -> None:
        """Takes the response and, where items are the same, what is beside their texts.

        Of other items nothing is known: they have the mean of factors and biases.
        """
        own, vectors = dict(weights), env.public_data().items.vectors
        own["read"] = vectors
        if not same_items:
            own |= {name: mean_of_items(own[name], len(vectors)) for name in Taste._fields}
        self.load(own, env)
