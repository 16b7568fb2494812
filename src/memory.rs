//! Giving memory back to the system without making anybody wait.
//!
//! While the system takes back a large block, nobody else in the process gets memory: 50 ms for 800 MB, and whoever counts an event that comes in
//! meanwhile waits as long. So what can be as large as the interests is given back bit by bit.

/// How much is given back at a time: about a millisecond.
const PIECE: usize = 16 << 20;

/// Takes all memory from `vector`, a piece at a time. The system's allocators shorten a large block where it is; one that copied it instead would
/// make this slow, though not wrong.
pub fn give_back<T>(vector: &mut Vec<T>) {
    let piece = (PIECE / size_of::<T>().max(1)).max(1);
    while vector.len() > piece {
        vector.truncate(vector.len() - piece);
        vector.shrink_to_fit();
    }
    *vector = Vec::new();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left() {
        for length in [0, 1, PIECE / 8, 3 * PIECE / 8 + 5] {
            let mut vector = vec![7u64; length];
            give_back(&mut vector);
            assert_eq!((vector.len(), vector.capacity()), (0, 0));
        }
        give_back(&mut vec![(); 3]);
    }
}
