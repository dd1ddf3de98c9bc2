//! Where the line lives.
