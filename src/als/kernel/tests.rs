//! Each operation of each kernel against plain arithmetic, and sums over rows against the portable kernel.

use super::lanes::Lanes;
use super::*;
use crate::random::SplitMix64;

fn line(random: &mut SplitMix64) -> Line {
    std::array::from_fn(|_| (2.0 * random.unit() - 1.0) as f32)
}

fn stored<L: Lanes>(lanes: L, v: L::V) -> Line {
    let mut line = [0.0; LINE];
    lanes.store(v, &mut line);
    line
}

fn close(found: Line, expected: impl Fn(usize) -> f32) {
    for (i, found) in found.into_iter().enumerate() {
        let expected = expected(i);
        assert!((found - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{i}: {found} is not {expected}");
    }
}

fn operations_are_what_they_say<L: Lanes>(lanes: L) {
    let mut random = SplitMix64::new(1);
    for _ in 0..50 {
        let [a, b, c] = std::array::from_fn(|_| line(&mut random));
        let [x, y, z] = [&a, &b, &c].map(|line| lanes.load(line));
        assert_eq!(stored(lanes, x), a);
        assert_eq!(stored(lanes, lanes.splat(a[3])), [a[3]; LINE]);
        close(stored(lanes, lanes.add(x, y)), |i| a[i] + b[i]);
        close(stored(lanes, lanes.mul(x, y)), |i| a[i] * b[i]);
        close(stored(lanes, lanes.mul_add(x, y, z)), |i| a[i] * b[i] + c[i]);
        close(stored(lanes, lanes.mul_sub_from(x, y, z)), |i| c[i] - a[i] * b[i]);
        let low = stored(lanes, lanes.mul_add_low(x, y, z));
        assert_eq!(low[..8], stored(lanes, lanes.mul_add(x, y, z))[..8]);
        assert_eq!(stored(lanes, lanes.spread(x)), std::array::from_fn(|i| a[i / 4]));
        assert_eq!(stored(lanes, lanes.repeat(x)), std::array::from_fn(|i| a[i % 4]));
        for quads in 1..=4 {
            let mut to = [7.0; LINE + 1];
            lanes.store_quads(x, quads, &mut to);
            assert_eq!((&to[..4 * quads], &to[4 * quads..]), (&a[..4 * quads], &[7.0; LINE + 1][4 * quads..]));
        }
        let limit = b.map(f32::abs);
        let inverse = lanes.inverse_root(x, lanes.load(&limit));
        close(stored(lanes, inverse), |i| if a[i] > limit[i] { 1.0 / a[i].sqrt() } else { 0.0 });
        assert_eq!(lanes.any_at_least(x, y), (0..LINE).any(|i| a[i] >= b[i]));
        let most = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!(lanes.any_at_least(x, lanes.splat(most)) && !lanes.any_at_least(x, lanes.splat(most + 0.001)));
        assert!((lanes.sum(x) - a.iter().sum::<f32>()).abs() < 1e-5);
        for (found, line) in lanes.sums([x, y, z, x]).into_iter().zip([&a, &b, &c, &a]) {
            assert!((found - line.iter().sum::<f32>()).abs() < 1e-5);
        }
    }
    let lines: [Line; LINE] = std::array::from_fn(|_| line(&mut random));
    for (j, turned) in lanes.transpose(lines.each_ref()).into_iter().enumerate() {
        assert_eq!(stored(lanes, turned), std::array::from_fn(|i| lines[i][j]));
    }
    lanes.prefetch(&lines, usize::MAX);
}

#[test]
fn operations_of_every_kernel_are_what_they_say() {
    operations_are_what_they_say(portable::Portable);
    #[cfg(target_arch = "x86_64")]
    {
        avx2::Avx2::new().into_iter().for_each(operations_are_what_they_say);
        avx512::Avx512::new().into_iter().for_each(operations_are_what_they_say);
    }
}

#[test]
fn a_bad_pivot_has_no_inverse_root() {
    fn check<L: Lanes>(lanes: L) {
        let pivots = [-1.0, 0.0, f32::NAN, 4.0, 1e-9, -0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f32::NAN];
        let found = stored(lanes, lanes.inverse_root(lanes.load(&pivots), lanes.splat(1e-6)));
        assert_eq!(found[..6], [0.0, 0.0, 0.0, 0.5, 0.0, 0.0]);
        assert_eq!(found[15], 0.0);
    }
    check(portable::Portable);
    #[cfg(target_arch = "x86_64")]
    {
        avx2::Avx2::new().into_iter().for_each(check);
        avx512::Avx512::new().into_iter().for_each(check);
    }
}

#[test]
fn gram_is_the_sum_of_outer_products() {
    let mut random = SplitMix64::new(2);
    for (rank, rows) in [(3, 0), (10, 1), (16, 300), (40, 700)] {
        let numbers: Vec<f32> = (0..rank * rows).map(|_| (2.0 * random.unit() - 1.0) as f32).collect();
        let factors = Factors::from_unpadded(rank, &numbers);
        let stride = factors.stride();
        for kernel in Kernel::available() {
            let mut sum = vec![0.0; stride * stride];
            kernel.run(Task::Gram { rows: factors.lines(), width: stride / LINE, sum: &mut sum });
            for i in 0..rank {
                for j in 0..=i {
                    let expected: f64 =
                        (0..rows).map(|row| f64::from(factors.row(row)[i]) * f64::from(factors.row(row)[j])).sum();
                    assert!(
                        (sum[i * stride + j] - expected).abs() < 1e-4 * (1.0 + rows as f64).sqrt(),
                        "{kernel:?} {i} {j}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_fastest_available_kernel_is_detected() {
    assert_eq!(Kernel::available().next(), Some(Kernel::detect()));
    assert_eq!(Kernel::available().last(), Some(Kernel::Portable));
}
