#!/usr/bin/env python3
# cross/old-calls.py COMMAND...: runs a command, as root, to which the kernel seems to be older than statx.
#
# Debian's proot does not know that system call and lets it through with its path as it is, so that who asks for a file in the
# Debian that is emulated is told of the machine's. Refused, the emulator asks in the way that proot knows. On 32-bit ARM all
# of Debian asks by statx alone.
import ctypes
import errno
import os
import platform
import sys

STATX = {"x86_64": 332, "aarch64": 291}
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
# Of the kernel's <linux/filter.h> and <linux/seccomp.h>.
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("if_so", ctypes.c_ubyte), ("if_not", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(Instruction))]


def refuse(call):
    instructions = (Instruction * 4)(
        # The call's number is what comes first.
        Instruction(LOAD_WORD, 0, 0, 0),
        Instruction(JUMP_EQUAL, 0, 1, call),
        Instruction(RETURN, 0, 0, REFUSE | errno.ENOSYS),
        Instruction(RETURN, 0, 0, ALLOW),
    )
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    program = Program(len(instructions), instructions)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0):
        sys.exit(f"old-calls.py: the kernel takes no filter: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: cross/old-calls.py COMMAND...")
    if platform.machine() not in STATX:
        sys.exit(f"old-calls.py: the number of statx on {platform.machine()} is not known: add it to STATX")
    refuse(STATX[platform.machine()])
    os.execvp(sys.argv[1], sys.argv[1:])
