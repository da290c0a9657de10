//! (being written)
/// x
#[derive(Debug)]
pub struct MemoryFs;
/// x
#[derive(Debug)]
pub struct CrashPolicy;
/// x
#[derive(Debug)]
pub struct Fault;
/// x
#[derive(Debug)]
pub struct FsOp;
