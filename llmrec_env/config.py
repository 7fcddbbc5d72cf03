"""Everything that can be set: one flat, frozen, validated table of fields."""

from __future__ import annotations

import dataclasses
import difflib
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrec_env.saved_world import parameters_of


class ConfigError(ValueError):
    """A configuration field is unknown, has the wrong type, or is out of range."""


class UnknownFieldError(ConfigError, TypeError):
    """A keyword argument is no configuration field.

    Also a TypeError worded as Python's own, because clients retry without an argument on that:
    TorchRL's `GymEnv` passes `frameskip` to every environment.
    """


def _number(
    default: float, low: float, high: float, world: bool = True, dynamics: bool = True
) -> Any:
    metadata = {"range": (low, high), "world": world, "dynamics": world and dynamics}
    return field(default=default, metadata=metadata)


def _choice(default: str, *allowed: str, world: bool = False) -> Any:
    return field(default=default, metadata={"allowed": allowed, "world": world})


@dataclass(frozen=True)
class EnvConfig:
    """Settings of one environment; every value is plain JSON data.

    Raises:
        ConfigError: a field is unknown, has the wrong type or is out of range.
    """

    # --- the world: texts, users, and what encodes them
    catalog: str = "video"
    """A bundled catalogue (`video`, `ecommerce`, `news`, `social`, `support`, `finance`,
    `movielens`), or the path of a table or of a saved world."""
    encoder: str = "minilm"
    """`minilm`, `word-vectors`, `hashing`, or the directory of a transformer."""
    device: str = "auto"
    """Where the encoder runs: `auto` (the GPU where there is one), `cpu`, `cuda`, `cuda:1`, ..."""
    dim: int = _number(128, 4, 4096)
    """d, the length of interest and item vectors after centring and PCA."""
    item_vectors: str | None = None
    """An image, audio or other vector of each item: the path of a .npy or .npz file."""
    item_graph: str | None = None
    """A knowledge graph of the items: the path of a table with columns head, relation and tail."""
    fusion: str = _choice("concatenation", "concatenation", "gated-sum", "text-alone", world=True)
    """How texts and what items carry beside them become the vectors of items that agents see."""
    channel_weight: float = _number(0.25, 0.0, 0.9, dynamics=False)
    """w, share of the squared length of such a vector that is not the text's."""
    num_users: int = _number(10_000, 20, 10_000_000)
    """Users of the world; ids ending in 8 are validation users, in 9 test users, others train."""
    num_items: int | None = field(default=None, metadata={"range": (20, 10_000_000)})
    """Items of the world; None: what the catalogue comes with (4,000 of `video` and `movielens`,
    2,400 to 2,800 of the others)."""
    world_seed: int = _number(0, 0, 2**31 - 1)
    """Draws everything fixed about a world: tastes, qualities, communities, users, their past."""
    split: str = _choice("train", "train", "validation", "test", "all")
    """Whose sessions are played."""

    # --- the interface
    slate_size: int = _number(5, 1, 20)
    """K, items shown at a step."""
    horizon: int = _number(100, 1, 100_000)
    """T, steps after which a session is truncated."""
    candidates: int = _number(100, 0, 100_000, world=False)
    """C, items offered at a step, the same for every agent; 0 offers the whole catalogue."""
    recall: str = _choice("uniform", "uniform", "two-stage")
    """How candidates are drawn: at random, or as a retrieval stage would."""
    action: str = _choice("slate", "slate", "item", "weights", "query", "recipe", "text")
    """What an action is; see `interface/actions.py`."""
    observation: str = _choice("vector", "vector", "dict", "text")
    """One flat array, named blocks with the ids of candidates and history, or a prompt."""
    text_budget: int = _number(12_000, 500, 10_000_000, world=False)
    """Most characters of a prompt, of which a token has about four; `info` says what is cut."""
    text_fallback: str = _choice("random", "random", "popular", "first")
    """What is shown for a `text` action that cannot be read: random candidates, the most popular,
    or the first of the list."""
    observation_dim: int = _number(32, 1, 4096, world=False)
    """Leading components of each interest vector that `vector` observations keep."""
    privileged_observation: bool = field(
        default=False, metadata={"allowed": (False, True), "world": False}
    )
    """Whether observations tell the user's hidden state: to test algorithms, not to compare."""
    info_texts: bool = field(default=False, metadata={"allowed": (False, True), "world": False})
    """Whether `info` describes the user and the last step in words: hidden truth, as all of it."""
    history: str = _choice("pooled", "pooled", "document")
    """v is the mean of encoded behaviour texts, or the encoding of them joined into one text."""
    document_size: int = _number(12, 1, 128, world=False)
    """Behaviour texts, newest first, that make the document of `history="document"`."""
    document_dtype: str = _choice("auto", "auto", "float32", "bfloat16")
    """Numbers a transformer reads documents with; `auto`: bfloat16 where the device has it."""
    reward_vector: str = _choice("true", "true", "observed")
    """v of R = z f(v, y): the user's current interests, or what the agent sees (an ablation)."""
    off: tuple[str, ...] = ()
    """Mechanisms switched off, by name: see `SWITCHES`."""

    # --- users: who they are
    interest_slots: int = _number(8, 2, 12)
    """P, phrases a user holds, active and dormant."""
    warmup_slates: int = _number(20, 1, 200)
    """W, logged slates before the first session: W K browse records a user."""
    active_min: int = _number(3, 1, 6)
    """Fewest active interests of a new user."""
    active_max: int = _number(5, 1, 6)
    """Most active interests of a new user."""
    base_sd: float = _number(0.8, 0.0, 3.0)
    """Spread of resting log-weights between interests."""

    # --- drift by itself
    ou_rate: float = _number(0.03, 0.0, 1.0)
    """nu, pull of a log-weight to its rest [1/step]; 0.03 is a half-life of 23 steps."""
    ou_sigma: float = _number(0.12, 0.0, 2.0)
    """sigma, random drift of a log-weight [1/sqrt(step)]."""
    switch_rate: float = _number(0.03, 0.0, 1.0)
    """Probability that an interest dies and a dormant one is born [1/step]."""
    refine_rate: float = _number(0.02, 0.0, 1.0)
    """Probability that a phrase moves to a neighbouring phrase of its topic [1/step]."""
    theta_birth: float = _number(1.0, -3.0, 3.0)
    """Log-weight of a new-born interest."""
    burst_step: int = _number(0, 0, 100_000)
    """Step at which every user switches several interests at once; 0: never."""
    burst_size: int = _number(3, 1, 6)
    """Interests switched by a burst."""

    regime_rate: float = _number(0.0, 0.0, 1.0)
    """Probability that the market enters a regime, in which interests of all users move to the same
    topics [1/step]; a world has the same regimes at the same steps for everybody."""
    regime_size: int = _number(2, 1, 6)
    """Interests of a user that a new regime switches."""

    # --- drift because of what is recommended
    reinforce: float = _number(0.25, 0.0, 3.0)
    """eta_r, log-weight won per satisfied consumption at cosine 1 (half is lost if unsatisfied)."""
    exposure: float = _number(0.02, 0.0, 1.0)
    """eta_e, log-weight won per examined slot at cosine 1."""
    discovery: float = _number(0.30, 0.0, 1.0)
    """pi_d, probability that a dormant interest wakes when shown something at cosine 1."""
    satiation_decay: float = _number(0.85, 0.0, 0.999)
    """rho_c, what is left of satiation after a step."""
    satiation_choice: float = _number(1.2, 0.0, 10.0)
    """beta_s, logit lost in the choice at full satiation."""
    satiation_satisfaction: float = _number(1.8, 0.0, 10.0)
    """zeta_s, logit lost in the satisfaction at full satiation."""
    goodwill_decay: float = _number(0.95, 0.0, 0.999)
    """rho_h, what is left of goodwill after a step."""
    goodwill_gain: float = _number(0.10, 0.0, 1.0)
    """kappa_h, goodwill won per consumption of substance 1."""
    goodwill_satisfaction: float = _number(1.5, 0.0, 5.0)
    """zeta_h, logit of satisfaction per unit of goodwill."""

    # --- relevance, choice and satisfaction
    relevance_taste: float = _number(0.2, 0.0, 2.0)
    """kappa, relevance per unit of taste a . b: what clicks reveal beside the text."""
    taste_shared: float = _number(0.5, 0.0, 1.0)
    """s, share of the variance of an item's taste that all items of its facet have in common."""
    taste_channel: float = _number(0.0, 0.0, 1.0, dynamics=False)
    """t, share of the variance of an item's taste that `item_vectors` and `item_graph` decide."""
    response: str = _choice("logit", "logit", "cascade", "llm", world=True)
    """`logit`: the user consumes one item of a slate or none; `cascade`: any number, in order;
    `llm`: one or none, and a language model says from texts alone whether it satisfies."""
    response_model: str | None = field(default=None, metadata={"world": False})
    """The directory of the language model of `response="llm"`, a sequence classifier or a causal
    one; None: a classifier of encoded texts, fitted to users of the world."""
    choice_relevance: float = _number(6.0, 0.0, 30.0)
    """beta_f [logit per unit of f]."""
    choice_quality: float = _number(0.25, 0.0, 5.0)
    """beta_pop [logit per standard deviation of quality]."""
    choice_null: float = _number(3.4, -10.0, 20.0)
    """beta_null, logit of choosing nothing in `logit`."""
    lure: float = _number(0.8, 0.0, 5.0)
    """beta_q, logit by which clickbait (substance -1) is chosen more."""
    position_bias: float = _number(0.5, 0.0, 5.0)
    """gamma, slot k is examined with weight k^-gamma in `logit`."""
    cascade_null: float = _number(3.8, -10.0, 20.0)
    """beta_pass, logit of passing over an examined item in `cascade`."""
    cascade_skipped: float = _number(0.9, 0.0, 1.0)
    """lambda_pass, probability of going on to the next slot after passing over one in `cascade`."""
    cascade_satisfied: float = _number(0.5, 0.0, 1.0)
    """lambda_1, the same after an item that satisfied."""
    cascade_dissatisfied: float = _number(0.3, 0.0, 1.0)
    """lambda_0, the same after an item that did not satisfy."""
    satisfaction_bias: float = _number(-1.8, -10.0, 10.0)
    """zeta_0 [logit]."""
    satisfaction_relevance: float = _number(4.0, 0.0, 30.0)
    """zeta_f [logit per unit of f]."""
    satisfaction_quality: float = _number(0.25, 0.0, 5.0)
    """zeta_pop [logit per standard deviation of quality]."""

    # --- items that age
    new_items: float = _number(0.0, 0.0, 0.9)
    """Share of the items that is published, at a steady rate, from the first logged step to the
    last one of a session, and not offered before; 0: no item ages."""
    freshness_half_life: float = _number(16.0, 0.1, 100_000.0)
    """Steps after which an item is half as fresh; 1 when it is published."""
    freshness_choice: float = _number(3.0, 0.0, 10.0)
    """beta_new, logit by which an item is chosen more when it is published."""

    # --- creators
    creator_growth: float = _number(0.0, 0.0, 1.0)
    """kappa_c, share of what is missing of a full attachment to an item's creator that a satisfied
    consumption adds; 0: users do not mind who made an item."""
    creator_half_life: float = _number(40.0, 0.1, 100_000.0)
    """Steps after which an attachment to a creator is half as strong."""
    creator_choice: float = _number(3.0, 0.0, 10.0)
    """beta_c, logit by which items of a creator are chosen more at full attachment."""
    creator_satisfaction: float = _number(2.0, 0.0, 10.0)
    """zeta_c, logit of satisfaction with items of a creator at full attachment."""

    # --- questions
    resolution: float = _number(0.0, 0.0, 2.0)
    """Fit to an open question, an active interest, from which on an answer resolves it, and below
    which none satisfies; what is resolved ends, and the next question is typed; 0: off."""
    resolution_substance: float = _number(0.2, 0.0, 2.0)
    """What an answer of substance 1 fits better than one of 0, in units of relevance."""

    # --- patience and words
    patience_start: float = _number(10.0, 0.01, 1e6)
    """Patience at the start of a session; at 0 the user leaves."""
    patience_max: float = _number(15.0, 0.01, 1e6)
    """Most patience a user can have."""
    patience_satisfied: float = _number(0.8, 0.0, 100.0)
    """Patience won by a satisfied consumption."""
    patience_dissatisfied: float = _number(0.6, 0.0, 100.0)
    """Patience lost by an unsatisfied consumption."""
    patience_ignored: float = _number(0.35, 0.0, 100.0)
    """Patience lost by a slate from which nothing is chosen."""
    impression_cap: int = _number(10, 0, 50)
    """Steps for which a shown item is not offered again; consumed items never are."""
    query_rate: float = _number(0.1, 0.0, 1.0)
    """Probability that the user types one of the active interests as a query [1/step]."""
    instruct_rate: float = _number(0.0, 0.0, 1.0)
    """Probability that a user whose patience runs low types an instruction, such as "more on ...",
    after a slate of which nothing satisfied [1/step]."""
    instruct_patience: float = _number(5.0, 0.0, 1e6)
    """Patience below which users type instructions."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            object.__setattr__(self, item.name, _checked(item, getattr(self, item.name)))
        _check_together(self)

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> EnvConfig:
        """Returns the configuration of flat keyword arguments, as `gymnasium.make` passes them.

        Fields that are not given are what a saved world calls for, or else the defaults.
        """
        names = [item.name for item in dataclasses.fields(cls)]
        for name in kwargs:
            if name not in names:
                message = unknown("config field", name, names)
                raise UnknownFieldError(f"got an unexpected keyword argument {name!r}. {message}")
        return cls(**(parameters_of(kwargs.get("catalog")) | dict(kwargs)))

    def effective(self) -> EnvConfig:
        """Returns the configuration with `off` applied: the parameters the simulator runs on."""
        changes = {name: value for term in self.off for name, value in SWITCHES[term].items()}
        return dataclasses.replace(self, **changes)

    def ages(self) -> bool:
        """Says whether items are published in the course of time, and age."""
        return self.new_items > 0.0 and "freshness" not in self.off

    def resolves(self) -> bool:
        """Says whether answers resolve questions, and nothing else satisfies."""
        return self.resolution > 0.0 and "resolution" not in self.off

    def attaches(self) -> bool:
        """Says whether users become attached to creators."""
        return self.creator_growth > 0.0 and "creators" not in self.off

    def instructs(self) -> bool:
        """Says whether users type instructions."""
        return self.instruct_rate > 0.0 and "instructions" not in self.off

    def of_world(self) -> EnvConfig:
        """Returns it with what only the interface reads at its default: equals share a world."""
        fields = dataclasses.fields(self)
        plain = {item.name: item.default for item in fields if not item.metadata.get("world", True)}
        if self.response == "llm":  # its world, logs included, is that of the built-in response
            plain["response"] = "logit"
        return dataclasses.replace(self, **plain)

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as plain JSON data."""
        return dataclasses.asdict(self) | {"off": list(self.off)}


