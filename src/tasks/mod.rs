//! Background loops: one owner each, a bounded inbox, work committed before it is forgotten, and a guard that stops the process
//! when the owner dies.

pub mod flush_usage;
