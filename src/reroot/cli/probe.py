"""``reroot probe``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..errors import RunFolderError
from .app import command, console, say_page, table_of
from .console import print_json
from .progress import bar

_SAID = {True: ("yes", "green"), False: ("no", "red"), None: ("?", "dim")}


@command("json")
def probe(
    endpoint: str,
    *,
    out: Path | None = None,
    budget_tokens: int = 20_000,
    tokenizer: str | None = None,
    reference: str | None = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """What does a server really grant? Finds out by asking, with error rates.

    Are tokens continued as sent? Do log-probabilities belong to the law that is drawn from? Which
    temperature, top-k, top-p, min-p or penalty hides where a request does not name it? What comes
    out is the strongest contract that may be granted, with the evidence of each claim:
    --model URL:profile=DIR uses it, and a run refuses what it does not carry.

    Example:

        reroot probe http://localhost:8000 --tokenizer FOLDER --out profiles/local

    Args:
        endpoint: http://HOST:PORT, http://HOST:PORT/MODEL, DIALECT:http://… (vllm, llamacpp, sglang, completions, chat,
            responses) or openai:MODEL.
        out: Folder for profile.json and profile.html; one that has a profile is refused.
        budget_tokens: Most tokens, prompts and continuations together; what does not fit is undetermined.
        tokenizer: A folder with tokenizer.json, for claims about texts.
        reference: A model (folder, hub id, FILE.gguf) whose law the server's is compared with.
        seed: Of prompts and draws.
        json: Print the profile as JSON, not as a table.
    """
    from ..probe import probe as ask
    from ..runs.folder import write_json

    _check_free(out)
    model = None if reference is None else _loaded(reference)
    with bar("claims", "reaching the server") as (on_start, on_claim):
        profile = ask(
            endpoint,
            budget_tokens=budget_tokens,
            tokenizer=tokenizer,
            reference=model,
            seed=seed,
            on_start=on_start,
            on_claim=on_claim,
        )
    if out is not None:
        write_json(out / "profile.json", profile)
    if json:
        print_json(profile)
    else:
        console.print(table(profile))
        console.say(summary(profile))
    if out is not None:
        from ..pages.profile import write_profile_page

        console.say(f"profile: {out / 'profile.json'}; --model {endpoint}:profile={out} uses it")
        say_page(out, lambda: write_profile_page(profile, out))


def _check_free(out: Path | None) -> None:
    """Refuse a folder that has a profile, or cannot be had, before anything is asked (``RunFolderError``)."""
    from ..runs.folder import made_folder

    if out is not None and (made_folder(out) / "profile.json").exists():
        raise RunFolderError(
            f"{out} has a profile already, which would be lost: name another folder, or move it away"
        )


def _loaded(name: str) -> Any:
    from ..runs.models import DEFAULT_LOAD, load_text_generator

    return load_text_generator(name, DEFAULT_LOAD, {})


def table(profile: Mapping[str, Any]) -> Table:
    """Claims, whether they hold, and what was seen."""
    made = table_of("claim", "holds", "tokens", "seen", fixed=3)
    for claim in profile["claims"]:
        word, style = _SAID[claim["holds"]]
        evidence = Text(claim["evidence"], "dim" if claim["holds"] is None else "")
        made.add_row(claim["claim"], Text(word, style), f"{claim['tokens']:,}", evidence)
    return made


def summary(profile: Mapping[str, Any]) -> str:
    """One line: the contract, and what it cost."""
    return (
        f"{profile['dialect']} {profile['model']}: at most {profile['contract']} may be granted; "
        f"{profile['tokens']:,} tokens in {profile['calls']:,} calls"
    )
