//! Power cuts under load: what was answered is stored once, and every number is exact.
//!
//! The servers and `standalone` keep their data on disks of our own ([`sluice_powercut`]), which forget at a power
//! cut what was not synced. All programs and servers are killed at the instant of the cut, and started again on
//! what is left. `SEED=n` chooses the first seed, and `SEEDS=n` how many follow each other in each test. The output
//! of a test that fails says with which seed.
//!
//! The same trials run with servers that sync too little, and must lose events: otherwise they would show nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says on its output what it saw"
)]

#[cfg(target_os = "linux")]
mod cluster;
#[cfg(target_os = "linux")]
mod mounted;
#[cfg(target_os = "linux")]
mod standalone;
#[cfg(target_os = "linux")]
mod trial;

#[cfg(not(target_os = "linux"))]
#[test]
fn power_cuts_can_be_tested() {
    panic!("the power cut cannot be tested here: its file system needs the FUSE of Linux");
}
