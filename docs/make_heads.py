"""Write heads.md, the page on what the heads of models are the likelihood of: `python docs/make_heads.py`."""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from pathlib import Path

import transformers

from hf_scorevi import heads

PAGE = Path(__file__).parent / "heads.md"
WIDTH = 119
# The groups of classes, each with its title and what its likelihood is.
GROUPS = {
    "sequence": (
        "Sequences, images and videos",
        """
        | `num_labels`, `problem_type` in the model's config | task | a term | likelihood |
        |---|---|---|---|
        | two or more, `None` or `"single_label_classification"` | `classes` | an example | categorical |
        | 1 and `None`, or `"regression"` | `numbers` | each number of an example | Gaussian, its variance learned |
        | `"multi_label_classification"` | `labels` | each yes or no of an example | Bernoulli |

        An example whose class is −100 is left out.
        """,
    ),
    "audio": (
        "Audio",
        """
        Task `classes`: a term is an example, categorical whatever `problem_type` says. An example whose class is −100
        is left out.
        """,
    ),
    "choice": (
        "Multiple choice and next sentence",
        """
        Task `classes`: a term is an example, and categorical. An example whose label is −100 is left out.
        """,
    ),
    "token": (
        "Tokens, and masked language models",
        """
        Task `tokens`: a term is a token, and categorical. Left out are tokens whose label is −100{masked}.
        """,
    ),
    "generation": (
        "Text, with or without images or sound",
        """
        Task `tokens`: a term is a token, and categorical. Left out are tokens whose label is −100{masked}. The logits
        of a position are those of the next one's label, and the first token of a row is no term, unless the model has
        an encoder or is {unshifted}.
        """,
    ),
    "span": (
        "Answers in a text",
        """
        Task `spans`: two terms are an example's start and end, both categorical over the positions in the text, of
        which the loss is the mean. An example whose answer lies beyond the text is left out.
        """,
    ),
    "pixel": (
        "Pixels",
        """
        Task `pixels`: a term is a pixel of the labels, to whose size the logits are interpolated, and categorical.
        Left out are pixels whose label is the config's `semantic_loss_ignore_index` (UperNet: `loss_ignore_index`),
        255 unless it says otherwise.
        """,
    ),
    "series": (
        "Time series",
        """
        Task `forecasts`, or `classes` and `numbers` of a whole series: [forecasting.md](forecasting.md) has the terms
        and likelihoods.
        """,
    ),
}
HEAD = """
<!-- Made by `python docs/make_heads.py` from hf_scorevi/heads.py. -->

# Heads

A model's loss has to be the mean of negative log-likelihoods, because the posterior weighs the data against the
prior: a loss of unknown scale would give standard deviations that are wrong by an unknown factor. So the library knows
what the loss of each class is a mean over, and refuses classes of `transformers` that are not on this list. Each of
them is described by its code in transformers {version}; nearly all were built small, too, and their loss compared
with the likelihood of their own logits.

```python
from hf_scorevi.heads import find_head

head = find_head(model)
print(head.task, head.likelihood, head.terms)  # classes categorical 1
```

A subclass counts as the class that it comes from. The loss of a model of your own, none of `transformers`, is taken to
be the mean over the training examples, or over as many terms as `PosteriorConfig(num_data=…)` says.
"""
TAIL = """
## What is refused

The error says what to do. In short:

| refused | because its loss | instead |
|---|---|---|
| `…ForPreTraining` | adds up the losses of several heads | `…ForMaskedLM` |
| `…ForCTC` | sums or averages over sequences of unlike length | Whisper, Speech2Text, or a classifier |
| `…ForMaskedImageModeling`, ViTMAE | is an error of hidden patches, others at each step | `…ForImageClassification` |
| detection, segmentation of instances | weighs matched boxes, masks and classes | `…ForSemanticSegmentation` |
| `…ForDepthEstimation` | has none, or a root over all pixels of a batch | a model of your own with a squared error |
| `CLIPModel` and its like | compares the rows of a batch with one another | `…ForImageClassification` |
| `…ForXVector` | has a margin, so that it is no probability's | `…ForSequenceClassification` |
| TimesFM | adds the losses of quantiles | Koopa, PatchTST, PatchTSMixer and others |
| bodies without a head (`BertModel`) | is none | a class with a head |

These settings of a model's config add to the loss, and are refused until they are changed:

| setting | adds | set it to |
|---|---|---|
{settings}

With `sparse_prediction=True` the logits of ModernBERT are those of the masked tokens alone: set it to `False`, which
leaves the loss as it is. A segmentation with `num_labels=1` divides by pixels that are left out: give it two classes,
background and object.

These classes do what others of their kind do, but their loss has other terms, they compute none from labels, or their
logits are of other positions than their labels:

{others}
"""


def names_of(classes: list[str]) -> str:
    """A list by how the names end: their beginnings, and whole where only one ends so."""
    kinds = defaultdict(list)
    for name in classes:
        start, kind = re.fullmatch(r"(.+?)(For[A-Z]\w*|(?:With)?LMHeadModel|EncoderDecoderModel|)", name).groups()
        kinds[kind].append(start)
    shared = {kind: sorted(starts) for kind, starts in sorted(kinds.items()) if kind and len(starts) > 1}
    alone = sorted(start + kind for kind, starts in kinds.items() if kind not in shared for start in starts)
    lines = [f"- `…{kind}`: {', '.join(starts)}" for kind, starts in shared.items()]
    lines += ["- " + ", ".join(f"`{name}`" for name in alone)] if alone else []
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines)


def masked_of(group: str, known: dict[str, str]) -> str:
    """The classes whose loss leaves out more."""
    masks = defaultdict(list)
    for name, mask in heads._MASKED.items():
        if known[name] == group:
            masks[mask].append(f"`{name}`")
    return "".join(
        f"; of {', '.join(names)} also those where `{mask}` is zero" for mask, names in sorted(masks.items())
    )


def page() -> str:
    known = heads.supported_heads()
    parts = [HEAD.format(version=transformers.__version__).strip()]
    unshifted = ", ".join(f"`{name}`" for name in sorted(heads._UNSHIFTED))
    for group, (title, text) in GROUPS.items():
        text = textwrap.dedent(text).strip().format(masked=masked_of(group, known), unshifted=unshifted)
        filled = [p if p.startswith("|") else textwrap.fill(" ".join(p.split()), WIDTH) for p in text.split("\n\n")]
        classes = [name for name, own in known.items() if own == group]
        parts += [f"## {title}", *filled, names_of(classes)]
    settings = [
        f"| `{setting}` | {penalty} | `{'0.0' if 'coefficient' in setting else 'False'}` |"
        for penalties in heads._PENALTIES.values()
        for setting, penalty in penalties.items()
    ]
    others = textwrap.fill(", ".join(f"`{name}`" for name in sorted(heads._OTHER_LOSSES)) + ".", WIDTH)
    parts.append(TAIL.format(settings="\n".join(settings), others=others).strip())
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
