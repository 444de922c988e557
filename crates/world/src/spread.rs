//! One rank's bytes for one rank of each node: a download that the whole job shares.

use crate::error::{Failure, Result};
use crate::{World, report};

/// Bytes that travel in one message: large enough for the network, small enough for memory.
const PIECE_BYTES: usize = 8 << 20;
/// In place of a piece's length: the reader failed.
const READER_FAILED: i64 = -1;

impl World {
    /// Sends the bytes that `read` gives on the local rank 0 of node `from` to the local ranks 0 of all nodes, piece by
    /// piece, and hands them to `write` there. Collective; the other ranks only learn how it went.
    ///
    /// `read` fills a piece and says how much of it (0 at the end); it is called on node `from` alone. `write` is
    /// called on every other node. A node whose `write` failed still takes part to the end.
    ///
    /// # Errors
    /// The first failure of any node, known to all ranks.
    pub fn spread(
        &self,
        from: usize,
        read: &mut dyn FnMut(&mut [u8]) -> std::result::Result<usize, Failure>,
        write: &mut dyn FnMut(&[u8]) -> std::result::Result<(), Failure>,
    ) -> Result<()> {
        let mut outcome = Ok(());
        if let Some(leaders) = &self.leaders_channel {
            let mut piece = vec![0; PIECE_BYTES];
            let mut sent = 0;
            loop {
                let mut length = [0];
                if leaders.rank() == from {
                    length[0] = match read(&mut piece) {
                        Ok(length) => length as i64,
                        Err(failure) => {
                            outcome = Err(failure);
                            READER_FAILED
                        }
                    };
                }
                leaders.broadcast(&mut length, from)?;
                if length[0] <= 0 {
                    break;
                }
                let bytes = &mut piece[..length[0] as usize];
                leaders.broadcast(bytes, from)?;
                sent += bytes.len() as u64;
                if leaders.rank() != from && outcome.is_ok() {
                    outcome = write(bytes);
                }
                // The other ranks of each node wait. What was begun comes to its end: nodes that stop alone leave the
                // others waiting.
                let _ = report(sent, 0, "bytes");
            }
        }
        self.agree_after("sending a file to all nodes", outcome)
    }
}
