"""Part 1: seconds an iteration, loss and memory on the same generated interests."""

import platform
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy
import scipy.sparse

import dataset
import implementations
from objective import objective

# The talk: 86 interests, rank 10, 20 iterations.
TALK_INTERESTS = 86
TALK = {"rank": 10, "iterations": 20, "alpha": 0.01, "regularization": 0.01}
# More than this, and the figures of that moment are called into question.
BUSY = 0.05
NAMES = ("bdr", "implicit-cg", "implicit-cholesky", "mllib")


def run(options: Namespace) -> dict:
    chosen = [name for name in NAMES if name not in options.skip]
    interests = dataset.generate(options.users, options.products, options.per_user)
    shape = interests.shape()
    what = f"{len(interests):,} interests of {shape[0]:,} users in {shape[1]:,} products"
    print(f"{what}, {options.threads} threads", flush=True)
    directory = options.work_dir / "speed"
    dataset.write(interests, directory, options.purchase_weight, options.bdr_input == "ndjson")
    rows = []
    counts = [options.iterations, 2 * options.iterations]
    for rank in options.ranks:
        settings = {"rank": rank, "alpha": options.alpha, "regularization": options.regularization}
        for name in chosen:
            busy = busy_before()
            rows.append(measure(name, directory, shape, settings, counts, options) | {"busy_before": busy})
            print(f"done: {name} at rank {rank}", flush=True)
    small = talk_size(chosen, options)
    print_table(rows, options)
    print_talk_size(small)
    return {
        "machine": {"processor": processor(), "threads": options.threads, "python": platform.python_version()},
        "interests": len(interests),
        "users": shape[0],
        "products": shape[1],
        "alpha": options.alpha,
        "lambda": options.regularization,
        "speed": rows,
        "talk_size": small,
    }


def busy_before() -> float:
    """How busy others keep the processor. implicit's threads wait for each other in a loop: they suffer most when one has no core."""

    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    (total, idle), _ = ticks(), time.sleep(1)
    later_total, later_idle = ticks()
    busy = 1 - (later_idle - idle) / max(1, later_total - total)
    if busy > BUSY:
        print(f"warning: something else uses {busy:.0%} of the processor; this is not worth much:", file=sys.stderr)
    return busy


def measure(name: str, directory: Path, shape: tuple, settings: dict, counts: list[int], options: Namespace) -> dict:
    """Times fits with the given numbers of iterations; the loss is that of the last."""
    measured = (measure_bdr if name == "bdr" else measure_python)(name, directory, shape, settings, counts, options)
    seconds = measured["seconds"] = {int(count): value for count, value in measured["seconds"].items()}
    first, last = counts[0], counts[-1]
    if last > first:
        measured["seconds_per_iteration"] = (seconds[last] - seconds[first]) / (last - first)
    return {"implementation": name, "rank": settings["rank"], "iterations": last} | measured


def measure_bdr(
    name: str, directory: Path, shape: tuple, settings: dict, counts: list[int], options: Namespace
) -> dict:
    """bdr times its training itself, without reading the file; its memory is that of the whole process, which reads the file."""
    as_events = options.bdr_input == "ndjson"
    file = directory / ("events.ndjson" if as_events else "interests.parquet")
    seconds, peak, loss = {}, 0, 0.0
    for count in counts:
        chosen = implementations.bdr_settings(
            settings["rank"], count, settings["alpha"], settings["regularization"], options.purchase_weight
        )
        chosen |= {"als.threads": options.threads, "als.seed": options.seed}
        chosen |= {"events.schema": "minimal"} if as_events else {}
        reports = [implementations.bdr(options.bdr, file, chosen) for _ in range(options.repeats)]
        read = (reports[0]["users"], reports[0]["products"])
        if read != shape:
            raise SystemExit(f"bdr read {read} users and products instead of {shape}")
        seconds[count] = min(report["seconds"] for report in reports)
        peak = max(peak, *(report["peak_rss_bytes"] for report in reports))
        loss = reports[0]["loss"]
    return {"seconds": seconds, "peak_bytes": peak, "loss": loss}


