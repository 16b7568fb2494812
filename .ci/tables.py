"""Reads exported tables with DuckDB, as their users would: every format says the same, and tables agree with each other."""

import sys
from pathlib import Path

import duckdb

READERS = {"parquet": "read_parquet", "csv": "read_csv", "ndjson": "read_json"}


def check(directory: Path) -> None:
    def ask(table: str, form: str, what: str):
        source = f"{READERS[form]}('{directory / f'{table}.{form}'}')"
        return duckdb.sql(f"select {what} from {source}").fetchall()[0]

    sums = {
        "interests": "count(*), count(distinct user_id), count(distinct product), sum(clicks), sum(purchases)",
        "events": "count(*), count(distinct user_id), count(distinct product), sum(is_purchase), min(date_time::timestamp)::text",
        "factors": "count(*), count(distinct id), round(sum(factor_0), 3)",
        "recommendations": "count(*), count(distinct user_id), sum(position)",
        "also-bought": "count(*), sum(position), sum(together)",
    }
    answers = {}
    for table, what in sums.items():
        found = {form: tuple(map(str, ask(table, form, what))) for form in READERS}
        assert len(set(found.values())) == 1, (table, found)
        answers[table] = found["parquet"]
        print(f"{table}: {answers[table]}")
    events, users, products, purchases = (int(number) for number in answers["events"][:4])
    _, users_too, products_too, clicks, purchases_too = (int(number) for number in answers["interests"])
    assert (users, products, purchases) == (users_too, products_too, purchases_too)
    assert events == clicks + purchases
    assert int(answers["recommendations"][1]) == users


check(Path(sys.argv[1]))
