//! dm-verity hash trees: made, and checked off-line.
//!
//! Format 1 of the kernel's `Documentation/admin-guide/device-mapper/verity.rst`, without superblock: data and hash blocks of
//! 4096 bytes, SHA-256 of salt and block, 128 digests to a hash block, each level padded with zeros to whole blocks, the top
//! level first. A single data block has no tree: its digest is the root hash.

use crate::Error;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};
use std::thread;

/// Size of data and hash blocks in bytes.
pub const BLOCK: usize = 4096;
const DIGEST: usize = 32;
const DIGESTS_PER_BLOCK: u64 = (BLOCK / DIGEST) as u64;
/// Bytes hashed by one thread at a time: long enough that starting the thread does not count.
const CHUNK: usize = 2 << 20;

/// A hash tree and what dm-verity must be told to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Digest of the top block.
    pub root_hash: [u8; 32],
    /// Number of 4096-byte data blocks.
    pub data_blocks: u64,
    /// The tree, top level first.
    pub bytes: Vec<u8>,
}

/// Builds the hash tree of all bytes that `data` delivers.
///
/// # Errors
/// When reading fails, or the length is zero or no multiple of 4096.
pub fn build(data: impl Read + Send, salt: &[u8]) -> Result<Tree, Error> {
    let seed = Sha256::new_with_prefix(salt);
    let mut leaves = Vec::new();
    let data_blocks = digest_blocks(data, &seed, |_, digests| {
        leaves.extend_from_slice(digests);
        Ok(())
    })?;
    let mut levels = vec![leaves];
    while let Some(last) = levels.last_mut()
        && last.len() > DIGEST
    {
        last.resize(last.len().next_multiple_of(BLOCK), 0);
        let above = last.chunks(BLOCK).flat_map(|block| digest(&seed, block)).collect();
        levels.push(above);
    }
    let root_hash = levels.pop().and_then(|root| root.try_into().ok()).ok_or(Error::Blocks { length: 0 })?;
    Ok(Tree { root_hash, data_blocks, bytes: levels.into_iter().rev().flatten().collect() })
}

/// Checks data and tree against a root hash and the number of blocks that was stated with it.
///
/// The tree is checked first, from the top, so that a wrong digest is blamed on the block that is really damaged.
///
/// # Errors
/// [`Error::HashBlock`] or [`Error::DataBlock`] with the first bad block, [`Error::TreeSize`] for a tree of another size,
/// [`Error::Blocks`] when the data is not `data_blocks` long, or the error of reading.
pub fn verify(
    data: impl Read + Send,
    tree: &[u8],
    data_blocks: u64,
    root_hash: &[u8; 32],
    salt: &[u8],
) -> Result<(), Error> {
    let seed = Sha256::new_with_prefix(salt);
    let leaves = verified_leaves(tree, data_blocks, root_hash, &seed)?;
    let found = digest_blocks(data, &seed, |first_block, digests| {
        // A data longer than stated has no leaf: its first surplus block is the bad one.
        let at = usize::try_from(first_block).unwrap_or(usize::MAX).saturating_mul(DIGEST);
        let expected = leaves.get(at..).unwrap_or_default();
        let surplus = [0; 0];
        let expected = expected.chunks(DIGEST).chain(std::iter::repeat(surplus.as_slice()));
        match digests.chunks(DIGEST).zip(expected).position(|(found, expected)| found != expected) {
            Some(bad) => Err(Error::DataBlock { block: first_block + bad as u64 }),
            None => Ok(()),
        }
    })?;
    if found == data_blocks { Ok(()) } else { Err(Error::Blocks { length: found * BLOCK as u64 }) }
}

/// Returns the digests of the data blocks, in order, 32 bytes each, after having checked the whole tree against the root hash.
///
/// # Errors
/// [`Error::HashBlock`] or [`Error::TreeSize`].
pub fn leaves<'a>(tree: &'a [u8], data_blocks: u64, root_hash: &'a [u8; 32], salt: &[u8]) -> Result<&'a [u8], Error> {
    verified_leaves(tree, data_blocks, root_hash, &Sha256::new_with_prefix(salt))
}

/// Returns the length in bytes of the tree of so many data blocks.
#[must_use]
pub fn tree_size(data_blocks: u64) -> u64 {
    level_blocks(data_blocks).iter().sum::<u64>().saturating_mul(BLOCK as u64)
}

/// Blocks of each level, top first; empty for a single data block.
fn level_blocks(data_blocks: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut blocks = data_blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil(DIGESTS_PER_BLOCK);
        levels.insert(0, blocks);
    }
    levels
}

fn verified_leaves<'a>(
    tree: &'a [u8],
    data_blocks: u64,
    root_hash: &'a [u8; 32],
    seed: &Sha256,
) -> Result<&'a [u8], Error> {
    let expected = tree_size(data_blocks);
    if data_blocks == 0 {
        return Err(Error::Blocks { length: 0 });
    }
    if expected != tree.len() as u64 {
        return Err(Error::TreeSize { data_blocks, expected, found: tree.len() as u64 });
    }
    let mut above: &[u8] = root_hash;
    let mut rest = tree;
    let mut block_number = 0;
    for blocks in level_blocks(data_blocks) {
        // In range: the sizes of all levels add up to the length that was compared above.
        let length = usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(BLOCK);
        let (level, below) = rest.split_at_checked(length).ok_or(Error::HashBlock { block: block_number })?;
        for (block, expected) in level.chunks(BLOCK).zip(above.chunks(DIGEST)) {
            if digest(seed, block).as_slice() != expected {
                return Err(Error::HashBlock { block: block_number });
            }
            block_number += 1;
        }
        above = level;
        rest = below;
    }
    let length = usize::try_from(data_blocks).unwrap_or(usize::MAX).saturating_mul(DIGEST);
    above.get(..length).ok_or(Error::HashBlock { block: 0 })
}

