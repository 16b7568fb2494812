//! Which pairs of products are the best.

use serde::{Deserialize, Serialize};

/// What makes one pair better than another. Equal scores are ordered by the smaller id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// The number of users who had both, as in the talk. Popular products are on every list.
    Count,
    /// How surprising that number is: the log-likelihood ratio of Dunning (1993), as in Apache Mahout's `LogLikelihood`; negative where the two
    /// come together less often than by chance.
    Llr,
    /// That number divided by the geometric mean of how many had the one and how many had the other.
    Cosine,
}

/// How often products come alone, to judge how often they come together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Margins<'a> {
    /// Users with a basket.
    pub(super) users: u64,
    /// Users of each product.
    pub(super) sizes: &'a [u32],
}

impl Score {
    /// The score of `count` users in common of the products `one` and `other`, as a number whose order is that of the scores.
    #[inline]
    pub(super) fn key(self, margins: Margins<'_>, one: u32, other: u32, count: u32) -> u32 {
        let size = |product: u32| u64::from(margins.sizes[product as usize]);
        match self {
            Self::Count => count,
            Self::Llr => ordered(llr(u64::from(count), size(one), size(other), margins.users) as f32),
            Self::Cosine => {
                let product = (size(one) as f64) * (size(other) as f64);
                ordered((f64::from(count) / product.sqrt()) as f32)
            }
        }
    }
}

/// A number that is larger the larger `value` is; `value` must not be NaN.
fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The log-likelihood ratio of `both` of `users` having two products, of which one has `one` users and the other `other`: twice the sum over
/// the four cells of the table of k · ln(k / expected k). Its sign says whether both come together more or less often than by chance.
pub fn llr(both: u64, one: u64, other: u64, users: u64) -> f64 {
    let users = users.max(one + other - both.min(one.min(other)));
    let cells = [
        (both, one as f64 * other as f64),
        (one.saturating_sub(both), one as f64 * (users - other) as f64),
        (other.saturating_sub(both), (users - one) as f64 * other as f64),
        ((users + both).saturating_sub(one + other), (users - one) as f64 * (users - other) as f64),
    ];
    let part = |(observed, product): (u64, f64)| {
        if observed == 0 { 0.0 } else { observed as f64 * (observed as f64 * users as f64 / product).ln() }
    };
    let ratio = (2.0 * cells.into_iter().map(part).sum::<f64>()).max(0.0);
    let expected = one as f64 * other as f64 / users as f64;
    if (both as f64) < expected { -ratio } else { ratio }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn llr_gives_the_values_of_mahouts_own_tests() {
        // LogLikelihoodTest.testLogLikelihood: k11, k12, k21, k22.
        for (k11, k12, k21, k22, expected) in [
            (1u64, 0u64, 0u64, 1u64, 2.773),
            (10, 0, 0, 10, 27.726),
            (5, 1995, 0, 100_000, 39.331),
            (1000, 1995, 1000, 100_000, 4730.737),
            (1000, 1000, 1000, 100_000, 5734.343),
            (1000, 1000, 1000, 99_000, 5714.932),
        ] {
            let found = llr(k11, k11 + k12, k11 + k21, k11 + k12 + k21 + k22);
            assert!((found - expected).abs() < 0.001, "{found} for {expected}");
        }
    }

    #[test]
    fn what_is_together_less_often_than_by_chance_is_negative() {
        assert!(llr(1, 50, 50, 100) < 0.0);
        assert_eq!(llr(25, 50, 50, 100), 0.0);
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_the_numbers_are(one in -1e9f32..1e9, other in -1e9f32..1e9) {
            prop_assert_eq!(ordered(one).cmp(&ordered(other)), (one + 0.0).total_cmp(&(other + 0.0)));
        }
    }
}
