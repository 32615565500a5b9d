//! A hash in letters.

use sha2::{Digest, Sha256};

/// What was hashed, as 64 hexadecimal digits.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
