#!/usr/bin/env python3
"""Compares bdr's training with the two implementations people would otherwise use: implicit (C++ under Python) and Spark MLlib.

    compare.py speed    seconds an iteration, loss and memory, all three on the same generated interests
    compare.py quality  hit rate and NDCG of each user's hidden last event, bdr and implicit tuned on grids of the same size;
                        MLlib's loss beside bdr's at the talk's settings

`run.sh` installs what is needed and runs both. `compare.py speed --help` lists the settings; README.md says how it is measured.
"""

import argparse
import json
import os
import sys
from pathlib import Path

# OpenBLAS reads its variables when it is loaded: set for this process as for those it starts, before numpy is imported.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import quality  # noqa: E402
import speed  # noqa: E402


def numbers(kind):
    return lambda text: [kind(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    return text.split(",") if text else []


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    common.add_argument("--bdr", type=Path, required=True, metavar="PATH", help="from cargo build --release")
    common.add_argument("--threads", type=int, default=os.cpu_count(), help="of each implementation")
    skippable = "speed: any of " + ", ".join(speed.NAMES) + "; quality: mllib"
    common.add_argument("--skip", type=names, default=[], metavar="NAMES", help=skippable)
    common.add_argument("--purchase-weight", type=float, default=3, help="what it adds to a rating; a click adds 1")
    common.add_argument("--seed", type=int, default=42, help="of the first vectors")
    common.add_argument("--spark-memory", default="8g", metavar="SIZE", help="heap of the virtual machine")
    common.add_argument("--spark-blocks", type=int, default=0, metavar="N", help="of MLlib's matrix; 0: one a thread")
    common.add_argument("--work-dir", type=Path, default=cache / "bdr-compare" / "work", help="where data is written")
    common.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    add_speed(parts, common)
    add_quality(parts, common)
    options = parser.parse_args()
    options.bdr, options.work_dir = options.bdr.resolve(), options.work_dir.resolve()
    return options


def add_speed(parts, common: argparse.ArgumentParser) -> None:
    part = parts.add_parser("speed", parents=[common], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    part.add_argument("--users", type=int, default=500_000)
    part.add_argument("--products", type=int, default=50_000, help="the k-th is drawn with a probability of about 1/k")
    part.add_argument("--per-user", type=int, default=27, help="draws of products; the same one twice is one interest")
    part.add_argument("--ranks", type=numbers(int), default="10,64")
    part.add_argument(
        "--iterations", type=int, default=5, metavar="K", help="K and 2K are timed; the difference counts"
    )
    part.add_argument("--repeats", type=int, default=3, help="of each timed training; the shortest counts")
    part.add_argument("--mllib-repeats", type=int, default=1, help="the same for MLlib, which takes minutes")
    part.add_argument("--alpha", type=float, default=1.0)
    part.add_argument("--lambda", type=float, default=0.01, dest="regularization")
    part.add_argument(
        "--bdr-input", choices=("parquet", "ndjson"), default="parquet", help="interests, or single events"
    )
    part.set_defaults(run=speed.run)


def add_quality(parts, common: argparse.ArgumentParser) -> None:
    part = parts.add_parser("quality", parents=[common], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    part.add_argument("file", type=Path, metavar="FILE", help="events, one JSON object a line")
    part.add_argument("--schema", choices=("talk", "minimal"), default="minimal", help="which members bdr is to expect")
    part.add_argument("--ranks", type=numbers(int), default="10,32,64,128")
    part.add_argument("--alphas", type=numbers(float), default="0.1,0.3,1,3")
    part.add_argument("--lambdas", type=numbers(float), default="0.01,0.1,0.3,0.5,1", help="bdr's; scaled")
    part.add_argument(
        "--implicit-lambdas", type=numbers(float), default="1,10,30,50,100", help="implicit's; not scaled"
    )
    part.add_argument("--iterations", type=int, default=20)
    part.add_argument("--other-seeds", type=int, default=4, metavar="N", help="how often the best is tried again")
    part.add_argument("--implicit-solver", choices=quality.SOLVERS, default="cg", help="its default, or exact as bdr's")
    part.set_defaults(run=quality.run)


def main() -> None:
    options = parse()
    if options.run is quality.run and len(options.lambdas) != len(options.implicit_lambdas):
        sys.exit("--lambdas and --implicit-lambdas must be equally many, so that both get as many tries")
    result = options.run(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
