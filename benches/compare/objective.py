"""The objective of implicit-feedback ALS (Hu, Koren, Volinsky 2008, equation 3), from factors: one yardstick for all implementations."""

from dataclasses import dataclass

import numpy
import scipy.sparse

CHUNK = 1 << 20


@dataclass
class Objective:
    """Both are divided by the number of interests."""

    # lambda * (sum of n_u |x_u|^2 + sum of n_i |y_i|^2), n a row's or column's number of interests: what bdr and MLlib lower.
    scaled: float
    # lambda * (sum of |x_u|^2 + sum of |y_i|^2): what implicit lowers.
    plain: float


def objective(
    ratings: scipy.sparse.csr_matrix, users: numpy.ndarray, products: numpy.ndarray, alpha: float, regularization: float
) -> Objective:
    """Confidence 1 + alpha * rating, preference 1 where there is a rating; in 64-bit numbers whatever the factors are kept in.

    Pairs without interest are not visited: the sum of all squared scores is the sum of the elements of X'X times those of Y'Y.
    """
    error = float((gram(users) * gram(products)).sum())
    row_of = numpy.repeat(numpy.arange(ratings.shape[0]), numpy.diff(ratings.indptr))
    for start in range(0, ratings.nnz, CHUNK):
        part = slice(start, start + CHUNK)
        left = users[row_of[part]].astype(numpy.float64)
        scores = numpy.einsum("ij,ij->i", left, products[ratings.indices[part]].astype(numpy.float64))
        confidence = 1.0 + alpha * ratings.data[part].astype(numpy.float64)
        error += float((confidence * (1.0 - scores) ** 2 - scores**2).sum())
    user_norms, product_norms = squared_norms(users), squared_norms(products)
    user_counts = numpy.diff(ratings.indptr)
    product_counts = numpy.bincount(ratings.indices, minlength=ratings.shape[1])
    scaled = regularization * float(user_counts @ user_norms + product_counts @ product_norms)
    plain = regularization * float(user_norms.sum() + product_norms.sum())
    return Objective(scaled=(error + scaled) / ratings.nnz, plain=(error + plain) / ratings.nnz)


def gram(factors: numpy.ndarray) -> numpy.ndarray:
    total = numpy.zeros((factors.shape[1],) * 2)
    for start in range(0, len(factors), CHUNK):
        block = factors[start : start + CHUNK].astype(numpy.float64)
        total += block.T @ block
    return total


def squared_norms(factors: numpy.ndarray) -> numpy.ndarray:
    return numpy.einsum("ij,ij->i", factors, factors, dtype=numpy.float64)
