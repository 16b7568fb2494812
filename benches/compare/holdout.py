"""Each user's last event hidden, by the rules of `bdr train --holdout`, so that the figures can stand beside each other.

The last event is the one with the latest date_time, of equal ones the later line; a user with one event keeps it. All products of the
remaining events are ranked, equal scores by smaller id. A hidden product that nobody else has is a miss.
"""

import datetime
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy
import scipy.sparse

LENGTH = 10
# bdr judges every n-th user where there are more than this.
MOST_JUDGED = 50_000
SCORES_AT_A_TIME = 8_000_000
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
INTEGER = re.compile("0|-?[1-9][0-9]*")


@dataclass
class Holdout:
    """What to train on, and what to judge by. Products are numbered by ascending id."""

    clicks: scipy.sparse.csr_matrix
    purchases: scipy.sparse.csr_matrix
    # clicks + purchase weight * purchases
    ratings: scipy.sparse.csr_matrix
    hidden_users: numpy.ndarray
    # -1 where only hidden events have the product
    hidden_products: numpy.ndarray

    def save(self, path: Path) -> None:
        """For a process that judges; it needs no more than the ratings."""
        matrix = {name: getattr(self.ratings, name) for name in ("data", "indices", "indptr", "shape")}
        numpy.savez(path, hidden_users=self.hidden_users, hidden_products=self.hidden_products, **matrix)

    @classmethod
    def load(cls, path: Path) -> "Holdout":
        with numpy.load(path) as file:
            matrix = (file["data"], file["indices"], file["indptr"])
            ratings = scipy.sparse.csr_matrix(matrix, shape=tuple(file["shape"]))
            return cls(ratings, ratings, ratings, file["hidden_users"], file["hidden_products"])

    def judge(self, users: numpy.ndarray, products: numpy.ndarray) -> dict:
        """Figures of a model; `users` has one row a hidden event."""
        return self.judge_scores(lambda part: users[part] @ products.T)

    def judge_popular(self) -> dict:
        """Figures of the products with the most users, the same for everybody."""
        popularity = numpy.bincount(self.ratings.indices, minlength=self.ratings.shape[1])
        return self.judge_scores(lambda part: numpy.tile(popularity, (part.stop - part.start, 1)))

    def judge_scores(self, scores_of) -> dict:
        """Hit rate and NDCG at 10, with and without the products that the user has."""
        ranks, unseen_ranks = [], []
        step = max(1, SCORES_AT_A_TIME // self.ratings.shape[1])
        for start in range(0, len(self.hidden_users), step):
            part = slice(start, min(start + step, len(self.hidden_users)))
            scores, hidden = scores_of(part), self.hidden_products[part]
            seen = self.ratings[self.hidden_users[part]].toarray() > 0
            row = numpy.arange(len(hidden))
            own = scores[row, hidden][:, None]
            columns = numpy.arange(scores.shape[1])[None, :]
            better = (scores > own) | ((scores == own) & (columns < hidden[:, None]))
            known = hidden >= 0
            ranks.append(numpy.where(known, 1 + better.sum(axis=1), numpy.inf))
            open_to_hit = known & ~seen[row, hidden]
            unseen_ranks.append(numpy.where(open_to_hit, 1 + (better & ~seen).sum(axis=1), numpy.inf))
        hit_rate, ndcg = figures(numpy.concatenate(ranks))
        hit_rate_unseen, ndcg_unseen = figures(numpy.concatenate(unseen_ranks))
        return {
            "hit_rate": hit_rate,
            "ndcg": ndcg,
            "hit_rate_unseen": hit_rate_unseen,
            "ndcg_unseen": ndcg_unseen,
        }


def figures(ranks: numpy.ndarray) -> tuple[float, float]:
    hits = ranks[ranks <= LENGTH]
    return len(hits) / len(ranks), float((1 / numpy.log2(hits + 1)).sum()) / len(ranks)


def split(path: Path, purchase_weight: float) -> Holdout:
    """Reads events, and hides each user's last."""
    users, products, purchases, times = read_events(path)
    count = len(users)
    order = numpy.lexsort((numpy.arange(count), times, users))
    is_last = numpy.append(users[order][1:] != users[order][:-1], True)
    hidden = numpy.zeros(count, dtype=bool)
    hidden[order[is_last]] = True
    hidden &= numpy.bincount(users)[users] > 1
    kept = ~hidden
    # Ids are numbered in ascending order already, and leaving some out keeps the order.
    remaining, kept_products = numpy.unique(products[kept], return_inverse=True)
    shape = (int(users.max()) + 1, len(remaining))

    def count_where(chosen: numpy.ndarray) -> scipy.sparse.csr_matrix:
        return scipy.sparse.csr_matrix((chosen.astype(numpy.float32), (users[kept], kept_products)), shape=shape)

    clicks, bought = count_where(purchases[kept] == 0), count_where(purchases[kept] == 1)
    at = numpy.flatnonzero(hidden)
    at = at[:: max(1, -(-len(at) // MOST_JUDGED))]
    place = numpy.searchsorted(remaining, products[at]).clip(max=len(remaining) - 1)
    hidden_products = numpy.where(remaining[place] == products[at], place, -1)
    return Holdout(clicks, bought, (clicks + purchase_weight * bought).tocsr(), users[at], hidden_products)


def read_events(path: Path) -> tuple[numpy.ndarray, ...]:
    """Users, products (both numbered by ascending id), purchases and times of all events; lines that are none are passed over."""
    users, products, purchases, times = [], [], [], []
    known_times = {}
    with path.open("rb") as file:
        for line in file:
            try:
                event = json.loads(line)
                user, product = identifier(event["user_id"]), identifier(event["product"])
                text = event.get("date_time")
                if text not in known_times:
                    known_times[text] = microseconds(text)
            except (KeyError, TypeError, ValueError):
                continue
            users.append(user)
            products.append(product)
            purchases.append(event.get("is_purchase", 0))
            times.append(known_times[text])
    return numbered(users), numbered(products), numpy.array(purchases), numpy.array(times)


def identifier(value) -> tuple[bool, int, str]:
    """An id as bdr sorts it: integers, and strings that spell one, before other strings."""
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError(value)
    if isinstance(value, int) or (INTEGER.fullmatch(value) and -(2**63) <= int(value) < 2**63):
        return False, int(value), ""
    return True, 0, value


def microseconds(text: str | None) -> int:
    if text is None:
        return 0
    return (datetime.datetime.fromisoformat(text) - EPOCH) // datetime.timedelta(microseconds=1)


def numbered(identifiers: list) -> numpy.ndarray:
    number_of = {name: number for number, name in enumerate(sorted(set(identifiers)))}
    return numpy.array([number_of[name] for name in identifiers])
