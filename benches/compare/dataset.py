"""The generated interests: who touched what how often, the same numbers for every implementation.

`interests.parquet` (user_id, product, clicks, purchases) is read by bdr and Spark, `events.ndjson` by a bdr that is to count for itself,
and `ratings.npz` (compressed sparse rows of clicks + purchase weight * purchases) by implicit and by the loss.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
import scipy.sparse

SEED = 42


@dataclass
class Interests:
    """One entry a distinct (user, product) pair, ascending by user, then product. Users and products are numbered from 0 without gaps."""

    users: numpy.ndarray
    products: numpy.ndarray
    clicks: numpy.ndarray
    purchases: numpy.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def shape(self) -> tuple[int, int]:
        return int(self.users.max()) + 1, int(self.products.max()) + 1

    def ratings(self, purchase_weight: float) -> scipy.sparse.csr_matrix:
        values = (self.clicks + purchase_weight * self.purchases).astype(numpy.float32)
        return scipy.sparse.csr_matrix((values, (self.users, self.products)), shape=self.shape())

    def first(self, count: int) -> "Interests":
        kept = Interests(self.users[:count], self.products[:count], self.clicks[:count], self.purchases[:count])
        kept.products = without_gaps(kept.products)
        return kept


def without_gaps(numbers: numpy.ndarray) -> numpy.ndarray:
    """The same numbers' places in their sorted order, so that nobody keeps vectors for products without interests."""
    return numpy.unique(numbers, return_inverse=True)[1]


def generate(users: int, products: int, per_user: int) -> Interests:
    """Each user draws `per_user` products, the k-th of them with a probability of about 1/(k+1): a few are popular, most are rare."""
    random = numpy.random.default_rng(SEED)
    drawn = numpy.floor(float(products) ** random.random(users * per_user)).astype(numpy.int64) - 1
    # A popular product's number must not tell that it is popular.
    drawn = random.permutation(products)[drawn]
    pairs = numpy.unique(numpy.repeat(numpy.arange(users, dtype=numpy.int64), per_user) * products + drawn)
    return Interests(
        users=pairs // products,
        products=without_gaps(pairs % products),
        clicks=random.integers(1, 5, len(pairs), dtype=numpy.int32),
        purchases=(random.random(len(pairs)) < 1 / 8).astype(numpy.int32),
    )


def write(interests: Interests, directory: Path, purchase_weight: float, as_events: bool) -> None:
    """Writes the files that the implementations read."""
    directory.mkdir(parents=True, exist_ok=True)
    columns = {
        "user_id": interests.users,
        "product": interests.products,
        "clicks": interests.clicks,
        "purchases": interests.purchases,
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), directory / "interests.parquet", compression="NONE")
    scipy.sparse.save_npz(directory / "ratings.npz", interests.ratings(purchase_weight), compressed=False)
    if as_events:
        write_events(interests, directory / "events.ndjson")


def write_events(interests: Interests, path: Path) -> None:
    """One line a click or purchase, in the minimal schema."""
    columns = (interests.users, interests.products, interests.clicks, interests.purchases)
    with path.open("w") as file:
        for user, product, clicks, purchases in zip(*(column.tolist() for column in columns), strict=True):
            begin = f'{{"user_id":{user},"product":{product},"is_purchase":'
            file.write(f"{begin}0}}\n" * clicks + f"{begin}1}}\n" * purchases)
