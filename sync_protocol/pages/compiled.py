"""Templates as they were compiled at set-up: to compile all pages takes two seconds, ten on a cheap laptop, and whoever
opens one first would wait for it.

A template's code is found by the template's name and text and by the version of Jinja, so that what was built from another
text is never used: it is compiled then, as it is where nothing was built. It holds nothing but our own templates.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any, ClassVar, Final

import jinja2
from jinja2 import BytecodeCache, Environment
from jinja2.bccache import Bucket

FOLDER: Final = "ready"


class Compiled(BytecodeCache):
    """What was built, and what was compiled in this process: tests make hundreds of applications in one."""

    code: ClassVar[dict[str, Any]] = {}

    def get_cache_key(self, name: str, filename: str | None = None) -> str:  # wherever it lies
        return name

    def load_bytecode(self, bucket: Bucket) -> None:
        name = _file_name(bucket)
        bucket.code = self.code.get(name)
        if bucket.code is None:
            raw = _read(name)
            if raw is not None:
                bucket.bytecode_from_string(raw)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.code[_file_name(bucket)] = bucket.code


def built(environment: Environment, name: str) -> tuple[str, bytes]:
    """(the file's name, its body) for a template that the environment has: what set-up writes."""
    if environment.loader is None:
        raise jinja2.TemplateNotFound(name)
    source, _, _ = environment.loader.get_source(environment, name)
    cache = Compiled()
    bucket = Bucket(environment, cache.get_cache_key(name), cache.get_source_checksum(source))
    bucket.code = environment.compile(source, name, name)  # not where it lies on this machine
    return _file_name(bucket), bucket.bytecode_to_string()


def _read(name: str) -> bytes | None:
    file = resources.files("sync_protocol.pages").joinpath(FOLDER, name)
    return file.read_bytes() if file.is_file() else None


def _file_name(bucket: Bucket) -> str:
    return hashlib.sha256(f"{jinja2.__version__}\0{bucket.key}\0{bucket.checksum}".encode()).hexdigest()[:32]
