"""A setting as a stand-alone script of upstream calls, without this package."""

from tutorial_lib.upstream.exported_script import script

__all__ = ["script"]
