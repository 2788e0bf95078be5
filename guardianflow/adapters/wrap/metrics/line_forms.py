"""The lines that trainings print, as one table: what each looks like, what its groups mean, and an example.

The groups of a pattern mean the same as those of a user's own (``--metric``), and a few more:

=================  ==================================================================================================
group              meaning
=================  ==================================================================================================
``epoch`` ``step``  where the figures stand
``count`` ``total``  a counter that begins anew with each epoch, and what it runs to
``phase``          whose counter it is: ``train``, ``val`` …
``name`` ``value``  a figure and its name
``record``         JSON, or a dict as Python prints it
``header``         column names of a table whose rows follow
any other          a part of the name where :attr:`LineForm.named` says so, else a metric of that name
=================  ==================================================================================================

The rows are tried in their order, each as often as it matches. What one has taken is gone for those below.
Nothing may depend on which digits stand in a line, only on where they stand: what was found once is kept for all
lines that differ in their digits alone. A row is added here with its example; a test reads each.
"""

# ruff: noqa: E501 - what trainings print is wide
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from guardianflow.adapters.wrap.metrics.line_names import FIGURE_WORD, NAME

__all__ = ["LINE_FORMS", "OPENING", "PLACES", "LineForm"]

_NUMBER = r"(?>[-+]?(?:\d+(?:,\d+|\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|NaN|NAN|(?:inf|Inf|INF)(?:inity)?)(?!\w))"
# Right after a figure: a unit, a share (3/10), a time (12:34), a list or thousands (1,234,567), a range, a bar.
_END = r"(?![\w/\\@°×±]|[:,][-+.]?\d|[.:\-]\w|%[ \t]*[|━╸╺─])"
_VALUE = rf"(?P<value>{_NUMBER}){_END}"
_OF = r"[ \t]*(?:/|of)[ \t]*(?P<total>\d++)"
_COUNT = r"(?>\d+(?:\.\d+)?)"
_MARK = r"[\"']?[ \t]*[:=#]?[ \t]*[\[(]?[ \t]*"
_AFTER = r"(?![\w%]|\.\w)"
_PHASE = r"(?P<phase>train(?:ing)?|val(?:id(?:ation)?)?|eval(?:uation)?|test(?:ing)?)"
_NOT_A_PLACE = r"(?<!per )(?<!best )(?<!num )(?<!max )(?<!total )(?<!last )"

_COCO = {"0.50:0.95": "", "0.50": "50", "0.75": "75", "all": "", "small": "s", "medium": "m", "large": "l"}

PLACES = ("epoch", "step", "count", "total", "phase")
"""Groups that say where the figures of a line stand."""

_SOME_NUMBER = rb"(?:[-+.0-9]|[nN][aA][nN]|[iI][nN][fF]|(?:torch\.)?tensor\(|(?:np|numpy|jnp)\.|[Aa]rray\()"
_COUNTED = _MARK.encode() + b"[0-9]"
_COLUMNS = rb"(?:[ \t]{2,}|\t|[ \t]*\|)[ \t]*[A-Za-z(]"
_EITHER = b"(?:%b|%b)" % (_COUNTED, _COLUMNS)

