"""A process that opens keys leaves no core dump: its memory would be written to a disk."""

import resource


def forbid_core_dumps() -> None:
    """Let this process, and all that it starts, leave none when they crash.

    Containers often come without a limit. What the kernel gives to a program instead (systemd's,
    Ubuntu's) obeys the limit, too.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
