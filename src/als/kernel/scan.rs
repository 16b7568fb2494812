//! Scores of many products for one vector, sixteen products abreast: what answers a reader.

#![expect(
    clippy::inline_always,
    reason = "the algorithms must become part of the one function compiled for their processor"
)]

use super::Fit;
use super::lanes::Lanes;
use crate::als::factors::Line;

/// Blocks whose sums grow side by side: one sum alone would wait for each of its multiply-adds.
const ABREAST: usize = 4;

/// Scores all `blocks` (one line a dimension of `vector`, one lane a product) into `scores`, one line a block; bit k of `reached` tells whether
/// any score of block k is at least `bar`.
#[inline(always)]
pub(super) fn scan<L: Lanes>(
    lanes: L,
    blocks: &[Line],
    vector: &[f32],
    bar: f32,
    scores: &mut [Line],
    reached: &mut u32,
) -> Fit {
    *reached = 0;
    let bar = lanes.splat(bar);
    let mut first = 0;
    for (blocks, scores) in blocks.chunks(ABREAST * vector.len()).zip(scores.chunks_mut(ABREAST)) {
        let mut sums = [lanes.splat(0.0); ABREAST];
        if blocks.len() == ABREAST * vector.len() {
            for (dimension, &weight) in vector.iter().enumerate() {
                let weight = lanes.splat(weight);
                for k in 0..ABREAST {
                    sums[k] = lanes.mul_add(weight, lanes.load(&blocks[k * vector.len() + dimension]), sums[k]);
                }
            }
        } else {
            for (sum, block) in sums.iter_mut().zip(blocks.chunks(vector.len())) {
                for (line, &weight) in block.iter().zip(vector) {
                    *sum = lanes.mul_add(lanes.splat(weight), lanes.load(line), *sum);
                }
            }
        }
        let count = blocks.len() / vector.len();
        for (k, (score, &sum)) in scores.iter_mut().zip(&sums).enumerate().take(count) {
            lanes.store(sum, score);
            *reached |= u32::from(lanes.any_at_least(sum, bar)) << (first + k);
        }
        first += ABREAST;
    }
    Fit::default()
}
