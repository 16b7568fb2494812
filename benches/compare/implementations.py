"""Runs each implementation in a process of its own, so that its memory is its own.

Called by the comparison as functions; called as a program (`implementations.py NAME SPECIFICATION`) it is such a process, and ends with one
line of JSON.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy


def peak_bytes(process: int | str = "self") -> int:
    """The most memory that a process ever had resident."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def bdr(binary: Path, file: Path, settings: dict, holdout: bool = False) -> dict:
    """One `bdr train`, without the settings that the environment may hold."""
    command = [binary, "train", file, "--json"] + (["--holdout"] if holdout else [])
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BDR__")}
    environment["RUST_LOG"] = "warn"
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"bdr failed: {' '.join(map(str, command))}")
    return json.loads(done.stdout.splitlines()[-1])


def bdr_settings(rank: int, iterations: int, alpha: float, regularization: float, purchase_weight: float) -> dict:
    return {
        "als.rank": rank,
        "als.iterations": iterations,
        "als.alpha": alpha,
        "als.lambda": regularization,
        "als.click_weight": 1,
        "als.purchase_weight": purchase_weight,
    }


def start(name: str, specification: dict) -> dict:
    """Runs one of the Python implementations below in a process of its own."""
    environment = dict(os.environ)
    # What somebody chose for another program's OpenBLAS is not implicit's choice; its threads are implicit's own, as it asks for.
    environment.pop("OPENBLAS_CORETYPE", None)
    environment.pop("OPENBLAS_L2_SIZE", None)
    environment["OPENBLAS_NUM_THREADS"] = "1"
    environment["SPARK_LOCAL_IP"] = "127.0.0.1"
    environment["PYSPARK_PYTHON"] = environment["PYSPARK_DRIVER_PYTHON"] = sys.executable
    command = [sys.executable, __file__, name, json.dumps(specification)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        # Spark says much before and after what matters.
        log = Path(specification["directory"]) / f"{name}.log"
        log.write_text(done.stderr)
        sys.exit(f"{name} failed, see {log}; it ends with:\n{done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def shortest(fit, counts: list[int], repeats: int) -> dict[int, float]:
    """The shortest of `repeats` times of `fit(iterations)` for each number of iterations: what disturbs only ever adds."""
    seconds = {count: float("inf") for count in counts}
    for _ in range(repeats):
        for count in counts:
            started = time.perf_counter()
            fit(count)
            seconds[count] = min(seconds[count], time.perf_counter() - started)
    return seconds


def time_implicit(specification: dict) -> dict:
    """Times fits, and leaves the factors of the last in a file."""
    import implicit.als
    import scipy.sparse

    confidences = scipy.sparse.load_npz(specification["ratings"])
    # implicit takes what is stored as the confidence.
    confidences.data *= specification["alpha"]
    confidences.data += 1
    fitted = []

    def fit(iterations: int) -> None:
        fitted.clear()
        model = implicit.als.AlternatingLeastSquares(
            factors=specification["rank"],
            regularization=specification["regularization"],
            iterations=iterations,
            use_cg=specification["use_cg"],
            num_threads=specification["threads"],
            random_state=specification["seed"],
        )
        model.fit(confidences, show_progress=False)
        fitted.append(model)

    fit(1)
    seconds = shortest(fit, specification["iterations"], specification["repeats"])
    peak = peak_bytes()
    numpy.savez(specification["factors"], users=fitted[0].user_factors, products=fitted[0].item_factors)
    return {"seconds": seconds, "peak_bytes": peak}


def start_spark(specification: dict):
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master(f"local[{specification['threads']}]")
        .config("spark.driver.memory", specification["spark_memory"])
        # Without checkpoints a task's description grows with each iteration, and reading it recurses: 20 overflow the default stack.
        .config("spark.driver.extraJavaOptions", "-Xss256m")
        .config("spark.local.dir", specification["directory"])
        .config("spark.sql.shuffle.partitions", specification["threads"])
        .config("spark.ui.enabled", False)
        .config("spark.ui.showConsoleProgress", False)
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def time_mllib(specification: dict) -> dict:
    """Times fits after a first one that warms the virtual machine up, and leaves the factors of the last in a file."""
    from pyspark.ml.recommendation import ALS

    spark = start_spark(specification)
    rating = f"cast(clicks + {specification['purchase_weight']} * purchases as float) as rating"
    ratings = spark.read.parquet(specification["interests"]).selectExpr(
        "cast(user_id as int) as user", "cast(product as int) as item", rating
    )
    ratings = ratings.repartition(specification["threads"]).cache()
    ratings.count()
    fitted = []

    def fit(iterations: int) -> None:
        fitted.clear()
        # trainImplicit of the RDD interface takes as many blocks as there are cores; ten, this interface's default, are slower on few.
        als = ALS(
            rank=specification["rank"],
            maxIter=iterations,
            regParam=specification["regularization"],
            alpha=specification["alpha"],
            seed=specification["seed"],
            implicitPrefs=True,
            checkpointInterval=-1,
            numUserBlocks=specification["spark_blocks"],
            numItemBlocks=specification["spark_blocks"],
        )
        # fit returns when both sides' factors are computed and kept.
        fitted.append(als.fit(ratings))

    fit(2)
    seconds = shortest(fit, specification["iterations"], specification["repeats"])
    machine = spark._jvm
    peak = peak_bytes(machine.java.lang.ProcessHandle.current().pid())
    blas = linear_algebra(machine)
    save_spark_factors(fitted[0], specification)
    spark.stop()
    return {"seconds": seconds, "peak_bytes": peak, "blas": blas}


def linear_algebra(machine) -> str:
    """Which library MLlib computes with: the system's libblas.so.3 if there is one, else Java."""
    from py4j.protocol import Py4JError

    libraries = machine.dev.ludovic.netlib.blas
    try:
        chosen = libraries.NativeBLAS.getInstance()
    except Py4JError:
        chosen = libraries.JavaBLAS.getInstance()
    return chosen.getClass().getSimpleName()


def save_spark_factors(model, specification: dict) -> None:
    """Spark numbers its factors by id, in parts; one array a side is what the loss is computed from."""
    import pyarrow.parquet

    sides = {}
    for name, frame, rows in (
        ("users", model.userFactors, specification["shape"][0]),
        ("products", model.itemFactors, specification["shape"][1]),
    ):
        part = str(Path(specification["directory"]) / f"spark-{name}")
        frame.write.mode("overwrite").parquet(part)
        table = pyarrow.parquet.read_table(part)
        features = table["features"].combine_chunks().flatten().to_numpy()
        sides[name] = numpy.zeros((rows, specification["rank"]), dtype=numpy.float32)
        sides[name][table["id"].to_numpy()] = features.reshape(-1, specification["rank"])
    numpy.savez(specification["factors"], **sides)


def judge_implicit(specification: dict) -> list[dict]:
    """Trains implicit at every point of a grid, and ranks the hidden products."""
    import implicit.als

    import holdout

    data = holdout.Holdout.load(Path(specification["holdout"]))
    results = []
    for point in specification["grid"]:
        confidences = data.ratings.copy()
        confidences.data = 1 + numpy.float32(point["alpha"]) * confidences.data
        model = implicit.als.AlternatingLeastSquares(
            factors=point["rank"],
            regularization=point["lambda"],
            iterations=specification["iterations"],
            use_cg=specification["use_cg"],
            num_threads=specification["threads"],
            random_state=point["seed"],
        )
        started = time.perf_counter()
        model.fit(confidences, show_progress=False)
        seconds = time.perf_counter() - started
        # implicit ends with the products, so its users' vectors are half an iteration old; solved again they are as fresh as bdr's.
        users = model.recalculate_user(data.hidden_users, confidences[data.hidden_users])
        results.append(point | {"seconds": seconds} | data.judge(users, model.item_factors))
    return results


if __name__ == "__main__":
    chosen = {"implicit": time_implicit, "mllib": time_mllib, "implicit-quality": judge_implicit}[sys.argv[1]]
    print(json.dumps(chosen(json.loads(sys.argv[2]))))
