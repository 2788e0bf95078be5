"""What makes a script one that trains, predicts, evaluates or exports: signs with weights, added up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from guardianflow.adapters.scan import frameworks as known
from guardianflow.adapters.scan.facts import CallFact, CodeFacts, first_import
from guardianflow.adapters.scan.findings import EVALUATION, EXPORT, INFERENCE, ROLES, TRAINING, Reason
from guardianflow.adapters.scan.syntax import parse, tree_facts
from guardianflow.adapters.scan.text import word_facts

__all__ = ["LIBRARY_CEILING", "Judgement", "judge", "may_be_a_script", "may_start", "read_facts"]

LIBRARY_CEILING = 0.45  # no module without a way in is judged higher

_PARSERS = {"ArgumentParser", "OptionParser", "Typer", "Fire", "docopt", "HfArgumentParser", "default_argument_parser"}
_TESTS = {"test", "tests", "testing", "unittests"}
_TRAINERS = ("trainer", "runner", "learner", "learn")
_MODELS = (
    "model",
    "net",
    "network",
    "clf",
    "classifier",
    "regressor",
    "estimator",
    "booster",
    "detector",
    "yolo",
    "pipe",
)
_TRAIN_KEYWORDS = {"data", "epochs", "cfg", "max_epochs", "num_epochs", "n_epochs"}
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_IMPORTS = re.compile(rb"^[ \t]*(?:from|import)\b.*\b(?:" + b"|".join(known.FRAMEWORK_WORDS) + rb")\b", re.MULTILINE)
_LIBRARY = -0.7
# Words without which a file has no parser and no guard, and first words of what may stand at its top and work.
_WAYS_IN = (
    b"__main__",
    *(name.encode() for name in sorted(known.CLI_MODULES)),
    b"ArgumentParser",
    b"default_argument_parser",
)
_TOP_WORK = re.compile(
    rb"^(?:for|while|with|async)\b|^try:[^\n]*\n(?!\s*(?:from|import)\b)|^if (?!TYPE_CHECKING|typing\b|sys\.|_|not _)"
    rb"|^(?!def\b|class\b|from\b|import\b)[a-z_(][^\n]{0,300}(?:train|tune|fit|predict|track|val|test|export|generate|pipe"
    rb"|infer|compile|run|convert|trace|save|model|yolo|net|cli|detect|launch|report|cross|main)[\w.\])\"'(]{0,60}\(",
    re.MULTILINE | re.IGNORECASE,
)
_TEST = -0.4
_WEB = -0.35
_UNREAD = -0.1
_NO_IMPORT = -0.3


@dataclass(frozen=True)
class Judgement:
    """What a script was taken for.

    Attributes:
        role: One of :data:`~guardianflow.adapters.scan.findings.ROLES`; empty for none.
        framework: Empty where none was recognised.
        score: The sum of the weights, cut to 0 … 1.
        reasons: What speaks for it most first, what speaks against it last.
    """

    role: str
    framework: str
    score: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class _Action:
    role: str
    framework: str
    weight: float
    call: CallFact


def may_be_a_script(content: bytes, *, is_notebook: bool = False) -> bool:
    """Whether a file is worth a closer look: it imports a framework and does something with one."""
    if not any(word in content for word in known.FRAMEWORK_WORDS) or not any(
        word in content for word in known.ACTION_WORDS
    ):
        return False
    return is_notebook or _IMPORTS.search(content) is not None


def may_start(content: bytes) -> bool:
    """Whether a file may do something when it is run; if not it is a library module, without a look at its syntax."""
    return any(word in content for word in _WAYS_IN) or _TOP_WORK.search(content) is not None


def read_facts(text: str) -> CodeFacts:
    """What a script says; by its words alone where it is no Python 3 of today."""
    tree = parse(text)
    return word_facts(text, tree) if isinstance(tree, str) else tree_facts(tree, text)


def judge(facts: CodeFacts, path: str, *, is_notebook: bool = False, started_by: str = "") -> Judgement:
    """Which role a script plays, how sure that is, and why.

    Args:
        facts: What it says.
        path: Below the scanned folder, with ``/``: names of files and folders are signs too.
        is_notebook: It runs from top to bottom, whatever it holds.
        started_by: A console script that starts it.
    """
    actions = list(_actions(facts))
    shared, framework = list(_shared_signs(facts, path, actions, is_notebook=is_notebook, started_by=started_by)), ""
    best = Judgement("", _main_framework(facts, actions), 0.0, ())
    for role in ROLES:
        own = list(_action_signs(facts, role, actions))
        own.extend(_name_sign(path, role, alone=not own))
        if not own:
            continue
        reasons = sorted([*shared, *own], key=lambda reason: (-reason.weight, reason.line))
        score = round(min(1.0, max(0.0, sum(reason.weight for reason in reasons))), 2)
        # The bare sums decide between the roles: of two that are cut to 1 the better founded wins.
        if not best.role or sum(r.weight for r in reasons) > sum(r.weight for r in best.reasons) + 1e-9:
            framework = _main_framework(facts, [action for action in actions if action.role == role])
            best = Judgement(role, framework, score, tuple(reasons))
    return best


def _main_framework(facts: CodeFacts, actions: list[_Action]) -> str:
    """Whose calls decide; else the most telling of the imports."""
    named = [action for action in actions if action.framework]
    if named:
        return max(named, key=lambda action: (action.weight, -known.preference(action.framework))).framework
    found = facts.frameworks
    if facts.loops and "torch" in found:
        return "torch"
    return min(found, key=known.preference, default="")


def _actions(facts: CodeFacts) -> Iterator[_Action]:
    """The calls that train, predict, evaluate or export."""
    imported = facts.frameworks
    for call in facts.calls:
        if call.dotted in known.EXACT_CALLS:
            role, weight = known.EXACT_CALLS[call.dotted]
            yield _Action(role, call.framework, weight, call)
        elif call.framework in known.CALLS:
            entry = known.CALLS[call.framework].get(call.name)
            if entry and _is_meant(call) and not _sets_mode(call, facts):
                yield _Action(entry[0], call.framework, entry[1], call)
        elif "." in call.dotted and known.framework_of(call.dotted) == "":
            yield from _by_name(call, imported)
        if "." not in call.dotted or not (call.framework or call.spoken):
            yield from _plain(call, imported)


def _is_meant(call: CallFact) -> bool:
    """Whether a call of the right name is on the right thing: no scaler's ``fit``, no loss that is called."""
    if call.name == "__call__":
        return call.dotted.rpartition(".")[2][:1].isupper()
    if call.framework == "sklearn" and call.name in {"fit", "partial_fit", "predict"}:
        return not any(word in call.dotted.lower() for word in known.PREPARATION)
    if call.framework == "ultralytics" and call.name in {"train", "val"}:
        return "()" in call.dotted  # a method of a model that was made here, no module of that name
    return True


