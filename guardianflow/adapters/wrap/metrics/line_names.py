"""Which words name a metric, and what it is called in the tracking."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

from guardianflow.core.metrics import legal_metric_name

__all__ = ["is_step_word", "kept_name", "metric_word", "name_before"]

_STEP_WORDS = frozenset(
    [
        "epoch",
        "epochs",
        "step",
        "steps",
        "iter",
        "iters",
        "iteration",
        "iterations",
        "global_step",
        "global_steps",
        "_step",
        "batch_idx",
        "max_epochs",
        "num_epochs",
        "total_epochs",
        "n_epochs",
        "max_steps",
        "num_steps",
        "total_steps",
        "max_iter",
        "max_iters",
        "num_train_epochs",
        "warmup_steps",
    ]
)
# What stands before a figure and is none: places, moments, identities, settings of the program.
_NO_METRICS = frozenset(
    [
        "eta",
        "line",
        "pid",
        "port",
        "version",
        "v_num",
        "seed",
        "random_state",
        "rank",
        "local_rank",
        "world_size",
        "errno",
        "char",
        "column",
        "col",
        "host",
        "localhost",
        "cuda",
        "device",
        "http",
        "https",
        "file",
        "imgsz",
        "img_size",
        "image_size",
        "resolution",
        "maxdets",
        "progress",
        "time_stamp",
        "timestamp",
        "_timestamp",
        "ts",
        "created",
        "at",
        "date",
        "batch_size",
        "num_workers",
        "labels_size",
        "instances",
        "fraction",
        "nc",
        "size",
        "summary",
    ]
)
# A tight `name:3` is a place (`redis:6379`) rather than a figure, unless the name holds one of these.
_FIGURE_WORD = re.compile(
    r"loss|acc|err|map|(?<![a-z])ap|iou|f1|auc|recall|prec|rmse|mae|mse|dice|psnr|ssim|fid|bleu|rouge|ppl|perplex|"
    r"(?<![a-z])lr|reward|return|score|grad|norm|손실|정확도",
    re.IGNORECASE,
)
_QUALIFIERS = frozenset(
    [
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "eval",
        "evaluation",
        "best",
        "avg",
        "average",
        "mean",
        "total",
        "final",
        "running",
        "dev",
        "learning",
        "epoch",
        "batch",
        "top",
        "box",
        "cls",
    ]
)
_LEVELS = frozenset(
    ["INFO", "DEBUG", "WARNING", "WARN", "ERROR", "CRITICAL", "FATAL", "TRACE", "NOTE", "NOTICE", "SUCCESS"]
)
_WORD = r"[^\W_'][\w./@+\-']*|_[\w./@+\-']+"
_NAME = re.compile(rf"(?P<name>(?:{_WORD})(?: (?:{_WORD})){{0,5}} ?(?:\([\w %/.\-]{{1,24}}\))?)[\"'\]]?$")
_BAD_BEFORE = frozenset("/\\~.@$%&?#")
_FILE = re.compile(
    r"\.(py|pyx|ipynb|txt|csv|tsv|json|jsonl|ya?ml|toml|ini|cfg|conf|log|md|html?|xml|pth?|onnx|ckpt|bin|h5|pkl|npz?|"
    r"safetensors|engine|tflite|jpe?g|png|bmp|gif|mp4|avi|zip|gz|tar|cc?|cpp|cu|hh?|hpp|so|sh|java|go|rs|js|ts)$",
    re.IGNORECASE,
)
_ERROR_CLASS = re.compile(r"[a-z](Error|Warning|Exception)$")
_LONGEST = 100


@lru_cache(maxsize=4_096)
def is_step_word(name: str) -> bool:
    """Whether a name counts epochs or steps, or says how many there will be, and so is no metric."""
    return name.rsplit(".", 1)[-1].rsplit("/", 1)[-1].rsplit(" ", 1)[-1].lower() in _STEP_WORDS


@lru_cache(maxsize=4_096)
def metric_word(name: str) -> bool:
    """Whether a name may be a metric's: it holds a letter and names no place, moment or setting."""
    if not any(sign.isalpha() for sign in name) or len(name) > _LONGEST or is_step_word(name):
        return False
    last = name.rsplit(" ", 1)[-1]
    if name.lower() in _NO_METRICS or last.lower() in _NO_METRICS or last in _LEVELS or " summary" in name:
        return False
    return not _FILE.search(last) and not _ERROR_CLASS.search(last) and not name.startswith("0x")


@lru_cache(maxsize=4_096)
def kept_name(written: str) -> str:
    """The name in the tracking: always the same one for the same text, different for different letters.

    MLflow's rules and ours know Latin letters only. Where others would be lost, six hexadecimal digits of
    the text's sha256 keep two names apart: ``val_손실`` becomes ``val-9f86d0``.
    """
    legal = legal_metric_name(written)
    if written.isascii() or not any(ord(sign) > 127 and sign.isalnum() for sign in written):
        return legal
    digest = hashlib.sha256(unicodedata.normalize("NFC", written).encode(errors="surrogatepass")).hexdigest()[:6]
    return f"{'metric' if legal == 'unnamed' else legal[:200]}-{digest}"


def name_before(text: str, sign: str, *, tight_before: bool, tight_after: bool) -> tuple[str, bool] | None:
    """The name at the end of what stands before ``:`` or ``=``.

    Args:
        text: The line up to the sign, from the number before.
        sign: ``":"`` or ``"="``.
        tight_before: No blank stands between name and sign.
        tight_after: No blank stands between sign and number.

    Returns:
        The name, and whether only a number with a point, an exponent or the like may be its figure;
        ``None`` where no metric is named.
    """
    found = _NAME.search(text)
    if found is None:
        return None
    before = text[found.start() - 1] if found.start() else ""
    if (
        before in _BAD_BEFORE
        or (before and before in "-'\"" and sign == "=")
        or (before and before in ":<>!=" and sign == "=")
    ):
        return None
    name = _words(found["name"].strip(" '"), all_of_them=not (sign == "=" and tight_before))
    if name is None or not metric_word(name) or "://" in name:
        return None
    return name, sign == ":" and tight_after and not _FIGURE_WORD.search(name)


def _words(name: str, *, all_of_them: bool) -> str | None:
    """Of several words those that name the metric; ``None`` for prose."""
    bracket = name.find("(")
    tail = name[bracket:] if bracket > 0 else ""
    words = (name[:bracket] if bracket > 0 else name).split()
    while len(words) > 1 and words[0] in _LEVELS:
        words = words[1:]
    if all_of_them and len(words) <= 3:
        kept = words
    else:
        first = len(words) - 1
        while first > 0 and words[first - 1].lower() in _QUALIFIERS:
            first -= 1
        kept = words[first:]
        if all_of_them and not _FIGURE_WORD.search(" ".join(kept)):
            return None
    return " ".join(kept) + (f" {tail}" if tail and name[bracket - 1] == " " else tail)
