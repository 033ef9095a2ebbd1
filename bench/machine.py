"""What the figures were measured on: processor, caches, system, versions, commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "intarraymap numpy pandas cykhash numba scipy polars pyarrow duckdb arraymap hirola tensorflow memray py-spy "
    "hdrhistogram"
).split()
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def processor():
    """Its name, as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def caches():
    """`{"L1d": bytes, "L2": bytes, "L3": bytes}` of the first core, as far as the system tells."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            name = f"L{level}" + ("d" if kind == "Data" and level == "1" else "")
            found[name] = int(size.rstrip("KMG")) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[size[-1]]
    return found


def commit():
    """The commit of the tree the bench was started from, with a mark if files differ from it; None outside of git."""
    try:
        told = [
            subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return told[0] + (" with changes" if told[1] else "")


def versions():
    """Versions of whatever takes part; None where a package is not installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def machine():
    """All of it, for the JSON."""
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "caches": caches(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "huge_pages": huge.read_text().strip() if huge.exists() else "unknown",
        "commit": commit(),
        "versions": versions(),
    }