def _sets_mode(call: CallFact, facts: CodeFacts) -> bool:
    """``model.train()`` beside a loop with a backward pass switches dropout on, and no more."""
    return call.name == "train" and not call.has_arguments and bool(facts.loops) and not _is_trainer(call)


def _is_trainer(call: CallFact) -> bool:
    return call.spoken.lower().removesuffix("()").endswith(_TRAINERS)


def _by_name(call: CallFact, imported: dict[str, int]) -> Iterator[_Action]:
    """A method on something whose kind isn't known: its name and its receiver's name must do."""
    spoken = call.spoken.lower().removesuffix("()")
    trains = _is_trainer(call)
    is_model = trains or spoken.endswith(_MODELS)
    fits = [name for name in sorted(imported, key=known.preference) if name in known.FIT_FRAMEWORKS]
    prepares = any(word in call.dotted.lower() for word in known.PREPARATION)
    if call.name in {"fit", "fit_generator"} and fits and not prepares:
        yield _Action(TRAINING, fits[0], 0.4 if is_model else 0.3, call)
    elif call.name == "train" and (trains or call.keywords & _TRAIN_KEYWORDS) and imported:
        yield _Action(TRAINING, "ultralytics" if "ultralytics" in imported else "", 0.4, call)
    elif call.name in {"predict", "predict_proba", "generate"} and is_model and imported:
        yield _Action(INFERENCE, "", 0.35, call)
    elif call.name in {"evaluate", "val", "validate", "test"} and is_model and imported:
        yield _Action(EVALUATION, "", 0.3, call)
    elif call.name == "export" and "ultralytics" in imported and is_model:
        yield _Action(EXPORT, "ultralytics", 0.4, call)


def _plain(call: CallFact, imported: dict[str, int]) -> Iterator[_Action]:
    entry = known.PLAIN_CALLS.get(call.name)
    if entry and imported and "." not in call.dotted:
        yield _Action(entry[0], "", entry[1], call)


