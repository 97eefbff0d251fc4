//! A raw CAN socket. The only place of the `sensor` room that speaks to the kernel without a wrapper: nothing that is
//! maintained and small knows the address family.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Listens on the interface of that name.
pub(in crate::sensor) fn open(interface: &str) -> io::Result<File> {
    // SAFETY: no memory is involved.
    let socket = unsafe { libc::socket(libc::PF_CAN, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::CAN_RAW) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is a descriptor that the kernel has just given and nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
    // SAFETY: a structure of numbers, for which all zeros are valid.
    let mut address: libc::sockaddr_can = unsafe { std::mem::zeroed() };
    address.can_family = libc::AF_CAN as libc::sa_family_t;
    address.can_ifindex = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    let len = size_of::<libc::sockaddr_can>() as libc::socklen_t;
    // SAFETY: the address lives through the call, and its length is told.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(File::from(socket))
}