OPENING = re.compile(
    b"|".join([
        rb":(?:[ \t]+%b|(?<![\s\[T][0-9][0-9]:)(?<!:[0-9][0-9]:)%b|(?<=wandb:))" % (_SOME_NUMBER, _SOME_NUMBER),
        rb"=[ \t]*" + _SOME_NUMBER,
        rb"\{[ \t]*[\"']",
        rb"\((?<=[0-9 \t][ \t]\()[ \t]*[-+.0-9]",
        rb"\|[ \t]*(?:[A-Za-z][^|\n]*\||[-+.0-9nNiI])",
        *[sign.encode() + rb"[ \t]*[-+.0-9nNiI]" for sign in "│┃"],
        b"p(?:oche?%b|och%b|(?<=tep)%b)" % (_COUNTED, _COLUMNS, _EITHER),
        b"P(?:OCHE?%b|OCH%b|(?<=TEP)%b)" % (_COUNTED, _COLUMNS, _EITHER),
        b"ter(?:ation)?" + _EITHER,
        b"TER(?:ATION)?" + _EITHER,
        *[word + _COUNTED for word in (b"batch", b"B(?:atch|ATCH)")],
        *[word + _COLUMNS for word in (b"lass", b"LASS", b"und(?<=ound)", b"UND(?<=OUND)")],
        b"IDF1", b"HOTA", b"MOTA", b"y(?<=accuracy)        ", b"vg(?<=macro avg)", b"@(?<=cc@)",
    ])
)  # fmt: skip
"""What stands in the lines that are worth looking at; a row for other lines adds what they have. Each alternative begins
with a plain sign, the rarer the better: a search passes over all else fast."""


@dataclass(eq=False)
class LineForm:
    """One kind of line, or of what stands in a line."""

    name: str  # who prints it
    pattern: str  # a regex; see the module for its groups
    example: str  # lines of this kind, with invented figures
    figures: tuple[tuple[str, float, int | None], ...]  # what they give: name, value, step
    named: str = "{name}"  # the name of `value`, made of the groups
    words: Mapping[str, str] = field(default_factory=dict)  # what the groups' texts become in it
    counted: bool = False  # only in lines that tell an epoch or a step
    whole: bool = False  # nothing else in such a line is a figure

    def __post_init__(self) -> None:
        self.regex = re.compile(self.pattern)
        self.parts = re.findall(r"\{(\w+)\}", self.named)  # the groups that the name of `value` is made of
        known = {*PLACES, *self.parts, "name", "record", "header", "blank", "sign", "gap"}
        # `value`, and the groups that are metrics of their own name
        self.metrics = [group for group in self.regex.groupindex if group not in known]