fn digest(seed: &Sha256, block: &[u8]) -> [u8; 32] {
    seed.clone().chain_update(block).finalize().into()
}

/// Hashes all blocks in parallel and hands the digests on in order, with the number of their first block. Returns the number of
/// blocks.
///
/// While threads hash one buffer, this thread reads the next, so memory stays at two buffers whatever the size.
fn digest_blocks(
    mut data: impl Read + Send,
    seed: &Sha256,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(16);
    let mut now = vec![0; CHUNK * threads];
    let mut next = now.clone();
    let mut digests = vec![0; now.len() / BLOCK * DIGEST];
    let mut done = 0_u64;
    let mut filled = fill(&mut data, &mut now)?;
    loop {
        if filled % BLOCK != 0 || (filled == 0 && done == 0) {
            return Err(Error::Blocks { length: done * BLOCK as u64 + filled as u64 });
        }
        if filled == 0 {
            return Ok(done);
        }
        let (full, _) = now.split_at(filled);
        let (out, _) = digests.split_at_mut(filled / BLOCK * DIGEST);
        let read = thread::scope(|scope| {
            for (chunk, out) in full.chunks(CHUNK).zip(out.chunks_mut(CHUNK / BLOCK * DIGEST)) {
                scope.spawn(move || {
                    for (block, out) in chunk.chunks(BLOCK).zip(out.chunks_mut(DIGEST)) {
                        out.copy_from_slice(&digest(seed, block));
                    }
                });
            }
            fill(&mut data, &mut next)
        })?;
        take(done, out)?;
        done += (filled / BLOCK) as u64;
        std::mem::swap(&mut now, &mut next);
        filled = read;
    }
}

/// Reads until the buffer is full or the data ends.
fn fill(data: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Error> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match data.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read the data below the hash tree")(error)),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, level by level, without threads.
    fn naive(data: &[u8], salt: &[u8]) -> Tree {
        let hash = |block: &[u8]| Sha256::digest([salt, block].concat()).to_vec();
        let data_blocks = (data.len() / BLOCK) as u64;
        let mut bytes = Vec::new();
        let mut level: Vec<u8> = data.chunks(BLOCK).flat_map(hash).collect();
        while level.len() > DIGEST {
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            bytes.splice(0..0, level.iter().copied());
            level = level.chunks(BLOCK).flat_map(hash).collect();
        }
        Tree { root_hash: level.try_into().unwrap(), data_blocks, bytes }
    }

    fn noise(blocks: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        (0..blocks * BLOCK)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_tree_is_that_of_the_definition(blocks in 1_usize..300, seed: u64, salt in proptest::collection::vec(any::<u8>(), 0..40)) {
            let data = noise(blocks, seed);
            let tree = build(data.as_slice(), &salt).unwrap();
            prop_assert_eq!(tree.bytes.len() as u64, tree_size(blocks as u64));
            prop_assert_eq!(tree, naive(&data, &salt));
        }

        #[test]
        fn one_flipped_bit_is_found_and_named(blocks in 1_usize..300, at: prop::sample::Index, bit in 0_u8..8, in_tree: bool) {
            let mut data = noise(blocks, 5);
            let Tree { root_hash, data_blocks, bytes: mut tree } = build(data.as_slice(), b"salt").unwrap();
            prop_assert!(verify(data.as_slice(), &tree, data_blocks, &root_hash, b"salt").is_ok());
            if in_tree && !tree.is_empty() {
                let at = at.index(tree.len());
                tree[at] ^= 1 << bit;
                let error = verify(data.as_slice(), &tree, data_blocks, &root_hash, b"salt").unwrap_err();
                let named = matches!(error, Error::HashBlock { block } if block == (at / BLOCK) as u64);
                prop_assert!(named, "{}", error);
            } else {
                let at = at.index(data.len());
                data[at] ^= 1 << bit;
                let error = verify(data.as_slice(), &tree, data_blocks, &root_hash, b"salt").unwrap_err();
                let named = matches!(error, Error::DataBlock { block } if block == (at / BLOCK) as u64);
                prop_assert!(named, "{}", error);
            }
        }

        #[test]
        fn checking_foreign_bytes_never_panics(tree in proptest::collection::vec(any::<u8>(), 0..9000), blocks: u64, data in proptest::collection::vec(any::<u8>(), 0..9000)) {
            prop_assert!(verify(data.as_slice(), &tree, blocks, &[0; 32], b"").is_err());
            prop_assert!(verify(data.as_slice(), &tree, blocks % 300, &[0; 32], b"").is_err());
        }
    }

    #[test]
    fn data_of_another_length_is_refused() {
        for length in [0, 1, BLOCK - 1, BLOCK + 1] {
            let error = build(vec![0; length].as_slice(), b"").unwrap_err();
            assert!(matches!(error, Error::Blocks { length: named } if named == length as u64), "{length}: {error}");
        }
        let data = noise(3, 9);
        let tree = build(data.as_slice(), b"").unwrap();
        let check = |data: &[u8]| verify(data, &tree.bytes, 3, &tree.root_hash, b"").unwrap_err();
        assert!(matches!(check(&data[..2 * BLOCK]), Error::Blocks { .. }));
        assert!(matches!(check(&[data.as_slice(), &[0; BLOCK]].concat()), Error::DataBlock { block: 3 }));
    }

    #[test]
    fn data_longer_than_the_buffers_is_hashed_whole() {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(16);
        let data = noise((CHUNK * threads * 2) / BLOCK + 3, 11);
        assert_eq!(build(data.as_slice(), b"s").unwrap(), naive(&data, b"s"));
    }
}
