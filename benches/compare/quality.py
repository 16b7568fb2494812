"""Part 2: how good the recommendations are, bdr and implicit tuned on grids of the same size, MLlib at the talk's settings."""

import gzip
import itertools
import shutil
import statistics
from argparse import Namespace
from pathlib import Path

import numpy

import dataset
import holdout
import implementations
from objective import objective

TALK = {"rank": 10, "alpha": 0.01, "regularization": 0.01}
CHOSEN_BY = {"ndcg": "NDCG", "hit_rate": "hit rate", "ndcg_unseen": "unseen: NDCG"}
SOLVERS = ("cg", "cholesky")
FIGURES = ("ndcg", "hit_rate", "ndcg_unseen", "hit_rate_unseen")


def run(options: Namespace) -> dict:
    directory = options.work_dir / "quality"
    directory.mkdir(parents=True, exist_ok=True)
    if options.file.suffix == ".gz":
        options.file = unpacked(options.file, directory)
    data = holdout.split(options.file, options.purchase_weight)
    users, products = data.ratings.shape
    hidden = len(data.hidden_users)
    print(f"{data.ratings.nnz:,} interests of {users:,} users in {products:,} products, {hidden:,} hidden", flush=True)
    popular = check_same_rules(data, options)
    tables = {"bdr": tune_bdr(options), "implicit": tune_implicit(data, directory, options)}
    for name, rows in tables.items():
        print_grid(name, rows)
    best = find_best(data, directory, tables, options)
    print_best(best, popular)
    result = {"popular": popular, "grids": tables, "best": best}
    if "mllib" not in options.skip:
        result["talk_settings"] = compare_with_mllib(data, directory, options)
    return result


def unpacked(file: Path, directory: Path) -> Path:
    """bdr reads plain lines."""
    plain = directory / file.stem
    with gzip.open(file) as source, plain.open("wb") as target:
        shutil.copyfileobj(source, target)
    return plain


def find_best(data: holdout.Holdout, directory: Path, tables: dict, options: Namespace) -> list[dict]:
    """The best points of each by several measures, again from other random numbers; by the first also implicit's other solver."""
    best = []
    for measure, (name, rows) in itertools.product(CHOSEN_BY, tables.items()):
        row = max(rows, key=lambda row: row[measure])
        edges = [key for key in ("rank", "alpha", "lambda") if is_at_edge(key, row, rows)]
        again = other_seeds(row, options)
        entry = {"by": measure, "at_edge": edges, "found": row}
        if name == "bdr":
            best.append(entry | {"implementation": name, "other_seeds": tune_bdr(options, again)})
            continue
        # The exact solver takes long at a high rank.
        for solver in SOLVERS if measure == "ndcg" else [options.implicit_solver]:
            others = tune_implicit(data, directory, options, again, solver)
            best.append(entry | {"implementation": f"{name} {solver}", "other_seeds": others})
    return best


def is_at_edge(key: str, row: dict, rows: list[dict]) -> bool:
    """Whether a wider grid could have found better."""
    tried = {row[key] for row in rows}
    return len(tried) > 1 and row[key] in (min(tried), max(tried))


def check_same_rules(data: holdout.Holdout, options: Namespace) -> dict:
    """The popular products need no training: if their figures are bdr's to the last digit, both hide and rank alike."""
    report = run_bdr({"rank": 1, "alpha": 1.0, "lambda": 1.0, "seed": 1}, options, iterations=1)["report"]
    own = (*data.ratings.shape, data.ratings.nnz, len(data.hidden_users))
    theirs = (report["users"], report["products"], report["interests"], report["holdout"]["users"])
    popular = data.judge_popular()
    differences = [abs(popular[name] - value) for name, value in bdr_figures(report, "popular").items()]
    if own != theirs or max(differences) > 1e-9:
        raise SystemExit(
            f"bdr hides or ranks by other rules: {own}, {popular} here; {theirs}, {report['holdout']} there"
        )
    return popular


def bdr_figures(report: dict, model: str) -> dict:
    """Those at length 10, the second of bdr's three lengths."""
    seen, unseen = report["holdout"][model], report["holdout"][f"{model}_unseen"]
    return {
        "hit_rate": seen["hit_rate"][1],
        "ndcg": seen["ndcg"][1],
        "hit_rate_unseen": unseen["hit_rate"][1],
        "ndcg_unseen": unseen["ndcg"][1],
    }


def run_bdr(point: dict, options: Namespace, iterations: int) -> dict:
    settings = implementations.bdr_settings(
        point["rank"], iterations, point["alpha"], point["lambda"], options.purchase_weight
    )
    settings |= {"als.seed": point["seed"], "als.threads": options.threads, "events.schema": options.schema}
    report = implementations.bdr(options.bdr, options.file, settings, holdout=True)
    return point | {"seconds": report["seconds"], "report": report} | bdr_figures(report, "als")


def grid(options: Namespace, lambdas: list[float]) -> list[dict]:
    points = itertools.product(options.ranks, options.alphas, lambdas)
    return [{"rank": rank, "alpha": alpha, "lambda": value, "seed": options.seed} for rank, alpha, value in points]


def other_seeds(best: dict, options: Namespace) -> list[dict]:
    """The best point from other first vectors: what it reached when it was chosen was partly luck."""
    point = {name: best[name] for name in ("rank", "alpha", "lambda")}
    return [point | {"seed": options.seed + number} for number in range(1, options.other_seeds + 1)]