LINE_FORMS: tuple[LineForm, ...] = (
    LineForm("pycocotools' precision",
        rf"Average Precision *\(AP\) *@\[ *IoU=(?P<iou>[\d.:]+) *\| *area= *(?P<area>\w+) *\| *maxDets= *\d+ *\] *= *(?:(?!-){_VALUE}|-.*)",
        " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.412\n"
        " Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 0.433\n"
        " Average Precision  (AP) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = -1.000\n",
        (("AP", 0.412, None), ("AP75", 0.433, None)),
        named="AP{iou}{area}", words=_COCO, whole=True),
    LineForm("pycocotools' recall",
        rf"Average Recall *\(AR\) *@\[ *IoU=[\d.:]+ *\| *area= *(?P<area>\w+) *\| *maxDets= *(?P<dets>\d+) *\] *= *(?:(?!-){_VALUE}|-.*)",
        " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets= 10 ] = 0.501\n"
        " Average Recall     (AR) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = 0.701\n",
        (("AR10", 0.501, None), ("AR100l", 0.701, None)),
        named="AR{dets}{area}", words=_COCO, whole=True),
    LineForm("Darknet",
        rf"^[ \t]*(?P<step>\d+): (?P<loss>{_NUMBER}), (?P<avg_loss>{_NUMBER})(?: avg(?: loss)?), (?P<rate>{_NUMBER}) rate,.*",
        " 120: 3.251000, 4.102500 avg loss, 0.001000 rate, 2.511000 seconds, 7680 images, 1.200000 hours left\n",
        (("loss", 3.251, 120), ("avg_loss", 4.1025, 120), ("rate", 0.001, 120)), whole=True),
    LineForm("Optuna",
        rf"Trial (?P<step>\d+) finished with value: {_VALUE}.*",
        "[I 2024-02-03 04:05:06,789] Trial 7 finished with value: 0.72 and parameters: {'lr': 0.01}. Best is trial 3 with value: 0.8.\n",
        (("value", 0.72, 7),),
        named="value", whole=True),
    LineForm("JSON and dicts: Hugging Face, DETR, fairseq, MMEngine",
        r"^(?:[^{]*[\s:|])?(?P<record>\{[ \t]*[\"'].*\})[ \t]*$",
        "{'loss': 0.51, 'learning_rate': 2e-05, 'epoch': 1.0}\n"
        "2024-02-03 04:05:06 | INFO | train | {\"epoch\": 2, \"train_loss\": \"4.25\", \"train_ppl\": \"19.1\"}\n"
        '{"train_loss": 7.5, "test_coco_eval_bbox": [0.3, 0.5, 0.31, -1.0, 0.3, 0.4, 0.2, 0.4, 0.45, -1.0, 0.4, 0.6], "epoch": 3}\n',
        (
            ("loss", 0.51, 1), ("learning_rate", 2e-05, 1), ("train_loss", 4.25, 2), ("train_ppl", 19.1, 2), ("train_loss", 7.5, 3),
            ("test_coco_eval_bbox/AP", 0.3, 3), ("test_coco_eval_bbox/AP50", 0.5, 3), ("test_coco_eval_bbox/AP75", 0.31, 3),
            ("test_coco_eval_bbox/APm", 0.3, 3), ("test_coco_eval_bbox/APl", 0.4, 3), ("test_coco_eval_bbox/AR1", 0.2, 3),
            ("test_coco_eval_bbox/AR10", 0.4, 3), ("test_coco_eval_bbox/AR100", 0.45, 3), ("test_coco_eval_bbox/AR100m", 0.4, 3),
            ("test_coco_eval_bbox/AR100l", 0.6, 3)), whole=True),
    LineForm("tables of epochs: YOLO, fastai, scikit-learn",
        r"^(?P<header>[ \t|]*(?i:epoch|iter|iteration|step|round|class)(?:[ \t]{2,}|\t|[ \t]*\|)[ \t]*[A-Za-z(].*)",
        "      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size\n"
        "        2/9      1.61G      1.411      1.322      1.105         31        640:  50%|#####     | 4/8\n"
        "        2/9      1.61G      1.401      1.302      1.105         31        640: 100%|##########| 8/8\n"
        "                 Class     Images  Instances      Box(P          R      mAP50  mAP50-95): 100%|##########| 1/1\n"
        "                   all         12         70      0.701      0.602      0.651      0.412\n",
        (("box_loss", 1.401, 2), ("cls_loss", 1.302, 2), ("dfl_loss", 1.105, 2), ("P", 0.701, 2), ("R", 0.602, 2), ("mAP50", 0.651, 2), ("mAP50-95", 0.412, 2)), whole=True),
    LineForm("trackers: py-motmetrics, TrackEval",
        r"^(?:[A-Za-z]+: \S+)?(?P<header>[ \t]+(?:IDF1[ \t]+IDP|HOTA[ \t]+DetA|MOTA[ \t]+MOTP|IDF1[ \t]+IDR)[ \t].*)$",
        "          IDF1   IDP   IDR  MOTA\nseq-01   40.0% 41.0% 42.0% 43.0%\nOVERALL  50.1% 51.2% 52.3% 53.4%\n\n"
        "HOTA: sort-pedestrian     HOTA      DetA      AssA\nseq-01                    30.1      31.2      32.3\n"
        "COMBINED                  40.1      41.2      42.3\n",
        (("IDF1", 50.1, None), ("IDP", 51.2, None), ("IDR", 52.3, None), ("MOTA", 53.4, None), ("HOTA", 40.1, None), ("DetA", 41.2, None), ("AssA", 42.3, None)), whole=True),
    LineForm("scikit-learn's report: accuracy",
        rf"^[ ]+accuracy[ ]{{8,}}(?P<accuracy>{_NUMBER})[ ]+\d+$",
        "    accuracy                           0.81       200\n",
        (("accuracy", 0.81, None),), whole=True),
    LineForm("scikit-learn's report: means",
        rf"^[ ]*macro avg[ ]+(?P<macro_precision>{_NUMBER})[ ]+(?P<macro_recall>{_NUMBER})[ ]+(?P<macro_f1>{_NUMBER})[ ]+\d+$",
        "   macro avg       0.71      0.62      0.66       200\n",
        (("macro_precision", 0.71, None), ("macro_recall", 0.62, None), ("macro_f1", 0.66, None)), whole=True),
    LineForm("tables of one row: Detectron2, MMSegmentation",
        r"^(?P<header>[ \t]*\|(?:[ \t]*[A-Za-z][\w@.:()\-]*[ \t]*\|){2,}[ \t]*)$",
        "|   AP   |  AP50  |  APs  |\n|:------:|:------:|:-----:|\n| 40.512 | 61.250 | 22.75 |\n",
        (("AP", 40.512, None), ("AP50", 61.25, None), ("APs", 22.75, None)), whole=True),
    LineForm("rows of a box: Stable-Baselines3, Lightning's tests",
        rf"^[ \t]*[|│┃][ \t]*(?P<name>[^\W\d][\w/.@\- ]{{0,60}}?)[ \t]*[|│┃][ \t]*(?P<value>{_NUMBER})[ \t]*[|│┃][ \t]*$",
        "|    ep_rew_mean   | 21.3     |\n│         test_acc          │    0.9725000262260437     │\n",
        (("ep_rew_mean", 21.3, None), ("test_acc", 0.9725000262260437, None)), whole=True),
    LineForm("Weights & Biases' summary",
        rf"^wandb:[ \t]+(?P<name>[^\W\d][\w/.\-]*)[ \t]+(?P<value>{_NUMBER})[ \t]*$",
        "wandb:   val/loss 0.2381\n",
        (("val/loss", 0.2381, None),), whole=True),
    LineForm("MMEngine and MMDetection: an epoch and its phase",
        rf"Epoch\({_PHASE}\)[ \t]*\[[ \t]*(?P<epoch>\d+)(?:/\d+)?\]\[[ \t]*(?:(?P<count>\d+)/(?P<total>\d+)|\d+)\]",
        "02/03 04:05:06 - mmengine - INFO - Epoch(train)  [2][10/90]  lr: 2.0e-02  eta: 0:09:21  time: 0.31  memory: 2110  loss: 1.25\n"
        "02/03 04:06:06 - mmengine - INFO - Epoch(val) [2][40/40]    coco/bbox_mAP: 0.2110  coco/bbox_mAP_50: 0.4020\n",
        (("lr", 0.02, 100), ("time", 0.31, 100), ("memory", 2110.0, 100), ("loss", 1.25, 100), ("coco/bbox_mAP", 0.211, 2), ("coco/bbox_mAP_50", 0.402, 2))),
    LineForm("MMEngine by iterations",
        rf"Iter\({_PHASE}\)[ \t]*\[[ \t]*(?P<step>\d+)(?:/\d+)?\]",
        "02/03 04:05:06 - mmengine - INFO - Iter(train) [  50/8000]  base_lr: 1.0e-03  eta: 1:02:03  loss: 0.52  decode.acc_seg: 61.5\n",
        (("base_lr", 0.001, 50), ("loss", 0.52, 50), ("decode.acc_seg", 61.5, 50))),
    LineForm("timm, OpenPCDet",
        r"(?<![^\s])Train:[ \t]+(?P<epoch>\d+)(?:/\d+)?[^\[\]]{0,12}\[[ \t]*(?P<count>\d+)/(?P<total>\d+)[^\]]*\]",
        "Train: 1 [  50/500 ( 10%)]  Loss: 4.25 (4.51)  Time: 0.211s,  303.30/s  (0.215s)  LR: 5.0e-04  Data: 0.010 (0.015)\n",
        (("Loss", 4.25, 50), ("LR", 5e-04, 50), ("Data", 0.01, 50))),
    LineForm("tqdm",
        rf"\d{{1,3}}%\|[^|]*\|[ \t]*(?P<count>\d++){_OF}[ \t]*\[",
        "Epoch 2:  50%|#####     | 5/10 [00:01<00:01,  4.9it/s, v_num=3, train_loss=0.62]\r",
        (("train_loss", 0.62, 15),)),
    LineForm("tqdm without a total",
        r"(?:^|(?<=[ :]))(?P<count>\d++)it \[",
        "7it [00:02,  3.4it/s, loss=0.44]\r",
        (("loss", 0.44, 7),)),
    LineForm("bars of Keras and rich",
        rf"(?:^|(?<=[━╸╺\n]))[ \t]*(?P<count>\d++)(?:{_OF}|/Unknown)[ \t]+(?:\[[=>.\- ]*\]|[━╸╺─ ]+|-(?=[ \t])|(?=\d+:))",
        "Epoch 1/3\n 4/20 [=====>........] - ETA: 2s - loss: 0.71 - accuracy: 0.55\r"
        "20/20 ━━━━━━━━━━ 1s 45ms/step - loss: 0.62 - accuracy: 0.61 - val_loss: 0.66\n",
        (("loss", 0.71, 4), ("accuracy", 0.55, 4), ("loss", 0.62, 20), ("accuracy", 0.61, 20), ("val_loss", 0.66, 1))),
    LineForm("an epoch and a counter in brackets: PyTorch's examples, MMDetection, torchvision, Paddle",
        rf"(?i:(?<![\w./\-])epoch){_MARK}(?P<epoch>\d++)(?:/\d+)?\]?[^\w\[]*\[[ \t]*(?P<count>\d++){_OF}[^\]]*\]",
        "Epoch: [1][ 20/100]\tTime  0.211 ( 0.305)\tLoss 5.1e+00 (6.2e+00)\tAcc@1   2.50 (  1.25)\n"
        "Train Epoch: 2 [32/100 (32%)]\tLoss: 0.512\n"
        "[2024/02/03 04:05:06] ppcls INFO: [Train][Epoch 2/20][Iter: 10/80]lr(PiecewiseDecay): 0.025, top1: 0.31\n",
        (("Time", 0.211, 20), ("Loss", 5.1, 20), ("Acc_1", 2.5, 20), ("Loss", 0.512, 132), ("lr_PiecewiseDecay", 0.025, 90), ("top1", 0.31, 90))),
    LineForm("fairseq",
        r"epoch (?P<epoch>\d+):[ \t]+(?P<count>\d+) / (?P<total>\d+)(?= )",
        "2024-02-03 04:05:06 | INFO | train_inner | epoch 002:     10 / 100 loss=7.31, ppl=158.7, wps=11042.5, lr=2e-05\n",
        (("loss", 7.31, 110), ("ppl", 158.7, 110), ("wps", 11042.5, 110), ("lr", 2e-05, 110))),
    LineForm("a count of batches",
        rf"(?i:(?<![\w.\-])batch){_MARK}(?P<count>\d++){_OF}",
        "Epoch 2, batch 3/10, loss: 0.41\n",
        (("loss", 0.41, 13),)),
    LineForm("an epoch",
        rf"(?i:(?<![\w./\-]){_NOT_A_PLACE}epoche?){_MARK}(?P<epoch>{_COUNT}){_AFTER}(?:/\d++)?\]?",
        "Epoch 4/10 - loss: 0.51 - val_acc: 0.82\n",
        (("loss", 0.51, 4), ("val_acc", 0.82, 4))),
    LineForm("a step",
        rf"(?i:(?<![\w.\-])(?:{_PHASE}[ _])?{_NOT_A_PLACE}(?<!s/)(?:trainer/)?(?:global[_ ])?(?:step|iter(?:ation)?)){_MARK}(?P<step>{_COUNT}){_AFTER}(?:{_OF})?\]?",
        "epoch: 1 step 50 loss: 1\nepoch: 1 step 100 loss: .9\nepoch: 1 val step 10 val_loss: .8\nepoch: 2 step 50 loss: .7\n",
        (("loss", 1.0, 50), ("loss", 0.9, 100), ("val_loss", 0.8, 10), ("loss", 0.7, 150))),
    LineForm("a step in brackets: XGBoost, LightGBM",
        r"^[ \t]*\[(?P<step>\d++)\](?=\s)",
        "[12]\ttrain-rmse:0.51\ttest-rmse:0.62\n",
        (("train-rmse", 0.51, 12), ("test-rmse", 0.62, 12))),
    LineForm("clu, Flax",
        r"^\S.*\.py:\d+\] \[(?P<step>\d++)\](?=\s)",
        "I0203 04:05:06.000000 140 logging_writer.py:48] [300] accuracy=0.41, loss=1.72\n",
        (("accuracy", 0.41, 300), ("loss", 1.72, 300))),
    LineForm("CatBoost",
        r"^[ \t]*(?P<step>\d++):(?=\t)",
        "13:\tlearn: 0.41\ttest: 0.52\tbest: 0.52 (13)\ttotal: 1.2s\tremaining: 3s\n",
        (("learn", 0.41, 13), ("test", 0.52, 13), ("best", 0.52, 13))),
    LineForm("a dump of settings, which are no figures",
        r"^.*[=:] ?(?:True|False|None|true|false|null)\b.*[=:] ?(?:True|False|None|true|false|null)\b.*$",
        "trainer: amp=True, cache=None, lr0=0.01, momentum=0.9\n",
        (), whole=True),
    LineForm("an address", r"(?<!\w)\w++://\S*", "see file:///runs?x=1;loss=0.5\n", ()),
    LineForm("name: value, name=value",
        rf"(?P<name>{NAME})[\"'\]]?(?P<blank>[ \t]*)(?P<sign>[:=])(?P<gap>[ \t]*)(?:(?:torch\.)?tensor\(|(?:np|numpy)\.float\d\d\(|(?:jnp\.)?[Aa]rray\()?{_VALUE}",
        "mAP@0.5: 0.51 mAP@0.5:0.95: 0.21 acc[cls=1]: 0.7 loss: 0,345\n",
        (("mAP_0.5", 0.51, None), ("mAP_0.5_0.95", 0.21, None), ("acc_cls_1", 0.7, None), ("loss", 0.345, None))),
    LineForm("a figure and its mean: AverageMeter",
        rf"(?<![\w/.@\-])(?P<name>[^\W\d][\w/.@\-]*+)[ \t]++{_VALUE}[ \t]*\([ \t]*{_NUMBER}[ \t]*\)",
        "Test: [ 10/100]\tLoss 1.25e+00 (1.31e+00)\tAcc@1  71.20 ( 70.10)\n",
        (("Loss", 1.25, None), ("Acc_1", 71.2, None))),
    LineForm("accuracies behind a star or a colon: PyTorch's examples, torchvision",
        rf"(?<![\w@])(?P<name>[Aa]cc@\d+)[ \t]+{_VALUE}",
        " *   Acc@1 71.250 Acc@5 90.500\n",
        (("Acc_1", 71.25, None), ("Acc_5", 90.5, None))),
    LineForm("a figure without a sign, beside its epoch or step: nanoGPT",
        rf"(?<![\w@.\-/])(?P<name>(?:(?i:train|val|valid|test|eval|avg) )?[^\W\d]{{0,30}}(?i:{FIGURE_WORD})\w{{0,30}}+)[ \t]+"
        rf"(?P<value>[-+]?\d+\.\d+(?:[eE][-+]?\d+)?){_END}",
        "step 250: train loss 1.9512, val loss 2.0113\n",
        (("train loss", 1.9512, 250), ("val loss", 2.0113, 250)), counted=True),
)  # fmt: skip
