//! Trees of files for tests: made by seed with every kind of entry, changed by seed, and compared in every detail.
//!
//! What only root may make (other owners, device nodes, file capabilities) is made only by root, and what a file
//! system does not know (extended attributes, ACLs) is left out; [`Made`] says what is there.

mod change;
mod compare;
mod dice;
mod make;
mod metadata;
mod stored;

pub use change::change;
pub use compare::{Kind, Node, Tree, describe, differences};
pub use dice::Dice;
pub use make::{Made, make, make_many};
pub use metadata::{access_list, set_random};
pub use stored::stored;