def tune_bdr(options: Namespace, points: list[dict] | None = None) -> list[dict]:
    points = grid(options, options.lambdas) if points is None else points
    rows = [run_bdr(point, options, options.iterations) for point in points]
    for row in rows:
        row.pop("report")
    return rows


def tune_implicit(
    data: holdout.Holdout,
    directory: Path,
    options: Namespace,
    points: list[dict] | None = None,
    solver: str | None = None,
) -> list[dict]:
    data.save(directory / "holdout.npz")
    specification = {
        "directory": str(directory),
        "holdout": str(directory / "holdout.npz"),
        "grid": grid(options, options.implicit_lambdas) if points is None else points,
        "iterations": options.iterations,
        "use_cg": (solver or options.implicit_solver) == "cg",
        "threads": options.threads,
    }
    return implementations.start("implicit-quality", specification)


def compare_with_mllib(data: holdout.Holdout, directory: Path, options: Namespace) -> dict:
    """Both lower the same objective, so after 20 iterations from different random numbers the losses should be about the same."""
    write_for_spark(data, directory)
    specification = TALK | {
        "iterations": [options.iterations],
        "repeats": 1,
        "threads": options.threads,
        "seed": options.seed,
        "purchase_weight": options.purchase_weight,
        "spark_memory": options.spark_memory,
        "spark_blocks": options.spark_blocks or options.threads,
        "shape": data.ratings.shape,
        "directory": str(directory),
        "interests": str(directory / "interests.parquet"),
        "factors": str(directory / "mllib.npz"),
    }
    implementations.start("mllib", specification)
    with numpy.load(directory / "mllib.npz") as file:
        users, products = file["users"], file["products"]
    mllib = {"loss": objective(data.ratings, users, products, TALK["alpha"], TALK["regularization"]).scaled}
    # MLlib ends with the users, as bdr does: they are solved against the products that rank.
    mllib |= data.judge(users[data.hidden_users], products)
    point = {"rank": TALK["rank"], "alpha": TALK["alpha"], "lambda": TALK["regularization"]}
    seeds = range(options.seed, options.seed + 1 + options.other_seeds)
    runs = [run_bdr(point | {"seed": seed}, options, options.iterations) for seed in seeds]
    losses = [run["report"]["loss"] for run in runs]
    bdr = {"loss": losses[0], "losses_by_seed": losses} | {name: runs[0][name] for name in FIGURES}
    difference = 100 * (mllib["loss"] / bdr["loss"] - 1)
    spread = 100 * (max(losses) / min(losses) - 1)
    chosen = f"rank {TALK['rank']}, alpha {TALK['alpha']}, lambda {TALK['regularization']}"
    print(f"\nthe talk's settings: {chosen}, {options.iterations} iterations\n")
    print("| implementation | loss per interest | NDCG at 10 | hit rate at 10 | unseen: NDCG | hit rate |")
    print("|---|---|---|---|---|---|")
    for name, row in (("bdr", bdr), ("mllib", mllib)):
        print(f"| {name} | {row['loss']:.6f} | {cells(row)} |")
    print(
        f"\nMLlib's loss differs from bdr's by {difference:+.4f} %; {len(losses)} seeds of bdr by up to {spread:.4f} %"
    )
    return {"bdr": bdr, "mllib": mllib, "loss_difference_percent": difference, "bdr_seed_spread_percent": spread}


def write_for_spark(data: holdout.Holdout, directory: Path) -> None:
    entries = data.ratings.tocoo()
    interests = dataset.Interests(
        users=entries.row.astype(numpy.int64),
        products=entries.col.astype(numpy.int64),
        clicks=numpy.asarray(data.clicks[entries.row, entries.col]).ravel().astype(numpy.int32),
        purchases=numpy.asarray(data.purchases[entries.row, entries.col]).ravel().astype(numpy.int32),
    )
    dataset.write(interests, directory, purchase_weight=0, as_events=False)


def cells(row: dict) -> str:
    return " | ".join(f"{row[name]:.4f}" for name in FIGURES)


def print_grid(name: str, rows: list[dict]) -> None:
    print(f"\n{name}, best first\n")
    print("| rank | alpha | lambda | NDCG at 10 | hit rate at 10 | unseen: NDCG | hit rate | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: -row["ndcg"]):
        print(f"| {row['rank']} | {row['alpha']} | {row['lambda']} | {cells(row)} | {row['seconds']:.2f} |")


def print_best(best: list[dict], popular: dict) -> None:
    """Figures are means over the other seeds: those by which the point was chosen flatter it."""
    print("\nthe best of each grid, from other random numbers: means, and the range of what it was chosen by\n")
    print(
        "| | chosen by | rank | alpha | lambda | NDCG at 10 | hit rate at 10 | unseen: NDCG | hit rate | range "
        "| at the edge of its grid |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for entry in best:
        found, others = entry["found"], entry["other_seeds"] or [entry["found"]]
        means = {name: statistics.mean(row[name] for row in others) for name in FIGURES}
        chosen_by = [row[entry["by"]] for row in others]
        settings = f"{found['rank']} | {found['alpha']} | {found['lambda']}"
        spread = f"{min(chosen_by):.4f} to {max(chosen_by):.4f}"
        by, edges = CHOSEN_BY[entry["by"]], ", ".join(entry["at_edge"])
        print(f"| {entry['implementation']} | {by} | {settings} | {cells(means)} | {spread} | {edges} |")
    print(f"| most popular products | | | | | {cells(popular)} | | |")
