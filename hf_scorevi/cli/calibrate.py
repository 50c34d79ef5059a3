"""`hf-scorevi calibrate`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from .checkpoints import add_checkpoint, add_data, add_draws, enough_memory, load, place
from .options import command

__all__ = ["add_calibrate"]


def add_calibrate(commands: Any) -> None:
    parser = command(
        commands,
        _calibrate,
        "calibrate",
        "REPO --dataset DATA",
        "fit a checkpoint's temperature to held-out data",
        "Fit a temperature of the predictive of a classifier of images, texts or recordings, or a factor for the "
        "posterior's standard deviations, to the negative log-likelihood of data that neither train nor test it. It "
        "goes into "
        "calibration.json, in the folder or in one commit on the Hub, is applied whenever the model is loaded, and "
        "replaces earlier figures, which were of another predictive.",
    )
    add_checkpoint(parser)
    add_data(parser, split="validation")
    how = parser.add_argument_group("how to fit")
    how.add_argument("--posterior-scale", action="store_true", help="fit the factor too; ten times as many passes")
    how.add_argument("--no-temperature", action="store_true", help="fit the factor alone")
    add_draws(how)
    parser.add_argument("--create-pr", action="store_true", help="by a pull request on the Hub")


def _calibrate(options: argparse.Namespace) -> None:
    is_local = Path(options.name).is_dir()
    if options.create_pr and is_local:
        options.parser.error("--create-pr is for a repository on the Hub")
    if options.no_temperature and not options.posterior_scale:
        options.parser.error("--no-temperature leaves nothing to fit: add --posterior-scale")

    import torch

    from ..hub import fetch_checkpoint, push_figures, write_card, write_evaluations

    folder = fetch_checkpoint(options.name, **place(options))
    loaded = load(options, folder, ("classes",))
    model = loaded.model
    if not options.use_cpu and torch.cuda.is_available():
        model.to("cuda")
    with enough_memory():
        found = model.calibrate(
            loaded.data,
            temperature=not options.no_temperature,
            posterior_scale=options.posterior_scale,
            num_samples=options.num_samples,
            seed=options.seed,
            batch_size=options.batch_size,
            processing_class=loaded.part,
        )
    found = replace(found, **(loaded.described or {}))  # type: ignore[arg-type]
    print(f"temperature {found.temperature:.4f}, posterior standard deviations times {found.posterior_scale:.4f}")
    print(f"NLL of {found.num_examples:,} examples: {found.nll_before:.4f} before, {found.nll_after:.4f} after")
    if is_local:
        write_evaluations(folder, [], found)
        print(write_card(folder))
    else:
        commit = push_figures(folder, found, options.name, create_pr=options.create_pr, **place(options))
        print(commit.pr_url or commit.commit_url)
