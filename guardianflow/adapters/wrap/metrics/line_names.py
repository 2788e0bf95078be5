"""Which words name a metric, and what it is called in the tracking."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

from guardianflow.core.metrics import legal_metric_name

__all__ = ["FIGURE_WORD", "NAME", "is_figure_word", "kept_name", "metric_word", "pair_name"]

FIGURE_WORD = (
    r"loss|acc|err|map|(?<![a-z])ap|iou|f1|auc|recall|prec|rmse|mae|mse|dice|psnr|ssim|fid|bleu|rouge|ppl|perplex|"
    r"(?<![a-z])lr|reward|return|score|grad|norm|손실|정확도"
)
"""A tight ``name:3`` is a place (``redis:6379``) rather than a figure, unless the name holds one of these."""

# Numbers belong to a name behind `@` (mAP@0.5:0.95), letters in brackets do, too (acc[cls=1]).
_SIGNS = r"(?:[\w./+\-']++|@\[?[.\d]++:[.\d]++\]?|@|\[[^\W\d][\w .=:@\-]{0,30}\])*+"
_WORD = rf"(?:[^\W\d_]{_SIGNS}|_[\w./@+\-']{_SIGNS})"
NAME = rf"(?<![\w/\\~.@$%&?#]){_WORD}(?: {_WORD}){{0,5}}+(?: ?\([\w %/.@:\-]{{1,24}}\))?"
"""Up to six words that may name a figure."""

_STEP_WORDS = re.compile(
    r"epoch|epochs|step|steps|iter|iters|iteration|iterations|global_step|global_steps|_step|batch_idx|"
    r"max_epochs|num_epochs|total_epochs|n_epochs|max_steps|num_steps|total_steps|max_iter|max_iters|"
    r"num_train_epochs|warmup_steps",
    re.IGNORECASE,
).fullmatch
# What stands before a figure and is none: places, moments, identities, settings of the program.
_NO_METRICS = re.compile(
    r"eta|line|pid|port|version|v_num|seed|random_state|rank|local_rank|world_size|errno|char|column|col|host|"
    r"localhost|cuda|device|http|https|file|imgsz|img_size|image_size|resolution|maxdets|progress|time_stamp|"
    r"timestamp|_timestamp|ts|created|at|date|batch_size|num_workers|labels_size|instances|fraction|nc|size|"
    r"summary|conf_thresh|iou_thresh",
    re.IGNORECASE,
).fullmatch
_QUALIFIERS = re.compile(
    r"train|training|val|valid|validation|test|testing|eval|evaluation|best|avg|average|mean|total|final|"
    r"running|dev|learning|epoch|batch|top|box|cls",
    re.IGNORECASE,
).fullmatch
_LEVELS = re.compile(r"INFO|DEBUG|WARNING|WARN|ERROR|CRITICAL|FATAL|TRACE|NOTE|NOTICE|SUCCESS").fullmatch
_FILLERS = re.compile(r"for|with|at|of|the|and").fullmatch
_FILE = re.compile(
    r"\.(py|pyx|ipynb|txt|csv|tsv|json|jsonl|ya?ml|toml|ini|cfg|conf|log|md|html?|xml|pth?|onnx|ckpt|bin|h5|pkl|npz?|"
    r"safetensors|engine|tflite|jpe?g|png|bmp|gif|mp4|avi|zip|gz|tar|cc?|cpp|cu|hh?|hpp|so|sh|java|go|rs|js|ts)$",
    re.IGNORECASE,
)
_ERROR_CLASS = re.compile(r"[a-z](Error|Warning|Exception)$")
_LONGEST = 100
is_figure_word = re.compile(FIGURE_WORD, re.IGNORECASE).search


@lru_cache(maxsize=4_096)
def metric_word(name: str) -> bool:
    """Whether a name may be a metric's: it holds a letter and names no place, moment, setting or count of steps."""
    if not any(sign.isalpha() for sign in name) or len(name) > _LONGEST or _STEP_WORDS(re.split(r"[./ ]", name)[-1]):
        return False
    last = name.rsplit(" ", 1)[-1]
    if _NO_METRICS(name) or _NO_METRICS(last) or _LEVELS(last) or " summary" in name:
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


@lru_cache(maxsize=4_096)
def pair_name(written: str, mark: str, whole: bool) -> str:
    """The kept name of a figure behind ``:`` or ``=``; empty where none is named.

    ``mark`` is the sign with the blanks around it; ``whole``: the figure has no point and no exponent.
    """
    name = _words(written.strip(" '"), all_of_them=mark[0] != "=")
    if name is None or not metric_word(name):
        return ""
    is_place = whole and mark.endswith(":") and not is_figure_word(name)  # redis:6379
    return "" if is_place else kept_name(name)


def _words(name: str, *, all_of_them: bool) -> str | None:
    """Of several words those that name the metric; ``None`` for prose."""
    head, bracket, tail = name.partition("(")
    words = head.split()
    while len(words) > 1 and (_LEVELS(words[0]) or _FILLERS(words[0])):
        del words[0]
    if not all_of_them or len(words) > 3:
        while not all(map(_QUALIFIERS, words[:-1])):
            del words[0]
        if all_of_them and not is_figure_word(" ".join(words)):
            return None
    return " ".join(words) + (" " if head.endswith(" ") else "") + bracket + tail
