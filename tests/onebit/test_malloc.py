"""In a process of its own, which the settings are for."""

import platform
import subprocess
import sys


def test_freed_memory_is_kept():
    code = "from onebit.util.malloc import keep_freed_memory; print(keep_freed_memory())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