def world_numbers() -> list[str]:
    """Returns the fields whose numbers the dynamics may read."""
    return [
        item.name
        for item in dataclasses.fields(EnvConfig)
        if str(item.type) in ("int", "float") and item.metadata["dynamics"]
    ]


_NO_DRIFT = {"ou_rate": 0.0, "ou_sigma": 0.0}
_NO_REGIMES = {"regime_rate": 0.0}
_NO_SWITCHES: dict[str, float] = {"switch_rate": 0.0, "burst_step": 0} | _NO_REGIMES
_NO_INFLUENCE = {"exposure": 0.0, "discovery": 0.0}

SWITCHES: dict[str, dict[str, float]] = {
    "spontaneous": _NO_DRIFT,
    "switching": _NO_SWITCHES,
    "regimes": _NO_REGIMES,
    "refinement": {"refine_rate": 0.0},
    "reinforcement": {"reinforce": 0.0},
    "influence": _NO_INFLUENCE,
    "drift": _NO_DRIFT | _NO_SWITCHES | _NO_INFLUENCE | {"refine_rate": 0.0, "reinforce": 0.0},
    "satiation": {"satiation_choice": 0.0, "satiation_satisfaction": 0.0},
    "goodwill": {"goodwill_gain": 0.0, "lure": 0.0},
    "taste": {"relevance_taste": 0.0},
    "shared_taste": {"taste_shared": 0.0},
    "quality": {"choice_quality": 0.0, "satisfaction_quality": 0.0},
    "position": {"position_bias": 0.0},
    "queries": {"query_rate": 0.0},
    "instructions": {"instruct_rate": 0.0},
    "churn": {"patience_dissatisfied": 0.0, "patience_ignored": 0.0},
    "cap": {"impression_cap": 0},
    "freshness": {"new_items": 0.0},
    "creators": {"creator_growth": 0.0},
    "resolution": {"resolution": 0.0},
}
"""What `off=("drift", "goodwill")` sets: each mechanism's name, and the parameters that end it."""


