"""A filter of system calls for a learner's process: no network, no other process, no new privilege.

The kernel gives EPERM for what is refused. The numbers are those of the kernel's tables for x86-64 and
for 64-bit ARM; for another processor there is no filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_X86, _ARM = "x86_64", "aarch64"
_ARCH = {_X86: 0xC000003E, _ARM: 0xC00000B7}

# name: (x86-64, ARM64); None: there is no such call
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # the network: what is open stays, nothing is opened
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    # other programs and processes
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    # how other processes of the user are scheduled
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # memory that no limit counts; queues and memory that outlive a process, and that others find
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),  # no limit of memory counts what is written there
    "memfd_secret": (447, 447),
    # what all programs of the user, or of the machine, have a share of
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    # namespaces, file systems, the kernel
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}

_WRITES: dict[str, tuple[int | None, int | None]] = {
    "creat": (85, None),
    "truncate": (76, 45),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "flock": (73, 32),  # of files that others read too
}
_ABSENT = {"clone3": (435, 435), "openat2": (437, 437)}  # libraries then use the older calls
_CLONE, _TGKILL, _PRLIMIT = (56, 220), (234, 131), (302, 261)
_SETAFFINITY, _SOCKETPAIR = (203, 122), (53, 199)
_FCNTL, _IOCTL, _PRCTL = (72, 25), (16, 29), (157, 167)
_OPEN, _OPENAT = (2, None), (257, 56)
_CLONE_THREAD = 0x00010000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# the kernel signals others in the name of who asks for it: F_SETOWN, F_SETSIG, F_SETOWN_EX, F_NOTIFY and the like
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026, 1031)  # 1024: F_SETLEASE; 1031: F_SETPIPE_SZ, the user's
_LOCKS = (6, 7, 37, 38)  # of files that others read too
_IOCTL_REFUSED = (0x5452, 0x8901, 0x8902)  # FIOASYNC, FIOSETOWN, SIOCSPGRP
_PRCTL_REFUSED = (1,)  # PR_SET_PDEATHSIG: to be killed when its parent ends
_SETFL, _ASYNC = 4, 0x2000
# unnamed datagram sockets can be given names, which attempts would find
_STREAMS = tuple(1 | flags for flags in (0, 0x80000, 0x800, 0x80800))

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_REFUSE, _UNKNOWN = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS

_Step = tuple[int, int, int, int]  # code, jump if true, jump if false, value


@dataclass(frozen=True, slots=True)
class _Program:
    steps: list[_Step]

    def refuse(self, number: int | None, verdict: int = _REFUSE) -> None:
        if number is not None:
            self.steps.extend([(_EQUAL, 0, 1, number), (_RETURN, 0, 0, verdict)])

    def decide(
        self, number: int | None, argument: int, test: int, value: int, refused: bool
    ) -> None:
        """Refuse, or else allow, a call where the low half of an argument passes a test."""
        if number is not None:
            then, other = (_REFUSE, _ALLOW) if refused else (_ALLOW, _REFUSE)
            self.steps.extend(
                [
                    (_EQUAL, 0, 4, number),
                    (_LOAD, 0, 0, 16 + 8 * argument),
                    (test, 0, 1, value),
                    (_RETURN, 0, 0, then),
                    (_RETURN, 0, 0, other),
                ]
            )

    def among(
        self, number: int | None, argument: int, values: Sequence[int], refused: bool
    ) -> None:
        """Refuse, or else allow, a call where the low half of an argument is one of ``values``."""
        if number is None:
            return
        then, other = (_REFUSE, _ALLOW) if refused else (_ALLOW, _REFUSE)
        tests = [s for value in values for s in ((_EQUAL, 0, 1, value), (_RETURN, 0, 0, then))]
        load = (_LOAD, 0, 0, 16 + 8 * argument)
        self.steps.extend(
            [(_EQUAL, 0, len(tests) + 2, number), load, *tests, (_RETURN, 0, 0, other)]
        )

    def no_signals_by_file(self, number: int | None) -> None:
        """Refuse ``fcntl(fd, F_SETFL, O_ASYNC)``, and allow the other flags."""
        if number is not None:
            steps = [(_LOAD, 0, 0, 24), (_EQUAL, 0, 4, _SETFL), (_LOAD, 0, 0, 32)]
            steps += [(_ANY_BIT, 0, 1, _ASYNC), (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
            self.steps.extend([(_EQUAL, 0, len(steps) + 1, number), *steps, (_LOAD, 0, 0, 0)])


def refusal() -> str | None:
    """Why there is no filter for this machine; ``None``: there is."""
    machine = platform.machine()
    return None if machine in _ARCH else f"no filter is written for {machine} processors"


def program(own: int, write: bool) -> bytes:
    """The filter for this machine, as the kernel reads it.

    Args:
        own: the number of the process that it is for, which may signal itself alone.
        write: whether files may be made and changed.
    """
    machine = platform.machine()
    column = 0 if machine == _X86 else 1
    made = _Program([(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCH[machine]), (_RETURN, 0, 0, _KILL)])
    made.steps.append((_LOAD, 0, 0, 0))
    if machine == _X86:  # the calls of the x32 interface
        made.steps.extend([(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _REFUSE)])
    for numbers in (_REFUSED if write else {**_REFUSED, **_WRITES}).values():
        made.refuse(numbers[column])
    for numbers in _ABSENT.values():
        made.refuse(numbers[column], _UNKNOWN)
    made.decide(_CLONE[column], 0, _ANY_BIT, _CLONE_THREAD, refused=False)
    made.decide(_TGKILL[column], 0, _EQUAL, own, refused=False)
    made.decide(_PRLIMIT[column], 0, _EQUAL, 0, refused=False)
    made.decide(_SETAFFINITY[column], 0, _EQUAL, 0, refused=False)
    made.among(_SOCKETPAIR[column], 1, _STREAMS, refused=False)
    made.among(_IOCTL[column], 1, _IOCTL_REFUSED, refused=True)
    made.among(_PRCTL[column], 0, _PRCTL_REFUSED, refused=True)
    made.no_signals_by_file(_FCNTL[column])
    made.among(_FCNTL[column], 1, _FCNTL_REFUSED + (() if write else _LOCKS), refused=True)
    if not write:
        made.decide(_OPEN[column], 1, _ANY_BIT, _WRITING, refused=True)
        made.decide(_OPENAT[column], 2, _ANY_BIT, _WRITING, refused=True)
    made.steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *step) for step in made.steps)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def install(write: bool) -> None:
    """Put this process, which must have a single thread, behind the filter, for good.

    Raises:
        OSError: the kernel has none.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    code = program(os.getpid(), write)
    held = ctypes.create_string_buffer(code, len(code))
    told = _Filter(len(code) // 8, ctypes.cast(held, ctypes.c_void_p))
    set_seccomp, mode_filter = 22, 2
    if libc.prctl(set_seccomp, mode_filter, ctypes.byref(told), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")