def _action_signs(facts: CodeFacts, role: str, actions: list[_Action]) -> Iterator[Reason]:
    """The calls of one role: the heaviest counts whole, a second one adds a little."""
    own = sorted((action for action in actions if action.role == role), key=lambda a: (-a.weight, a.call.line))
    for place, action in enumerate(own[:2]):
        yield Reason(facts.text_of(action.call.line), action.weight if place == 0 else 0.05, action.call.line)
    if role == TRAINING:
        yield from _loop_signs(facts, has_action=bool(own))
    elif role in {INFERENCE, EVALUATION} and not facts.loops:
        yield from _loaded_signs(facts)


def _loop_signs(facts: CodeFacts, *, has_action: bool) -> Iterator[Reason]:
    complete = [loop for loop in facts.loops if loop.step]
    loop = next((loop for loop in complete if loop.over_epochs), None) or next(iter(complete or facts.loops), None)
    if loop is not None:
        weight = (0.45 if loop.step else 0.3) if not has_action else 0.3
        said = ".backward() and .step()" if loop.step else ".backward()"
        yield Reason(f"a loop with {said}: {facts.text_of(loop.line)}", weight, loop.line)
        if loop.over_epochs:
            yield Reason("the loop runs over epochs", 0.05, loop.line)
    if facts.mode_line:
        yield Reason(f"chooses what to do by its name: {facts.text_of(facts.mode_line)}", 0.3, facts.mode_line)


def _loaded_signs(facts: CodeFacts) -> Iterator[Reason]:
    loaded = next((call for call in facts.calls if call.name in {"load_state_dict", "load_from_checkpoint"}), None)
    quiet = any(call.name in {"no_grad", "inference_mode"} or call.dotted.endswith(".eval") for call in facts.calls)
    if loaded and quiet:
        yield Reason("loads weights and computes no gradients", 0.25, loaded.line)


def _shared_signs(
    facts: CodeFacts, path: str, actions: list[_Action], *, is_notebook: bool, started_by: str
) -> Iterator[Reason]:
    """What speaks for or against a script whatever its role."""
    found = facts.frameworks
    main = _main_framework(facts, actions)
    if found:
        line = found.get(main, min(found.values()))
        yield Reason(f"imports {main if main in found else ', '.join(found)}", 0.15, line)
    else:
        yield Reason("imports no framework", _NO_IMPORT)
    ways = list(_ways_in(facts, actions, is_notebook=is_notebook, started_by=started_by))
    yield from ways
    if not ways:
        yield Reason("a library module: nothing in it starts by itself", _LIBRARY)
    if _is_test(path):
        yield Reason("it is a test", _TEST)
    if line := first_import(facts.modules, known.WEB_MODULES):
        yield Reason("it is a web service", _WEB, line)
    if facts.unread:
        yield Reason(f"{facts.unread}; only its words were read", _UNREAD)


def _ways_in(facts: CodeFacts, actions: list[_Action], *, is_notebook: bool, started_by: str) -> Iterator[Reason]:
    """How it is started: a notebook by itself, a script by a guard, a parser, or what stands at its top."""
    top = next((action.call.line for action in actions if action.call.top), 0)
    top = top or next((loop.line for loop in facts.loops if loop.top), 0)
    if is_notebook:
        yield Reason("a notebook, run from top to bottom", 0.2)
    elif started_by:
        yield Reason(f"the command `{started_by}` starts it", 0.2)
    elif facts.main_line:
        yield Reason('if __name__ == "__main__"', 0.2, facts.main_line)
    elif top:
        yield Reason("does its work as soon as it is run", 0.2, top)
    parser = next((call.line for call in facts.calls if call.name in _PARSERS), 0)
    line = parser or first_import(facts.modules, known.CLI_MODULES)
    if line and not is_notebook:
        yield Reason(f"reads the command line: {facts.text_of(line)}", 0.1, line)


def _is_test(path: str) -> bool:
    pure = PurePosixPath(path)
    stem = pure.stem.lower()
    return (
        stem.startswith("test_") or stem.endswith("_test") or stem == "conftest"
        or any(part.lower() in _TESTS for part in pure.parts[:-1])
    )  # fmt: skip


def _name_sign(path: str, role: str, *, alone: bool) -> Iterator[Reason]:
    """A word in the file's name; the name of what only prepares data is none, and alone it must be a short name."""
    pure = PurePosixPath(path)
    words = [word.lower() for word in _WORDS.findall(pure.stem)]
    if _is_test(path) or known.NO_SCRIPT_WORDS & set(words) or (alone and len(words) > (3 if role == EXPORT else 2)):
        return
    named = next((known.NAME_WORDS[word] for word in words if word in known.NAME_WORDS), "")
    if named == role:
        yield Reason(f"the file is called {pure.name}", 0.15)