def unknown(kind: str, name: object, allowed: list[str]) -> str:
    """Returns the message for an unknown name, with the nearest known one."""
    near = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown {kind} {name!r}.{hint} Allowed: {', '.join(sorted(allowed))}."


def _checked(item: dataclasses.Field[Any], value: Any) -> Any:
    if item.name == "off":
        return _checked_off(value)
    kind = str(item.type)
    if value is None and kind.endswith("None"):
        return None
    if kind.startswith("str"):
        return _checked_text(item, value)
    if kind == "bool":
        return _checked_switch(item, value)
    return _checked_number(item, value, whole=kind.startswith("int"))


def _checked_off(value: Any) -> tuple[str, ...]:
    terms = [value] if isinstance(value, str) else value
    if not isinstance(terms, list | tuple):
        raise ConfigError(f"off={value!r} is not a list of mechanism names; write off=['drift'].")
    for term in terms:
        if not isinstance(term, str) or term not in SWITCHES:
            raise ConfigError(unknown("mechanism in off:", term, list(SWITCHES)))
    return tuple(terms)


def _checked_text(item: dataclasses.Field[Any], value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{item.name}={value!r} is not a non-empty string.")
    allowed = item.metadata.get("allowed")
    if allowed and value not in allowed:
        raise ConfigError(unknown(f"{item.name}:", value, list(allowed)))
    return value


def _checked_switch(item: dataclasses.Field[Any], value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{item.name}={value!r} is neither True nor False.")
    return value


def _checked_number(item: dataclasses.Field[Any], value: Any, whole: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ConfigError(f"{item.name}={value!r} is not {'an integer' if whole else 'a number'}.")
    low, high = item.metadata["range"]
    if not low <= value <= high:  # NaN is in no range
        raise ConfigError(f"{item.name}={value!r} is out of range; allowed: {low} to {high}.")
    number = float(value)
    if whole and number != int(number):
        raise ConfigError(f"{item.name}={value!r} is not an integer; write {round(number)}.")
    return int(number) if whole else number


def _check_together(config: EnvConfig) -> None:
    if not config.active_min <= config.active_max <= config.interest_slots:
        raise ConfigError(
            f"active_min={config.active_min} <= active_max={config.active_max} <= "
            f"interest_slots={config.interest_slots} does not hold; raise the latter ones."
        )
    if config.action == "item" and config.slate_size != 1:
        raise ConfigError(
            f"action='item' shows one item a step, but slate_size={config.slate_size}; "
            "set slate_size=1, or use action='slate'."
        )
    if config.observation == "text" and config.privileged_observation:
        raise ConfigError(
            "privileged_observation=True has no words for observation='text'; use 'dict', or "
            "info_texts=True for the user in words."
        )
    if config.response_model is not None and config.response != "llm":
        raise ConfigError(
            f"response_model={config.response_model!r} is not read by response="
            f"{config.response!r}; set response='llm', or leave response_model out."
        )
    if config.recall == "two-stage" and config.candidates == 0:
        raise ConfigError("recall='two-stage' needs candidates > 0; set candidates=100.")
    if 0 < config.candidates < config.slate_size:
        raise ConfigError(
            f"candidates={config.candidates} cannot fill slates of slate_size={config.slate_size}; "
            "raise candidates, or set candidates=0 for the whole catalogue."
        )
