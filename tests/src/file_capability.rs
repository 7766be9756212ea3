//! Capabilities of program files (capabilities(7), "File capabilities").

use std::io;
use std::path::Path;

use crate::sys;

/// Version 2 of the format in linux/capability.h, and whether it is effective at once.
const HEAD: u32 = 0x0200_0001;

const NET_RAW: u32 = 1 << 13;

/// Lets a program use raw sockets, as ping does.
///
/// # Errors
///
/// The system's.
pub fn set_net_raw(program: &Path) -> io::Result<()> {
    let value = [HEAD, NET_RAW, 0, 0, 0].map(u32::to_le_bytes).concat();
    sys::set_attribute(program, c"security.capability", &value)
}