def measure_python(
    name: str, directory: Path, shape: tuple, settings: dict, counts: list[int], options: Namespace
) -> dict:
    factors = directory / "factors.npz"
    specification = settings | {
        "iterations": counts,
        "repeats": options.mllib_repeats if name == "mllib" else options.repeats,
        "threads": options.threads,
        "seed": options.seed,
        "use_cg": name == "implicit-cg",
        "purchase_weight": options.purchase_weight,
        "spark_memory": options.spark_memory,
        "spark_blocks": options.spark_blocks or options.threads,
        "shape": shape,
        "directory": str(directory),
        "interests": str(directory / "interests.parquet"),
        "ratings": str(directory / "ratings.npz"),
        "factors": str(factors),
    }
    measured = implementations.start("mllib" if name == "mllib" else "implicit", specification)
    ratings = scipy.sparse.load_npz(directory / "ratings.npz")
    with numpy.load(factors) as file:
        losses = objective(ratings, file["users"], file["products"], settings["alpha"], settings["regularization"])
    return measured | {"loss": losses.scaled, "own_loss": losses.plain if name != "mllib" else losses.scaled}


def talk_size(chosen: list[str], options: Namespace) -> list[dict]:
    """The whole training at the size of the talk."""
    directory = options.work_dir / "talk"
    interests = dataset.generate(users=30, products=20, per_user=6).first(TALK_INTERESTS)
    dataset.write(interests, directory, options.purchase_weight, options.bdr_input == "ndjson")
    settings = {name: value for name, value in TALK.items() if name != "iterations"}
    # So short that something else on the machine would be most of one measurement.
    repeats = {"repeats": max(10, options.repeats), "mllib_repeats": max(5, options.mllib_repeats)}
    options = Namespace(**vars(options) | repeats)
    return [measure(name, directory, interests.shape(), settings, [TALK["iterations"]], options) for name in chosen]


def print_table(rows: list[dict], options: Namespace) -> None:
    settings = f"alpha {options.alpha}, lambda {options.regularization}"
    print(f"\n{settings}; loss per interest after {2 * options.iterations} iterations\n")
    print(
        "| implementation | rank | seconds per iteration | bdr = 1 | loss | loss, own lambda | peak memory (MB) | bdr = 1 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        base = next((other for other in rows if (other["implementation"], other["rank"]) == ("bdr", row["rank"])), None)
        seconds, peak = row["seconds_per_iteration"], row["peak_bytes"]
        times = f"{seconds / base['seconds_per_iteration']:.2f}" if base else ""
        times_memory = f"{peak / base['peak_bytes']:.2f}" if base else ""
        losses = f"{row['loss']:.6f} | {row.get('own_loss', row['loss']):.6f}"
        print(
            f"| {row['implementation']} | {row['rank']} | {seconds:.4f} | {times} | {losses} "
            f"| {peak / 1e6:.0f} | {times_memory} |"
        )


def print_talk_size(rows: list[dict]) -> None:
    settings = f"rank {TALK['rank']}, alpha {TALK['alpha']}, lambda {TALK['regularization']}"
    print(f"\nthe talk's size: {TALK_INTERESTS} interests, {settings}, all {TALK['iterations']} iterations together\n")
    print("| implementation | seconds | bdr = 1 | loss |")
    print("|---|---|---|---|")
    base = next((row["seconds"][TALK["iterations"]] for row in rows if row["implementation"] == "bdr"), None)
    for row in rows:
        seconds = row["seconds"][TALK["iterations"]]
        ratio = f"{seconds / base:.1f}" if base else ""
        print(f"| {row['implementation']} | {seconds:.6f} | {ratio} | {row['loss']:.6f} |")


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
