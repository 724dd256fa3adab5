"""What compiles a model: which of them works here and why the others do not, and the settings of each."""

from tutorial_lib.builds.backends.selection import (
    BACKENDS,
    BackendUnavailable,
    OptionError,
    Status,
    as_device,
    choose,
    settings,
    status,
    statuses,
)

__all__ = [
    "BACKENDS",
    "BackendUnavailable",
    "OptionError",
    "Status",
    "as_device",
    "choose",
    "settings",
    "status",
    "statuses",
]
