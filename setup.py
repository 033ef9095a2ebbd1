"""Builds the seven extension modules of the binding, each with the C core in it.

_owner (a map's life and its lock), _batch (many keys), _cursor (iteration), _image (files), _arrow and _producer
(hand-over) and _binding (one key) call the core directly. It keeps no process-wide state, so that each may have it
linked in; its files are compiled once.

Metadata is in pyproject.toml. Here is the list of C files and the flags, and nothing clever but two things:
files are compiled side by side and only when they or a header changed, and each set of flags has a build folder of its
own, so that a checked build and a release build never take each other's object files.

INTARRAYMAP_CHECKED=1   a build that checks every invariant after each write
CFLAGS, LDFLAGS         honoured, after our own flags (sanitizers are built this way)
"""

import os
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

PACKAGE = Path("src/intarraymap")
CORE_SOURCES = sorted(map(str, PACKAGE.glob("core/src/*.c")))
HEADERS = sorted(map(str, [*PACKAGE.glob("core/*/*.h"), *PACKAGE.glob("*.pxd")]))

checked = os.environ.get("INTARRAYMAP_CHECKED", "") not in ("", "0")
user_flags = f"{os.environ.get('CC', '')} {os.environ.get('CFLAGS', '')} {os.environ.get('LDFLAGS', '')}"

compile_flags = ["-std=c11", "-fvisibility=hidden", "-pthread"]
if "-O" not in user_flags:
    compile_flags.append("-O3")

modules = [
    Extension(
        f"intarraymap.{module}",
        sources=[str(PACKAGE / f"{module}.pyx"), *CORE_SOURCES],
        # core/src is not on the search path: the binding sees the front door only.
        include_dirs=[str(PACKAGE / "core/include"), numpy.get_include()],
        define_macros=[
            ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
            *([("INTARRAYMAP_CHECKED", "1")] if checked else []),
        ],
        undef_macros=["NDEBUG"] if checked else [],
        extra_compile_args=compile_flags,
        extra_link_args=["-pthread"],
        depends=[*HEADERS, "setup.py"],
    )
    for module in ("_owner", "_batch", "_cursor", "_image", "_arrow", "_producer", "_binding")
]


class BuildSideBySide(build_ext):
    """Compile each C file in a thread of its own, and only if it or a header is newer than its object file."""

    def run(self) -> None:
        # Here and not in setup(), so that making an sdist does not translate anything.
        translated = cythonize(
            self.extensions,
            build_dir="build/cython",
            include_path=["src"],
            compiler_directives={"language_level": 3, "autotestdict": False},
            quiet="-q" in sys.argv,
        )
        for module, in_c in zip(self.extensions, translated, strict=True):
            module.sources, module.depends = in_c.sources, in_c.depends
        super().run()

    def build_extensions(self) -> None:
        compile_all = self.compiler.compile

        def compile_one(source: str, output_dir: str, **options: object) -> list[str]:
            objects: list[str] = self.compiler.object_filenames([source], output_dir=output_dir)
            if newer_group([source, *(options["depends"] or [])], objects[0], "newer"):
                compile_all([source], output_dir=output_dir, **options)
            return objects

        def compile_side_by_side(sources: list[str], output_dir: str, **options: object) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                done = threads.map(lambda source: compile_one(source, output_dir, **options), sources)
                return [name for objects in done for name in objects]

        self.compiler.compile = compile_side_by_side
        super().build_extensions()


variant = "checked" if checked else "release"
if user_flags.strip():
    variant += f"-{zlib.crc32(user_flags.encode()):08x}"

setup(
    ext_modules=modules,
    cmdclass={"build_ext": BuildSideBySide},
    options={"build": {"build_base": f"build/{variant}"}},
)
